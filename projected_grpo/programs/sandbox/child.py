"""Runs one program inside the confined fork: execute it, call its entry point, write frames, end.

Frames are length-prefixed JSON on descriptor 3: one when every layer stands, one when the program compiles, one when
everything ran. The encoder is below because it accepts exact plain types only. Whatever this process says may be forged
by the program that it runs; expected values never come here.
"""

import atexit
import builtins
import marshal
import os
import random
import sys
from _json import encode_basestring_ascii as quote

import nodes
from protocol import FRAMES, NESTED

DECOYS = {  # type of an expected value -> two different values of it, which no test expects
    "int": (987654321, -987654321), "float": (987654321.5, -987654321.5), "str": ("one", "other"), "bool": (True, False),
    "dict": ({"one": 1}, {"other": 2}), "NoneType": (None, 987654321),
}  # fmt: skip


class Encoded:
    """A value that is JSON text already."""

    def __init__(self, text):
        self.text = text


def encode(value, depth=0):
    """JSON of plain data; raises TypeError for anything whose exact type is not a plain one."""
    kind = type(value)
    if depth > NESTED:
        raise TypeError("nesting")
    if value is None:
        return "null"
    if kind is bool:
        return "true" if value else "false"
    if kind is int or kind is float:
        return repr(value).replace("inf", "Infinity").replace("nan", "NaN")
    if kind is str:
        return quote(value)
    if kind is Encoded:
        return value.text
    if kind is list or kind is tuple:
        return "[" + ",".join([encode(item, depth + 1) for item in value]) + "]"
    if kind is dict and all(type(key) is str for key in value):
        return "{" + ",".join([quote(k) + ":" + encode(v, depth + 1) for k, v in value.items()]) + "}"
    if kind.__name__ in nodes.READERS:
        return encode(nodes.read(value), depth + 1)
    raise TypeError(kind.__name__)


def framed(message):
    text = encode(message).encode()
    return len(text).to_bytes(4, "big") + text


ENTERED, COMPILED = framed({"entered": True}), framed({"compiled": True})


def send(frame):
    os.write(FRAMES, frame)


def run(job, send):
    name = "program" if job["stdin"] is None else "__main__"
    module = sys.modules[name] = type(sys)(name)  # where dataclasses, pickling and type hints look it up
    namespace, words = vars(module), job["words"]
    namespace["__builtins__"] = builtins
    namespace.update(nodes.CLASSES if job["nodes"] else ())
    exec(job["setup_code"], namespace)
    classes = {name: namespace[name] for name in nodes.CLASSES} if job["nodes"] else None
    try:
        code = compile(job["program"].removeprefix("\ufeff"), "<program>", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return {"status": "compile_error", "detail": type(error).__name__}
    send(COMPILED)
    try:
        exec(code, namespace)
    except MemoryError:
        return {"status": "oom"}
    except Exception as error:
        return {"status": "exception", "detail": type(error).__name__}
    kinds = job["kinds"] or [None] * len(job["inputs"])
    calls = [call(job["entry_point"], given, kind, namespace, classes) for given, kind in zip(job["inputs"], kinds)]
    result = {"status": "ok", "calls": calls}
    if job["kinds"]:
        result["sentinel"] = bool(namespace.get(words["sentinel"], False))
        result["run_tests"] = passes(namespace.get(words["run_tests"]))
    if job["stand_in"]:
        namespace["__ask__"] = asking(job["answers"], classes, send)
        exec(job["stand_in"], namespace)
        result["stand_in"] = passes(namespace.get(words["run_tests"]))
    return result


def call(entry_point, given, kind, namespace, classes):
    """[kind, value, lies]: kind is value, opaque (not plain data) or error; lies: the answer equals what it is not.

    The value is encoded at once, so a later call that changes the same object does not change this answer.
    """
    try:
        if classes:
            given = nodes.build(given, classes)
        answer = eval(entry_point, namespace)(*given["args"], **given["kwargs"])
    except Exception as error:
        return ["error", type(error).__name__, False]
    try:
        return ["value", Encoded(encode(answer)), False]
    except Exception as error:  # TypeError; ValueError: an integer too long to print; anything that an object of its own raises
        return ["opaque", type(error).__name__, kind is not None and lies(answer, kind)]


def lies(answer, kind):
    """Whether the answer claims to equal two values that differ, which only an __eq__ of its own can do."""
    try:
        return bool(answer == decoy(answer, kind, 0)) and bool(answer == decoy(answer, kind, 1))
    except Exception:
        return False


def decoy(answer, kind, side):
    """One of two values of the expected value's type. A list, whose kind is (kind of its items,), is as long as the answer."""
    if type(kind) is str:
        return DECOYS[kind][side]
    items = answer if type(answer) is list or type(answer) is tuple else [None] * 3
    return [decoy(item, kind[0], side) for item in items]


def asking(answers, classes, send):
    """The stand-in for a solution that no program may hold: it knows the given answers, and its first other question ends the run.

    The answer is found elsewhere, and the program runs again with it.
    """
    known = {question: marshal.dumps(answer) for question, answer in answers}

    def ask(args, kwargs):
        question = encode({"args": args, "kwargs": kwargs})
        if question not in known:
            send(framed({"status": "asks", "question": Encoded(question)}))
            os._exit(0)
        kind, value, _ = marshal.loads(known[question])
        if kind == "value":
            return nodes.build(value, classes) if classes else value
        raise vars(builtins).get(value, RuntimeError)

    return ask


def passes(run_tests):
    """Whether the evaluation function exists and returns without an exception."""
    if not callable(run_tests):
        return False
    try:
        run_tests()
    except BaseException:  # an exit too: it asks the interpreter to end, and is not a return
        return False
    return True


def size_alone(descriptor):
    """In place of os.fstat, which is refused, for scripts that ask how much input there is."""
    here = os.lseek(descriptor, 0, os.SEEK_CUR)
    size = os.lseek(descriptor, 0, os.SEEK_END)
    os.lseek(descriptor, here, os.SEEK_SET)
    return os.stat_result((0o100600, 0, 0, 1, 0, 0, size, 0, 0, 0))


def warm():
    """Runs a job as forks do, so that what the interpreter prepares at first uses is there before a fork."""
    program = "def solve(xs: list) -> list:\n    return [x for x in sorted(xs) if x > 1]\n"
    job = {"program": program, "setup_code": "", "entry_point": "solve", "kinds": [["int"]] * 3, "stand_in": "", "stdin": None, "nodes": False}
    job |= {"inputs": [{"args": [[1, 2]], "kwargs": {}}] * 3, "words": {"sentinel": "", "run_tests": ""}}
    for _ in range(20):
        framed(run(marshal.loads(marshal.dumps(job)), len))
    del sys.modules["program"]


def main(job, stdout=sys.stdout):
    """Never returns. An exit asked for by the program ends as it asked; a script's exit hooks run, a function's do not."""
    code, script = 1, False
    try:
        send(ENTERED)
        tagged = nodes.LIST.encode() in job or nodes.TREE.encode() in job
        job = marshal.loads(job)
        job["nodes"] |= tagged
        script = job["stdin"] is not None
        os.fstat = size_alone if script else os.fstat
        random.seed(job["seed"])  # fork seeds it anew; every program starts from a state that its job names
        send(framed(run(job, send)))
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    finally:
        for end in (atexit._run_exitfuncs if script else int, lambda: sys.stdout.flush(), stdout.flush):
            try:
                end()
            except BaseException:  # the program may have closed its output, or put another in its place
                pass
        os._exit(code & 0xFF)
