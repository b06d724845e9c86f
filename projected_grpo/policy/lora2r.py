"""The adapter: rank r deploys (rows [:r]), rank r is the quarantine (rows [r:]) that deployment resets.

The method writes a layer as W x + B A x - B0 A0 x with frozen copies A0, B0 of the initialization. The trained
parameters here are dA = A - A0 and dB = B - B0, both zero at the start, and the same layer reads

    y = W x + B0 (dA x) + dB ((A0 + dA) x)

which has the same gradients and no cancellation: the net delta is exactly zero at the start, and weight decay on dA, dB
is decay toward the initialization. Blocks are masked by row of the batch: a forward mask removes a block's output, a
gradient mask detaches it. The bottleneck that the gate reads is (A0 + dA)[:r] x.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from projected_grpo.seeds import derive_seed

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
DEPLOYED, QUARANTINE = 0, 1  # columns of a block mask


@dataclass(frozen=True)
class BlockMasks:
    """Per row of the batch and block (deployed, quarantine): is its output present, does its output carry gradient."""

    forward: Float[Tensor, "B 2"]
    gradient: Float[Tensor, "B 2"]

    def select(self, index: Tensor) -> "BlockMasks":
        return BlockMasks(self.forward[index], self.gradient[index])


ABLATED = (1.0, 0.0)  # forward mask of deployment ablation: the quarantine's net delta is absent


@dataclass
class AdapterContext:
    """What all adapted layers of one model share during a forward pass."""

    enabled: bool = True
    masks: BlockMasks | None = None  # None: both blocks present, both with gradient
    pooling: Tensor | None = None  # (B, T) weights; where set, layers record their pooled deployed bottleneck
    pooled: dict[str, Tensor] = field(default_factory=dict)  # layer name -> (B, r)
    probes: dict[str, Tensor] | None = None  # layer name -> (B, 1, r) zeros: the deployed bottleneck is multiplied by 1 + probe


class MaskedUp(torch.autograd.Function):
    """z @ up.T with forward mask f and gradient mask g on z's columns, each (B, 1, 4r)."""

    @staticmethod
    def forward(ctx, z: Tensor, up: Tensor, f: Tensor, g: Tensor) -> Tensor:
        ctx.save_for_backward(z, up, g)
        return linear(z * f, up)

    @staticmethod
    def backward(ctx, dy: Tensor) -> tuple[Tensor, Tensor, None, None]:
        z, up, g = ctx.saved_tensors
        dz = (dy @ up) * g
        dup = dy.flatten(0, -2).T @ (z * g).flatten(0, -2)
        return dz, dup, None, None


class Lora2r(nn.Module):
    """A frozen linear layer with a deployed and a quarantine block of rank r each."""

    def __init__(self, name: str, base: nn.Linear, rank: int, seed: int, context: AdapterContext) -> None:
        super().__init__()
        self.name, self.base, self.rank, self.context = name, base, rank, context
        rng = torch.Generator().manual_seed(seed)
        a0 = torch.randn(2 * rank, base.in_features, generator=rng) / base.in_features**0.5
        b0 = torch.randn(base.out_features, 2 * rank, generator=rng) / (2 * rank) ** 0.5
        self.register_buffer("A0", a0)
        self.register_buffer("B0", b0)
        self.dA = nn.Parameter(torch.zeros_like(a0))
        self.dB = nn.Parameter(torch.zeros_like(b0))

    def forward(self, x: Float[Tensor, "B T d_in"]) -> Float[Tensor, "B T d_out"]:
        y = self.base(x)
        if not self.context.enabled:
            return y
        z = linear(x, torch.cat([self.dA, self.A0 + self.dA]))  # (B, T, 4r): dA x of both blocks, then A x of both
        if self.context.pooling is not None:
            bottleneck = z[..., 2 * self.rank : 3 * self.rank]
            self.context.pooled[self.name] = torch.einsum("bt,btr->br", self.context.pooling, bottleneck)
        up = torch.cat([self.B0, self.dB], dim=1)  # (d_out, 4r)
        if self.context.probes is not None:
            y = y + linear(z[..., 2 * self.rank : 3 * self.rank] * self.context.probes[self.name], self.deployed_up())
        masks = self.context.masks
        if masks is None:
            return y + linear(z, up)
        return y + MaskedUp.apply(z, up, self._columns(masks.forward), self._columns(masks.gradient))

    def _columns(self, mask: Float[Tensor, "B 2"]) -> Float[Tensor, "B 1 columns"]:
        return mask.repeat_interleave(self.rank, dim=1).repeat(1, 2)[:, None, :]

    def merged(self, deployed_only: bool) -> Float[Tensor, "d_out d_in"]:
        """The weight of the plain linear layer that computes this one with both blocks, or with the quarantine ablated."""
        s = slice(0, self.rank) if deployed_only else slice(None)
        return self.base.weight + self.B0[:, s] @ self.dA[s] + self.dB[:, s] @ (self.A0 + self.dA)[s]

    def deployed_down(self) -> Float[Tensor, "r d_in"]:
        """A of the deployed block."""
        return (self.A0 + self.dA)[: self.rank]

    def deployed_up(self) -> Float[Tensor, "d_out r"]:
        """B of the deployed block."""
        return (self.B0 + self.dB)[:, : self.rank]

    def reset_quarantine(self) -> None:
        """Deployment: put the quarantine block back to its initialization."""
        with torch.no_grad():
            self.dA[self.rank :] = 0
            self.dB[:, self.rank :] = 0

    def block_gradients(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """((dA, dB) gradients of the deployed block, the same of the quarantine)."""
        r, ga, gb = self.rank, self.dA.grad, self.dB.grad
        return (ga[:r], gb[:, :r]), (ga[r:], gb[:, r:])


def attach(model: nn.Module, rank: int, seed: int) -> tuple[dict[str, Lora2r], AdapterContext]:
    """Replace every target layer of `model` in place. Returns the layers, sorted by name, and their context."""
    context, layers = AdapterContext(), {}
    linears = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    found = sorted(((n, m) for n, m in linears if n.rsplit(".", 1)[-1] in TARGETS), key=lambda item: item[0])
    if not found:
        raise ValueError(f"the model {type(model).__name__} has no linear layer named {', '.join(TARGETS)}")
    for name, base in found:
        parent, attribute = name.rsplit(".", 1)
        layers[name] = Lora2r(name, base, rank, derive_seed(seed, "adapter", name), context)
        setattr(model.get_submodule(parent), attribute, layers[name])
    return layers, context


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
