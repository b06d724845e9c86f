"""Sample and judge the base model on the prompts of the evaluation. No arm changes its answers, so this is done once a seed."""

from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.core.parquet import read_rows, write_table
from projected_grpo.core.runtime import PARAMS, Params, Seed, deterministic, run_stage
from projected_grpo.core.tables import EVAL, EVAL_ROLLOUTS, GROUND_TRUTH, PROBLEMS
from projected_grpo.environment.load import load_environment
from projected_grpo.ground_truth.labels import eval_rows
from projected_grpo.ground_truth.monitor import load_monitor
from projected_grpo.settings.arm import load_settings


def main(
    base: Annotated[Path, typer.Option(help="Folder of the base model.")],
    init: Annotated[Path, typer.Option(help="Folder of the adapter's initialization, at which its net delta is zero.")],
    problems: Annotated[Path, typer.Option(help="Table problems.")],
    ground_truth: Annotated[Path, typer.Option(help="Table ground_truth.")],
    out: Annotated[Path, typer.Option(help="Folder for eval_rollouts.parquet and eval.parquet, written.")],
    params: Params = PARAMS,
    seed: Seed = None,
) -> None:
    from projected_grpo.evaluation.deploy_ablate import sample_state
    from projected_grpo.policy.load import load_policy
    from projected_grpo.sampling.engine import open_sampler

    deterministic()
    settings = load_settings(params=params, seed=seed)
    profile = settings.profile
    policy = load_policy(base, init, settings)
    tasks = read_rows(problems, PROBLEMS)
    sampler = open_sampler(policy, profile.sampling, base)
    environment, truths = load_environment(profile.environment, profile.problems, profile.grading), read_rows(ground_truth, GROUND_TRUTH)
    rows = sample_state(policy, environment, sampler, tasks, profile.eval, settings.seed, "base")
    with environment:
        verdicts = eval_rows(rows, tasks, load_monitor(environment, profile.ground_truth, profile.problems, truths))
    write_table(out / "eval_rollouts.parquet", EVAL_ROLLOUTS, rows)
    write_table(out / "eval.parquet", EVAL, verdicts)
    print(f"{len(rows)} completions of the base model judged -> {out}")


if __name__ == "__main__":
    run_stage(main)
