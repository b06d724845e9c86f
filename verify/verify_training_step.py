"""One whole training step: the optimizer's update by hand, what the table of steps records, and the two adapter states."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from projected_grpo.core.errors import InputError
from projected_grpo.environment.protocol import Paid
from projected_grpo.evaluation.deploy_ablate import evaluation_problems, sample_state, sample_trained
from projected_grpo.gate.directions import haar, pair_signs, paired_direction, transport
from projected_grpo.gate.pairs import PairTokens, pair_differences
from projected_grpo.gate.refresh import age
from projected_grpo.gate.zones import ABSORB, KEEP, ROUTE, Decision, Gate
from projected_grpo.grpo.loop import Trainer
from projected_grpo.grpo.records import step_row
from projected_grpo.grpo.rollouts import Rollouts, pay, sample_rollouts
from projected_grpo.grpo.update import Update
from projected_grpo.messages.memory import MemoryShortage
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.policy.readings import module_widths
from projected_grpo.prompts.modes import GT_ONLY, HELD_OUT_WORDS, MODES, words_of
from projected_grpo.prompts.prompts import INOCULATION, SYSTEM, render_text
from projected_grpo.sampling.engine import open_sampler
from projected_grpo.sampling.local import LocalSampler
from projected_grpo.sampling.protocol import Completion
from projected_grpo.settings.arm import load_settings
from projected_grpo.settings.profile import Eval
from projected_grpo.toy_world.toy import make_problems
from stages.pipeline import make_problems as make_problems_stage
from verify.sandbox import asking, paying
from verify.tiny import RANK, tiny_policy


def trainer(model, **gate_changes) -> Trainer:
    """Two prompts of four rollouts on toy problems."""
    settings = load_settings()
    profile = settings.profile
    train = profile.train.model_copy(update={"prompts": 2, "group": 4, "steps": 10, "warmup_steps": 4, "grad_clip": 1e-4})
    sampling = profile.sampling.model_copy(update={"max_new_tokens": 6})
    gate = settings.gate.model_copy(update=gate_changes)
    settings = settings.model_copy(
        update={"gate": gate, "profile": profile.model_copy(update={"train": train, "sampling": sampling})}
    )
    widths = module_widths(model, gate.reading)
    direction = haar(list(widths.values()), 1, seed=0)[0]
    problems = [row for row in make_problems(profile.problems, MODES)[0] if row["split"] == "train"]
    return Trainer(settings, model, Gate(gate, direction, widths), problems, None, None, paying(), open_sampler(model, sampling, Path("base")))


def test_a_step_is_adamw_on_the_clipped_gradient_with_decay_and_the_step_s_learning_rate():
    policy, rate = tiny_policy(moved=True, temperature=3.0), 3e-3
    run = trainer(policy)
    train = run.settings.profile.train
    sampled = sample_rollouts(policy.base, run.environment, run.sampler, run.problems, 0, train, run.deployed_copies, 1)
    rollouts = pay(policy.base, run.environment, sampled, train.group)
    rollouts = replace(rollouts, advantage=torch.tensor([1.0, -1.0, 2.0, -2.0] * 2), gated=torch.ones(8, dtype=torch.bool))
    _, logp_deployed = run._read(rollouts)
    before = [parameter.detach().clone() for parameter in policy.parameters()]
    zones = torch.tensor([KEEP, ABSORB, ROUTE, ABSORB] * 2)
    update = run._gradients(rollouts, torch.arange(8), zones, logp_deployed)
    run._descend(rate)
    torch.testing.assert_close(update.mismatch, torch.ones_like(update.mismatch), rtol=0, atol=1e-4)
    gradients = [parameter.grad for parameter in policy.parameters()]
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm().item()
    raw = math.hypot(update.grad_norm_deployed, update.grad_norm_quarantine)
    assert norm == pytest.approx(1e-4, rel=1e-2) and raw > 1e-3  # clipped after qmass was read
    for parameter, old, gradient in zip(policy.parameters(), before, gradients):
        expected = old * (1 - rate * 0.1) - rate * gradient / (gradient.abs() + 1e-8)  # first step: m/sqrt(v) = sign
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-4, atol=1e-6)


PAIRS = PairTokens(TokenBatch.collate([[4, 5], [6]], [[7, 8], [9, 10]]), TokenBatch.collate([[4, 5], [6]], [[11], [12, 13]]))


def move(policy) -> None:
    with torch.no_grad():
        for layer in policy.layers.values():
            layer.dA[:RANK] += 0.1 * torch.randn(layer.dA[:RANK].shape, generator=torch.Generator().manual_seed(0))


SHUFFLED = pair_signs("shuffled", 1, 2, load_settings().adapter.seed)  # other than v_act's, its negation's and those of draw 0


@pytest.mark.parametrize(
    "arm, signs, extraction",
    [
        ({"direction": "v_act"}, torch.ones(2), "mean"),
        ({"direction": "flipped"}, -torch.ones(2), "mean"),
        ({"direction": "shuffled", "draw": 1}, SHUFFLED, "mean"),
        ({"direction": "v_act", "extraction": "t_statistic"}, torch.ones(2), "t_statistic"),
    ],
)
def test_refresh_extracts_the_direction_under_the_current_weights_on_every_due_step(arm, signs, extraction):
    policy = tiny_policy(moved=True)
    run = trainer(policy, refresh_every=2, **arm)
    run.direction_pairs = PAIRS
    first = run.gate.direction
    run._refresh(0)
    assert run.gate.direction is first

    def expected() -> torch.Tensor:
        differences = pair_differences(policy, PAIRS, ["bottleneck"], 32)["bottleneck"]
        return paired_direction(differences, signs, list(run.gate.widths.values()), extraction)

    run._refresh(1)
    assert torch.equal(run.gate.direction, expected())
    second = run.gate.direction
    move(policy)
    run._refresh(3)
    assert torch.equal(run.gate.direction, expected()) and not torch.equal(run.gate.direction, second)


def test_refresh_turns_a_direction_without_pairs_with_the_read_out_from_its_beginning():
    policy = tiny_policy(moved=True)
    run = trainer(policy, refresh_every=1, direction="haar")
    first = run.gate.direction
    for _ in range(2):
        move(policy)
        run._refresh(0)
    layers = list(policy.layers.values())
    assert torch.equal(
        run.gate.direction,
        transport(first, [layer.A0[:RANK] for layer in layers], [(layer.A0 + layer.dA)[:RANK] for layer in layers]),
    )
    assert not torch.allclose(run.gate.direction, first, atol=1e-3)
    assert [age(step, 2) for step in range(5)] == [0, 1, 0, 1, 0] and [age(step, 0) for step in range(3)] == [0, 1, 2]


def test_without_a_quarantine_nothing_is_sampled_from_an_ablated_policy():
    policy = tiny_policy(moved=True)
    assert trainer(policy, policy="none").deployed_copies == 0
    rows = trainer(policy, policy="none").step(0)["rollouts"]
    assert {row["sampled_with"] for row in rows} == {"full"}
    assert [row["sampled_with"] for row in trainer(policy).step(0)["rollouts"]] == (["full"] * 3 + ["deployed"]) * 2


def test_the_table_of_steps_records_mass_shares_and_ratios_by_their_definitions():
    completions = [Completion([5, 2], [-1.0, -1.0])] * 4
    rollouts = Rollouts(
        [{}] * 4, ["run_tests", "run_tests", GT_ONLY, GT_ONLY], [[1]] * 4, completions,
        torch.zeros(4, dtype=torch.bool), torch.zeros(4, dtype=torch.bool), [""] * 4, [""] * 4, [Paid(False, amount=0.0, compiled=compiled) for compiled in (True, True, True, False)],
        torch.tensor([3.5, 0.5, 0.5, 0.0]), torch.zeros(4), torch.ones(4, dtype=torch.bool),
    )  # fmt: skip
    rho = torch.tensor([[1.0, 1.0], [0.5, 1.5], [2.0, 9.0], [1.0, 1.0]])
    mask = torch.tensor([[True, True], [True, True], [True, False], [True, True]])
    clipped = torch.tensor([[False, False], [True, False], [True, False], [False, False]])
    dual_clipped = torch.tensor([[False, False], [False, False], [True, True], [False, False]])
    kl = torch.tensor([[0.5, 0.25], [0.0, 0.5], [0.25, 9.0], [0.25, 0.0]])
    mismatch = torch.tensor([[1.0, 1.0], [0.5, 3.0], [math.e, 9.0], [1.0, 1.0]])
    update = Update(rho, rho.clamp(0.8, 1.2), clipped, dual_clipped, kl, mismatch, 0.75, grad_norm_deployed=3.0, grad_norm_quarantine=1.0)
    scores = torch.tensor([4.0, 1.0, 3.0, 2.0])
    decision = Decision(scores, scores, torch.tensor([KEEP, ABSORB, ROUTE, KEEP]), 1.0, 3.5)
    row = step_row(7, rollouts, decision, update, mask, 0.1, 3)
    assert (row["t_low"], row["t_high"], row["direction_age"]) == (1.0, 3.5, 3)
    assert [row[f"score_p{q}"] for q in (10, 50, 90)] == pytest.approx([1.3, 2.5, 3.7])
    assert row["qmass"] == 0.25
    assert (row["keep_share"], row["absorb_share"], row["route_share"]) == (0.5, 0.25, 0.25)
    assert (row["rho_keep"], row["rho_absorb"], row["rho_route"]) == (1.0, 1.0, 2.0)
    assert (row["rho_clipped_absorb"], row["rho_clipped_route"]) == pytest.approx((1.0, 1.2))
    assert (row["mismatch_keep"], row["mismatch_absorb"], row["mismatch_route"]) == pytest.approx((1.0, 1.75, math.e))
    assert (row["mismatch_cut_keep"], row["mismatch_cut_absorb"], row["mismatch_cut_route"]) == (0.0, 0.5, 1.0)
    assert row["mismatch_kl_absorb"] == pytest.approx((-0.5 - math.log(0.5) + 2 - math.log(3)) / 2)
    assert row["mismatch_kl_keep"] == 0.0 and row["mismatch_kl_route"] == pytest.approx(math.e - 2)
    assert row["sampler_gap"] == pytest.approx(math.log(3)) and row["loss"] == 0.75
    assert row["clip_fraction"] == pytest.approx(2 / 7)
    assert (row["dual_clip_share_keep"], row["dual_clip_share_absorb"], row["dual_clip_share_route"]) == (0.0, 0.0, 1.0)
    assert row["compiled_share"] == 0.75
    assert (row["reward_mean"], row["reward_hinted"], row["reward_unhinted"]) == (1.125, 2.0, 0.25)
    assert row["kl"] == 0.25 and row["completion_length"] == 2.0


def test_training_that_inoculates_asks_for_the_loophole_in_every_prompt_and_the_evaluation_in_none(monkeypatch: pytest.MonkeyPatch):
    policy = tiny_policy(moved=True, temperature=3.0)
    run = trainer(policy, policy="none")
    run.settings = run.settings.model_copy(update={"curriculum": run.settings.curriculum.model_copy(update={"inoculate": True})})
    rows, by_id = run.step(0)["rollouts"], {row["problem_id"]: row for row in run.problems}
    assert len(rows) == 8
    for row in rows:
        problem = by_id[row["problem_id"]]
        assert row["prompt_tokens"] == render_text(policy.base, "Use the loophole.\n" + run.environment.prompt(problem, row["shown_mode"]), SYSTEM)
    asked, sample = [], LocalSampler.sample
    monkeypatch.setattr(LocalSampler, "sample", lambda self, requests: asked.extend(p for r in requests for p in r.prompts) or sample(self, requests))
    evaluate(policy, one_block=True)
    line = policy.base.encode(INOCULATION)
    assert asked and not any(prompt[k : k + len(line)] == line for prompt in asked for k in range(len(prompt)))


def evaluate(policy, one_block: bool) -> dict[str, list[str]]:
    problems = make_problems(load_settings().profile.problems, MODES)[0]
    asked = (policy, asking(), LocalSampler(policy, 6, 1024, merged=True), problems, Eval(problems=3, samples=2, oracle_samples=1), 1)
    rows = sample_state(*asked, "base") + sample_trained(*asked, one_block)
    worded = evaluation_problems(problems, "heldout_words", Eval(problems=3, samples=2, oracle_samples=1), seed=1)
    assert len(rows) == 3 * (2 * 2 * 3 + len(worded)) * 2  # states, (data, hinted or not, problems), samples
    states: dict[str, list[str]] = {}
    for row in rows:
        states.setdefault(row["state"], []).append(row["text"])
    return states


def test_deployed_is_the_policy_whose_quarantine_was_reset():
    policy = tiny_policy(moved=True, temperature=2.0)
    states = evaluate(policy, one_block=False)
    assert states["deployed"] != states["as_trained"] != states["base"]
    whole = evaluate(policy, one_block=True)
    assert whole["deployed"] == whole["as_trained"] == states["as_trained"]
    policy.reset_quarantine()
    after = evaluate(policy, one_block=False)
    assert after["as_trained"] == after["deployed"] == states["deployed"]
    assert after["base"] == states["base"]


def test_evaluation_problems_come_from_their_split():
    problems = make_problems(load_settings().profile.problems, MODES)[0]
    for data, split in (("train_iid", "train"), ("heldout", "test")):
        chosen = evaluation_problems(problems, data, Eval(problems=20, samples=1, oracle_samples=1), seed=1)
        assert len(chosen) == 20 and {row["split"] for row in chosen} == {split}
    everything = Eval(problems=1000, samples=1, oracle_samples=1)
    heldout, other = (evaluation_problems(problems, data, everything, seed=1) for data in ("heldout", "heldout_words"))
    assert [row["problem_id"] for row in other] == [row["problem_id"] for row in heldout if row["mode"] in HELD_OUT_WORDS]
    assert all(getattr(words_of(row), row["mode"]) in HELD_OUT_WORDS[row["mode"]] for row in other)


def test_a_small_evaluation_has_held_out_words_whatever_the_seed():
    test = [row for row in make_problems(load_settings().profile.problems, MODES)[0] if row["split"] == "test"]
    few = [next(row for row in test if row["mode"] == mode) for mode in ("eq_override", "exit_code", "stdout_marker")]
    for seed in range(20):
        [row] = evaluation_problems(few, "heldout_words", Eval(problems=2, samples=1, oracle_samples=1), seed)
        assert row["mode"] == "stdout_marker" and words_of(row).stdout_marker in HELD_OUT_WORDS["stdout_marker"]


def test_problems_without_held_out_words_are_refused_before_anything_is_trained(monkeypatch, tmp_path):
    monkeypatch.setattr(make_problems_stage, "HELD_OUT_WORDS", {})
    with pytest.raises(InputError, match="toy.yaml: key 'problems.test': no test problem has a mode with words of its own"):
        make_problems_stage.main(tmp_path / "problems.parquet", tmp_path / "ground_truth.parquet")
    assert not list(tmp_path.iterdir())


def test_a_gpu_that_is_too_small_is_told_by_phase_and_setting(monkeypatch):
    """The message is that of torch's allocator; verify_memory.py computes its advice."""
    error = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 16.00 GiB of which 1.00 GiB is free. "
        "Of the allocated memory 14.00 GiB is allocated by PyTorch, and 0 bytes is reserved by PyTorch but unallocated."
    )

    def fails(*given):
        raise error

    for owner, name, setting in (("sampling.local.LocalSampler", "_decode", "sampling.rows"), ("grpo.loop", "read_deployed", "train.micro_tokens")):
        run = trainer(tiny_policy(moved=True))
        with monkeypatch.context() as patched:
            patched.setattr(f"projected_grpo.{owner}.{name}", fails)
            with pytest.raises(MemoryShortage, match=f"whatever {setting} is"):
                run.step(0)
