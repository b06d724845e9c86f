"""How completions lie in the rows of a forward pass: a prompt once, then some of its completions, which do not see each other.

Completions of one prompt may share its row, because a training pass has all rows in one adapter state. That computes the
prompt once, and costs attention over pairs of positions that are masked. `together` says how many make a completion cheapest;
where it is one, the row is prompt and completion, and attention needs no mask.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedConfig

from projected_grpo.policy.batch import TokenBatch, fill

Together = Callable[[int, float, int], int]  # (prompt tokens, tokens of a completion, completions) -> how many share a row
ATTENTION = 4.0  # time of a multiplication in attention, in those of the products with weights


def products_of_a_pair(config: PreTrainedConfig, adapted: Sequence[nn.Linear]) -> float:
    """Multiplications of attention for a pair of positions, in those of a token with the adapted layers' weights."""
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    attention = 2 * config.num_attention_heads * head * config.num_hidden_layers
    return attention / sum(layer.weight.numel() for layer in adapted)


def cheapest(products_of_a_pair: float, prompt: int, completion: float, group: int) -> int:
    """How many of a group's completions share their prompt's row, so that a completion costs the least.

    A token costs 1. A pair of positions has `products_of_a_pair` of a token's products, whether it is masked or not.
    """

    def cost(shared: int) -> float:
        tokens = prompt + shared * completion
        pairs = tokens**2 if shared > 1 else tokens**2 / 2  # without a mask the later positions are left out
        return (tokens + ATTENTION * products_of_a_pair * pairs) / shared

    return min(range(1, group + 1), key=cost)


@dataclass(frozen=True)
class Layout:
    """R rows of T tokens, padded on the right with token 0."""

    batch: TokenBatch  # the B completions, each with its prompt, in the order in which they lie
    index: Int[Tensor, " B"]  # their places among those that were laid out
    row: Int[Tensor, " B"]
    start: Int[Tensor, " B"]  # position of the first token in the row
    tokens: Int[Tensor, "R T"]
    positions: Int[Tensor, "R T"] | None  # in the sequence that the model sees; None where it is the place in the row
    mask: Bool[Tensor, "R 1 T T"] | None  # which position sees which; None for all earlier ones

    def to(self, device: torch.device) -> "Layout":
        held = [getattr(self, field.name) for field in fields(self)]
        return Layout(*(value if value is None else value.to(device) for value in held))

    def before(self, hidden: Float[Tensor, "R T d"]) -> Float[Tensor, "N d"]:
        """Of the hidden states, those that predict the N completion tokens, completion by completion."""
        completion, step = self.batch.completion_mask().nonzero(as_tuple=True)
        last = self.batch.prompt_length[completion] - 1  # the prompt's last state predicts the first token
        return hidden[self.row[completion], torch.where(step > 0, self.start[completion] + step - 1, last)]

    @cached_property
    def pooling_weights(self) -> Float[Tensor, "B T"]:
        """They average over each completion's positions."""
        length, place = self.batch.completion_length[:, None], torch.arange(self.tokens.shape[1], device=self.tokens.device)
        inside = (place >= self.start[:, None]) & (place < self.start[:, None] + length)
        return inside / length.clamp(min=1)

    def pool(self, values: Float[Tensor, "R T d"]) -> Float[Tensor, "B d"]:
        """Mean over each completion's positions."""
        rows = values if len(self.row) == len(values) else values[self.row]
        return torch.einsum("bt,btd->bd", self.pooling_weights, rows.to(self.pooling_weights.dtype))


def lay_out(batch: TokenBatch, micro_tokens: int | None, together: Together) -> Iterator[Layout]:
    """The batch in forward passes of at most `micro_tokens` tokens, padding included, by rising length; a longer row is alone.

    None stands for one pass.
    """
    groups = defaultdict(list)
    for i, (tokens, prompt) in enumerate(zip(batch.tokens.tolist(), batch.prompt_length.tolist())):
        groups[tuple(tokens[:prompt])].append(i)
    rows: list[list[int]] = []
    length = batch.completion_length.tolist()
    for prompt, members in groups.items():
        members.sort(key=lambda i: length[i])
        shared = together(len(prompt), sum(length[i] for i in members) / len(members), len(members))
        rows += [members[k : k + shared] for k in range(0, len(members), shared)]
    sizes = torch.tensor([int(batch.prompt_length[row[0]]) + sum(length[i] for i in row) for row in rows])
    for part in [sizes.argsort(stable=True)] if micro_tokens is None else fill(sizes, micro_tokens):
        yield _layout(batch, [rows[r] for r in part.tolist()])


def _layout(batch: TokenBatch, rows: list[list[int]]) -> Layout:
    index = torch.tensor([i for row in rows for i in row])
    chosen = batch.select(index)
    if all(len(row) == 1 for row in rows):
        return Layout(chosen, index, torch.arange(len(rows)), chosen.prompt_length, chosen.tokens, None, None)
    row_of, start, tokens, positions, segment = [], [], [], [], []
    for r, row in enumerate(rows):
        prompt = int(batch.prompt_length[row[0]])
        line, place, part = batch.tokens[row[0], :prompt].tolist(), list(range(prompt)), [0] * prompt
        for k, i in enumerate(row, start=1):
            length = int(batch.completion_length[i])
            row_of.append(r)
            start.append(len(line))
            line += batch.tokens[i, prompt : prompt + length].tolist()
            place += range(prompt, prompt + length)
            part += [k] * length
        tokens.append(torch.tensor(line))
        positions.append(torch.tensor(place))
        segment.append(torch.tensor(part))
    pad = torch.nn.utils.rnn.pad_sequence
    segments = pad(segment, batch_first=True, padding_value=-1)
    prompts, same = segments[:, None, :] == 0, segments[:, :, None] == segments[:, None, :]
    mask = (prompts | same).tril()[:, None]  # a position sees the earlier ones of its prompt and of its own completion
    return Layout(chosen, index, torch.tensor(row_of), torch.tensor(start), pad(tokens, batch_first=True), pad(positions, batch_first=True), mask)
