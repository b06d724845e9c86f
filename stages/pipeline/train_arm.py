"""Train one arm: GRPO in the exploitable environment, its updates routed by a direction or corrected by a monitor.

Outputs are written only at the end. A killed run resumes from its last checkpoint, which lies outside of DVC's outputs, and a
finished one that is asked again writes its outputs anew.
torchrun takes the beginning of one of its own options for that option, so none here is one.
"""

import json
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.core.parquet import read_rows
from projected_grpo.core.runtime import PARAMS, Params, Seed, deterministic, run_stage, scratch_root
from projected_grpo.core.tables import DEMONSTRATIONS, PAIRS, PROBLEMS, ZONE_NAMES
from projected_grpo.environment.load import load_environment, refuse_ground_truth
from projected_grpo.grpo.live import Live
from projected_grpo.settings.arm import PAIRED, load_settings

ROOMS = ("core", "environment", "gate", "grpo", "policy", "programs", "prompts", "sampling", "settings")
MEMORY_ALONE = {"sampling": {"rows"}, "train": {"micro_tokens", "recompute_layers"}}  # of the profile; results differ by rounding
CODE = [Path("stages/pipeline/train_arm.py"), *(Path("projected_grpo") / room for room in ROOMS)]


def main(
    problems: Annotated[Path, typer.Option(help="Table problems.")],
    base: Annotated[Path, typer.Option(help="Folder of the base model.")],
    init: Annotated[Path, typer.Option(help="Folder of the adapter's initialization.")],
    arm: Annotated[Path, typer.Option(help="Folder of what the arm reads, by the stage arm.")],
    out: Annotated[Path, typer.Option(help="Folder for adapter/, tables and run.json, written.")],
    live: Annotated[Path | None, typer.Option(help="CSV of the steps so far, written while training goes on.")] = None,
    params: Params = PARAMS,
    seed: Seed = None,
) -> None:
    from projected_grpo.environment.render import check_lengths
    from projected_grpo.gate.directions import load_direction
    from projected_grpo.gate.pairs import pair_tokens
    from projected_grpo.gate.zones import Gate
    from projected_grpo.grpo import ranks
    from projected_grpo.grpo.checkpoint import TABLES, Checkpoints, fingerprint
    from projected_grpo.grpo.demonstrations import Demonstrations
    from projected_grpo.grpo.heal import heal
    from projected_grpo.grpo.loop import Trainer
    from projected_grpo.grpo.monitors import open_monitor
    from projected_grpo.policy.load import load_policy, warm_start
    from projected_grpo.policy.readings import module_widths
    from projected_grpo.sampling.engine import open_sampler

    refuse_ground_truth()
    deterministic()
    ranks.join()
    settings = load_settings(params=params, seed=seed)
    profile, train = settings.profile, settings.profile.train
    ranks.check(train, settings.monitor.use == "screening")
    curriculum = settings.curriculum
    policy = load_policy(base, init, settings)
    if train.recompute_layers:
        policy.recompute_layers()
    if (arm / "warm_start").exists():
        warm_start(policy, arm / "warm_start", settings.uses_ground_truth)
    aim = settings.gate
    widths = module_widths(policy, aim.reading)
    gate = Gate(aim, load_direction(arm / "direction.parquet", aim.direction_name, aim.draw, aim.reading, widths), widths)
    tasks = read_rows(problems, PROBLEMS)
    environment = load_environment(profile.environment, profile.problems, profile.grading)
    check_lengths(policy.base, environment, tasks, profile.sampling, curriculum.inoculate)  # those of the evaluation too, before any training
    rows = [row for row in tasks if row["split"] == "train"]
    cuts = direction_pairs = pool = clean = None
    if aim.cuts == "pairs":
        cuts = pair_tokens(policy.base, read_rows(arm / "cut_pairs.parquet", PAIRS), profile.environment)
    if aim.refresh_every and aim.direction in PAIRED:
        direction_pairs = pair_tokens(policy.base, read_rows(arm / "direction_pairs.parquet", PAIRS), profile.environment)
    if curriculum.until_step:
        pool = Demonstrations.load(read_rows(arm / "demonstrations.parquet", DEMONSTRATIONS), rows, policy.base, settings)
    if curriculum.heal_epochs:
        clean = pair_tokens(policy.base, read_rows(arm / "heal_pairs.parquet", PAIRS), profile.environment).clean
    inputs = [problems, base, init, arm]
    if settings.monitor.kind == "judge" and not settings.monitor.judge_is_endpoint:
        inputs.append(Path(settings.monitor.judge))
    key = fingerprint(settings.model_dump_json(exclude={"placebo": True, "profile": MEMORY_ALONE}), inputs, CODE)
    first = ranks.rank() == 0
    checkpoints = Checkpoints(scratch_root() / key) if first else None
    if checkpoints:
        print(f"{checkpoints.steps()} steps are done, by checkpoints of these settings, inputs, code and number of threads", flush=True)
    progress = Progress(train.steps, Live(live, {name: checkpoints.rows(name) for name in ("steps", "rollouts")}) if first and live else None)
    ground_truth = ["--problems", str(problems), "--ground-truth", str(arm / "ground_truth.parquet")]
    same_settings = ["--params", str(params), *(["--seed", str(seed)] if seed is not None else [])]
    command = [sys.executable, "-m", "stages.pipeline.ground_truth_monitor", *ground_truth, *same_settings]
    with (
        environment,
        open_monitor(settings, arm, environment, gate.direction, command) as watching,
    ):
        sampler = open_sampler(policy, profile.sampling, base)
        trainer = Trainer(settings, policy, gate, rows, cuts, direction_pairs, environment, sampler, pool, watching)
        resumed = trainer.run(checkpoints, progress.report if first else lambda rows: None)
    diverged = trainer.tripwire.diverged_at_step
    facts = run_facts(ranks.count(), resumed, diverged, trainer.seconds)
    ranks.leave()
    if not first:
        return
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


class Progress:
    """One line a step: reward, qmass, zone shares and the time left."""

    def __init__(self, steps: int, live: Live | None) -> None:
        self.steps, self.live, self.began, self.first = steps, live, time.monotonic(), None

    def report(self, rows: Mapping[str, Sequence[dict]]) -> None:
        if self.live:
            self.live.add(rows)
        [row] = rows["steps"]
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


def run_facts(ranks: int, resumed: int | None, diverged: int | None, seconds: Mapping[str, Sequence[float]]) -> dict:
    """What differs from run to run, and so stays out of the tables."""
    packages = ("torch", "transformers", "pyarrow")
    return {
        "ranks": ranks,
        "resumed_from_step": resumed,
        "diverged_at_step": diverged,
        "seconds_by_phase": seconds,
        "versions": {name: version(name) for name in packages} | {"python": platform.python_version()},
    }


if __name__ == "__main__":
    run_stage(main)
