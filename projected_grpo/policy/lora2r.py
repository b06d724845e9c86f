"""The additive parametrization: a rank-2r LoRA of which rows [:r] deploy and rows [r:] are the quarantine.

The method writes a layer as W x + B A x - B0 A0 x with frozen copies A0, B0 of the initialization. The trained
parameters here are dA = A - A0 and dB = B - B0, both zero at the start, and the same layer reads

    y = W x + B0 (dA x) + dB ((A0 + dA) x)

which has the same gradients and no cancellation: the net delta is exactly zero at the start, and weight decay on dA, dB
is decay toward the initialization. The bottleneck that the gate reads is (A0 + dA)[:r] x.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from projected_grpo.policy.adapter import AdaptedLayer, AdapterContext


class Lora2r(AdaptedLayer):
    def __init__(
        self,
        name: str,
        base: nn.Linear,
        context: AdapterContext,
        A0: Float[Tensor, "two_r d_in"],
        B0: Float[Tensor, "d_out two_r"],
    ) -> None:
        super().__init__(name, base, len(A0) // 2, context)
        self.register_buffer("A0", A0)
        self.register_buffer("B0", B0)
        self.dA = nn.Parameter(torch.zeros_like(A0))
        self.dB = nn.Parameter(torch.zeros_like(B0))

    def blocks(self) -> tuple[Float[Tensor, "two_r d_in"], Float[Tensor, "d_out two_r"]]:
        return self.A0 + self.dA, self.B0 + self.dB

    def factors(self) -> tuple[Float[Tensor, "four_r d_in"], Float[Tensor, "d_out four_r"]]:
        return torch.cat([self.dA, self.A0 + self.dA]), torch.cat([self.B0, self.dB], dim=1)

    def initial_down(self) -> Float[Tensor, "r d_in"]:
        return self.A0[: self.rank]

    def deployed_up(self) -> Float[Tensor, "d_out r"]:
        return (self.B0 + self.dB)[:, : self.rank]

    @torch.no_grad()
    def reset_quarantine(self) -> None:
        self.dA[self.rank :] = 0
        self.dB[:, self.rank :] = 0

    def block_gradients(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        r, ga, gb = self.rank, self.dA.grad, self.dB.grad
        return (ga[:r], gb[:, :r]), (ga[r:], gb[:, r:])
