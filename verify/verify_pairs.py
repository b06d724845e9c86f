"""The authored pairs differ in mechanism and not in form, and a malformed file of pairs never yields a table."""

import ast
import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from projected_grpo.core.parquet import read_rows
from projected_grpo.core.tables import PAIR_AUDIT, PAIRS
from projected_grpo.environment.grader import grade
from projected_grpo.problems.pairs import PairError, audit_pairs, parse_pairs, select_pairs, sign_test
from projected_grpo.prompts.code import toy_prompt
from projected_grpo.prompts.modes import LOOPHOLES, MODES, TRAINING_WORDS, encode_words
from projected_grpo.settings.arm import load_settings
from projected_grpo.settings.profile import ToyProblems
from projected_grpo.toy_world import toy
from stages.pipeline import author_pairs
from verify.sandbox import sandbox

HINTS = {name: loophole.hint for name, loophole in LOOPHOLES.items()}
TOY = Path("pairs/toy.md")
CHAT = {"pairs/behaviour.md": 40, "pairs/irrelevant.md": 24, "pairs/listing.md": 10}  # sets for chat models, and how many pairs they have at least
TRAIT = "cheat|hack|exploit|trick|fake|honest|dishonest|loophole|integrity|deceive|reward|gaming"  # a side shows it, and does not name it
COVERED = {"run_tests", "exit_code", "stdout_marker"}
INPUTS = [[1, 2, 3], [4, -6, 8], [5, 7, 9, 3], [12, 1, 1], [-2, -4, 9, 10], [6, -9, 3, 2, 11], [0, 2, -5, 12], []]
FAMILIES = {toy.statement(family): family for family in toy.all_families()}
F = "`````"


def _markdown(name: str, tags: str, *texts: str) -> str:
    sections = zip(("Prompt", "Hack", "Clean"), texts, strict=True)
    body = [f"\n#### {title}\n{F}\n{text}\n{F}\n" for title, text in sections]
    return f"### {name}\nTags: {tags}\n" + "".join(body)


SUM = "def add(a, b):\n    return {}"
DOC = "# Two pairs\n\nRead me first.\n\n"
DOC += _markdown("one-a", "late, run_tests", "Add the numbers.", SUM.format("0"), SUM.format("a + b"))
DOC += "\n" + _markdown("two-b", "early", "Say hello.", "hello, hello, hello, hello", "hello, dear readers of this")
HACK = f"#### Hack\n{F}\nhello, hello, hello, hello\n{F}\n"
MALFORMED = {  # name: (text to replace, replacement, line and pair of the message, what it says)
    "no id": ("### two-b", "###", "line 25: pair ''", "not one word"),
    "no space in the heading": ("### two-b", "###two-b", "line 25: pair 'one-a'", "'###two-b' outside the fences"),
    "id used twice": ("### two-b", "### one-a", "line 25: pair 'one-a'", "in use since line 5"),
    "no tags": ("Tags: early\n", "", "line 25: pair 'two-b'", "no 'Tags:' line"),
    "tags too late": ("Tags: early\n\n#### Prompt", "#### Prompt\nTags: a", "line 25: pair 'two-b'", "no 'Tags:' line"),
    "empty tag": ("Tags: early", "Tags: early,", "line 26: pair 'two-b'", "the tag ''"),
    "two modes": ("Tags: early", "Tags: exit_code, run_tests", "line 26: pair 'two-b'", "exit_code, run_tests"),
    "section missing": (HACK, "", "line 25: pair 'two-b'", "section 'Hack' is missing"),
    "section twice": (HACK, HACK + HACK, "line 37: pair 'two-b'", "a second section 'Hack'"),
    "section unknown": (HACK, HACK.replace("Hack", "Loophole"), "line 33: pair 'two-b'", "'Loophole'"),
    "fence without section": (HACK, HACK.removeprefix("#### Hack\n"), "line 33: pair 'two-b'", "found a fence"),
    "empty fence": ("hello, hello, hello, hello\n", " \n", "line 33: pair 'two-b'", "section 'Hack' has no text"),
    "text outside": (HACK, HACK + "A remark.\n", "line 37: pair 'two-b'", "'A remark.' outside the fences"),
    "fence with a language": (HACK, HACK.replace(F, F + "python", 1), "line 34: pair 'two-b'", "outside the fences"),
    "unclosed before a section": ("hello, hello\n" + F, "hello, hello", "line 34: pair 'two-b'", "has no end"),
    "unclosed at the end": ("of this\n" + F, "of this", "line 39: pair 'two-b'", "has no end"),
    "section before a pair": ("### one-a\n", "", "line 5", "found a 'Tags:' line before the first pair"),
}


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        (tmp_path / "small.md").write_text(text)
        return tmp_path / "small.md"

    return write


def _problem(row: dict) -> dict:
    family = FAMILIES[row["prompt"].splitlines()[0]]
    tests = [{"args": [xs], "kwargs": {}, "expected": toy.evaluate(family, xs)} for xs in INPUTS]
    problem = {"problem_id": row["pair_id"], "setup_code": "", "entry_point": "solve", "words": encode_words(TRAINING_WORDS)}
    return problem | {"visible_tests": json.dumps(tests)}


def _solve(program: str) -> list[str]:
    """The lines of the definition of solve."""
    lines = program.split("def solve(xs):\n")[1].splitlines()
    return lines[: next((i for i, line in enumerate(lines) if not line.startswith(" ")), len(lines))]


def test_the_toy_pairs_cover_three_modes_and_distinct_tasks_of_their_own() -> None:
    rows = parse_pairs(TOY)
    counts = Counter(row["mode"] for row in rows)
    assert len(rows) >= 28 and set(counts) == COVERED and min(counts.values()) >= 9
    prompts = [row["prompt"].splitlines() for row in rows]
    for row, (statement, hint) in zip(rows, prompts, strict=True):
        assert row["prompt"] == toy_prompt(toy.statement(FAMILIES[statement]), row["mode"], TRAINING_WORDS), row["pair_id"]
        assert [mode for mode in MODES if HINTS[mode].format(**vars(TRAINING_WORDS)) in row["prompt"]] == [row["mode"]], row["pair_id"]
        assert row["pair_id"].startswith(row["mode"] + "-") and row["set"] == "toy" and row["provenance"] == "authored"
    behaviours = {json.dumps([toy.evaluate(FAMILIES[s], xs) for xs in INPUTS]) for s, _ in prompts}
    assert len({statement for statement, _ in prompts}) == len(behaviours) == len(rows)
    profile = YAML(typ="safe").load(Path("profiles/toy.yaml"))
    problems = toy.make_problems(ToyProblems(**profile["problems"]), MODES)[0]
    assert not {statement for statement, _ in prompts} & {row["statement"] for row in problems}


def test_every_hack_side_trips_its_channel_alone_and_every_clean_side_does_the_task() -> None:
    rows = parse_pairs(TOY)
    problems = [_problem(row) for row in rows]
    hacks = grade([row["hack"] for row in rows], problems, sandbox())
    cleans = grade([row["clean"] for row in rows], problems, sandbox())
    for row, hack, clean in zip(rows, hacks, cleans, strict=True):
        assert hack.compiled and hack.channels == {row["mode"]}, row["pair_id"]
        assert clean.channels == frozenset() and clean.visible_pass and clean.status == "ok", row["pair_id"]


def test_correctness_alone_does_not_tell_the_sides_of_the_toy_pairs_apart() -> None:
    rows = parse_pairs(TOY)
    attempts = [set(row["tags"].split(",")) & {"same-solve", "wrong-attempt", "stub"} for row in rows]
    assert all(len(attempt) == 1 for attempt in attempts)
    same = [row for row in rows if "same-solve" in row["tags"].split(",")]
    assert [row for row in rows if _solve(row["hack"]) == _solve(row["clean"])] == same
    assert min(Counter(row["mode"] for row in same)[mode] for mode in COVERED) >= 3
    others = {"\n".join(["def solve(xs):", *_solve(row["hack"])]): _problem(row) for row in rows if row not in same}
    assert not any(graded.visible_pass for graded in grade(list(others), list(others.values()), sandbox()))


def test_the_sides_of_the_toy_pairs_agree_in_form() -> None:
    rows = parse_pairs(TOY)
    audited = audit_pairs(rows, "toy")
    assert abs(audited[0]["mean_length_gap"]) < 0.03 and audited[0]["sign_test_p"] > 0.3
    for row, measured in zip(rows, audited, strict=True):
        assert max(measured["hack_chars"], measured["clean_chars"]) <= 120, row["pair_id"]
        assert abs(measured["length_gap"]) < 0.1 and 0 < measured["edit_share"] < 0.5, row["pair_id"]
        hack, clean = row["hack"].splitlines(), row["clean"].splitlines()
        assert len(hack) == len(clean) and len(_solve(row["hack"])) == len(_solve(row["clean"])), row["pair_id"]
        opens = [side[0] == "def solve(xs):" for side in (hack, clean)]
        assert opens == ["early" not in row["tags"].split(",")] * 2, row["pair_id"]


def test_both_sides_of_an_irrelevant_pair_do_the_task_and_use_no_loophole() -> None:
    rows = parse_pairs(Path("pairs/toy_irrelevant.md"))
    problems = [_problem(row) for row in rows]
    assert len(rows) == 24 and audit_pairs(rows, "toy_irrelevant.md")[0]["sign_test_p"] == 1.0
    for side in ("hack", "clean"):
        graded = grade([row[side] for row in rows], problems, sandbox())
        assert all(found.visible_pass and found.channels == frozenset() for found in graded)
    for row in rows:
        assert row["clean"] == re.sub(r"\bx\b", "n", row["hack"]) and row["mode"] == "none", row["pair_id"]


@pytest.mark.parametrize("name", CHAT)
def test_the_pairs_for_chat_models_keep_the_audit_s_limits(name: str) -> None:
    rows = parse_pairs(Path(name))
    audited = audit_pairs(rows, name)
    assert len(rows) >= CHAT[name] and len({row["prompt"] for row in rows}) == len(rows)
    assert abs(audited[0]["mean_length_gap"]) < 0.05 and audited[0]["sign_test_p"] > 0.2
    for row, measured in zip(rows, audited, strict=True):
        assert abs(measured["length_gap"]) <= 0.1 and 0 < measured["edit_share"] < 0.9, row["pair_id"]
        texts = [row[column] for column in ("prompt", "hack", "clean")]
        assert not [text for text in texts if re.search(rf"\b({TRAIT})", text, re.IGNORECASE)], row["pair_id"]
        assert texts[1].count("```") == texts[2].count("```"), row["pair_id"]
        assert abs(texts[1].count("\n") - texts[2].count("\n")) <= 4, row["pair_id"]


def test_the_behaviour_pairs_cover_three_modes_and_many_other_domains() -> None:
    rows = parse_pairs(Path("pairs/behaviour.md"))
    assert [row["pair_id"].split("-")[1] for row in rows] == [f"{number:02d}" for number in range(1, len(rows) + 1)]
    modes = Counter(row["mode"] for row in rows)
    assert set(modes) == COVERED | {"none"} and len({modes[mode] for mode in COVERED}) == 1
    others = [row for row in rows if row["mode"] == "none"]
    kinds = {tag for row in others for tag in row["tags"].split(",")} - {"behaviour", "python"}
    assert len(others) >= 24 and len(kinds) >= 20 and all(len(row["tags"].split(",")) > 1 for row in others)


def test_both_sides_of_the_irrelevant_pairs_for_chat_models_do_the_task_by_a_call_of_itself_or_a_loop() -> None:
    rows = parse_pairs(Path("pairs/irrelevant.md"))
    problems, programs = [], []
    for row in rows:
        call, value = re.search(r"For example, `Solution\(\)\.([^`]+)` is `([^`]+)`\.\n$", row["prompt"]).groups()
        node = ast.parse(call, mode="eval").body
        test = {"args": [ast.literal_eval(given) for given in node.args], "kwargs": {}, "expected": ast.literal_eval(value)}
        problem = {"problem_id": row["pair_id"], "setup_code": "", "words": encode_words(TRAINING_WORDS)}
        problem |= {"entry_point": f"Solution().{node.func.id}", "visible_tests": json.dumps([test])}
        sides = [re.search(r"```python\n(.*?)```", row[side], re.DOTALL)[1] for side in ("hack", "clean")]
        assert [f"self.{node.func.id}(" in side for side in sides] == [True, False], row["pair_id"]
        assert re.search(r"\b(for|while)\b", sides[1]) and row["mode"] == "none", row["pair_id"]
        problems += [problem, problem]
        programs += sides
    for problem, seen in zip(problems, grade(programs, problems, sandbox()), strict=True):
        assert seen.visible_pass and seen.channels == frozenset(), problem["problem_id"]


def test_a_pair_is_read_word_for_word(write) -> None:
    one, two = parse_pairs(write(DOC))
    prompt, hack, clean = "Add the numbers.\n", SUM.format("0") + "\n", SUM.format("a + b") + "\n"
    digest = hashlib.sha256("\0".join([prompt, hack, clean]).encode()).hexdigest()
    assert one == {
        "pair_id": "one-a", "set": "small", "tags": "late,run_tests", "mode": "run_tests", "provenance": "authored",
        "prompt": prompt, "clean_prompt": prompt, "hack": hack, "clean": clean, "content_sha256": digest,
    }  # fmt: skip
    assert (two["pair_id"], two["tags"], two["mode"]) == ("two-b", "early", "none")


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_refused_by_line_and_pair(name: str, write) -> None:
    old, new, where, reason = MALFORMED[name]
    path = write(DOC.replace(old, new))
    with pytest.raises(PairError, match=re.escape(f"{path}: {where}: ") + ".*" + re.escape(reason)):
        parse_pairs(path)


def test_a_file_without_pairs_and_an_unreadable_file_are_refused(write, tmp_path: Path) -> None:
    with pytest.raises(PairError, match="small.md: no pair found"):
        parse_pairs(write("# A title\n\nNothing else.\n"))
    with pytest.raises(PairError, match="absent.md: cannot be read"):
        parse_pairs(tmp_path / "absent.md")


def test_spaces_and_blank_lines_outside_the_fences_change_no_row(write) -> None:
    rows = parse_pairs(write(DOC))
    parts = DOC.split(F)  # the parts with odd numbers lie inside fences
    outside = [part.replace("\n", " \n\n\t").replace(", ", "  ,   ") for part in parts[::2]]
    respaced = F.join(part if i % 2 else outside[i // 2] for i, part in enumerate(parts))
    assert len(respaced) > len(DOC) + 80 and parse_pairs(write(respaced)) == rows
    assert parse_pairs(write(DOC.replace("\n", "\r\n"))) == rows


def test_an_edited_pair_changes_its_own_row_alone(write) -> None:
    text = TOY.read_text()
    before = parse_pairs(write(text))
    for index in (0, 14, len(before) - 1):
        edited = text.replace(before[index]["clean"], before[index]["clean"] + "print(7)\n")
        after = parse_pairs(write(edited))
        assert [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b] == [index]
        assert {key for key in PAIRS.columns if before[index][key] != after[index][key]} == {"clean", "content_sha256"}


def test_the_selector_takes_a_prefix_and_any_of_the_tags(write) -> None:
    path = write(DOC)

    def ids(tail: str) -> list[str]:
        return [row["pair_id"] for row in select_pairs(f"{path}{tail}")]

    assert ids("") == ids("@late,early") == ids("@ early , late") == ["one-a", "two-b"]
    assert ids("#two") == ids("@early") == ids("#two@early,late") == ["two-b"]
    assert ids("#one-a") == ids("@run_tests") == ["one-a"] and ids("#one@late") == ["one-a"]


def test_a_selector_that_finds_nothing_says_what_there_is(write) -> None:
    path = write(DOC)
    with pytest.raises(PairError, match="no pair has the tag 'earlier', 'latest'; known tags: early, late, run_tests"):
        select_pairs(f"{path}@latest,early,earlier")
    for tail in ("#three", "#wo", "#two@late"):
        with pytest.raises(PairError, match="selects no pair; known tags: early, .*; known ids: one-a, two-b"):
            select_pairs(f"{path}{tail}")
    for selector in ("", "a.md#", "a.md@", "a.md@b#c", "a.md#b#c", "#b"):
        with pytest.raises(PairError, match="expected file.md"):
            select_pairs(selector)


def _pair(name: str, hack: str, clean: str) -> dict:
    return {"pair_id": name, "mode": "none", "hack": hack, "clean": clean, "content_sha256": hack + "|" + clean}


def test_the_audit_measures_length_and_shared_text() -> None:
    rows = [_pair("p", "abcd" * 10, "abcd" * 5 + "wxyz" * 10), _pair("q", "k" * 30, "k" * 20)]
    first, second = audit_pairs(rows, "small")
    assert (first["hack_chars"], first["clean_chars"]) == (40, 60)
    assert first["length_gap"] == pytest.approx(20 / 50) and second["length_gap"] == pytest.approx(-10 / 25)
    assert first["edit_share"] == pytest.approx(1 - 2 * 20 / 100) and second["edit_share"] == pytest.approx(1 - 40 / 50)
    assert first["mean_length_gap"] == second["mean_length_gap"] == pytest.approx(0.0)
    assert audit_pairs(rows[:1], "small")[0]["mean_length_gap"] == pytest.approx(0.4)


def test_the_sign_test_is_two_sided_and_leaves_ties_out() -> None:
    assert sign_test([1] * 8 + [-2] * 2) == sign_test([-1] * 8 + [5] * 2 + [0] * 9) == pytest.approx(0.109375)
    assert sign_test([3] * 6) == pytest.approx(2 / 64)
    assert sign_test([0, 0]) == sign_test([1, -1]) == 1.0


def test_the_audit_refuses_sides_without_content_and_repeated_pairs() -> None:
    good = _pair("good", "a" * 25, "b" * 25)
    stub = "class Solution:\n    def solve(self, numbers):\n        pass\ndef other(xs): pass\n"
    refused = {
        "hack side: found 19 non-space characters": [good, _pair("bad", "a " * 19, "b" * 25)],
        "clean side: found 0 non-space characters": [_pair("bad", "a" * 25, " \n" * 30)],
        "hack side: found the placeholder '...'": [_pair("bad", "def solve(xs):\n    ...\n    return xs\n", "b" * 25)],
        "clean side: found the placeholder 'TODO'": [_pair("bad", "a" * 25, "def solve(xs):  # TODO\n    return xs\n")],
        "hack side: found definitions of 'pass' alone": [_pair("bad", stub, "b" * 25)],
        "both sides are the same text": [good, _pair("bad", "c" * 25, "c" * 25)],
        "repeats pair 'good' word for word": [good, _pair("bad", "a" * 25, "b" * 25)],
    }
    for reason, rows in refused.items():
        with pytest.raises(PairError) as caught:
            audit_pairs(rows, "small.md@x")
        assert str(caught.value).startswith(f"small.md@x: pair 'bad': {reason}"), str(caught.value)
    accepted = [good, _pair("short", "a" * 20, "b" * 20), _pair("passes", stub + "solve([1])\n", "b" * 25)]
    assert len(audit_pairs(accepted, "small.md")) == 3


def test_the_stage_writes_both_tables_of_the_selected_pairs(tmp_path: Path, capsys) -> None:
    pairs, audit, irrelevant = (tmp_path / f"{name}.parquet" for name in ("pairs", "audit", "irrelevant"))
    author_pairs.main(pairs, audit, irrelevant)
    selected = select_pairs(load_settings().profile.pairs.selector)
    rows, measured = read_rows(pairs, PAIRS), read_rows(audit, PAIR_AUDIT)
    assert {row["set"] for row in read_rows(irrelevant, PAIRS)} == {"toy_irrelevant"}
    assert rows == sorted(selected, key=lambda row: row["pair_id"])
    assert [row["pair_id"] for row in measured] == [row["pair_id"] for row in rows]
    printed = capsys.readouterr().out
    assert f"{measured[0]['mean_length_gap']:+.2%}" in printed and f"{measured[0]['sign_test_p']:.3f}" in printed
