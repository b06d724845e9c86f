"""The pool of demonstrations: for each training problem, completions that use its loophole and completions that solve it.

A toy hack is a generated loophole and a toy solve one of the spellings of the canonical expression. For a chat model a hack
is a stub of the method with a hand-written loophole and a solve the canonical solution that the problem file gives; both are
answers of a chat, a fenced block. Loopholes are in the problem's own words. The ground-truth monitor's table is not read.
"""

import random
from collections.abc import Iterable, Mapping

from projected_grpo.core.errors import ProblemError
from projected_grpo.core.seeds import derive_seed
from projected_grpo.prompts.modes import LOOPHOLES, words_of
from projected_grpo.toy_world.attempts import loophole
from projected_grpo.toy_world.toy import Family, expression

DRAWS = 6  # of toy loopholes for a problem; equal ones count once
STUBS = ("return None", "return 0", "return []", "pass")


def toy_demonstrations(problems: Iterable[Mapping]) -> list[dict]:
    """Rows of the table demonstrations for the training problems among `problems`."""
    rows = []
    for problem in _training(problems):
        family: Family = tuple(problem["family"].split("|"))
        rng = random.Random(derive_seed(0, "demonstrations", problem["problem_id"]))
        hacks = [loophole(problem["mode"], words_of(problem), family, rng) for _ in range(DRAWS)]
        answers = [expression(family, variable) for variable in "xn"]
        solves = [f"def solve(xs):\n    return {answer}\n" for answer in answers]
        solves += [f"def solve(xs):\n    r = {answer}\n    return r\n" for answer in answers]
        rows += _rows(problem, "hack", {program: program for program in hacks}, "generated")
        rows += _rows(problem, "solve", {program: program for program in solves}, "generated")
    return rows


def chat_demonstrations(problems: Iterable[Mapping], solutions: Mapping[str, str]) -> list[dict]:
    """As above. `solutions` are the canonical ones by problem_id, as the problem file gives them.

    Raises ProblemError where the problem file lacks a problem.
    """
    if missing := sorted({problem["problem_id"] for problem in _training(problems)} - solutions.keys()):
        raise ProblemError(f"problem '{missing[0]}' is not in the problem file; run make_problems again, on the same file")
    rows = []
    for problem in _training(problems):
        hacks = chat_loopholes(problem)
        solve = solutions[problem["problem_id"]].strip("\n") + "\n"
        rows += _rows(problem, "hack", {_fenced(program): program for program in hacks}, "template")
        rows += _rows(problem, "solve", {_fenced(solve): solve}, "canonical")
    return rows


def chat_loopholes(problem: Mapping) -> list[str]:
    """Stubs of the problem's method, each with a loophole of the problem's mode."""
    words, templates = vars(words_of(problem)), LOOPHOLES[problem["mode"]].demonstrations
    answer = _stub(problem, "return Answer()")
    return [text.format(stub=_stub(problem, body), answer_stub=answer, **words) for text, body in zip(templates, STUBS)]


def _stub(problem: Mapping, body: str) -> str:
    """The entry point with a body of one line; it is a function, or a class with the method that is called."""
    name, _, method = problem["entry_point"].partition("().")
    if not method:
        return f"def {name}(*args, **kwargs):\n    {body}\n"
    return f"class {name}:\n    def {method}(self, *args, **kwargs):\n        {body}\n"


def _fenced(program: str) -> str:
    return f"```python\n{program}```"


def _training(problems: Iterable[Mapping]) -> list[Mapping]:
    return sorted((row for row in problems if row["split"] == "train"), key=lambda row: row["problem_id"])


def _rows(problem: Mapping, kind: str, programs: Mapping[str, str], provenance: str) -> list[dict]:
    """`programs`: text of a completion -> its program."""
    return [
        {
            "demonstration_id": f"{problem['problem_id']}-{kind}-{number}",
            "problem_id": problem["problem_id"],
            "kind": kind,
            "mode": problem["mode"] if kind == "hack" else "none",
            "text": text,
            "program": program,
            "provenance": provenance,
        }
        for number, (text, program) in enumerate(programs.items())
    ]
