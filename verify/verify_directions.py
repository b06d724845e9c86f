"""Directions: v_act against its definition, pooling over the completion alone, Haar draws uniform on the sphere."""

import shutil

import numpy as np
import pytest
import torch
from scipy import stats
from torch._subclasses.fake_tensor import FakeTensorMode

from projected_grpo.core import tables
from projected_grpo.core.base import load_base
from projected_grpo.core.parquet import read_rows, write_table
from projected_grpo.core.tables import DIRECTIONS
from projected_grpo.gate.directions import (
    DirectionError,
    direction_rows,
    haar,
    load_direction,
    load_directions,
    pair_signs,
    paired_direction,
    transport,
    unit_modules,
)
from projected_grpo.gate.pairs import PairTokens, pair_differences, pair_tokens
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.policy.inits import load_init
from projected_grpo.policy.policy import Policy
from projected_grpo.policy.readings import module_widths, read_deployed
from projected_grpo.settings.arm import load_settings
from verify.tiny import RANK, tiny_policy
from verify.workspace import dvc, edit


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
    return torch.cat(pooled)


def test_pooling_is_the_mean_over_completion_positions_and_ignores_prompt_and_padding():
    policy = tiny_policy(moved=True)
    prompts, completions = [[4, 5, 6], [7, 8, 9, 10, 11]], [[20, 21, 22, 23], [30, 31]]
    pooled = read_deployed(policy, TokenBatch.collate(prompts, completions), ["bottleneck"])[0]["bottleneck"]
    for row in (0, 1):
        expected = bottlenecks_by_hand(policy, prompts[row] + completions[row], len(prompts[row]))
        torch.testing.assert_close(pooled[row], expected, rtol=1e-4, atol=1e-5)
    alone = read_deployed(policy, TokenBatch.collate(prompts[1:], completions[1:]), ["bottleneck"])[0]["bottleneck"]
    torch.testing.assert_close(pooled[1:], alone, rtol=1e-4, atol=1e-5)


SIDES = {"prompt": [[4, 5], [6, 7, 8], [9]], "hack": [[10, 11, 12], [13], [14, 15]], "clean": [[16], [17, 18], [19, 20, 21]]}
PAIRS = PairTokens(TokenBatch.collate(SIDES["prompt"], SIDES["hack"]), TokenBatch.collate(SIDES["prompt"], SIDES["clean"]))


def test_a_direction_is_the_mean_paired_difference_of_unit_norm_by_module_and_points_from_clean_to_hack():
    differences = torch.tensor([[2.0, 0.0, 5.0], [4.0, 4.0, 1.0]])  # hack - clean of two pairs; modules of widths 2 and 1
    found = paired_direction(differences, torch.ones(2), [2, 1], "mean")
    torch.testing.assert_close(found, torch.tensor([3.0, 2.0, 13**0.5]) / 13**0.5)
    signed = paired_direction(differences, torch.tensor([1.0, -1.0]), [2, 1], "mean")
    torch.testing.assert_close(signed, torch.tensor([-1.0, -2.0, 5**0.5]) / 5**0.5)


def test_t_statistics_weigh_coordinates_by_their_certainty_and_are_limited():
    differences = torch.tensor([[1.0, 10.0, 1.0], [1.2, -8.0, 1.0], [0.8, 1.0, 1.0]])
    mean, error = differences.mean(0)[:2], differences.std(0)[:2] / 3**0.5
    expected = torch.cat([(mean / error).clamp(max=3.0), torch.tensor([3.0])])  # 8.7 is limited; no spread counts as 3
    found = paired_direction(differences, torch.ones(3), [3], "t_statistic")
    torch.testing.assert_close(found, expected / expected.norm())
    assert found[0].item() == pytest.approx(3.0 / expected.norm().item()) and found[1] < 0.1


def test_a_t_statistic_of_one_pair_is_refused():
    with pytest.raises(DirectionError, match="gate.extraction=t_statistic: found 1 pairs, expected two or more"):
        paired_direction(torch.ones(1, 3), torch.ones(1), [3], "t_statistic")


def test_a_direction_turns_on_the_device_where_it_lies():
    """The factors of a model on a GPU, which torch does not need for shapes and devices alone."""
    with FakeTensorMode():
        factors = [torch.empty(3, 5, device="cuda")]
        assert transport(torch.empty(3), factors, factors).device.type == "cpu"


def test_controls_differ_from_v_act_in_the_signs_of_the_pairs_alone():
    assert pair_signs("v_act", 0, 30, 1).tolist() == pair_signs("irrelevant", 0, 30, 1).tolist() == [1.0] * 30
    assert pair_signs("flipped", 0, 30, 1).tolist() == [-1.0] * 30
    draws = torch.stack([pair_signs("shuffled", k, 30, 1) for k in range(400)])
    assert set(draws.flatten().tolist()) == {-1.0, 1.0} and abs(draws.mean()) < 4 / 12000**0.5
    assert len({tuple(draw.tolist()) for draw in draws}) == 400
    assert torch.equal(draws[3], pair_signs("shuffled", 3, 30, 1)) and not torch.equal(draws[3], pair_signs("shuffled", 3, 30, 2))


def test_extraction_reads_both_sides_under_the_same_prompts():
    policy = tiny_policy(moved=True)
    found = pair_differences(policy, PAIRS, ["bottleneck"], 2)["bottleneck"]
    expected = torch.stack(
        [
            bottlenecks_by_hand(policy, p + h, len(p)) - bottlenecks_by_hand(policy, p + c, len(p))
            for p, h, c in zip(SIDES["prompt"], SIDES["hack"], SIDES["clean"])
        ]
    )
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found, pair_differences(policy, PAIRS, ["bottleneck"], 1)["bottleneck"], rtol=1e-4, atol=1e-5)


def test_self_generated_pairs_have_a_prompt_for_each_side():
    base = tiny_policy(moved=False).base
    pair = {"prompt": "a hint\n", "clean_prompt": "no\n", "hack": "exit(0)\n", "clean": "pass\n"}
    tokens = pair_tokens(base, [pair], "code")
    for side, prompt, completion in ((tokens.hack, "a hint\n", "exit(0)\n"), (tokens.clean, "no\n", "pass\n")):
        expected = base.encode(base.tokenizer.bos_token + prompt)
        assert side.tokens[0].tolist() == expected + base.encode(completion) + [base.eos_id]
        assert side.prompt_length.tolist() == [len(expected)]


def test_sides_that_do_not_differ_are_refused():
    with pytest.raises(DirectionError, match="zero in 1 of 2 modules"):
        unit_modules(torch.tensor([1.0, 0.0, 0.0]), [1, 2])


def test_haar_draws_have_unit_norm_and_are_uniform_on_the_sphere():
    """A coordinate of a uniform point on the sphere in r dimensions: (x + 1) / 2 is Beta((r-1)/2, (r-1)/2)."""
    draws = haar([8] * 5, draws=400, seed=3).view(400, 5, 8).numpy()
    assert np.abs(np.linalg.norm(draws, axis=-1) - 1).max() < 1e-5
    for coordinate in range(8):
        sample = (draws[..., coordinate].flatten() + 1) / 2
        assert stats.kstest(sample, stats.beta(3.5, 3.5).cdf).pvalue > 1e-3
    pairs = np.einsum("kmr,kmr->km", draws[::2], draws[1::2]).flatten()  # between draws, also Beta
    assert stats.kstest((pairs + 1) / 2, stats.beta(3.5, 3.5).cdf).pvalue > 1e-3


def test_a_haar_draw_does_not_depend_on_how_many_are_drawn():
    assert torch.equal(haar([3] * 4, 8, seed=0)[:2], haar([3] * 4, 2, seed=0))
    assert not torch.equal(haar([3] * 4, 1, seed=0), haar([3] * 4, 1, seed=1))


def test_a_transported_direction_turns_with_the_read_out():
    """Where the read-outs differ by a rotation R, the direction turns by R, so its scores stay the same."""
    rng = torch.Generator().manual_seed(0)
    old = [torch.randn(3, 10, generator=rng), torch.randn(2, 7, generator=rng)]
    turns = [torch.linalg.qr(torch.randn(k, k, generator=rng))[0] for k in (3, 2)]
    new = [turn @ down for turn, down in zip(turns, old)]
    direction, inputs = haar([3, 2], 1, seed=0)[0], [torch.randn(10, generator=rng), torch.randn(7, generator=rng)]
    moved = transport(direction, old, new)

    def dot(vector: torch.Tensor, downs: list[torch.Tensor]) -> float:
        return float(vector @ torch.cat([down @ x for down, x in zip(downs, inputs)]))

    assert dot(moved, new) == pytest.approx(dot(direction, old), abs=1e-4)
    assert not torch.allclose(moved, direction, atol=0.1)
    torch.testing.assert_close(transport(direction, old, old), direction, atol=1e-5, rtol=1e-5)
    nearby = [down + 0.3 * torch.randn(down.shape, generator=rng) for down in old]
    torch.testing.assert_close(transport(direction, old, nearby)[:3].norm(), torch.tensor(1.0))


def test_a_direction_file_round_trips_and_a_wrong_one_is_refused_by_module(tmp_path):
    widths, draws = {"a": 3, "b": 2}, haar([3, 2], 2, seed=0)
    rows = [row for k in range(2) for row in direction_rows("haar", k, "bottleneck", widths, draws[k])]
    path = tmp_path / "haar" / "direction.parquet"
    write_table(path, DIRECTIONS, rows)
    assert torch.equal(load_directions(path, "haar", "bottleneck", widths), draws)
    assert torch.equal(load_direction(path, "haar", 1, "bottleneck", widths), draws[1])
    with pytest.raises(DirectionError, match=r"direction.parquet: the draw is 2 .*, but the file holds draws 0 to 1"):
        load_direction(path, "haar", 2, "bottleneck", widths)
    with pytest.raises(DirectionError, match=r"direction.parquet: holds no direction at the reading 'residual'"):
        load_directions(path, "haar", "residual", widths)
    with pytest.raises(DirectionError, match=r"direction.parquet: draw 0, reading bottleneck: module 'c' is missing"):
        load_directions(path, "haar", "bottleneck", widths | {"c": 1})
    with pytest.raises(DirectionError, match=r"module 'b' is not in the model"):
        load_directions(path, "haar", "bottleneck", {"a": 3})
    with pytest.raises(DirectionError, match=r"module 'b' has 2 numbers, expected 4"):
        load_directions(path, "haar", "bottleneck", {"a": 3, "b": 4})
    other = tmp_path / "v_act" / "direction.parquet"
    write_table(other, DIRECTIONS, rows)
    with pytest.raises(DirectionError, match=r"holds the direction 'haar', expected 'v_act'"):
        load_directions(other, "v_act", "bottleneck", widths)
    rows[2]["vector"] = [2.0, 0.0, 0.0]
    write_table(path, DIRECTIONS, rows)
    with pytest.raises(DirectionError, match=r"draw 1, reading bottleneck: module 'a' has norm 2.0000, expected 1"):
        load_directions(path, "haar", "bottleneck", widths)


def test_directions_of_gradients_are_extracted_at_the_temperature_of_training(finished, tmp_path):
    """The gradient reading goes through the log-probabilities, which the temperature divides."""
    workspace = tmp_path / "workspace"
    shutil.copytree(finished["v_act"], workspace, symlinks=True)
    edit(workspace / "params.yaml", r"features: \[bottleneck\]", "features: [bottleneck, gradient]")
    edit(workspace / "profiles/smoke.yaml", "temperature: 1.0", "temperature: 0.7")
    artifacts, out = workspace / "artifacts", workspace / "artifacts/directions/v_act"
    dvc(workspace, "repro", "--single-item", "profile", "extract_directions")
    settings = load_settings(workspace)

    def expected(temperature: float) -> tuple[torch.Tensor, dict[str, int]]:
        policy = Policy(load_base(artifacts / "base", "cpu"), load_init(artifacts / "init", settings.adapter), temperature)
        tokens, widths = pair_tokens(policy.base, read_rows(artifacts / "pairs.parquet", tables.PAIRS), "code"), module_widths(policy, "gradient")
        differences = pair_differences(policy, tokens, ["gradient"], settings.profile.train.micro_tokens)["gradient"]
        return paired_direction(differences, torch.ones(len(tokens)), list(widths.values()), "mean"), widths

    trained, widths = expected(0.7)
    found = load_direction(out / "direction.parquet", "v_act", 0, "gradient", widths)
    torch.testing.assert_close(found, trained, rtol=1e-4, atol=1e-5)
    assert (expected(1.0)[0] - found).norm() > 0.05
