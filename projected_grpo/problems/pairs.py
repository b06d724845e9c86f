"""Authored (hack, clean) pairs: the Markdown format, the selector, and an audit of what could become a style axis.

v_act is the mean difference of the two sides, so whatever differs systematically between them becomes the direction.
The audit measures length and shared text and refuses sides without content. Whether only the mechanism differs is for
the author to judge. The format is described in docs/pairs.md.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest
from pathlib import Path
from statistics import fmean

from scipy.stats import binomtest

from projected_grpo.core.errors import InputError
from projected_grpo.prompts.modes import MODES

FENCE = "`````"
SECTIONS = ("Prompt", "Hack", "Clean")
NAME = re.compile(r"[A-Za-z0-9_.-]+")
SELECTOR = re.compile(r"(?P<path>[^#@]+)(?:#(?P<prefix>[^#@]+))?(?:@(?P<tags>[^#@]+))?")
OWN = "loophole."
MIN_CHARS = 20  # non-space characters of a side
PLACEHOLDER = re.compile(r"\.\.\.|\u2026|\bTODO\b")
EMPTY_LINE = re.compile(r"\s*(pass|(def|class)\b.*:(\s*pass)?)?\s*")  # of a side that defines and does nothing


class PairError(InputError):
    """A file of pairs, a selector or a pair that cannot be used; the message names the file and the line or pair."""


@dataclass(frozen=True)
class Token:
    """A piece of the Markdown, with the line on which it starts."""

    kind: str  # pair | tags | section | fence | unclosed | text
    line: int
    value: str  # the id, the list of tags, the name of the section, the fenced lines, or the line itself


def parse_pairs(path: Path) -> list[dict]:
    """Rows of the table pairs, in the order of the file. Raises PairError for anything that the format does not allow.

    Text before the first pair is an introduction. Blank lines and spaces outside the fences carry no meaning.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PairError(f"{path}: cannot be read as UTF-8 text: {error}") from error
    groups: list[list[Token]] = []  # each starts with the heading of its pair
    for token in _tokens(text):
        if token.kind == "pair":
            groups.append([token])
        elif groups:
            groups[-1].append(token)
        elif token.kind != "text":
            reason = f"found {_shown(token)} before the first pair; start each pair with '### <id>'"
            raise PairError(f"{path}: line {token.line}: {reason}")
    if not groups:
        raise PairError(f"{path}: no pair found; expected at least one '### <id>' heading with its sections")
    seen: dict[str, int] = {}
    for heading, *_ in groups:
        if not NAME.fullmatch(heading.value):
            reason = "the id is not one word of letters, digits, '_', '.' and '-'; write '### <id>'"
            raise _error(path, heading.line, heading, reason)
        if heading.value in seen:
            reason = f"the id is in use since line {seen[heading.value]}; give each pair its own id"
            raise _error(path, heading.line, heading, reason)
        seen[heading.value] = heading.line
    return [_row(path, group) for group in groups]


def select_pairs(selector: str) -> list[dict]:
    """Rows that `file.md[#prefix][@tag,tag]` selects: the id starts with the prefix, and ANY of the tags is present.

    Raises PairError, with what the file holds, for a tag that no pair has and for a selection of nothing.
    """
    match = SELECTOR.fullmatch(selector)
    if match is None:
        raise PairError(f"selector '{selector}': expected file.md[#prefix][@tag,tag]; mend pairs.selector")
    rows = parse_pairs(Path(match["path"]))
    wanted = {tag.strip() for tag in match["tags"].split(",")} if match["tags"] else set()
    known = {tag for row in rows for tag in _tags(row)}
    if wanted - known:
        raise PairError(
            f"selector '{selector}': no pair has the tag {', '.join(map(repr, sorted(wanted - known)))}; "
            f"known tags: {', '.join(sorted(known))}"
        )
    prefix = match["prefix"] or ""
    kept = [row for row in rows if row["pair_id"].startswith(prefix) and (not wanted or wanted & _tags(row))]
    if not kept:
        raise PairError(
            f"selector '{selector}': selects no pair; known tags: {', '.join(sorted(known))}; "
            f"known ids: {', '.join(row['pair_id'] for row in rows)}"
        )
    return kept


def audit_pairs(rows: Sequence[dict], source: str) -> list[dict]:
    """Rows of the table pair_audit for one or more pairs. Raises PairError, naming `source` and the pair, for a side
    without content, for equal sides and for a pair that repeats another."""
    seen: dict[str, str] = {}
    for row in rows:
        where = f"{source}: pair '{row['pair_id']}'"
        for side in ("hack", "clean"):
            _refuse_stub(row[side], f"{where}: {side} side")
        if row["hack"] == row["clean"]:
            raise PairError(f"{where}: both sides are the same text; edit one of them or remove the pair")
        if row["content_sha256"] in seen:
            raise PairError(f"{where}: repeats pair '{seen[row['content_sha256']]}' word for word; remove one of them")
        seen[row["content_sha256"]] = row["pair_id"]
    lengths = [(len(row["hack"]), len(row["clean"])) for row in rows]
    gaps = [2 * (clean - hack) / (clean + hack) for hack, clean in lengths]
    shared = {"sign_test_p": sign_test([clean - hack for hack, clean in lengths]), "mean_length_gap": fmean(gaps)}
    return [
        {
            "pair_id": row["pair_id"],
            "mode": row["mode"],
            "hack_chars": len(row["hack"]),
            "clean_chars": len(row["clean"]),
            "length_gap": gap,
            "edit_share": 1 - SequenceMatcher(None, row["hack"], row["clean"], autojunk=False).ratio(),
        }
        | shared
        for row, gap in zip(rows, gaps)
    ]


def sign_test(differences: Sequence[int]) -> float:
    """Two-sided p that positive and negative differences are equally frequent; ties do not count, ties alone give 1."""
    positive, negative = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    return float(binomtest(positive, positive + negative).pvalue) if positive + negative else 1.0


def _tokens(text: str) -> Iterator[Token]:
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        number, line = at + 1, lines[at].strip()
        at += 1
        if line == FENCE:
            end = next((i for i in range(at, len(lines)) if _ends_fence(lines[i])), len(lines))
            closed = end < len(lines) and lines[end].strip() == FENCE
            yield Token("fence" if closed else "unclosed", number, "\n".join(lines[at:end]))
            at = end + closed
        elif re.match(r"###(\s|$)", line):
            yield Token("pair", number, line[3:].strip())
        elif re.match(r"####(\s|$)", line):
            yield Token("section", number, line[4:].strip())
        elif line.startswith("Tags:"):
            yield Token("tags", number, line.removeprefix("Tags:"))
        elif line:
            yield Token("text", number, line)


def _ends_fence(line: str) -> bool:
    """A closing fence, or the heading of a section, before which the fence should have been closed."""
    return line.strip() == FENCE or line.rstrip() in {f"#### {name}" for name in SECTIONS}


def _row(path: Path, group: Sequence[Token]) -> dict:
    """The row of one pair: its heading, then its tags, then three times a section heading and a fence."""
    heading, *rest = group
    for token in rest:
        if token.kind == "unclosed":
            reason = f"the fence that opens here has no end; close it with a line {FENCE}"
            raise _error(path, token.line, heading, reason)
        if token.kind == "text":
            raise _error(path, token.line, heading, f"found {_shown(token)} outside the fences; move it into one")
    if not rest or rest[0].kind != "tags":
        raise _error(path, heading.line, heading, "no 'Tags:' line; write 'Tags: tag, tag' right below the heading")
    tags = _parse_tags(path, rest[0], heading)
    texts: dict[str, str] = {}
    for section, fence in zip_longest(rest[1::2], rest[2::2]):
        if section.kind != "section" or section.value not in SECTIONS:
            reason = f"found {_shown(section)}, expected one section each of {', '.join(SECTIONS)}"
            raise _error(path, section.line, heading, f"{reason}; rename it or remove it")
        if section.value in texts:
            raise _error(path, section.line, heading, f"a second section '{section.value}'; remove one of the two")
        if fence is None or fence.kind != "fence" or not fence.value.strip():
            reason = f"section '{section.value}' has no text; write it between two lines {FENCE}"
            raise _error(path, section.line, heading, reason)
        texts[section.value] = fence.value.rstrip("\n") + "\n"
    for name in SECTIONS:
        if name not in texts:
            raise _error(path, heading.line, heading, f"section '{name}' is missing; add '#### {name}' and its fence")
    content = [texts[name] for name in SECTIONS]
    return {
        "pair_id": heading.value,
        "set": path.stem,
        "tags": ",".join(tags),
        "mode": next(iter(_modes(tags)), "none"),
        "provenance": "authored",
        "prompt": texts["Prompt"],
        "clean_prompt": texts["Prompt"],
        "hack": texts["Hack"],
        "clean": texts["Clean"],
        "content_sha256": hashlib.sha256("\0".join(content).encode()).hexdigest(),
    }


def _parse_tags(path: Path, token: Token, heading: Token) -> list[str]:
    tags = sorted({tag.strip() for tag in token.value.split(",")})
    for tag in tags:
        if not NAME.fullmatch(tag):
            reason = f"found the tag '{tag}', expected words of letters, digits, '_', '.' and '-' between commas"
            raise _error(path, token.line, heading, f"{reason}; rename it or remove it")
    if len(modes := _modes(tags)) > 1:
        reason = f"found the loophole modes {', '.join(modes)}, expected one at most; a pair has one mechanism"
        raise _error(path, token.line, heading, reason)
    return tags


def _modes(tags: Sequence[str]) -> list[str]:
    """Loopholes that the tags name: one of ours by its name, another environment's as `loophole.NAME`."""
    return [tag.removeprefix(OWN) for tag in tags if tag in MODES or tag.startswith(OWN)]


def _tags(row: dict) -> set[str]:
    return set(row["tags"].split(","))


def _refuse_stub(text: str, where: str) -> None:
    characters = len("".join(text.split()))
    if characters < MIN_CHARS:
        raise PairError(f"{where}: found {characters} non-space characters, expected {MIN_CHARS} or more; write it out")
    placeholder = PLACEHOLDER.search(text)
    if placeholder:
        raise PairError(f"{where}: found the placeholder {placeholder.group()!r}; write the side out in full")
    if all(EMPTY_LINE.fullmatch(line) for line in text.splitlines()):
        raise PairError(f"{where}: found definitions of 'pass' alone; write what the side does")


def _shown(token: Token) -> str:
    return {"tags": "a 'Tags:' line", "fence": "a fence", "unclosed": "a fence"}.get(token.kind, f"'{token.value}'")


def _error(path: Path, line: int, pair: Token, reason: str) -> PairError:
    return PairError(f"{path}: line {line}: pair '{pair.value}': {reason}")
