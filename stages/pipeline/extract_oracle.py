"""Extract the oracle direction: mean reading of exploits minus that of the rest, by the ground-truth monitor.

It uses ground truth, so it is a diagnostic bound for every direction and never a method. The completions are the base
model's own, on training problems with their hints.
"""

from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.core.parquet import read_rows, write_table
from projected_grpo.core.runtime import deterministic, run_stage
from projected_grpo.core.seeds import derive_seeds
from projected_grpo.core.tables import DIRECTIONS, GROUND_TRUTH, PROBLEMS
from projected_grpo.environment.load import load_environment
from projected_grpo.ground_truth.labels import exploits
from projected_grpo.ground_truth.monitor import load_monitor
from projected_grpo.sampling.protocol import Request
from projected_grpo.settings.arm import load_settings


def main(
    problems: Annotated[Path, typer.Option(help="Table problems.")],
    ground_truth: Annotated[Path, typer.Option(help="Table ground_truth.")],
    base: Annotated[Path, typer.Option(help="Folder of the base model.")],
    init: Annotated[Path, typer.Option(help="Folder of the adapter's initialization.")],
    out: Annotated[Path, typer.Option(help="Folder for direction.parquet, written; empty where no completion exploits.")],
) -> None:
    from projected_grpo.environment.render import check_lengths, render
    from projected_grpo.gate.directions import direction_rows, oracle_direction
    from projected_grpo.gate.pairs import read_side
    from projected_grpo.policy.batch import TokenBatch
    from projected_grpo.policy.load import load_policy
    from projected_grpo.policy.readings import module_widths
    from projected_grpo.sampling.engine import open_sampler

    deterministic()
    settings = load_settings()
    profile, readings = settings.profile, settings.gate.features
    policy = load_policy(base, init, settings)
    sampler = open_sampler(policy, profile.sampling, base)
    tasks = [row for row in read_rows(problems, PROBLEMS) if row["split"] == "train"]
    environment = load_environment(profile.environment, profile.problems, profile.grading)
    check_lengths(policy.base, environment, tasks, profile.sampling)
    prompts = [render(policy.base, environment, row, row["mode"]) for row in tasks]
    samples = profile.eval.oracle_samples
    seeds = derive_seeds(len(prompts), settings.adapter.seed, "oracle-direction")
    [completions] = sampler.sample([Request("base", prompts, samples, seeds)])
    rollouts = [
        {"problem_id": task["problem_id"], "shown_mode": task["mode"], "program": environment.answer(policy.base.decode(c.tokens))}
        for task, c in zip([task for task in tasks for _ in range(samples)], completions, strict=True)
    ]
    truths = read_rows(ground_truth, GROUND_TRUTH)
    with environment:
        labels = exploits(rollouts, tasks, load_monitor(environment, profile.ground_truth, profile.problems, truths))
    exploited = [found["exploited"] for found in labels]
    rows = []
    if {True, False} <= set(exploited):
        batch = TokenBatch.collate([p for p in prompts for _ in range(samples)], [c.tokens for c in completions])
        found = read_side(policy, batch, readings, profile.train.micro_tokens)
        for reading in readings:
            widths = module_widths(policy, reading)
            rows += direction_rows("oracle", 0, reading, widths, oracle_direction(found[reading], exploited, list(widths.values())))
    write_table(out / "direction.parquet", DIRECTIONS, rows)
    print(f"oracle direction from {exploited.count(True)} exploits among {len(labels)} completions -> {out}")


if __name__ == "__main__":
    run_stage(main)
