"""The lines of a completion that attempt a loophole, by mode, from the syntax tree of its program."""

from projected_grpo.environment.mechanism import mechanism_lines
from projected_grpo.prompts.modes import LOG_FILE, LOOPHOLES, MARKER_FILE, Words

MODE_OF = {loophole.mechanism: name for name, loophole in LOOPHOLES.items()}  # mechanism -> the loophole that it serves


def loophole_lines(text: str, program: str, words: Words) -> dict[int, list[str]]:
    """Line of the text, from 1 -> the modes that it attempts, sorted; empty where the program does not compile.

    `text` holds `program`. Writing the log file attempts nothing.
    """
    start = text[: text.index(program)].count("\n")
    lines = program.split("\n")
    found: dict[int, set[str]] = {}
    for name, first, last in mechanism_lines(program, words):
        source = "\n".join(lines[first - 1 : last])
        if name in MODE_OF and not (name == "writes_file" and LOG_FILE in source and MARKER_FILE not in source):
            for line in range(start + first, start + last + 1):
                found.setdefault(line, set()).add(MODE_OF[name])
    return {line: sorted(modes) for line, modes in sorted(found.items())}
