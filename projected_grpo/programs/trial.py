"""What a program answers to the tests of a problem, and which of its answers are right.

A test is one of three things, by its keys: {args, kwargs, expected}, a call, which may name a tolerance of floats; {args, kwargs, checker}, a call with several right
answers; {stdin, expected}, a run of the program as a script. A checker defines check(answer, test), which returns True where
the answer is right. It runs in a process of its own, and so does each run of a script.

A program that passes every test and could owe it to luck is tried once more from another seed of random numbers and hashes, and that
trial counts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from projected_grpo.programs.compare import right_calls
from projected_grpo.programs.luck import could_be_lucky
from projected_grpo.programs.sandbox.forkserver import STDOUT_LIMIT
from projected_grpo.programs.sandbox.runner import NOT_JUDGED, SEEDS, Job, Outcome, Sandbox


@dataclass(frozen=True)
class Trial:
    outcome: Outcome  # of all runs together
    right: tuple[bool, ...]  # of each test; all False where the program did not finish

    @property
    def passed(self) -> bool:
        return all(self.right)

    @property
    def share(self) -> float:
        return sum(self.right) / len(self.right)

    @property
    def first_failed(self) -> int | None:
        """Its place among the tests, from 0."""
        return None if self.passed else self.right.index(False)


@dataclass(frozen=True)
class Task:
    program: str
    problem: dict  # row of the table problems
    tests: Sequence[dict]  # at least one


def try_all(tasks: Sequence[Task], sandbox: Sandbox, probe: bool) -> list[Trial]:
    """In order. `probe`: look for the channels that only the program's own interpreter can see."""
    trials = _try(tasks, sandbox, probe, SEEDS[0])
    lucky = [place for place, trial in enumerate(trials) if trial.passed and could_be_lucky(tasks[place].program, tasks[place].problem["setup_code"])]
    for place, trial in zip(lucky, _try([tasks[place] for place in lucky], sandbox, probe, SEEDS[1])):
        trials[place] = trial
    return trials


def _try(tasks: Sequence[Task], sandbox: Sandbox, probe: bool, seed: int) -> list[Trial]:
    jobs = [[replace(job, seed=seed) for job in _jobs(task, probe)] for task in tasks]
    made = iter(sandbox.run_all([job for some in jobs for job in some]))
    outcomes = [_together(task, [next(made) for _ in some]) for task, some in zip(tasks, jobs)]
    return _checked(tasks, outcomes, sandbox)


def is_script(tests: Sequence[dict]) -> bool:
    return "stdin" in tests[0]


def _jobs(task: Task, probe: bool) -> Iterator[Job]:
    if not is_script(task.tests):
        yield Job.of(task.program, task.problem, task.tests, probe)
        return
    for test in task.tests:
        yield replace(Job.of(task.program, task.problem, [], probe=False), stdin=test["stdin"])


def _together(task: Task, outcomes: Sequence[Outcome]) -> Outcome:
    """One outcome for the runs of a script, whose answers are its standard outputs; a script may end itself with status 0."""
    if not is_script(task.tests):
        return outcomes[0]
    fine = [seen.status == "ok" or (seen.status == "early_exit" and seen.exit_code == 0) for seen in outcomes]
    whole = [len(seen.stdout.encode()) < STDOUT_LIMIT for seen in outcomes]  # what follows after it is not looked at
    lost = [seen for seen in outcomes if seen.status in NOT_JUDGED]
    failed = [seen for seen, ended in zip(outcomes, fine) if not ended]
    calls = [["value", seen.stdout, False] if all(of) else ["error", seen.status, False] for seen, *of in zip(outcomes, fine, whole)]
    last = (lost or failed or [outcomes[-1]])[0]
    return replace(
        last,
        status="ok" if not failed else last.status,
        calls=tuple(calls),
        stdout="",
        cpu_s=max(seen.cpu_s for seen in outcomes),
        wall_s=sum(seen.wall_s for seen in outcomes),
    )


def _checked(tasks: Sequence[Task], outcomes: Sequence[Outcome], sandbox: Sandbox) -> list[Trial]:
    """Compares the answers with what is expected, here, or has each checker look at them."""
    finished = [place for place, seen in enumerate(outcomes) if seen.status == "ok" or is_script(tasks[place].tests)]
    answered = [place for place in finished if len(outcomes[place].calls) == len(tasks[place].tests)]
    asked = [place for place in answered if "checker" in tasks[place].tests[0]]
    checks = dict(zip(asked, sandbox.run_all([_check(tasks[place], outcomes[place]) for place in asked])))
    trials = []
    for place, (task, seen) in enumerate(zip(tasks, outcomes)):
        right = (False,) * len(task.tests)
        if place in checks and checks[place].status in NOT_JUDGED:
            seen = replace(seen, status=checks[place].status)
        elif place in checks:
            said = checks[place].calls or [None] * len(task.tests)  # a checker that does not finish finds nothing right
            right = tuple(kind[0] == "value" and call == ["value", True, False] for kind, call in zip(seen.calls, said))
        elif place in answered:
            right = right_calls(seen.calls, task.tests)
        trials.append(Trial(seen, right))
    return trials


def _check(task: Task, seen: Outcome) -> Job:
    given = [(value, {key: test[key] for key in test if key != "checker"}) for (_, value, _), test in zip(seen.calls, task.tests)]
    bare = {"setup_code": "", "entry_point": "check", "words": task.problem["words"]}
    return Job.of(task.tests[0]["checker"], bare, [{"args": [*pair], "kwargs": {}} for pair in given], probe=False)
