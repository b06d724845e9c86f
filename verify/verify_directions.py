"""Directions: v_act against its definition, pooling over the completion alone, Haar draws uniform on the sphere."""

import numpy as np
import pytest
import torch
from scipy import stats

from projected_grpo.gate.directions import (
    DirectionError,
    direction_rows,
    extract_v_act,
    haar,
    load_direction,
    load_directions,
    pool_pairs,
    v_act,
)
from projected_grpo.parquet import write_table
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.tables import DIRECTIONS
from verify.tiny import RANK, tiny_policy


def bottlenecks_by_hand(policy, tokens, start):
    """Mean over positions start.. of (A0 + dA)[:r] x for each layer, x caught at the layer's input, quarantine reset."""
    caught, handles = {}, []
    for name, layer in policy.layers.items():
        handles.append(layer.register_forward_hook(lambda m, args, out, name=name: caught.__setitem__(name, args[0][0])))
    saved = {name: tensor.clone() for name, tensor in policy.state().items()}
    policy.reset_quarantine()
    with torch.no_grad():
        policy.base.model(torch.tensor([tokens]))
        pooled = [((layer.A0 + layer.dA)[:RANK] @ caught[name][start:].T).mean(1) for name, layer in policy.layers.items()]
    for handle in handles:
        handle.remove()
    policy.load_state(saved, "the saved copy")
    return torch.stack(pooled)


def test_pooling_is_the_mean_over_completion_positions_and_ignores_prompt_and_padding():
    policy = tiny_policy(moved=True)
    prompts, completions = [[4, 5, 6], [7, 8, 9, 10, 11]], [[20, 21, 22, 23], [30, 31]]
    pooled, _ = policy.read_deployed(TokenBatch.collate(prompts, completions))
    for row in (0, 1):
        expected = bottlenecks_by_hand(policy, prompts[row] + completions[row], len(prompts[row]))
        torch.testing.assert_close(pooled[row], expected, rtol=1e-4, atol=1e-5)
    alone, _ = policy.read_deployed(TokenBatch.collate(prompts[1:], completions[1:]))
    torch.testing.assert_close(pooled[1:], alone, rtol=1e-4, atol=1e-5)


def test_v_act_is_the_mean_paired_difference_of_unit_norm_and_points_from_clean_to_hack():
    hack = torch.tensor([[[3.0, 0.0]], [[1.0, 4.0]]])
    clean = torch.tensor([[[1.0, 0.0]], [[-3.0, 0.0]]])
    torch.testing.assert_close(v_act(hack, clean), torch.tensor([[3.0, 2.0]]) / 13**0.5)


def test_extraction_pools_both_sides_under_the_same_prompts():
    policy = tiny_policy(moved=True)
    sides = {"prompt": [[4, 5], [6, 7, 8], [9]], "hack": [[10, 11, 12], [13], [14, 15]], "clean": [[16], [17, 18], [19, 20, 21]]}
    found = extract_v_act(policy, sides, micro_batch=2)
    difference = sum(
        bottlenecks_by_hand(policy, p + h, len(p)) - bottlenecks_by_hand(policy, p + c, len(p))
        for p, h, c in zip(sides["prompt"], sides["hack"], sides["clean"])
    )
    torch.testing.assert_close(found, difference / difference.norm(dim=-1, keepdim=True), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        pool_pairs(policy, sides["prompt"], sides["hack"], 1), pool_pairs(policy, sides["prompt"], sides["hack"], 3),
        rtol=1e-4, atol=1e-5,
    )  # fmt: skip


def test_sides_that_do_not_differ_are_refused():
    with pytest.raises(DirectionError, match="no difference"):
        v_act(torch.ones(3, 2, 4), torch.ones(3, 2, 4))


def test_haar_draws_have_unit_norm_and_are_uniform_on_the_sphere():
    """A coordinate of a uniform point on the sphere in r dimensions: (x + 1) / 2 is Beta((r-1)/2, (r-1)/2)."""
    draws = haar(modules=5, rank=8, draws=400, seed=3).numpy()
    assert np.abs(np.linalg.norm(draws, axis=-1) - 1).max() < 1e-5
    for coordinate in range(8):
        sample = (draws[..., coordinate].flatten() + 1) / 2
        assert stats.kstest(sample, stats.beta(3.5, 3.5).cdf).pvalue > 1e-3
    pairs = np.einsum("kmr,kmr->km", draws[::2], draws[1::2]).flatten()  # between draws, also Beta
    assert stats.kstest((pairs + 1) / 2, stats.beta(3.5, 3.5).cdf).pvalue > 1e-3


def test_a_haar_draw_does_not_depend_on_how_many_are_drawn():
    assert torch.equal(haar(4, 3, 8, seed=0)[:2], haar(4, 3, 2, seed=0))
    assert not torch.equal(haar(4, 3, 1, seed=0), haar(4, 3, 1, seed=1))


def test_a_direction_file_round_trips_and_a_wrong_one_is_refused_by_module(tmp_path):
    modules, draws = ["a", "b"], haar(2, 3, 2, seed=0)
    rows = [row for k in range(2) for row in direction_rows("haar", k, modules, draws[k])]
    path = tmp_path / "haar" / "direction.parquet"
    write_table(path, DIRECTIONS, rows)
    assert torch.equal(load_directions(path, modules, 3), draws)
    assert torch.equal(load_direction(path, 1, modules, 3), draws[1])
    with pytest.raises(DirectionError, match=r"direction.parquet: gate.draw is 2, but the file holds draws 0 to 1"):
        load_direction(path, 2, modules, 3)
    with pytest.raises(DirectionError, match=r"direction.parquet: draw 0: module 'c' is missing"):
        load_directions(path, ["a", "b", "c"], 3)
    with pytest.raises(DirectionError, match=r"module 'b' is not in the model"):
        load_directions(path, ["a"], 3)
    with pytest.raises(DirectionError, match=r"has 3 numbers, expected rank 4"):
        load_directions(path, modules, 4)
    other = tmp_path / "v_act" / "direction.parquet"
    write_table(other, DIRECTIONS, rows)
    with pytest.raises(DirectionError, match=r"holds the direction 'haar', expected 'v_act'"):
        load_directions(other, modules, 3)
    rows[2]["vector"] = [2.0, 0.0, 0.0]
    write_table(path, DIRECTIONS, rows)
    with pytest.raises(DirectionError, match=r"draw 1: module 'a' has norm 2.0000, expected 1"):
        load_directions(path, modules, 3)
