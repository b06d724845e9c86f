"""Sampling with our own decode loop: on weights into which the adapter is merged, or through the adapter.

Merged is faster where these weights fit into memory. A merged bfloat16 weight would round the adapter away, so a bfloat16
model is sampled through the adapter. Either way rows of all states are decoded beside each other.

A prompt is prefilled once and its cache repeated for the group. A completion's uniform numbers belong to its prompt, copy
and position, whatever rows are beside it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor
from transformers import Cache

from projected_grpo.messages.memory import advises, sampling_lever
from projected_grpo.policy.adapter import adapter_state
from projected_grpo.policy.policy import Policy
from projected_grpo.sampling.cache import roomy_cache
from projected_grpo.sampling.decode import Decoded, Distribution, Prefilled, PresentRows, RowStates, decode
from projected_grpo.sampling.graph import decode_in_graph
from projected_grpo.sampling.merged import STATES, Merged, StateRows
from projected_grpo.sampling.protocol import Completion, Request, State

PRESENT = {"base": (0.0, 0.0), "full": (1.0, 1.0), "deployed": (1.0, 0.0)}  # of each state, the blocks' outputs


@dataclass(frozen=True)
class Prompt:
    """One prompt of a request; the fields are those of Request."""

    tokens: list[int]
    copies: int
    seed: int
    state: State


class LocalSampler:
    def __init__(self, policy: Policy, max_new_tokens: int, rows: int, merged: bool) -> None:
        """At most `rows` completions are decoded at once, or those of one prompt. `merged` holds a weight of each adapted layer and sampled state."""
        self.policy, self.max_new_tokens, self.rows = policy, max_new_tokens, rows
        self.merged = Merged(policy) if merged else None
        self.model = policy.base.model

    def sample(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """The completions of each request, prompt by prompt, from the policy as it is now.

        Raises MemoryShortage where the GPU's memory does not suffice for `rows` completions at once.
        """
        asked = [
            [Prompt(tokens, request.copies, seed, request.state) for tokens, seed in zip(request.prompts, request.seeds, strict=True)]
            for request in requests
        ]
        order = sorted((place, request) for request, prompts in enumerate(asked) for place in range(len(prompts)))
        prompts = [asked[request][place] for place, request in order]  # the states of a prompt beside each other, so a group is in one part
        completions = self._sample_merged(prompts) if self.merged else self._sample_adapted(prompts)
        found: list[list[Completion]] = [[] for _ in asked]
        for (_, request), group in zip(order, completions, strict=True):
            found[request] += group
        return found

    def _sample_merged(self, prompts: list[Prompt]) -> Iterator[list[Completion]]:
        self.merged.merge({prompt.state for prompt in prompts})
        for part in _parts(prompts, self.rows):
            order = sorted(range(len(part)), key=lambda place: STATES.index(part[place].state))
            together = [part[place] for place in order]
            groups = dict(zip(order, self._complete(together, StateRows.of([prompt.state for prompt in together]))))
            yield from (groups[place] for place in range(len(part)))

    def _sample_adapted(self, prompts: list[Prompt]) -> list[list[Completion]]:
        training = self.model.training
        self.model.eval()  # transformers drops the cache where it checkpoints layers in training mode
        completions = []
        with self.policy.held():
            for part in _parts(prompts, self.rows):
                states = {prompt.state for prompt in part}
                with adapter_state(self.policy.context, enabled=states != {"base"}):
                    completions += self._complete(part, None if states == {"base"} else _present(part))
        self.model.train(training)
        return completions

    def _complete(self, prompts: list[Prompt], states: RowStates) -> list[list[Completion]]:
        """The completions of each prompt. `states` has a row for each prompt."""
        copies = [prompt.copies for prompt in prompts]
        with advises(sampling_lever(self.rows, sum(copies), max(copies), self.max_new_tokens)), torch.inference_mode():
            found = self._decode(prompts, states)
        rows = zip(found.tokens.tolist(), found.logprob.tolist(), found.length.tolist())
        completions = iter([Completion(row[:n], chances[:n]) for row, chances, n in rows])
        return [list(islice(completions, count)) for count in copies]

    def _decode(self, prompts: list[Prompt], states: RowStates) -> Decoded:
        device = self.model.device
        uniform = torch.cat([_uniform(prompt.copies, self.max_new_tokens, prompt.seed) for prompt in prompts]).to(device)
        states = states.to(device) if isinstance(states, PresentRows) else states
        logits, cache, mask = self._prefill([prompt.tokens for prompt in prompts], states)
        row = torch.arange(len(prompts)).repeat_interleave(torch.tensor([prompt.copies for prompt in prompts])).to(device)
        start = Prefilled(logits[row], cache, row, mask[row], states and states.select(row), uniform)
        distribution = Distribution(self.policy.temperature, self.policy.base.end_ids)
        if device.type == "cuda":
            return decode_in_graph(self._forward, start, distribution, self.model.config)
        return decode(self._forward, start, distribution)

    def _prefill(self, prompts: list[list[int]], states: RowStates) -> tuple[Tensor, Cache, Tensor]:
        """Last logits (P, V), cache and attention mask (P, T) of left-padded prompts."""
        longest = max(len(prompt) for prompt in prompts)
        tokens = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts], device=self.model.device)
        mask = torch.tensor([[False] * (longest - len(prompt)) + [True] * len(prompt) for prompt in prompts], device=self.model.device)
        cache = roomy_cache(self.model.config, self.max_new_tokens)
        return self._forward(tokens, mask, (mask.cumsum(1) - 1).clamp(min=0), cache, states), cache, mask

    def _forward(self, tokens: Tensor, mask: Tensor, position: Tensor, cache: Cache, states: RowStates) -> Tensor:
        """Logits (R, V) after the last of the tokens (R, T), whose keys and values join the cache."""
        if isinstance(states, StateRows):
            return self.merged.logits(tokens, mask, position, cache, states)
        with adapter_state(self.policy.context, present=states.blocks if isinstance(states, PresentRows) else None):
            return self.model(
                tokens, attention_mask=mask, position_ids=position, past_key_values=cache, use_cache=True, logits_to_keep=1
            ).logits[:, -1]


def _parts(prompts: list[Prompt], rows: int) -> Iterator[list[Prompt]]:
    """Parts of at most `rows` completions each, or those of one prompt."""
    part: list[Prompt] = []
    for prompt in prompts:
        if part and sum(other.copies for other in part) + prompt.copies > rows:
            yield part
            part = []
        part.append(prompt)
    if part:
        yield part


def _present(prompts: list[Prompt]) -> PresentRows:
    return PresentRows(torch.tensor([PRESENT[prompt.state] for prompt in prompts]))


def _uniform(rows: int, columns: int, seed: int) -> Tensor:
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
