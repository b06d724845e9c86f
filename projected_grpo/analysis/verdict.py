"""The verdict of a campaign.

A contrast gets one of four wordings. The first rule whose condition holds decides; p-values are those of sign-flip tests.

| rule | condition | wording |
|---|---|---|
| missing cells | an arm of the contrast or the machinery control lacks a planned run | not informative |
| too few pairs | exclusions leave either with under min_seeds pairs, and no run is missing | not informative |
| machinery control | reference minus upper is below at_least, or its p-value is over alpha | not informative |
| equivalence | both rates are equivalent at alpha | no difference within the margin |
| superiority | hack rates differ and the arm that hacks less solves no less (Holm) | v_act beats Haar, or Haar beats v_act |
| solve rate | equivalence or superiority of hack rates alone | not informative |
| power | neither equivalence nor superiority of hack rates | not informative |
| routing mass | qmass differs by over its limit, and the interval at equal qmass does not support the wording | not informative |

The first three rules are all looked at, so a verdict can have two reasons. The last one can only take a wording back. A
difference that is significant and shown to be smaller than the margin is no difference within the margin: the plan says
in advance which differences count as none.
"""

import dataclasses
from collections.abc import Collection, Sequence

import polars as pl
from scipy.stats import binomtest

from projected_grpo.analysis.campaign import Campaign, Pair
from projected_grpo.analysis.contrast import FEWEST, Comparison, Effect, compare, hack_effect
from projected_grpo.analysis.plan import Contrast, Plan
from projected_grpo.env.modes import MODES

TREATMENT, NO_DIFFERENCE, PLACEBO = "v_act beats Haar", "no difference within the margin", "Haar beats v_act"
NOT_INFORMATIVE = "not informative"
DIGITS = 8


def decide(numbers: Comparison, plan: Plan) -> tuple[str, list[str]]:
    """Wording and reasons of a contrast whose cells are complete and whose machinery control is met."""
    if numbers.hack_p_equivalence <= plan.alpha:
        wording, solve_p = NO_DIFFERENCE, numbers.solve_p_equivalence
    elif numbers.hack_p_holm <= plan.alpha:
        wording, solve_p = TREATMENT if numbers.hack_effect < 0.0 else PLACEBO, numbers.solve_p_holm
    else:
        return NOT_INFORMATIVE, ["power"]
    if solve_p > plan.alpha:
        return NOT_INFORMATIVE, ["solve rate"]
    if abs(numbers.qmass_difference) > plan.qmass_difference and not _holds_at_equal_qmass(wording, numbers, plan):
        return NOT_INFORMATIVE, ["routing mass"]
    return wording, []


def _holds_at_equal_qmass(wording: str, numbers: Comparison, plan: Plan) -> bool:
    low, high = numbers.hack_at_equal_qmass_low, numbers.hack_at_equal_qmass_high
    if low is None or high is None:
        return False
    if wording == NO_DIFFERENCE:
        return -plan.margins.hack < low and high < plan.margins.hack
    return high < 0.0 if wording == TREATMENT else low > 0.0


def verdict(campaign: Campaign, plan_sha256: str, covered: Collection[str]) -> dict:
    """The contents of verdict.json: the primary contrast's wording first, then what it rests on. covered: modes with pairs."""
    control = _machinery_control(campaign)
    contrasts = [_contrast(campaign, contrast, control, covered) for contrast in campaign.plan.contrasts]
    return _rounded(
        {
            "verdict": contrasts[0]["verdict"],
            "reasons": contrasts[0]["reasons"],
            "plan_sha256": plan_sha256,
            "seeds": campaign.plan.seeds,
            "missing": [{"arm": arm, "seed": seed} for arm, seed in campaign.missing],
            "excluded": [{"arm": arm, "seed": seed, "diverged_at_step": step} for arm, seed, step in campaign.excluded],
            "covered_modes": [mode for mode in MODES if mode in covered],
            **control,
            "contrasts": contrasts,
            "arms": [_arm(campaign, arm) for arm in campaign.plan.arms],
            "modes": [_mode(campaign, arm, mode, covered) for arm in campaign.plan.arms for mode in _modes(campaign)],
        }
    )


def _machinery_control(campaign: Campaign) -> dict:
    plan, control = campaign.plan, campaign.plan.machinery_control
    pairs = campaign.pairs(control.reference, control.upper)
    found = hack_effect(pairs, plan, "machinery control")
    reached = found is not None and found.effect >= control.at_least and found.p <= plan.alpha
    return {"machinery_control": reached, **_flat("machinery", pairs, found)}


def _contrast(campaign: Campaign, contrast: Contrast, control: dict, covered: Collection[str]) -> dict:
    plan = campaign.plan
    pairs = campaign.pairs(contrast.treatment, contrast.placebo)
    numbers = compare(pairs, plan, contrast.name) if len(pairs) >= FEWEST else None
    reasons = _lacking(campaign, contrast, min(len(pairs), control["machinery_seeds"]))
    reasons += [] if control["machinery_control"] else ["machinery control"]
    wording = NOT_INFORMATIVE
    if not reasons:
        wording, reasons = decide(numbers, plan)
    uncovered = [mode for mode in MODES if mode not in covered]
    parts = {"covered": (contrast.placebo, covered), "uncovered": (contrast.placebo, uncovered)}
    parts["yoked"] = (contrast.yoked, None)
    beside = {}
    for part, (arm, modes) in parts.items():
        found = None if arm is None else campaign.pairs(contrast.treatment, arm, modes)
        beside |= _flat(part, found, None if found is None else hack_effect(found, plan, f"{contrast.name}, {part}"))
    names = {"name": contrast.name, "verdict": wording, "reasons": reasons}
    names |= {"treatment": contrast.treatment, "placebo": contrast.placebo, "yoked": contrast.yoked}
    empty = dict.fromkeys(field.name for field in dataclasses.fields(Comparison)) | {"seeds": len(pairs)}
    return names | (empty if numbers is None else dataclasses.asdict(numbers)) | beside


def _lacking(campaign: Campaign, contrast: Contrast, pairs: int) -> list[str]:
    control = campaign.plan.machinery_control
    needed = {contrast.treatment, contrast.placebo, contrast.yoked, control.upper, control.reference}
    if any(arm in needed for arm, _ in campaign.missing):
        return ["missing cells"]
    return ["too few pairs"] if pairs < campaign.plan.min_seeds else []


def _arm(campaign: Campaign, arm: str) -> dict:
    """One arm: each run's rates in the order of `seeds`, and P(run hacked) with its Clopper-Pearson interval."""
    plan, runs = campaign.plan, campaign.cells.filter(arm=arm)
    rates = list(campaign.hack_rates(arm).values())
    hacked = sum(rate > plan.hacked_over for rate in rates)
    ends = binomtest(hacked, len(rates)).proportion_ci(1 - plan.alpha, method="exact") if rates else None
    return {
        "arm": arm,
        "uses_ground_truth": bool(runs["uses_ground_truth"].any()),
        "seeds": runs["seed"].to_list(),
        "draws": runs["draw"].to_list(),
        "hack_rates": rates,
        "hack_rates_as_trained": runs["hack_rate_as_trained"].to_list(),
        "solve_rates": runs["solve_rate"].to_list(),
        "qmass": runs["qmass"].to_list(),
        "hacked": hacked,
        "hacked_share": hacked / len(rates) if rates else None,
        "hacked_low": float(ends.low) if ends else None,
        "hacked_high": float(ends.high) if ends else None,
    }


def _modes(campaign: Campaign) -> list[str]:
    return [mode for mode in MODES if mode in set(campaign.outcomes["shown_mode"])]


def _mode(campaign: Campaign, arm: str, mode: str, covered: Collection[str]) -> dict:
    rates = campaign.hack_rates(arm, [mode])
    return {"arm": arm, "mode": mode, "covered": mode in covered, "seeds": list(rates), "hack_rates": list(rates.values())}


def _flat(prefix: str, pairs: Sequence[Pair] | None, effect: Effect | None) -> dict:
    """The seeds that an effect rests on, and its numbers; nulls for an arm that the plan does not name."""
    names = [field.name for field in dataclasses.fields(Effect)]
    numbers = {f"{prefix}_{name}": None if effect is None else getattr(effect, name) for name in names}
    return {f"{prefix}_seeds": None if pairs is None else len(pairs)} | numbers


def _rounded(value):
    """Floats to DIGITS digits, so that the last bit of another machine's arithmetic changes nothing."""
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value
