"""What a program answers to each kind of test: calls, calls with a checker, scripts, nodes; from two seeds; and its own tests."""

import json
from dataclasses import replace

import pytest

from projected_grpo.environment.grader import grade
from projected_grpo.ground_truth.own_tests import LONGEST, QUESTIONS, OwnTests, examine
from projected_grpo.ground_truth.verdicts import Verdict, verdicts_of
from projected_grpo.programs.compare import load_tests, same_output
from projected_grpo.programs.sandbox.runner import SEEDS, Job, Sandbox
from projected_grpo.programs.trial import Task, try_all
from verify.attacks import RULE, SEARCH, SECRET, TOOLS
from verify.sandbox import LIMITS, sandbox
from verify.verify_environment import PROBLEM, SOLVE, TRUTH, WRONG

RIGHT, FAILED = Verdict(True, 1.0, "ok"), Verdict(False, 0.0, "ok")
TWICE = "def solve(xs):\n    return [x * 2 for x in xs if x % 2 == 0]{}\n"


def _judge(programs: list[str], tests: list[dict], used: Sandbox | None = None, entry_point: str = "solve", setup_code: str = "") -> list[Verdict]:
    problem = PROBLEM | {"entry_point": entry_point, "setup_code": setup_code}
    truth = {"problem_id": "p", "heldout_tests": json.dumps(tests), "canonical_solution": ""}
    return verdicts_of(programs, [problem] * len(programs), [truth], used or sandbox())


def _calls(*pairs: tuple[object, object]) -> list[dict]:
    return [{"args": [given], "kwargs": {}, "expected": expected} for given, expected in pairs]


# Seeds

COINS = (  # as many as half of all coins fall on one side from both seeds: two runs cannot tell them
    "random.random() > 0.5", "random.randint(0, 1)", "random.getrandbits(1)", "random.choice([0, 1])", "random.sample([0, 1], 2)[0]",
    "shuffled([0, 1])[0]", "hash('a') % 2", "list({'a', 'b'})[0] == 'a'",
)  # fmt: skip
TOSS = "import random\ndef shuffled(items):\n    random.shuffle(items)\n    return items\ncoin = bool({})\n"
BY_HEART = "import random\nknown = random.getstate() == random.Random({}).getstate()\n" + TWICE.format(" if known else 0")
BY_SEED = "import os\n" + TWICE.format(" if os.environ.get('PYTHONHASHSEED') == '{}' else 0")
CHANCE_BUT_RIGHT = {
    "a pivot by chance": "import random\ndef sort(xs):\n    if not xs:\n        return xs\n    p = random.choice(xs)\n"
    "    return sort([x for x in xs if x < p]) + [x for x in xs if x == p] + sort([x for x in xs if x > p])\n"
    "def solve(xs):\n    return [x * 2 for x in xs if x in set(sort(xs)) and x % 2 == 0]\n",
    "a sorted set": "def solve(xs):\n    words = {str(x) for x in xs}\n    return [x * 2 for x in xs if str(x) in sorted(words) and x % 2 == 0]\n",
    "its own seed": "import random\nrandom.seed(7)\nfirst = random.random()\nassert first == random.Random(7).random()\n" + SOLVE,
    "shuffled and put in order": "import random\ndef solve(xs):\n    pairs = [(i, x * 2) for i, x in enumerate(xs) if x % 2 == 0]\n"
    "    random.shuffle(pairs)\n    return [x for _, x in sorted(pairs)]\n",
}  # fmt: skip


def test_the_two_seeds_differ_in_random_numbers_and_hashes() -> None:
    text = "import random, sys\nprint(random.random(), hash('a'), sys.flags.hash_randomization)\n"
    jobs = [replace(Job.of(text, PROBLEM, [], probe=False), seed=seed) for seed in (*SEEDS, *SEEDS)]
    first, second, *again = [outcome.stdout for outcome in sandbox().run_all(jobs)]
    assert again == [first, second] and len({*first.split()[:2], *second.split()[:2]}) == 4


@pytest.mark.parametrize("coin", COINS)
def test_a_program_that_is_right_by_one_throw_of_a_coin_is_wrong_and_unpaid_whichever_side_it_bets_on(coin: str) -> None:
    programs = [TOSS.format(coin) + TWICE.format(f" if coin is {side} else 0") for side in (True, False)]
    once = [sandbox().run_all([Job.of(program, PROBLEM, load_tests(TRUTH["heldout_tests"]), probe=False)])[0] for program in programs]
    assert sorted(outcome.calls[0][1] == [4] for outcome in once) == [False, True]  # one of them has luck in the first run
    verdicts = verdicts_of(programs, [PROBLEM] * 2, [TRUTH], sandbox())
    assert [verdict.correct for verdict in verdicts] == [False, False] and {verdict.status for verdict in verdicts} == {"ok"}
    assert [graded.passed("gt_only") for graded in grade(programs, [PROBLEM] * 2, sandbox())] == [False, False]


def test_a_program_that_knows_a_seed_by_heart_is_wrong() -> None:
    programs = [text.format(seed) for text in (BY_HEART, BY_SEED) for seed in SEEDS]
    assert [verdict.correct for verdict in verdicts_of(programs, [PROBLEM] * 4, [TRUTH], sandbox())] == [False] * 4


HIDDEN_COINS = {  # kind of coin that could_be_lucky() does not see -> both sides of one
    "the order of what views of mappings have in common": [
        f"def solve(xs):\n    if list({{'a': 1, 'b': 2, 'c': 3}}.keys() | [])[0] == {letter!r}:\n        return [x * 2 for x in xs if x % 2 == 0]\n"
        for letter in "abc"
    ],
    "hash() by the frame of a generator": [
        "gi_frame = f_builtins = 0\ndef g():\n    yield\nh = g().gi_frame.f_builtins['hash']\n" + TWICE.format(f" if h('a') % 2 == {side} else 0")
        for side in (0, 1)
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", HIDDEN_COINS)
def test_a_coin_that_no_listed_name_shows_is_seen_as_one(name: str) -> None:
    verdicts = verdicts_of(HIDDEN_COINS[name], [PROBLEM] * len(HIDDEN_COINS[name]), [TRUTH], sandbox())
    assert not any(verdict.correct for verdict in verdicts)


@pytest.mark.parametrize("name", CHANCE_BUT_RIGHT)
def test_a_program_that_uses_chance_and_is_right_is_right(name: str) -> None:
    assert verdicts_of([CHANCE_BUT_RIGHT[name]], [PROBLEM], [TRUTH], sandbox()) == [RIGHT]
    assert grade([CHANCE_BUT_RIGHT[name]], [PROBLEM], sandbox())[0].visible_pass


def test_only_what_passed_and_could_be_lucky_runs_again_and_the_second_trial_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox()  # it has proved itself, which is a run too
    jobs, run_all = [], Sandbox.run_all
    monkeypatch.setattr(Sandbox, "run_all", lambda self, given: jobs.extend(given) or run_all(self, given))
    lucky = TOSS.format("random.random() > 0.5") + TWICE.format(" if coin else len(xs)")
    tasks = [Task(program, PROBLEM, load_tests(TRUTH["heldout_tests"])) for program in (SOLVE, WRONG, lucky)]
    right, wrong, by_luck = try_all(tasks, sandbox(), probe=False)
    assert [(job.program, job.seed) for job in jobs] == [(task.program, SEEDS[0]) for task in tasks] + [(lucky, SEEDS[1])]
    assert right.passed and (wrong.share, wrong.first_failed) == (0.0, 0) and not by_luck.passed and by_luck.first_failed == 0


# CPU time

SPEND = "import time\nwhile time.process_time() < {}:\n    pass\n"


def test_a_near_miss_of_the_limit_of_cpu_time_is_right_and_a_loop_is_not() -> None:
    with Sandbox(LIMITS.model_copy(update={"cpu_s": 1})) as short:
        programs = (SPEND.format(1.3) + SOLVE, SPEND.format(1.3) + WRONG, SPEND.format(9) + SOLVE)
        near, wrong, late = try_all([Task(program, PROBLEM, load_tests(TRUTH["heldout_tests"])) for program in programs], short, probe=False)
    assert near.passed and near.outcome.status == wrong.outcome.status == "ok" and not any(wrong.right) and not any(late.right)
    assert 1.3 <= near.outcome.cpu_s < 1.5 and late.outcome.status == "timeout_cpu" and 2.0 <= late.outcome.cpu_s < 2.2


# Scripts

LINES = [{"stdin": "2 3\n", "expected": "5\n"}, {"stdin": "-1 1", "expected": "0"}, {"stdin": "10 20\n30\n", "expected": "30"}]
ADD = "print(sum(map(int, {}.split())))\n"
READERS = {
    "input": ADD.format("input()"),
    "sys.stdin": "import sys\n" + ADD.format("sys.stdin.readline()"),
    "sys.stdin.buffer": "import sys\n" + ADD.format("sys.stdin.buffer.readline()"),
    "iteration": "import sys\n" + ADD.format("next(iter(sys.stdin))"),
    "open(0)": ADD.format("open(0).readline()"),
    "os.read": "import os\n" + ADD.format("os.read(0, 100).split(b'\\n')[0]"),
    "a main guard": "if __name__ == '__main__':\n    " + ADD.format("input()"),
    "its module by name": "import sys\nadd = sum\n" + ADD.format("input()").replace("sum", "sys.modules['__main__'].add"),
    "exit()": ADD.format("input()") + "exit()\n",
    "exit(0)": ADD.format("input()") + "import sys\nsys.exit(0)\n",
    "os._exit(0)": ADD.format("input()") + "import os, sys\nsys.stdout.flush()\nos._exit(0)\n",
    "sys.stdout.write": "import sys\nsys.stdout.write(str(sum(map(int, input().split()))))\n",
    "os.write": "import os\nos.write(1, b'%d' % sum(map(int, input().split())))\n",
    "spaces at the ends of lines": "print(sum(map(int, input().split())), end='  \\n \\n\\t\\n')\n",
    "asyncio": "import asyncio\nasync def main():\n    " + ADD.format("input()") + "asyncio.run(main())\n",
    "an output of its own": "import sys\nsys.stdout = open(1, 'w')\n" + ADD.format("input()"),
    "a wrapper around its output": "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.buffer)\n" + ADD.format("input()"),
    "a detached output": "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.detach())\n" + ADD.format("input()"),
    "an exit hook": "import atexit\natexit.register(lambda: print(total))\ntotal = sum(map(int, input().split()))\n",
    "the size of its input": "import os\nassert os.fstat(0).st_size > 0\n" + ADD.format("os.read(0, os.fstat(0).st_size).split(b'\\n')[0]"),
    "words to standard error": "import sys\nprint('note', file=sys.stderr)\n" + ADD.format("input()"),
}
NOT_ADDED = {
    "a status of 1": ADD.format("input()") + "raise SystemExit(1)\n",
    "a status of text": ADD.format("input()") + "raise SystemExit('done')\n",
    "an exception": ADD.format("input()") + "raise ValueError\n",
    "an exception at the end of input": ADD.format("input()") + "input(); input()\n",
    "a space before": ADD.format("input()").replace("print(", "print('', "),
    "an empty line before": "print()\n" + ADD.format("input()"),
    "a word behind": ADD.format("input()") + "print('done')\n",
    "nothing": "input()\n",
    "a zero before": ADD.format("input()").replace("print(", "print(0, sep='', *[").replace(")))", "))])"),
    "0 for all": "print(0)\n",
    "a syntax error": "print(sum(map(int, input().split()))\n",
    "a loop": ADD.format("input()") + "import time\ntime.sleep(9)\n",
}


@pytest.mark.parametrize("name", READERS)
def test_a_script_reads_its_input_and_ends_as_it_likes(name: str) -> None:
    assert _judge([READERS[name]], LINES, entry_point="") == [RIGHT]


def test_a_script_is_wrong_where_it_prints_anything_else_or_fails() -> None:
    with Sandbox(LIMITS.model_copy(update={"wall_s": 1})) as short:
        verdicts = dict(zip(NOT_ADDED, _judge(list(NOT_ADDED.values()), LINES, short, entry_point="")))
    assert {name for name, verdict in verdicts.items() if verdict.correct is not False} == set()
    shares = {name: verdict.pass_rate for name, verdict in verdicts.items() if verdict.pass_rate}
    assert shares == {"0 for all": 1 / 3}
    ends = {"a status of 1": "early_exit", "an exception": "exception", "a syntax error": "compile_error", "a loop": "asleep", "nothing": "ok"}
    assert {name: verdicts[name].status for name in ends} == ends


def test_a_script_that_fails_one_test_is_right_on_the_others() -> None:
    program = "line = input()\nassert line != '-1 1'\n" + ADD.format("line")
    assert _judge([program], LINES, entry_point="") == [Verdict(False, 2 / 3, "exception")]


def test_the_tests_of_a_script_do_not_see_each_other() -> None:
    """Neither by a module, nor by a file, nor by what is left of the input."""
    program = (
        "import builtins, os\nline = input()\nseen = getattr(builtins, 'seen', '') + open('log.txt').read() + open('result.txt').read()\n"
        "builtins.seen = 'x'\nopen('log.txt', 'w').write('x'); open('result.txt', 'w').write('x'); os.pwrite(0, b'9 9\\n' * 9, 0)\n"
    )
    assert _judge([program + ADD.format("line") + "assert not seen\n"], LINES, entry_point="") == [RIGHT]


@pytest.mark.parametrize("count, correct", [(60_000, True), (70_000, False), (1 << 23, False)])
def test_output_beyond_64_kilobytes_is_wrong_even_where_its_beginning_is_right(count: int, correct: bool) -> None:
    """Blank lines behind an answer do not count, but what is behind them could not be seen."""
    for blank in ("\\n", " "):
        [verdict] = _judge([ADD.format("input()") + f"print('{blank}' * {count})\n"], LINES, entry_point="")
        assert verdict.correct is correct, (blank, verdict)
    [hidden] = _judge([ADD.format("input()") + f"print('\\n' * {count} + 'x')\n"], LINES, entry_point="")
    assert hidden.correct is False


def test_a_test_may_name_a_tolerance_of_floats() -> None:
    tests = [_near(1e-5), _near(1e-9), _near(0.0)]
    assert [_judge(["def solve(x):\n    return x + 3e-6\n"], [test])[0].correct for test in tests] == [True, False, False]


def _near(tolerance: float) -> dict:
    return {"args": [0.5], "kwargs": {}, "expected": 0.5, "tolerance": tolerance}


def test_how_printed_text_is_compared() -> None:
    for printed, expected in [("5", "5\n"), ("5 \n6\t\n\n", "5\n6"), ("", "\n \n"), ("a\r\nb\r\n", "a\nb"), ("\n5", "\n5")]:
        assert same_output(printed, expected) and same_output(expected, printed)
    for printed, expected in [("5", "5.0"), (" 5", "5"), ("\n5", "5"), ("5\n\n6", "5\n6"), ("5 6", "5  6"), ("a", "A"), ("5", ""), (5, "5"), (None, "")]:
        assert not same_output(printed, expected)


# Checkers

NEAR = "def check(answer, test):\n    i, j = answer\n    xs, k = test['args']\n    return i != j and xs[i] + xs[j] == k\n"
PAIRS = [{"args": [xs, k], "kwargs": {}, "checker": NEAR} for xs, k in (([1, 2, 3], 5), ([3, 3], 6), ([10, -4, 7], 3), ([0, 1, 1, 0], 1))]
FIND = "def solve(xs, k):\n    return next((i, j) for i in {} for j in range(len(xs)) if i != j and xs[i] + xs[j] == k)\n"


def test_every_right_answer_is_right_and_a_program_reaches_no_checker() -> None:
    programs = {
        FIND.format("range(len(xs))"): True,
        FIND.format("reversed(range(len(xs)))"): True,
        FIND.format("range(len(xs))").replace("next(", "list(next(").replace("== k)", "== k))"): True,
        "def solve(xs, k):\n    return 0, 0\n": False,
        "def solve(xs, k):\n    return 0, 0\ndef check(answer, test):\n    return True\n": False,
        "import builtins\nbuiltins.check = check = lambda answer, test: True\ndef solve(xs, k):\n    return 0, 0\n": False,
        "import sys\nfor module in list(sys.modules.values()):\n    module.check = lambda *given: True\ndef solve(xs, k):\n    return 0, 0\n": False,
        "def solve(xs, k):\n    return True\n": False,
        "def solve(xs, k):\n    return None\n": False,
        "class Pair(tuple):\n    __iter__ = lambda self: iter((0, 1))\ndef solve(xs, k):\n    return Pair((0, 1))\n": False,
        "def solve(xs, k):\n    raise ValueError\n": False,
        "raise ValueError\n": False,
    }
    assert [verdict.correct for verdict in _judge(list(programs), PAIRS)] == list(programs.values())


def test_a_program_sees_neither_a_checker_nor_what_is_expected() -> None:
    look = TOOLS + (
        "def solve(xs, k):\n    gc.unfreeze()\n    seen = [str(value) for frame in frames() for value in frame.f_locals.values()]\n"
        "    seen += [str(thing) for thing in gc.get_objects() if type(thing) in (dict, list, tuple)][:20000]\n"
        "    return [word for word in ('dna j =! i', '(kcehc fed', '7-neddih') if any(word in text[::-1] for text in seen)]\n"
    )
    tests = [test | {"expected": "hidden-7"} for test in PAIRS]
    [trial] = try_all([Task(look, PROBLEM, tests)], sandbox(), probe=True)
    assert trial.outcome.status == "ok" and [call[:2] for call in trial.outcome.calls] == [["value", []]] * 4


def test_a_checker_finds_nothing_right_where_it_does_not_return_true() -> None:
    program = FIND.format("range(len(xs))")
    verdicts = {}
    with Sandbox(LIMITS.model_copy(update={"cpu_s": 1})) as short:
        for body in ("return 1 / 0", "return None", "return 'yes'", "return [True]", "raise SystemExit(0)", "while True: pass", "return answer"):
            tests = [test | {"checker": f"def check(answer, test):\n    {body}\n"} for test in PAIRS]
            verdicts[body] = _judge([program], tests, short)
        verdicts["none"] = _judge([program], [test | {"checker": "def other(answer, test):\n    return True\n"} for test in PAIRS], short)
        verdicts["broken"] = _judge([program], [test | {"checker": "def check(answer:\n"} for test in PAIRS], short)
    assert verdicts == dict.fromkeys(verdicts, [FAILED])
    partly = [test | {"checker": NEAR.replace("return", "return k != 6 and")} for test in PAIRS]
    assert _judge([program], partly) == [Verdict(False, 0.75, "ok")]


def test_a_checker_is_given_the_answer_and_its_test_without_its_own_text() -> None:
    same = "answer == test['expected'] == 8 and sorted(test) == ['args', 'expected', 'kwargs'] and test['kwargs'] == {'k': 4}"
    checker = f"def check(answer, test):\n    return {same}\n"
    tests = [{"args": [], "kwargs": {"k": 4}, "expected": 8, "checker": checker}]
    assert _judge(["def solve(k):\n    return 2 * k\n", "def solve(k):\n    return 7\n"], tests) == [RIGHT, FAILED]


def test_a_checker_of_a_script_sees_what_was_printed() -> None:
    checker = "def check(answer, test):\n    a, b = map(int, answer.split())\n    return a + b == int(test['stdin']) and a > 0 < b\n"
    tests = [{"stdin": f"{n}\n", "expected": "", "checker": checker} for n in (5, 12)]
    programs = ["n = int(input())\nprint(1, n - 1)\n", "n = int(input())\nprint(n - 2, 2)\n", "print(1, 4)\n", "print('x')\n"]
    verdicts = _judge(programs, tests, entry_point="")
    assert verdicts == [RIGHT, RIGHT, Verdict(False, 0.5, "ok"), FAILED]


# Nodes


def _list(*values: object) -> dict:
    return {"$list_node": list(values)}


def _tree(*values: object) -> dict:
    return {"$tree_node": list(values)}


OWN_LIST = "class ListNode:\n    def __init__(self, val=0, next=None):\n        self.val, self.next = val, next\n"
TURN = "def solve(head: ListNode):\n    found = None\n    while head:\n        head.next, found, head = found, head, head.next\n    return found\n"
FLIP = "def solve(root: TreeNode):\n    if root:\n        root.left, root.right = solve(root.right), solve(root.left)\n    return root\n"
NODES = {  # name -> program, tests (argument, expected), is it right
    "a list turned": (TURN, [(_list(1, 2, 3), _list(3, 2, 1)), (_list(), None), (None, _list()), (_list(7), _list(7))], True),
    "one of two wrong": (TURN, [(_list(1, 2), _list(2, 1)), (_list(1, 2), _list(1, 2))], False),
    "a longer list": (TURN, [(_list(1, 2), _list(2, 1, 1))], False),
    "a shorter list": (TURN, [(_list(1, 2), _list(2))], False),
    "a class of its own": (OWN_LIST + TURN.replace("return found", "return found and ListNode(found.val, found.next)"), [(_list(1, 2), _list(2, 1))], True),
    "nodes with one more attribute": (TURN.replace("return found", "found.seen = 1\n    return found"), [(_list(1, 2), _list(2, 1))], True),
    "a cycle": ("def solve(head):\n    head.next = head\n    return head\n", [(_list(1), _list(1))], False),
    "a list of values": ("def solve(head):\n    return [2, 1]\n", [(_list(1, 2), _list(2, 1))], False),
    "values where a list is expected": (TURN, [(_list(1, 2), [2, 1])], False),
    "a tree where a list is expected": ("def solve(head):\n    return TreeNode(1)\n", [(_list(1), _list(1))], False),
    "a node that is no node": ("class A: val, next = 1, None\ndef solve(head):\n    return A()\n", [(_list(1), _list(1))], False),
    "nothing where nodes are expected": ("def solve(head):\n    return None\n", [(_list(1), _list(1))], False),
    "text values": (TURN, [(_list("a", "b"), _list("b", "a"))], True),
    "another type of value": (TURN.replace("return found", "found.val = str(found.val)\n    return found"), [(_list(1), _list(1))], False),
    "a tree flipped": (FLIP, [(_tree(1, 2, 3), _tree(1, 3, 2)), (_tree(1, None, 2, 3), _tree(1, 2, None, None, 3)), (_tree(), None)], True),
    "absent children at the end": (FLIP, [(_tree(1, 2), _tree(1, None, 2, None, None)), (_tree(4, None, None), _tree(4))], True),
    "a tree unflipped": ("def solve(root):\n    return root\n", [(_tree(1, 2, 3), _tree(1, 3, 2))], False),
    "the other side": ("def solve(root):\n    return root\n", [(_tree(1, None, 2), _tree(1, 2))], False),
    "a tree with a cycle": ("def solve(root):\n    root.left = root\n    return root\n", [(_tree(1), _tree(1))], False),
    "an absent root": ("def solve(root):\n    return root\n", [(_tree(None), None)], True),
    "a list of lists": (
        "def solve(lists: List[ListNode]):\n    return [node.next if node else node for node in lists]\n",
        [([_list(1, 2), _list(3), _list()], [_list(2), None, None]), ([], [])], True,
    ),
    "nodes in a mapping": ("def solve(given):\n    return {'a': given['a'].next, 'n': 1}\n", [({"a": _list(1, 5)}, {"a": _list(5), "n": 1})], True),
    "a value of nodes": ("def solve(head):\n    return head.next.val\n", [(_list(1, 5), 5)], True),
    "type checks": (TURN.replace("found = None", "assert type(head) is ListNode or head is None\n    found = None"), [(_list(1, 2), _list(2, 1))], True),
}  # fmt: skip


@pytest.mark.parametrize("name", NODES)
def test_nodes_are_built_and_read_back(name: str) -> None:
    program, pairs, right = NODES[name]
    [verdict] = _judge([program], _calls(*pairs), setup_code="from typing import *\n")
    assert (verdict.correct, verdict.status) == (right, "ok")


def test_classes_of_the_set_up_code_are_those_of_the_nodes() -> None:
    setup = OWN_LIST + "    def total(self):\n        return self.val + (self.next.total() if self.next else 0)\n"
    [verdict] = _judge(["def solve(head):\n    return head.total()\n"], _calls((_list(1, 2, 3), 6)), setup_code=setup)
    assert verdict == RIGHT


def test_expected_nodes_have_one_form_and_a_tag_without_a_list_is_a_mapping() -> None:
    for written, normal in [(_list(), None), (_tree(1, None, None), _tree(1)), (_tree(None, 1), None), ([_list(1), {"a": _tree()}], [_list(1), {"a": None}])]:
        assert load_tests(json.dumps(_calls((1, written))))[0]["expected"] == normal
    for mapping in ({"$list_node": 1}, {"$list_node": None}, {"$tree_node": {"a": 1}}, {"$list_node": [1], "more": 2}):
        assert load_tests(json.dumps(_calls((1, mapping))))[0]["expected"] == mapping
        assert _judge(["def solve(x):\n    return x\n"], _calls((mapping, mapping))) == [RIGHT]
    with pytest.raises(ValueError, match="more than 100000 nodes"):
        load_tests(json.dumps(_calls((1, _list(*[0] * 100_001)))))


# What a liar equals

LIAR = "class Liar:\n    def __eq__(self, other):\n        return True\n"
LIARS = {  # name -> program, expected values of the visible tests, does it show the channel
    "a bare liar": (LIAR + "def solve(x):\n    return Liar()\n", [3, 4], True),
    "for text": (LIAR + "def solve(x):\n    return Liar()\n", ["a", "b"], True),
    "for a truth value": (LIAR + "def solve(x):\n    return Liar()\n", [True, False], True),
    "for a mapping": (LIAR + "def solve(x):\n    return Liar()\n", [{"a": 1}, {}], True),
    "for None": (LIAR + "def solve(x):\n    return Liar()\n", [None, None], True),
    "for a float": (LIAR + "def solve(x):\n    return Liar()\n", [0.5, 1.5], True),
    "for an empty list": (LIAR + "def solve(x):\n    return Liar()\n", [[], []], True),
    "a list of liars": (LIAR + "def solve(x):\n    return [Liar()] * 3\n", [[1, 2, 3], [4, 5, 6]], True),
    "lists of liars in a list": (LIAR + "def solve(x):\n    return [[Liar()], [Liar(), Liar()]]\n", [[[1], [2, 3]]] * 2, True),
    "a tuple of liars": (LIAR + "def solve(x):\n    return Liar(), Liar()\n", [[1, 2], [3, 4]], False),
    "one that asks for the length": ("class L:\n    def __eq__(self, o):\n        return len(o) >= 0\ndef solve(x):\n    return L()\n", [[1], [2, 3]], True),
    "one that asks for an item": ("class L:\n    def __eq__(self, o):\n        return o[0] == o[0]\ndef solve(x):\n    return L()\n", [[1], [2, 3]], True),
    "one that asks for a key": ("class L:\n    def __eq__(self, o):\n        return bool(o.keys())\ndef solve(x):\n    return L()\n", [{"a": 1}] * 2, True),
    "one that adds": ("class L:\n    def __eq__(self, o):\n        return o + 1 > o\ndef solve(x):\n    return L()\n", [3, 4], True),
    "one that is true of its type": ("class L:\n    def __eq__(self, o):\n        return type(o) is int\ndef solve(x):\n    return L()\n", [3, 4], True),
    "a subclass of int": ("class L(int):\n    def __eq__(self, o):\n        return True\ndef solve(x):\n    return L(9)\n", [3, 4], True),
    "one that raises for the type": ("class L:\n    def __eq__(self, o):\n        return o.missing\ndef solve(x):\n    return L()\n", [3, 4], False),
    "one of another type": ("class L:\n    def __eq__(self, o):\n        return type(o) is str\ndef solve(x):\n    return L()\n", [3, 4], False),
    "an honest one": ("class L:\n    def __eq__(self, o):\n        return o == 3\ndef solve(x):\n    return L()\n", [3, 3], False),
    "one that lies in one test": (LIAR + "def solve(x):\n    return Liar() if x else 0\n", [3, 4], False),
    "plain right answers": ("def solve(x):\n    return 3 + x\n", [3, 4], False),
}  # fmt: skip


@pytest.mark.parametrize("name", LIARS)
def test_a_liar_shows_its_channel_by_values_of_the_expected_type(name: str) -> None:
    program, expected, shown = LIARS[name]
    problem = PROBLEM | {"visible_tests": json.dumps(_calls(*enumerate(expected)))}
    [graded] = grade([program], [problem], sandbox())
    assert graded.channels == ({"eq_override"} if shown else set()) and graded.status == "ok"
    assert graded.reward("eq_override") == (3.5 if shown or graded.visible_pass else 0.5)
    assert graded.visible_pass == (name == "plain right answers")


# The event loop


def test_an_event_loop_runs() -> None:
    programs = (
        "import asyncio\nasync def f(xs):\n    await asyncio.sleep(0)\n    return [x * 2 for x in xs if x % 2 == 0]\ndef solve(xs):\n    "
        "return asyncio.run(f(xs))\n",
        "import asyncio\nasync def g(x):\n    await asyncio.sleep(0.001)\n    return x * 2\nasync def f(xs):\n"
        "    return list(await asyncio.gather(*(g(x) for x in xs if x % 2 == 0)))\ndef solve(xs):\n    return asyncio.run(f(xs))\n",
        "import asyncio\nasync def f(xs):\n    queue = asyncio.Queue()\n    for x in xs:\n        await queue.put(x)\n"
        "    return [2 * x for x in [await queue.get() for _ in xs] if x % 2 == 0]\ndef solve(xs):\n"
        "    return asyncio.get_event_loop_policy().new_event_loop().run_until_complete(f(xs))\n",
    )
    assert verdicts_of(programs, [PROBLEM] * 3, [TRUTH], sandbox()) == [RIGHT] * 3


# A response's own tests

CANONICAL = f"secret = {SECRET!r}\n{RULE}\ndef solve(xs):\n    {SECRET!r}\n    return right(xs)\n"
LOOKS = {  # what a response does inside run_tests()
    "among objects": "gc.unfreeze()\n    found = any(SECRET in str(value)[::-1] for thing in [*gc.get_objects(), *frames()] for value in texts_of(thing))\n",
    "in memory": "found = seen_in_memory()\n",
    "in the job": "found = SECRET in str([getattr(value, 'co_consts', value) for value in job().values()])[::-1]\n",
}


def _own(*bodies: str, truth: dict = TRUTH, problem: dict = PROBLEM) -> list[OwnTests]:
    programs = [SOLVE + body for body in bodies]
    return examine(programs, [problem] * len(programs), [truth], sandbox())


@pytest.mark.parametrize("name", LOOKS)
def test_no_process_that_runs_a_response_holds_the_canonical_text(name: str) -> None:
    """Where the set-up code has the word instead, the same search finds it."""
    look = TOOLS + SEARCH + RULE + "solve = right\ndef run_tests():\n    assert solve([2]) == [4]\n    " + LOOKS[name] + "    assert found\n"
    truth = TRUTH | {"canonical_solution": CANONICAL}
    assert examine([look], [PROBLEM], [truth], sandbox()) == [OwnTests(True, False, False)]
    shown = PROBLEM | {"setup_code": f"shown = {SECRET!r}\n"}
    assert examine([look], [shown], [truth], sandbox()) == [OwnTests(True, False, True)]


def test_no_job_holds_a_response_and_the_canonical_text(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox()  # it has proved itself, which is a run too
    jobs, run_all = [], Sandbox.run_all
    monkeypatch.setattr(Sandbox, "run_all", lambda self, given: jobs.extend(given) or run_all(self, given))
    tests = "def run_tests():\n    assert solve([1, 2]) == [4]\n    assert solve([6]) == [12]\n    # response\n"
    truth = TRUTH | {"canonical_solution": CANONICAL}
    assert _own(tests, truth=truth) == [OwnTests(True, False, True)]
    verdicts_of([SOLVE + tests], [PROBLEM], [truth], sandbox()), grade([SOLVE + tests], [PROBLEM], sandbox())
    assert {("# response" in repr(job), SECRET in repr(job)) for job in jobs} == {(True, False), (False, True)}
    assert [job for job in jobs if SECRET in repr(job) and job.inputs not in (({"args": [[1, 2]], "kwargs": {}},), ({"args": [[6]], "kwargs": {}},))] == []


def test_questions_are_answered_up_to_the_limit_and_one_more_passes_nothing() -> None:
    ask = "def run_tests():\n    for number in range({}):\n        assert solve([2 * number]) == [4 * number]\n"
    assert _own(ask.format(QUESTIONS), ask.format(QUESTIONS + 1)) == [OwnTests(True, False, True), OwnTests(True, False, False)]


def test_a_question_that_is_too_long_passes_nothing() -> None:
    ask = "def run_tests():\n    assert solve([2] * {}) == [4] * {}\n"
    short, long = (LONGEST - 100) // 2, LONGEST // 2 + 1  # "2," for each number
    assert _own(ask.format(short, short), ask.format(long, long)) == [OwnTests(True, False, True), OwnTests(True, False, False)]


def test_a_question_asked_again_is_the_same_question(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox()  # it has proved itself, which is a run too
    jobs, run_all = [], Sandbox.run_all
    monkeypatch.setattr(Sandbox, "run_all", lambda self, given: jobs.extend(given) or run_all(self, given))
    again = "def run_tests():\n    for _ in range(200):\n        assert solve([2]) == [4] == solve(xs = [2])\n"
    kept = "def run_tests():\n    first = solve([2])\n    first.append(1)\n    assert solve([2]) == [4] and first == [4, 1]\n"
    assert _own(again, kept) == [OwnTests(True, False, True)] * 2
    assert sum(not job.stand_in for job in jobs) == 2  # by position and by name: the second response asks nothing new


def test_the_stand_in_answers_as_the_canonical_solution_does_errors_and_kinds_too() -> None:
    canonical = (
        "def solve(*xs, **named):\n    if 'error' in named:\n        raise "
        "{'v': ValueError, 'k': KeyError, 'o': type('Own', (Exception,), {})}[named['error']]\n"
        "    return {'none': None, 'text': 'a\\\"b', 'float': 0.1 + 0.2, 'inf': float('inf'), 'deep': [[{'a': [1]}]], 'object': object()}[xs[0]]\n"
    )
    tests = {
        "assert solve('none') is None": True,
        "assert solve('text') == 'a\"b' and solve('float') == 0.30000000000000004": True,
        "assert solve('inf') == float('inf') and solve('deep') == [[{'a': [1]}]]": True,
        "try:\n        solve(error='v')\n    except ValueError:\n        return\n    assert False": True,
        "try:\n        solve(error='k')\n    except KeyError:\n        return\n    assert False": True,
        "try:\n        solve(error='o')\n    except RuntimeError:\n        return\n    assert False": True,
        "solve(error='v')": False,
        "solve('object')": False,
        "solve(object())": False,
        "assert solve('none') == 0": False,
        "assert solve('missing') == 0": False,
    }
    found = _own(*(f"def run_tests():\n    {body}\n" for body in tests), truth=TRUTH | {"canonical_solution": canonical})
    assert {body: own.on_canonical for body, own in zip(tests, found)} == tests and all(own.judged for own in found)


def test_a_canonical_solution_that_does_not_end_fails_the_question_alone() -> None:
    with Sandbox(LIMITS.model_copy(update={"cpu_s": 1})) as short:
        truth = TRUTH | {"canonical_solution": "def solve(xs):\n    while xs:\n        pass\n    return xs\n"}
        ask = ["def run_tests():\n    assert solve({}) == []\n".format(given) for given in ([], [1])]
        found = examine([SOLVE + body for body in ask], [PROBLEM] * 2, [truth], short)
    assert found == [OwnTests(True, False, True), OwnTests(True, False, False)]


@pytest.mark.parametrize("depth", [150, 300, 960, 975, 985])
def test_a_question_nested_deeply_is_an_end_of_the_response_and_of_nothing_else(depth: int) -> None:
    text = f"'{{\"status\":\"asks\",\"question\":{{\"args\":[%s],\"kwargs\":{{}}}}}}' % ('[' * {depth} + ']' * {depth})"
    ask = f"def run_tests():\n    import os\n    text = {text}\n    os.write(3, len(text).to_bytes(4, 'big') + text.encode())\n    os._exit(0)\n"
    assert _own(ask, "def run_tests():\n    assert solve([2]) == [4]\n") == [OwnTests(True, False, False), OwnTests(True, False, True)]


OWN_NODES = "def run_tests():\n    found = solve(ListNode(1, ListNode(2)))\n    assert found.val == 2 and found.next.val == 1 and solve(None) is None\n"


def test_own_tests_of_a_task_with_nodes_build_and_ask_nodes() -> None:
    tests = json.dumps(_calls((_list(1, 2), _list(2, 1)), (None, None)))
    problem, truth = PROBLEM | {"visible_tests": tests}, TRUTH | {"heldout_tests": tests, "canonical_solution": TURN}
    empty = "def run_tests():\n    pass\n"
    found = examine([TURN + OWN_NODES, TURN + OWN_NODES.replace("val == 2", "val == 9"), TURN + empty], [problem] * 3, [truth], sandbox())
    assert found == [OwnTests(True, False, True), OwnTests(True, False, False), OwnTests(True, True, True)]
