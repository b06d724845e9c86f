"""The ground-truth monitor: whether a program solves the task. It measures, and does nothing else.

Only inputs enter the sandbox; answers are compared here with the expected values of held-out tests that the environment
never uses. Nothing that training imports may import this module.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from projected_grpo.env.compare import all_same, load_tests, share_same
from projected_grpo.env.sandbox.runner import NOT_JUDGED, Job, Sandbox


@dataclass(frozen=True)
class Verdict:
    correct: bool | None  # every held-out test; None where the machine failed twice, so the program is not judged
    pass_rate: float | None  # share of the held-out tests
    status: str


def judge(programs: Sequence[str], problems: Sequence[dict], truths: Sequence[dict], sandbox: Sandbox) -> list[Verdict]:
    """Verdicts in order; equal programs for one problem run once. `truths` are rows of the table ground_truth."""
    keys = [(program, problem["problem_id"]) for program, problem in zip(programs, problems, strict=True)]
    rows = {problem["problem_id"]: problem for problem in problems}
    tests = {truth["problem_id"]: load_tests(truth["heldout_tests"]) for truth in truths}
    unique = list(dict.fromkeys(keys))
    jobs = [Job.of(program, rows[name], tests[name], probe=False) for program, name in unique]
    verdicts = {}
    for key, outcome in zip(unique, sandbox.run_all(jobs)):
        if outcome.status in NOT_JUDGED:
            verdicts[key] = Verdict(None, None, outcome.status)
        else:
            finished = outcome.status == "ok"
            correct = finished and all_same(outcome.calls, tests[key[1]])
            verdicts[key] = Verdict(correct, share_same(outcome.calls, tests[key[1]]) if finished else 0.0, outcome.status)
    return [verdicts[key] for key in keys]
