"""Label and test saved rollouts again, without training: labels, 2x2, diagnostics, offline gate test, a campaign's verdict, the page.

Rollouts come from a revision or an archive. The ground-truth monitor is the code of the working folder; with --pairs,
v_act and its controls are extracted again at the untrained policy. What changed is printed.
"""

import shutil
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from projected_grpo.campaign import load_campaign
from projected_grpo.env.sandbox.runner import Sandbox
from projected_grpo.errors import InputError
from projected_grpo.evaluation.labels import label
from projected_grpo.parquet import read_rows, write_table
from projected_grpo.problems.pairs import audit_pairs, select_pairs
from projected_grpo.reporting.archive import unpack
from projected_grpo.reporting.changes import label_changes, rate_changes, verdict_changes
from projected_grpo.reporting.saved import DIRECTION_NAMES, MODEL, RUN_FACTS, Run, Saved, add_direction, fetch
from projected_grpo.runtime import run_stage
from projected_grpo.settings import load_settings
from projected_grpo.tables import EVAL, EVAL_ROLLOUTS, GROUND_TRUTH, PAIRS, PROBLEMS
from stages import collect_cells, extract_directions, gate_diagnostics, label_rollouts, offline_gate, report, report_campaign, verdict

ARTIFACTS, REPORTS = Path("artifacts"), Path("reports")
DIRECTIONS, NEW_PAIRS = ARTIFACTS / "directions", ARTIFACTS / "new_pairs.parquet"
FROM_PAIRS = ("v_act", "shuffled", "flipped")  # v_act is first, so its folder gets the pairs' differences
BESIDE = ("irrelevant", "self_generated", "oracle")  # v_act in the offline gate test


def main(
    out: Annotated[Path, typer.Option(help="Folder, written in the layout of the project; must not exist.")],
    rev: Annotated[str | None, typer.Option(help="Git revision or experiment; workspace names the working folder.")] = None,
    archive: Annotated[Path | None, typer.Option(help="In place of --rev: folder that stages.archive wrote.")] = None,
    campaign: Annotated[Path | None, typer.Option(help="With --rev: folder of a campaign, such as campaigns/toy.")] = None,
    pairs: Annotated[str | None, typer.Option(help="Selector of other pairs for v_act: FILE.md[#prefix][@tag,tag].")] = None,
    directions: Annotated[list[Path], typer.Option(help="File of one more direction; repeat the option.")] = [],
) -> None:
    if (rev is None) == (archive is None):
        raise InputError("give either --rev or --archive")
    if archive and (campaign or pairs):
        raise InputError(
            "--archive goes with neither --campaign, which it says itself, nor --pairs, for which it has no base model; give --rev"
        )
    if out.exists():
        raise InputError(f"{out}: exists already; name a new folder")
    chosen = select_pairs(pairs) if pairs else []
    with TemporaryDirectory() as folder:
        before, after = Path(folder) / "before", Path(folder) / "after"
        saved = unpack(archive, before) if archive else fetch(rev, campaign, before, model=bool(chosen))
        shutil.copytree(before, after)
        beside = [*BESIDE, *(add_direction(path, after) for path in directions)]
        with chdir(after):
            if chosen:
                audit_pairs(chosen, pairs)
                write_table(NEW_PAIRS, PAIRS, chosen)
                extract_directions.main(NEW_PAIRS, *MODEL, [DIRECTIONS / name for name in FROM_PAIRS])
                for path in MODEL:
                    shutil.rmtree(path)
            for run in saved.runs:
                analyse(run, [DIRECTIONS / name / "direction.parquet" for name in dict.fromkeys([*DIRECTION_NAMES, *beside])])
            summarise(saved, [DIRECTIONS / name for name in beside])
        shutil.copytree(after, out)
        verdict.show("Labels that differ from the saved ones", label_changes(before, after, saved.runs))
        verdict.show("Rates", rate_changes(before, after, saved))
        if saved.verdict and (before / saved.verdict).exists():
            verdict.show("Verdict", verdict_changes(before / saved.verdict, after / saved.verdict))
    print(f"{len(saved.runs)} runs -> {out}")


def analyse(run: Run, directions: list[Path]) -> None:
    """Write the labels, the 2x2 and the diagnostics of a run in place of the saved ones."""
    problems, truths = ARTIFACTS / "problems.parquet", ARTIFACTS / "ground_truth.parquet"
    labels, train = run.home / "labels.parquet", run.home / "train"
    label_rollouts.main(problems, truths, train / "rollouts.parquet", labels, run.home / "first_exploits", params=run.params)
    rows = read_rows(run.home / "eval_rollouts.parquet", EVAL_ROLLOUTS)
    with Sandbox(load_settings(params=run.params).scale.grading) as sandbox:
        judged = label(rows, read_rows(problems, PROBLEMS), read_rows(truths, GROUND_TRUTH), sandbox)
    write_table(run.home / "eval.parquet", EVAL, [{name: (row | new)[name] for name in EVAL.columns} for row, new in zip(rows, judged)])
    gate_diagnostics.main(train, labels, directions, run.home / "diagnostics.parquet", run.home / "zones.parquet", run.params)


def summarise(saved: Saved, beside: list[Path]) -> None:
    """The offline gate test of the run, or of the campaign's chosen run, what the campaign's cells say together, and the page."""
    home = saved.campaign or ARTIFACTS
    gate_test, nulls = home / "offline_gate.parquet", home / "null_histograms.parquet"
    for run in saved.tested:
        tables = [run.home / name for name in ("train/features.parquet", "train/rollouts.parquet", "labels.parquet")]
        offline_gate.main(*tables, DIRECTIONS / "v_act", beside, gate_test, nulls)
    if not saved.verdict:
        report_run()
        return
    cells, outcomes, plan = home / "cells.parquet", home / "outcomes.parquet", home / "plan.md"
    collect_cells.main(home / "params.yaml", home / "cells", home / "arms", cells, outcomes)
    verdict.main(cells, outcomes, plan, ARTIFACTS / "pairs.parquet", saved.verdict, saved.verdict.with_suffix(".md"))
    if saved.tested:  # the page draws the offline gate test
        audit, problems, pages = ARTIFACTS / "pair_audit.parquet", ARTIFACTS / "problems.parquet", saved.verdict.parent
        read = (home / "cells", cells, outcomes, saved.verdict, plan, gate_test, nulls, audit, problems)
        profile = load_campaign(home / "params.yaml").profile
        report_campaign.main(home.name, profile, *read, pages / "report.html", pages / "figures")


def report_run() -> None:
    """The report of a single run, from the tables that were made again."""
    tables = [ARTIFACTS / f"{name}.parquet" for name in ("problems", "pairs", "eval", "diagnostics")]
    training = [ARTIFACTS / "train" / f"{name}.parquet" for name in ("steps", "rollouts", "gate")]
    facts = [REPORTS / f"{name}.json" for name in ("manifest", "metrics", "frontier")]
    labels, run = ARTIFACTS / "labels.parquet", ARTIFACTS / RUN_FACTS
    report.main(*tables, *training, labels, run, *facts, REPORTS / "plots", REPORTS / "report.html")


if __name__ == "__main__":
    run_stage(main)
