"""Dr.GRPO and its penalty: a hand-computed example, the sign of the gradient, masking by length, KL zero at the start."""

import math

import pytest
import torch

from projected_grpo.gate.zones import ABSORB, KEEP, ROUTE, zone_masks
from projected_grpo.grpo.loss import advantages, dr_grpo, importance_ratio, k3
from projected_grpo.grpo.schedule import draw_problems, learning_rate, shown_mode
from projected_grpo.grpo.update import accumulate, behaviour_logp
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.scale import Train
from projected_grpo.policy.readings import read_deployed
from verify.tiny import tiny_batch, tiny_policy


def train_settings(**changes) -> Train:
    values = dict(
        steps=20, prompts=3, group=2, learning_rate=1e-3, warmup_steps=4, decay=0.1, grad_clip=1.0, clip=0.2, kl_beta=0.0,
        unhackable_share=0.25, gen_deploy_frac=0.5, micro_tokens=16, recompute_layers=False, checkpoint_every=10,
    )  # fmt: skip
    return Train(**(values | changes))


def update(policy, batch, zones, advantage, deployed, logp_sampler=None, **changes):
    train = train_settings(**changes)
    _, logp_deployed = read_deployed(policy, batch, [])
    zones, deployed = torch.tensor(zones), torch.tensor(deployed)
    old, matches = behaviour_logp(policy, batch, zones, deployed, logp_deployed, train.micro_tokens)
    unknown = torch.full_like(old, math.nan)  # what the sampler gave
    sampler = unknown if logp_sampler is None else logp_sampler
    masks = zone_masks(zones, "output")
    return accumulate(policy, batch, masks, torch.tensor(advantage), old, matches, sampler, train, max_new_tokens=10)


def test_advantage_is_the_reward_minus_the_mean_of_its_group_and_not_scaled():
    rewards = torch.tensor([[3.5, 0.5, 0.5, 0.5], [0.0, 0.5, 0.5, 3.5]])
    assert advantages(rewards).tolist() == [[2.25, -0.75, -0.75, -0.75], [-1.125, -0.625, -0.625, 2.375]]


def test_the_loss_of_a_hand_computed_example():
    """Row 0 (A = 2): ratios 1.5 (clipped to 1.2) and 0.5 (the minimum stays plain). Row 1 (A = -1): 1.5 plain, 0.5 -> 0.8."""
    rho = torch.tensor([[1.5, 0.5, 9.0], [1.5, 0.5, 1.0]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    loss, clipped = dr_grpo(rho, torch.ones(2, 3), torch.tensor([2.0, -1.0]), mask, clip=0.2, denominator=40)
    objective = (1.2 * 2 + 0.5 * 2) + (-1.5 - 0.8 - 1.0)
    assert loss.item() == pytest.approx(-objective / 40, rel=1e-5)
    assert clipped.tolist() == [[True, False, False], [False, True, False]]


def test_the_ratio_is_policy_over_behaviour():
    assert importance_ratio(torch.tensor([[-1.0]]), torch.tensor([[-2.0]])).item() == pytest.approx(math.e)


def test_k3_by_hand_and_never_negative():
    assert k3(torch.tensor([[-1.0]]), torch.tensor([[-2.0]])).item() == pytest.approx(math.exp(-1.0) + 1.0 - 1.0)
    logp, ref = torch.randn(5, 7), torch.randn(5, 7)
    assert (k3(logp, ref) >= 0).all() and not k3(logp, logp).any()


def test_one_step_makes_a_positive_advantage_likelier_and_a_negative_one_less_likely():
    policy, batch = tiny_policy(moved=True), tiny_batch()
    advantage = [1.0, -1.0, 1.0, -1.0, 1.0, -1.0]
    with torch.no_grad():
        before = policy.logp(batch).sum(1)
    update(policy, batch, [ABSORB] * 6, advantage, [False] * 6)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter -= 0.02 * parameter.grad
        change = policy.logp(batch).sum(1) - before
    assert (change * torch.tensor(advantage)).sum() > 0


def test_the_gradient_is_advantage_times_the_gradient_of_the_log_probability_over_the_denominator():
    policy, batch = tiny_policy(moved=True), tiny_batch()
    advantage = torch.tensor([1.0, -1.0, 2.0, 0.5, 0.0, -3.0])
    update(policy, batch, [ABSORB] * 6, advantage.tolist(), [False] * 6)
    ours = [parameter.grad.clone() for parameter in policy.parameters()]
    for parameter in policy.parameters():
        parameter.grad = None
    (-(policy.logp(batch) * batch.completion_mask() * advantage[:, None]).sum() / (3 * 2 * 10)).backward()
    for mine, parameter in zip(ours, policy.parameters()):
        torch.testing.assert_close(mine, parameter.grad, rtol=1e-4, atol=1e-6)


def test_the_kl_is_exactly_zero_at_the_start_and_positive_after_the_adapter_moved():
    rows = [1.0, -1.0, 1.0, -1.0, 1.0, -1.0]
    assert update(tiny_policy(moved=False), tiny_batch(), [ABSORB] * 6, rows, [False] * 6, kl_beta=1.0).kl.max() == 0.0
    assert update(tiny_policy(moved=True), tiny_batch(), [ABSORB] * 6, rows, [False] * 6, kl_beta=1.0).kl.mean() > 1e-4


def test_the_penalty_pulls_toward_the_base():
    policy, batch = tiny_policy(moved=True), tiny_batch()
    before = update(policy, batch, [ABSORB] * 6, [0.0] * 6, [False] * 6, kl_beta=1.0).kl.sum()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter -= 0.1 * parameter.grad
    assert update(policy, batch, [ABSORB] * 6, [0.0] * 6, [False] * 6, kl_beta=1.0).kl.sum() < before


def test_rho_is_exactly_one_where_the_modes_match_and_a_true_ratio_elsewhere():
    """Rows sampled with one forward and trained with another carry log pi_old of the one they were sampled with."""
    policy, batch = tiny_policy(moved=True), tiny_batch()
    zones = [KEEP, KEEP, ABSORB, ABSORB, ROUTE, ROUTE]
    deployed = [True, False, True, False, True, False]
    rho = update(policy, batch, zones, [1.0] * 6, deployed).rho
    mask = batch.completion_mask()
    with torch.no_grad():
        full = policy.logp(batch)
    _, ablated = read_deployed(policy, batch, [])
    for row in (0, 3, 5):
        assert torch.equal(rho[row], torch.ones_like(rho[row]))
    torch.testing.assert_close(rho[1][mask[1]], (ablated - full).exp()[1][mask[1]], rtol=1e-4, atol=1e-5)
    for row in (2, 4):
        torch.testing.assert_close(rho[row][mask[row]], (full - ablated).exp()[row][mask[row]], rtol=1e-4, atol=1e-5)
    assert (rho[1] - 1).abs().max() > 1e-2 and (rho[2] - 1).abs().max() > 1e-2


def test_tokens_count_by_length_so_that_the_end_token_and_padding_ids_inside_are_trained():
    """Completions that hold the padding id 0 and end with the end token: all of their tokens are in the mask."""
    batch = TokenBatch.collate([[5, 6], [5, 6, 7]], [[0, 8, 2], [9, 0, 0, 2]])
    assert batch.completion_mask().tolist() == [[True, True, True, False], [True, True, True, True]]
    policy = tiny_policy(moved=True)
    with torch.no_grad():
        logp = policy.logp(batch)
        logits = policy.base.model(torch.tensor([[5, 6, 7, 9, 0, 0, 2]])).logits[0]
    expected = [float(logits[2 + j].log_softmax(0)[token]) for j, token in enumerate([9, 0, 0, 2])]
    assert logp[1].tolist() == pytest.approx(expected, abs=1e-4)
    assert logp[0, 3] == 0.0


def test_log_probabilities_are_those_of_the_tempered_distribution():
    batch = tiny_batch()
    with torch.no_grad():
        warm = tiny_policy(moved=True, temperature=0.5).logp(batch)
        logits = tiny_policy(moved=True).base.model(batch.tokens[:1]).logits[0]
    p = int(batch.prompt_length[0])
    expected = (logits[p - 1] / 0.5).log_softmax(0)[batch.tokens[0, p]]
    assert warm[0, 0].item() == pytest.approx(float(expected), abs=1e-4)


def test_micro_batches_add_up_to_the_whole_batch():
    grads = []
    for size in (1, 40, 1000):
        policy = tiny_policy(moved=True)
        update(policy, tiny_batch(), [KEEP, ABSORB, ROUTE] * 2, [1.0, -1.0, 2.0] * 2, [False] * 6, micro_tokens=size, kl_beta=0.1)
        grads.append([parameter.grad for parameter in policy.parameters()])
    for other in grads[1:]:
        for mine, reference in zip(other, grads[0]):
            torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-6)


def test_a_micro_batch_holds_rows_of_similar_length_within_its_tokens_and_a_longer_row_alone():
    batch = TokenBatch.collate([[1]] * 5, [[1] * n for n in (9, 2, 4, 2, 3)])  # lengths 10, 3, 5, 3, 4
    assert [index.tolist() for index in batch.micro_batches(8)] == [[1, 3], [4], [2], [0]]
    assert [index.tolist() for index in batch.micro_batches(12)] == [[1, 3, 4], [2], [0]]
    assert [index.tolist() for index in batch.micro_batches(50)] == [[1, 3, 4, 2, 0]]


def test_no_tensor_of_all_logits_is_kept_for_the_backward_pass(monkeypatch):
    """With two tokens at once the log-probabilities and gradients are the same, and nothing of vocabulary width is saved."""
    policy, batch = tiny_policy(moved=True), tiny_batch()
    whole = policy.logp(batch)
    expected = torch.autograd.grad(whole.sum(), policy.parameters())
    monkeypatch.setattr("projected_grpo.policy.policy.LOGIT_TOKENS", 2)
    widths = []
    with torch.autograd.graph.saved_tensors_hooks(lambda saved: widths.append(saved.shape) or saved, lambda saved: saved):
        logp = policy.logp(batch)
    vocabulary = policy.base.model.config.vocab_size
    assert widths and not any(shape[-1:] == (vocabulary,) for shape in widths)
    torch.testing.assert_close(logp, whole)
    for mine, reference in zip(torch.autograd.grad(logp.sum(), policy.parameters()), expected):
        torch.testing.assert_close(mine, reference, rtol=1e-3, atol=1e-5)


def test_layers_that_are_computed_again_route_the_same_gradients_and_keep_their_inputs_alone():
    """The repetition runs in the backward pass, when the masks of the forward pass are no longer set."""
    zones, advantage, deployed = [KEEP, ABSORB, ROUTE] * 2, [1.0, -1.0, 2.0] * 2, [False, True, False] * 2
    kept = []
    for again in (False, True):
        policy = tiny_policy(moved=True)
        if again:
            policy.recompute_layers()
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda saved: sizes.append(saved.numel()) or saved, lambda saved: saved):
            policy.logp(tiny_batch())
        found = update(policy, tiny_batch(), zones, advantage, deployed, kl_beta=0.1)
        kept.append((sum(sizes), found, [parameter.grad for parameter in policy.parameters()]))
    (plain, one, expected), (fewer, other, gradients) = kept
    assert fewer < 0.5 * plain
    assert other.loss == pytest.approx(one.loss, rel=1e-6) and other.grad_norm_quarantine == pytest.approx(one.grad_norm_quarantine, rel=1e-5)
    for mine, reference in zip(gradients, expected):
        torch.testing.assert_close(mine, reference, rtol=1e-5, atol=1e-8)


def test_a_token_that_the_sampler_drew_too_often_weighs_less_and_none_more_than_twice():
    """The sampler's log-probability is off by log 2 on row 0, by -log 4 on row 1; row 2 was not sampled, and row 3 agrees."""
    policy, batch = tiny_policy(moved=True), tiny_batch(4)
    own = policy.logp(batch).detach()
    sampler = own + torch.tensor([math.log(2), -math.log(4), math.nan, 0.0])[:, None]
    advantage = [1.0, -1.0, 2.0, 3.0]
    found = update(policy, batch, [ABSORB] * 4, advantage, [False] * 4, logp_sampler=sampler)
    mask = batch.completion_mask()
    for row, ratio in enumerate((0.5, 4.0, 1.0, 1.0)):
        torch.testing.assert_close(found.mismatch[row][mask[row]], torch.full((int(mask[row].sum()),), ratio))
    ours = [parameter.grad.clone() for parameter in policy.parameters()]
    weighted = torch.tensor([0.5 * 1.0, 2.0 * -1.0, 2.0, 3.0])
    loss = -(policy.logp(batch) * mask * weighted[:, None]).sum() / (3 * 2 * 10)
    for mine, expected in zip(ours, torch.autograd.grad(loss, policy.parameters())):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-6)


def test_gradient_norms_are_those_of_the_two_blocks():
    policy = tiny_policy(moved=True)
    found = update(policy, tiny_batch(), [ABSORB] * 6, [1.0, -1.0] * 3, [False] * 6)
    total = torch.cat([parameter.grad.flatten() for parameter in policy.parameters()]).norm()
    assert (found.grad_norm_deployed**2 + found.grad_norm_quarantine**2) ** 0.5 == pytest.approx(float(total), rel=1e-4)
    only_quarantine = update(policy, tiny_batch(), [ROUTE] * 6, [1.0, -1.0] * 3, [False] * 6)
    assert only_quarantine.grad_norm_deployed == 0.0 and only_quarantine.grad_norm_quarantine > 0.0


def test_the_learning_rate_warms_up_and_ends_near_zero():
    train = train_settings()
    rates = [learning_rate(step, train) for step in range(train.steps)]
    assert rates[:5] == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3])
    assert rates[12] == pytest.approx(0.5e-3) and rates[19] == pytest.approx(1e-3 * 0.5 * (1 + math.cos(math.pi * 15 / 16)))


def test_an_epoch_draws_every_problem_once():
    problems = [{"problem_id": str(i), "mode": "run_tests"} for i in range(10)]
    drawn = [row["problem_id"] for step in range(5) for row in draw_problems(problems, step, 4, seed=1)]
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == sorted(str(i) for i in range(10))
    assert drawn[:10] != drawn[10:]


def test_the_unhackable_share_rotates_over_steps_and_problems():
    problems = [{"problem_id": str(i), "mode": "run_tests"} for i in range(200)]
    shown = [[shown_mode(p, step, 0.25, seed=1) == "gt_only" for p in problems] for step in range(40)]
    share = sum(map(sum, shown)) / 8000
    assert abs(share - 0.25) < 4 * (0.25 * 0.75 / 8000) ** 0.5
    assert all(0 < sum(row[i] for row in shown) < 40 for i in range(200))  # every problem is shown both ways
    assert shown[0] != shown[1]
