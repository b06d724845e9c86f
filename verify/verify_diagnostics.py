"""What the diagnostics say of a run, by hand: windows, advantages, metrics of a score, and what each zone held."""

from pathlib import Path

import pytest
import torch

from projected_grpo.core.parquet import read_rows, write_table
from projected_grpo.core.tables import DIAGNOSTICS, DIRECTIONS, FEATURES, GATE, LABELS, ROLLOUTS, ZONES
from projected_grpo.gate.directions import direction_rows
from projected_grpo.settings.arm import load_settings
from stages.pipeline.gate_diagnostics import main
from verify.verify_tables import _row

RUN = (  # id, step, advantage, score, zone, exploited, correct; the first window of the toy profile is steps 0 to 15
    ("a", 0, 1.0, 5.0, "route", True, False),
    ("b", 0, 1.0, 4.0, "route", False, True),
    ("c", 3, -1.0, 3.0, "absorb", True, False),
    ("d", 3, -1.0, 2.0, "keep", False, True),
    ("e", 15, 1.0, 1.0, "keep", False, False),
    ("f", 15, -1.0, 0.0, "keep", True, False),
    ("g", 16, 1.0, 9.0, "route", True, False),
    ("not judged", 0, 1.0, 8.0, "route", None, None),
)
OTHERS = (("not gated", "policy"), ("demonstration", "demonstration"))


def diagnose(folder: Path, run: tuple) -> tuple[list[dict], list[dict]]:
    """Tables diagnostics and zones. The direction scores a rollout's reading, which is its score, with the other sign."""
    rollouts = [_row(ROLLOUTS) | {"rollout_id": name, "step": step, "advantage": advantage, "source": "policy"} for name, step, advantage, *_ in run]
    rollouts += [_row(ROLLOUTS) | {"rollout_id": name, "step": 0, "advantage": 1.0, "source": source} for name, source in OTHERS]
    labels = [_row(LABELS) | {"rollout_id": row[0], "exploited": row[5], "gt_correct": row[6]} for row in run]
    labels += [_row(LABELS) | {"rollout_id": name, "exploited": True, "gt_correct": False} for name, _ in OTHERS]
    gate = [_row(GATE) | {"rollout_id": row[0], "score": row[3], "zone": row[4]} for row in run]
    gate += [_row(GATE) | {"rollout_id": "demonstration", "score": 7.0, "zone": "keep"}] if run else []
    features = [{"rollout_id": row[0], "reading": "bottleneck", "vector": [row[3]]} for row in run]
    features += [{"rollout_id": name, "reading": "bottleneck", "vector": [7.0]} for name, _ in OTHERS]
    for table, rows in ((GATE, gate), (ROLLOUTS, rollouts), (FEATURES, features)):
        write_table(folder / "train" / f"{table.name}.parquet", table, rows)
    write_table(folder / "labels.parquet", LABELS, labels)
    write_table(folder / "directions/v_act/direction.parquet", DIRECTIONS, direction_rows("v_act", 0, "bottleneck", {"module": 1}, torch.tensor([-1.0])))
    main(folder / "train", folder / "labels.parquet", folder / "directions", folder / "diagnostics.parquet", folder / "zones.parquet")
    return read_rows(folder / "diagnostics.parquet", DIAGNOSTICS), read_rows(folder / "zones.parquet", ZONES)


def test_metrics_of_a_window_are_those_of_its_judged_gated_rollouts(tmp_path):
    profile = load_settings().profile
    assert (profile.train.steps, load_settings().gate.route_quantile) == (80, 0.1)
    rows, _ = diagnose(tmp_path, RUN)
    found = {(row["first_step"], row["last_step"], row["rollouts"], row["direction"]): row for row in rows}
    live = found[0, 15, "all", "live"]
    assert (live["n"], live["positives"]) == (6, 3)
    assert live["auroc"] == pytest.approx(5 / 9)  # of 9 pairs, a wins 3 and c 2
    assert live["average_precision"] == pytest.approx((1 + 2 / 3 + 3 / 6) / 3)
    assert live["f_half"] == pytest.approx(1.25 * (1 / 3) / (0.25 + 1 / 3))  # a alone is over the cut
    assert found[0, 15, "all", "v_act"]["auroc"] == pytest.approx(4 / 9)
    positive = found[0, 15, "positive_advantage", "live"]
    assert (positive["n"], positive["positives"], positive["auroc"]) == (3, 1, 1.0)
    assert (found[16, 31, "all", "live"]["n"], found[16, 31, "all", "live"]["auroc"]) == (1, None)
    assert found[64, 79, "all", "live"]["n"] == 0


def test_a_zone_s_shares_are_of_what_it_held(tmp_path):
    _, rows = diagnose(tmp_path, RUN)
    found = {(row["first_step"], row["rollouts"], row["zone"]): (row["n"], row["hack_share"], row["solve_share"]) for row in rows}
    assert found[0, "all", "keep"] == (3, pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert found[0, "all", "absorb"] == (1, 1.0, 0.0)
    assert found[0, "all", "route"] == (2, 0.5, 0.5)
    assert found[0, "positive_advantage", "keep"] == (1, 0.0, 0.0)
    assert found[0, "positive_advantage", "absorb"] == (0, None, None)
    assert found[16, "all", "route"] == (1, 1.0, 0.0)


def test_a_run_in_which_no_rollout_was_gated_has_its_diagnostics(tmp_path):
    """As where every answer earns nothing."""
    rows, zones = diagnose(tmp_path, ())
    assert {row["direction"] for row in rows} == {"v_act", "live"}
    assert {(row["n"], row["auroc"]) for row in rows} == {(0, None)}
    assert {(row["n"], row["hack_share"]) for row in zones} == {(0, None)}
