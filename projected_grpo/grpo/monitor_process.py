"""The ground-truth monitor as a process of its own: training cannot import it, and an arm that uses it says so.

Protocol, JSON lines: the trainer sends {id, problem_id, shown_mode, program} for each rollout of a step and then an empty
line; the process answers {id, exploited, correct} for each, in order. null is what the machine failed to judge. The
process ends with its standard input, so also where the trainer is killed.
"""

import json
import subprocess
from collections.abc import Sequence
from types import TracebackType
from typing import NoReturn

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from projected_grpo.core.errors import InputError
from projected_grpo.environment.grader import NotGradedError
from projected_grpo.grpo.rollouts import Rollouts, Seen

GRACE_S = 30  # to finish a step that nobody waits for


class MonitorError(InputError):
    """A monitor process that died or answered something else than the protocol; the message shows its command."""


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    id: int
    exploited: bool | None
    correct: bool | None


class MonitorProcess:
    def __init__(self, command: Sequence[str]) -> None:
        self.command = command
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, rollouts: Rollouts, readings: Tensor) -> Seen:
        """Suspicion is 1 for a rollout that exploits the environment and 0 for any other.

        Raises MonitorError, and NotGradedError where the machine failed to run a program.
        """
        requests = [
            {"id": i, "problem_id": problem["problem_id"], "shown_mode": mode, "program": program}
            for i, (problem, mode, program) in enumerate(zip(rollouts.problems, rollouts.shown_modes, rollouts.programs))
        ]
        try:
            self.process.stdin.write("".join(json.dumps(request) + "\n" for request in requests) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            self._died()
        answers = [self._answer(request["id"]) for request in requests]
        if any(answer.exploited is None or answer.correct is None for answer in answers):
            raise NotGradedError(f"{self._name}: could not run a program twice; see to the machine's load and memory")
        exploited, correct = (torch.tensor([getattr(a, name) for a in answers]) for name in ("exploited", "correct"))
        return Seen(exploited.float(), exploited, correct)

    def _answer(self, expected: int) -> Answer:
        line = self.process.stdout.readline()
        if not line:
            self._died()
        try:
            answer = Answer.model_validate_json(line)
        except ValidationError as error:
            raise MonitorError(f"{self._name}: answered {line[:200]!r}: {error.errors()[0]['msg']}") from error
        if answer.id != expected:
            raise MonitorError(f"{self._name}: answered for rollout {answer.id}, expected {expected}; answers come in order")
        return answer

    def _died(self) -> NoReturn:
        status = self.process.wait()
        raise MonitorError(
            f"{self._name}: ended with status {status} before it had answered; its own message, if any, is above; "
            "start training again, which resumes from its last checkpoint"
        ) from None

    @property
    def _name(self) -> str:
        return f"monitor process '{' '.join(self.command)}'"

    def __enter__(self) -> "MonitorProcess":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End the process by the end of its input."""
        try:
            self.process.communicate(timeout=GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
