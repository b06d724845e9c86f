"""When a run has diverged: its KL to the base model is over the limit in two steps in a row, or a number is not finite."""

from dataclasses import dataclass

IN_A_ROW = 2


@dataclass
class Tripwire:
    """`limit` in nats a token. A step without an estimate of the KL neither counts nor breaks the row."""

    limit: float
    above: int = 0  # estimates in a row that are over the limit
    diverged_at_step: int | None = None
    reason: str = ""

    def watch(self, step: int, kl: float | None) -> None:
        if kl is None:
            return
        self.above = self.above + 1 if kl > self.limit else 0
        if self.above == IN_A_ROW:
            self.trip(step, f"the KL to the base is over {self.limit} nats a token for {IN_A_ROW} steps, at last {kl:.3g}")

    def trip(self, step: int, reason: str) -> None:
        self.diverged_at_step, self.reason = step, reason
