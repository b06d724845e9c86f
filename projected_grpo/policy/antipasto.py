"""The spectral parametrization: gains on W's leading singular directions, and a rotation of what the quarantine reads.

U, S, Vh are the top 2r singular vectors and values of W, frozen; [:r] deploys. With R = Cayley(X - X'), a layer reads

    y = W x + U_d diag(S_d tanh(g_d)) Vh_d x + U_q diag(S_q tanh(g_q)) R Vh_q x

The trained parameters are the gains g (2r numbers) and X (r x r), zero at the start: the net delta is then exactly zero
and the rotation exactly the identity, and weight decay pulls both back there. The gate's bottleneck is Vh[:r] x.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from projected_grpo.policy.adapter import AdaptedLayer, AdapterContext


def cayley(skew: Float[Tensor, "r r"]) -> Float[Tensor, "r r"]:
    """The rotation (I + K)^-1 (I - K) of a skew-symmetric K; orthogonal, and the identity at 0."""
    identity = torch.eye(len(skew), dtype=skew.dtype, device=skew.device)
    return torch.linalg.solve(identity + skew, identity - skew)


class Antipasto(AdaptedLayer):
    def __init__(
        self,
        name: str,
        base: nn.Linear,
        context: AdapterContext,
        U: Float[Tensor, "d_out two_r"],
        S: Float[Tensor, " two_r"],
        Vh: Float[Tensor, "two_r d_in"],
    ) -> None:
        super().__init__(name, base, len(S) // 2, context)
        self.register_buffer("U", U)
        self.register_buffer("S", S)
        self.register_buffer("Vh", Vh)
        self.g = nn.Parameter(torch.zeros_like(S))
        self.X = nn.Parameter(torch.zeros(self.rank, self.rank, dtype=S.dtype))

    def blocks(self) -> tuple[Float[Tensor, "two_r d_in"], Float[Tensor, "d_out two_r"]]:
        r = self.rank
        down = torch.cat([self.Vh[:r], cayley(self.X - self.X.T) @ self.Vh[r:]])
        return down, self.U * (self.S * self.g.tanh())

    factors = blocks  # at the initialization they write nothing

    def initial_down(self) -> Float[Tensor, "r d_in"]:
        return self.Vh[: self.rank]

    def deployed_up(self) -> Float[Tensor, "d_out r"]:
        return (self.U * self.S)[:, : self.rank]  # at gain 1: the gains, zero at the start, are no part of what is read

    @torch.no_grad()
    def reset_quarantine(self) -> None:
        self.g[self.rank :] = 0
        self.X.zero_()

    def block_gradients(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        return (self.g.grad[: self.rank],), (self.g.grad[self.rank :], self.X.grad)
