"""Effects of an arm, paired by seed: the exact sign-flip test, the two-level bootstrap, the effect at equal qmass.

S seeds; a difference is one seed's rate in the first arm minus its rate in the second. Tests decide and intervals
describe: docs/statistics.md has the measured error rates of both.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import permutation_test

from projected_grpo.analysis.campaign import Pair

DEGENERATE = 1e-12  # variance of qmass differences below which no slope is estimated


def sign_flip_p(differences: np.ndarray, alternative: str) -> np.ndarray | float:
    """Exact p-value of the mean over the last axis, (..., S) -> (...), among all 2^S patterns of signs.

    Under exchangeable arms each seed's difference is as likely with either sign. alternative: less | greater |
    two-sided. The smallest value is `smallest_p(S)` where two-sided and half of it otherwise.
    """
    return permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative=alternative, axis=-1
    ).pvalue


def smallest_p(seeds: int) -> float:
    """The smallest two-sided p-value of the sign-flip test."""
    return 2.0 / 2**seeds


def rank_p(treatment: Sequence[float] | np.ndarray, placebo: Sequence[float] | np.ndarray) -> float:
    """(1 + placebo runs not above the treatment's median) / (1 + K), one-sided for a lower treatment; K placebo runs.

    A single exchangeable run would have a uniform rank; a median is less extreme than one run, so small values are
    rarer than nominal. Its floor is 1/(K + 1).
    """
    return (1 + int(np.sum(np.asarray(placebo) <= np.median(treatment)))) / (1 + len(placebo))


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p-values in the order given (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    scaled = np.asarray(p)[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted.tolist()


def differences(counts: np.ndarray) -> np.ndarray:
    """(..., 2, 3) judged, exploited and correct samples of two runs -> (..., 2) difference of hack and of solve rate."""
    rates = counts[..., 1:] / counts[..., :1]
    return rates[..., 0, :] - rates[..., 1, :]


def paired(pairs: Sequence[Pair]) -> np.ndarray:
    """(S, 2) difference of hack and of solve rate of each seed."""
    return np.stack([differences(pair.counts.sum(axis=0)) for pair in pairs])


def bootstrap(pairs: Sequence[Pair], draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two-level bootstrap: seeds, then problems within each chosen seed, the same problems in both of its runs.

    Returns (draws, S, 2) differences of hack and of solve rate and (draws, S) differences of qmass.
    """
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(pairs), size=(draws, len(pairs)))
    resampled = np.empty((*chosen.shape, 2))
    for place, pair in enumerate(pairs):
        here = chosen == place
        times = _times_drawn(int(here.sum()), len(pair.counts), rng)
        resampled[here] = differences(np.tensordot(times, pair.counts, axes=1))
    return resampled, np.array([pair.qmass for pair in pairs])[chosen]


def _times_drawn(draws: int, problems: int, rng: np.random.Generator) -> np.ndarray:
    """(draws, problems) how often each problem is among as many draws with replacement."""
    drawn = rng.integers(problems, size=(draws, problems)) + problems * np.arange(draws)[:, None]
    return np.bincount(drawn.ravel(), minlength=draws * problems).reshape(draws, problems).astype(float)


def interval(values: np.ndarray, alpha: float) -> tuple[float, float] | tuple[None, None]:
    """Percentile interval of (draws,) values with coverage 1 - alpha. Draws in which nothing is estimated are left out."""
    known = values[~np.isnan(values)]
    if not known.size:
        return None, None
    low, high = np.quantile(known, [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)


def at_equal_qmass(hack: np.ndarray, qmass: np.ndarray) -> np.ndarray | float:
    """Intercept of the regression of (..., S) hack differences on (..., S) qmass differences: the effect at none.

    An analysis of covariance of both arms' runs with a level for each seed gives this same number, because with two
    runs a seed its within-seed contrasts are these differences. Seeds bring their own luck to qmass and hack rate
    alike, so the slope is taken within seeds. NaN where the qmass differences do not vary. Where they are all on one
    side of zero the intercept is an extrapolation, and its interval grows with the distance.
    """
    centred = qmass - qmass.mean(axis=-1, keepdims=True)
    variance = np.mean(centred**2, axis=-1)
    slope = np.mean(centred * hack, axis=-1) / np.where(variance > DEGENERATE, variance, np.nan)
    return hack.mean(axis=-1) - slope * qmass.mean(axis=-1)
