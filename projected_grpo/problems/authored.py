"""The authored problems: one YAML file a problem, named as the problem; a tier is a folder. data/README.md describes the format.

Visible and held-out tests are written apart, because the three wrong solutions of a file are known to fail its held-out
tests. Training reads neither these nor the solution.
"""

import json
import random
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from projected_grpo.core.errors import ProblemError
from projected_grpo.core.seeds import derive_seed
from projected_grpo.problems.rows import Problem, split_rows
from projected_grpo.settings.profile import AuthoredProblems

ROOT = Path("data/problems")  # problems lie in it and in its folders
SETUP = "from typing import *\n"  # programs annotate with List and Optional by habit


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Test(Part):
    args: list
    expected: Any

    def row(self, checker: str | None) -> dict:
        row = {"args": self.args, "kwargs": {}, "expected": self.expected}
        return row if checker is None else row | {"checker": checker}


class Wrong(Part):
    error: str  # what is wrong with the program
    program: str


Tests = Annotated[list[Test], BeforeValidator(lambda text: [json.loads(line) for line in text.splitlines()]), Field(min_length=1)]


class ProblemFile(Part):
    difficulty: Literal["easy", "medium"]
    topic: str
    signature: Annotated[str, Field(pattern=r"^(\w+\(self, |solve\(\w+: ).+\) -> .+$")]  # of a method of class Solution, or of solve()
    statement: str
    solution: str
    checker: str | None = None  # defines check(answer, test), for a problem with several right answers
    wrong: list[Wrong]
    visible: Tests  # JSON lines {args, expected}; the first one is the example of the statement
    heldout: Tests

    @property
    def method(self) -> str:
        return self.signature.split("(")[0]

    @property
    def is_function(self) -> bool:
        return "(self, " not in self.signature

    @property
    def entry_point(self) -> str:
        return self.method if self.is_function else f"Solution().{self.method}"

    @property
    def task(self) -> str:
        """What the prompt shows: of a function the text alone, of a method also an example and the form of the answer."""
        if self.is_function:
            return self.statement.strip()
        example = self.visible[0]
        call = f"{self.method}({', '.join(map(repr, example.args))})"
        return (
            f"{self.statement.strip()}\n\nFor example, `{call}` returns `{example.expected!r}`.\n\n"
            f"Answer with a class `Solution` that has the method `{self.signature}`."
        )


def make_problems(settings: AuthoredProblems, modes: tuple[str, ...]) -> tuple[list[dict], list[dict]]:
    """Rows of the tables problems and ground_truth. Each split spreads evenly over the loophole modes.

    Raises ProblemError where there are fewer problems than the splits need.
    """
    found = read_problems(Path(settings.path))
    wanted = settings.train + settings.val + settings.test
    if wanted > len(found):
        raise ProblemError(
            f"{settings.path}: found {len(found)} problems, expected at least {wanted} for train + val + test; lower these"
        )
    problems = [
        Problem(
            name=f"authored-{name}",
            family=problem.topic,
            entry_point=problem.entry_point,
            setup_code=SETUP,
            statement=problem.task,
            canonical_solution=problem.solution,
            visible=[test.row(problem.checker) for test in problem.visible],
            heldout=[test.row(problem.checker) for test in problem.heldout],
        )
        for name, problem in found.items()
    ]
    random.Random(derive_seed(settings.seed, "authored-problems")).shuffle(problems)
    return split_rows(problems, settings, modes)


def canonical_solutions(settings: AuthoredProblems) -> dict[str, str]:
    """By problem_id."""
    return {f"authored-{name}": problem.solution for name, problem in read_problems(Path(settings.path)).items()}


def read_problems(folder: Path) -> dict[str, ProblemFile]:
    """The problems of a folder by file name, sorted. Raises ProblemError."""
    if not (paths := sorted(folder.glob("*.yaml"))):
        tiers = ", ".join(sorted({str(path.parent) for path in ROOT.rglob("*.yaml")}))
        raise ProblemError(f"{folder}: found no file *.yaml, expected one a problem; set problems.path to one of: {tiers}")
    return {path.stem: _read(path) for path in paths}


def _read(path: Path) -> ProblemFile:
    if not re.fullmatch(r"[a-z0-9-]+", path.stem):
        raise ProblemError(f"{path}: found the name '{path.stem}', expected lower-case letters, digits and '-'; rename it")
    try:
        return ProblemFile.model_validate(YAML(typ="safe").load(path))
    except YAMLError as error:
        raise ProblemError(f"{path}: is no YAML: {error}; mend the file") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise ProblemError(f"{path}: key '{key}': found {first['input']!r:.80}: {first['msg']}; mend the file") from error
