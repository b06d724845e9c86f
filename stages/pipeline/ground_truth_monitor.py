"""The ground-truth monitor as a process of its own, for arms that use ground truth in training and say so.

Standard input has JSON lines {id, problem_id, shown_mode, program}; after an empty line, {id, exploited, correct} is
answered for each, in order, as the table labels would have it. The process ends with its input.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.core.parquet import read_rows
from projected_grpo.core.runtime import PARAMS, Params, Seed, run_stage
from projected_grpo.core.tables import GROUND_TRUTH, PROBLEMS
from projected_grpo.environment.load import load_environment
from projected_grpo.ground_truth.labels import exploits
from projected_grpo.ground_truth.monitor import load_monitor
from projected_grpo.settings.arm import load_settings

EXAMPLE = "dvc exp run -S gate.policy=labelled -S monitor.kind=ground_truth, whose train_arm starts it"


def main(
    problems: Annotated[Path, typer.Option(help="Table problems.")],
    ground_truth: Annotated[Path, typer.Option(help="Table ground_truth.")],
    params: Params = PARAMS,
    seed: Seed = None,
) -> None:
    tasks, truths = read_rows(problems, PROBLEMS), read_rows(ground_truth, GROUND_TRUTH)
    profile = load_settings(params=params, seed=seed).profile
    with load_environment(profile.environment, profile.problems, profile.grading) as environment:
        monitor = load_monitor(environment, profile.ground_truth, profile.problems, truths)
        for rollouts in steps(sys.stdin):
            for row, new in zip(rollouts, exploits(rollouts, tasks, monitor), strict=True):
                print(json.dumps({"id": row["id"], "exploited": new["exploited"], "correct": new["gt_correct"]}))
            sys.stdout.flush()


def steps(lines: Iterable[str]) -> Iterator[list[dict]]:
    """The rollouts before each empty line; what a killed trainer left unfinished is dropped."""
    rollouts: list[str] = []
    for line in lines:
        if line.strip():
            rollouts.append(line)
        else:
            yield [json.loads(text) for text in rollouts]
            rollouts = []


if __name__ == "__main__":
    run_stage(main)
