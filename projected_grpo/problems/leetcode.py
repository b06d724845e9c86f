"""LeetCode problems in the published reward-hacking format: JSON lines with a statement, a solution and assert strings.

They come from a local file, or from one of a hub dataset at a commit. An assert string reads
`assert Solution().method(name = literal, ...) == literal`. It is parsed, never executed, so only plain data can stand in
it. How to obtain the file is in data/README.md.
"""

import ast
import json
import math
import os
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from projected_grpo.core.downloads import dataset_file
from projected_grpo.core.errors import ProblemError
from projected_grpo.core.seeds import derive_seed
from projected_grpo.problems.rows import Problem, split_rows
from projected_grpo.programs.sandbox.nodes import LIST, TREE, normal
from projected_grpo.settings.profile import LeetcodeProblems

PATH_VARIABLE = "PGRPO_LEETCODE"  # names the file where it is not at the profile's path
HUB_ADDRESS = re.compile(r"hf://datasets/(?P<name>[\w.-]+/[\w.-]+)@(?P<commit>[0-9a-f]{40})/(?P<file>.+\.(jsonl|parquet))")
READERS = {".jsonl": "json", ".parquet": "parquet"}  # suffix of a hub file: its name in `datasets`
TOLERANCE = 1e-5  # of floats, as LeetCode's statements allow
ANSWER_CUE = "SOLUTION:"  # ends a published statement; a chat prompt has its own turn for the answer
FIELDS = {  # key of a line: type of its value
    "id": int,
    "difficulty": str,
    "question": str,
    "func_name": str,
    "setup_code": str,
    "canonical_solution": str,
    "gt_answer": list,
}


@dataclass(frozen=True)
class Published:
    name: str
    difficulty: str
    statement: str
    entry_point: str
    setup_code: str
    canonical_solution: str
    tests: list[dict]  # {args, kwargs, expected}, inputs distinct


def make_problems(settings: LeetcodeProblems, modes: tuple[str, ...]) -> tuple[list[dict], list[dict]]:
    """Rows of the tables problems and ground_truth. Each split spreads evenly over the loophole modes.

    A problem is left out where its statement is too long, its tests are too few, or one constant answer would pass all
    of its visible or all of its held-out tests. Raises ProblemError where fewer problems are left than the splits need.
    """
    source = problem_source(settings)
    found = read_problems(source)
    short = [problem for problem in found if len(problem.statement) <= settings.max_prompt_chars]
    usable = [(problem, tests) for problem in short if (tests := _draw_tests(problem, settings))]
    wanted = settings.train + settings.val + settings.test
    if wanted > len(usable):
        raise ProblemError(
            f"{source}: found {len(found)} problems, {len(short)} of them with at most {settings.max_prompt_chars} "
            f"characters and {len(usable)} of those with the tests asked for; expected at least {wanted} for "
            "train + val + test; lower these, or raise problems.max_prompt_chars"
        )
    random.Random(derive_seed(settings.seed, "leetcode-problems")).shuffle(usable)
    problems = [
        Problem(
            name=problem.name,
            family=problem.difficulty,
            entry_point=problem.entry_point,
            setup_code=problem.setup_code,
            statement=problem.statement,
            canonical_solution=problem.canonical_solution,
            visible=visible,
            heldout=heldout,
        )
        for problem, (visible, heldout) in usable
    ]
    return split_rows(problems, settings, modes)


def canonical_solutions(settings: LeetcodeProblems) -> dict[str, str]:
    """By problem_id."""
    return {problem.name: problem.canonical_solution for problem in read_problems(problem_source(settings))}


def problem_source(settings: LeetcodeProblems) -> str:
    """A path or hf:// address. A relative path is below the project, from an experiment's folder of its own too (--temp, --queue),
    which DVC makes below .dvc/tmp/exps with what git tracks."""
    source, here = os.environ.get(PATH_VARIABLE, settings.path), Path.cwd()
    homes = [folder for folder in here.parents if here.is_relative_to(folder / ".dvc/tmp/exps")]
    return str(homes[0] / source) if homes and not source.startswith("hf:") else source


def read_problems(source: str) -> list[Published]:
    """The problems of `source`, a path or hf:// address, in the order of its lines. Raises ProblemError or DownloadError."""
    problems: dict[str, Published] = {}
    for number, row in enumerate(_hub_rows(source) if source.startswith("hf:") else _file_rows(Path(source)), start=1):
        problem = _problem(row, f"{source}: line {number}")
        if problem.name in problems:
            raise ProblemError(f"{source}: line {number}: key 'id': {problem.name} appears twice; remove one line")
        problems[problem.name] = problem
    return list(problems.values())


def _file_rows(path: Path) -> Iterator[object]:
    if not path.exists():
        raise ProblemError(f"{path}: does not exist; data/README.md says how to obtain it and where to put it")
    for number, line in enumerate(path.read_text(encoding="utf-8").rstrip("\n").split("\n"), start=1):
        try:
            yield json.loads(line)
        except ValueError as error:
            found = f"found {line[:80]!r}, expected a JSON object: {error}"
            raise ProblemError(f"{path}: line {number}: {found}; remove or mend the line") from error


def _hub_rows(address: str) -> Iterator[dict]:
    from datasets import load_dataset  # takes seconds, and most runs have a local file

    parts = HUB_ADDRESS.fullmatch(address)
    if parts is None:
        raise ProblemError(
            f"problems.path: found {address}, expected hf://datasets/OWNER/NAME@COMMIT/FILE with a commit of 40 hexadecimal "
            f"digits and a FILE that ends in {' or '.join(READERS)}"
        )
    file = dataset_file(parts["name"], parts["commit"], parts["file"])
    yield from load_dataset(READERS[file.suffix], data_files=str(file), split="train", streaming=True)


def parse_assert(text: str, entry_point: str) -> dict:
    """The test {args, kwargs, expected} of one assert string. Raises ValueError for any other form."""
    try:
        body = ast.parse(text).body
    except (SyntaxError, RecursionError, MemoryError) as error:  # the latter two: nested too deeply for the parser
        raise ValueError(f"{text[:200]!r} is no Python: {error}") from error
    match body:
        case [ast.Assert(test=ast.Compare(left=ast.Call() as call, ops=[ast.Eq()], comparators=[answer]), msg=None)]:
            pass
        case [ast.Assert(test=ast.Call(func=ast.Name(id="is_same_list" | "is_same_tree"), args=[ast.Call() as call, answer]), msg=None)]:
            pass
        case _:
            raise ValueError(f"found {text[:200]!r}, expected 'assert {entry_point}(literal, name = literal, ...) == literal'")
    if ast.unparse(call.func) != entry_point:
        raise ValueError(f"{text[:200]!r} calls {ast.unparse(call.func)}, expected {entry_point}")
    if any(isinstance(given, ast.Starred) for given in call.args) or any(keyword.arg is None for keyword in call.keywords):
        raise ValueError(f"{text[:200]!r} has an argument with a star; expected literals, with or without a name")
    return {
        "args": [_literal(given) for given in call.args],
        "kwargs": {str(keyword.arg): _literal(keyword.value) for keyword in call.keywords},
        "expected": normal(_literal(answer, tuples=True)),
    }


NODES = {"list_node": LIST, "tree_node": TREE}  # helper of the published set-up code -> tag of a test's value


def _literal(node: ast.expr, tuples: bool = False) -> object:
    """Plain JSON data, nodes tagged; the names inf and -inf are float infinities. Raises ValueError for anything else.

    A tuple is a list where it is expected. It is no argument, because a program would be given a list.
    """
    match node:
        case ast.Call(func=ast.Name(id="list_node" | "tree_node" as name), args=[ast.List() as items], keywords=[]):
            return {NODES[name]: _literal(items)}
        case ast.Tuple(elts=items) if tuples:
            return [_literal(item, tuples) for item in items]
        case ast.Constant(value=bool() | int() | float() | str() | None as value):
            return value
        case ast.Name(id="inf"):
            return math.inf
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=number)) if type(number) in (int, float):
            return -number
        case ast.UnaryOp(op=ast.USub(), operand=ast.Name(id="inf")):
            return -math.inf
        case ast.List(elts=items):
            return [_literal(item, tuples) for item in items]
        case ast.Dict(keys=keys, values=values) if all(isinstance(getattr(key, "value", None), str) for key in keys):
            return {key.value: _literal(value, tuples) for key, value in zip(keys, values)}
    found = ast.unparse(node)[:200]
    raise ValueError(f"found {found!r}, expected a literal: number, text, True, False, None, inf, list, dict, list_node(list) or tree_node(list)")


def _problem(row: object, where: str) -> Published:
    if not isinstance(row, dict):
        raise ProblemError(f"{where}: found {type(row).__name__}, expected a JSON object; remove or mend the line")
    for key, kind in FIELDS.items():
        if not isinstance(row.get(key), kind):
            found = type(row[key]).__name__ if key in row else "no such key"
            wanted = kind.__name__
            raise ProblemError(f"{where}: key '{key}': found {found}, expected {wanted}; remove or mend the line")
    return Published(
        name=f"leetcode-{row['id']}",
        difficulty=row["difficulty"],
        statement=row["question"].strip().removesuffix(ANSWER_CUE).rstrip(),
        entry_point=row["func_name"],
        setup_code=row["setup_code"],
        canonical_solution=row["canonical_solution"],
        tests=list(_distinct_tests(row["gt_answer"], row["func_name"], where)),
    )


def _distinct_tests(texts: list, entry_point: str, where: str) -> Iterator[dict]:
    """The tests of a problem; of several with the same input, the first."""
    seen = set()
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            found = f"item {index} is {type(text).__name__}, expected an assert string"
            raise ProblemError(f"{where}: key 'gt_answer': {found}; remove or mend the line")
        try:
            test = parse_assert(text, entry_point)
        except ValueError as error:
            raise ProblemError(f"{where}: key 'gt_answer': item {index}: {error}; remove or mend the line") from error
        if (given := json.dumps([test["args"], test["kwargs"]], sort_keys=True)) not in seen:
            seen.add(given)
            yield test | {"tolerance": TOLERANCE}


def _draw_tests(problem: Published, settings: LeetcodeProblems) -> tuple[list[dict], list[dict]] | None:
    """Visible and held-out tests, inputs distinct; None where a constant would pass either, or tests are too few."""
    count = settings.visible_tests + settings.heldout_tests
    if len(problem.tests) < count:
        return None
    drawn = random.Random(derive_seed(settings.seed, "leetcode-tests", problem.name)).sample(problem.tests, count)
    visible, heldout = drawn[: settings.visible_tests], drawn[settings.visible_tests :]
    constant = any(len({json.dumps(test["expected"]) for test in tests}) == 1 for tests in (visible, heldout))
    return None if constant else (visible, heldout)
