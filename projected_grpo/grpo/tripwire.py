"""When a run has diverged: the median KL to the base model of its last ten steps is over the limit, or a number is not finite.

And when it must not go on from its first step: the sampler and the trainer are two models.
"""

import statistics
from dataclasses import dataclass, field

import torch

from projected_grpo.sampling.protocol import SamplingError

WINDOW = 10  # steps
AGREEMENT = 0.1  # nats; float32 stays below a thousandth


@dataclass
class Tripwire:
    """`limit` in nats a token. A step without a KL does not count."""

    limit: float
    recent: list[float] = field(default_factory=list)  # the KL of the last WINDOW steps that have one
    diverged_at_step: int | None = None
    reason: str = ""

    def watch(self, step: int, kl: float | None) -> None:
        if kl is None:
            return
        self.recent = [*self.recent, kl][-WINDOW:]
        if len(self.recent) == WINDOW and (median := statistics.median(self.recent)) > self.limit:
            self.trip(step, f"the median KL to the base of {WINDOW} steps is {median:.3g} nats a token, over {self.limit}")

    def trip(self, step: int, reason: str) -> None:
        self.diverged_at_step, self.reason = step, reason


def require_agreement(gap: float | None, dtype: torch.dtype) -> None:
    """Raises SamplingError where the sampler and the trainer are two models. gap: largest difference of a sampled token's
    log-probability, nats; None without a gated rollout. Rounding of bfloat16 may reach the limit, so it is asked of float32 alone."""
    if gap is not None and gap > AGREEMENT and dtype == torch.float32:
        raise SamplingError(
            f"the sampler and the trainer differ by {gap:.3g} nats in the log-probability of a token, where rounding explains "
            f"less than {AGREEMENT}; the base model computes something that one of them does not; set another sampling.engine or model"
        )
