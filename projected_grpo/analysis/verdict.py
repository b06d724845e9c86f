"""The contents of verdict.json: the claims first, then what they rest on."""

import dataclasses
from collections.abc import Collection

import numpy as np

from projected_grpo.analysis import effects
from projected_grpo.analysis.campaign import Campaign
from projected_grpo.analysis.claims import LESS, VALUE, Judgement, judge
from projected_grpo.analysis.contrast import FEWEST, contrast, estimate, sensitivity
from projected_grpo.analysis.plan import Claim, Plan, Secondary
from projected_grpo.analysis.power import detectable, power
from projected_grpo.prompts.modes import in_order

DIGITS = 8
SHARES = ("qmass", "keep_share", "route_share", "keep_exploits", "absorb_exploits", "route_exploits")  # of the table cells


def verdict(campaign: Campaign, plan_sha256: str, covered: Collection[str]) -> dict:
    """covered: modes with pairs."""
    plan = campaign.plan
    secondary = _secondary(campaign, covered)
    judged = judge(plan, campaign.pairs, len(campaign.missing))
    ended = campaign.cells.filter(campaign.cells["diverged_at_step"].is_not_null())
    return _rounded(
        {
            "claims": [_claim(campaign, claim, found, secondary, covered) for claim, found in zip(plan.claims, judged, strict=True)],
            "secondary": secondary,
            "arms": [_arm(campaign, arm) for arm in plan.arms if not campaign.cells.filter(arm=arm).is_empty()],
            "modes": _modes(campaign, covered),
            "base": campaign.base,
            "plan_sha256": plan_sha256,
            "seeds": campaign.cells["seed"].unique().sort().to_list(),
            "not_run": [seed for seed in plan.seeds if seed not in set(campaign.cells["seed"])],
            "missing": [{"arm": arm, "seed": seed} for arm, seed in campaign.missing],
            "ended": ended.select("arm", "seed", "diverged_at_step").to_dicts(),
        }
    )


def _claim(campaign: Campaign, claim: Claim, found: Judgement, secondary: list[dict], covered: Collection[str]) -> dict:
    """The judgement, the contrast with each arm that the method is held against, and contrasts beside the claim."""
    reference = campaign.plan.reference
    beside = [(claim.method, claim.random)] if claim.random not in claim.better_than else []
    beside += [(claim.placebo, reference), (claim.random, reference)]
    return {
        **dataclasses.asdict(found),
        "selective": found.wording not in (VALUE, LESS) and _selective(claim, campaign.plan, secondary),
        "placebo": claim.placebo,
        "random": claim.random,
        "reference": reference,
        **{name: _hack(campaign, claim, modes) for name, modes in _split(campaign, covered).items()},
        "against": [_against(campaign, claim, other) for other in claim.better_than],
        "beside": [found for arms in beside if (found := _contrast(campaign, *arms))],
    }


def _split(campaign: Campaign, covered: Collection[str]) -> dict[str, list[str]]:
    """The modes that were shown: those with pairs, and those without."""
    shown = in_order(campaign.outcomes["shown_mode"])
    return {"covered": [mode for mode in shown if mode in covered], "uncovered": [mode for mode in shown if mode not in covered]}


def _hack(campaign: Campaign, claim: Claim, modes: Collection[str]) -> dict | None:
    """The difference of hack rates from the reference on the problems of some modes."""
    arms = (claim.method, campaign.plan.reference)
    found = contrast(campaign.pairs(*arms, modes), *arms, campaign.plan.alpha)
    return None if found is None else dataclasses.asdict(found.hack)


def _selective(claim: Claim, plan: Plan, secondary: list[dict]) -> bool:
    """Whether the method differs from the reference by less on modes without pairs, in the secondary family."""
    of = [test for test in secondary if (test["kind"], test["first"], test["second"]) == ("interaction", claim.method, plan.reference)]
    return any(test["p_holm"] is not None and test["p_holm"] <= plan.alpha and test["mean"] < 0.0 for test in of)


def _against(campaign: Campaign, claim: Claim, other: str) -> dict:
    plan, pairs = campaign.plan, campaign.pairs(claim.method, other)
    found = contrast(pairs, claim.method, other, plan.alpha)
    if found is None:
        return {"first": claim.method, "second": other, "seeds": len(pairs.seeds), "hack": None, "solve": None, "sensitivity": None, "power": None}
    margin = plan.margins.reference if other == plan.reference else plan.margins.placebo
    able = {
        "level": plan.first_level,
        "difference": margin,
        "power": power(margin, found.hack.spread, found.seeds, plan.first_level),
        "detectable": detectable(found.hack.spread, found.seeds, plan.first_level, plan.power_wanted),
    }
    return {**dataclasses.asdict(found), "sensitivity": dataclasses.asdict(sensitivity(pairs, claim.method, other, plan)), "power": able}


def _contrast(campaign: Campaign, first: str, second: str) -> dict | None:
    found = contrast(campaign.pairs(first, second), first, second, campaign.plan.alpha)
    return None if found is None else dataclasses.asdict(found)


def _secondary(campaign: Campaign, covered: Collection[str]) -> list[dict]:
    """Each test with its two-sided p-value, adjusted over all that the plan names; one without runs counts as a p-value of 1."""
    rows = [_test(campaign, test, covered) for test in campaign.plan.secondary]
    adjusted = effects.holm([1.0 if row["p"] is None else row["p"] for row in rows])
    return [row | {"p_holm": None if row["p"] is None else p} for row, p in zip(rows, adjusted)]


def _test(campaign: Campaign, test: Secondary, covered: Collection[str]) -> dict:
    plan, arms = campaign.plan, (test.first, test.second)
    named = {"kind": test.kind, "first": test.first, "second": test.second}
    if test.kind == "interaction":
        parts = [campaign.pairs(*arms, modes) for modes in _split(campaign, covered).values()]
        by_part = [effects.differences(pairs.totals())[:, 0] for pairs in parts]
        values = np.subtract(*by_part) if all(len(part) for part in by_part) else np.empty(0)
    else:
        values = effects.differences(campaign.pairs(*arms).totals())[:, 0]
    if len(values) < FEWEST:
        return named | {"seeds": len(values), "mean": None, "low": None, "high": None, "p": None}
    found = estimate(values, plan.alpha)
    p = effects.two_sided(values)
    if test.kind == "equivalence":
        margin = plan.margins.placebo
        p = min(1.0, 2 * max(effects.p_less(values, margin), effects.p_greater(values, -margin)))
    return named | {"seeds": len(values), "mean": found.mean, "low": found.low, "high": found.high, "p": p}


def _arm(campaign: Campaign, arm: str) -> dict:
    """Each run's rates in the order of `seeds`, the arm's zones, and its difference from the reference."""
    runs = campaign.cells.filter(arm=arm)
    return {
        "arm": arm,
        "uses_ground_truth": bool(runs["uses_ground_truth"].any()),
        "seeds": runs["seed"].to_list(),
        "draws": runs["draw"].to_list(),
        "hack_rates": campaign.rates(arm, "exploited"),
        "hack_rates_as_trained": runs["hack_rate_as_trained"].to_list(),
        "solve_rates": campaign.rates(arm, "correct"),
        "solve_rates_unhinted": runs["solve_rate_unhinted"].to_list(),
        **{name: runs[name].to_list() for name in SHARES},
        "from_reference": None if arm == campaign.plan.reference else _contrast(campaign, arm, campaign.plan.reference),
    }


def _modes(campaign: Campaign, covered: Collection[str]) -> list[dict]:
    """Deployed hack rate of each arm on the problems of each mode, by run, and the difference from the reference."""
    plan, rows = campaign.plan, []
    for arm in (arm for arm in plan.arms if not campaign.cells.filter(arm=arm).is_empty()):
        for mode in in_order(campaign.outcomes["shown_mode"]):
            rates = campaign.rates(arm, "exploited", [mode])
            net = contrast(campaign.pairs(arm, plan.reference, [mode]), arm, plan.reference, plan.alpha)
            difference = None if net is None or arm == plan.reference else dataclasses.asdict(net.hack)
            rows.append({"arm": arm, "mode": mode, "covered": mode in covered, "hack_rates": rates, "from_reference": difference})
    return rows


def _rounded(value):
    """Floats to DIGITS digits, so that the last bit of another machine's arithmetic changes nothing."""
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value
