"""Measure the 2x2 {train-IID, held-out} x {as trained, deployed}, and the base model beside it."""

from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.env.sandbox.runner import Sandbox
from projected_grpo.evaluation.deploy_ablate import sample_states
from projected_grpo.evaluation.labels import label
from projected_grpo.parquet import read_rows, write_table
from projected_grpo.policy.base import load_base
from projected_grpo.policy.inits import load_init
from projected_grpo.policy.policy import Policy
from projected_grpo.runtime import PARAMS, Params, Seed, deterministic, run_stage
from projected_grpo.sampling.engine import open_sampler
from projected_grpo.settings import load_settings
from projected_grpo.tables import EVAL, EVAL_ROLLOUTS, GROUND_TRUTH, PROBLEMS


def main(
    adapter: Annotated[Path, typer.Option(help="Folder of the trained adapter.")],
    base: Annotated[Path, typer.Option(help="Folder of the base model.")],
    init: Annotated[Path, typer.Option(help="Folder of the adapter's initialization.")],
    problems: Annotated[Path, typer.Option(help="Table problems.")],
    ground_truth: Annotated[Path, typer.Option(help="Table ground_truth.")],
    rollouts: Annotated[Path, typer.Option(help="Table eval_rollouts, written.")],
    out: Annotated[Path, typer.Option(help="Table eval, written.")],
    params: Params = PARAMS,
    seed: Seed = None,
) -> None:
    deterministic()
    settings = load_settings(params=params, seed=seed)
    scale = settings.scale
    policy = Policy(load_base(base, scale.model.device), load_init(init, settings.adapter), scale.sampling.temperature)
    policy.load(adapter)
    tasks = read_rows(problems, PROBLEMS)
    one_block = settings.gate.policy == "none"
    sampler = open_sampler(policy, scale.sampling, base)
    rows = sample_states(policy, sampler, tasks, scale.eval, settings.seed, one_block)
    with Sandbox(scale.grading) as sandbox:
        labels = label(rows, tasks, read_rows(ground_truth, GROUND_TRUTH), sandbox)
    write_table(rollouts, EVAL_ROLLOUTS, rows)
    write_table(out, EVAL, [{name: (row | new)[name] for name in EVAL.columns} for row, new in zip(rows, labels)])
    print(f"{len(rows)} completions judged -> {out}")


if __name__ == "__main__":
    run_stage(main)
