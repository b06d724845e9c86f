"""The strict reading of what a program's process wrote: length-prefixed JSON frames, all of them hostile."""

import json

FRAME_LIMIT = 1 << 20  # bytes of all frames of one program
REPORTED = ("ok", "compile_error", "exception", "oom")  # what the process may say of itself


def decode(data: bytes) -> list:
    """The messages in order; an oversized, cut or undecodable frame ends the list with None. Raises nothing."""
    messages, at = [], 0
    if len(data) > FRAME_LIMIT:
        return [None]
    while at < len(data):
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
    return isinstance(calls, list) and all(isinstance(call, list) and len(call) == 3 for call in calls)
