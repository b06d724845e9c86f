"""Label and test saved rollouts again, without training: labels, 2x2, diagnostics, offline gate test, a campaign's verdict, the page.

Rollouts come from a revision or an archive. The ground-truth monitor is the code of the working folder; with --pairs,
v_act and its controls are extracted again at the untrained policy. What changed is printed. Of a campaign that lacks cells no outcome
is printed, so that nobody sees one before its verdict. A campaign without a plan has neither verdict nor page, and its outcomes are printed.
"""

import shutil
import sys
from contextlib import chdir, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from pyarrow import parquet

from projected_grpo.core.errors import InputError
from projected_grpo.core.parquet import read_rows, write_table
from projected_grpo.core.runtime import deterministic, run_stage
from projected_grpo.core.tables import EVAL, EVAL_ROLLOUTS, GROUND_TRUTH, PAIRS, PROBLEMS, ROLLOUTS
from projected_grpo.environment.load import load_environment
from projected_grpo.ground_truth.labels import eval_rows, label
from projected_grpo.ground_truth.monitor import GroundTruthMonitor, load_monitor
from projected_grpo.problems.pairs import audit_pairs, select_pairs
from projected_grpo.programs.sandbox.runner import Remembering
from projected_grpo.reporting.archive import unpack
from projected_grpo.reporting.changes import label_changes, rate_changes, verdict_changes
from projected_grpo.reporting.saved import MODEL, RUN_FACTS, Run, Saved, add_direction, fetch
from projected_grpo.settings.arm import Settings, load_settings
from projected_grpo.settings.campaign import load_campaign
from stages.pipeline import collect_cells, gate_diagnostics, offline_gate, report, report_campaign, verdict
from stages.pipeline.label_rollouts import write_labels

ARTIFACTS, REPORTS = Path("artifacts"), Path("reports")
DIRECTIONS, NEW_PAIRS = ARTIFACTS / "directions", ARTIFACTS / "new_pairs.parquet"
FROM_PAIRS = ("v_act", "shuffled", "flipped")  # v_act is first, so its folder gets the pairs' differences
BESIDE = ("irrelevant", "self_generated", "oracle")  # v_act in the offline gate test
EXAMPLE = "python -m stages.reanalyse --archive docs/results/toy2/archive/105-108 --out FOLDER"


def main(
    out: Annotated[Path, typer.Option(help="Folder, written in the layout of the project; must not exist.")],
    rev: Annotated[str | None, typer.Option(help="Git revision or experiment; workspace names the working folder.")] = None,
    archive: Annotated[list[Path], typer.Option(help="In place of --rev: folder that stages.archive wrote; repeat it for parts of a campaign.")] = [],
    campaign: Annotated[Path | None, typer.Option(help="With --rev: folder of a campaign, such as campaigns/toy2.")] = None,
    pairs: Annotated[str | None, typer.Option(help="Selector of other pairs for v_act: FILE.md\\[#prefix]\\[@tag,tag].")] = None,
    directions: Annotated[list[Path], typer.Option(help="File of one more direction; repeat the option.")] = [],
) -> None:
    if (rev is None) == (not archive):
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
                extract_again(load_settings())
                for path in MODEL:
                    shutil.rmtree(path)
            tables = read_rows(ARTIFACTS / "problems.parquet", PROBLEMS), read_rows(ARTIFACTS / "ground_truth.parquet", GROUND_TRUTH)
            profile = load_settings(params=saved.runs[0].params).profile
            with load_environment(profile.environment, profile.problems, profile.grading, Remembering) as environment:
                monitor = load_monitor(environment, profile.ground_truth, profile.problems, tables[1])
                for run in saved.runs:
                    analyse(run, tables[0], monitor)
            lacks = saved.plan and len(load_campaign(saved.campaign / "params.yaml").cells) - len(saved.runs)
            with redirect_stdout(StringIO() if lacks else sys.stdout):
                summarise(saved, [DIRECTIONS / name for name in beside])
        shutil.copytree(after, out)
        verdict.show("Labels that differ from the saved ones", label_changes(before, after, saved.runs))
        if lacks:
            print(f"{lacks} cells of {saved.campaign} are missing, so its outcomes are written to {out} and not printed")
            return
        if saved.campaign and not saved.plan:
            print(f"{saved.campaign} has no plan.md, so no verdict and no page")
        verdict.show("Rates", rate_changes(before, after, saved))
        if saved.verdict and (before / saved.verdict).exists():
            verdict.show("Verdict", verdict_changes(before / saved.verdict, after / saved.verdict))
    print(f"{len(saved.runs)} runs -> {out}")


def extract_again(settings: Settings) -> None:
    """v_act and its controls from the new pairs, at the untrained policy."""
    from projected_grpo.gate.extract import from_pairs
    from projected_grpo.policy.load import load_policy

    deterministic()
    base, init = MODEL
    policy = load_policy(base, init, settings)
    from_pairs(settings, policy, NEW_PAIRS, [DIRECTIONS / name for name in FROM_PAIRS])


def analyse(run: Run, problems: list[dict], monitor: GroundTruthMonitor) -> None:
    """Write the labels, the 2x2 and the diagnostics of a run in place of the saved ones. Without saved readings, the diagnostics
    are those of the score that routed alone."""
    labels, train = run.home / "labels.parquet", run.home / "train"
    rollouts = read_rows(train / "rollouts.parquet", ROLLOUTS)
    write_labels(rollouts, label(rollouts, problems, monitor), problems, labels, run.home / "first_exploits")
    completions = read_rows(run.home / "eval_rollouts.parquet", EVAL_ROLLOUTS)
    write_table(run.home / "eval.parquet", EVAL, eval_rows(completions, problems, monitor))
    print(f"{run.arm} with seed {run.seed}: labelled and judged", flush=True)
    gate_diagnostics.main(train, labels, DIRECTIONS, run.home / "diagnostics.parquet", run.home / "zones.parquet", run.params)


def has_readings(run: Run) -> bool:
    return parquet.read_metadata(run.home / "train" / "features.parquet").num_rows > 0


def summarise(saved: Saved, beside: list[Path]) -> None:
    """The offline gate test of the run, or of the campaign's chosen run, what the campaign's cells say together, and the page."""
    home = saved.campaign or ARTIFACTS
    gate_test, nulls = home / "offline_gate.parquet", home / "null_histograms.parquet"
    for run in filter(has_readings, saved.tested):
        tables = [run.home / name for name in ("train/features.parquet", "train/rollouts.parquet", "labels.parquet")]
        offline_gate.main(*tables, DIRECTIONS / "v_act", beside, gate_test, nulls)
    if not saved.campaign:
        report_run()
        return
    cells, outcomes = home / "cells.parquet", home / "outcomes.parquet"
    collect_cells.main(home / "params.yaml", home / "cells", home / "arms", cells, outcomes)
    if not saved.plan:
        return
    verdict.main(cells, outcomes, saved.plan, ARTIFACTS / "pairs.parquet", saved.verdict, saved.verdict.with_suffix(".md"))
    if gate_test.exists():  # the page draws it
        audit, problems, pages = ARTIFACTS / "pair_audit.parquet", ARTIFACTS / "problems.parquet", saved.verdict.parent
        read = (home / "cells", cells, outcomes, saved.verdict, saved.plan, gate_test, nulls, audit, problems)
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
