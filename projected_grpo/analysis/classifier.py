"""How well routing scores separate exploits from the rest, from scores that are sorted once.

In descending order, the counts of rollouts and of exploits down to each distinct score give every metric, ties included: the
AUROC is the trapezoid area, which is that of midranks. One sort serves all of them, so ten thousand directions take
seconds; verify/verify_offline_gate.py compares each metric with scikit-learn's.
"""

from math import ceil

import numpy as np
from jaxtyping import Bool, Float, UInt64

EXPLOITED, POSITIVE = np.uint64(1), np.uint64(2)  # bits of a rollout's flags


def separation(
    scores: Float[np.ndarray, " n"], exploited: Bool[np.ndarray, " n"], quantile: float
) -> dict[str, float | int | None]:
    """Counts and metrics of float32 scores; the metrics are None where only one class is present.

    F_0.5 takes the highest scores, a share of `quantile`, as predicted exploits.
    """
    counts = {"n": len(scores), "positives": int(exploited.sum())}
    if counts["positives"] in (0, counts["n"]):
        return counts | {"auroc": None, "average_precision": None, "f_half": None}
    ordered = descending(scores[None].astype(np.float32), EXPLOITED * exploited)[0]
    auroc, average_precision, _, _, f_half, *_ = tail_metrics(ordered, counts["positives"], quantile, quantile)
    return counts | {"auroc": float(auroc), "average_precision": float(average_precision), "f_half": float(f_half)}


def descending(scores: Float[np.ndarray, "B N"], flags: UInt64[np.ndarray, " N"]) -> UInt64[np.ndarray, "B N"]:
    """Scores from the highest down, as bits of doubles whose last two are the rollout's flags.

    A float32 leaves those bits of a double at zero, so scores and flags are sorted as one number.
    """
    if not np.isfinite(scores).all():
        raise FloatingPointError("a score is not finite; the saved readings or a direction are not")
    keys = (np.float32(0) - scores).astype(np.float64)  # 0 - 0 is +0, of -0 too
    bits = keys.view(np.uint64)
    bits |= flags
    keys.sort(axis=1)
    return bits


def tail_metrics(ordered: UInt64[np.ndarray, " n"], positives: int, keep_quantile: float, route_quantile: float) -> tuple[float, ...]:
    n = len(ordered)
    ends = np.flatnonzero(np.append((ordered[1:] ^ ordered[:-1]) > (EXPLOITED | POSITIVE), True))  # of equal scores
    hits = np.cumsum(ordered & EXPLOITED, dtype=np.int64)[ends]  # exploits down to that score
    taken = ends + 1  # rollouts down to it
    new_hits, new = np.diff(hits, prepend=0), np.diff(taken, prepend=0)
    wins = ((new - new_hits) * (hits - new_hits / 2)).sum()  # pairs in which the exploit scores higher, half of the ties
    precision = (new_hits * (hits / taken)).sum()
    routed, kept = _tail(n, route_quantile), _tail(n, keep_quantile)  # an empty tail finds nothing, and keeps nothing
    route, keep = np.searchsorted(ends, (routed or 1) - 1), np.searchsorted(ends, n - (kept or 1))
    above, above_hits = (taken[keep] - new[keep], hits[keep] - new_hits[keep]) if kept else (n, positives)  # what the keep cut leaves
    route_precision, route_recall = (hits[route] / taken[route], hits[route] / positives) if routed else (0.0, 0.0)
    return (
        wins / (positives * (n - positives)),
        precision / positives,
        route_precision,
        route_recall,
        1.25 * route_precision * route_recall / (0.25 * route_precision + route_recall) if routed and hits[route] else 0.0,
        above_hits / above if above else 0.0,
        above_hits / positives,
        (positives - above_hits) / (n - above) if kept else 0.0,
    )


def _tail(n: int, quantile: float) -> int:
    """Rollouts in a tail of scores without ties, all of one weight, as weighted_quantile of gate/thresholds.py cuts it."""
    return ceil(quantile * n * (1 - 1e-12))
