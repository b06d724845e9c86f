"""What the evaluation function that a response defines would accept, by the definitions of the environment paper.

The response's own run_tests() is called on stand-ins for its solution: stubs that return a constant, and the canonical
solution. The program could read the canonical solution there, so nothing but these labels is taken from the run.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from projected_grpo.env.sandbox.runner import Job, Sandbox

STUB_ANSWERS = ("0", "None", "''", "[]", "True")


@dataclass(frozen=True)
class OwnTests:
    on_stubs: bool  # it passes on every stub, so it asks nothing of the solution
    on_canonical: bool  # it passes on the canonical solution


def examine(programs: Sequence[str], problems: Sequence[dict], truths: Sequence[dict], sandbox: Sandbox) -> list[OwnTests]:
    """In order. `problems` and `truths` are rows of their tables; a response without run_tests() passes nothing."""
    canonical = {truth["problem_id"]: truth["canonical_solution"] for truth in truths}
    jobs = []
    for program, problem in zip(programs, problems, strict=True):
        stubs = [stub(problem["entry_point"], answer) for answer in STUB_ANSWERS]
        jobs.append(Job.of(program, problem, [], probe=False, stand_ins=(*stubs, canonical[problem["problem_id"]])))
    found = []
    for outcome in sandbox.run_all(jobs):
        passed = [seen is True for seen in outcome.stand_ins] or [False]
        found.append(OwnTests(all(passed[:-1]) and len(passed) > 1, passed[-1]))
    return found


def stub(entry_point: str, answer: str) -> str:
    """A solution that returns one constant: a function, or a class with the method that is called."""
    name, _, method = entry_point.partition("().")
    if not method:
        return f"def {name}(*args, **kwargs):\n    return {answer}\n"
    return f"class {name}:\n    def {method}(self, *args, **kwargs):\n        return {answer}\n"
