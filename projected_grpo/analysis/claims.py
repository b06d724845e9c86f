"""The claims of a campaign as intersection-union tests, and the wording of each.

A claim holds where all its parts do: the method hacks less than each arm that it is held against, and solves no less than any of
them by the margin. Its p-value is the largest of its parts, one-sided; Holm's method goes over the claims. D is the
difference of hack rates from the reference, with its interval. The first wording whose condition is met is the claim's:

| condition | wording |
|---|---|
| the claim holds, D at most minus the margin | the direction adds value |
| the claim holds, D above minus the margin | the direction adds less than the margin |
| the interval of D lies within the margin | the direction adds nothing net; and Haar harms, where the placebo minus the reference is above 0 |
| the interval of D lies above 0 | the direction harms |
| otherwise | not informative, with its reasons |
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from projected_grpo.analysis import effects
from projected_grpo.analysis.campaign import Pairs
from projected_grpo.analysis.contrast import Contrast, contrast
from projected_grpo.analysis.plan import Claim, Plan

VALUE, LESS = "the direction adds value", "the direction adds less than the margin"
NOTHING, HARMS = "the direction adds nothing net", "the direction harms"
NOT_INFORMATIVE = "not informative"
AND_PLACEBO_HARMS = ", and Haar harms"
WORDINGS = (VALUE, LESS, NOTHING, NOTHING + AND_PLACEBO_HARMS, HARMS, NOT_INFORMATIVE)
PairsOf = Callable[[str, str], Pairs]


@dataclass(frozen=True)
class Part:
    rate: str  # hack | solve
    against: str  # the other arm
    p: float  # one-sided


@dataclass(frozen=True)
class Judgement:
    """A claim with what was found of it."""

    name: str
    method: str
    seeds: int  # the fewest of its parts
    parts: list[Part]
    p: float | None  # the largest of the parts; null where runs are missing or seeds are too few
    p_holm: float | None
    holds: bool
    wording: str
    reasons: list[str]


def judge(plan: Plan, pairs: PairsOf, missing: int) -> list[Judgement]:
    """All claims of the plan; pairs: arms -> their pairs of runs; missing: runs that blocks which were begun lack."""
    tested = [_parts(claim, plan, pairs) for claim in plan.claims]
    p = [max((part.p for part in parts), default=1.0) for parts, _ in tested]
    return [
        _judgement(claim, plan, pairs, *found, holm, missing)
        for claim, found, holm in zip(plan.claims, tested, effects.holm(p), strict=True)
    ]


def _parts(claim: Claim, plan: Plan, pairs: PairsOf) -> tuple[list[Part], int]:
    """The parts, none where seeds are too few, and how many seeds there are."""
    found = {other: pairs(claim.method, other) for other in claim.better_than}
    seeds = min(len(pair.seeds) for pair in (*found.values(), pairs(claim.placebo, plan.reference)))
    if seeds < plan.min_seeds:
        return [], seeds
    parts = []
    for other, pair in found.items():
        hack, solve = effects.differences(pair.totals()).T
        parts += [Part("hack", other, effects.p_less(hack)), Part("solve", other, effects.p_greater(solve, -plan.margins.solve))]
    return parts, seeds


def _judgement(claim: Claim, plan: Plan, pairs: PairsOf, parts: Sequence[Part], seeds: int, p_holm: float, missing: int) -> Judgement:
    lacking = [f"{missing} runs are missing"] if missing else []
    lacking += [] if parts else [f"{seeds} of {plan.min_seeds} seeds"]
    if lacking:
        return Judgement(claim.name, claim.method, seeds, list(parts), None, None, False, NOT_INFORMATIVE, lacking)
    holds = p_holm <= plan.alpha / 2
    reference = contrast(pairs(claim.method, plan.reference), claim.method, plan.reference, plan.alpha)
    placebo = contrast(pairs(claim.placebo, plan.reference), claim.placebo, plan.reference, plan.alpha)
    wording = worded(holds, reference, placebo, plan)
    reasons = [f"{part.rate} rate against {part.against}" for part in parts if part.p > plan.first_level] if not holds else []
    p = max(part.p for part in parts)
    return Judgement(claim.name, claim.method, seeds, list(parts), p, p_holm, holds, wording, reasons)


def worded(holds: bool, reference: Contrast, placebo: Contrast, plan: Plan) -> str:
    """reference: method minus reference; placebo: placebo minus reference."""
    margin, net = plan.margins.reference, reference.hack
    if holds:
        return VALUE if net.mean <= -margin else LESS
    if net.within(margin):
        return NOTHING + (AND_PLACEBO_HARMS if placebo.hack.above(0.0) else "")
    return HARMS if net.above(0.0) else NOT_INFORMATIVE
