"""The two sides of pairs as the policy reads them now."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from projected_grpo.core.base import Base
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.policy.policy import Policy
from projected_grpo.policy.readings import read_deployed
from projected_grpo.prompts.prompts import render_text, system_of


@dataclass(frozen=True)
class PairTokens:
    """Prompts and completions of both sides, pair by pair; each completion ends with the end token."""

    hack: TokenBatch
    clean: TokenBatch

    def __len__(self) -> int:
        return len(self.hack)


def pair_tokens(base: Base, pairs: Sequence[dict], environment: str) -> PairTokens:
    """Of rows of the table pairs, in a chat under the system message of the environment's own prompts."""

    def side(prompt: str, completion: str) -> TokenBatch:
        texts = [(render_text(base, pair[prompt], system_of(environment)), base.encode(pair[completion])) for pair in pairs]
        return TokenBatch.collate([p for p, _ in texts], [c + [base.eos_id] for _, c in texts])

    return PairTokens(side("prompt", "hack"), side("clean_prompt", "clean"))


def read_side(policy: Policy, side: TokenBatch, readings: Sequence[str], size: int) -> dict[str, Float[Tensor, "P D"]]:
    """Readings of one side, in the order of the pairs, with at most `size` tokens a forward pass."""
    return read_deployed(policy, side, readings, size)[0]


def pair_differences(
    policy: Policy, pairs: PairTokens, readings: Sequence[str], size: int
) -> dict[str, Float[Tensor, "P D"]]:
    """reading(hack) - reading(clean) of each pair under the policy's current weights."""
    hack, clean = (read_side(policy, side, readings, size) for side in (pairs.hack, pairs.clean))
    return {reading: hack[reading] - clean[reading] for reading in readings}
