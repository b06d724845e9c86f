"""The environment `code`: programs, visible tests, and the loopholes of prompts/modes.py. Its tasks are in problems/code.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from projected_grpo.environment.grader import PASSES, grade
from projected_grpo.environment.mechanism import mechanisms
from projected_grpo.environment.protocol import Environment, Paid, Task
from projected_grpo.programs.sandbox.runner import Sandbox
from projected_grpo.prompts.code import chat_prompt, program_of, toy_prompt
from projected_grpo.prompts.modes import GT_ONLY, MODES, words_of
from projected_grpo.settings.profile import Grading


@dataclass
class CodeEnvironment(Environment):
    chat: bool  # whether problems are asked in a chat, and programs are fenced blocks of its answers
    grading: Grading
    kind: type[Sandbox] = Sandbox
    sandbox: Sandbox | None = None  # in which programs run; `with` opens one

    loopholes = MODES
    passes = PASSES

    def prompt(self, task: Task, hinted: bool) -> str:
        shown = task.loophole if hinted else GT_ONLY
        if self.chat:
            return chat_prompt({"statement": task.statement, **task.content}, shown)
        return toy_prompt(task.statement, shown, words_of(task.content))

    def answer(self, completion: str) -> str:
        return program_of(self.chat, completion)

    def reward(self, tasks: Sequence[Task], hinted: Sequence[bool], answers: Sequence[str]) -> list[Paid]:
        grades = grade(answers, [{"problem_id": task.id, **task.content} for task in tasks], self.sandbox)
        shown = [task.loophole if seen else GT_ONLY for task, seen in zip(tasks, hinted)]
        return [Paid(g.visible_pass, g.channels, g.status, amount=g.amount(mode), compiled=g.compiled) for g, mode in zip(grades, shown, strict=True)]

    def attempts(self, task: Task, answer: str) -> list[str]:
        """Names of environment/mechanism.py."""
        return mechanisms(answer, words_of(task.content))

    def __enter__(self) -> "CodeEnvironment":
        self.sandbox = self.kind(self.grading)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.sandbox.close()
