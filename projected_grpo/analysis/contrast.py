"""Every number of one contrast: the first arm minus the second, paired by seed."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from projected_grpo.analysis import effects
from projected_grpo.analysis.campaign import Pairs
from projected_grpo.analysis.plan import Plan
from projected_grpo.core.seeds import derive_seed

FEWEST = 2  # pairs of which a spread between seeds can be estimated


@dataclass(frozen=True)
class Estimate:
    """A mean difference over seeds. p-values are one-sided, of a difference on that side of 0."""

    mean: float
    low: float | None  # limits of the interval that inverts the exact test; null where it has none with so few seeds
    high: float | None
    p_less: float
    p_greater: float
    spread: float  # standard deviation between seeds

    def within(self, margin: float) -> bool:
        return self.low is not None and -margin < self.low and self.high < margin

    def above(self, value: float) -> bool:
        return self.low is not None and self.low > value


@dataclass(frozen=True)
class Contrast:
    """Differences of deployed rates."""

    first: str
    second: str
    seeds: int
    hack: Estimate
    solve: Estimate


@dataclass(frozen=True)
class Sensitivity:
    """The same contrast in other ways: limits by t and by the crossed bootstrap, and other treatments of ended runs."""

    ended: int  # runs of either arm that the tripwire ended
    hack_t: tuple[float, float]
    solve_t: tuple[float, float]
    hack_bootstrap: tuple[float, float]
    solve_bootstrap: tuple[float, float]
    complete_pairs: Contrast | None
    worst_case: Contrast


def estimate(differences: Float[np.ndarray, " S"], alpha: float) -> Estimate:
    low, high = effects.interval(differences, alpha)
    spread = float(differences.std(ddof=1))
    return Estimate(float(differences.mean()), low, high, effects.p_less(differences), effects.p_greater(differences), spread)


def contrast(pairs: Pairs, first: str, second: str, alpha: float) -> Contrast | None:
    """None with fewer than FEWEST pairs."""
    if len(pairs.seeds) < FEWEST:
        return None
    hack, solve = effects.differences(pairs.totals()).T
    return Contrast(first, second, len(pairs.seeds), estimate(hack, alpha), estimate(solve, alpha))


def sensitivity(pairs: Pairs, first: str, second: str, plan: Plan) -> Sensitivity:
    """At least FEWEST pairs."""
    hack, solve = effects.differences(pairs.totals()).T
    drawn = effects.crossed_bootstrap(pairs, plan.bootstrap_draws, derive_seed(0, "bootstrap", first, second), plan.alpha)
    return Sensitivity(
        ended=int(pairs.ended.sum()),
        hack_t=effects.t_interval(hack, plan.alpha),
        solve_t=effects.t_interval(solve, plan.alpha),
        hack_bootstrap=tuple(drawn[0].tolist()),
        solve_bootstrap=tuple(drawn[1].tolist()),
        complete_pairs=contrast(pairs.complete(), first, second, plan.alpha),
        worst_case=contrast(pairs.at_worst(), first, second, plan.alpha),
    )
