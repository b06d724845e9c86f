"""What the evaluation function that a response defines would accept, by the definitions of the environment paper.

The response's own run_tests() is called on stand-ins for its solution: stubs that return a constant, and one that answers as the
canonical solution does. The latter's text is in no process that runs a response. Where run_tests() asks what the stand-in does
not know, the run ends, the canonical solution is called in a run of its own, and run_tests() begins anew with one answer more.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from projected_grpo.programs.sandbox.runner import NOT_JUDGED, Job, Outcome, Sandbox

STUB_ANSWERS = ("0", "None", "''", "[]", "True")
QUESTIONS, LONGEST = 50, 1 << 16  # that are answered, and characters of one; a response that asks more passes nothing


@dataclass(frozen=True)
class OwnTests:
    judged: bool  # False where the machine failed to run one of the stand-ins
    on_stubs: bool  # it passes on every stub, so it asks nothing of the solution
    on_canonical: bool  # it passes on the canonical solution's answers


def examine(programs: Sequence[str], problems: Sequence[dict], truths: Sequence[dict], sandbox: Sandbox) -> list[OwnTests]:
    """In order; equal runs are made once, as of one response to two problems on a stub, which knows neither.

    `problems` and `truths` are rows of their tables; a response without run_tests() passes nothing.
    """
    stubbed = [[_job(program, problem, answer) for answer in STUB_ANSWERS] for program, problem in zip(programs, problems, strict=True)]
    distinct = list(dict.fromkeys(job for jobs in stubbed for job in jobs))
    on_stub = dict(zip(distinct, sandbox.run_all(distinct)))
    found = []
    for jobs, on_canonical in zip(stubbed, _on_canonical(programs, problems, truths, sandbox)):
        outcomes = [on_stub[job] for job in jobs]
        judged = not any(outcome.status in NOT_JUDGED for outcome in (*outcomes, on_canonical))
        found.append(OwnTests(judged, all(outcome.stand_in for outcome in outcomes), on_canonical.stand_in))
    return found


def stub(entry_point: str, answer: str) -> str:
    """A solution that returns one expression: a function, or a class with the method that is called."""
    name, _, method = entry_point.partition("().")
    if not method:
        return f"def {name}(*args, **kwargs):\n    return {answer}\n"
    return f"class {name}:\n    def {method}(self, *args, **kwargs):\n        return {answer}\n"


def _job(program: str, problem: dict, answer: str) -> Job:
    return replace(Job.of(program, problem, [], probe=False), stand_in=stub(problem["entry_point"], answer))


def _on_canonical(programs: Sequence[str], problems: Sequence[dict], truths: Sequence[dict], sandbox: Sandbox) -> list[Outcome]:
    keys = [(program, problem["problem_id"], problem["words"]) for program, problem in zip(programs, problems)]
    jobs = {key: _job(key[0], problem, "__ask__(args, kwargs)") for key, problem in zip(keys, problems)}
    answers, outcomes, asking = _Answers(problems, truths, sandbox), {}, list(jobs)
    for _ in range(QUESTIONS + 1):
        outcomes |= zip(asking, sandbox.run_all([jobs[key] for key in asking]))
        texts = {key: _text(outcomes[key].question) for key in asking if outcomes[key].status == "asks"}
        asking = [key for key, text in texts.items() if len(text) <= LONGEST]
        for key, seen in zip(asking, answers.of([(key[1], texts[key]) for key in asking])):
            if seen.status in NOT_JUDGED:
                outcomes[key] = seen
            call = seen.calls[0] if seen.status == "ok" else ["error", "RuntimeError", False]
            jobs[key] = replace(jobs[key], answers=(*jobs[key].answers, (texts[key], call)))
        asking = [key for key in asking if outcomes[key].status == "asks"]
    return [outcomes[key] for key in keys]


def _text(question: dict) -> str:
    """As the sandbox writes it."""
    return json.dumps(question, separators=(",", ":"))


class _Answers:
    """What the canonical solutions answer; a question that several responses ask is put once."""

    def __init__(self, problems: Sequence[dict], truths: Sequence[dict], sandbox: Sandbox) -> None:
        self.problems = {problem["problem_id"]: problem for problem in problems}
        self.solutions = {truth["problem_id"]: truth["canonical_solution"] for truth in truths}
        self.sandbox, self.known = sandbox, {}

    def of(self, asked: Sequence[tuple[str, str]]) -> list[Outcome]:
        """For each (problem_id, question)."""
        new = [key for key in dict.fromkeys(asked) if key not in self.known]
        jobs = [Job.of(self.solutions[name], self.problems[name], [json.loads(text)], probe=False) for name, text in new]
        self.known |= zip(new, self.sandbox.run_all(jobs))
        return [self.known[key] for key in asked]
