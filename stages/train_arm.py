"""Train one arm: GRPO in the exploitable environment, its updates routed by a direction.

Outputs are written only at the end. A killed run resumes from its last checkpoint, which lies outside of DVC's outputs.
"""

import json
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.env.sandbox.runner import Sandbox
from projected_grpo.gate.directions import PAIRED, load_direction
from projected_grpo.gate.pairs import pair_tokens
from projected_grpo.gate.zones import Gate
from projected_grpo.grpo.checkpoint import TABLES, Checkpoints, fingerprint
from projected_grpo.grpo.loop import Trainer
from projected_grpo.parquet import read_rows
from projected_grpo.policy.base import load_base
from projected_grpo.policy.policy import Policy
from projected_grpo.policy.readings import module_widths
from projected_grpo.runtime import deterministic, run_stage, scratch_root
from projected_grpo.settings import load_settings
from projected_grpo.tables import PAIRS, PROBLEMS, ZONE_NAMES

ROOMS = (
    "env", "gate", "grpo", "policy", "problems", "sampling", "parquet.py", "runtime.py", "scale.py", "seeds.py", "settings.py", "tables.py",
)  # fmt: skip
CODE = [Path("stages/train_arm.py"), *(Path("projected_grpo") / room for room in ROOMS)]


def main(
    problems: Annotated[Path, typer.Option(help="Table problems.")],
    base: Annotated[Path, typer.Option(help="Folder of the base model.")],
    direction: Annotated[Path, typer.Option(help="Folder of the direction; it holds its pairs too where training refreshes.")],
    cut_pairs: Annotated[Path, typer.Option(help="Table pairs: those whose scores set the cuts; empty where none do.")],
    out: Annotated[Path, typer.Option(help="Folder for adapter/, tables and run.json, written.")],
) -> None:
    deterministic()
    settings = load_settings()
    train = settings.scale.train
    policy = Policy(load_base(base), settings.adapter, settings.scale.sampling.temperature)
    widths = module_widths(policy, settings.gate.reading)
    aimed = load_direction(direction / "direction.parquet", settings.gate.draw, settings.gate.reading, widths)
    gate = Gate(settings.gate, aimed, widths)
    rows = [row for row in read_rows(problems, PROBLEMS) if row["split"] == "train"]
    cuts = direction_pairs = None
    if settings.gate.cuts == "pairs":
        cuts = pair_tokens(policy.base, read_rows(cut_pairs, PAIRS))
    if settings.gate.refresh_every and settings.gate.direction in PAIRED:
        direction_pairs = pair_tokens(policy.base, read_rows(direction / "pairs.parquet", PAIRS))
    key = fingerprint(settings.model_dump_json(exclude={"placebo"}), [problems, base, direction, cut_pairs], CODE)
    checkpoints = Checkpoints(scratch_root() / key)
    progress = Progress(train.steps)
    with Sandbox(settings.scale.grading) as sandbox:
        trainer = Trainer(settings, policy, gate, rows, cuts, direction_pairs, sandbox)
        resumed = trainer.run(checkpoints, progress.line)
    policy.save(out / "adapter")
    checkpoints.collect({name: out / f"{name}.parquet" for name in TABLES}, train.steps)
    (out / "run.json").write_text(json.dumps(run_facts(resumed, trainer.seconds), indent=1) + "\n")
    checkpoints.delete()


class Progress:
    """One line a step: reward, qmass, zone shares and the time left."""

    def __init__(self, steps: int) -> None:
        self.steps, self.began, self.first = steps, time.monotonic(), None

    def line(self, row: dict) -> None:
        step = row["step"]
        self.first = step if self.first is None else self.first
        spent = time.monotonic() - self.began
        left = spent / (step + 1 - self.first) * (self.steps - step - 1)
        shares = "/".join(_number(row[f"{zone}_share"], 2) for zone in ZONE_NAMES)
        print(
            f"step {step + 1:>4}/{self.steps}  reward {row['reward_mean']:.3f}  qmass {_number(row['qmass'], 3)}  "
            f"keep/absorb/route {shares}  kl {_number(row['kl'], 4)}  left {left / 60:.1f} min",
            flush=True,
        )


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def run_facts(resumed: int | None, seconds: dict[str, list[float]]) -> dict:
    """What differs from run to run, and so stays out of the tables."""
    packages = ("torch", "transformers", "pyarrow")
    return {
        "resumed_from_step": resumed,
        "seconds_by_phase": seconds,
        "versions": {name: version(name) for name in packages} | {"python": platform.python_version()},
    }


if __name__ == "__main__":
    run_stage(main)
