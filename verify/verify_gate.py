"""The gate: cuts against brute force, rescoring after a refresh, ties, the first steps, zones by policy, zones dealt anew."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from projected_grpo.gate.directions import DirectionError
from projected_grpo.gate.thresholds import ReadingBuffer, cosine, pair_cuts, quantile_cuts, score, weighted_quantile
from projected_grpo.gate.zones import ABSORB, KEEP, ROUTE, Gate, assign_zones, deal, restrict
from projected_grpo.settings.arm import Gate as GateSettings


def gate_settings(**changes) -> GateSettings:
    values = dict(
        policy="route", direction="v_act", draw=0, site="bottleneck", score="activation", modules=".*", standardised=False,
        extraction="mean", cuts="quantile", keep_quantile=0.1, route_quantile=0.1, half_life=96.0, buffer=8192, warmup=0,
        refresh_every=0, masking="output", features=["bottleneck"],
    )  # fmt: skip
    return GateSettings(**(values | changes))


def gate_of(direction: torch.Tensor, widths: dict[str, int] | None = None, **changes) -> Gate:
    return Gate(gate_settings(**changes), direction, widths or {"m": len(direction)})


def brute_force_quantile(scores, weights, q):
    """The smallest score whose scores at or below it carry at least q of the weight, by definition."""
    total = sum(weights)
    return min(s for s in scores if sum(w for t, w in zip(scores, weights) if t <= s) >= q * total * (1 - 1e-9))


@settings(deadline=None, max_examples=200)
@given(
    scores=st.lists(st.integers(-5, 5), min_size=1, max_size=30),
    q=st.sampled_from([0.05, 0.1, 0.25, 0.5, 0.9, 0.95]),
    half_life=st.sampled_from([0.7, 3.0, 96.0, float("inf")]),
)
def test_weighted_quantiles_equal_the_definition(scores, q, half_life):
    age = range(len(scores) - 1, -1, -1)
    weights = [0.5 ** (a / half_life) for a in age]
    found = weighted_quantile(torch.tensor(scores, dtype=torch.float32), torch.tensor(weights), q)
    assert found == brute_force_quantile(scores, weights, q)


def test_recent_rollouts_weigh_more():
    for half_life, expected in ((10.0, (1.0, 1.0)), (1e9, (0.0, 1.0)), (None, (0.0, 1.0))):
        buffer = ReadingBuffer(capacity=1000, half_life=half_life)
        buffer.append(torch.zeros(100, 1))
        buffer.append(torch.ones(30, 1))  # with half-life 10, weight 1 - 2^-3 of nearly all
        assert quantile_cuts(buffer.readings[:, 0], buffer.weights(), 0.2, 0.2) == expected
    assert buffer.weights().tolist() == [1.0] * 130


def test_the_buffer_keeps_the_newest_rollouts():
    buffer = ReadingBuffer(capacity=4, half_life=1e9)
    buffer.append(torch.arange(3.0).view(3, 1))
    buffer.append(torch.arange(3.0, 6.0).view(3, 1))
    assert buffer.readings.flatten().tolist() == [2.0, 3.0, 4.0, 5.0]


def test_a_refreshed_direction_rescores_the_past():
    torch.manual_seed(0)
    readings, old, new = torch.randn(40, 6), torch.randn(6), torch.randn(6)
    gate = gate_of(old, half_life=1e9)
    gate.assign(readings[:30])
    gate.aim(new)
    decision = gate.assign(readings[30:])
    expected = [sum(float(readings[i, k] * new[k]) for k in range(6)) for i in range(40)]
    weights = [1.0] * 40
    assert decision.t_low == pytest.approx(brute_force_quantile(expected, weights, 0.1), abs=1e-5)
    negated = [-value for value in expected]
    assert decision.t_high == pytest.approx(-brute_force_quantile(negated, weights, 0.1), abs=1e-5)


def test_the_current_rollouts_enter_the_buffer_before_the_cuts_are_taken():
    gate = gate_of(torch.ones(1), keep_quantile=0.25, route_quantile=0.25, half_life=1e9)
    decision = gate.assign(torch.arange(8.0).view(8, 1))  # the very first step
    assert (decision.t_low, decision.t_high) == (1.0, 6.0)
    assert decision.zones.tolist() == [KEEP, KEEP, ABSORB, ABSORB, ABSORB, ABSORB, ROUTE, ROUTE]


def test_a_high_score_is_routed_and_a_low_one_kept():
    zones = assign_zones(torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]), -1.0, 1.0)
    assert zones.tolist() == [KEEP, KEEP, ABSORB, ROUTE, ROUTE]


def test_equal_scores_are_absorbed():
    gate = gate_of(torch.ones(1))
    assert gate.assign(torch.ones(20, 1)).zones.tolist() == [ABSORB] * 20


def test_warm_up_absorbs_until_the_buffer_holds_enough():
    gate = gate_of(torch.ones(1), warmup=16, route_quantile=0.25, half_life=1e9)
    first = gate.assign(torch.arange(8.0).view(8, 1))
    assert first.zones.tolist() == [ABSORB] * 8 and first.t_low is None and first.t_high is None
    assert ROUTE in gate.assign(torch.arange(8.0).view(8, 1)).zones.tolist()


@pytest.mark.parametrize("policy", ["none", "absorb"])
def test_without_routing_every_rollout_is_absorbed_and_scores_are_still_recorded(policy):
    gate = gate_of(torch.ones(1), policy=policy)
    decision = gate.assign(torch.arange(8.0).view(8, 1))
    assert decision.zones.tolist() == [ABSORB] * 8
    assert decision.scores.tolist() == list(range(8)) and decision.t_high == 7.0


def test_a_negated_direction_swaps_keep_and_route_exactly():
    torch.manual_seed(1)
    readings, direction = torch.randn(37, 6), torch.randn(6)
    zones, swapped = gate_of(direction).assign(readings).zones, gate_of(-direction).assign(readings).zones
    assert torch.equal(zones == KEEP, swapped == ROUTE) and torch.equal(zones == ROUTE, swapped == KEEP)
    assert (zones == KEEP).sum() > 0


def test_score_and_cosine_by_hand():
    readings, direction = torch.tensor([[3.0, 4.0, 0.0, 2.0]]), torch.tensor([1.0, 0.0, 0.0, 1.0])
    assert score(readings, direction).item() == 5.0
    assert cosine(readings, direction).item() == pytest.approx(5.0 / (13**0.5 * 2**0.5))  # where the direction is not zero
    dense = torch.tensor([1.0, 1e-9, 1e-9, 1.0])
    assert cosine(readings, dense).item() == pytest.approx(5.0 / (29**0.5 * 2**0.5))


def test_the_tails_can_differ():
    gate = gate_of(torch.ones(1), keep_quantile=0.125, route_quantile=0.375, half_life=None)
    zones = gate.assign(torch.arange(8.0).view(8, 1)).zones
    assert zones.tolist() == [KEEP, ABSORB, ABSORB, ABSORB, ABSORB, ROUTE, ROUTE, ROUTE]


def test_cuts_from_pairs_lie_a_quarter_of_the_gap_around_its_middle_whichever_side_is_higher():
    high, low = torch.tensor([5.0, 7.0]), torch.tensor([1.0, 3.0])  # means 6 and 2
    assert pair_cuts(high, low) == pair_cuts(low, high) == (3.0, 5.0)
    gate = gate_of(torch.tensor([1.0, 0.0]), cuts="pairs")
    pairs = (torch.stack([high, torch.randn(2)], 1), torch.stack([low, torch.randn(2)], 1))
    decision = gate.assign(torch.tensor([[2.9, 9.0], [3.0, 9.0], [3.1, 9.0], [4.9, 9.0], [5.0, 9.0]]), pairs)
    assert (decision.t_low, decision.t_high) == (3.0, 5.0)
    assert decision.zones.tolist() == [KEEP, KEEP, ABSORB, ABSORB, ROUTE]  # no mass is fixed in advance


def test_a_standardised_score_puts_each_module_on_its_own_deviation():
    torch.manual_seed(2)
    readings = torch.randn(50, 5) * torch.tensor([100.0, 100.0, 1.0, 1.0, 1.0]) + 3.0
    direction, widths = torch.randn(5), {"a": 2, "b": 3}
    gate = gate_of(direction, widths, standardised=True, half_life=None)
    gate.assign(readings[:30])
    found = gate.assign(readings[30:]).scores
    dots = torch.stack([readings[:, :2] @ direction[:2], readings[:, 2:] @ direction[2:]], 1).double()
    expected = ((dots - dots.mean(0)) / dots.std(0, correction=0)).sum(1)[30:]
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(gate.score(readings).mean(), torch.tensor(0.0), atol=1e-4, rtol=0)


def test_only_the_named_modules_count():
    widths = {"layers.0.q_proj": 2, "layers.1.q_proj": 1, "layers.1.o_proj": 1}
    direction = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert restrict(direction, widths, "q_proj").tolist() == [1.0, 2.0, 3.0, 0.0]
    assert restrict(direction, widths, r"layers\.1\.").tolist() == [0.0, 0.0, 3.0, 4.0]
    gate = gate_of(direction, widths, modules="o_proj")
    assert gate.assign(torch.eye(4)).scores.tolist() == [0.0, 0.0, 0.0, 4.0]
    gate.aim(2 * direction)  # a refresh keeps to them
    assert gate.direction.tolist() == [0.0, 0.0, 0.0, 8.0]
    with pytest.raises(DirectionError, match="'gate_proj' matches none of the modules, among them 'layers.0.q_proj'"):
        restrict(direction, widths, "gate_proj")


def test_dealt_zones_keep_the_masses_of_each_cell_and_follow_the_order_alone():
    rng = torch.Generator().manual_seed(0)
    zones, cells = torch.randint(3, (4000,), generator=rng), torch.randint(900, (4000,), generator=rng)
    dealt = deal(zones, cells, torch.rand(4000, generator=rng))
    inside = [(cells == cell).nonzero()[:, 0] for cell in cells.unique()]
    assert all(sorted(zones[rows].tolist()) == sorted(dealt[rows].tolist()) for rows in inside)
    # under a random order a rollout keeps its own zone with the chance that a permutation of its cell gives
    chance = sum(sum((zones[rows] == z).sum().item() ** 2 for z in range(3)) / len(rows) for rows in inside) / 4000
    assert (dealt == zones).float().mean().item() == pytest.approx(chance, abs=0.03)


def test_zones_are_dealt_from_keep_to_route_by_rising_order():
    zones, cells = torch.tensor([ROUTE, KEEP, ABSORB, ABSORB, KEEP, ROUTE]), torch.tensor([0, 0, 0, 0, 1, 1])
    dealt = deal(zones, cells, torch.tensor([0.1, 2.0, 0.2, 1.0, 5.0, -5.0]))
    assert dealt.tolist() == [KEEP, ROUTE, ABSORB, ABSORB, ROUTE, KEEP]


@pytest.mark.parametrize("keep, route, kept, routed", [(0.0, 0.25, 0, 2), (0.25, 0.0, 2, 0), (0.0, 0.0, 0, 0)])
def test_a_tail_without_mass_takes_no_rollout(keep, route, kept, routed):
    gate = gate_of(torch.ones(1), keep_quantile=keep, route_quantile=route, half_life=None)
    zones = gate.assign(torch.arange(8.0).view(8, 1)).zones
    assert ((zones == KEEP).sum(), (zones == ROUTE).sum()) == (kept, routed)
    assert quantile_cuts(torch.zeros(3), torch.ones(3), 0.0, 0.0) == (-math.inf, math.inf)


def test_a_score_that_is_not_finite_stops_the_run():
    with pytest.raises(FloatingPointError, match="diverged"):
        gate_of(torch.ones(1)).assign(torch.full((4, 1), float("nan")))
