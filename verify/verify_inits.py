"""Every initialization: its values by independent computation, no net delta at the start, blocks that stay apart, files that
say what they are."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from projected_grpo.core.base import Base
from projected_grpo.core.seeds import derive_seed
from projected_grpo.gate.zones import ABSORB, KEEP, ROUTE, zone_state
from projected_grpo.grpo.update import gradient_norms
from projected_grpo.policy.adapter import BOTH, DEPLOYED_ALONE, target_layers
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.policy.inits import FROM_PAIRS, initialize, input_differences, load_init, save_init
from projected_grpo.policy.origin import AdapterError
from projected_grpo.policy.policy import Policy
from projected_grpo.policy.readings import read_deployed
from projected_grpo.settings.arm import Adapter
from verify.tiny import RANK, base_logp, tiny_batch, tiny_differences, tiny_init, tiny_model, tiny_policy, tiny_tokenizer
from verify.verify_adapter import gradients

INITS = ["gaussian", "pissa", "corda", "scorda", "scorda_reversed", "antipasto"]
EVEN_THEN_ODD = [0, 2, 4, 1, 3, 5]  # singular directions of the slots, for RANK 3
every_init = pytest.mark.parametrize("init", INITS)


def weights() -> dict[str, np.ndarray]:
    return {name: layer.weight.numpy().astype(float) for name, layer in target_layers(tiny_model()).items()}


def slots(init: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Layer -> (A0, B0), in double precision."""
    layers = tiny_init(tiny_model(), init).layers
    return {name: (parts["A0"].double().numpy(), parts["B0"].double().numpy()) for name, parts in layers.items()}


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def assert_same_directions(A0, B0, U, Vh):
    """Each slot's rank-one product, in which the SVD's free sign cancels."""
    for slot, k in enumerate(EVEN_THEN_ODD):
        np.testing.assert_allclose(np.outer(B0[:, slot], A0[slot]), np.outer(U[:, k], unit(Vh[k])), atol=1e-5)


def test_gaussian_draws_are_those_of_the_seed_and_the_layer_s_name():
    parts = tiny_init(tiny_model()).layers["model.layers.1.mlp.down_proj"]
    rng = torch.Generator().manual_seed(derive_seed(0, "adapter", "model.layers.1.mlp.down_proj"))
    assert torch.equal(parts["A0"], torch.randn(2 * RANK, 48, generator=rng) / 48**0.5)
    assert torch.equal(parts["B0"], torch.randn(32, 2 * RANK, generator=rng) / (2 * RANK) ** 0.5)


def test_pissa_splits_the_leading_singular_directions_of_the_weight_into_even_and_odd():
    found = slots("pissa")
    for name, W in weights().items():
        U, _, Vh = np.linalg.svd(W)
        assert_same_directions(*found[name], U, Vh)


def test_antipasto_keeps_the_leading_singular_directions_and_values():
    layers = tiny_init(tiny_model(), "antipasto").layers
    for name, W in weights().items():
        U, S, Vh = np.linalg.svd(W)
        parts = {part: tensor.double().numpy() for part, tensor in layers[name].items()}
        assert_same_directions(parts["Vh"], parts["U"], U, Vh)
        np.testing.assert_allclose(parts["S"], S[EVEN_THEN_ODD], rtol=1e-5)


def test_corda_is_the_svd_of_the_weight_times_the_root_of_the_pairs_second_moment():
    """With C and its roots formed in full, by its eigenvectors."""
    found, differences = slots("corda"), tiny_differences(tiny_model())
    for name, W in weights().items():
        D = differences[name].double().numpy()
        d_in, C = W.shape[1], D.T @ D / len(D)
        C += 1e-3 * np.trace(C) / d_in * np.eye(d_in)
        values, vectors = np.linalg.eigh(C)
        U, _, Vh = np.linalg.svd(W @ (vectors * values**0.5) @ vectors.T)
        assert_same_directions(*found[name], U, Vh @ (vectors * values**-0.5) @ vectors.T)


@pytest.mark.parametrize("init, seeded, other", [("scorda", slice(3, 4), slice(0, 3)), ("scorda_reversed", slice(0, 1), slice(3, 6))])
def test_scorda_seeds_one_block_with_the_mean_difference_and_its_image_and_keeps_the_rest_apart(init, seeded, other):
    found, differences = slots(init), tiny_differences(tiny_model())
    for name, W in weights().items():
        A0, B0 = found[name]
        u_in = unit(differences[name].double().numpy().mean(0))
        u_out = unit(W @ u_in)
        assert A0[seeded] @ u_in > 0.999 and u_out @ B0[:, seeded] > 0.999  # the sign is that of hack minus clean
        assert np.abs(A0[other] @ u_in).max() < 0.1 and np.abs(u_out @ B0[:, other]).max() < 0.1
        U, _, Vh = np.linalg.svd(W)
        for slot, k in enumerate(EVEN_THEN_ODD):
            if slot != seeded.start:
                right, left = unit(Vh[k] - u_in * (u_in @ Vh[k])), unit(U[:, k] - u_out * (u_out @ U[:, k]))
                np.testing.assert_allclose(np.outer(B0[:, slot], A0[slot]), np.outer(left, right), atol=1e-5)


@pytest.mark.parametrize("init", ["pissa", "corda", "scorda", "scorda_reversed"])
def test_rows_and_columns_are_unit_vectors_and_the_blocks_do_not_share_a_direction(init):
    for A0, B0 in slots(init).values():
        np.testing.assert_allclose(np.linalg.norm(A0, axis=1), 1, atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(B0, axis=0), 1, atol=1e-6)
        assert np.abs(A0[:RANK] @ A0[RANK:].T).max() < 0.5  # 0.32 at most; equal blocks have 1
        assert np.abs(B0[:, :RANK].T @ B0[:, RANK:]).max() < 0.5


def test_input_differences_are_hack_minus_clean_means_over_the_completion_of_what_the_layer_reads():
    model = tiny_model()
    sides = {"prompt": [[4, 5, 6], [7], [8, 9]], "hack": [[20, 21], [22, 23, 24, 25], [26]], "clean": [[27], [28, 29], [30, 31, 32]]}
    hack, clean = (TokenBatch.collate(sides["prompt"], sides[side]) for side in ("hack", "clean"))
    found = input_differences(model, hack, clean, 2)

    def mean_input(prompt: list[int], completion: list[int], number: int) -> torch.Tensor:
        hidden = model.model(torch.tensor([prompt + completion]), output_hidden_states=True).hidden_states[number]
        return model.model.layers[number].input_layernorm(hidden)[0, len(prompt) :].mean(0)

    for row, (prompt, hack, clean) in enumerate(zip(*sides.values())):
        for number in (0, 1):
            expected = mean_input(prompt, hack, number) - mean_input(prompt, clean, number)
            torch.testing.assert_close(found[f"model.layers.{number}.self_attn.q_proj"][row], expected, rtol=1e-4, atol=1e-5)


@every_init
def test_the_net_delta_is_exactly_zero_at_the_start_and_the_bottleneck_alive(init):
    policy, batch = tiny_policy(moved=False, init=init), tiny_batch()
    with torch.no_grad():
        base = base_logp(policy, batch)
        assert torch.equal(policy.logp(batch), base)
        for zone in (KEEP, ABSORB, ROUTE):
            assert torch.equal(policy.logp(batch, zone_state(zone, "output")), base)
    assert all(torch.equal(layer.merged(BOTH), layer.base.weight) for layer in policy.layers.values())
    assert (read_deployed(policy, batch, ["bottleneck"])[0]["bottleneck"].norm(dim=-1) > 0).all()


@every_init
def test_training_can_leave_the_start(init):
    policy, batch = tiny_policy(moved=False, init=init), tiny_batch()
    deployed, quarantine = gradients(policy, batch, [ABSORB] * len(batch))
    assert deployed.any() and quarantine.any()


@every_init
@pytest.mark.parametrize("zone, trained", [(KEEP, (True, False)), (ABSORB, (True, True)), (ROUTE, (False, True))])
def test_each_zone_trains_every_part_of_its_blocks_and_no_other(init, zone, trained):
    policy, batch = tiny_policy(moved=True, init=init), tiny_batch()
    gradients(policy, batch, [zone] * len(batch))
    for layer in policy.layers.values():
        for block, parts in enumerate(layer.block_gradients()):
            assert all(bool(part.any()) == trained[block] for part in parts)


@every_init
def test_the_two_blocks_gradients_are_all_gradients(init):
    policy, batch = tiny_policy(moved=True, init=init), tiny_batch()
    gradients(policy, batch, [ABSORB] * len(batch))
    total = torch.cat([parameter.grad.flatten() for parameter in policy.parameters()]).norm()
    deployed, quarantine = gradient_norms(policy)
    assert (deployed**2 + quarantine**2) ** 0.5 == pytest.approx(float(total), rel=1e-4)


def trained_by_block(policy: Policy) -> list[tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]]:
    """What each layer trains, split as its gradients are."""
    for parameter in policy.parameters():
        parameter.grad = parameter.detach().clone()
    return [layer.block_gradients() for layer in policy.layers.values()]


@every_init
def test_ablation_has_teeth_and_is_the_reset_of_the_quarantine(init):
    policy, batch = tiny_policy(moved=True, init=init), tiny_batch()
    found, ablated = read_deployed(policy, batch, ["bottleneck"])
    pooled = found["bottleneck"]
    with torch.no_grad():
        full = policy.logp(batch)
        assert torch.equal(policy.logp(batch, zone_state(KEEP, "output")), ablated)
    assert (full - ablated).abs().max() > 1e-2
    merged = [layer.merged(DEPLOYED_ALONE) for layer in policy.layers.values()]
    before = [[part.clone() for part in blocks[0]] for blocks in trained_by_block(policy)]
    policy.reset_quarantine()
    with torch.no_grad():
        torch.testing.assert_close(policy.logp(batch), ablated)
    torch.testing.assert_close(read_deployed(policy, batch, ["bottleneck"])[0]["bottleneck"], pooled)
    for weight, layer in zip(merged, policy.layers.values()):
        torch.testing.assert_close(layer.merged(BOTH), weight)
    for kept, (deployed, quarantine) in zip(before, trained_by_block(policy)):
        assert not any(part.any() for part in quarantine)
        assert all(torch.equal(part, old) and part.any() for part, old in zip(deployed, kept))


@every_init
def test_a_merged_weight_computes_its_layer(init):
    policy = tiny_policy(moved=True, init=init)
    for layer in policy.layers.values():
        x = torch.randn(2, 3, layer.base.in_features, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            torch.testing.assert_close(x @ layer.merged(BOTH).T, layer(x), rtol=1e-4, atol=1e-5)
            layer.reset_quarantine()
            torch.testing.assert_close(x @ layer.merged(DEPLOYED_ALONE).T, layer(x), rtol=1e-4, atol=1e-5)


@every_init
def test_an_adapter_file_restores_every_tensor_into_a_fresh_policy(init, tmp_path):
    policy, batch = tiny_policy(moved=True, init=init), tiny_batch()
    policy.save(tmp_path, uses_ground_truth=False)
    fresh = tiny_policy(moved=False, init=init)
    fresh.load(tmp_path)
    assert all(torch.equal(tensor, fresh.state()[name]) for name, tensor in policy.state().items())
    with torch.no_grad():
        assert torch.equal(fresh.logp(batch), policy.logp(batch))


def test_an_adapter_of_another_initialization_or_base_model_is_refused_with_both_values(tmp_path):
    tiny_policy(moved=True, init="pissa").save(tmp_path, uses_ground_truth=False)
    with pytest.raises(AdapterError, match=r"adapter.safetensors: found adapter.init 'pissa', expected 'antipasto'; run the train_arm"):
        tiny_policy(moved=False, init="antipasto").load(tmp_path)
    tiny_policy(moved=True).save(tmp_path, uses_ground_truth=False)
    model = tiny_model()
    other_seed = Policy(Base(model, tiny_tokenizer()), tiny_init(model, seed=7), 1.0)
    with pytest.raises(AdapterError, match="found adapter.seed 0, expected 7"):
        other_seed.load(tmp_path)
    model = tiny_model(seed=1)
    other_base = Policy(Base(model, tiny_tokenizer()), tiny_init(model), 1.0)
    with pytest.raises(AdapterError, match="belongs to another base model, found weights of sha256 .*, expected"):
        other_base.load(tmp_path)
    path = tmp_path / "adapter.safetensors"
    save_file(load_file(path), path)
    with pytest.raises(AdapterError, match="its metadata has no key 'origin'"):
        tiny_policy(moved=False).load(tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(AdapterError, match="adapter.safetensors: cannot be read as safetensors"):
        tiny_policy(moved=False).load(tmp_path)


@every_init
def test_an_initialization_file_restores_it_and_is_refused_for_other_settings_or_another_base_model(init, tmp_path):
    made = tiny_init(tiny_model(), init)
    save_init(made, tmp_path)
    found = load_init(tmp_path, made.origin.adapter)
    assert found.origin == made.origin and list(found.layers) == list(made.layers) == sorted(made.layers)
    for name, parts in made.layers.items():
        assert parts.keys() == found.layers[name].keys()
        assert all(torch.equal(tensor, found.layers[name][part]) for part, tensor in parts.items())
    with pytest.raises(AdapterError, match=rf"init.safetensors: found adapter.rank {RANK}, expected 2; run the init_adapter stage again"):
        load_init(tmp_path, made.origin.adapter.model_copy(update={"rank": 2}))
    with pytest.raises(AdapterError, match="nowhere/init.safetensors: missing; the init_adapter stage writes it"):
        load_init(tmp_path / "nowhere", made.origin.adapter)
    with pytest.raises(AdapterError, match="the initialization: belongs to another base model"):
        Policy(Base(tiny_model(seed=1), tiny_tokenizer()), found, 1.0)


@every_init
def test_the_file_depends_on_the_pairs_only_where_the_initialization_is_made_from_them(init, tmp_path):
    contents = []
    for seed in (0, 0, 1):
        model = tiny_model()
        save_init(initialize(model, Adapter(init=init, rank=RANK, seed=0), tiny_differences(model, seed)), tmp_path)
        contents.append((tmp_path / "init.safetensors").read_bytes())
    assert contents[0] == contents[1]
    assert (contents[0] != contents[2]) == (init in FROM_PAIRS)


def test_what_cannot_be_initialized_is_refused_by_layer():
    model = tiny_model()
    with pytest.raises(AdapterError, match=r"adapter.init=pissa: layer 'model.layers.0.mlp.down_proj': has 32 .* is 34; lower adapter.rank"):
        initialize(model, Adapter(init="pissa", rank=17, seed=0), {})
    same = {name: torch.zeros_like(tensor) for name, tensor in tiny_differences(model).items()}
    for init in FROM_PAIRS:
        with pytest.raises(AdapterError, match="its input does not differ between the pairs' sides"):
            initialize(model, Adapter(init=init, rank=RANK, seed=0), same)


@every_init
def test_weight_decay_alone_pulls_every_part_to_the_start(init):
    policy = tiny_policy(moved=True, init=init)
    before = [parameter.detach().clone() for parameter in policy.parameters()]
    optimizer = torch.optim.AdamW(policy.parameters(), lr=0.5, weight_decay=0.1)
    for parameter in policy.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for parameter, old in zip(policy.parameters(), before):
        torch.testing.assert_close(parameter.detach(), old * (1 - 0.5 * 0.1))
