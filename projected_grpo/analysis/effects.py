"""Differences of two arms, paired by seed: the exact sign-flip test, the interval that inverts it, and what stands beside it.

S seeds; a difference is one seed's rate in the first arm minus its rate in the second. Under exchangeable arms each is as
likely with either sign. Flipping the seeds of a subset reaches the observed mean where the mean of the subset lies on the other
side of the hypothesis, so p-values and limits are both read off the means of the 2^S - 1 subsets that are not empty.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from jaxtyping import Float
from scipy.stats import ttest_1samp

from projected_grpo.analysis.campaign import Pairs

ROUNDING = 1e-12  # of a mean of rates: equal means may differ by so much


@cache
def subsets(seeds: int) -> Float[np.ndarray, "N S"]:
    """Weights of the mean over each subset of the seeds that is not empty, N = 2^S - 1."""
    chosen = (np.arange(1, 2**seeds)[:, None] >> np.arange(seeds)) & 1
    return chosen / chosen.sum(axis=1, keepdims=True)


def p_less(differences: Float[np.ndarray, " S"], than: float = 0.0) -> float:
    """One-sided exact p-value that the mean difference is less than `than`. Its smallest value is 1 / 2^S."""
    return p_greater(-differences, -than)


def p_greater(differences: Float[np.ndarray, " S"], than: float = 0.0) -> float:
    """One-sided exact p-value that the mean difference is greater than `than`."""
    means = subsets(len(differences)) @ differences
    return float(1 + np.sum(means <= than + ROUNDING)) / (len(means) + 1)


def two_sided(differences: Float[np.ndarray, " S"]) -> float:
    return min(1.0, 2 * min(p_less(differences), p_greater(differences)))


def interval(differences: Float[np.ndarray, " S"], alpha: float) -> tuple[float, float] | tuple[None, None]:
    """The means that neither one-sided test rejects at alpha / 2; no limits where no p-value of so few seeds is as small."""
    rejected = smallest_rejections(len(differences), alpha / 2)
    if rejected == 0:
        return None, None
    means = np.sort(subsets(len(differences)) @ differences)
    return float(means[rejected - 1]), float(means[-rejected])


def smallest_rejections(seeds: int, level: float) -> int:
    """Patterns, the observed one among them, that may reach the observed mean for a one-sided p-value of at most `level`."""
    return int(level * 2**seeds + ROUNDING)


def t_interval(differences: Float[np.ndarray, " S"], alpha: float) -> tuple[float, float]:
    if np.ptp(differences) <= ROUNDING:
        return float(differences[0]), float(differences[0])
    low, high = ttest_1samp(differences, 0.0).confidence_interval(1 - alpha)
    return float(low), float(high)


def crossed_bootstrap(pairs: Pairs, draws: int, seed: int, alpha: float) -> Float[np.ndarray, "2 2"]:
    """Percentile interval of the mean difference of the hack and of the solve rate: [hack, solve] x [low, high].

    Seeds and problems are drawn independently, with the same problems in every seed, because the seeds share them.
    """
    rng = np.random.default_rng(seed)
    _, problems, *_ = pairs.counts.shape
    times = rng.multinomial(problems, np.full(problems, 1 / problems), size=draws).astype(float)
    totals = np.tensordot(times, pairs.counts, axes=(1, 1))  # draws, seeds, runs, counts
    with np.errstate(invalid="ignore"):  # a draw without a judged sample of some run is left out below
        drawn = differences(totals)
    chosen = rng.multinomial(len(pairs.seeds), np.full(len(pairs.seeds), 1 / len(pairs.seeds)), size=draws) / len(pairs.seeds)
    means = np.einsum("ds,dsk->dk", chosen, drawn)
    return np.nanquantile(means, [alpha / 2, 1 - alpha / 2], axis=0).T


def differences(counts: Float[np.ndarray, "... 2 3"]) -> Float[np.ndarray, "... 2"]:
    """Judged, exploited and correct samples of two runs -> difference of their hack and of their solve rates."""
    rates = counts[..., 1:] / counts[..., :1]
    return rates[..., 0, :] - rates[..., 1, :]


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p-values in the order given (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    scaled = np.asarray(p)[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted.tolist()
