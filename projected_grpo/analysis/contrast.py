"""Every number of one contrast: treatment minus placebo, paired by seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from projected_grpo.analysis import effects
from projected_grpo.analysis.campaign import Pair
from projected_grpo.analysis.plan import Plan
from projected_grpo.analysis.power import detectable_ratio, power
from projected_grpo.seeds import derive_seed

FEWEST = 2  # pairs of which a spread between seeds can be estimated


@dataclass(frozen=True)
class Effect:
    """A difference of deployed hack rates with its percentile interval and its two-sided sign-flip p-value."""

    effect: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Comparison:
    """Rates and qmass are differences, treatment minus placebo; low and high are the ends of a percentile interval."""

    seeds: int
    hack_effect: float
    hack_low: float
    hack_high: float
    hack_p: float  # two-sided: no difference
    hack_p_holm: float  # adjusted for the two co-primaries
    hack_p_equivalence: float  # a difference of at least the margin, on either side
    solve_effect: float
    solve_low: float
    solve_high: float
    solve_p: float  # the arm that hacks less solves less by at least the margin
    solve_p_holm: float
    solve_p_equivalence: float
    p_floor: float  # smallest two-sided p-value of so many seeds
    rank_p: float  # of the treatment's median among the placebo's runs, one-sided
    rank_p_floor: float
    qmass_difference: float
    hack_at_equal_qmass: float | None  # null where the qmass differences do not vary
    hack_at_equal_qmass_low: float | None
    hack_at_equal_qmass_high: float | None
    spread: float  # standard deviation between seeds of the difference of hack rates
    smallest_detectable: float | None  # difference of hack rates that has the power wanted; null where none has
    power_at_margin: float


def compare(pairs: Sequence[Pair], plan: Plan, name: str) -> Comparison:
    """`name` names the bootstrap's random stream. At least FEWEST pairs."""
    observed = effects.paired(pairs)
    hack, solve = observed.T
    qmass = np.array([pair.qmass for pair in pairs])
    drawn, drawn_qmass = effects.bootstrap(pairs, plan.bootstrap_draws, derive_seed(0, "bootstrap", name))
    hack_low, hack_high = effects.interval(drawn[..., 0].mean(axis=-1), plan.alpha)
    solve_low, solve_high = effects.interval(drawn[..., 1].mean(axis=-1), plan.alpha)
    adjusted = effects.at_equal_qmass(hack, qmass)
    adjusted_ends = (None, None)
    if not np.isnan(adjusted):
        adjusted_ends = effects.interval(effects.at_equal_qmass(drawn[..., 0], drawn_qmass), plan.alpha)
    hack_p = _p(hack, "two-sided")
    winner = solve if hack.mean() <= 0.0 else -solve  # solve rate of the arm that hacks less, minus the other's
    solve_p = _p(winner + plan.margins.solve, "greater")
    hack_p_holm, solve_p_holm = effects.holm([hack_p, solve_p])
    rates = np.stack([_hack_rates(pair) for pair in pairs])
    spread, level = float(hack.std(ddof=1)), plan.alpha / 2
    ratio = detectable_ratio(len(pairs), level, plan.power_wanted)
    return Comparison(
        seeds=len(pairs),
        hack_effect=float(hack.mean()),
        hack_low=hack_low,
        hack_high=hack_high,
        hack_p=hack_p,
        hack_p_holm=hack_p_holm,
        hack_p_equivalence=_p_equivalence(hack, plan.margins.hack),
        solve_effect=float(solve.mean()),
        solve_low=solve_low,
        solve_high=solve_high,
        solve_p=solve_p,
        solve_p_holm=solve_p_holm,
        solve_p_equivalence=_p_equivalence(solve, plan.margins.solve),
        p_floor=effects.smallest_p(len(pairs)),
        rank_p=effects.rank_p(rates[:, 0], rates[:, 1]),
        rank_p_floor=1.0 / (len(pairs) + 1),
        qmass_difference=float(qmass.mean()),
        hack_at_equal_qmass=None if np.isnan(adjusted) else float(adjusted),
        hack_at_equal_qmass_low=adjusted_ends[0],
        hack_at_equal_qmass_high=adjusted_ends[1],
        spread=spread,
        smallest_detectable=None if ratio is None else ratio * spread,
        power_at_margin=power_against(plan.margins.hack, spread, len(pairs), level),
    )


def power_against(difference: float, spread: float, seeds: int, level: float) -> float:
    """Power at one difference of hack rates. The level is alpha / 2: what Holm asks for whatever the solve rate does."""
    if spread == 0.0:
        return float(effects.smallest_p(seeds) <= level)
    return power(difference / spread, seeds, level)


def hack_effect(pairs: Sequence[Pair], plan: Plan, name: str) -> Effect | None:
    """The difference of hack rates alone; None with fewer than FEWEST pairs."""
    if len(pairs) < FEWEST:
        return None
    hack = effects.paired(pairs)[:, 0]
    drawn, _ = effects.bootstrap(pairs, plan.bootstrap_draws, derive_seed(0, "bootstrap", name))
    low, high = effects.interval(drawn[..., 0].mean(axis=-1), plan.alpha)
    return Effect(float(hack.mean()), low, high, _p(hack, "two-sided"))


def _p(differences: np.ndarray, alternative: str) -> float:
    return float(effects.sign_flip_p(differences, alternative))


def _p_equivalence(differences: np.ndarray, margin: float) -> float:
    """Two one-sided tests: the difference lies below the margin and above minus the margin."""
    return max(_p(differences - margin, "less"), _p(differences + margin, "greater"))


def _hack_rates(pair: Pair) -> np.ndarray:
    """(2,) of the first and the second run."""
    judged, exploited, _ = pair.counts.sum(axis=0).T
    return exploited / judged
