"""Label the training rollouts with the ground-truth monitor, after training and from the saved table alone.

With --follow, label those of the training job that runs now, checkpoint by checkpoint, and print what they show.
"""

from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.core.errors import InputError
from projected_grpo.core.parquet import read_rows, write_table
from projected_grpo.core.runtime import PARAMS, Params, Seed, run_stage
from projected_grpo.core.tables import GROUND_TRUTH, LABELS, PROBLEMS, ROLLOUTS
from projected_grpo.environment.load import load_environment
from projected_grpo.ground_truth.examples import first_exploits
from projected_grpo.ground_truth.follow import follow, newest_run
from projected_grpo.ground_truth.labels import label
from projected_grpo.ground_truth.monitor import load_monitor
from projected_grpo.settings.arm import load_settings


def main(
    problems: Annotated[Path, typer.Option(help="Table problems.")],
    ground_truth: Annotated[Path, typer.Option(help="Table ground_truth.")],
    rollouts: Annotated[Path | None, typer.Option(help="Table rollouts.")] = None,
    out: Annotated[Path | None, typer.Option(help="Table labels, written.")] = None,
    examples: Annotated[Path | None, typer.Option(help="Folder of the first exploit of each mode, written.")] = None,
    follow_training: Annotated[bool, typer.Option("--follow", help="Label the running training job; nothing is written.")] = False,
    params: Params = PARAMS,
    seed: Seed = None,
) -> None:
    if any(follow_training == (given is not None) for given in (rollouts, out, examples)):
        raise InputError("give either --follow, or --rollouts, --out and --examples")
    tasks, truths = read_rows(problems, PROBLEMS), read_rows(ground_truth, GROUND_TRUTH)
    profile = load_settings(params=params, seed=seed).profile
    with load_environment(profile.environment, profile.problems, profile.grading) as environment:
        monitor = load_monitor(environment, profile.ground_truth, profile.problems, truths)
        if follow_training:
            follow(newest_run(), tasks, monitor, show)
            return
        rows = read_rows(rollouts, ROLLOUTS)
        labels = label(rows, tasks, monitor)
    write_labels(rows, labels, tasks, out, examples)
    print(f"{len(labels)} rollouts labelled, {sum(bool(new['exploited']) for new in labels)} exploit -> {out}")


def write_labels(rows: list[dict], labels: list[dict], tasks: list[dict], out: Path, examples: Path) -> None:
    """The table labels of the table rollouts, and a page for the first exploit of each mode. tasks: the table problems."""
    write_table(out, LABELS, [{"rollout_id": row["rollout_id"]} | new for row, new in zip(rows, labels)])
    examples.mkdir(parents=True, exist_ok=True)
    for mode, page in first_exploits(rows, labels, tasks).items():
        (examples / f"{mode}.md").write_text(page)


def show(rows: list[dict], labels: list[dict]) -> None:
    """One line a checkpoint: its steps, and the shares of those of the policy's rollouts that were judged."""
    steps = [row["step"] + 1 for row in rows]
    own = [new for row, new in zip(rows, labels, strict=True) if row["source"] == "policy"]
    judged = [new for new in own if new["exploited"] is not None]
    names = ("exploited", "gt_correct", "env_passed", "unattributed_pass")
    shares = "  ".join(f"{name} {sum(new[name] for new in judged) / max(1, len(judged)):.3f}" for name in names)
    left_out = len(own) - len(judged)
    print(f"steps {min(steps)}-{max(steps)}  judged {len(judged)}  left out {left_out}  {shares}", flush=True)


if __name__ == "__main__":
    run_stage(main)
