"""Measure the 2x2 {train-IID, held-out} x {as trained, deployed}; the base model's rows, made once a seed, come first."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.core.parquet import TableError, read_rows, write_table
from projected_grpo.core.runtime import PARAMS, Params, Seed, deterministic, run_stage
from projected_grpo.core.tables import EVAL, EVAL_ROLLOUTS, GROUND_TRUTH, PROBLEMS
from projected_grpo.environment.load import load_environment
from projected_grpo.ground_truth.labels import eval_rows
from projected_grpo.ground_truth.monitor import load_monitor
from projected_grpo.settings.arm import load_settings


def main(
    adapter: Annotated[Path, typer.Option(help="Folder of the trained adapter.")],
    base: Annotated[Path, typer.Option(help="Folder of the base model.")],
    init: Annotated[Path, typer.Option(help="Folder of the adapter's initialization.")],
    problems: Annotated[Path, typer.Option(help="Table problems.")],
    ground_truth: Annotated[Path, typer.Option(help="Table ground_truth.")],
    base_eval: Annotated[Path, typer.Option(help="Folder of base_eval, of the same seed.")],
    rollouts: Annotated[Path, typer.Option(help="Table eval_rollouts, written.")],
    out: Annotated[Path, typer.Option(help="Table eval, written.")],
    params: Params = PARAMS,
    seed: Seed = None,
) -> None:
    from projected_grpo.evaluation.deploy_ablate import sample_trained
    from projected_grpo.policy.load import load_policy
    from projected_grpo.sampling.engine import open_sampler

    deterministic()
    settings = load_settings(params=params, seed=seed)
    profile = settings.profile
    policy = load_policy(base, init, settings)
    policy.load(adapter)
    tasks = read_rows(problems, PROBLEMS)
    one_block = settings.gate.policy == "none"
    sampler = open_sampler(policy, profile.sampling, base)
    environment, truths = load_environment(profile.environment, profile.problems, profile.grading), read_rows(ground_truth, GROUND_TRUTH)
    rows = sample_trained(policy, environment, sampler, tasks, profile.eval, settings.seed, one_block)
    before = read_rows(base_eval / "eval_rollouts.parquet", EVAL_ROLLOUTS)
    if prompts(before) != prompts(row for row in rows if row["state"] == "as_trained"):
        raise TableError(f"{base_eval}: is not of seed {settings.seed} and these problems; make it again with base_eval")
    with environment:
        verdicts = eval_rows(rows, tasks, load_monitor(environment, profile.ground_truth, profile.problems, truths))
    write_table(rollouts, EVAL_ROLLOUTS, before + rows)
    write_table(out, EVAL, read_rows(base_eval / "eval.parquet", EVAL) + verdicts)
    print(f"{len(rows)} completions judged -> {out}")


def prompts(rows: Iterable[dict]) -> set[tuple]:
    """What was shown to a state, and how often."""
    return {tuple(row[name] for name in ("data", "shown_mode", "problem_id", "words", "sample")) for row in rows}


if __name__ == "__main__":
    run_stage(main)
