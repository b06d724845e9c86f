"""Train one arm: GRPO in the exploitable environment, its updates routed by a direction or corrected by a monitor.

Outputs are written only at the end. A killed run resumes from its last checkpoint, which lies outside of DVC's outputs, and a
finished one that is asked again writes its outputs anew.
torchrun takes the beginning of one of its own options for that option, so none here is one (--start, --monitor).
"""

import json
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.core.base import load_base
from projected_grpo.core.parquet import read_rows
from projected_grpo.core.runtime import PARAMS, Params, Seed, deterministic, run_stage, scratch_root
from projected_grpo.core.tables import DEMONSTRATIONS, PAIRS, PROBLEMS, ZONE_NAMES
from projected_grpo.environment.load import load_environment, refuse_ground_truth
from projected_grpo.environment.render import check_lengths
from projected_grpo.gate.directions import PAIRED, load_direction
from projected_grpo.gate.pairs import pair_tokens
from projected_grpo.gate.zones import Gate
from projected_grpo.grpo import ranks
from projected_grpo.grpo.checkpoint import TABLES, Checkpoints, fingerprint
from projected_grpo.grpo.demonstrations import Demonstrations
from projected_grpo.grpo.heal import heal
from projected_grpo.grpo.loop import Trainer
from projected_grpo.grpo.monitors import open_monitor
from projected_grpo.policy.inits import load_init
from projected_grpo.policy.origin import AdapterError
from projected_grpo.policy.policy import ADAPTER_FILE, Policy
from projected_grpo.policy.readings import module_widths
from projected_grpo.sampling.engine import open_sampler
from projected_grpo.settings.arm import load_settings

ROOMS = ("core", "environment", "gate", "grpo", "policy", "programs", "prompts", "sampling", "settings")
MEMORY_ALONE = {"sampling": {"rows"}, "train": {"micro_tokens", "recompute_layers"}}  # of the scale; results differ by rounding
CODE = [Path("stages/train_arm.py"), *(Path("projected_grpo") / room for room in ROOMS)]


def main(
    problems: Annotated[Path, typer.Option(help="Table problems.")],
    base: Annotated[Path, typer.Option(help="Folder of the base model.")],
    init: Annotated[Path, typer.Option(help="Folder of the adapter's initialization.")],
    direction: Annotated[Path, typer.Option(help="Folder of the direction; it holds its pairs too where training refreshes.")],
    cut_pairs: Annotated[Path, typer.Option(help="Table pairs: those whose scores set the cuts; empty where none do.")],
    demonstrations: Annotated[Path, typer.Option(help="Table demonstrations; empty where the curriculum has none.")],
    heal_pairs: Annotated[Path, typer.Option(help="Table pairs: those that training heals on; empty where it does not.")],
    start: Annotated[Path, typer.Option("--warm-start", help="Folder of the adapter that training starts from, or starts/zero.")],
    monitor: Annotated[Path, typer.Option("--monitor-folder", help="Folder of the arm's kind of monitor.")],
    out: Annotated[Path, typer.Option(help="Folder for adapter/, tables and run.json, written.")],
    params: Params = PARAMS,
    seed: Seed = None,
) -> None:
    refuse_ground_truth()
    deterministic()
    ranks.join()
    settings = load_settings(params=params, seed=seed)
    train = settings.scale.train
    ranks.check(train, settings.monitor.use == "screening")
    curriculum = settings.curriculum
    policy = Policy(load_base(base, settings.scale.model.device), load_init(init, settings.adapter), settings.scale.sampling.temperature)
    if train.recompute_layers:
        policy.recompute_layers()
    warm_start(policy, start, settings.uses_ground_truth)
    widths = module_widths(policy, settings.gate.reading)
    aim, file = settings.gate, direction / "direction.parquet"
    aimed = load_direction(file, aim.direction, aim.draw, aim.reading, widths)
    gate = Gate(settings.gate, aimed, widths)
    tasks = read_rows(problems, PROBLEMS)
    scale = settings.scale
    environment = load_environment(scale.environment, scale.problems, scale.grading)
    check_lengths(policy.base, environment, tasks, settings.scale.sampling, curriculum.inoculate)  # those of the evaluation too, before any training
    rows = [row for row in tasks if row["split"] == "train"]
    cuts = direction_pairs = pool = clean = None
    if settings.gate.cuts == "pairs":
        cuts = pair_tokens(policy.base, read_rows(cut_pairs, PAIRS), scale.environment)
    if settings.gate.refresh_every and settings.gate.direction in PAIRED:
        direction_pairs = pair_tokens(policy.base, read_rows(direction / "pairs.parquet", PAIRS), scale.environment)
    if curriculum.until_step:
        pool = Demonstrations.load(read_rows(demonstrations, DEMONSTRATIONS), rows, policy.base, settings)
    if curriculum.heal_epochs:
        clean = pair_tokens(policy.base, read_rows(heal_pairs, PAIRS), scale.environment).clean
    inputs = [problems, base, init, direction, cut_pairs, demonstrations, heal_pairs, start, monitor]
    if settings.monitor.kind == "judge" and not settings.monitor.judge_is_endpoint:
        inputs.append(Path(settings.monitor.judge))
    key = fingerprint(settings.model_dump_json(exclude={"placebo": True, "scale": MEMORY_ALONE}), inputs, CODE)
    first = ranks.rank() == 0
    checkpoints = Checkpoints(scratch_root() / key) if first else None
    if checkpoints:
        print(f"{checkpoints.steps()} steps are done, by checkpoints of these settings, inputs, code and number of threads", flush=True)
    progress = Progress(train.steps)
    ground_truth = ["--problems", str(problems), "--ground-truth", str(monitor / "ground_truth.parquet")]
    same_settings = ["--params", str(params), *(["--seed", str(seed)] if seed is not None else [])]
    command = [sys.executable, "-m", "stages.ground_truth_monitor", *ground_truth, *same_settings]
    with (
        environment,
        open_monitor(settings, monitor, environment, gate.direction, command) as watching,
    ):
        sampler = open_sampler(policy, settings.scale.sampling, base)
        trainer = Trainer(settings, policy, gate, rows, cuts, direction_pairs, environment, sampler, pool, watching)
        resumed = trainer.run(checkpoints, progress.line if first else lambda row: None)
    facts = run_facts(resumed, trainer)
    ranks.leave()
    if not first:
        return
    diverged = trainer.tripwire.diverged_at_step
    if diverged is not None:
        print(f"diverged in step {diverged + 1}: {trainer.tripwire.reason}; training stops here, and what it wrote is kept", flush=True)
    elif clean is not None:
        one_block = settings.gate.policy == "none"
        losses = heal(policy, clean, curriculum.heal_epochs, train.learning_rate, one_block, settings.seed)
        print(f"retain-heal: {len(losses)} batches, NLL of the first {losses[0]:.3f} and of the last {losses[-1]:.3f} nats a token")
    policy.save(out / "adapter", settings.uses_ground_truth)
    steps = train.steps if diverged is None else diverged + 1
    checkpoints.collect({name: out / f"{name}.parquet" for name in TABLES}, steps)
    (out / "run.json").write_text(json.dumps(facts, indent=1) + "\n")
    checkpoints.finish(out)


def warm_start(policy: Policy, folder: Path, uses_ground_truth: bool) -> None:
    """Load the adapter of `folder`; a folder with a README and nothing else is the zero start. Raises AdapterError.

    Only what is trained is loaded, so decay still pulls toward the initialization. An arm that does not itself use ground truth
    takes no adapter that was trained with it.
    """
    if not folder.is_dir():
        raise AdapterError(
            f"{folder}: is no folder; curriculum.warm_start names a folder with {ADAPTER_FILE}, or starts/zero"
        )
    if {path.name for path in folder.iterdir()} == {"README.md"}:
        return
    policy.load(folder)
    if policy.origin.uses_ground_truth and not uses_ground_truth:
        raise AdapterError(
            f"{folder}: holds an adapter that was trained with labels of the ground-truth monitor, and this arm uses none; let "
            "curriculum.warm_start name the adapter of a run that used none"
        )


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
            f"step {step + 1:>4}/{self.steps}  reward {_number(row['reward_mean'], 3)}  qmass {_number(row['qmass'], 3)}  "
            f"keep/absorb/route {shares}  kl {_number(row['kl'], 4)}  left {left / 60:.1f} min",
            flush=True,
        )


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def run_facts(resumed: int | None, trainer: Trainer) -> dict:
    """What differs from run to run, and so stays out of the tables."""
    packages = ("torch", "transformers", "pyarrow")
    return {
        "ranks": ranks.count(),
        "resumed_from_step": resumed,
        "diverged_at_step": trainer.tripwire.diverged_at_step,
        "seconds_by_phase": trainer.seconds,
        "versions": {name: version(name) for name in packages} | {"python": platform.python_version()},
    }


if __name__ == "__main__":
    run_stage(main)
