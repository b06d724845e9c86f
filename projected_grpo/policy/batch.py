"""Token batches: right-padded prompt + completion rows, and the one place where positions shift by one."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class TokenBatch:
    """Rows are prompt then completion, padded on the right with token 0. Lengths decide what is real, never token ids."""

    tokens: Int[Tensor, "B T"]
    prompt_length: Int[Tensor, " B"]
    completion_length: Int[Tensor, " B"]

    @classmethod
    def collate(cls, prompts: Sequence[list[int]], completions: Sequence[list[int]]) -> "TokenBatch":
        rows = [torch.tensor(p + c) for p, c in zip(prompts, completions, strict=True)]
        return cls(
            torch.nn.utils.rnn.pad_sequence(rows, batch_first=True),
            torch.tensor([len(p) for p in prompts]),
            torch.tensor([len(c) for c in completions]),
        )

    def to(self, device: torch.device) -> "TokenBatch":
        return TokenBatch(self.tokens.to(device), self.prompt_length.to(device), self.completion_length.to(device))

    def __len__(self) -> int:
        return self.tokens.shape[0]

    @property
    def length(self) -> Int[Tensor, " B"]:
        return self.prompt_length + self.completion_length

    def completion_mask(self) -> Bool[Tensor, "B L"]:
        """True at the j-th completion token of a row, j < its completion length; L is the longest completion."""
        return torch.arange(int(self.completion_length.max()), device=self.tokens.device) < self.completion_length[:, None]

    def completion_tokens(self) -> Int[Tensor, " N"]:
        """The completion tokens, row by row."""
        row, step = self.completion_mask().nonzero(as_tuple=True)
        return self.tokens[row, self.prompt_length[row] + step]

    def select(self, index: Int[Tensor, " N"]) -> "TokenBatch":
        """The rows of `index`, trimmed to their own longest row."""
        longest = int(self.length[index].max())
        return TokenBatch(self.tokens[index, :longest], self.prompt_length[index], self.completion_length[index])

    def micro_batches(self, tokens: int) -> list[Int[Tensor, " N"]]:
        """Row indices in groups of similar length, each of at most `tokens` with its padding; a longer row is alone."""
        return fill(self.length, tokens)


def fill(length: Int[Tensor, " R"], tokens: int) -> list[Int[Tensor, " N"]]:
    """Indices of rows of these lengths, by rising length, in groups of at most `tokens` with their padding; a longer row is alone."""
    order = length.argsort(stable=True)
    groups, start = [], 0
    for end, longest in enumerate(length[order].tolist()):  # ascending: the longest of the rows before `end + 1`
        if end > start and (end + 1 - start) * longest > tokens:
            groups.append(order[start:end])
            start = end
    return [*groups, order[start:]]
