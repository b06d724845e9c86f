"""gate.masking: the same forward pass, and by row of the batch exactly the gradients that each masking promises.

Output masking detaches the deployed block's output of a routed rollout, so its gradient is also missing upstream, where the
quarantine then trains on an approximation. Parameter masking removes the gradients of the deployed parameters alone.
"""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cosine_similarity

from projected_grpo.gate.zones import ABSORB, KEEP, ROUTE, zone_state
from projected_grpo.grpo.rollouts import pay, sample_rollouts
from projected_grpo.policy.adapter import adapter_state
from projected_grpo.policy.antipasto import Antipasto
from projected_grpo.policy.inits import antipasto, gaussian
from projected_grpo.policy.lora2r import Lora2r
from projected_grpo.sampling.protocol import Completion
from verify.masked import moved_layer
from verify.tiny import RANK, tiny_batch, tiny_policy
from verify.verify_adapter import gradients
from verify.verify_training_step import trainer

ZONES = [KEEP, ROUTE, ABSORB, ROUTE, KEEP, ABSORB]
WEIGHTS = torch.tensor([1.0, -2.0, 0.5, 3.0, -1.0, 2.0])
LAST = "model.layers.1.mlp.down_proj"
every_masking = pytest.mark.parametrize("masking", ["output", "parameter"])
both_parametrizations = pytest.mark.parametrize("init", ["gaussian", "antipasto"])


def by_definition(policy, batch, zones, weights) -> tuple[torch.Tensor, torch.Tensor]:
    """Plain autograd without a mask, row by row: a kept row on the policy whose quarantine was reset; of each row the
    gradients of those blocks alone that it trains."""
    totals = [0.0, 0.0]
    state = {name: tensor.clone() for name, tensor in policy.state().items()}
    for row, zone in enumerate(zones):
        policy.load_state(state, "the copy")
        if zone == KEEP:
            policy.reset_quarantine()
        for parameter in policy.parameters():
            parameter.grad = None
        (policy.logp(batch.select(torch.tensor([row]))).sum() * weights[row]).backward()
        blocks = [layer.block_gradients() for layer in policy.layers.values()]
        for side in (0, 1):
            if (side == 0 and zone != ROUTE) or (side == 1 and zone != KEEP):
                totals[side] = totals[side] + torch.cat([g.flatten() for block in blocks for g in block[side]])
    policy.load_state(state, "the copy")
    return totals[0], totals[1]


@every_masking
@both_parametrizations
def test_a_mixed_batch_gives_the_sum_of_its_rows_alone(init, masking):
    policy, batch = tiny_policy(moved=True, init=init), tiny_batch()
    mixed = gradients(policy, batch, ZONES, WEIGHTS, masking)
    alone = [
        gradients(policy, batch.select(torch.tensor([i])), [ZONES[i]], WEIGHTS[i : i + 1], masking) for i in range(len(batch))
    ]
    for side in (0, 1):
        torch.testing.assert_close(mixed[side], sum(row[side] for row in alone), rtol=1e-4, atol=1e-5)


@both_parametrizations
def test_the_forward_pass_is_the_same_under_both(init):
    policy, batch = tiny_policy(moved=True, init=init), tiny_batch()
    with torch.no_grad():
        for zone in (KEEP, ABSORB, ROUTE):
            assert torch.equal(*(policy.logp(batch, zone_state(zone, masking)) for masking in ("output", "parameter")))


@both_parametrizations
def test_kept_and_absorbed_rows_have_the_same_gradients_under_both(init):
    policy, batch = tiny_policy(moved=True, init=init), tiny_batch()
    zones = [KEEP, ABSORB] * 3
    for output, parameter in zip(gradients(policy, batch, zones, WEIGHTS), gradients(policy, batch, zones, WEIGHTS, "parameter")):
        assert torch.equal(output, parameter) and output.any()


@pytest.mark.parametrize("kind, make", [(Lora2r, lambda w: gaussian(w, RANK, 0)), (Antipasto, lambda w: antipasto(w, RANK))])
def test_in_one_layer_the_maskings_differ_in_the_input_s_gradient_of_routed_rows_alone(kind, make):
    layer, context = moved_layer(kind, make)
    found = {}
    for masking in ("output", "parameter"):
        layer.zero_grad()
        x = torch.arange(84, dtype=torch.double).view(3, 4, 7).sin().requires_grad_()
        for row, zone in enumerate((KEEP, ABSORB, ROUTE)):
            with adapter_state(context, state=zone_state(zone, masking)):
                layer(x[row : row + 1]).cos().sum().backward()
        found[masking] = (x.grad, [parameter.grad for parameter in layer.trained().values()])
    (x_output, parts_output), (x_parameter, parts_parameter) = found["output"], found["parameter"]
    assert all(torch.equal(a, b) for a, b in zip(parts_output, parts_parameter))
    assert torch.equal(x_output[:2], x_parameter[:2])
    full = torch.arange(84, dtype=torch.double).view(3, 4, 7).sin().requires_grad_()
    layer(full).cos().sum().backward()
    torch.testing.assert_close(x_parameter[2], full.grad[2])
    assert (x_output[2] - full.grad[2]).abs().max() > 1e-2


@both_parametrizations
def test_routed_rows_agree_in_the_last_layer_and_differ_upstream(init):
    batch, found = tiny_batch(), {}
    for masking in ("output", "parameter"):
        policy = tiny_policy(moved=True, init=init)
        gradients(policy, batch, [ROUTE] * len(batch), WEIGHTS, masking)
        found[masking] = {name: torch.cat([g.flatten() for g in layer.block_gradients()[1]]) for name, layer in policy.layers.items()}
    assert torch.equal(found["output"][LAST], found["parameter"][LAST]) and found["output"][LAST].any()
    upstream = [name for name in found["output"] if name.startswith("model.layers.0.")]
    assert len(upstream) == 7
    for name in upstream:
        difference = found["output"][name] - found["parameter"][name]
        assert difference.norm() > 1e-3 * found["parameter"][name].norm()


@both_parametrizations
def test_parameter_masking_is_plain_autograd_on_the_parameters_that_a_row_trains(init):
    policy, batch = tiny_policy(moved=True, init=init), tiny_batch()
    reference = by_definition(policy, batch, ZONES, WEIGHTS)
    for masked, expected in zip(gradients(policy, batch, ZONES, WEIGHTS, "parameter"), reference):
        torch.testing.assert_close(masked, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("init, low, high", [("gaussian", 0.7, 0.85), ("antipasto", 0.99, 0.9999)])
def test_the_cosine_between_the_maskings_on_a_mixed_batch(init, low, high):
    """It is a property of the tiny policy; the deployed block, which routed rows do not train, sees no difference."""
    policy, batch = tiny_policy(moved=True, init=init), tiny_batch()
    reference = by_definition(policy, batch, ZONES, WEIGHTS)
    output, parameter = (gradients(policy, batch, ZONES, WEIGHTS, masking) for masking in ("output", "parameter"))
    assert torch.equal(output[0], parameter[0])
    assert low < cosine_similarity(output[1], parameter[1], dim=0) < high
    assert cosine_similarity(parameter[1], reference[1], dim=0) > 1 - 1e-5


@every_masking
def test_the_trainer_updates_with_the_masking_of_the_settings(masking):
    """Every rollout routed and taken as sampled in full, without a penalty: rho is 1, and the loss is -A log pi."""
    policy = tiny_policy(moved=True, temperature=3.0)
    run = trainer(policy, masking=masking)
    train = run.settings.profile.train.model_copy(update={"kl_beta": 0.0})
    run.settings = run.settings.model_copy(update={"profile": run.settings.profile.model_copy(update={"train": train})})
    sampled = sample_rollouts(policy.base, run.environment, run.sampler, run.problems, 0, train, run.deployed_copies, 1)
    advantage, every = torch.tensor([1.0, -1.0, 2.0, -2.0] * 2), torch.ones(8, dtype=torch.bool)
    rollouts = replace(
        pay(policy.base, run.environment, sampled, train.group), advantage=advantage, gated=every, sampled_deployed=~every,
        completions=[Completion(completion.tokens, None) for completion in sampled.completions],
    )  # fmt: skip
    batch, zones = rollouts.batch(torch.arange(8)), torch.tensor([ROUTE] * 8)
    expected = {name: gradients(policy, batch, zones.tolist(), -advantage, name)[1] for name in ("output", "parameter")}
    run._gradients(rollouts, torch.arange(8), zones, run._read(rollouts)[1])
    found = torch.cat([g.flatten() for layer in policy.layers.values() for g in layer.block_gradients()[1]])
    cosines = {name: float(cosine_similarity(found, gradient, dim=0)) for name, gradient in expected.items()}
    assert cosines.pop(masking) > 1 - 1e-4 and max(cosines.values()) < 0.95
