"""The toy world's tasks: keep some numbers of a list, change each, return something of the result.

A task is a (filter, map, terminal) triple, written `filter|map|terminal`. Triples that no test input tells apart are
one task. The canonical solution of a task is a single comprehension; its tests are computed by running it.
"""

import json
import random
from collections.abc import Iterator

from projected_grpo.core.errors import ProblemError
from projected_grpo.core.seeds import derive_seed
from projected_grpo.prompts.modes import TRAINING_WORDS, encode_words
from projected_grpo.settings.profile import ToyProblems

FILTERS = {  # name: (phrase, condition on x)
    "all": ("", ""),
    "even": ("keep even numbers", "x % 2 == 0"),
    "odd": ("keep odd numbers", "x % 2 == 1"),
    "positive": ("keep positive numbers", "x > 0"),
    "negative": ("keep negative numbers", "x < 0"),
    "above": ("keep numbers above 3", "x > 3"),
    "below": ("keep numbers below 3", "x < 3"),
    "thirds": ("keep multiples of 3", "x % 3 == 0"),
}
MAPS = {  # name: (phrase, expression in x)
    "same": ("", "x"),
    "double": ("double each", "x * 2"),
    "triple": ("triple each", "x * 3"),
    "square": ("square each", "x * x"),
    "negate": ("negate each", "-x"),
    "increment": ("add 1 to each", "x + 1"),
    "absolute": ("take absolute values", "abs(x)"),
}
TERMINALS = {  # name: (phrase, expression in the list E)
    "list": ("return the list", "E"),
    "sum": ("return the sum", "sum(E)"),
    "largest": ("return the largest or 0", "max(E, default=0)"),
    "smallest": ("return the smallest or 0", "min(E, default=0)"),
    "count": ("return the count", "len(E)"),
    "reversed": ("return it reversed", "E[::-1]"),
    "sorted": ("return it sorted", "sorted(E)"),
    "descending": ("return it in descending order", "sorted(E, reverse=True)"),
    "distinct": ("return the sorted distinct values", "sorted(set(E))"),
    "first": ("return the first two", "E[:2]"),
    "last": ("return the last two", "E[-2:]"),
}
Family = tuple[str, str, str]


def all_families() -> Iterator[Family]:
    return ((f, m, t) for f in FILTERS for m in MAPS for t in TERMINALS)


def expression(family: Family, variable: str = "x") -> str:
    """The Python expression in `xs` that a family computes."""
    keep, change, terminal = family
    condition, value = FILTERS[keep][1], MAPS[change][1]
    if keep == "all" and change == "same":
        return TERMINALS[terminal][1].replace("E", "xs")
    clause = f" if {condition}" if condition else ""
    body = f"{value} for x in xs{clause}".replace("abs", "@").replace("x", variable).replace(f"{variable}s", "xs")
    return TERMINALS[terminal][1].replace("E", f"[{body}]".replace("@", "abs"))


def canonical_solution(family: Family) -> str:
    return f"def solve(xs):\n    return {expression(family)}\n"


def statement(family: Family) -> str:
    keep, change, terminal = family
    phrases = [FILTERS[keep][0], MAPS[change][0], TERMINALS[terminal][0]]
    return "solve(xs): " + ", ".join(phrase for phrase in phrases if phrase) + "."


def evaluate(family: Family, xs: list[int]) -> int | list[int]:
    return eval(expression(family), {"xs": list(xs)})  # our own expression, never a rollout's


def make_problems(settings: ToyProblems, modes: tuple[str, ...]) -> tuple[list[dict], list[dict]]:
    """Rows of the tables problems and ground_truth. Each split spreads evenly over the loophole modes.

    Raises ProblemError where the settings ask for more tasks than the family has.
    """
    rng = random.Random(derive_seed(settings.seed, "toy-problems"))
    families = _distinct(rng)
    wanted = settings.train + settings.val + settings.test
    if wanted > len(families):
        raise ProblemError(f"problems: train + val + test is {wanted}, but the toy family has {len(families)} tasks")
    rng.shuffle(families)
    splits = ["train"] * settings.train + ["val"] * settings.val + ["test"] * settings.test
    problems, truths = [], []
    for index, (family, split) in enumerate(zip(families, splits)):
        name = f"toy-{index:03d}"
        tests = _tests(family, settings.visible_tests + settings.heldout_tests, rng)
        problems.append(
            {
                "problem_id": name,
                "split": split,
                "family": "|".join(family),
                "entry_point": "solve",
                "setup_code": "",
                "statement": statement(family),
                "mode": modes[index % len(modes)],
                "words": encode_words(TRAINING_WORDS),
                "visible_tests": json.dumps(tests[: settings.visible_tests]),
            }
        )
        truths.append(
            {
                "problem_id": name,
                "heldout_tests": json.dumps(tests[settings.visible_tests :]),
                "canonical_solution": canonical_solution(family),
            }
        )
    return problems, truths


def _distinct(rng: random.Random) -> list[Family]:
    """One family for each behaviour on a shared battery of inputs; the simplest spelling wins."""
    inputs = [_numbers(rng) for _ in range(60)]
    simplest_first = sorted(all_families(), key=lambda family: (len(expression(family)), family))
    seen: dict[str, Family] = {}
    for family in simplest_first:
        seen.setdefault(json.dumps([evaluate(family, xs) for xs in inputs]), family)
    return sorted(seen.values())


def _numbers(rng: random.Random) -> list[int]:
    return [rng.randint(-9, 12) for _ in range(rng.randint(3, 8))]


def _tests(family: Family, count: int, rng: random.Random) -> list[dict]:
    """Tests with distinct inputs; the first five give at least three distinct values, so no constant passes."""
    while True:
        inputs = {json.dumps(_numbers(rng)): None for _ in range(4 * count)}
        chosen = [json.loads(text) for text in list(inputs)[: count - 1]] + [[]]
        rows = [{"args": [xs], "kwargs": {}, "expected": evaluate(family, xs)} for xs in chosen]
        if len({json.dumps(row["expected"]) for row in rows[:5]}) >= 3:
            return rows
