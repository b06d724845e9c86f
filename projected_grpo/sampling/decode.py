"""The decode loop: a token of every row a step, each drawn by inverting the cumulative distribution at a uniform number.

Rows that ended are dropped from the cache, which grows in place.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import Cache

from projected_grpo.sampling.merged import StateRows

DROP_BELOW = 0.8  # share of live rows below which the cache is compacted


@dataclass(frozen=True)
class PresentRows:
    """Which blocks of the adapter each row has, through the adapter: 1 or 0, deployed and quarantine."""

    blocks: Float[Tensor, "R 2"]

    def select(self, rows: Tensor) -> "PresentRows":
        return PresentRows(self.blocks[rows])

    def to(self, device: torch.device) -> "PresentRows":
        return PresentRows(self.blocks.to(device))


RowStates = PresentRows | StateRows | None  # of the adapter, in each row; None: the base model
# (tokens (R, 1), attention mask, positions (R, 1), cache, states) -> logits of the next token (R, V)
Forward = Callable[[Tensor, Tensor, Tensor, Cache, RowStates], Tensor]


@dataclass(frozen=True)
class Distribution:
    """What turns logits into a token."""

    temperature: float
    end_ids: tuple[int, ...]  # tokens that end a completion

    def draw(self, logits: Float[Tensor, "R V"], uniform: Float[Tensor, " R"]) -> tuple[Int[Tensor, " R"], Float[Tensor, " R"]]:
        """A token of each row, and its log-probability in nats."""
        logp = (logits.float() / self.temperature).log_softmax(-1)
        chosen = invert(logp, uniform)
        return chosen, logp.gather(1, chosen[:, None])[:, 0]

    def goes_on(self, chosen: Int[Tensor, " R"]) -> Bool[Tensor, " R"]:
        """Whether the completion is not ended by the token."""
        going = chosen != self.end_ids[0]
        for end in self.end_ids[1:]:
            going = going & (chosen != end)
        return going


@dataclass(frozen=True)
class Prefilled:
    """P prompts, padded on the left, are in the cache; R rows complete them."""

    logits: Float[Tensor, "R V"]  # of the first token
    cache: Cache  # of the P prompts; the decode loop takes it over
    prompt: Int[Tensor, " R"]  # each row's place in the cache
    mask: Bool[Tensor, "R T"]  # true on the prompt, not on its padding
    states: RowStates
    uniform: Float[Tensor, "R N"]  # a number of each row and position


@dataclass(frozen=True)
class Decoded:
    tokens: Int[Tensor, "R N"]
    logprob: Float[Tensor, "R N"]  # nats
    length: Int[Tensor, " R"]  # the end token included


def decode(forward: Forward, start: Prefilled, distribution: Distribution) -> Decoded:
    cache, logits, states, uniform = start.cache, start.logits, start.states, start.uniform
    cache.batch_select_indices(start.prompt)
    (rows, longest), prompt, device = uniform.shape, start.mask.shape[1], logits.device
    mask = torch.cat([start.mask, start.mask.new_ones(rows, longest)], dim=1)  # the first columns of it at each step
    position = start.mask.sum(1, keepdim=True)
    tokens = torch.zeros(rows, longest, dtype=torch.long, device=device)
    logprob = torch.zeros(rows, longest, device=device)
    length = torch.zeros(rows, dtype=torch.long, device=device)
    live = torch.arange(rows, device=device)  # rows that are in the cache
    running = torch.ones(rows, dtype=torch.bool, device=device)
    for step in range(longest):
        chosen, chance = distribution.draw(logits, uniform[:, step])
        tokens[live, step] = chosen * running
        logprob[live, step] = chance * running
        length[live] += running
        running = running & distribution.goes_on(chosen)
        count = int(running.sum())
        if not count or step + 1 == longest:
            break
        if count < DROP_BELOW * len(live):
            kept = running.nonzero()[:, 0]
            cache.batch_select_indices(kept)
            live, chosen, running, mask, position, uniform = (held[kept] for held in (live, chosen, running, mask, position, uniform))
            states = states and states.select(kept)
        logits = forward(chosen[:, None], mask[:, : prompt + step + 1], position + step, cache, states)
    return Decoded(tokens, logprob, length)


def invert(logp: Float[Tensor, "R V"], uniform: Float[Tensor, " R"]) -> Int[Tensor, " R"]:
    """The token at which the cumulative distribution of each row passes `uniform`."""
    cumulative = logp.double().exp_().cumsum_(-1)
    target = (uniform * cumulative[:, -1])[:, None]
    return torch.searchsorted(cumulative, target, right=True)[:, 0].clamp(max=logp.shape[1] - 1)
