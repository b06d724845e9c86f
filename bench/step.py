"""Seconds of one GRPO step by phase: 64 rollouts of at most 56 tokens, the gate on, on the toy base model.

Usage, after `make repro` and on an otherwise idle machine: `python -m bench.step`. The steps are real ones; the first
is left out, and the median and the range of the others are printed.
"""

import statistics
from pathlib import Path

import torch

from projected_grpo.env.sandbox.runner import Sandbox
from projected_grpo.gate.directions import load_direction
from projected_grpo.gate.zones import Gate
from projected_grpo.grpo.loop import Trainer
from projected_grpo.parquet import read_rows
from projected_grpo.policy.base import load_base
from projected_grpo.policy.policy import Policy
from projected_grpo.runtime import deterministic
from projected_grpo.settings import load_settings
from projected_grpo.tables import PROBLEMS

STEPS = 12


def main() -> None:
    deterministic()
    settings = load_settings()
    train = settings.scale.train.model_copy(update={"prompts": 8, "group": 8})
    settings = settings.model_copy(update={"scale": settings.scale.model_copy(update={"train": train})})
    policy = Policy(load_base(Path("artifacts/base")), settings.adapter, settings.scale.sampling.temperature)
    path = Path("artifacts/directions/v_act/direction.parquet")
    gate = Gate(settings.gate, load_direction(path, 0, list(policy.layers), settings.adapter.rank))
    rows = [row for row in read_rows(Path("artifacts/problems.parquet"), PROBLEMS) if row["split"] == "train"]
    tokens = []
    with Sandbox(settings.scale.grading) as sandbox:
        trainer = Trainer(settings, policy, gate, rows, None, sandbox)
        for step in range(STEPS):
            done = trainer.step(step)
            tokens.append(done["steps"][0]["completion_length"])
    seconds = {phase: times[1:] for phase, times in trainer.seconds.items()}
    seconds["whole step"] = [sum(times) for times in zip(*seconds.values())]
    print(f"{train.prompts * train.group} rollouts, {statistics.mean(tokens):.1f} tokens each, {torch.get_num_threads()} threads")
    for phase, times in seconds.items():
        print(f"{phase:<10} median {statistics.median(times):.3f} s  range {min(times):.3f} to {max(times):.3f} s")


if __name__ == "__main__":
    main()
