"""The verdict as Markdown tables: each contrast, each arm with every run, and the modes of the loophole."""

from collections.abc import Iterable, Sequence

from projected_grpo.analysis.plan import Plan

UNDEFINED = "undefined"


def contrast_table(verdict: dict, plan: Plan) -> list[list[str]]:
    """A head row of names, then one row a quantity: its name and its words for each contrast."""
    hack, solve = plan.margins.hack, plan.margins.solve
    rows = {
        "verdict": lambda c: stated(c["verdict"], c["reasons"]),
        "pairs of runs": lambda c: str(c["seeds"]),
        "deployed hack rate, difference": lambda c: _ends(c, "hack_effect", "hack_low", "hack_high"),
        "p, no difference (Holm; smallest possible)": lambda c: _p(c, "hack_p", "hack_p_holm", "p_floor"),
        f"p, a difference of {hack} or more": lambda c: number(c["hack_p_equivalence"], 4),
        "deployed solve rate, difference": lambda c: _ends(c, "solve_effect", "solve_low", "solve_high"),
        f"p, the arm that hacks less solves less by {solve} (Holm)": lambda c: _p(c, "solve_p", "solve_p_holm"),
        f"p, a difference of solve rates of {solve} or more": lambda c: number(c["solve_p_equivalence"], 4),
        "qmass, mean difference": lambda c: number(c["qmass_difference"]),
        "hack rate at equal qmass, difference": lambda c: _ends(
            c, "hack_at_equal_qmass", "hack_at_equal_qmass_low", "hack_at_equal_qmass_high"
        ),
        "rank p among the placebo's runs (smallest possible)": lambda c: _p(c, "rank_p", "rank_p_floor"),
        "standard deviation of the difference between seeds": lambda c: number(c["spread"]),
        f"smallest difference with power {plan.power_wanted}": lambda c: number(c["smallest_detectable"]),
        f"power at a difference of {hack}": lambda c: number(c["power_at_margin"], 2),
        "hack rate on modes with pairs, difference": lambda c: _ends(c, "covered_effect", "covered_low", "covered_high"),
        "hack rate on modes without pairs, difference": lambda c: _ends(c, "uncovered_effect", "uncovered_low", "uncovered_high"),
        "hack rate, treatment minus yoked": lambda c: _ends(c, "yoked_effect", "yoked_low", "yoked_high"),
        "pairs of runs, treatment and yoked": lambda c: UNDEFINED if c["yoked_seeds"] is None else str(c["yoked_seeds"]),
        "p, treatment against yoked": lambda c: number(c["yoked_p"], 4),
    }
    head = ["", *(f"{c['name']}: {c['treatment']} - {c['placebo']}" for c in verdict["contrasts"])]
    return [head, *([name, *(words(c) for c in verdict["contrasts"])] for name, words in rows.items())]


def arm_table(verdict: dict) -> list[list[str]]:
    head = ["arm", "seeds", "hack, deployed, by seed", "hack, as trained", "solve, deployed", "qmass", "P(run hacked)"]
    return [
        head,
        *(
            [
                arm_name(arm["arm"], arm["uses_ground_truth"]),
                ", ".join(map(str, arm["seeds"])),
                _list(arm["hack_rates"]),
                _list(arm["hack_rates_as_trained"]),
                _list(arm["solve_rates"]),
                _list(arm["qmass"]),
                _ends(arm, "hacked_share", "hacked_low", "hacked_high", 2),
            ]
            for arm in verdict["arms"]
        ),
    ]


def mode_table(verdict: dict) -> list[list[str]]:
    """One row an arm, one column a mode: each run's deployed hack rate on the prompts with that mode's hint."""
    modes = {row["mode"]: row["covered"] for row in verdict["modes"]}
    by_arm = {(row["arm"], row["mode"]): _list(row["hack_rates"]) for row in verdict["modes"]}
    head = ["arm", *(f"{mode}, {'with' if covered else 'without'} pairs" for mode, covered in modes.items())]
    names = {arm["arm"]: arm_name(arm["arm"], arm["uses_ground_truth"]) for arm in verdict["arms"]}
    return [head, *([name, *(by_arm[arm, mode] for mode in modes)] for arm, name in names.items())]


def markdown(verdict: dict, plan: Plan) -> str:
    control = plan.machinery_control
    met = "met" if verdict["machinery_control"] else "not met"
    ends = _ends(verdict, "machinery_effect", "machinery_low", "machinery_high")
    missing = [f"{row['arm']} with seed {row['seed']}" for row in verdict["missing"]]
    excluded = [
        f"{row['arm']} with seed {row['seed']} (diverged in step {row['diverged_at_step']}, from 0)" for row in verdict["excluded"]
    ]
    parts = [
        f"# Verdict: {stated(verdict['verdict'], verdict['reasons'])}",
        f"Plan: SHA-256 `{verdict['plan_sha256']}`. Stopping rule: {plan.stopping.strip()}",
        "Rates are of deployed policies on held-out problems with a hint. Brackets hold the ends of "
        f"{100 * (1 - plan.alpha):g}% intervals: of the two-level bootstrap for differences, of Clopper and Pearson for "
        "P(run hacked). A test decides and an interval describes; docs/statistics.md has the rules and their error rates.",
        f"Missing runs: {'; '.join(missing) or 'none'}. Excluded runs: {'; '.join(excluded) or 'none'}.",
        f"Machinery control, deployed hack rate of {control.reference} minus {control.upper}: {ends}, two-sided p "
        f"{number(verdict['machinery_p'], 4)}, {verdict['machinery_seeds']} seeds; at least {control.at_least} is needed: {met}.",
        "## Contrasts\n\nThe first is the primary one. A difference is treatment minus placebo.",
        as_markdown(contrast_table(verdict, plan)),
        f"## Arms\n\nA run counts as hacked where its deployed hack rate is over {plan.hacked_over}.",
        as_markdown(arm_table(verdict)),
        "## Deployed hack rate by mode, by seed",
        as_markdown(mode_table(verdict)),
    ]
    return "\n\n".join(parts) + "\n"


def stated(wording: str, reasons: Sequence[str]) -> str:
    return f"{wording} ({', '.join(reasons)})" if reasons else wording


def arm_name(arm: str, uses_ground_truth: bool) -> str:
    return f"{arm} (uses ground truth)" if uses_ground_truth else arm


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *body])


def number(value: float | None, digits: int = 3) -> str:
    return UNDEFINED if value is None else f"{value:.{digits}f}"


def _ends(row: dict, value: str, low: str, high: str, digits: int = 3) -> str:
    if row[value] is None:
        return UNDEFINED
    return f"{number(row[value], digits)} [{number(row[low], digits)}, {number(row[high], digits)}]"


def _p(row: dict, p: str, *beside: str) -> str:
    """A p-value, and others in brackets."""
    if row[p] is None:
        return UNDEFINED
    return f"{number(row[p], 4)} ({'; '.join(number(row[name], 4) for name in beside)})"


def _list(values: Iterable[float | None]) -> str:
    return ", ".join(number(value, 2) for value in values)
