"""Make pairs of the base model's own completions, with a hint and without, once. No ground truth is read."""

from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.core.base import load_base
from projected_grpo.core.parquet import read_rows, write_table
from projected_grpo.core.runtime import deterministic, run_stage
from projected_grpo.core.tables import PAIRS, PROBLEMS
from projected_grpo.environment.load import load_environment
from projected_grpo.environment.render import check_lengths
from projected_grpo.gate.generate import generate_pairs
from projected_grpo.policy.inits import load_init
from projected_grpo.policy.policy import Policy
from projected_grpo.sampling.engine import open_sampler
from projected_grpo.settings.arm import load_settings


def main(
    problems: Annotated[Path, typer.Option(help="Table problems.")],
    base: Annotated[Path, typer.Option(help="Folder of the base model.")],
    init: Annotated[Path, typer.Option(help="Folder of the adapter's initialization.")],
    out: Annotated[Path, typer.Option(help="Table pairs, written; empty where the model attempted no loophole.")],
) -> None:
    deterministic()
    settings = load_settings()
    scale = settings.scale
    policy = Policy(load_base(base, scale.model.device), load_init(init, settings.adapter), scale.sampling.temperature)
    sampler = open_sampler(policy, scale.sampling, base)
    tasks = read_rows(problems, PROBLEMS)
    environment = load_environment(scale.environment, scale.problems, scale.grading)
    check_lengths(policy.base, environment, tasks, scale.sampling)
    pairs = generate_pairs(policy, environment, sampler, tasks, scale.pairs.generated, settings.adapter.seed)
    write_table(out, PAIRS, pairs)
    print(f"{len(pairs)} self-generated pairs -> {out}")


if __name__ == "__main__":
    run_stage(main)
