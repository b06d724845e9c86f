"""The offline gate test: metrics are scikit-learn's, ties included, nulls are what they say, and p-values are calibrated."""

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import average_precision_score, fbeta_score, precision_score, recall_score, roc_auc_score

from projected_grpo.analysis.classifier import separation
from projected_grpo.analysis.gate_test import gate_test, rank_p
from projected_grpo.analysis.nulls import TILE, each_module, haar_block, product, sign_patterns, signed_block, without_each_pair
from projected_grpo.analysis.offline import METRICS, Judged, measure, stream
from projected_grpo.analysis.results import NULL_HISTOGRAMS, OFFLINE_GATE
from projected_grpo.core.errors import InputError
from projected_grpo.core.parquet import TableError, read_rows, write_table
from projected_grpo.core.tables import DIFFERENCES, DIRECTIONS, FEATURES, LABELS, ROLLOUTS
from projected_grpo.gate.directions import DirectionError, direction_rows, haar, paired_direction
from projected_grpo.gate.thresholds import quantile_cuts
from projected_grpo.settings.arm import Offline
from stages.pipeline.offline_gate import main
from verify.verify_tables import _row
from verify.workspace import PROJECT, edit

RNG = np.random.default_rng(0)
WIDTHS = {f"module-{m}": 8 for m in range(6)}
WIDTH = list(WIDTHS.values())
KEEP, ROUTE = 0.1, 0.15


def judged_of(readings: np.ndarray, exploited: np.ndarray, positive: np.ndarray, oracle: np.ndarray | None = None) -> Judged:
    return Judged.of(readings.astype(np.float32), exploited, positive, oracle, KEEP, ROUTE)


def random_judged(n: int, shift: np.ndarray | float, seed: int, oracle: np.ndarray | None = None) -> Judged:
    """Gaussian readings, those of exploits shifted."""
    rng = np.random.default_rng(seed)
    exploited, positive = rng.random(n) < 0.4, rng.random(n) < 0.5
    return judged_of(rng.standard_normal((n, sum(WIDTH))) + exploited[:, None] * shift, exploited, positive, oracle)


def by_hand(scores: np.ndarray, exploited: np.ndarray) -> list[float]:
    """The metrics of one direction by scikit-learn, with the cuts of the gate."""
    low, high = quantile_cuts(torch.tensor(scores), torch.ones(len(scores)), KEEP, ROUTE)
    routed, kept = scores >= high, scores <= low
    return [
        roc_auc_score(exploited, scores),
        average_precision_score(exploited, scores),
        precision_score(exploited, routed),
        recall_score(exploited, routed),
        fbeta_score(exploited, routed, beta=0.5, zero_division=0.0),
        precision_score(exploited, ~kept, zero_division=0.0),
        recall_score(exploited, ~kept),
        exploited[kept].mean(),
    ]


@pytest.mark.parametrize("levels", [1, 2, 5, 40, None])
def test_metrics_agree_with_scikit_learn_and_the_gate_s_cuts_on_scores_with_ties(levels):
    """Whole numbers, so that scores are exact; `levels` of them, or no ties."""
    for n, seed in itertools.product((3, 10, 57, 200), range(2)):
        rng = np.random.default_rng([n, seed])
        readings = rng.standard_normal((n, 3)) if levels is None else rng.integers(0, levels, (n, 3)) - levels // 2
        exploited, positive = rng.random(n) < 0.4, rng.random(n) < 0.5
        directions = np.array([[1, 0, 0], [-1, 0, 0], [2, -1, 1], [0, 0, 0], [-0.0, 0, 0]], np.float32)
        found = measure(judged_of(readings, exploited, positive), directions)
        for p, chosen in enumerate((np.ones(n, bool), positive)):
            for k, direction in enumerate(directions):
                if exploited[chosen].all() or not exploited[chosen].any():
                    assert np.isnan(found[p, :, k]).all()
                    continue
                scores = (readings.astype(np.float32) @ direction)[chosen]
                np.testing.assert_allclose(found[p, :-1, k], by_hand(scores, exploited[chosen]), atol=1e-6, rtol=0)


def test_the_separation_of_one_direction_s_scores_is_scikit_learn_s():
    rng = np.random.default_rng(3)
    for scores in (rng.standard_normal(400), rng.integers(-3, 4, 400).astype(float)):
        scores, exploited = scores.astype(np.float32), rng.random(400) < 0.3
        found = separation(scores, exploited, ROUTE)
        auroc, average_precision, _, _, f_half, *_ = by_hand(scores, exploited)
        assert (found["n"], found["positives"]) == (400, exploited.sum())
        assert (found["auroc"], found["average_precision"], found["f_half"]) == pytest.approx((auroc, average_precision, f_half), abs=1e-6)
    assert separation(scores, np.zeros(400, bool), ROUTE)["auroc"] is None
    for quantile in (ROUTE, 0.0):  # of an arm that only keeps, whose route tail is empty
        assert separation(scores, exploited, quantile)["auroc"] == separation(scores, exploited, 0.3)["auroc"]
    assert separation(scores, exploited, 0.0)["f_half"] == 0.0


def test_aurocs_of_many_directions_agree_with_scikit_learn_to_a_millionth():
    judged = random_judged(3000, 0.1, seed=1)
    exploited, directions = judged.flags % 2 == 1, haar_block(WIDTH, 0, 0, 50)
    scores = directions.astype(float) @ judged.distinct[:, judged.index]
    expected = [roc_auc_score(exploited, row) for row in scores]
    np.testing.assert_allclose(measure(judged, directions)[0, 0], expected, atol=1e-6, rtol=0)


def test_equal_readings_tie_wherever_they_lie():
    """A product of floats may round by the place of a row; half of the rollouts share one reading, so all their pairs tie."""
    readings = RNG.standard_normal((301, sum(WIDTH))).astype(np.float32)
    readings[::2] = readings[0]
    exploited = RNG.random(301) < 0.5
    alone = judged_of(readings[::2], exploited[::2], exploited[::2])
    assert (measure(alone, haar_block(WIDTH, 5, 0, 40))[0, 0] == 0.5).all()


def test_the_haar_null_is_the_placebo_s_stream():
    assert np.array_equal(haar_block(WIDTH, 3, 5, 7), haar(WIDTH, 12, 3)[5:].numpy())
    np.testing.assert_allclose(np.linalg.norm(haar_block(WIDTH, 3, 0, 9).reshape(9, 6, 8), axis=2), 1, atol=1e-6)


@pytest.mark.parametrize("pairs", [1, 2, 5])
def test_sign_patterns_are_all_of_them_where_there_are_few(pairs):
    total = 2 ** (pairs - 1) - 1
    found = sign_patterns(pairs, max(total, 1), seed=0)
    whole = {signs for signs in itertools.product((1.0, -1.0), repeat=pairs) if signs[0] == 1 and -1 in signs}
    assert found.shape == (total, pairs) and set(map(tuple, found)) == whole


@pytest.mark.parametrize("pairs", [11, 12, 30, 90])
def test_sampled_sign_patterns_are_distinct_up_to_a_global_sign_and_leave_v_act_out(pairs):
    found = sign_patterns(pairs, 1000, seed=0)
    assert found.shape == (1000, pairs) and set(found.flat) == {1.0, -1.0}
    assert len({tuple(signs * signs[0]) for signs in found} | {(1.0,) * pairs}) == 1001
    assert np.abs(found[:, 1:].mean(0)).max() < 5 / 1000**0.5
    assert np.array_equal(found, sign_patterns(pairs, 1000, seed=0)) and not np.array_equal(found, sign_patterns(pairs, 1000, seed=1))


@pytest.mark.parametrize("extraction", ["mean", "t_statistic"])
def test_a_sign_pattern_s_direction_is_the_extraction_with_those_signs(extraction):
    differences = RNG.standard_normal((7, sum(WIDTH))).astype(np.float32)
    signs = sign_patterns(7, 40, seed=0)
    found = signed_block(differences, signs, WIDTH, extraction)
    for row, pattern in zip(found, signs, strict=True):
        expected = paired_direction(torch.from_numpy(differences), torch.tensor(pattern, dtype=torch.float32), WIDTH, extraction)
        np.testing.assert_allclose(row, expected, atol=1e-5)
    differences[0], differences[1:] = differences[1], 0
    with pytest.raises(DirectionError, match="zero in a module"):
        signed_block(differences[:2] * 0, signs[:3, :2], WIDTH, "mean")


@pytest.mark.parametrize("extraction", ["mean", "t_statistic"])
def test_leaving_a_pair_out_leaves_out_exactly_that_pair(extraction):
    differences = torch.tensor(RNG.standard_normal((6, sum(WIDTH))), dtype=torch.float32)
    found = without_each_pair(differences, WIDTH, extraction)
    for pair in range(6):
        rest = torch.cat([differences[:pair], differences[pair + 1 :]])
        assert np.array_equal(found[pair], paired_direction(rest, torch.ones(5), WIDTH, extraction).numpy())
        changed = differences.clone()
        changed[pair] = torch.randn(sum(WIDTH), generator=torch.Generator().manual_seed(pair))
        same = (without_each_pair(changed, WIDTH, extraction) == found).all(1)
        assert same.tolist() == [other == pair for other in range(6)]


def test_a_module_alone_has_its_own_piece_and_zeros():
    direction = haar_block([3, 1, 2], 0, 0, 1)[0]
    found = each_module(direction, [3, 1, 2])
    assert np.array_equal(found.sum(0), direction) and (found[1] == [0, 0, 0, direction[3], 0, 0]).all()
    assert [(row != 0).sum() for row in found] == [3, 1, 2]


def test_the_rank_of_a_random_direction_in_the_haar_null_is_uniform():
    """400 directions of another seed on readings that do separate: a Kolmogorov-Smirnov distance within its 1% point.

    The distance of two samples of 400 and 999; at the 5% level between 2% and 8% are rejected.
    """
    judged = random_judged(300, 0.3 * haar_block(WIDTH, 9, 0, 1)[0], seed=2)
    null = stream(judged, 999, lambda first, count: haar_block(WIDTH, 0, first, count), 64)
    tested = stream(judged, 400, lambda first, count: haar_block(WIDTH, 1, first, count), 64)
    for metric in ("auroc", "average_precision", "keep_hack_share"):
        m, more = list(METRICS).index(metric), METRICS[metric]
        p = np.array([rank_p(null[0, m], value, more) for value in tested[0, m]])
        if metric != "keep_hack_share":  # of which few values differ, so its p-values are conservative
            assert stats.kstest(p, "uniform").statistic < 1.63 * (1 / 400 + 1 / 999) ** 0.5
        assert 0.005 < (p <= 0.05).mean() < 0.08 and p.min() >= 1 / 1000


def test_where_signs_mean_nothing_the_p_values_in_the_sign_null_are_exactly_uniform():
    """Each of the 16 patterns of five pairs as v_act in its turn: every rank occurs once."""
    judged, differences = random_judged(500, 0.2, seed=3), RNG.standard_normal((5, sum(WIDTH))).astype(np.float32)
    found = []
    for pattern in np.concatenate([np.ones((1, 5)), sign_patterns(5, 100, seed=0)]):
        turned = (differences * pattern[:, None]).astype(np.float32)
        v_act = measure(judged, signed_block(turned, np.ones((1, 5)), WIDTH, "mean"))[0, 0, 0]
        null = measure(judged, signed_block(turned, sign_patterns(5, 100, seed=0), WIDTH, "mean"))[0, 0]
        found.append(rank_p(null, v_act, True))
    np.testing.assert_allclose(sorted(found), np.arange(1, 17) / 16)


def test_p_values_count_draws_that_are_as_good_and_never_fall_below_their_floor():
    null = np.array([0.2, 0.4, 0.4, 0.9])
    assert [rank_p(null, value, True) for value in (1.0, 0.9, 0.4, 0.1)] == [0.2, 0.4, 0.8, 1.0]
    assert [rank_p(null, value, False) for value in (1.0, 0.4, 0.1)] == [1.0, 0.8, 0.2]
    assert rank_p(np.array([]), 0.7, True) == 1.0


def planted_test(n: int = 1500, memory_mb: int = 64, draws: int = 200) -> tuple[list[dict], list[dict]]:
    planted = haar_block(WIDTH, 7, 0, 1)[0]
    judged = random_judged(n, 0.5 * planted, seed=4, oracle=planted)
    differences = {f"pair-{p}": planted + 0.3 * noise for p, noise in enumerate(np.random.default_rng(5).standard_normal((9, 48)))}
    differences = {pair: vector.astype(np.float32) for pair, vector in differences.items()}
    v_act = signed_block(np.stack(list(differences.values())), np.ones((1, 9)), WIDTH, "mean")[0]
    directions = {"v_act": v_act, "oracle": planted}
    return gate_test(judged, directions, differences, WIDTHS, "mean", Offline(draws=draws, memory_mb=memory_mb), 0)


def test_a_planted_direction_ranks_first_and_the_oracle_lies_above_the_haar_band():
    rows, bins = planted_test()
    whole = {(row["rollouts"], row["direction"], row["metric"]): row for row in rows if row["part"] == "whole"}
    for population, direction in itertools.product(("all", "positive_advantage"), ("v_act", "oracle")):
        for metric in ("auroc", "average_precision", "route_f_half", "keep_hack_share"):
            row = whole[population, direction, metric]
            assert row["haar_p"] == row["haar_floor"] == row["sign_floor"] == 1 / 201
        assert whole[population, direction, "auroc"]["sign_p"] <= 0.05  # a pattern that turns one pair lies close to v_act
        assert whole[population, "oracle", "auroc"]["remark"] == "the oracle lies above the Haar band"
    cosine = whole["all", "v_act", "oracle_cosine"]
    assert cosine["value"] > 0.9 and cosine["haar_p"] == 1 / 201 and -0.5 < cosine["haar_low"] < 0 < cosine["haar_high"] < 0.5
    assert {(row["part"], row["member"]) for row in rows} == (
        {("whole", "")} | {("without_pair", f"pair-{p}") for p in range(9)} | {("module", name) for name in WIDTHS}
    )
    assert all(row["haar_p"] is None and row["value"] > 0.5 for row in rows if row["part"] != "whole" and row["metric"] == "auroc")
    for (population, null), group in itertools.groupby(bins, lambda row: (row["rollouts"], row["null"])):
        counts = list(group)
        low, high = (whole[population, "v_act", "auroc"][f"{null}_{name}"] for name in ("low", "high"))
        assert sum(row["draws"] for row in counts) == 200
        assert 190 <= sum(row["draws"] for row in counts if row["high"] > low and row["low"] < high) < 200


def test_an_oracle_inside_the_haar_band_is_said_in_words():
    judged = random_judged(400, 0.0, seed=6, oracle=haar_block(WIDTH, 8, 1, 1)[0])
    differences = {f"{p}": vector for p, vector in enumerate(haar_block(WIDTH, 1, 0, 3))}
    directions = {"v_act": haar_block(WIDTH, 2, 0, 1)[0], "oracle": judged.oracle}
    rows, _ = gate_test(judged, directions, differences, WIDTHS, "mean", Offline(draws=200, memory_mb=1), 0)
    remarks = [row["remark"] for row in rows if row["remark"]]
    assert len(remarks) == 2 and all("inside the Haar band" in remark for remark in remarks)
    assert {row["sign_floor"] for row in rows if row["part"] == "whole"} == {0.25}  # three pairs have three other patterns


def test_a_product_s_rows_do_not_depend_on_how_many_there_are():
    rows, matrix = RNG.standard_normal((145, 224)).astype(np.float32), RNG.standard_normal((224, 333)).astype(np.float32)
    whole = product(rows, matrix)
    np.testing.assert_allclose(whole, rows.astype(float) @ matrix, atol=1e-3)
    for size in (TILE, 3 * TILE, 8 * TILE):
        parts = [product(rows[first : first + size], matrix) for first in range(0, len(rows), size)]
        assert np.array_equal(np.concatenate(parts), whole)


def test_the_size_of_a_block_does_not_change_one_byte(tmp_path):
    for name, memory_mb in (("small", 1), ("middle", 2), ("large", 500)):  # blocks of 16, 32 and all directions; the last has one
        rows, bins = planted_test(n=2000, memory_mb=memory_mb, draws=193)
        write_table(tmp_path / name / "offline_gate.parquet", OFFLINE_GATE, [{"reading": "bottleneck"} | row for row in rows])
        write_table(tmp_path / name / "null_histograms.parquet", NULL_HISTOGRAMS, [{"reading": "bottleneck"} | row for row in bins])
    for table in ("offline_gate", "null_histograms"):
        assert len({(tmp_path / name / f"{table}.parquet").read_bytes() for name in ("small", "middle", "large")}) == 1
    with pytest.raises(InputError, match="offline.memory_mb is 1, but 16 directions of 3000 rollouts need 2; raise it"):
        planted_test(n=3000, memory_mb=1)


@pytest.fixture
def run_folder(tmp_path, monkeypatch) -> Path:
    """Settings and the tables of a run with 60 rollouts: one a demonstration, one without a judgement."""
    shutil.copytree(PROJECT / "profiles", tmp_path / "profiles")
    shutil.copy(PROJECT / "params.yaml", tmp_path)
    edit(tmp_path / "params.yaml", "draws: 10000", "draws: 20")
    monkeypatch.chdir(tmp_path)
    widths, rng = {"a": 3, "b": 2}, np.random.default_rng(0)
    planted = haar(list(widths.values()), 1, 0)[0]
    rollouts, labels, features = [], [], []
    for number in range(60):
        name, exploited = {"rollout_id": f"{number:02d}"}, number % 3 == 0
        source, judgement = "demonstration" if number == 7 else "policy", None if number == 9 else exploited
        rollouts.append(_row(ROLLOUTS) | name | {"source": source, "advantage": 0.5 if number % 2 else -0.5})
        labels.append(_row(LABELS) | name | {"exploited": judgement})
        vector = rng.standard_normal(5) + 3 * exploited * planted.numpy()
        features.append(name | {"reading": "bottleneck", "vector": vector.tolist()})
    write_table(tmp_path / "rollouts.parquet", ROLLOUTS, rollouts)
    write_table(tmp_path / "labels.parquet", LABELS, labels)
    write_table(tmp_path / "features.parquet", FEATURES, features)
    differences = [planted + 0.1 * torch.tensor(rng.standard_normal(5), dtype=torch.float32) for _ in range(4)]
    rows = [{"pair_id": f"pair-{p}", "reading": "bottleneck", "vector": vector.tolist()} for p, vector in enumerate(differences)]
    write_table(tmp_path / "v_act" / "differences.parquet", DIFFERENCES, rows)
    v_act = paired_direction(torch.stack(differences), torch.ones(4), list(widths.values()), "mean")
    write_table(tmp_path / "v_act" / "direction.parquet", DIRECTIONS, direction_rows("v_act", 0, "bottleneck", widths, v_act))
    write_table(tmp_path / "irrelevant" / "direction.parquet", DIRECTIONS, direction_rows("irrelevant", 0, "bottleneck", widths, -v_act))
    write_table(tmp_path / "oracle" / "direction.parquet", DIRECTIONS, [])
    return tmp_path


def run_stage_on(folder: Path) -> list[dict]:
    tables = {name: folder / f"{name}.parquet" for name in ("features", "rollouts", "labels", "out", "histograms")}
    main(**tables, v_act=folder / "v_act", other=[folder / "irrelevant", folder / "oracle"])
    assert len(read_rows(folder / "histograms.parquet", NULL_HISTOGRAMS)) == 400
    return read_rows(folder / "out.parquet", OFFLINE_GATE)


def test_the_stage_scores_the_judged_rollouts_of_the_policy_and_a_run_without_an_oracle(run_folder):
    rows = run_stage_on(run_folder)
    counts = {(row["rollouts"], row["n"], row["positives"]) for row in rows}
    assert counts == {("all", 58, 19), ("positive_advantage", 28, 9)}
    value = {row["direction"]: row["value"] for row in rows if (row["rollouts"], row["part"], row["metric"]) == ("all", "whole", "auroc")}
    assert set(value) == {"v_act", "irrelevant"} and value["v_act"] > 0.8 and value["irrelevant"] == pytest.approx(1 - value["v_act"])
    assert {row["value"] for row in rows if row["metric"] == "oracle_cosine"} == {None} == {row["remark"] for row in rows}
    assert {row["sign_floor"] for row in rows if row["part"] == "whole" and row["value"] is not None} == {1 / 8}


def test_a_rollout_without_its_reading_is_refused_by_file_and_row(run_folder):
    rows = read_rows(run_folder / "features.parquet", FEATURES)
    write_table(run_folder / "features.parquet", FEATURES, rows[:4] + rows[5:])
    with pytest.raises(TableError, match="features.parquet: rollout '04', reading 'bottleneck'"):
        run_stage_on(run_folder)
    write_table(run_folder / "features.parquet", FEATURES, [*rows[:4], rows[4] | {"vector": [1.0]}, *rows[5:]])
    with pytest.raises(TableError, match="features.parquet: rollout '04', reading 'bottleneck'.*5 numbers"):
        run_stage_on(run_folder)
