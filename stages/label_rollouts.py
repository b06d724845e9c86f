"""Label the training rollouts with the ground-truth monitor, after training and from the saved table alone."""

from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.env.sandbox.runner import Sandbox
from projected_grpo.evaluation.labels import label
from projected_grpo.parquet import read_rows, write_table
from projected_grpo.runtime import run_stage
from projected_grpo.settings import load_settings
from projected_grpo.tables import GROUND_TRUTH, LABELS, PROBLEMS, ROLLOUTS


def main(
    rollouts: Annotated[Path, typer.Option(help="Table rollouts.")],
    problems: Annotated[Path, typer.Option(help="Table problems.")],
    ground_truth: Annotated[Path, typer.Option(help="Table ground_truth.")],
    out: Annotated[Path, typer.Option(help="Table labels, written.")],
) -> None:
    rows = read_rows(rollouts, ROLLOUTS)
    truths = read_rows(ground_truth, GROUND_TRUTH)
    with Sandbox(load_settings().scale.grading) as sandbox:
        labels = label(rows, read_rows(problems, PROBLEMS), truths, sandbox)
    write_table(out, LABELS, [{"rollout_id": row["rollout_id"]} | new for row, new in zip(rows, labels)])
    print(f"{len(labels)} rollouts labelled, {sum(bool(new['exploited']) for new in labels)} exploit -> {out}")


if __name__ == "__main__":
    run_stage(main)
