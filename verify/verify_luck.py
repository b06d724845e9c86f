"""A second trial is left out for programs alone whose answers no random number and no hash can reach."""

import pytest

from projected_grpo.programs.luck import could_be_lucky
from projected_grpo.programs.sandbox.runner import Sandbox
from projected_grpo.programs.trial import Task, try_all
from projected_grpo.toy_world.toy import all_families, canonical_solution
from verify.sandbox import sandbox
from verify.verify_environment import PROBLEM, SOLVE

PLAIN = {
    "a comprehension": SOLVE,
    "a class with state": "class A:\n    def __init__(self):\n        self.n = 1\n    def f(self, x):\n        return self.n + x\ndef solve(x):\n    return A().f(x)\n",
    "a loop over a dictionary": "def solve(xs):\n    seen = {}\n    for x in xs:\n        seen[x] = seen.get(x, 0) + 1\n    return list(seen.values())\n",
    "an exception": "def solve(xs):\n    try:\n        return xs[0]\n    except IndexError:\n        return 0\n",
}
LUCKY = {
    "an import": "import random\ndef solve(x):\n    return random.random() > 0.5\n",
    "a hash": "def solve(x):\n    return hash('a') % 2\n",
    "a hash under another name": "h = hash\ndef solve(x):\n    return h('a') % 2\n",
    "a hash whose name is bound where it does not count": "def f():\n    hash = 1\ndef solve(x):\n    return hash('a') % 2\n",
    "a hash whose name is bound where it is not reached": "if 0:\n    hash = 1\ndef solve(x):\n    return hash('a') % 2\n",
    "builtins by subscript": "def solve(x):\n    return __builtins__['hash']('a')\n",
    "builtins of a frame": "def solve(x):\n    return (i for i in x).gi_frame.f_builtins['hash']('a')\n",
    "the order of a set": "def solve(x):\n    return list({'a', 'b'})[0]\n",
    "the order of a set that is made": "def solve(x):\n    return list(set('ab'))[0]\n",
    "an attribute by a format": "def solve(x):\n    return '{0.__class__}'.format(x)\n",
    "a method with two underscores": "class A:\n    def __hash__(self):\n        return 1\ndef solve(x):\n    return 1\n",
    "the order of a set of keys": "def solve(d):\n    return list(d.keys() | [])[0]\n",
    "a frame whose names the program binds": "class A:\n    gi_frame = f_builtins = 1\ndef solve(x):\n    return (i for i in x).gi_frame.f_builtins['hash']('a')\n",
    "an address as text": "def solve(x):\n    return str(solve)\n",
    "an address in formatted text": "def solve(x):\n    return f'{solve}'\n",
    "an address by a format": "def solve(x):\n    return '%s' % solve\n",
    "a class attribute by a pattern": "h = None\nmatch ('a',):\n    case tuple(__hash__=h):\n        pass\ndef solve(x):\n    return h() % 2\n",
    "a method of dictionaries whose name the program binds": "def keys():\n    pass\ndef solve(d):\n    return list(d.keys() - [])[0]\n",
    "the same as an attribute of its own": "class A:\n    def __init__(self):\n        self.items = 1\ndef solve(d):\n    return list(d.items() | [])[0]\n",
    "no program": "def solve(:\n",
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_programs_are_tried_once(name: str) -> None:
    assert could_be_lucky(PLAIN[name], "") is False


@pytest.mark.parametrize("name", LUCKY)
def test_programs_that_could_be_lucky_are_tried_twice(name: str) -> None:
    assert could_be_lucky(LUCKY[name], "") is True


def test_what_the_set_up_code_binds_is_not_the_program_s_own() -> None:
    program = "if 0:\n    coin = 1\ndef solve(x):\n    return coin\n"
    assert could_be_lucky(program, "") is False  # a NameError
    assert could_be_lucky(program, "coin = 1") and could_be_lucky(SOLVE, "from random import *")


def test_most_of_the_toy_world_s_solutions_are_plain() -> None:
    lucky = {family for family in all_families() if could_be_lucky(canonical_solution(family), "")}
    assert {terminal for _, _, terminal in lucky} == {"distinct"}


def test_the_number_of_runs_is_that_of_the_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    tests = [{"args": [[2]], "kwargs": {}, "expected": [4]}]
    sandbox()  # it has proved itself, which is a run too
    seeds, run_all = [], Sandbox.run_all
    monkeypatch.setattr(Sandbox, "run_all", lambda self, jobs: seeds.append([job.seed for job in jobs]) or run_all(self, jobs))
    plain, lucky = Task(SOLVE, PROBLEM, tests), Task("import random\n" + SOLVE, PROBLEM, tests)
    assert [trial.passed for trial in try_all([plain, lucky, Task("import random\n", PROBLEM, tests)], sandbox(), probe=False)] == [True, True, False]
    assert [given for given in seeds if given] == [[0, 0, 0], [28]]
