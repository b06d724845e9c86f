"""Dr.GRPO and its penalty: hand-computed examples, the sign of the gradient, masking by length, KL zero at the start."""

import math

import pytest
import torch

from projected_grpo.gate.zones import ABSORB, KEEP, ROUTE, zone_state
from projected_grpo.grpo.loss import DUAL_CLIP, LOG_RATIO_LIMIT, advantages, dr_grpo, exact_kl, importance_ratio
from projected_grpo.grpo.schedule import draw_problems, learning_rate, shown_mode
from projected_grpo.grpo.update import accumulate, behaviour_logp
from projected_grpo.policy.adapter import adapter_state
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.policy.readings import read_deployed
from projected_grpo.settings.profile import Train
from verify.tiny import tiny_batch, tiny_policy


def train_settings(**changes) -> Train:
    values = dict(
        steps=20, prompts=3, group=2, learning_rate=1e-3, warmup_steps=4, decay=0.1, grad_clip=1.0, clip=0.2, kl_beta=0.0,
        unhackable_share=0.25, gen_deploy_frac=0.5, micro_tokens=16, recompute_layers=False, checkpoint_every=10,
    )  # fmt: skip
    return Train(**(values | changes))


def update(policy, batch, zones, advantage, deployed, logp_sampler=None, masking="output", **changes):
    train = train_settings(**changes)
    _, logp_deployed = read_deployed(policy, batch, [])
    zones, deployed = torch.tensor(zones), torch.tensor(deployed)
    old, matches = behaviour_logp(policy, batch, zones, deployed, logp_deployed, train.micro_tokens)
    unknown = torch.full_like(old, math.nan)  # what the sampler gave
    sampler = unknown if logp_sampler is None else logp_sampler
    return accumulate(policy, batch, zones, masking, torch.tensor(advantage), old, matches, sampler, train, max_new_tokens=10)


def test_advantage_is_the_reward_minus_the_mean_of_its_group_and_not_scaled():
    rewards = torch.tensor([[3.5, 0.5, 0.5, 0.5], [0.0, 0.5, 0.5, 3.5]])
    assert advantages(rewards).tolist() == [[2.25, -0.75, -0.75, -0.75], [-1.125, -0.625, -0.625, 2.375]]


def test_the_loss_of_a_hand_computed_example():
    """Row 0 (A = 2): ratios 1.5 (clipped to 1.2) and 0.5 (the minimum stays plain). Row 1 (A = -1): 1.5 plain, 0.5 -> 0.8."""
    rho, advantage = torch.tensor([1.5, 0.5, 1.5, 0.5, 1.0]), torch.tensor([2.0, 2.0, -1.0, -1.0, -1.0])
    loss, clipped, dual_clipped = dr_grpo(rho, torch.ones(5), advantage, clip=0.2, denominator=40)
    objective = (1.2 * 2 + 0.5 * 2) + (-1.5 - 0.8 - 1.0)
    assert loss.item() == pytest.approx(-objective / 40, rel=1e-5)
    assert clipped.tolist() == [True, False, False, True, False] and not dual_clipped.any()


@pytest.mark.parametrize(
    "rho, advantage, objective, slope, active",
    [  # slope: of the objective in rho
        (5.0, 1.0, 1.2, 0.0, "clip"),  # likelier than the behaviour policy has it, and good: no further
        (2.0, -1.0, -2.0, -1.0, None),  # likelier, and bad: pushed down
        (3.5, -1.0, -3.0, 0.0, "dual clip"),  # so much likelier that the ratio would set the step's size: left alone
        (3.5, -2.0, -6.0, 0.0, "dual clip"),
        (0.5, -1.0, -0.8, 0.0, "clip"),  # unlikelier already, and bad
        (0.5, 1.0, 0.5, 1.0, None),  # unlikelier, and good: pushed up
        (math.exp(30.0), -1.0, -3.0, 0.0, "dual clip"),
    ],
)
def test_each_side_of_both_clips_has_its_sign(rho, advantage, objective, slope, active):
    assert DUAL_CLIP == 3.0  # Ye et al. 2020
    logp = torch.tensor([math.log(rho)], requires_grad=True)
    ratio = importance_ratio(logp, torch.zeros(1))
    loss, clipped, dual_clipped = dr_grpo(ratio, torch.ones(1), torch.tensor([advantage]), clip=0.2, denominator=1)
    [gradient] = torch.autograd.grad(loss, logp)
    assert loss.item() == pytest.approx(-objective, rel=1e-5)
    assert gradient.item() == pytest.approx(-slope * rho, rel=1e-5) and math.isfinite(gradient.item())
    assert (clipped.item(), dual_clipped.item()) == (active == "clip", active == "dual clip")


def test_the_ratio_is_policy_over_behaviour():
    assert importance_ratio(torch.tensor([-1.0]), torch.tensor([-2.0])).item() == pytest.approx(math.e)
    assert importance_ratio(torch.tensor([0.0]), torch.tensor([-1000.0])).item() == pytest.approx(math.exp(LOG_RATIO_LIMIT))


def test_the_kl_is_that_of_the_distributions_by_hand():
    logp, ref = torch.tensor([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]]).log().clamp(min=-1e4), torch.tensor([[0.25, 0.25, 0.5]] * 2).log()
    expected = [0.5 * math.log(2.0) - 0.25 * math.log(2.0), math.log(4.0)]  # a token without probability adds nothing
    assert exact_kl(logp, ref).tolist() == pytest.approx(expected)
    assert not exact_kl(logp, logp).any()


def test_the_kl_is_bounded_where_the_estimate_from_a_foreign_token_is_not():
    """Two tokens: the policy has .999 and .001, the base .5 and .5, and so has the deployed state, which sampled the token."""
    logp, ref = torch.tensor([[0.999, 0.001]]).log(), torch.tensor([[0.5, 0.5]]).log()
    difference = (ref - logp)[0]
    k3 = (0.5 * (difference.exp() - difference - 1)).sum()  # expected over the tokens that were sampled
    assert k3.item() == pytest.approx(246, abs=1)
    assert exact_kl(logp, ref).item() == pytest.approx(0.69, abs=0.005)


def test_the_penalty_s_gradient_is_that_of_autograd_on_all_logits(monkeypatch):
    """Every advantage is zero, so the gradient is the KL's alone. The size of the parts changes nothing but rounding."""
    zones, batch, found = [KEEP, ABSORB, ROUTE] * 2, tiny_batch(), []
    for size in (1024, 5, 1):
        monkeypatch.setattr("projected_grpo.grpo.update.LOGIT_TOKENS", size)
        policy = tiny_policy(moved=True, temperature=2.0)
        recorded = update(policy, batch, zones, [0.0] * 6, [False] * 6, kl_beta=1.0, micro_tokens=1000)
        found.append([recorded.kl, torch.tensor(recorded.loss), *(parameter.grad for parameter in policy.parameters())])
    for parameter in policy.parameters():
        parameter.grad = None
    total, expected = 0.0, torch.zeros_like(found[0][0])
    for row, zone in enumerate(zones):
        tokens, start, end = batch.tokens[row : row + 1], int(batch.prompt_length[row]), int(batch.length[row])
        with adapter_state(policy.context, state=zone_state(zone, "output")):
            p = (policy.base.model(tokens).logits[0, start - 1 : end - 1] / 2.0).softmax(-1)
        with torch.no_grad(), adapter_state(policy.context, enabled=False):
            q = (policy.base.model(tokens).logits[0, start - 1 : end - 1] / 2.0).softmax(-1)
        kl = (p * (p / q).log()).sum(-1)
        expected[row, : end - start] = kl.detach()
        total = total + kl.sum()
    (total / (3 * 2 * 10)).backward()
    for got in found:
        torch.testing.assert_close(got[0], expected, rtol=1e-3, atol=1e-5)
        for mine, reference in zip(got[2:], policy.parameters()):
            torch.testing.assert_close(mine, reference.grad, rtol=1e-3, atol=1e-6)
        for mine, whole in zip(got, found[0]):
            torch.testing.assert_close(mine, whole, rtol=1e-4, atol=1e-6)


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
