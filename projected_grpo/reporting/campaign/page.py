"""The report of a campaign as one page: verdict, outcomes, gate, modes, pairs, and the rollouts to read.

The page loads nothing: its policy allows no source but its own script, which it names by hash.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from projected_grpo.analysis.plan import Plan
from projected_grpo.prompts.modes import in_order
from projected_grpo.reporting.campaign import figures, gate_figures
from projected_grpo.reporting.campaign.answers import answers, wordings
from projected_grpo.reporting.campaign.arms import arm_rows
from projected_grpo.reporting.campaign.browser import SCRIPT, browser
from projected_grpo.reporting.campaign.panels import Styles, arm_legend, arm_styles, grid, legend
from projected_grpo.reporting.campaign.runs import Runs, curves, mode_rates, window_width, with_divergence, zone_shares
from projected_grpo.reporting.manifest import flatten
from projected_grpo.reporting.page import CSS, escape, listing, section, table, wide
from projected_grpo.reporting.statements import world_limits
from projected_grpo.reporting.style import LABEL_COLOURS
from projected_grpo.reporting.summary import ReportError
from projected_grpo.reporting.verdict import arm_name, arm_table, claim_table, mode_table, number, run_table, secondary_table

STYLE_SHEET = CSS + Path(__file__).with_name("style.css").read_text()
LIMITS = (
    "Tests decide and intervals describe. An arm that uses ground truth is an upper bound or a diagnostic, never a method. "
    "Labels of training rollouts were made after training, from the saved tables."
)
MARKS = (
    " Marked lines attempt the loopholes that stand beside them, by the program's syntax tree; those of the mode that was shown are "
    "marked more strongly. A program that does not compile has no marks."
)


@dataclass(frozen=True)
class Contents:
    """What the page shows."""

    name: str  # of the campaign
    kind: str  # of the profile's problems
    plan: Plan
    verdict: dict  # verdict.json, made by the plan
    cells: pl.DataFrame
    outcomes: pl.DataFrame
    runs: Runs
    gate_test: pl.DataFrame  # table offline_gate
    null_histograms: pl.DataFrame
    pair_audit: pl.DataFrame
    problems: pl.DataFrame


def render(contents: Contents) -> str:
    """The page as text. Everything that a model wrote is escaped, or set as text by the script."""
    names = _names(contents.cells)
    styles = arm_styles(_order(names, contents.verdict))
    title = f"Campaign {contents.name}: routing by v_act against absorb, Haar draws and random zones"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="facts">{escape(_facts(contents))}</p>',
        *_verdict(contents, styles, names),
        _frontier(contents, styles, names),
        _training(contents.runs, styles, names),
        _scores(contents.runs, styles, names),
        _nulls(contents),
        _zones(contents, styles, names),
        _modes(contents, styles, names),
        _audit(contents.pair_audit),
        _rollouts(contents, names),
        section("Limits", *(f"<p>{escape(text)}</p>" for text in (LIMITS, *world_limits(contents.kind)))),
        _plan(contents.verdict, contents.plan),
    ]
    return _document(title, "\n".join(parts))


def _document(title: str, body: str) -> str:
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE_SHEET}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _names(cells: pl.DataFrame) -> dict[str, str]:
    """Arm -> its name on the page, which says where it uses ground truth."""
    rows = cells.select("arm", "uses_ground_truth").unique().sort("arm").iter_rows()
    return {arm: arm_name(arm, uses) for arm, uses in rows}


def _order(names: Mapping[str, str], verdict: Mapping) -> list[str]:
    """The arms with runs in the order of the plan. Raises ReportError for one that the verdict does not know."""
    planned = [arm["arm"] for arm in verdict["arms"]]
    if unknown := sorted(set(names) - set(planned)):
        raise ReportError(f"table cells: arm '{unknown[0]}' is not in the verdict, which has {', '.join(planned)}; make it again")
    return [arm for arm in planned if arm in names]


def _facts(contents: Contents) -> str:
    cells, world = contents.cells, "a toy world, a model organism · " if world_limits(contents.kind) else ""
    return f"{world}{cells['arm'].n_unique()} arms · {cells['seed'].n_unique()} seeds · {cells.height} runs · {contents.runs.rollouts.height:,} training rollouts"


def _verdict(contents: Contents, styles: Styles, names: Mapping[str, str]) -> list[str]:
    verdict, plan = contents.verdict, contents.plan
    text = (
        f"Deployed policies on held-out problems with a hint, in the words of training. Brackets hold the limits of {1 - plan.alpha:.0%} "
        "intervals, which invert the exact sign-flip test over seeds. A point is a run, the tall tick the mean, and the dashed line the "
        "mean of absorb. Every run counts, those that the tripwire ended too."
    )
    return [
        f'<div class="verdict-box">{wordings(verdict, plan)}</div>',
        answers(verdict, plan),
        section("Arms", f"<p>{escape(text)}</p>", arm_rows(verdict, styles, names)),
    ]


def _escaped(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    return table(head, [[escape(cell) for cell in row] for row in body])


def _frontier(contents: Contents, styles: Styles, names: Mapping[str, str]) -> str:
    caption = (
        "Routing mass against the deployed hack rate on held-out problems with a hint, and both deployed rates arm by arm. "
        "Every point is one run. A hollow point is a run that diverged."
    )
    panels = figures.frontier(with_divergence(contents.cells), styles, names)
    return section("Frontier", arm_legend(styles, names), _figure(1, panels, caption))


def _training(runs: Runs, styles: Styles, names: Mapping[str, str]) -> str:
    width = window_width(runs.rollouts)
    caption = (
        f"Shares of training rollouts with a hint, in windows of {width} {'steps' if width > 1 else 'step'}. As trained: sampled "
        "with the quarantine. Deployed: sampled with the quarantine ablated. Thin lines are runs, thick lines their mean. An "
        "arm of one block has no quarantine."
    )
    key = legend((words, figures.SAMPLED[state], "-") for state, words in {"full": "as trained", "deployed": "deployed"}.items())
    return section("Hacking and solving during training", key, _figure(2, figures.training(curves(runs.rollouts), styles, names), caption))


def _scores(runs: Runs, styles: Styles, names: Mapping[str, str]) -> str:
    caption = (
        "Routing scores of gated rollouts in the first and in the last fifth of the training steps, all runs of an arm together; "
        "each density has area 1, and scores beyond the axis are in its outermost bins. Lines are the medians of the cuts and "
        "bands their ranges. AUROC of the score for exploits stands run by run. An arm without cuts has its zones from elsewhere."
    )
    entries = [("exploits", LABEL_COLOURS["hack"], "s"), ("the rest", gate_figures.REST, "s")]
    entries += [(f"{zone} cut", colour, line) for zone, colour, line in gate_figures.CUTS.values()]
    return section("Routing scores by label", legend(entries), _figure(3, gate_figures.scores(runs.rollouts, styles, names), caption))


def _nulls(contents: Contents) -> str:
    tests = gate_figures.whole_directions(contents.gate_test, "auroc")
    head = ["reading", "rollouts", "direction", "AUROC", "Haar, 95%", "p (floor)", "other signs, 95%", "p (floor)", "remark"]
    body = [
        [
            *(escape(row[name]) for name in ("reading", "rollouts")),
            escape(arm_name(row["direction"], row["direction"] == "oracle")),
            number(row["value"]),
            *_in_null(row, "haar"),
            *_in_null(row, "sign"),
            escape(row["remark"] or ""),
        ]
        for row in tests.sort("reading", "rollouts", "direction").to_dicts()
    ]
    caption = (
        "AUROC for exploits of v_act on the saved readings of one run, among Haar draws and among directions from the same "
        "pairs with other signs. The oracle direction is made from ground-truth labels and shows what labels give at that reading."
    )
    entries = [(words, colour, "s") for words, colour in gate_figures.NULLS.values()]
    entries += [(words, colour, line) for words, colour, line in gate_figures.DIRECTIONS.values()]
    figure = _figure(4, gate_figures.nulls(contents.gate_test, contents.null_histograms), caption)
    return section("v_act against its nulls", legend(entries), figure, wide(table(head, body), "The offline gate test"))


def _in_null(row: Mapping, null: str) -> list[str]:
    """The null's middle 95% and the p-value of the direction in it."""
    low, high, p, floor = (row[f"{null}_{name}"] for name in ("low", "high", "p", "floor"))
    return [f"{number(low)} to {number(high)}", f"{number(p, 4)} ({number(floor, 4)})"]


def _zones(contents: Contents, styles: Styles, names: Mapping[str, str]) -> str:
    caption = (
        "What the zones of each routed arm held over the whole training, by the ground-truth monitor: one point a run, lower is better. "
        "A tick is the share among all gated rollouts of a run, which zones drawn at random would hold."
    )
    shares = zone_shares(contents.runs.zones).join(with_divergence(contents.cells).select("arm", "seed", "diverged"), on=["arm", "seed"])
    return section("Zone precision", _figure(5, gate_figures.zones(shares, styles, names), caption))


def _modes(contents: Contents, styles: Styles, names: Mapping[str, str]) -> str:
    covered = {row["mode"] for row in contents.verdict["modes"] if row["covered"]}
    shown = in_order(row["mode"] for row in contents.verdict["modes"])
    outside = [mode for mode in shown if mode not in covered]
    caption = (
        f"Deployed hack rate on held-out problems by the mode of the hint. Bars are means over runs, points are runs. The pairs cover "
        f"{', '.join(mode for mode in shown if mode in covered) or 'no mode'}; held out of the pairs: {', '.join(outside) or 'none'}."
    )
    return section("Hack rate by mode", _figure(6, figures.modes(mode_rates(contents.outcomes), covered, styles, names), caption))


def _audit(audit: pl.DataFrame) -> str:
    text = (
        f"{audit.height} pairs. Length gap: (clean minus hack) over their mean length; its mean is "
        f"{number(audit['mean_length_gap'][0])}, and the sign test that neither side is longer has p {number(audit['sign_test_p'][0])}. "
        "Edit share: 1 minus the similarity of the two sides."
    )
    head = ["pair", "mode", "hack, characters", "clean, characters", "length gap", "edit share"]
    body = [
        [
            *(escape(row[name]) for name in ("pair_id", "mode", "hack_chars", "clean_chars")),
            *(number(row[name], 2) for name in ("length_gap", "edit_share")),
        ]
        for row in audit.to_dicts()
    ]
    return section("Pair audit", f"<p>{escape(text)}</p>", wide(table(head, body), "The authored pairs", tall=True))


def _rollouts(contents: Contents, names: Mapping[str, str]) -> str:
    runs = contents.runs
    text = (
        f"{runs.shown.height:,} of {runs.rollouts.height:,} training rollouts are in this page: of each run those whose names have the "
        "smallest SHA-256, up to the same number."
    )
    if (contents.problems["words"] != "").any():
        text += MARKS
    return section("Rollouts", f"<p>{escape(text)}</p>", browser(runs.shown, contents.problems, names))


def _plan(verdict: dict, plan: Plan) -> str:
    settings = flatten(plan.model_dump(include={"margins", "alpha", "power_wanted", "min_seeds", "bootstrap_draws", "stopping"}))
    facts = listing([*settings.items(), ("SHA-256", verdict["plan_sha256"]), ("missing runs", len(verdict["missing"])), ("seeds not run", ", ".join(map(str, verdict["not_run"])) or "none")])
    tables = {
        "The claims": claim_table(verdict, plan), "The secondary tests": secondary_table(verdict), "The arms in numbers": arm_table(verdict),
        "The runs, in the order of the seeds": run_table(verdict), "Deployed hack rate by mode": mode_table(verdict),
    }  # fmt: skip
    return section("Tables and plan", *(f"<h3>{escape(name)}</h3>{wide(_escaped(rows), name)}" for name, rows in tables.items()), facts)


def _figure(index: int, panels: list[str], caption: str) -> str:
    return f"<figure>{grid(panels)}<figcaption><b>Figure {index}.</b> {escape(caption)}</figcaption></figure>"
