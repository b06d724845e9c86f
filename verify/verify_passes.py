"""The passes of a step, by zone and with shared prompts, against one masked pass over all rows by the method's definition."""

import pytest
import torch

from projected_grpo.gate.zones import ABSORB, KEEP, ROUTE, zone_state
from projected_grpo.policy.adapter import ABLATED, FULL, adapter_state
from projected_grpo.policy.antipasto import Antipasto
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.policy.inits import antipasto, gaussian
from projected_grpo.policy.layout import lay_out
from projected_grpo.policy.lora2r import Lora2r
from projected_grpo.policy.readings import read_deployed
from verify.masked import by_definition, layer_by_definition, logp_by_definition, moved_layer
from verify.tiny import RANK, tiny_batch, tiny_policy
from verify.verify_loss import update

ADVANTAGE = [1.0, -1.0, 2.0, -0.5, 3.0, -2.0, 0.5, -1.5, 1.0]
ONE, TWO, THREE = [ABSORB] * 9, [ABSORB, KEEP, ABSORB] * 3, [KEEP, ABSORB, ROUTE, ROUTE, ABSORB, KEEP, ABSORB, ABSORB, ROUTE]
every_masking = pytest.mark.parametrize("masking", ["output", "parameter"])
parametrizations = pytest.mark.parametrize("kind, make", [(Lora2r, lambda w: gaussian(w, RANK, 0)), (Antipasto, lambda w: antipasto(w, RANK))])


def groups(prompts: int = 3, copies: int = 3) -> TokenBatch:
    """Completions of unequal length for prompts of unequal length, which the rows of a group share."""
    rng = torch.Generator().manual_seed(5)

    def tokens(count: int) -> list[int]:
        return torch.randint(3, 300, (count,), generator=rng).tolist()

    asked = [prompt for prompt in (tokens(4 + 3 * p) for p in range(prompts)) for _ in range(copies)]
    return TokenBatch.collate(asked, [tokens(2 + 3 * i % 7) for i in range(prompts * copies)])


@every_masking
@parametrizations
@pytest.mark.parametrize("zone", [KEEP, ABSORB, ROUTE])
def test_a_layer_by_its_merged_weight_and_by_its_factors_is_the_layer_of_the_definition(kind, make, zone, masking):
    """In double precision; bfloat16 alone takes the factors, so they are asked for here."""
    layer, context = moved_layer(kind, make)
    state, results = zone_state(zone, masking), []
    for way in ("definition", "merged", "factors"):
        layer.zero_grad()
        x = torch.arange(84, dtype=torch.double).view(3, 4, 7).sin().requires_grad_()
        with adapter_state(context, state=state):
            y = {
                "definition": lambda: layer_by_definition(layer, x, [zone] * 3, masking),
                "merged": lambda: layer(x),
                "factors": lambda: layer.base(x) + layer._delta(x, state),
            }[way]()
        y.cos().sum().backward()
        results.append([y.detach(), x.grad, *(torch.zeros_like(p) if p.grad is None else p.grad for p in layer.trained().values())])
    for other in results[1:]:
        for found, expected in zip(other, results[0], strict=True):
            torch.testing.assert_close(found, expected)


@every_masking
@pytest.mark.parametrize("init", ["gaussian", "antipasto"])
@pytest.mark.parametrize("zones", [ONE, TWO, THREE])
@pytest.mark.parametrize("grouped, recompute", [(True, False), (True, True), (False, False)])
def test_a_step_s_gradients_equal_those_of_one_masked_pass(init, zones, masking, grouped, recompute):
    """Every rollout is sampled as it trains, so rho is 1, and the loss is -A log pi plus the KL, here without weight."""
    batch = groups() if grouped else tiny_batch(9)
    policy = tiny_policy(moved=True, init=init)
    if recompute:
        policy.recompute_layers()
    shared = [layout.mask is not None for layout in policy.lay_out(batch, 64)]
    assert any(shared) == grouped
    with policy.held():
        update(policy, batch, zones, ADVANTAGE, [zone == KEEP for zone in zones], masking=masking, micro_tokens=64)
    found = [parameter.grad.clone() for parameter in policy.parameters()]
    reference = tiny_policy(moved=True, init=init)
    with by_definition(reference, zones, masking):
        logp = logp_by_definition(reference, batch)
        (-(logp * torch.tensor(ADVANTAGE)[:, None]).sum() / (3 * 2 * 10)).backward()
    for mine, parameter in zip(found, reference.parameters(), strict=True):
        expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(mine, expected, rtol=1e-3, atol=2e-6 + 1e-4 * float(expected.abs().max()))
    assert max(float(mine.abs().max()) for mine in found) > 1e-3


def test_log_probabilities_and_readings_with_shared_prompts_equal_those_of_one_masked_pass():
    policy, batch = tiny_policy(moved=True), groups()
    for micro_tokens in (None, 40):
        found, ablated = read_deployed(policy, batch, ["bottleneck", "residual", "output", "gradient"], micro_tokens)
        with torch.no_grad(), by_definition(policy, [KEEP] * 9, "output") as inputs:
            torch.testing.assert_close(ablated, logp_by_definition(policy, batch), rtol=1e-4, atol=1e-5)
            hidden = policy.base.model.model(batch.tokens, output_hidden_states=True).hidden_states
        inside = [slice(int(p), int(p + n)) for p, n in zip(batch.prompt_length, batch.completion_length)]

        def mean(values: torch.Tensor) -> torch.Tensor:
            return torch.stack([values[row, places].mean(0) for row, places in enumerate(inside)])

        bottleneck = {name: mean(inputs[name]) @ layer.deployed_down().T for name, layer in policy.layers.items()}
        expected = {
            "bottleneck": torch.cat(list(bottleneck.values()), dim=1),
            "output": torch.cat([bottleneck[name] @ layer.deployed_up().T for name, layer in policy.layers.items()], dim=1),
            "residual": torch.cat([mean(state) for state in hidden[1:]], dim=1),
        }
        for name, values in expected.items():
            torch.testing.assert_close(found[name], values.detach(), rtol=1e-3, atol=1e-4)
        alone = torch.cat([read_deployed(policy, batch.select(torch.tensor([i])), ["gradient"])[0]["gradient"] for i in range(9)])
        torch.testing.assert_close(found["gradient"], alone, rtol=1e-3, atol=1e-4)
    with torch.no_grad(), by_definition(policy, [ABSORB] * 9, "output"):
        full = logp_by_definition(policy, batch)
    with torch.no_grad():
        torch.testing.assert_close(policy.logp(batch, FULL), full, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(policy.logp(batch, ABLATED), ablated, rtol=1e-4, atol=1e-5)
    assert (full - ablated).abs().max() > 1e-2


def test_a_row_holds_its_prompt_once_and_completions_see_it_and_themselves_alone():
    batch = TokenBatch.collate([[5, 6], [5, 6], [7]], [[8, 9], [3], [4, 4]])
    [layout] = lay_out(batch, None, lambda prompt, completion, group: group)
    assert layout.index.tolist() == [2, 1, 0] and layout.row.tolist() == [0, 1, 1] and layout.start.tolist() == [1, 2, 3]
    assert layout.tokens.tolist() == [[7, 4, 4, 0, 0], [5, 6, 3, 8, 9]]
    assert layout.positions.tolist()[1] == [0, 1, 2, 2, 3]
    assert layout.mask[1, 0].int().tolist() == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 0, 1, 0], [1, 1, 0, 1, 1]]
    hidden = torch.arange(10.0).view(2, 5, 1)
    assert layout.before(hidden)[:, 0].tolist() == [0, 1, 6, 6, 8]
    assert layout.pool(hidden)[:, 0].tolist() == [1.5, 7.0, 8.5]
    [apart] = lay_out(batch, None, lambda prompt, completion, group: 1)
    assert apart.mask is None and apart.tokens.shape == (3, 4)


def test_completions_share_a_prompt_where_that_saves_products_and_within_a_pass():
    policy = tiny_policy(moved=False)
    assert policy.together(prompt=60, completion=10.0, group=8) == 8
    assert policy.together(prompt=2, completion=60.0, group=8) == 1
    batch = groups(prompts=2, copies=4)
    parts = list(lay_out(batch, 30, lambda prompt, completion, group: 2))
    assert sorted(i for layout in parts for i in layout.index.tolist()) == list(range(8))
    assert all(layout.tokens.numel() <= 30 or len(layout.tokens) == 1 for layout in parts)


def test_weights_are_merged_once_for_all_passes_and_not_kept():
    policy, batch = tiny_policy(moved=True), groups()
    with policy.held():
        policy.logp(batch, FULL)
        held = dict(policy.context.weights)
        policy.logp(batch, FULL)
        assert policy.context.weights.keys() == held.keys() and all(policy.context.weights[key] is held[key] for key in held)
        assert {present for _, present in held} == {FULL.present}
    assert policy.context.weights is None
