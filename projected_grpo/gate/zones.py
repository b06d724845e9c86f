"""The three-zone gate: which block of the adapter a rollout updates.

| zone   | score    | quarantine in forward | trains     |
|--------|----------|-----------------------|------------|
| keep   | <= t_low | absent                | deployed   |
| absorb | between  | present               | both       |
| route  | >= t_high| present               | quarantine |
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from projected_grpo.core.tables import ZONE_NAMES
from projected_grpo.gate.directions import DirectionError
from projected_grpo.gate.thresholds import ReadingBuffer, cosine, pair_cuts, projections, quantile_cuts, score
from projected_grpo.policy.adapter import BOTH, DEPLOYED_ALONE, QUARANTINE_ALONE, State
from projected_grpo.settings.arm import SCORED
from projected_grpo.settings.arm import Gate as GateSettings

KEEP, ABSORB, ROUTE = range(len(ZONE_NAMES))
PRESENT = {KEEP: DEPLOYED_ALONE, ABSORB: BOTH, ROUTE: BOTH}
TRAINED = {KEEP: DEPLOYED_ALONE, ABSORB: BOTH, ROUTE: QUARANTINE_ALONE}
PairReadings = tuple[Float[Tensor, "P D"], Float[Tensor, "P D"]]  # hack sides, clean sides


@dataclass(frozen=True)
class Decision:
    scores: Float[Tensor, " N"]
    cosines: Float[Tensor, " N"]
    zones: Int[Tensor, " N"]
    t_low: float | None  # None while warming up
    t_high: float | None


def assign_zones(scores: Float[Tensor, " N"], t_low: float, t_high: float) -> Int[Tensor, " N"]:
    """A score that reaches both cuts, as where all scores are equal, is no evidence for either side: absorb."""
    low, high = scores <= t_low, scores >= t_high
    zones = torch.full(scores.shape, ABSORB)
    zones[low & ~high] = KEEP
    zones[high & ~low] = ROUTE
    return zones


def deal(zones: Int[Tensor, " N"], cells: Int[Tensor, " N"], order: Float[Tensor, " N"]) -> Int[Tensor, " N"]:
    """The zones of each cell dealt to its rollouts anew, from keep to route by rising `order`: same masses, no score."""
    dealt = zones.clone()
    for cell in cells.unique():
        inside = (cells == cell).nonzero()[:, 0]
        dealt[inside[order[inside].argsort()]] = zones[inside].sort().values
    return dealt


def zone_state(zone: int, masking: str) -> State:
    """The adapter in which the rollouts of a zone train. `masking` output detaches the output of a block that does not train;
    parameter removes the gradients of its parameters alone, so that earlier layers see the gradient through it."""
    return State(PRESENT[zone], TRAINED[zone], {"output": TRAINED, "parameter": PRESENT}[masking][zone])


def restrict(direction: Float[Tensor, " D"], widths: Mapping[str, int], pattern: str) -> Float[Tensor, " D"]:
    """The direction with zeros in the modules whose name the pattern does not match. Raises DirectionError."""
    named = [re.search(pattern, module) is not None for module in widths]
    if not any(named):
        raise DirectionError(f"gate.modules: '{pattern}' matches none of the modules, among them '{next(iter(widths))}'")
    return direction * torch.tensor(named).repeat_interleave(torch.tensor(list(widths.values())))


class Gate:
    """Scores rollouts by a direction and assigns zones by the run's own quantiles or by the pairs' own scores."""

    def __init__(self, settings: GateSettings, direction: Float[Tensor, " D"], widths: Mapping[str, int]) -> None:
        self.settings, self.widths = settings, widths
        self.buffer = ReadingBuffer(settings.buffer, settings.half_life)
        self.aim(direction)

    def aim(self, direction: Float[Tensor, " D"]) -> None:
        """Score by this direction from now on."""
        self.direction = restrict(direction, self.widths, self.settings.modules)

    def score(self, readings: Float[Tensor, "N D"]) -> Float[Tensor, " N"]:
        """The dot product; standardised, each module's is first put on the buffer's mean and deviation."""
        if not self.settings.standardised:
            return score(readings, self.direction)
        widths = list(self.widths.values())
        seen = projections(self.buffer.readings, self.direction, widths)
        spread = seen.std(0, correction=0).clamp(min=1e-12)
        return ((projections(readings, self.direction, widths) - seen.mean(0)) / spread).sum(1)

    def assign(self, readings: Float[Tensor, "N D"], pairs: PairReadings | None = None) -> Decision:
        """Zones of one step's gated rollouts, which enter the buffer before the cuts are taken.

        `pairs` are the authored pairs' readings where these set the cuts. Under the policies that do not route by a
        score every rollout is absorbed; scores and cuts are recorded all the same.
        """
        self.buffer.append(readings)
        scores, cosines = self.score(readings), cosine(readings, self.direction)
        if not scores.isfinite().all():
            raise FloatingPointError("a routing score is not finite; the policy's activations have diverged")
        zones = torch.full(scores.shape, ABSORB)
        if len(self.buffer) < self.settings.warmup:
            return Decision(scores, cosines, zones, None, None)
        t_low, t_high = self._cuts(pairs)
        if self.settings.policy in SCORED:
            zones = assign_zones(scores, t_low, t_high)
        return Decision(scores, cosines, zones, t_low, t_high)

    def _cuts(self, pairs: PairReadings | None) -> tuple[float, float]:
        settings = self.settings
        if settings.cuts == "pairs":
            hack, clean = pairs
            return pair_cuts(self.score(hack), self.score(clean))
        past = self.score(self.buffer.readings)
        return quantile_cuts(past, self.buffer.weights(), settings.keep_quantile, settings.route_quantile)

