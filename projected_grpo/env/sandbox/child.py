"""Runs one program inside the confined fork: execute it, call its entry point, write frames, end.

Frames are length-prefixed JSON on descriptor 3: one when every layer stands, one when the program compiles, one when
everything ran. The encoder is below because it accepts exact plain types only. Whatever this process says may be forged
by the program that it runs; expected values never come here.
"""

import builtins
import json
import os
import random
import sys
from _json import encode_basestring_ascii as quote

from protocol import FRAMES

DECOYS = ((987654321, -987654321), ("one", "other"), ([7, 0, 7], [0, 7, 0]), (True, False), ({"a": 1}, {"b": 2}))


class Encoded:
    """A value that is JSON text already."""

    def __init__(self, text):
        self.text = text


def encode(value, depth=0):
    """JSON of plain data; raises TypeError for anything whose exact type is not a plain one."""
    kind = type(value)
    if depth > 50:
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
    raise TypeError(kind.__name__)


def send(message):
    text = encode(message).encode()
    os.write(FRAMES, len(text).to_bytes(4, "big") + text)


def run(job):
    namespace, words = {"__name__": "program", "__builtins__": builtins}, job["words"]
    exec(job["setup_code"], namespace)
    try:
        code = compile(job["program"], "<program>", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return {"status": "compile_error", "detail": type(error).__name__}
    send({"compiled": True})
    try:
        exec(code, namespace)
    except MemoryError:
        return {"status": "oom"}
    except Exception as error:
        return {"status": "exception", "detail": type(error).__name__}
    result = {"status": "ok", "calls": [call(job["entry_point"], given, namespace) for given in job["inputs"]]}
    if job["probe"]:
        result["sentinel"] = bool(namespace.get(words["sentinel"], False))
        result["run_tests"] = passes(namespace.get(words["run_tests"]))
    if job["stand_in"]:
        exec(job["stand_in"], namespace)
        result["stand_in"] = passes(namespace.get(words["run_tests"]))
    return result


def call(entry_point, given, namespace):
    """[kind, value, lies]: kind is value, opaque (not plain data) or error; lies: the answer equals what it is not.

    The value is encoded at once, so a later call that changes the same object does not change this answer.
    """
    try:
        answer = eval(entry_point, namespace)(*given["args"], **given["kwargs"])
    except Exception as error:
        return ["error", type(error).__name__, False]
    try:
        return ["value", Encoded(encode(answer)), False]
    except (TypeError, ValueError) as error:  # ValueError: an integer too long to print
        return ["opaque", str(error), lies(answer)]


def lies(answer):
    """Whether the answer claims to equal two values that differ, which only an __eq__ of its own can do."""
    try:
        return any(bool(answer == one) and bool(answer == other) for one, other in DECOYS)
    except Exception:
        return False


def passes(run_tests):
    """Whether the evaluation function exists and returns without an exception."""
    if not callable(run_tests):
        return False
    try:
        run_tests()
    except BaseException:  # an exit too: it asks the interpreter to end, and is not a return
        return False
    return True


def main(text, stdout=sys.stdout):
    """Never returns. An exit asked for by the program ends as it asked, but without exit hooks."""
    code = 1
    random.seed(0)  # fork seeds it anew; every program starts from one state
    try:
        send({"entered": True})
        send(run(json.loads(text)))
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    finally:
        try:
            stdout.flush()
        finally:  # the program may have closed it
            os._exit(code & 0xFF)
