"""What the two parametrizations of the adapter share: block masks by row of the batch, and the masked forward pass.

An adapted layer adds the net delta `up @ down` to a frozen linear layer. Rank r deploys; rank r is the quarantine, and
deployment resets it. A forward mask removes a block's output. A gradient mask keeps the output's gradient from the block's
parameters, an upstream mask keeps it from the layer's input and so from earlier layers.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
DEPLOYED, QUARANTINE = 0, 1  # columns of a block mask
ABLATED = (1.0, 0.0)  # mask of deployment ablation: the quarantine's net delta is absent


@dataclass(frozen=True)
class BlockMasks:
    """Per row of the batch and block (deployed, quarantine), 1 or 0. No gradient passes where the output is absent."""

    forward: Float[Tensor, "B 2"]  # is its output present
    gradient: Float[Tensor, "B 2"]  # does its output's gradient reach its parameters
    upstream: Float[Tensor, "B 2"]  # does its output's gradient reach the layer's input

    @classmethod
    def ablated(cls, rows: int) -> "BlockMasks":
        mask = torch.tensor(ABLATED).expand(rows, 2)
        return cls(mask, mask, mask)

    def to(self, device: torch.device) -> "BlockMasks":
        return BlockMasks(self.forward.to(device), self.gradient.to(device), self.upstream.to(device))

    def select(self, index: Tensor) -> "BlockMasks":
        return BlockMasks(self.forward[index], self.gradient[index], self.upstream[index])


@dataclass
class AdapterContext:
    """What all adapted layers of one model share during a forward pass."""

    enabled: bool = True
    masks: BlockMasks | None = None  # None: both blocks present, both with gradient
    factors: dict[str, tuple[Tensor, Tensor]] | None = None  # layer name -> (down, up) to use in place of those made from its parameters
    pooling: Tensor | None = None  # (B, T) weights; where set, layers record their pooled deployed bottleneck
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


def masked(z: Float[Tensor, "B T columns"], mask: Float[Tensor, "B 2"], rank: int) -> Float[Tensor, "B T columns"]:
    """z with each block's columns times the block's mask; they are r of the deployed block and r of the quarantine in turn."""
    blocks = z.unflatten(-1, (-1, 2, rank))
    return (blocks * mask[:, None, None, :, None].to(z.dtype)).flatten(-3)


class MaskedDown(torch.autograd.Function):
    """z = x @ down.T whose gradient reaches `down` where the mask g is 1, and x everywhere."""

    @staticmethod
    def forward(ctx, x: Tensor, down: Tensor, g: Tensor, rank: int) -> Tensor:
        ctx.save_for_backward(x, down, g)
        ctx.rank = rank
        return linear(x, down)

    @staticmethod
    def backward(ctx, dz: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, down, g = ctx.saved_tensors
        dx = dz @ down if ctx.needs_input_grad[0] else None
        ddown = masked(dz, g, ctx.rank).flatten(0, -2).T @ x.flatten(0, -2)
        return dx, ddown, None, None


class MaskedUp(torch.autograd.Function):
    """(z * f) @ up.T whose gradient reaches `up` where the mask g is 1, and z where u is."""

    @staticmethod
    def forward(ctx, z: Tensor, up: Tensor, f: Tensor, g: Tensor, u: Tensor, rank: int) -> Tensor:
        ctx.save_for_backward(z, up, g, u)
        ctx.rank = rank
        return linear(masked(z, f, rank), up)

    @staticmethod
    def backward(ctx, dy: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        z, up, g, u = ctx.saved_tensors
        dz = masked(dy @ up, u, ctx.rank)
        dup = dy.flatten(0, -2).T @ masked(z, g, ctx.rank).flatten(0, -2)
        return dz, dup, None, None, None, None


class AdaptedLayer(nn.Module, ABC):
    """A frozen linear layer with a deployed and a quarantine block of rank r each. What trains is fp32 in any case.

    A parametrization registers its frozen initialization as buffers, and what it trains as parameters, zero at first.
    """

    def __init__(self, name: str, base: nn.Linear, rank: int, context: AdapterContext) -> None:
        super().__init__()
        self.name, self.base, self.rank, self.context = name, base, rank, context

    @abstractmethod
    def factors(self) -> tuple[Float[Tensor, "columns d_in"], Float[Tensor, "d_out columns"]]:
        """(down, up) of the net delta up @ down. Their columns are r of the deployed block and r of the quarantine in
        turn; the last 2r rows of `down` are what the blocks read, so the deployed ones give the bottleneck."""

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
        return self.factors()[0][-2 * self.rank : -self.rank]

    def frozen(self) -> dict[str, Tensor]:
        """The initialization, by the name of its part."""
        return dict(self.named_buffers(recurse=False))

    def trained(self) -> dict[str, nn.Parameter]:
        return dict(self.named_parameters(recurse=False))

    def forward(self, x: Float[Tensor, "B T d_in"]) -> Float[Tensor, "B T d_out"]:
        y = self.base(x)
        if not self.context.enabled:
            return y
        held, masks = self.context.factors, self.context.masks
        down, up = held[self.name] if held else (factor.to(x.dtype) for factor in self.factors())
        if masks is None:
            z = linear(x, down)  # (B, T, columns)
            delta = linear(z, up)
        else:
            z = MaskedDown.apply(x, down, masks.gradient, self.rank)
            delta = MaskedUp.apply(z, up, masks.forward, masks.gradient, masks.upstream, self.rank)
        bottleneck = z[..., -2 * self.rank : -self.rank]
        if self.context.pooling is not None:
            self.context.pooled[self.name] = torch.einsum("bt,btr->br", self.context.pooling, bottleneck.to(self.context.pooling.dtype))
        if self.context.probes is not None:
            probed = bottleneck * self.context.probes[self.name]
            delta = delta + linear(probed.to(x.dtype), self.deployed_up().to(x.dtype))
        return y + delta

    def merged(self, deployed_only: bool) -> Float[Tensor, "d_out d_in"]:
        """The weight of the plain linear layer that computes this one, with both blocks or the quarantine ablated."""
        (down, up), weight = self.factors(), self.base.weight
        for start in range(0, len(down), 2 * self.rank):
            s = slice(start, start + (self.rank if deployed_only else 2 * self.rank))
            weight = weight + up[:, s] @ down[s]
        return weight


def target_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers that are adapted, sorted by name. Raises ValueError where the model has none."""
    linears = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    found = sorted(((n, m) for n, m in linears if n.rsplit(".", 1)[-1] in TARGETS), key=lambda item: item[0])
    if not found:
        raise ValueError(f"the model {type(model).__name__} has no linear layer named {', '.join(TARGETS)}")
    return dict(found)
