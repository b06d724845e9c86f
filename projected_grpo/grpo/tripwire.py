"""When a run has diverged: the median KL to the base model of its last ten steps is over the limit, or a number is not finite."""

import statistics
from dataclasses import dataclass, field

WINDOW = 10  # steps


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
