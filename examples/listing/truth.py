"""What training cannot import: reasoning-gym's own scoring of the number that a response gives as its answer."""

from collections.abc import Sequence

import reasoning_gym
from reasoning_gym.utils import extract_answer

from projected_grpo.environment.protocol import Task
from projected_grpo.ground_truth.protocol import GroundTruth, Verdict


def load(**settings: int) -> GroundTruth:
    """It needs none of the keys of `problems`."""
    return Scored()


class Scored(GroundTruth):
    def __init__(self) -> None:
        self.sums = reasoning_gym.create_dataset("chain_sum", size=1, seed=0)

    def label(self, tasks: Sequence[Task], answers: Sequence[str]) -> list[Verdict]:
        """Correct is what scores fully; a number that stands elsewhere than in the tags is no answer."""
        given = [extract_answer(answer) for answer in answers]
        scores = [self.sums.score_answer(found, {"answer": task.content["answer"]}) for task, found in zip(tasks, given, strict=True)]
        return [Verdict(correct=score == 1.0) for score in scores]
