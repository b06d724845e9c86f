"""Scores of readings along a direction, and the two cuts that divide them.

The buffer holds readings rather than scores, so a refreshed direction rescores the past and needs no flush.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def weighted_quantile(scores: Float[Tensor, " N"], weights: Float[Tensor, " N"], q: float) -> float:
    """The smallest score at which the cumulative weight reaches q of the total (the inverse of the weighted CDF)."""
    order = scores.argsort()
    cumulative = weights[order].double().cumsum(0)
    index = int(torch.searchsorted(cumulative, q * cumulative[-1] * (1 - 1e-12)))
    return float(scores[order[index]])


def quantile_cuts(
    scores: Float[Tensor, " N"], weights: Float[Tensor, " N"], keep: float, route: float
) -> tuple[float, float]:
    """(t_low, t_high) that cut off the shares `keep` and `route` of the weight.

    t_high is the lower quantile of the negated scores, so with equal shares a negated direction swaps the tails exactly.
    No score reaches the cut of a tail without mass, which is infinite.
    """
    low, high = (weighted_quantile(s, weights, q) if q > 0 else -math.inf for s, q in ((scores, keep), (-scores, route)))
    return low, -high


def pair_cuts(hack: Float[Tensor, " P"], clean: Float[Tensor, " P"]) -> tuple[float, float]:
    """(t_low, t_high) a quarter of the gap between the sides' mean scores on each side of the middle.

    The gap is taken without its sign, so the rule is the same for a direction along which the sides are reversed.
    """
    middle, gap = float((hack.mean() + clean.mean()) / 2), float((hack.mean() - clean.mean()).abs())
    return middle - gap / 4, middle + gap / 4


def projections(
    readings: Float[Tensor, "N D"], direction: Float[Tensor, " D"], widths: Sequence[int]
) -> Float[Tensor, "N M"]:
    """The dot product of readings and direction, module by module."""
    return torch.stack([piece.sum(1) for piece in (readings * direction).split(list(widths), dim=1)], dim=1)


def score(readings: Float[Tensor, "N D"], direction: Float[Tensor, " D"]) -> Float[Tensor, " N"]:
    """Routing score: the dot product, which is the sum of the modules' dot products."""
    return readings @ direction


def cosine(readings: Float[Tensor, "N D"], direction: Float[Tensor, " D"]) -> Float[Tensor, " N"]:
    """Cosine of readings and direction over the modules in which the direction is not zero."""
    inside = readings[:, direction != 0]
    return score(readings, direction) / (inside.norm(dim=1) * direction.norm())


class ReadingBuffer:
    """The last `capacity` rollouts' readings, oldest first; a weight halves every `half_life` rollouts, or never."""

    def __init__(self, capacity: int, half_life: float | None) -> None:
        self.capacity, self.half_life = capacity, half_life
        self.readings: Float[Tensor, "N D"] | None = None

    def __len__(self) -> int:
        return 0 if self.readings is None else len(self.readings)

    def append(self, readings: Float[Tensor, "N D"]) -> None:
        joined = readings if self.readings is None else torch.cat([self.readings, readings])
        self.readings = joined[-self.capacity :]

    def weights(self) -> Float[Tensor, " N"]:
        age = torch.arange(len(self) - 1, -1, -1)
        return torch.ones(len(self)) if self.half_life is None else 0.5 ** (age / self.half_life)
