"""The adapter: zero net delta at the start, three masks with the gradients that the zones promise, exact ablation."""

import pytest
import torch
from torch import nn

from projected_grpo.gate.zones import ABSORB, KEEP, ROUTE, zone_state
from projected_grpo.policy.adapter import BOTH, AdapterContext, adapter_state
from projected_grpo.policy.inits import gaussian
from projected_grpo.policy.lora2r import Lora2r
from projected_grpo.policy.origin import AdapterError
from projected_grpo.policy.readings import read_deployed
from verify.tiny import RANK, base_logp, tiny_batch, tiny_policy


def gradients(policy, batch, zones, weights=None, masking="output"):
    """(deployed, quarantine) gradients of a weighted sum of log-probabilities, concatenated over layers."""
    for parameter in policy.parameters():
        parameter.grad = torch.zeros_like(parameter)
    weights = torch.ones(len(batch)) if weights is None else weights
    for zone in set(zones):
        index = (torch.tensor(zones) == zone).nonzero()[:, 0]
        (policy.logp(batch.select(index), zone_state(zone, masking)).sum(1) * weights[index]).sum().backward()
    blocks = [layer.block_gradients() for layer in policy.layers.values()]
    return tuple(torch.cat([g.flatten() for block in blocks for g in block[side]]) for side in (0, 1))


def test_the_net_delta_is_exactly_zero_at_the_start():
    policy, batch = tiny_policy(moved=False), tiny_batch()
    with torch.no_grad():
        assert torch.equal(policy.logp(batch), base_logp(policy, batch))
    for layer in policy.layers.values():
        assert torch.equal(layer.merged(BOTH), layer.base.weight)


def test_the_bottleneck_is_alive_at_the_start():
    pooled = read_deployed(tiny_policy(moved=False), tiny_batch(), ["bottleneck"])[0]["bottleneck"]
    assert (pooled.norm(dim=-1) > 0).all()


def test_the_layer_equals_the_form_of_the_method_and_so_do_its_gradients():
    """W x + B A x - B0 A0 x with A, B trained directly, in double precision."""
    base = nn.Linear(7, 5, bias=False).double().requires_grad_(False)
    layer = Lora2r("layer", base, AdapterContext(), **gaussian(base.weight, RANK, 0)).double()
    with torch.no_grad():
        layer.dA.normal_()
        layer.dB.normal_()
    A, B = (layer.A0 + layer.dA).detach().requires_grad_(), (layer.B0 + layer.dB).detach().requires_grad_()
    x, weight = torch.randn(2, 4, 7, dtype=torch.double), torch.randn(2, 4, 5, dtype=torch.double)
    expected = base(x) + x @ A.T @ B.T - x @ layer.A0.T @ layer.B0.T
    (expected * weight).sum().backward()
    (layer(x) * weight).sum().backward()
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.dA.grad, A.grad)
    torch.testing.assert_close(layer.dB.grad, B.grad)


def test_output_masks_equal_detaching_and_removing_the_branch_outputs():
    """Against the plain definition: y = W x + sg_d(deployed branch) + m * quarantine branch, row by row."""
    torch.manual_seed(3)
    base = nn.Linear(7, 5, bias=False).double().requires_grad_(False)
    context = AdapterContext()
    layer = Lora2r("layer", base, context, **gaussian(base.weight, RANK, 0)).double()
    with torch.no_grad():
        layer.dA.normal_()
        layer.dB.normal_()
    weight = torch.randn(3, 4, 5, dtype=torch.double)
    results = []
    for masked in (True, False):
        layer.zero_grad()
        x = torch.arange(84, dtype=torch.double).view(3, 4, 7).sin().requires_grad_()
        if masked:
            rows = []
            for row, zone in enumerate((KEEP, ABSORB, ROUTE)):
                with adapter_state(context, state=zone_state(zone, "output")):
                    rows.append(layer(x[row : row + 1]))
            y = torch.cat(rows)
        else:
            def branch(s):
                return x @ layer.dA[s].T @ layer.B0[:, s].T + x @ (layer.A0 + layer.dA)[s].T @ layer.dB[:, s].T

            deployed, quarantine = branch(slice(0, RANK)), branch(slice(RANK, None))
            deployed = torch.stack([deployed[0], deployed[1], deployed[2].detach()])
            quarantine = torch.stack([0 * quarantine[0], quarantine[1], quarantine[2]])
            y = base(x) + deployed + quarantine
        (y * weight).sum().backward()
        results.append((y.detach(), x.grad, layer.dA.grad.clone(), layer.dB.grad.clone()))
    for ours, reference in zip(*results):
        torch.testing.assert_close(ours, reference)


@pytest.mark.parametrize("zone, deployed_trains, quarantine_trains", [(KEEP, True, False), (ABSORB, True, True), (ROUTE, False, True)])
def test_each_zone_trains_its_blocks_and_only_them(zone, deployed_trains, quarantine_trains):
    policy, batch = tiny_policy(moved=True), tiny_batch()
    deployed, quarantine = gradients(policy, batch, [zone] * len(batch))
    assert bool((deployed != 0).any()) == deployed_trains
    assert bool((quarantine != 0).any()) == quarantine_trains


def test_a_mixed_batch_gives_the_sum_of_its_rows_alone():
    policy, batch = tiny_policy(moved=True), tiny_batch()
    zones = [KEEP, ROUTE, ABSORB, ROUTE, KEEP, ABSORB]
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0, -1.0, 2.0])
    mixed = gradients(policy, batch, zones, weights)
    alone = [gradients(policy, batch.select(torch.tensor([i])), [zones[i]], weights[i : i + 1]) for i in range(len(batch))]
    for side in (0, 1):
        torch.testing.assert_close(mixed[side], sum(row[side] for row in alone), rtol=1e-4, atol=1e-5)


def test_forward_values_are_full_for_absorb_and_route_and_ablated_for_keep():
    policy, batch = tiny_policy(moved=True), tiny_batch()
    with torch.no_grad():
        full = policy.logp(batch)
        keep, absorb, route = (policy.logp(batch, zone_state(zone, "output")) for zone in (KEEP, ABSORB, ROUTE))
    _, ablated = read_deployed(policy, batch, [])
    torch.testing.assert_close(absorb, full)
    torch.testing.assert_close(route, full)
    assert torch.equal(keep, ablated)
    assert (keep - full).abs().max() > 1e-2


def test_ablation_is_the_reset_of_the_quarantine_to_its_initialization():
    policy, batch = tiny_policy(moved=True), tiny_batch()
    _, ablated = read_deployed(policy, batch, [])
    before = {name: tensor.clone() for name, tensor in policy.state().items()}
    with torch.no_grad():
        full = policy.logp(batch)
    assert all(torch.equal(before[name], tensor) for name, tensor in policy.state().items())  # reading restores
    policy.reset_quarantine()
    with torch.no_grad():
        torch.testing.assert_close(policy.logp(batch), ablated)
    assert (full - ablated).abs().max() > 1e-2
    for name, tensor in policy.state().items():
        if name.endswith(".dA"):
            assert torch.equal(tensor[:RANK], before[name][:RANK]) and not tensor[RANK:].any()
        if name.endswith(".dB"):
            assert torch.equal(tensor[:, :RANK], before[name][:, :RANK]) and not tensor[:, RANK:].any()


def test_zeroing_the_quarantine_instead_of_resetting_it_would_subtract_the_initialization():
    policy, batch = tiny_policy(moved=False), tiny_batch()
    with torch.no_grad():
        expected = base_logp(policy, batch)
        for layer in policy.layers.values():  # A, B := 0 in the method's form is dA = -A0, dB = -B0 here
            layer.dA[RANK:] = -layer.A0[RANK:]
            layer.dB[:, RANK:] = -layer.B0[:, RANK:]
        assert (policy.logp(batch) - expected).abs().max() > 1e-2


def test_save_and_load_restore_every_tensor_and_refuse_a_foreign_adapter(tmp_path):
    policy, batch = tiny_policy(moved=True), tiny_batch()
    policy.save(tmp_path, uses_ground_truth=False)
    fresh = tiny_policy(moved=False)
    fresh.load(tmp_path)
    with torch.no_grad():
        assert torch.equal(fresh.logp(batch), policy.logp(batch))
    state = policy.state()
    with pytest.raises(AdapterError, match="elsewhere: tensor 'model.layers.0.mlp.down_proj.A0' differs"):
        fresh.load_state(state | {"model.layers.0.mlp.down_proj.A0": state["model.layers.0.mlp.down_proj.A0"] + 1}, "elsewhere")
    del state["model.layers.1.mlp.up_proj.dB"]
    with pytest.raises(AdapterError, match="tensor 'model.layers.1.mlp.up_proj.dB' is missing"):
        fresh.load_state(state, "elsewhere")
    with pytest.raises(AdapterError, match="nowhere"):
        fresh.load(tmp_path / "nowhere")


def test_weight_decay_alone_pulls_the_adapter_to_its_initialization():
    policy = tiny_policy(moved=True)
    start = [parameter.detach().clone() for parameter in policy.parameters()]
    optimizer = torch.optim.AdamW(policy.parameters(), lr=0.5, weight_decay=0.1)
    for parameter in policy.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for parameter, before in zip(policy.parameters(), start):
        torch.testing.assert_close(parameter.detach(), before * (1 - 0.5 * 0.1))
