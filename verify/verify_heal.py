"""Retain-heal trains the deployed block on the clean sides, with no gradient in the quarantine."""

import pytest
import torch

from projected_grpo.gate.zones import ABSORB, ROUTE, zone_state
from projected_grpo.grpo import heal as healing
from projected_grpo.grpo.heal import HealError, clean_nll, heal
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.policy.policy import Policy
from projected_grpo.policy.readings import read_deployed
from verify.tiny import RANK, tiny_policy

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
    monkeypatch.setattr(healing, "ABLATED", zone_state(zone, "output"))
    with pytest.raises(HealError, match="expected a positive number and exactly 0"):
        heal(tiny_policy(moved=True), CLEAN, 1, 1e-2, False, seed=1)
