"""The ground-truth monitor of the environment `code`: whether a program solves the task. It measures, and does nothing else.

Only inputs enter the sandbox; answers are compared here with the expected values of held-out tests that the environment
never uses. Nothing that training imports may import this module.
"""

from collections.abc import Sequence

from projected_grpo.ground_truth.protocol import Verdict
from projected_grpo.programs.compare import load_tests
from projected_grpo.programs.sandbox.runner import NOT_JUDGED, Sandbox
from projected_grpo.programs.trial import Task, try_all


def verdicts_of(programs: Sequence[str], problems: Sequence[dict], truths: Sequence[dict], sandbox: Sandbox) -> list[Verdict]:
    """Verdicts in order; equal programs for one problem run once. `truths` are rows of the table ground_truth."""
    keys = [(program, problem["problem_id"]) for program, problem in zip(programs, problems, strict=True)]
    rows = {problem["problem_id"]: problem for problem in problems}
    tests = {truth["problem_id"]: load_tests(truth["heldout_tests"]) for truth in truths}
    unique = list(dict.fromkeys(keys))
    trials = try_all([Task(program, rows[name], tests[name]) for program, name in unique], sandbox, probe=False)
    verdicts = {}
    for key, trial in zip(unique, trials):
        judged = trial.outcome.status not in NOT_JUDGED
        verdicts[key] = Verdict(trial.passed if judged else None, trial.share if judged else None, trial.outcome.status)
    return [verdicts[key] for key in keys]
