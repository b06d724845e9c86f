"""Seconds of one GRPO step by phase: 64 rollouts of at most 56 tokens on the toy base model, not routed and routed by each score.

Usage, after `make repro` and on an otherwise idle machine: `python -m bench.step`. The steps are whole ones, at a learning
rate of 0, so that all arms sample from the base policy and their completions are equally long. The arms take turns, because a
machine's speed drifts; the first step of each arm is left out, and the median and the range of the others are printed.
The arms are the policy none, routing by activations, and routing by the gradient of the completion's likelihood. The policy
none reads and scores its rollouts too, so that the offline gate test has them; the ratios are therefore also taken to its
step without that phase.
"""

import statistics
from pathlib import Path

import torch
from torch import Tensor

from projected_grpo.core.base import load_base
from projected_grpo.core.parquet import read_rows
from projected_grpo.core.runtime import deterministic
from projected_grpo.core.tables import PROBLEMS
from projected_grpo.environment.checked import Checked
from projected_grpo.environment.load import load_environment
from projected_grpo.gate.directions import haar
from projected_grpo.gate.zones import Gate
from projected_grpo.grpo.loop import Trainer
from projected_grpo.grpo.rollouts import Rollouts, Seen
from projected_grpo.policy.inits import load_init
from projected_grpo.policy.policy import Policy
from projected_grpo.policy.readings import module_widths
from projected_grpo.sampling.engine import open_sampler
from projected_grpo.settings.arm import Settings, load_settings

BASE = Path("artifacts/base")
STEPS, PROMPTS, GROUP = 21, 8, 8
ARMS = {  # name -> changes of the section gate
    "none": {"policy": "none"},
    "activation": {"policy": "route"},
    "gradient": {"policy": "route", "score": "gradient", "features": ["gradient"]},
}
PENALTY = {"kind": "probe", "use": "penalty"}  # the section monitor beside every_second


def main() -> None:
    deterministic()
    rows = training_problems()
    profile = load_settings().profile
    with load_environment(profile.environment, profile.problems, profile.grading) as environment:
        settings = {name: arm_settings(name) for name in ARMS}
        trainers = {name: trainer(arm, toy_policy(arm), rows, environment) for name, arm in settings.items()}
        tokens = [[arm.step(step)["steps"][0]["completion_length"] for arm in trainers.values()] for step in range(STEPS)]
    print(f"{PROMPTS * GROUP} rollouts, {statistics.mean(map(statistics.mean, tokens)):.1f} tokens each, {torch.get_num_threads()} threads")
    steps = {name: phases(name, arm.seconds) for name, arm in trainers.items()}
    none, unread = steps["none"]
    for name, (whole, _) in steps.items():
        print(f"{name}: {whole / none:.2f} times the step of the policy none, {whole / unread:.2f} times that step without its phase gate")


def training_problems() -> list[dict]:
    return [row for row in read_rows(Path("artifacts/problems.parquet"), PROBLEMS) if row["split"] == "train"]


def arm_settings(arm: str) -> Settings:
    settings = load_settings()
    train = settings.profile.train.model_copy(update={"prompts": PROMPTS, "group": GROUP, "learning_rate": 0.0})
    profile, gate = settings.profile.model_copy(update={"train": train}), settings.gate.model_copy(update=ARMS[arm])
    return settings.model_copy(update={"profile": profile, "gate": gate})


def toy_policy(settings: Settings) -> Policy:
    init = load_init(Path("artifacts/init"), settings.adapter)
    return Policy(load_base(BASE, settings.profile.model.device), init, settings.profile.sampling.temperature)


def trainer(settings: Settings, policy: Policy, rows: list[dict], environment: Checked) -> Trainer:
    """Of an arm whose direction is a Haar draw."""
    widths = module_widths(policy, settings.gate.reading)
    gate = Gate(settings.gate, haar(list(widths.values()), 1, seed=0)[0], widths)
    return Trainer(settings, policy, gate, rows, None, None, environment, open_sampler(policy, settings.profile.sampling, BASE))


def every_second(rollouts: Rollouts, readings: Tensor) -> Seen:
    """A monitor under whose penalty the rewards of nearly every group differ, whatever the environment paid."""
    flagged = torch.arange(len(rollouts.texts)) % 2 == 1
    return Seen(flagged.float(), flagged)


def phases(name: str, taken: dict[str, list[float]]) -> tuple[float, float]:
    """Print the phases of an arm's steps. Returns median seconds of a whole step, and of a step without the phase gate."""
    seconds = {phase: times[1:] for phase, times in taken.items()}
    whole = [sum(times) for times in zip(*seconds.values())]
    unread = [total - gate for total, gate in zip(whole, seconds["gate"])]
    seconds["whole step"] = whole
    print(name)
    for phase, times in seconds.items():
        print(spread(phase, times))
    return statistics.median(whole), statistics.median(unread)


def spread(phase: str, times: list[float]) -> str:
    return f"  {phase:<10} median {statistics.median(times):.3f} s  range {min(times):.3f} to {max(times):.3f} s"


if __name__ == "__main__":
    main()
