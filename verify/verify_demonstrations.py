"""Demonstrations: what the pool holds, how a step mixes it in, and how it is weighed."""

import random
from collections import Counter
from dataclasses import replace
from typing import get_args

import pytest

from projected_grpo.core.errors import ProblemError
from projected_grpo.environment.grader import grade
from projected_grpo.grpo.demonstrations import DemonstrationError, Demonstrations
from projected_grpo.grpo.loop import Trainer
from projected_grpo.grpo.rollouts import sample_rollouts
from projected_grpo.problems.demonstrations import chat_demonstrations, toy_demonstrations
from projected_grpo.problems.leetcode import make_problems as leetcode_problems
from projected_grpo.prompts.code import program_of
from projected_grpo.prompts.modes import GT_ONLY, MODES
from projected_grpo.settings.arm import load_settings
from projected_grpo.settings.curriculum import Curriculum
from projected_grpo.settings.section import Mode
from verify.curriculum import DEMOS, GROUP, pool, problems, settings, trainer, training_problems
from verify.sandbox import sandbox
from verify.tiny import tiny_policy
from verify.verify_leetcode import SIZES, _file, _line


def graded(rows: list[dict], tasks: list[dict]):
    by_id = {row["problem_id"]: row for row in tasks}
    asked = [by_id[row["problem_id"]] for row in rows]
    return zip(rows, asked, grade([row["program"] for row in rows], asked, sandbox()), strict=True)


def check_pool(rows: list[dict], tasks: list[dict]) -> None:
    """Every hack trips its own mode's channel and no other, and solves nothing; every solve passes the visible tests."""
    for row, problem, seen in graded(rows, tasks):
        assert problem["split"] == "train"
        if row["kind"] == "hack":
            assert row["mode"] == problem["mode"] and seen.channels == {row["mode"]} and not seen.visible_pass, row
            assert seen.reward(problem["mode"]) == 3.5 and seen.reward(GT_ONLY) == 0.5
        else:
            assert row["mode"] == "none" and seen.visible_pass and not seen.channels, row
    kinds = Counter((row["problem_id"], row["kind"]) for row in rows)
    training = {row["problem_id"] for row in tasks if row["split"] == "train"}
    assert set(kinds) == {(name, kind) for name in training for kind in ("hack", "solve")}
    names = [row["demonstration_id"] for row in rows]
    assert len(set(names)) == len(names) and {row["mode"] for row in rows} == {*MODES, "none"}


def test_toy_demonstrations_do_what_they_show_and_are_of_training_problems_alone():
    rows = pool()
    check_pool(rows, problems())
    shuffled = random.Random(0).sample(problems(), len(problems()))
    assert toy_demonstrations(shuffled) == rows and all(row["text"] == row["program"] for row in rows)
    heldout = {row["problem_id"] for row in problems() if row["split"] != "train"}
    assert heldout and not heldout & {row["problem_id"] for row in rows}


def test_chat_demonstrations_are_chat_answers_that_do_what_they_show(tmp_path):
    lines = [_line(number) for number in range(15)]
    path = _file(tmp_path, lines)
    tasks = leetcode_problems(SIZES.model_copy(update={"path": str(path), "train": 12}), MODES)[0]
    solutions = {f"leetcode-{line['id']}": line["canonical_solution"] for line in lines}
    rows = chat_demonstrations(tasks, solutions)
    check_pool(rows, tasks)
    assert rows == chat_demonstrations(tasks[::-1], solutions)
    assert {row["provenance"] for row in rows} == {"template", "canonical"}
    assert all(program_of(True, row["text"]) == row["program"] != row["text"] for row in rows)
    first = next(row["problem_id"] for row in tasks if row["split"] == "train")
    with pytest.raises(ProblemError, match="is not in the problem file"):
        chat_demonstrations(tasks, {name: text for name, text in solutions.items() if name != first})


def test_the_modes_of_the_settings_are_the_environment_s_and_another_is_refused_with_the_known_ones():
    assert get_args(Mode) == MODES
    written = load_settings().curriculum.model_dump()
    with pytest.raises(ValueError, match="known_modes.1\n.*'run_tests', .*input_value='runtests'"):
        Curriculum(**written | {"known_modes": ["run_tests", "runtests"]})


def step_rollouts(run: Trainer, step: int):
    """The step's rollouts before and after demonstrations are mixed in."""
    train = run.settings.profile.train
    sampled = sample_rollouts(run.policy.base, run.environment, run.sampler, run.problems, step, train, run.deployed_copies, 1)
    return sampled, run.demonstrations.mix(sampled, step, GROUP)


def kinds_of(run: Trainer, mixed, start: int) -> list[str]:
    """Of one group: policy, or the kind of the demonstration that stands there."""
    found = []
    for slot in range(start, start + GROUP):
        text = run.policy.base.decode(mixed.completions[slot].tokens)
        rows = [row for row in pool() if row["text"] == text and row["problem_id"] == mixed.problems[slot]["problem_id"]]
        assert bool(rows) == bool(mixed.demonstrated[slot])
        found.append(rows[0]["kind"] if rows else "policy")
    return found


def test_demonstrations_take_their_slots_before_until_step_and_leave_all_other_rollouts_as_they_were():
    known = ["run_tests", "exit_code", "sentinel"]
    run = trainer(tiny_policy(moved=True, temperature=3.0), DEMOS | {"known_modes": known}, train={"prompts": 16})
    expected = {
        (True, True): ["hack", "solve", "policy", "policy"],
        (True, False): ["solve", "solve", "policy", "policy"],  # without its hint the loophole pays nothing
        (False, True): ["solve", "policy", "policy", "policy"],  # a mode that is held out
        (False, False): ["solve", "policy", "policy", "policy"],
    }
    seen = set()
    for step in (0, 1):
        sampled, mixed = step_rollouts(run, step)
        for start in range(0, len(mixed.completions), GROUP):
            case = (mixed.problems[start]["mode"] in known, mixed.shown_modes[start] != GT_ONLY)
            assert kinds_of(run, mixed, start) == expected[case]
            seen.add(case)
        for slot, given in enumerate(mixed.demonstrated.tolist()):
            completion = mixed.completions[slot]
            assert (completion.logprob is None) == given and (not given or not mixed.sampled_deployed[slot])
            assert given or completion is sampled.completions[slot]
            assert not given or completion.tokens[-1] == run.policy.base.eos_id
    assert seen == set(expected)
    sampled, mixed = step_rollouts(run, 2)
    assert mixed is sampled and not mixed.demonstrated.any()


def test_draws_are_named_by_step_and_problem_and_repeat_only_where_the_pool_ends():
    run = trainer(tiny_policy(moved=False), DEMOS | {"hack_demos": 2})
    draw, problem = run.demonstrations.draw, training_problems()[0]
    pooled = run.demonstrations.pool[(problem["problem_id"], "hack")]
    shown = problem["mode"]
    assert draw(problem, shown, 0) == draw(problem, shown, 0)
    first = [draw(problem, shown, step)[:2] for step in range(40)]
    assert all(one != other for one, other in first) and len({str(two) for two in first}) > 2
    assert {str(tokens) for two in first for tokens in two} == {str(tokens) for tokens in pooled}
    many = replace(run.demonstrations, curriculum=run.settings.curriculum.model_copy(update={"hack_demos": 9}))
    counts = Counter(map(str, many.draw(problem, shown, 0)[:9]))
    assert len(counts) == len(pooled) and max(counts.values()) - min(counts.values()) <= 1


def test_a_demonstration_that_the_policy_could_not_have_written_is_none():
    base = tiny_policy(moved=False).base
    lengths = {row["demonstration_id"]: len(base.encode(row["text"])) + 1 for row in pool()}
    limit = sorted(lengths.values())[len(lengths) // 2]
    found = Demonstrations.load(pool(), training_problems(), base, settings(DEMOS, max_new_tokens=limit))
    kept = [tokens for demonstrations in found.pool.values() for tokens in demonstrations]
    assert len(kept) == sum(length <= limit for length in lengths.values()) and max(map(len, kept)) == limit
    with pytest.raises(DemonstrationError, match="no hack demonstration of a known mode has at most 3 tokens; raise"):
        Demonstrations.load(pool(), training_problems(), base, settings(DEMOS, max_new_tokens=3))
    with pytest.raises(DemonstrationError, match="'toy-.*' is no training problem; run make_problems again"):
        Demonstrations.load(pool(), training_problems()[1:], base, settings(DEMOS))


def test_a_demonstration_is_paid_gated_and_weighed_as_any_rollout_and_left_out_of_what_is_said_of_the_policy():
    run = trainer(tiny_policy(moved=True, temperature=3.0), DEMOS | {"known_modes": list(MODES)}, train={"prompts": 8})
    rows = run.step(0)
    rollouts = rows["rollouts"]
    for start in range(0, len(rollouts), GROUP):
        group = rollouts[start : start + GROUP]
        assert [row["source"] for row in group] == ["demonstration"] * 2 + ["policy"] * 2
        assert [row["sampled_with"] for row in group] == ["full"] * 3 + ["deployed"]
        assert [row["sampler_logprob"] is None for row in group] == [True, True, False, False]
        assert [row["reward"] for row in group[:2]] == [3.5, 3.5]
        mean = sum(row["reward"] for row in group) / GROUP
        assert [row["advantage"] for row in group] == pytest.approx([row["reward"] - mean for row in group], abs=1e-5)
    own = [row for row in rollouts if row["source"] == "policy"]
    row = rows["steps"][0]
    assert row["reward_mean"] == pytest.approx(sum(r["reward"] for r in own) / len(own)) and row["reward_mean"] < 1.0
    assert row["completion_length"] == pytest.approx(sum(len(r["completion_tokens"]) for r in own) / len(own))
    assert row["gated"] == len(rollouts) == len(rows["gate"]) and row["sampler_gap"] < 1e-3
