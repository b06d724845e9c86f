"""What the two parametrizations of the adapter share: the state in which a batch passes through it, and the two ways to compute it.

An adapted layer adds the net delta `up @ down` to a frozen linear layer. Rank r deploys; rank r is the quarantine, and
deployment resets it. All rows of a batch are in one state: which blocks are present, which of them train, and through which
the gradient passes to the layer's input.

In float32 a layer is one product with its merged weight, W plus the net delta of the blocks that are present. The backward
pass takes the merged weight of the blocks that pass the gradient on, and the gradients of the columns that train. In
bfloat16, where a merged weight would round the adapter away, the factors stay apart.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
DEPLOYED, QUARANTINE = 0, 1  # places in Blocks


class Blocks(NamedTuple):
    """One answer for each block of the adapter."""

    deployed: bool
    quarantine: bool

    def columns(self, rank: int) -> slice:
        """Those of the blocks that are True, among r of the deployed block and then r of the quarantine."""
        return slice(0 if self.deployed else rank, 2 * rank if self.quarantine else rank)


BOTH, DEPLOYED_ALONE, QUARANTINE_ALONE = Blocks(True, True), Blocks(True, False), Blocks(False, True)


class State(NamedTuple):
    """The adapter during one pass. No gradient passes through a block that is absent."""

    present: Blocks  # is its output there
    trained: Blocks  # does the gradient reach its parameters
    upstream: Blocks  # does its output's gradient reach the layer's input


FULL = State(BOTH, BOTH, BOTH)
ABLATED = State(DEPLOYED_ALONE, DEPLOYED_ALONE, DEPLOYED_ALONE)  # deployment ablation: the quarantine's net delta is absent


@dataclass
class AdapterContext:
    """What all adapted layers of one model share during a forward pass."""

    enabled: bool = True
    state: State = FULL
    present: Float[Tensor, "B 2"] | None = None  # by row in place of the state's, 1 or 0, without gradient: sampling
    factors: dict[str, tuple[Tensor, Tensor]] | None = None  # layer name -> (down, up) without gradient, made once where they are held
    weights: dict[tuple[str, Blocks], Tensor] | None = None  # merged weights, likewise
    pool: Callable[[Tensor], Tensor] | None = None  # (R, T, d) -> (B, d); where set, layers record their pooled deployed bottleneck
    pooled: dict[str, Tensor] = field(default_factory=dict)  # layer name -> (B, r)
    probes: dict[str, Tensor] | None = None  # layer name -> (B, 1, r) zeros: the deployed bottleneck is multiplied by 1 + probe


@contextmanager
def adapter_state(context: AdapterContext, **values) -> Iterator[None]:
    """Set fields of the context within a block and restore them after it."""
    earlier = {name: getattr(context, name) for name in values}
    for name, value in values.items():
        setattr(context, name, value)
    try:
        yield
    finally:
        for name, value in earlier.items():
            setattr(context, name, value)


class MergedLinear(torch.autograd.Function):
    """x by the merged weight of the blocks present. A (2r, d_in) is what the blocks read, B (d_out, 2r) what they write; they
    receive the gradient of the columns that train."""

    @staticmethod
    def forward(ctx, x: Tensor, A: Tensor, B: Tensor, layer: "AdaptedLayer", state: State) -> Tensor:
        ctx.save_for_backward(x, A, B)
        ctx.layer, ctx.state = layer, state
        return linear(x, layer.merged(state.present), layer.base.bias)

    @staticmethod
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None]:
        (x, A, B), layer, state = ctx.saved_tensors, ctx.layer, ctx.state
        dx = dy @ layer.merged(state.upstream) if ctx.needs_input_grad[0] else None
        columns = state.trained.columns(layer.rank)
        x, dy = x.flatten(0, -2), dy.flatten(0, -2)
        dA, dB = torch.zeros_like(A), torch.zeros_like(B)
        dA[columns] = (dy @ B[:, columns]).T @ x
        dB[:, columns] = dy.T @ (x @ A[columns].T)
        return dx, dA, dB, None, None


class AdaptedLayer(nn.Module, ABC):
    """A frozen linear layer with a deployed and a quarantine block of rank r each. What trains is fp32 in any case.

    A parametrization registers its frozen initialization as buffers, and what it trains as parameters, zero at first.
    """

    def __init__(self, name: str, base: nn.Linear, rank: int, context: AdapterContext) -> None:
        super().__init__()
        self.name, self.base, self.rank, self.context = name, base, rank, context

    @abstractmethod
    def blocks(self) -> tuple[Float[Tensor, "two_r d_in"], Float[Tensor, "d_out two_r"]]:
        """(A, B): what the blocks read and what they write, [:r] the deployed block's. The net delta is B A less the same of the
        initialization, so its gradient in A and B is that of B A."""

    @abstractmethod
    def factors(self) -> tuple[Float[Tensor, "columns d_in"], Float[Tensor, "d_out columns"]]:
        """(down, up) of the net delta up @ down. Their columns are r of the deployed block and r of the quarantine in turn."""

    @abstractmethod
    def reset_quarantine(self) -> None:
        """Deployment: put the quarantine block back to its initialization."""

    @abstractmethod
    def block_gradients(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """(gradients of the deployed block, gradients of the quarantine)."""

    @abstractmethod
    def initial_down(self) -> Float[Tensor, "r d_in"]:
        """What the deployed block read at the initialization."""

    @abstractmethod
    def deployed_up(self) -> Float[Tensor, "d_out r"]:
        """What the deployed block writes for its bottleneck, its initialization included."""

    def deployed_down(self) -> Float[Tensor, "r d_in"]:
        """What the deployed block reads: the bottleneck is deployed_down() x."""
        return self.blocks()[0][: self.rank]

    def frozen(self) -> dict[str, Tensor]:
        """The initialization, by the name of its part."""
        return dict(self.named_buffers(recurse=False))

    def trained(self) -> dict[str, nn.Parameter]:
        return dict(self.named_parameters(recurse=False))

    def forward(self, x: Float[Tensor, "R T d_in"]) -> Float[Tensor, "R T d_out"]:
        context = self.context
        if not context.enabled:
            return self.base(x)
        if context.pool is not None:
            context.pooled[self.name] = context.pool(x) @ self.deployed_down().T
        if context.present is not None:
            y = self.base(x) + self._by_row(x, context.present)
        elif x.dtype == torch.bfloat16:
            y = self.base(x) + self._delta(x, context.state)
        else:
            y = MergedLinear.apply(x, *self.blocks(), self, context.state)
        if context.probes is not None:  # zeros, so x has no gradient through them
            probed = linear(x.detach(), self.deployed_down().to(x.dtype)) * context.probes[self.name]
            y = y + linear(probed.to(x.dtype), self.deployed_up().to(x.dtype))
        return y

    def _delta(self, x: Float[Tensor, "R T d_in"], state: State) -> Float[Tensor, "R T d_out"]:
        """The net delta by its factors, block by block."""
        down, up = (factor.to(x.dtype).unflatten(side, (-1, 2, self.rank)) for side, factor in enumerate(self.factors()))
        delta = 0.0
        for block, (present, trained, upstream) in enumerate(zip(*state)):
            if present:
                d, u = down[:, block].flatten(0, 1), up[:, :, block].flatten(1)
                d, u = (d, u) if trained else (d.detach(), u.detach())
                delta = delta + linear(linear(x if upstream else x.detach(), d), u)
        return delta

    def _by_row(self, x: Float[Tensor, "B T d_in"], present: Float[Tensor, "B 2"]) -> Float[Tensor, "B T d_out"]:
        """The net delta by its factors, each block where its row has it."""
        down, up = made_once(self.context.factors, self.name, lambda: tuple(factor.detach().to(x.dtype) for factor in self.factors()))
        columns = linear(x, down).unflatten(-1, (-1, 2, self.rank))
        return linear((columns * present[:, None, None, :, None].to(x.dtype)).flatten(-3), up)

    @torch.no_grad()
    def merged(self, present: Blocks) -> Float[Tensor, "d_out d_in"]:
        """The weight of the plain linear layer that computes this one with these blocks."""
        return made_once(self.context.weights, (self.name, present), lambda: self._merge(present))

    def _merge(self, present: Blocks) -> Float[Tensor, "d_out d_in"]:
        (down, up), weight, columns = self.factors(), self.base.weight, present.columns(self.rank)
        for d, u in zip(down.split(2 * self.rank), up.split(2 * self.rank, dim=1)):
            weight = torch.addmm(weight, u[:, columns], d[columns])
        return weight


def made_once(held: dict | None, key: Hashable, make: Callable):
    """What `make` gives, kept in `held` under `key` where there is such a dictionary."""
    if held is None:
        return make()
    if key not in held:
        held[key] = make()
    return held[key]


def target_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers that are adapted, sorted by name. Raises ValueError where the model has none."""
    linears = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    found = sorted(((n, m) for n, m in linears if n.rsplit(".", 1)[-1] in TARGETS), key=lambda item: item[0])
    if not found:
        raise ValueError(f"the model {type(model).__name__} has no linear layer named {', '.join(TARGETS)}")
    return dict(found)
