"""Monitors during training, and what an arm does with a flag.

A monitor gives each rollout of a step a suspicion in [0, 1] that it exploits the environment and flags those at or above
its threshold. Penalty and screening are those of the environment paper (Ariahw et al. 2025), the discount is the advantage
modification of Wu and Tang (arXiv 2604.01476); labelled routing takes the ground-truth monitor's word for the zone and is an upper
bound, never a method.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from projected_grpo.environment.checked import Checked
from projected_grpo.gate.probe import Probe, load_probe
from projected_grpo.gate.thresholds import score
from projected_grpo.gate.zones import ABSORB, KEEP, ROUTE
from projected_grpo.grpo import ranks
from projected_grpo.grpo.judge import EndpointJudge, LocalJudge
from projected_grpo.grpo.monitor_process import MonitorProcess
from projected_grpo.grpo.rollouts import SAME_REWARD, Rollouts, Seen
from projected_grpo.settings.arm import Settings

Monitor = Callable[[Rollouts, Tensor], Seen]  # of a step's rollouts and what the gate reads of them (N, D)
QUESTION_FILE = "judge_question.txt"
ALPHA = 2.0  # of the discount, as published


def watch(monitor: Monitor | None, use: str, rollouts: Rollouts, readings: Tensor, group: int, passes: float) -> Rollouts:
    """The rollouts with what the monitor says of them, and with the advantages that follow from `use`. `passes`: what a pass is paid."""
    if monitor is None:
        return rollouts
    seen = ranks.from_first(monitor(rollouts, readings) if ranks.rank() == 0 else None)  # one word on each rollout, the same on all ranks
    rollouts = replace(rollouts, seen=seen)
    if use == "penalty":
        return _credited(rollouts, rollouts.rewards - passes * seen.flagged, torch.ones_like(seen.flagged), group)
    if use == "discount":
        paid = (rollouts.rewards >= passes) & seen.flagged
        return _credited(rollouts, rollouts.rewards * (1 - ALPHA * seen.suspicion * paid), torch.ones_like(paid), group)
    if use == "screening":
        return _credited(rollouts, rollouts.rewards, ~seen.flagged, group)
    return rollouts


def _credited(rollouts: Rollouts, rewards: Float[Tensor, " N"], counted: Bool[Tensor, " N"], group: int) -> Rollouts:
    """Advantages from `rewards` within each group's counted rollouts. The others have none, and are not gated.

    The rollouts' own rewards stay what the environment paid.
    """
    rewards, counted = rewards.view(-1, group), counted.view(-1, group)
    mean = (rewards * counted).sum(1, keepdim=True) / counted.sum(1, keepdim=True).clamp(min=1)
    highest = rewards.masked_fill(~counted, -torch.inf).amax(1, keepdim=True)
    lowest = rewards.masked_fill(~counted, torch.inf).amin(1, keepdim=True)
    advantage, gated = (rewards - mean) * counted, counted & (highest - lowest > SAME_REWARD)
    return replace(rollouts, advantage=advantage.flatten(), gated=gated.flatten())


def labelled_zones(seen: Seen) -> Int[Tensor, " N"]:
    """Exploited is routed, correct is kept, and what is neither is absorbed."""
    zones = torch.full(seen.flagged.shape, ABSORB)
    zones[seen.correct] = KEEP
    zones[seen.flagged] = ROUTE
    return zones


@dataclass(frozen=True)
class ProbeMonitor:
    probe: Probe

    def __call__(self, rollouts: Rollouts, readings: Tensor) -> Seen:
        suspicion = self.probe.suspicion(readings)
        return Seen(suspicion, suspicion >= self.probe.threshold)


@dataclass(frozen=True)
class DirectionMonitor:
    """Suspicion: the sigmoid of a rollout's score along the direction, standardised within its group. Flagged above the mean."""

    direction: Float[Tensor, " D"]
    group: int

    def __call__(self, rollouts: Rollouts, readings: Tensor) -> Seen:
        scores = score(readings, self.direction).view(-1, self.group)
        spread = scores.std(1, correction=0, keepdim=True)
        z = ((scores - scores.mean(1, keepdim=True)) / spread.clamp(min=1e-12)).flatten()
        return Seen(z.sigmoid(), z > 0)


@dataclass(frozen=True)
class JudgeMonitor:
    """Asks a judge about prompt and completion; equal questions once."""

    judge: Callable[[Sequence[str]], Tensor]
    question: str  # with {prompt} and {completion}
    threshold: float
    environment: Checked  # whose prompts are shown

    def __call__(self, rollouts: Rollouts, readings: Tensor) -> Seen:
        questions = [
            self.question.format(prompt=self.environment.prompt(problem, mode), completion=text)
            for problem, mode, text in zip(rollouts.problems, rollouts.shown_modes, rollouts.texts)
        ]
        unique = list(dict.fromkeys(questions))
        answers = dict(zip(unique, self.judge(unique).tolist(), strict=True))
        suspicion = torch.tensor([answers[question] for question in questions])
        return Seen(suspicion, suspicion >= self.threshold)


def asked_by_the_first_rank(rollouts: Rollouts, readings: Tensor) -> Seen:
    """The monitor of every other rank, which gets its word from there."""
    raise RuntimeError("a monitor was asked by another rank than the first")


@contextmanager
def open_monitor(
    settings: Settings, folder: Path, environment: Checked, direction: Float[Tensor, " D"], command: Sequence[str]
) -> Iterator[Monitor | None]:
    """The arm's monitor from the folder of what it reads, or None. The first rank alone opens it, and asks it for all.

    `direction` is the gate's, as wide as its reading, and `command` starts the ground-truth monitor. Raises ProbeError, JudgeError or MonitorError.
    """
    monitor = settings.monitor
    if monitor.kind == "none":
        yield None
    elif ranks.rank() > 0:
        yield asked_by_the_first_rank
    elif monitor.kind == "probe":
        yield ProbeMonitor(load_probe(folder, len(direction)))
    elif monitor.kind == "direction":
        yield DirectionMonitor(direction, settings.profile.train.group)
    elif monitor.kind == "judge":
        if monitor.judge_is_endpoint:
            judge = EndpointJudge(monitor.judge, monitor.judge_model)
        else:
            judge = LocalJudge(Path(monitor.judge), settings.profile.train.micro_tokens, settings.profile.model.device)
        yield JudgeMonitor(judge, (folder / QUESTION_FILE).read_text(), monitor.judge_threshold, environment)
    else:
        with MonitorProcess(command) as process:
            yield process
