"""The ground-truth monitor: the environment and the ground truth that a profile names, for stages that label and never for training."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from projected_grpo.environment.checked import Checked, tasks_of
from projected_grpo.environment.load import call
from projected_grpo.environment.protocol import ProtocolError
from projected_grpo.ground_truth.code import CodeTruth
from projected_grpo.ground_truth.own_tests import OwnTests
from projected_grpo.ground_truth.protocol import GroundTruth, Verdict
from projected_grpo.settings.profile import Problems


@dataclass(frozen=True)
class GroundTruthMonitor:
    environment: Checked
    name: str  # what the profile calls the ground truth
    ground_truth: GroundTruth
    known: frozenset[str]  # tasks that it can judge

    def verdicts(self, rows: Sequence[dict], answers: Sequence[str]) -> list[Verdict]:
        """`rows` are those of the table problems, one for each answer. Raises ProtocolError where the ground truth gives no verdict."""
        tasks = tasks_of(rows)
        found = self.ground_truth.label(tasks, list(answers))
        count = len(found) if isinstance(found, list) else f"{found!r:.80}"
        if count != len(tasks):
            raise ProtocolError(f"{self.name}: label() returned {count} for {len(tasks)} answers; return a list with one Verdict for each, in order")
        for task, verdict in zip(tasks, found):
            if not isinstance(verdict, Verdict) or verdict.correct not in (True, False, None):
                raise ProtocolError(
                    f"{self.name}: label() returned {verdict!r:.80} for task {task.id!r}, expected a Verdict whose correct is True, False, or None "
                    "where the answer was not judged; return one of these"
                )
        return [_with_rate(verdict) for verdict in found]

    def own_tests(self, rows: Sequence[dict], answers: Sequence[str]) -> list[OwnTests]:
        return self.ground_truth.own_tests(tasks_of(rows), answers)

    @property
    def examines_own_tests(self) -> bool:
        return isinstance(self.ground_truth, CodeTruth)


def _with_rate(verdict: Verdict) -> Verdict:
    known = verdict.pass_rate is not None or verdict.correct is None
    return verdict if known else replace(verdict, pass_rate=float(verdict.correct))


def load_monitor(environment: Checked, ground_truth: str, problems: Problems, truths: Sequence[dict]) -> GroundTruthMonitor:
    """`ground_truth` is that of the profile, `truths` are rows of the table ground_truth. Raises ProtocolError.

    The ground truth of `code` runs programs in the environment's sandbox, which is open.
    """
    if ground_truth == "code":
        found = CodeTruth(truths, environment.environment.sandbox)
    else:
        found = call(ground_truth, "ground_truth", problems.own)
        if not isinstance(found, GroundTruth):
            raise ProtocolError(f"{ground_truth} returned {found!r:.80}, expected a GroundTruth; give its class the method label()")
    return GroundTruthMonitor(environment, ground_truth, found, frozenset(row["problem_id"] for row in truths))
