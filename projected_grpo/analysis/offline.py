"""How well each of many directions separates exploits from the rest on the readings of one run.

A direction's scores are sorted once, and every metric is read off them (classifier.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import numpy as np
from jaxtyping import Bool, Float, Int, UInt64

from projected_grpo.analysis.classifier import EXPLOITED, POSITIVE, descending, tail_metrics
from projected_grpo.analysis.nulls import TILE, product
from projected_grpo.core.errors import InputError

POPULATIONS = ("all", "positive_advantage")
METRICS = {  # name -> whether more of it is better
    "auroc": True,
    "average_precision": True,
    "route_precision": True,
    "route_recall": True,
    "route_f_half": True,
    "keep_precision": True,
    "keep_recall": True,
    "keep_hack_share": False,
    "oracle_cosine": True,
}
BYTES = 24  # of scores for each rollout and direction of a block


@dataclass(frozen=True)
class Judged:
    """Judged rollouts of a run as one reading sees them, the oracle direction there, and the tails that the cuts take."""

    distinct: Float[np.ndarray, "D U"]  # readings that differ: equal readings have equal scores
    index: Int[np.ndarray, " N"]  # of each rollout's reading
    flags: UInt64[np.ndarray, " N"]
    oracle: Float[np.ndarray, " D"] | None
    keep_quantile: float
    route_quantile: float

    @classmethod
    def of(
        cls,
        readings: Float[np.ndarray, "N D"],
        exploited: Bool[np.ndarray, " N"],
        positive: Bool[np.ndarray, " N"],
        oracle: Float[np.ndarray, " D"] | None,
        keep_quantile: float,
        route_quantile: float,
    ) -> "Judged":
        distinct, index = np.unique(readings, axis=0, return_inverse=True)
        flags = EXPLOITED * exploited + POSITIVE * positive
        return cls(np.ascontiguousarray(distinct.T), index, flags, oracle, keep_quantile, route_quantile)

    def counts(self, population: str) -> tuple[int, int]:
        """Rollouts and exploits."""
        chosen = self.flags if population == "all" else self.flags[self.flags >= POSITIVE]
        return len(chosen), int((chosen & EXPLOITED).sum())


def measure(judged: Judged, directions: Float[np.ndarray, "B D"]) -> Float[np.ndarray, "2 metrics B"]:
    """Each metric of each direction's scores, on each population; NaN where it has one class only.

    The cosine with the oracle has nothing to do with rollouts. It is with `all`, and NaN elsewhere and without an oracle.
    """
    found = np.full((len(POPULATIONS), len(METRICS), len(directions)), np.nan)
    ordered = descending(product(directions, judged.distinct)[:, judged.index], judged.flags)
    for p, population in enumerate(POPULATIONS):
        n, positives = judged.counts(population)
        if 0 < positives < n:
            for k, row in enumerate(ordered):
                chosen = row if population == "all" else row[(row & POSITIVE) > 0]
                found[p, :-1, k] = tail_metrics(chosen, positives, judged.keep_quantile, judged.route_quantile)
    if judged.oracle is not None:
        lengths = np.linalg.norm(directions, axis=1) * np.linalg.norm(judged.oracle)
        found[0, -1] = product(directions, judged.oracle[:, None])[:, 0] / lengths
    return found


def stream(
    judged: Judged, draws: int, block: Callable[[int, int], np.ndarray], memory_mb: int
) -> Float[np.ndarray, "2 metrics K"]:
    """`measure` of `draws` directions, which block(first, count) makes, with at most `memory_mb` megabytes of scores at once."""
    fit = int(memory_mb * 1e6 / (BYTES * len(judged.index)))
    if fit < TILE:
        least = ceil(TILE * BYTES * len(judged.index) / 1e6)
        found = f"offline.memory_mb is {memory_mb}, but {TILE} directions of {len(judged.index)} rollouts need {least}"
        raise InputError(f"{found}; raise it")
    size = fit // TILE * TILE
    parts = [measure(judged, block(first, min(size, draws - first))) for first in range(0, draws, size)]
    return np.concatenate([np.empty((len(POPULATIONS), len(METRICS), 0)), *parts], axis=2)
