"""The verdict as Markdown tables: the claims, the secondary tests, each arm with every run, and the modes of the loophole."""

from collections.abc import Iterable, Mapping, Sequence

from projected_grpo.analysis.plan import Plan

UNDEFINED = "undefined"
ROLES = {"reference": "absorb", "placebo": "Haar", "random": "random zones of the same mass"}  # of the arm on the other side


def between(claim: Mapping, first: str, second: str) -> Mapping | None:
    """The contrast of two arms that a claim of verdict.json has; None where there are too few runs."""
    known = (found for found in (*claim["against"], *claim["beside"]) if found["hack"] is not None)
    return next((found for found in known if (found["first"], found["second"]) == (first, second)), None)


def claim_table(verdict: Mapping, plan: Plan) -> list[list[str]]:
    """A head row of names, then one row a quantity: its name and its words for each claim."""

    def difference(rate: str, role: str):
        return lambda c: ends(_of(c, role, rate))

    def sensitive(role: str, words):
        return lambda c: _sensitive(c, role, words)

    claim = f"p of the claim, one-sided (Holm; it holds at {plan.alpha / 2:g})"
    rows = {"wording": stated, "seeds": lambda c: str(c["seeds"]), claim: _claim_p}
    for role, name in ROLES.items():
        rows[f"deployed hack rate, minus {name}"] = difference("hack", role)
    for role, name in ROLES.items():
        rows[f"deployed solve rate, minus {name}"] = difference("solve", role)
    rows["parts of the claim, one-sided p"] = lambda c: ", ".join(f"{part['rate']} {part['against']} {number(part['p'], 4)}" for part in c["parts"]) or UNDEFINED
    for role in ("placebo", "random"):
        rows[f"hack rate of {ROLES[role]}, minus absorb"] = lambda c, role=role: ends(_rate(between(c, c[role], c["reference"]), "hack"))
    for role in ("reference", "placebo"):
        name = ROLES[role]
        rows[f"minus {name}: standard deviation between seeds"] = lambda c, role=role: number((_of(c, role, "hack") or {}).get("spread"))
        rows[f"minus {name}: power at the margin, first level of Holm"] = lambda c, role=role: power_words(_between(c, role), plan.power_wanted)
        rows[f"minus {name}: t interval"] = sensitive(role, lambda s: pair(s["hack_t"]))
        rows[f"minus {name}: crossed bootstrap"] = sensitive(role, lambda s: pair(s["hack_bootstrap"]))
        rows[f"minus {name}: runs ended by the tripwire"] = sensitive(role, lambda s: str(s["ended"]))
        rows[f"minus {name}: complete pairs"] = sensitive(role, lambda s: ends(_rate(s["complete_pairs"], "hack")))
        rows[f"minus {name}: worst case"] = sensitive(role, lambda s: ends(_rate(s["worst_case"], "hack")))
    head = ["", *(f"{c['name']}: {c['method']}" for c in verdict["claims"])]
    return [head, *([name, *(words(c) for c in verdict["claims"])] for name, words in rows.items())]


def secondary_table(verdict: Mapping) -> list[list[str]]:
    head = ["test", "first", "second", "seeds", "mean", "p, two-sided", "p, Holm"]
    return [
        head,
        *(
            [
                *(str(test[name]) for name in ("kind", "first", "second", "seeds")),
                ends(test), number(test["p"], 4), number(test["p_holm"], 4),
            ]
            for test in verdict["secondary"]
        ),
    ]  # fmt: skip


def arm_table(verdict: Mapping) -> list[list[str]]:
    """One row an arm: means over its runs, and the difference from the reference with its interval."""
    head = [
        "arm", "seeds", "hack, deployed", "minus absorb", "hack, as trained", "solve, deployed", "minus absorb", "qmass", "kept", "routed",
        "exploits kept", "exploits routed",
    ]  # fmt: skip
    return [
        head,
        *(
            [
                arm_name(arm["arm"], arm["uses_ground_truth"]),
                str(len(arm["seeds"])),
                number(mean(arm["hack_rates"])),
                ends(_rate(arm["from_reference"], "hack"), absent=""),
                number(mean(arm["hack_rates_as_trained"])),
                number(mean(arm["solve_rates"])),
                ends(_rate(arm["from_reference"], "solve"), absent=""),
                *(_known(arm[name]) for name in ("qmass", "keep_share", "route_share", "keep_exploits", "route_exploits")),
            ]
            for arm in verdict["arms"]
        ),
    ]


def run_table(verdict: Mapping) -> list[list[str]]:
    """One row an arm: each run's rates in the order of its seeds."""
    head = ["arm", "seeds", "hack, deployed", "hack, as trained", "solve, deployed", "qmass"]
    columns = ("hack_rates", "hack_rates_as_trained", "solve_rates", "qmass")
    return [
        head,
        *(
            [arm_name(arm["arm"], arm["uses_ground_truth"]), " ".join(map(str, arm["seeds"])), *(_list(arm[name]) for name in columns)]
            for arm in verdict["arms"]
        ),
    ]


def mode_table(verdict: Mapping) -> list[list[str]]:
    """One row an arm, one column a mode: the mean deployed hack rate, and the difference from the reference."""
    modes = {row["mode"]: row["covered"] for row in verdict["modes"]}
    cells = {(row["arm"], row["mode"]): number(mean(row["hack_rates"]), 2) + _beside(row["from_reference"]) for row in verdict["modes"]}
    head = ["arm", *(f"{mode}, {'with' if covered else 'without'} pairs" for mode, covered in modes.items())]
    names = {arm["arm"]: arm_name(arm["arm"], arm["uses_ground_truth"]) for arm in verdict["arms"]}
    return [head, *([name, *(cells[arm, mode] for mode in modes)] for arm, name in names.items())]


def markdown(verdict: Mapping, plan: Plan) -> str:
    ended = [f"{row['arm']} with seed {row['seed']} (in step {row['diverged_at_step']}, from 0)" for row in verdict["ended"]]
    parts = [
        "# Verdict",
        "\n".join(f"- {c['name']} ({c['method']}): **{stated(c)}**" for c in verdict["claims"]),
        f"Plan: SHA-256 `{verdict['plan_sha256']}`. Seeds: {', '.join(map(str, verdict['seeds']))}; not run: "
        f"{', '.join(map(str, verdict['not_run'])) or 'none'}; missing runs of blocks that were begun: {len(verdict['missing'])}. Runs that the tripwire ended: {'; '.join(ended) or 'none'}; they count as any other.",
        "Rates are of deployed policies on held-out problems with a hint. A difference is one arm minus another, paired by seed. Brackets "
        f"hold the limits of {100 * (1 - plan.alpha):g}% intervals, which invert the exact sign-flip test. docs/statistics.md has the rules and their "
        "error rates.",
        "## Claims",
        as_markdown(claim_table(verdict, plan)),
        "## Secondary tests\n\nAn interaction is the difference on modes with pairs minus that on modes without.",
        as_markdown(secondary_table(verdict)),
        "## Arms",
        as_markdown(arm_table(verdict)),
        "## Runs, in the order of the seeds",
        as_markdown(run_table(verdict)),
        "## Deployed hack rate by mode, and the difference from absorb",
        as_markdown(mode_table(verdict)),
    ]
    return "\n\n".join(parts) + "\n"


def stated(claim: Mapping) -> str:
    """The wording of a claim, whether it is selective, and the reasons."""
    wording = claim["wording"] + ("; selective" if claim["selective"] else "")
    return f"{wording} ({', '.join(claim['reasons'])})" if claim["reasons"] else wording


def arm_name(arm: str, uses_ground_truth: bool) -> str:
    return f"{arm} (uses ground truth)" if uses_ground_truth else arm


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *body])


def number(value: float | None, digits: int = 3) -> str:
    return UNDEFINED if value is None else f"{value:.{digits}f}"


def mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def ends(row: Mapping | None, absent: str = UNDEFINED) -> str:
    """A mean with its limits."""
    if row is None or row["mean"] is None:
        return absent
    return f"{row['mean']:+.3f}" + ("" if row["low"] is None else f" [{row['low']:+.3f}, {row['high']:+.3f}]")


def _of(claim: Mapping, role: str, rate: str) -> Mapping | None:
    """The difference of the method from the arm of that role."""
    return _rate(_between(claim, role), rate)


def _between(claim: Mapping, role: str) -> Mapping | None:
    return between(claim, claim["method"], claim[role])


def _rate(contrast: Mapping | None, rate: str) -> Mapping | None:
    return None if contrast is None else contrast[rate]


def _claim_p(claim: Mapping) -> str:
    return UNDEFINED if claim["p"] is None else f"{claim['p']:.4f} ({claim['p_holm']:.4f})"


def power_words(contrast: Mapping | None, wanted: float) -> str:
    """Power at the margin, and the smallest difference with the power wanted."""
    if contrast is None:
        return UNDEFINED
    able = contrast["power"]
    reach = "none has" if able["detectable"] is None else f"one of {number(able['detectable'])} has"
    return f"{able['power']:.2f} for a difference of {able['difference']:g}; {reach} {wanted:g}"


def _sensitive(claim: Mapping, role: str, words) -> str:
    found = _between(claim, role)
    return UNDEFINED if found is None else words(found["sensitivity"])


def pair(limits: Sequence[float]) -> str:
    return f"[{limits[0]:+.3f}, {limits[1]:+.3f}]"


def _known(values: Iterable[float | None]) -> str:
    found = mean(values)
    return "" if found is None else number(found)


def _beside(difference: Mapping | None) -> str:
    return "" if difference is None else f" ({difference['mean']:+.2f})"


def _list(values: Iterable[float | None]) -> str:
    return " ".join(number(value, 2) for value in values)
