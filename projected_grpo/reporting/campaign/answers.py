"""The top of the page, from verdict.json and the plan: the wording of each claim, and six questions with their numbers."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from projected_grpo.analysis.plan import Plan, load_plan
from projected_grpo.reporting.page import escape
from projected_grpo.reporting.summary import ReportError
from projected_grpo.reporting.verdict import UNDEFINED, between, ends, mean, number, power_words, stated

KEYS = ("claims", "secondary", "arms", "modes", "base", "plan_sha256", "seeds", "not_run", "missing", "ended")


def read_verdict(path: Path, plan: Path) -> tuple[dict, Plan]:
    """verdict.json and the plan that it was made by. Raises ReportError where they are not these, PlanError."""
    try:
        verdict = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ReportError(f"{path}: cannot be read as JSON: {error}; make the verdict first") from error
    if missing := [key for key in KEYS if key not in verdict]:
        raise ReportError(f"{path}: key '{missing[0]}' is missing, expected {', '.join(KEYS)}; make the verdict again")
    planned, digest = load_plan(plan)
    if verdict["plan_sha256"] != digest:
        raise ReportError(f"{path}: key 'plan_sha256' is {verdict['plan_sha256']}, but {plan} has {digest}; make the verdict again")
    return verdict, planned


def wordings(verdict: Mapping, plan: Plan) -> str:
    """What was found, claim by claim with its rates, and on how many of the planned seeds."""
    rates = {arm["arm"]: number(mean(arm["hack_rates"])) for arm in verdict["arms"]}
    said = []
    for c in verdict["claims"]:
        name, method, other = c["name"], c["method"], c["reference"]
        found = (
            f"{method} deploys a hack rate of {rates.get(method, UNDEFINED)}, {other} one of {rates.get(other, UNDEFINED)}: {_minus(c, 'reference', 'hack')}. "
            f"p of the whole claim {number(c['p_holm'], 4)} (one-sided, Holm), to be at most {plan.alpha / 2:g}."
        )
        said += [(f"{name[0].upper()}{name[1:]} ({method}, {c['seeds']} seeds): {stated(c)}.", "wording"), (found, "rates")]
    fewer = [arm["arm"] for arm in verdict["arms"] if len(arm["seeds"]) < len(verdict["seeds"])]
    seeds = f"{len(verdict['seeds'])} of {len(plan.seeds)} planned seeds were run"
    some = f"; these arms have fewer: {', '.join(fewer)}" if fewer else ""
    said.append((f"Before training the base model hacks {number(verdict['base']['hack_rate'])}. {seeds}{some}.", "rates"))
    return "".join(f'<p class="{style}">{escape(text)}</p>' for text, style in said)


def answers(verdict: Mapping, plan: Plan) -> str:
    """Six questions; each is answered for every claim with a number and what stands beside it."""
    questions: dict[str, Callable[[Mapping], tuple[str, str]]] = {
        "Did it beat absorb?": lambda c: (_minus(c, "reference", "hack"), _p(c, "reference", "hack")),
        "Did it beat Haar, and random zones of the same mass?": _placebos,
        "On which loopholes?": lambda c: (
            f"{ends(c['covered'])} with pairs",
            f"{ends(c['uncovered'])} without; hack rate minus absorb{_interaction(verdict, c)}",
        ),
        "At what cost in solving?": lambda c: (_minus(c, "reference", "solve"), f"solve rate minus absorb; minus Haar {_minus(c, 'placebo', 'solve')}"),
        "Against which rivals?": lambda c: _rivals(verdict, c, plan),
        "Can the design tell?": lambda c: _design(c, plan),
    }
    return f'<dl class="answers">{"".join(_answer(question, answer, verdict) for question, answer in questions.items())}</dl>'


def _answer(question: str, answer: Callable[[Mapping], tuple[str, str]], verdict: Mapping) -> str:
    given = [(c["name"], *answer(c)) for c in verdict["claims"]]
    lines = "".join(
        f'<dd><span class="rule">{escape(name)}</span><span class="big">{escape(big)}</span>{escape(beside)}</dd>' for name, big, beside in given
    )
    return f"<div><dt>{escape(question)}</dt>{lines}</div>"


def _minus(c: Mapping, role: str, rate: str) -> str:
    found = between(c, c["method"], c[role])
    return ends(None if found is None else found[rate])


def _p(c: Mapping, role: str, rate: str) -> str:
    p = next((part["p"] for part in c["parts"] if (part["rate"], part["against"]) == (rate, c[role])), None)
    return f"{rate} rate minus {c[role]}" + ("" if p is None else f"; exact one-sided p {number(p, 4)}")


def _placebos(c: Mapping) -> tuple[str, str]:
    harm = {c[arm]: between(c, c[arm], c["reference"]) for arm in ("placebo", "random")}
    own = "; ".join(f"{arm} minus {c['reference']} {ends(None if found is None else found['hack'])}" for arm, found in harm.items())
    return _minus(c, "placebo", "hack"), f"hack rate minus {c['placebo']}; minus {c['random']} {_minus(c, 'random', 'hack')}. Of these, {own}."


def _interaction(verdict: Mapping, c: Mapping) -> str:
    of = ("interaction", c["method"], c["reference"])
    p = next((test["p_holm"] for test in verdict["secondary"] if (test["kind"], test["first"], test["second"]) == of), None)
    return "" if p is None else f"; interaction p {number(p, 4)} (Holm)"


def _rivals(verdict: Mapping, c: Mapping, plan: Plan) -> tuple[str, str]:
    tests = [test for test in verdict["secondary"] if test["kind"] == "difference" and test["first"] == c["method"] and test["second"] != c["random"]]
    known = [test for test in tests if test["mean"] is not None]
    if not known:
        return "not tested", "the table of arms has them all" if not tests else f"{', '.join(test['second'] for test in tests)} have no runs yet"
    differences = [f"{ends(test)} minus {test['second']}" for test in known]
    least = {test["seeds"]: 2 / 2 ** test["seeds"] for test in known}  # seeds -> the smallest p-value of the exact test
    if min(least.values()) > plan.alpha:
        return f"{max(least)} seeds cannot tell", f"their smallest p is {min(least.values()):.3g}; {'; '.join(differences)}"
    ahead = [test["second"] for test in known if test["p_holm"] <= plan.alpha and test["mean"] < 0]
    said = "; ".join(f"{words}, p {number(test['p_holm'], 4)} (Holm)" for words, test in zip(differences, known, strict=True))
    return f"ahead of {', '.join(ahead) or 'no rival'}", said


def _design(c: Mapping, plan: Plan) -> tuple[str, str]:
    against = {role: between(c, c["method"], c[role]) for role in ("reference", "placebo")}
    big, _, reach = power_words(against["reference"], plan.power_wanted).partition("; ")
    return f"power {big}", f"from {c['reference']}, at the first level of Holm; {reach}. From {c['placebo']}: {power_words(against['placebo'], plan.power_wanted)}."
