"""Curricula: what the pool of demonstrations holds, how a step mixes it in, warm starts, retain-heal, and the tripwire."""

import json
import random
import shutil
import sys
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import get_args

import pytest
import torch

from projected_grpo.curriculum import Curriculum, Mode
from projected_grpo.env.grader import grade
from projected_grpo.env.modes import GT_ONLY, MODES
from projected_grpo.errors import ProblemError
from projected_grpo.gate.directions import haar
from projected_grpo.gate.zones import ABSORB, KEEP, ROUTE, Gate
from projected_grpo.grpo import heal as healing
from projected_grpo.grpo.checkpoint import TABLES, Checkpoints
from projected_grpo.grpo.demonstrations import DemonstrationError, Demonstrations
from projected_grpo.grpo.heal import HealError, clean_nll, heal
from projected_grpo.grpo.loop import Trainer
from projected_grpo.grpo.rollouts import sample_rollouts
from projected_grpo.grpo.tripwire import Tripwire
from projected_grpo.parquet import read_rows
from projected_grpo.policy.base import Base
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.policy.origin import AdapterError
from projected_grpo.policy.policy import ADAPTER_FILE, Policy
from projected_grpo.policy.readings import module_widths, read_deployed
from projected_grpo.problems.demonstrations import chat_demonstrations, toy_demonstrations
from projected_grpo.problems.leetcode import make_problems as leetcode_problems
from projected_grpo.problems.prompts import program_of
from projected_grpo.problems.toy import make_problems
from projected_grpo.sampling.engine import open_sampler
from projected_grpo.settings import load_settings
from projected_grpo.tables import ZONE_NAMES
from stages.train_arm import warm_start
from verify.sandbox import sandbox
from verify.tiny import RANK, tiny_init, tiny_model, tiny_policy, tiny_tokenizer
from verify.verify_dvc import HEAL, POOL, WITH_HEAL, WITH_POOL
from verify.verify_leetcode import SIZES, _chat, _file, _line
from verify.verify_pipeline import kill_when, tables, train
from verify.workspace import dvc, edit
from verify.workspace import run as run_command

GROUP = 4


@cache
def problems() -> list[dict]:
    return make_problems(load_settings().scale.problems, MODES)[0]


@cache
def pool() -> list[dict]:
    return toy_demonstrations(problems())


def training_problems() -> list[dict]:
    return [row for row in problems() if row["split"] == "train"]


# The pool


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
    chat = _chat()
    assert all(program_of(chat, row["text"]) == row["program"] != row["text"] for row in rows)
    first = next(row["problem_id"] for row in tasks if row["split"] == "train")
    with pytest.raises(ProblemError, match="is not in the problem file"):
        chat_demonstrations(tasks, {name: text for name, text in solutions.items() if name != first})


def test_the_modes_of_the_settings_are_the_environment_s_and_another_is_refused_with_the_known_ones():
    assert get_args(Mode) == MODES
    written = load_settings().curriculum.model_dump()
    with pytest.raises(ValueError, match="known_modes.1\n.*'run_tests', .*input_value='runtests'"):
        Curriculum(**written | {"known_modes": ["run_tests", "runtests"]})


# Mixing


def settings(curriculum: dict, train: dict | None = None, gate: dict | None = None, max_new_tokens: int = 96):
    """Three prompts of four rollouts, the deployed share 1/4; everything is tiny."""
    found = load_settings()
    scale = found.scale
    changes = dict(prompts=3, group=GROUP, steps=4, warmup_steps=0, checkpoint_every=2, micro_tokens=8, gen_deploy_frac=0.25)
    scale = scale.model_copy(
        update={
            "train": scale.train.model_copy(update=changes | (train or {})),
            "sampling": scale.sampling.model_copy(update={"max_new_tokens": max_new_tokens}),
        }
    )
    return found.model_copy(
        update={
            "curriculum": found.curriculum.model_copy(update=curriculum),
            "gate": found.gate.model_copy(update=gate or {}),
            "scale": scale,
        }
    )


def trainer(model: Policy, curriculum: dict, **changes) -> Trainer:
    found, tasks = settings(curriculum, **changes), training_problems()
    widths = module_widths(model, "bottleneck")
    gate = Gate(found.gate, haar(list(widths.values()), 1, seed=0)[0], widths)
    mixed = Demonstrations.load(pool(), tasks, model.base, found) if found.curriculum.until_step else None
    return Trainer(found, model, gate, tasks, None, None, sandbox(), open_sampler(model, found.scale.sampling, Path("base")), mixed)


DEMOS = {"hack_demos": 1, "solve_demos": 1, "until_step": 2}


def step_rollouts(run: Trainer, step: int):
    """The step's rollouts before and after demonstrations are mixed in."""
    train = run.settings.scale.train
    sampled = sample_rollouts(run.policy.base, run.sampler, run.problems, step, train, run.deployed_copies, 1)
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
    with pytest.raises(DemonstrationError, match="'toy-.*' is no training problem; run build_demonstrations again"):
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


def logp_of(policy: Policy, rows: list[dict], deployed: bool) -> list[torch.Tensor]:
    """Log-probabilities of each row's tokens, one row at a time."""
    found = []
    for row in rows:
        batch = TokenBatch.collate([row["prompt_tokens"]], [row["completion_tokens"]])
        with torch.no_grad():
            found.append((read_deployed(policy, batch, [])[1] if deployed else policy.logp(batch))[0])
    return found


def test_ratios_and_kl_of_the_table_of_steps_equal_a_brute_force_computation():
    """Every ratio is recomputed from the saved rollouts under the policy of before the step."""
    gate = {"policy": "route", "keep_quantile": 0.4, "route_quantile": 0.4, "half_life": 1e9}
    run = trainer(tiny_policy(moved=True, temperature=3.0), DEMOS, train={"prompts": 8}, gate=gate)
    rows = run.step(0)
    zones = {row["rollout_id"]: row["zone"] for row in rows["gate"]}
    gated = [row for row in rows["rollouts"] if row["rollout_id"] in zones]
    before = tiny_policy(moved=True, temperature=3.0)
    full, deployed = logp_of(before, gated, False), logp_of(before, gated, True)
    ratios, negative, kl = {name: [] for name in ZONE_NAMES}, {name: [] for name in ZONE_NAMES}, []
    for row, with_both, ablated in zip(gated, full, deployed, strict=True):
        zone = zones[row["rollout_id"]]
        new = ablated if zone == "keep" else with_both
        old = ablated if row["sampled_with"] == "deployed" else with_both
        rho = (new - old).exp()
        ratios[zone].append(rho)
        if row["advantage"] < 0:
            negative[zone].append(rho)
        if row["source"] == "policy":
            batch = TokenBatch.collate([row["prompt_tokens"]], [row["completion_tokens"]])
            gap = before.logp_base(batch)[0] - new
            kl.append(gap.exp() - gap - 1)
        elif zone != "keep":
            assert row["sampled_with"] == "full" and torch.equal(rho, torch.ones_like(rho))
    step = rows["steps"][0]
    for zone in ZONE_NAMES:
        every = torch.cat(ratios[zone])
        assert step[f"rho_{zone}"] == pytest.approx(float(every.mean()), rel=1e-3)
        assert step[f"rho_clipped_{zone}"] == pytest.approx(float(every.clamp(0.8, 1.2).mean()), rel=1e-3)
        largest = float(torch.cat(negative[zone]).max()) if negative[zone] else None
        assert step[f"rho_max_negative_{zone}"] == (largest and pytest.approx(largest, rel=1e-3))
    assert max(step[f"rho_max_negative_{zone}"] or 0.0 for zone in ZONE_NAMES) > 1.2  # past the clip, which does not bound it
    assert step["kl"] == pytest.approx(float(torch.cat(kl).mean()), rel=1e-3)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_group_that_is_sampled_in_one_state_alone_trains_with_a_gate(share, tmp_path):
    """Programs of at most three tokens compile now and then, so rewards within a group differ."""
    gate, train = {"policy": "route", "keep_quantile": 0.4, "route_quantile": 0.4, "half_life": 1e9}, {"gen_deploy_frac": share, "prompts": 8}
    run = trainer(tiny_policy(moved=True, temperature=3.0), {}, train=train, gate=gate, max_new_tokens=3)
    checkpoints, reported = Checkpoints(tmp_path / "run"), []
    run.run(checkpoints, reported.append)
    checkpoints.collect({name: tmp_path / f"{name}.parquet" for name in TABLES}, 4)
    rollouts, gated, steps = (read_rows(tmp_path / f"{name}.parquet", TABLES[name]) for name in ("rollouts", "gate", "steps"))
    assert {row["sampled_with"] for row in rollouts} == {"full" if share == 0.0 else "deployed"}
    assert {row["zone"] for row in gated} == set(ZONE_NAMES) and steps == reported
    updated = [row for row in steps if row["qmass"] is not None]
    assert updated and all(0 < row["qmass"] < 1 for row in updated)
    assert all(row["sampler_gap"] < 1e-3 for row in updated)
    if share == 0.0:
        assert all(row["rho_route"] in (None, 1.0) and row["rho_absorb"] in (None, 1.0) for row in steps)
        assert any(row["rho_keep"] not in (None, 1.0) for row in steps)
    else:
        assert all(row["rho_keep"] in (None, 1.0) for row in steps)
        assert any(row["rho_route"] not in (None, 1.0) for row in steps)


# Warm start


def test_a_warm_start_loads_the_adapter_and_decay_pulls_to_the_initialization(tmp_path):
    earlier = tiny_policy(moved=True)
    earlier.save(tmp_path / "start")
    policy = tiny_policy(moved=False)
    warm_start(policy, tmp_path / "start")
    assert all(torch.equal(tensor, earlier.state()[name]) for name, tensor in policy.state().items())
    run = trainer(policy, {})
    before = [parameter.detach().clone() for parameter in policy.parameters()]
    for parameter in policy.parameters():
        parameter.grad = torch.zeros_like(parameter)
    run.optimizer.step()
    train = run.settings.scale.train
    for parameter, old in zip(policy.parameters(), before):
        torch.testing.assert_close(parameter.detach(), old * (1 - train.learning_rate * train.decay))


def test_the_zero_start_is_a_readme_alone_and_anything_else_without_an_adapter_is_refused(tmp_path):
    policy = tiny_policy(moved=False)
    warm_start(policy, Path("starts/zero"))
    assert not any(parameter.any() for parameter in policy.parameters())
    with pytest.raises(AdapterError, match="absent: is no folder; curriculum.warm_start names"):
        warm_start(policy, tmp_path / "absent")
    (tmp_path / "train").mkdir()
    (tmp_path / "train/run.json").write_text("{}")
    with pytest.raises(AdapterError, match=f"{ADAPTER_FILE}: missing"):
        warm_start(policy, tmp_path / "train")
    tiny_policy(moved=True).save(tmp_path / "start")
    model = tiny_model()
    other = Policy(Base(model, tiny_tokenizer()), tiny_init(model, seed=7), 1.0)
    with pytest.raises(AdapterError, match="found adapter.seed 0, expected 7"):
        warm_start(other, tmp_path / "start")


# Retain-heal

CLEAN = TokenBatch.collate([[4, 5 + i] for i in range(12)], [[20 + i, 40 + i, 60, 2] for i in range(12)])


def nll(policy: Policy, one_block: bool) -> float:
    with torch.no_grad():
        return float(clean_nll(policy, CLEAN, one_block))


def test_healing_trains_the_deployed_block_on_the_clean_sides_and_nothing_else():
    policy, reference = tiny_policy(moved=True), tiny_policy(moved=True)
    losses = heal(policy, CLEAN, epochs=3, learning_rate=1e-2, one_block=False, seed=1)
    assert len(losses) == 3 * 2 and losses[-1] < losses[0]
    for layer, old in zip(policy.layers.values(), reference.layers.values()):
        assert torch.equal(layer.dA[RANK:], old.dA[RANK:]) and torch.equal(layer.dB[:, RANK:], old.dB[:, RANK:])
        assert not torch.equal(layer.dA[:RANK], old.dA[:RANK]) and not torch.equal(layer.dB[:, :RANK], old.dB[:, :RANK])
    healed = nll(policy, False)
    assert healed < nll(reference, False)
    policy.reset_quarantine()
    assert nll(policy, True) == pytest.approx(healed, abs=1e-5)  # it was healed as it deploys


def test_the_first_batch_s_loss_is_the_mean_over_tokens_and_an_epoch_sees_every_pair_once(monkeypatch):
    policy, seen = tiny_policy(moved=True), []
    inner = healing.clean_nll

    def spy(policy, batch, one_block):
        seen.append(batch)
        return inner(policy, batch, one_block)

    monkeypatch.setattr(healing, "clean_nll", spy)
    losses = heal(policy, CLEAN, epochs=2, learning_rate=1e-2, one_block=False, seed=1)
    assert [len(batch) for batch in seen] == [8, 4, 8, 4]
    firsts = [int(batch.tokens[row, batch.prompt_length[row]]) for batch in seen for row in range(len(batch))]
    assert sorted(firsts[:12]) == sorted(firsts[12:]) == [20 + i for i in range(12)] and firsts[:12] != firsts[12:]
    _, logp = read_deployed(tiny_policy(moved=True), seen[0], [])
    assert losses[0] == pytest.approx(float(-logp[seen[0].completion_mask()].mean()), rel=1e-4)


def test_healing_again_gives_the_same_bytes():
    first, second = tiny_policy(moved=True), tiny_policy(moved=True)
    assert heal(first, CLEAN, 2, 1e-2, False, seed=1) == heal(second, CLEAN, 2, 1e-2, False, seed=1)
    assert all(torch.equal(tensor, second.state()[name]) for name, tensor in first.state().items())
    assert heal(tiny_policy(moved=True), CLEAN, 2, 1e-2, False, seed=2) != heal(tiny_policy(moved=True), CLEAN, 2, 1e-2, False, seed=1)


def test_where_rank_2r_deploys_as_one_block_both_halves_are_healed():
    policy, reference = tiny_policy(moved=True), tiny_policy(moved=True)
    heal(policy, CLEAN, 2, 1e-2, one_block=True, seed=1)
    for layer, old in zip(policy.layers.values(), reference.layers.values()):
        assert not torch.equal(layer.dA[RANK:], old.dA[RANK:])
    assert nll(policy, True) < nll(reference, True)


@pytest.mark.parametrize("zone", [ABSORB, ROUTE])
def test_healing_raises_where_the_gradient_is_not_the_deployed_block_s_alone(monkeypatch, zone):
    monkeypatch.setattr(healing, "KEEP", zone)
    with pytest.raises(HealError, match="expected a positive number and exactly 0"):
        heal(tiny_policy(moved=True), CLEAN, 1, 1e-2, False, seed=1)


# The tripwire


def watched(limit: float, estimates: list[float | None]) -> int | None:
    wire = Tripwire(limit)
    for step, kl in enumerate(estimates):
        if wire.diverged_at_step is None:
            wire.watch(step, kl)
    return wire.diverged_at_step


def test_two_estimates_in_a_row_over_the_limit_are_a_divergence():
    assert watched(5.0, [6.0, 5.0, 6.0, 4.0, 5.1, 5.2, 9.0]) == 5
    assert watched(5.0, [6.0, None, 6.0]) == 2
    assert watched(5.0, [5.0] * 9) is None and watched(5.0, [6.0, None, None]) is None


def test_a_run_over_the_limit_stops_keeps_its_rows_and_stays_stopped_when_it_resumes(tmp_path):
    def run_of(policy):
        return trainer(policy, DEMOS | {"until_step": 9, "kl_limit": 1e-6}, train={"steps": 9})

    checkpoints, policy, reported = Checkpoints(tmp_path / "run"), tiny_policy(moved=True, temperature=3.0), []
    run = run_of(policy)
    assert run.run(checkpoints, reported.append) is None
    assert run.tripwire.diverged_at_step == 1 and "over 1e-06 nats a token for 2 steps" in run.tripwire.reason
    assert [row["step"] for row in reported] == [0, 1] and all(row["kl"] > 1e-6 for row in reported)
    again = run_of(tiny_policy(moved=False, temperature=3.0))
    assert again.run(checkpoints, reported.append) == 2 and len(reported) == 2
    assert again.tripwire == run.tripwire
    assert all(torch.equal(tensor, again.policy.state()[name]) for name, tensor in policy.state().items())
    checkpoints.collect({name: tmp_path / f"{name}.parquet" for name in TABLES}, 2)
    assert len(read_rows(tmp_path / "rollouts.parquet", TABLES["rollouts"])) == 2 * 3 * GROUP


def test_an_estimate_over_the_limit_before_a_kill_counts_after_it(tmp_path):
    def run_of():
        run = trainer(tiny_policy(moved=True, temperature=3.0), DEMOS | {"until_step": 9}, train={"steps": 9, "checkpoint_every": 1})
        run.tripwire.limit = 1e-6
        return run

    class Killed(Exception):
        pass

    def kill_after_the_first(row):
        if row["step"] == 1:
            raise Killed

    checkpoints = Checkpoints(tmp_path / "run")
    with pytest.raises(Killed):
        run_of().run(checkpoints, kill_after_the_first)
    resumed = run_of()
    assert resumed.run(checkpoints, lambda row: None) == 1
    assert resumed.tripwire.diverged_at_step == 1


@pytest.mark.parametrize("broken", ["weights", "loss"])
def test_a_number_that_is_not_finite_stops_the_run_before_it_reaches_the_weights(tmp_path, broken):
    policy, reported = tiny_policy(moved=True, temperature=3.0), []
    run = trainer(policy, DEMOS | {"until_step": 9})
    if broken == "weights":
        layer = next(iter(policy.layers.values()))
        with torch.no_grad():
            layer.dA[0, 0] = float("inf")
    else:
        run.settings = run.settings.model_copy(update={"scale": huge_penalty(run.settings.scale)})
    before = {name: tensor.clone() for name, tensor in policy.state().items()}
    checkpoints = Checkpoints(tmp_path / "run")
    run.run(checkpoints, reported.append)
    assert run.tripwire.diverged_at_step == 0 and "finite" in run.tripwire.reason
    assert len(reported) == 1 and reported[0]["qmass"] is reported[0]["kl"] is None and reported[0]["gated"] > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.state().items())
    checkpoints.collect({name: tmp_path / f"{name}.parquet" for name in TABLES}, 1)
    assert len(read_rows(tmp_path / "rollouts.parquet", TABLES["rollouts"])) == 3 * GROUP


def huge_penalty(scale):
    return scale.model_copy(update={"train": scale.train.model_copy(update={"kl_beta": float("inf")})})


# The pipeline


@pytest.fixture
def workspace(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished["v_act"], tmp_path / "workspace", symlinks=True))


def test_a_whole_curriculum_killed_in_training_and_while_it_heals_ends_with_the_same_bytes(workspace, tmp_path):
    """Demonstrations, a warm start and retain-heal in one arm, beside an uninterrupted run of it."""
    shutil.copytree(workspace / "artifacts/train/adapter", workspace / "starts/earlier")
    params = workspace / "params.yaml"
    edit(params, POOL, WITH_POOL)
    edit(params, HEAL, WITH_HEAL)
    edit(params, "warm_start: starts/zero", "warm_start: starts/earlier")
    inputs = ["--warm-start", "starts/earlier", "--demonstrations", "artifacts/demonstrations/demonstrations.parquet"]
    inputs += ["--heal-pairs", "artifacts/heal/pairs.parquet"]
    done = run_command([*train(tmp_path / "whole"), *inputs], workspace)
    assert "retain-heal: " in done.stdout
    repro = [sys.executable, "-m", "dvc", "repro", "--single-item", "train_arm"]
    for checkpoint in ("step-000002", "step-000006"):
        kill_when(workspace, repro, f"*/{checkpoint}/state.pt")
        (workspace / ".dvc/tmp/rwlock").unlink(missing_ok=True)
    dvc(workspace, "repro", "--single-item", "train_arm")
    out = workspace / "artifacts/train"
    assert json.loads((out / "run.json").read_text())["resumed_from_step"] == 6
    assert tables(out) == tables(tmp_path / "whole")
    adapters = [(folder / "adapter" / ADAPTER_FILE).read_bytes() for folder in (out, tmp_path / "whole")]
    assert adapters[0] == adapters[1]
    rollouts = read_rows(out / "rollouts.parquet", TABLES["rollouts"])
    assert {row["step"] for row in rollouts if row["source"] == "demonstration"} == {0, 1}
    dvc(workspace, "repro")
    page = (workspace / "reports/report.html").read_text()
    assert "curriculum.hack_demos" in page and "diverged:" not in page


def test_a_diverged_run_goes_through_the_pipeline_with_a_note(workspace):
    edit(workspace / "params.yaml", "kl_limit: 5.0", "kl_limit: 0.000001")
    shown = dvc(workspace, "repro").stdout
    assert "over 1e-06 nats a token for 2 steps" in shown and "what it wrote is kept" in shown
    out = workspace / "artifacts/train"
    diverged = json.loads((out / "run.json").read_text())["diverged_at_step"]
    steps = [row["step"] for row in read_rows(out / "steps.parquet", TABLES["steps"])]
    assert 1 <= diverged < 5 and steps == list(range(diverged + 1))
    assert f"ended its training in step {diverged + 1}" in (workspace / "reports/report.html").read_text()
    assert json.loads((workspace / "reports/manifest.json").read_text())["diverged_at_step"] == diverged
