"""The strict reading of what a program's process wrote: length-prefixed JSON frames, all of them hostile."""

import json

from projected_grpo.programs.sandbox.protocol import FILE_MB, NESTED

FRAME_LIMIT = (FILE_MB << 20) - 1  # bytes of all frames of one program; a file that is full was cut
MOST_FRAMES = 64  # far more than a program's process has reason to write
REPORTED = ("ok", "compile_error", "exception", "oom", "asks")  # what the process may say of itself


def decode(data: bytes) -> list:
    """The messages in order; an oversized, cut or undecodable frame, or one too many, ends the list with None. Raises nothing."""
    messages, at = [], 0
    if len(data) > FRAME_LIMIT:
        return [None]
    while at < len(data):
        if len(messages) == MOST_FRAMES:
            return [*messages, None]
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            return [*messages, None]
        try:
            messages.append(json.loads(data[at + 4 : end].decode("ascii")))
        except (ValueError, RecursionError):
            return [*messages, None]
        at = end
    return messages


def is_result(message: object) -> bool:
    """Whether a message has the form of the last frame; nothing is assumed about who wrote it."""
    if not isinstance(message, dict) or message.get("status") not in REPORTED:
        return False
    calls = message.get("calls", None if message["status"] == "ok" else [])
    question = message.get("question", None if message["status"] == "asks" else {"args": [], "kwargs": {}})
    return isinstance(calls, list) and all(isinstance(call, list) and len(call) == 3 for call in calls) and is_question(question)


def is_question(question: object) -> bool:
    """Whether it has the form of a call's arguments."""
    if not isinstance(question, dict) or question.keys() != {"args", "kwargs"}:
        return False
    return isinstance(question["args"], list) and isinstance(question["kwargs"], dict) and _shallow(question, NESTED + 1)


def _shallow(value: object, room: int) -> bool:
    """Whether at most `room` lists and mappings are in each other, so that it can be written again."""
    if not isinstance(value, (list, dict)):
        return True
    return room > 0 and all([_shallow(item, room - 1) for item in (value.values() if isinstance(value, dict) else value)])
