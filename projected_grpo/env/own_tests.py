"""What the evaluation function that a response defines would accept, by the definitions of the environment paper.

The response's own run_tests() is called on stand-ins for its solution: stubs that return a constant, and the canonical
solution, each in a run of its own. The program could read the canonical solution there, so nothing but these labels is
taken from the run.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from projected_grpo.env.sandbox.runner import NOT_JUDGED, Job, Sandbox

STUB_ANSWERS = ("0", "None", "''", "[]", "True")


@dataclass(frozen=True)
class OwnTests:
    judged: bool  # False where the machine failed to run one of the stand-ins
    on_stubs: bool  # it passes on every stub, so it asks nothing of the solution
    on_canonical: bool  # it passes on the canonical solution


def examine(programs: Sequence[str], problems: Sequence[dict], truths: Sequence[dict], sandbox: Sandbox) -> list[OwnTests]:
    """In order; equal runs are made once, as of one response to two problems on a stub, which knows neither.

    `problems` and `truths` are rows of their tables; a response without run_tests() passes nothing.
    """
    canonical = {truth["problem_id"]: truth["canonical_solution"] for truth in truths}
    jobs = []
    for program, problem in zip(programs, problems, strict=True):
        stubs = [stub(problem["entry_point"], answer) for answer in STUB_ANSWERS]
        for stand_in in (*stubs, canonical[problem["problem_id"]]):
            jobs.append(Job.of(program, problem, [], probe=False, stand_in=stand_in))
    distinct = list(dict.fromkeys(jobs))
    made = dict(zip(distinct, sandbox.run_all(distinct)))
    outcomes, count = [made[job] for job in jobs], len(STUB_ANSWERS) + 1
    found = []
    for start in range(0, len(outcomes), count):
        *stubbed, on_canonical = outcomes[start : start + count]
        judged = not any(outcome.status in NOT_JUDGED for outcome in (*stubbed, on_canonical))
        found.append(OwnTests(judged, all(outcome.stand_in for outcome in stubbed), on_canonical.stand_in))
    return found


def stub(entry_point: str, answer: str) -> str:
    """A solution that returns one constant: a function, or a class with the method that is called."""
    name, _, method = entry_point.partition("().")
    if not method:
        return f"def {name}(*args, **kwargs):\n    return {answer}\n"
    return f"class {name}:\n    def {method}(self, *args, **kwargs):\n        return {answer}\n"
