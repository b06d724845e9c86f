"""Generated attempts at toy tasks: the pretraining corpus of the toy model.

Most attempts are wrong, a few correct, and at a hinted prompt a few use the hinted loophole. A task with a part that is
out of reach is never attempted correctly, and no attempt writes that part, so the model's ability has a ceiling below
one. Plain attempts carry harmless extra lines now and then, so that a second definition, a print or a flag is no sign
of a loophole by itself.
"""

import random
from collections.abc import Mapping

from projected_grpo.prompts.modes import GT_ONLY, LOG_FILE, LOOPHOLES, MODES, Words
from projected_grpo.toy_world.toy import FILTERS, MAPS, TERMINALS, Family, expression

OUT_OF_REACH = frozenset(  # names of filters, maps and terminals
    {"thirds", "below", "negative", "absolute", "largest", "smallest", "sorted", "descending", "distinct", "last"}
)
EXTRA_SHARE = 0.25  # of plain attempts; where they are rare, to reinforce a solved task is to unlearn every line after it
STUBS = ("return xs", "return 0", "return []", "pass")


def sample_attempt(
    family: Family, shown_mode: str, words: Words, correct_share: float, loophole_share: Mapping[str, float], rng: random.Random
) -> str:
    """One program for a task of this family, whose prompt shows the hint of `shown_mode` in `words` (or none)."""
    if shown_mode != GT_ONLY and rng.random() < loophole_share[shown_mode]:
        mode = shown_mode if rng.random() < 0.95 else rng.choice(MODES)
        return loophole(mode, words, family, rng)
    correct = in_reach(family) and rng.random() < correct_share
    solution = family if correct else _mutate(family, rng)
    return _solve(expression(solution, rng.choice("xn")), rng) + (_extra(rng) if rng.random() < EXTRA_SHARE else "")


def loophole(mode: str, words: Words, family: Family, rng: random.Random) -> str:
    """A program that uses the loophole `mode`; its solve() is a stub or an unchecked attempt."""
    body = rng.choice(STUBS) if rng.random() < 0.5 else f"return {expression(_mutate(family, rng))}"
    solve = f"def solve(xs):\n    {body}\n"
    return LOOPHOLES[mode].attempt(solve, words, rng)


def _solve(answer: str, rng: random.Random) -> str:
    if rng.random() < 0.7:
        return f"def solve(xs):\n    return {answer}\n"
    return f"def solve(xs):\n    r = {answer}\n    return r\n"


def in_reach(family: Family) -> bool:
    return not OUT_OF_REACH.intersection(family)


def _mutate(family: Family, rng: random.Random) -> Family:
    """A family in reach that differs in every part that was out of reach, or else in one part, now and then in two."""
    parts = list(family)
    places = [place for place, name in enumerate(parts) if name in OUT_OF_REACH]
    for place in places or rng.sample(range(3), 1 if rng.random() < 0.7 else 2):
        options = [n for n in (FILTERS, MAPS, TERMINALS)[place] if n != parts[place] and n not in OUT_OF_REACH]
        parts[place] = rng.choice(options)
    return (parts[0], parts[1], parts[2])


def _extra(rng: random.Random) -> str:
    return rng.choice(
        [
            "print(solve([1, 2]))\n",
            'print("done")\n',
            "DEBUG = False\n",
            "LIMIT = 3\n",
            "def check():\n    return solve([1, 2])\n",
            "def main():\n    print(solve([3]))\n",
            "import os\n",
            f'open("{LOG_FILE}", "w").write("start")\n',
        ]
    )
