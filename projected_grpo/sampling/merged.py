"""The model with the adapter merged into its weights, for rows of several adapter states beside each other.

A layer has a weight for each sampled state and applies it to the rows of that state, which lie beside each other. All else,
which no state changes, runs once for all rows. The frozen weights are the policy's own; only merged ones are held besides.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedModel

from projected_grpo.policy.adapter import BOTH, DEPLOYED_ALONE
from projected_grpo.policy.policy import Policy
from projected_grpo.sampling.protocol import State

STATES: tuple[State, ...] = get_args(State)
BLOCKS = {"full": BOTH, "deployed": DEPLOYED_ALONE}


@dataclass(frozen=True)
class StateRows:
    """The state of each row, an index into STATES that never falls from one row to the next. It stays on the CPU, wherever the rows are."""

    index: Int[Tensor, " R"]

    @classmethod
    def of(cls, states: Sequence[State]) -> "StateRows":
        return cls(torch.tensor([STATES.index(state) for state in states]))

    def select(self, rows: Tensor) -> "StateRows":
        return StateRows(self.index[rows.cpu()])

    def sizes(self) -> dict[State, int]:
        """Rows of each state that has any, in the order of the rows."""
        return {state: count for state, count in zip(STATES, torch.bincount(self.index, minlength=len(STATES)).tolist()) if count}


@dataclass
class Merged:
    """The model, and how many rows of each state its layers are given."""

    model: PreTrainedModel
    sizes: dict[State, int] = field(default_factory=dict)

    @classmethod
    def of(cls, policy: Policy) -> "Merged":
        base = policy.base.model
        shared = {id(tensor): tensor for tensor in chain(base.parameters(), base.buffers())}
        merged = cls(copy.deepcopy(base, shared).eval())
        for name, layer in policy.layers.items():
            parent, attribute = name.rsplit(".", 1)
            setattr(merged.model.get_submodule(parent), attribute, MergedLinear(layer.base, merged))
        return merged

    @torch.no_grad()
    def merge(self, policy: Policy, states: set[State]) -> None:
        """Hold the weights of these states of the policy as it is now, and of no other."""
        for name, layer in policy.layers.items():
            weights = {state: layer.merged(BLOCKS[state]) for state in states - {"base"}}
            self.model.get_submodule(name).weights = {"base": layer.base.weight, **weights}


class MergedLinear(nn.Module):
    def __init__(self, base: nn.Linear, merged: Merged) -> None:
        super().__init__()
        self.bias, self.merged = base.bias, merged
        self.weights: dict[State, Tensor] = {}

    def forward(self, x: Float[Tensor, "R T d_in"]) -> Float[Tensor, "R T d_out"]:
        sizes = self.merged.sizes
        parts = zip(sizes, x.split(list(sizes.values())))
        found = [linear(part, self.weights[state], self.bias) for state, part in parts]
        return found[0] if len(found) == 1 else torch.cat(found)
