"""Power of the one-sided exact sign-flip test against a difference that is the same in every seed but for normal noise.

Let z be the noise of S seeds in units of its standard deviation and r the difference in the same units. A pattern that
flips the seeds of a subset reaches the observed mean where the mean of z over that subset is at most -r. So a
campaign is rejected from a ratio of its own on, which is read off the sorted subset means.
"""

from functools import cache

import numpy as np

from projected_grpo.analysis.effects import smallest_rejections, subsets
from projected_grpo.core.seeds import derive_seed

CAMPAIGNS = 2000  # simulated; a power has a standard error of at most 0.011


def power(difference: float, spread: float, seeds: int, level: float) -> float:
    """Probability of a one-sided p-value of at most `level`.

    spread: standard deviation of the differences between seeds.
    """
    if spread == 0.0:
        return float(smallest_rejections(seeds, level) > 0)
    return float(np.mean(critical_ratios(seeds, level) < difference / spread))


def detectable(spread: float, seeds: int, level: float, wanted: float) -> float | None:
    """The smallest difference with power `wanted`; None where no p-value of so few seeds is as small as `level`."""
    ratio = float(np.quantile(critical_ratios(seeds, level), wanted, method="inverted_cdf"))
    return None if np.isinf(ratio) else ratio * spread


@cache
def critical_ratios(seeds: int, level: float) -> np.ndarray:
    """(CAMPAIGNS,) of each simulated campaign, the ratio above which it is rejected."""
    rejected = smallest_rejections(seeds, level)
    if rejected == 0:
        return np.full(CAMPAIGNS, np.inf)
    noise = np.random.default_rng(derive_seed(0, "power", seeds)).standard_normal((CAMPAIGNS, seeds))
    return np.array([-np.partition(subsets(seeds) @ campaign, rejected - 1)[rejected - 1] for campaign in noise])
