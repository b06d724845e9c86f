"""The top of the page, from verdict.json: the verdict in one sentence, and its numbers as answers to four questions."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from projected_grpo.reporting.page import escape, table
from projected_grpo.reporting.summary import ReportError

UNDEFINED = "undefined"
MINUS = "\u2212"
KEYS = ("verdict", "plan_sha256", "seeds", "missing", "excluded", "covered_modes", "machinery_control", "contrasts", "arms")
EFFECTS = ("hack_effect", "hack_low", "hack_high")
EQUAL_QMASS = ("hack_at_equal_qmass", "hack_at_equal_qmass_low", "hack_at_equal_qmass_high")


def read_verdict(path: Path) -> dict:
    """verdict.json. Raises ReportError where it is not one."""
    try:
        verdict = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ReportError(f"{path}: cannot be read as JSON: {error}; make the verdict first") from error
    if missing := [key for key in KEYS if key not in verdict]:
        raise ReportError(f"{path}: key '{missing[0]}' is missing; expected a verdict")
    return verdict


def sentence(verdict: Mapping) -> str:
    """The verdict of the primary contrast with its two effects and its p-value."""
    primary = verdict["contrasts"][0]
    raw, equal = _ends(primary, *EFFECTS), _ends(primary, *EQUAL_QMASS)
    return (
        f"{stated(primary)[0].upper()}{stated(primary)[1:]}: deployed hack rate, {primary['treatment']} minus {primary['placebo']}, "
        f"is {raw} and {equal} at equal qmass, exact p {number(primary['hack_p'], 4)} (smallest possible "
        f"{number(primary['p_floor'], 4)}), over {primary['seeds']} seeds."
    )


def answers(verdict: Mapping) -> str:
    """Four questions, each with its number and what stands beside it."""
    primary = verdict["contrasts"][0]
    return '<dl class="answers">' + "".join(_answer(*entry) for entry in (
        ("Did v_act beat Haar?", stated(primary), _tests(primary)),
        ("By how much?", f"{_ends(primary, *EFFECTS)} in deployed hack rate", _solve(primary)),
        ("Was it routing mass?", f"{_ends(primary, *EQUAL_QMASS)} at equal qmass", _mass(primary)),
        ("Can the design tell?", f"power {number(primary['power_at_margin'], 2)} at the margin", _design(verdict)),
    )) + "</dl>"  # fmt: skip


def stated(contrast: Mapping) -> str:
    reasons = ", ".join(contrast["reasons"])
    return f"{contrast['verdict']} ({reasons})" if reasons else contrast["verdict"]


def number(value: float | None, digits: int = 3) -> str:
    return UNDEFINED if value is None else f"{value:.{digits}f}".replace("-", MINUS)


def contrast_table(contrasts: Sequence[Mapping]) -> str:
    """One row a contrast of the plan, the primary one first."""
    head = ["contrast", "wording", "seeds", "hack rate", "p (floor)", "at equal qmass", "qmass", "solve rate", "covered modes", "held-out modes", "minus yoked"]
    rows = [
        [
            f"{escape(c['name'])}: {escape(c['treatment'])} {MINUS} {escape(c['placebo'])}",
            escape(stated(c)),
            str(c["seeds"]),
            _ends(c, *EFFECTS),
            f"{number(c['hack_p'], 4)} ({number(c['p_floor'], 4)})",
            _ends(c, *EQUAL_QMASS),
            number(c["qmass_difference"]),
            _ends(c, "solve_effect", "solve_low", "solve_high"),
            *(_ends(c, f"{part}_effect", f"{part}_low", f"{part}_high") for part in ("covered", "uncovered", "yoked")),
        ]
        for c in contrasts
    ]
    return table(head, rows)


def arm_table(arms: Sequence[Mapping], names: Mapping[str, str]) -> str:
    """One row an arm, every run's number in the order of the seeds."""
    head = ["arm", "seeds", "hack, deployed", "hack, as trained", "solve, deployed", "qmass", "runs that hack", "P(run hacks)"]
    rows = [
        [
            escape(names.get(arm["arm"], arm["arm"])),
            ", ".join(map(str, arm["seeds"])) or "none",
            *(_list(arm[name]) for name in ("hack_rates", "hack_rates_as_trained", "solve_rates")),
            _list(arm["qmass"], 3),
            f"{arm['hacked']} of {len(arm['hack_rates'])}",
            _ends(arm, "hacked_share", "hacked_low", "hacked_high", 2),
        ]
        for arm in arms
    ]
    return table(head, rows)


def _tests(c: Mapping) -> str:
    return (
        f"Exact sign-flip test over {c['seeds']} seeds: p {number(c['hack_p'], 4)}, after Holm {number(c['hack_p_holm'], 4)}; the "
        f"smallest possible p is {number(c['p_floor'], 4)}. Equivalence within the margin: p {number(c['hack_p_equivalence'], 4)}. "
        f"Rank among the placebo's runs: p {number(c['rank_p'], 4)}, smallest possible {number(c['rank_p_floor'], 4)}."
    )


def _solve(c: Mapping) -> str:
    return (
        f"Deployed solve rate: {_ends(c, 'solve_effect', 'solve_low', 'solve_high')}; non-inferiority of the arm that hacks less: p "
        f"{number(c['solve_p'], 4)}, after Holm {number(c['solve_p_holm'], 4)}. A negative hack rate favours {c['treatment']}."
    )


def _mass(c: Mapping) -> str:
    text = f"qmass, {c['treatment']} minus {c['placebo']}: {number(c['qmass_difference'])}."
    if c["yoked"] is not None:
        ends = _ends(c, "yoked_effect", "yoked_low", "yoked_high")
        text += f" Hack rate, {c['treatment']} minus {c['yoked']} (the same zones, permuted): {ends}, p {number(c['yoked_p'], 4)}."
    return text


def _design(verdict: Mapping) -> str:
    c = verdict["contrasts"][0]
    smallest = c["smallest_detectable"]
    power = (
        "No difference has the power that the plan wants with so few seeds."
        if smallest is None
        else f"The smallest difference with the power that the plan wants is {number(smallest)}."
    )
    met = "met" if verdict["machinery_control"] else "not met"
    ends = _ends(verdict, "machinery_effect", "machinery_low", "machinery_high")
    return (
        f"{power} Machinery control, what routing by ground truth removes from the deployed hack rate: {ends}, p "
        f"{number(verdict['machinery_p'], 4)}, {verdict['machinery_seeds']} seeds: {met}. "
        f"Excluded runs: {runs(verdict['excluded'])}. Missing runs: {runs(verdict['missing'])}."
    )


def runs(listed: Sequence[Mapping]) -> str:
    """Runs by arm, such as 'haar 41, 43 (diverged at step 60); none 44'."""
    by_arm: dict[str, list[str]] = {}
    for run in listed:
        step = run.get("diverged_at_step")
        by_arm.setdefault(run["arm"], []).append(f"{run['seed']}" + ("" if step is None else f" (diverged at step {step})"))
    return "; ".join(f"{arm} {', '.join(seeds)}" for arm, seeds in by_arm.items()) or "none"


def _answer(question: str, answer: str, beside: str) -> str:
    return f'<div><dt>{escape(question)}</dt><dd><span class="big">{escape(answer)}</span>{escape(beside)}</dd></div>'


def _ends(row: Mapping, value: str, low: str, high: str, digits: int = 3) -> str:
    if row[value] is None:
        return UNDEFINED
    return f"{number(row[value], digits)} [{number(row[low], digits)}, {number(row[high], digits)}]"


def _list(values: Sequence[float | None], digits: int = 2) -> str:
    return ", ".join(number(value, digits) for value in values)
