"""Label the training rollouts with the ground-truth monitor, after training and from the saved table alone.

With --follow, label those of the training job that runs now, checkpoint by checkpoint, and print what they show.
"""

from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.env.sandbox.runner import Sandbox
from projected_grpo.errors import InputError
from projected_grpo.evaluation.follow import follow, newest_run
from projected_grpo.evaluation.labels import label
from projected_grpo.parquet import read_rows, write_table
from projected_grpo.runtime import run_stage
from projected_grpo.settings import load_settings
from projected_grpo.tables import GROUND_TRUTH, LABELS, PROBLEMS, ROLLOUTS


def main(
    problems: Annotated[Path, typer.Option(help="Table problems.")],
    ground_truth: Annotated[Path, typer.Option(help="Table ground_truth.")],
    rollouts: Annotated[Path | None, typer.Option(help="Table rollouts.")] = None,
    out: Annotated[Path | None, typer.Option(help="Table labels, written.")] = None,
    follow_training: Annotated[bool, typer.Option("--follow", help="Label the running training job instead; nothing is written.")] = False,
) -> None:
    if follow_training == (rollouts is not None) or follow_training == (out is not None):
        raise InputError("give either --follow, or both --rollouts and --out")
    tasks, truths = read_rows(problems, PROBLEMS), read_rows(ground_truth, GROUND_TRUTH)
    with Sandbox(load_settings().scale.grading) as sandbox:
        if follow_training:
            follow(newest_run(), tasks, truths, sandbox, show)
            return
        rows = read_rows(rollouts, ROLLOUTS)
        labels = label(rows, tasks, truths, sandbox)
    write_table(out, LABELS, [{"rollout_id": row["rollout_id"]} | new for row, new in zip(rows, labels)])
    print(f"{len(labels)} rollouts labelled, {sum(bool(new['exploited']) for new in labels)} exploit -> {out}")


def show(rows: list[dict], labels: list[dict]) -> None:
    """One line a checkpoint: its steps and the shares of all its rollouts."""
    steps = [row["step"] + 1 for row in rows]
    names = ("exploited", "gt_correct", "env_passed", "unattributed_pass")
    shares = "  ".join(f"{name} {sum(bool(new[name]) for new in labels) / len(labels):.3f}" for name in names)
    unjudged = sum(new["gt_correct"] is None for new in labels)
    print(f"steps {min(steps)}-{max(steps)}  rollouts {len(rows)}  {shares}  not judged {unjudged}", flush=True)


if __name__ == "__main__":
    run_stage(main)
