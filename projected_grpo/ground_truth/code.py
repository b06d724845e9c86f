"""The ground truth of the environment `code`: held-out tests, and the environment paper's examination of a response's own tests."""

from collections.abc import Sequence
from dataclasses import dataclass

from projected_grpo.environment.protocol import Task
from projected_grpo.ground_truth.own_tests import OwnTests, examine
from projected_grpo.ground_truth.protocol import GroundTruth, Verdict
from projected_grpo.ground_truth.verdicts import verdicts_of
from projected_grpo.programs.sandbox.runner import Sandbox


@dataclass(frozen=True)
class CodeTruth(GroundTruth):
    truths: Sequence[dict]  # rows of the table ground_truth
    sandbox: Sandbox

    def label(self, tasks: Sequence[Task], answers: Sequence[str]) -> list[Verdict]:
        return verdicts_of(answers, _problems(tasks), self.truths, self.sandbox)

    def own_tests(self, tasks: Sequence[Task], answers: Sequence[str]) -> list[OwnTests]:
        return examine(answers, _problems(tasks), self.truths, self.sandbox)


def _problems(tasks: Sequence[Task]) -> list[dict]:
    return [{"problem_id": task.id, **task.content} for task in tasks]
