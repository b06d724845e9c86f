"""Power of the exact sign-flip test against a difference that is the same in every seed but for normal noise.

Let z be the noise of S seeds in units of its standard deviation and r the difference in the same units. A pattern that
flips the seeds of a subset reaches the observed mean where the mean of z over that subset is at most -r. So a
campaign is rejected in the right direction from a ratio of its own on, which is read off the sorted subset means.
"""

from functools import cache
from itertools import product

import numpy as np

from projected_grpo.seeds import derive_seed

CAMPAIGNS = 2000  # simulated; a power has a standard error of at most 0.011


def power(ratio: float, seeds: int, level: float) -> float:
    """Probability of a two-sided p-value of at most `level` with the sign of the difference.

    ratio: size of the difference over its standard deviation between seeds.
    """
    return float(np.mean(critical_ratios(seeds, level) < ratio))


def detectable_ratio(seeds: int, level: float, wanted: float) -> float | None:
    """The smallest ratio with power `wanted`; None where no p-value of so few seeds is as small as `level`."""
    ratio = float(np.quantile(critical_ratios(seeds, level), wanted, method="inverted_cdf"))
    return None if np.isinf(ratio) else ratio


@cache
def critical_ratios(seeds: int, level: float) -> np.ndarray:
    """(CAMPAIGNS,) of each simulated campaign, the ratio above which it is rejected."""
    rejected = int(level / 2 * 2**seeds)  # patterns, the observed one among them, that may reach the observed mean
    if rejected == 0:
        return np.full(CAMPAIGNS, np.inf)
    subsets = np.array(list(product((0.0, 1.0), repeat=seeds)))[1:]
    means = subsets / subsets.sum(axis=1, keepdims=True)
    noise = np.random.default_rng(derive_seed(0, "power", seeds)).standard_normal((CAMPAIGNS, seeds))
    return np.array([-np.partition(means @ campaign, rejected - 1)[rejected - 1] for campaign in noise])
