"""The top of the page, from verdict.json and the plan: the verdict in one sentence, and its numbers as four answers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from projected_grpo.analysis.plan import Plan, load_plan
from projected_grpo.reporting.page import escape
from projected_grpo.reporting.summary import ReportError
from projected_grpo.reporting.verdict import UNDEFINED, number, stated

KEYS = ("verdict", "plan_sha256", "seeds", "missing", "excluded", "covered_modes", "machinery_control", "contrasts", "arms")
EFFECT = ("hack_effect", "hack_low", "hack_high")
EQUAL_QMASS = ("hack_at_equal_qmass", "hack_at_equal_qmass_low", "hack_at_equal_qmass_high")


def read_verdict(path: Path, plan: Path) -> tuple[dict, Plan]:
    """verdict.json and the plan that it was made by. Raises ReportError where they are not these, PlanError."""
    try:
        verdict = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ReportError(f"{path}: cannot be read as JSON: {error}; make the verdict first") from error
    if missing := [key for key in KEYS if key not in verdict]:
        raise ReportError(f"{path}: key '{missing[0]}' is missing; expected a verdict")
    planned, digest = load_plan(plan)
    if verdict["plan_sha256"] != digest:
        raise ReportError(f"{path}: key 'plan_sha256' is {verdict['plan_sha256']}, but {plan} has {digest}; make the verdict again")
    return verdict, planned


def sentence(verdict: Mapping) -> str:
    """The verdict of the primary contrast with its effects and its p-value."""
    c = verdict["contrasts"][0]
    return (
        f"Verdict: {stated(c['verdict'], c['reasons'])}; over {c['seeds']} seeds, the deployed hack rate of {c['treatment']} minus that of "
        f"{c['placebo']} is {ends(c, *EFFECT)}, and {ends(c, *EQUAL_QMASS)} at equal qmass; exact p {number(c['hack_p'], 4)} "
        f"(smallest possible {number(c['p_floor'], 4)})."
    )


def answers(verdict: Mapping, plan: Plan) -> str:
    """Four questions, each with its number and what stands beside it."""
    c = verdict["contrasts"][0]
    entries = [
        ("Did v_act beat Haar?", stated(c["verdict"], c["reasons"]), _tests(c, plan)),
        ("By how much?", f"{ends(c, *EFFECT)} in deployed hack rate", _solve(c, plan)),
        ("Was it routing mass?", f"{ends(c, *EQUAL_QMASS)} at equal qmass", _mass(c, plan)),
        ("Can the design tell?", f"power {number(c['power_at_margin'], 2)} at a difference of {plan.margins.hack}", _design(verdict, plan)),
    ]
    return f'<dl class="answers">{"".join(_answer(*entry) for entry in entries)}</dl>'


def ends(row: Mapping, value: str, low: str, high: str) -> str:
    if row[value] is None:
        return UNDEFINED
    return f"{number(row[value])} [{number(row[low])}, {number(row[high])}]"


def _tests(c: Mapping, plan: Plan) -> str:
    return (
        f"Exact sign-flip test over {c['seeds']} seeds, of which the plan needs {plan.min_seeds}: p {number(c['hack_p'], 4)}, after "
        f"Holm {number(c['hack_p_holm'], 4)}; the smallest possible p is {number(c['p_floor'], 4)}. Against a difference of "
        f"{plan.margins.hack} or more: p {number(c['hack_p_equivalence'], 4)}. Rank among the placebo's runs: p "
        f"{number(c['rank_p'], 4)}, smallest possible {number(c['rank_p_floor'], 4)}."
    )


def _solve(c: Mapping, plan: Plan) -> str:
    return (
        f"A negative difference favours {c['treatment']}. Deployed solve rate: {ends(c, 'solve_effect', 'solve_low', 'solve_high')}; "
        f"that the arm that hacks less solves less by {plan.margins.solve} or more: p {number(c['solve_p'], 4)}, after Holm "
        f"{number(c['solve_p_holm'], 4)}."
    )


def _mass(c: Mapping, plan: Plan) -> str:
    limit = f"above {plan.qmass_difference} the raw difference alone is not trusted"
    text = f"qmass, {c['treatment']} minus {c['placebo']}: {number(c['qmass_difference'])}; {limit}."
    if c["yoked"] is not None:
        effect = ends(c, "yoked_effect", "yoked_low", "yoked_high")
        arms = f"{c['treatment']} minus {c['yoked']} (the zones permuted), over {c['yoked_seeds']} seeds"
        text += f" Hack rate, {arms}: {effect}, p {number(c['yoked_p'], 4)}."
    return text


def _design(verdict: Mapping, plan: Plan) -> str:
    smallest, control = verdict["contrasts"][0]["smallest_detectable"], plan.machinery_control
    power = f"No difference has power {plan.power_wanted} with so few seeds."
    if smallest is not None:
        power = f"The smallest difference with power {plan.power_wanted} is {number(smallest)}."
    effect = ends(verdict, "machinery_effect", "machinery_low", "machinery_high")
    return (
        f"{power} Machinery control, deployed hack rate of {control.reference} minus {control.upper} (uses ground truth): {effect}, p "
        f"{number(verdict['machinery_p'], 4)}, {verdict['machinery_seeds']} seeds; {control.at_least} is needed: "
        f"{'met' if verdict['machinery_control'] else 'not met'}. Excluded runs: {_runs(verdict['excluded'])}. "
        f"Missing runs: {_runs(verdict['missing'])}."
    )


def _runs(listed: Sequence[Mapping]) -> str:
    """Runs by arm, such as 'haar 41, 43 (diverged at step 60); none 44'."""
    by_arm: dict[str, list[str]] = {}
    for run in listed:
        step = run.get("diverged_at_step")
        by_arm.setdefault(run["arm"], []).append(f"{run['seed']}" + ("" if step is None else f" (diverged in step {step}, from 0)"))
    return "; ".join(f"{arm} {', '.join(seeds)}" for arm, seeds in by_arm.items()) or "none"


def _answer(question: str, answer: str, beside: str) -> str:
    return f'<div><dt>{escape(question)}</dt><dd><span class="big">{escape(answer)}</span>{escape(beside)}</dd></div>'
