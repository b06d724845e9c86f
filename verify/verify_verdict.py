"""The verdict follows its plan: hand-computed tests, each wording from planted tables, exact null rates."""

import json
import random
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import binomtest, permutation_test

from projected_grpo.analysis import effects
from projected_grpo.analysis.campaign import CampaignError, Pairs, collect
from projected_grpo.analysis.claims import AND_PLACEBO_HARMS, HARMS, LESS, NOT_INFORMATIVE, NOTHING, VALUE, WORDINGS
from projected_grpo.analysis.plan import PlanError, load_plan
from projected_grpo.analysis.power import critical_ratios, detectable, power
from projected_grpo.analysis.results import CELLS, OUTCOMES
from projected_grpo.analysis.verdict import verdict
from projected_grpo.core.parquet import write_table
from projected_grpo.core.seeds import derive_seed
from projected_grpo.core.tables import PAIRS
from projected_grpo.prompts.modes import GT_ONLY, MODES
from projected_grpo.settings.campaign import load_campaign
from stages.pipeline.verdict import main

TOY = Path("campaigns/toy2/plan.md")
PLAN = """---
blocks:
  - {seeds: [1, 2, 3, 4], arms: [absorb, v_act, haar, random]}
  - {seeds: [5, 6, 7, 8], arms: [absorb, v_act, haar, random, labelled]}
reference: absorb
claims:
  - {name: own tails, method: v_act, placebo: haar, random: random, better_than: [haar, absorb]}
secondary:
  - {kind: difference, first: v_act, second: random}
  - {kind: equivalence, first: random, second: haar}
  - {kind: interaction, first: v_act, second: absorb}
margins: {placebo: 0.1, reference: 0.05, solve: 0.05}
alpha: 0.05
power_wanted: 0.8
min_seeds: 8
bootstrap_draws: 400
stopping: After the last run.
---
Prose.
"""
PROBLEMS, SAMPLES = 24, 5
SEEDS = range(1, 9)
COVERED = ["run_tests", "exit_code"]
JITTER = [0.0, 0.05, -0.05, 0.1, -0.1, 0.05, 0.0, -0.05]
ARMS = ("absorb", "v_act", "haar", "random", "labelled")


def spread_over(total: int) -> list[int]:
    """`total` hits over the problems, no problem with more than SAMPLES."""
    return [total // PROBLEMS + (place < total % PROBLEMS) for place in range(PROBLEMS)]


def world(hack: dict, solve: dict | None = None) -> tuple[list[dict], list[dict]]:
    """Rows of cells and outcomes. hack, solve: arm -> one value a seed, or one for all; hack 0.5 and solve 0.2 if not given."""
    cells, outcomes = [], []
    for arm in ARMS:
        for place, seed in enumerate(SEEDS):
            if arm == "labelled" and seed < 5:
                continue
            rate, solved = (
                value if isinstance(value, float) else value[place]
                for value in (hack.get(arm, 0.1 if arm == "labelled" else 0.5), (solve or {}).get(arm, 0.2))
            )
            hits, right = round(rate * PROBLEMS * SAMPLES), round(solved * PROBLEMS * SAMPLES)
            key = {"arm": arm, "seed": seed, "data": "heldout", "state": "deployed"}
            for index, (exploited, correct) in enumerate(zip(spread_over(hits), spread_over(right))):
                row = key | {"shown_mode": MODES[index % 6], "problem_id": f"p{index}", "judged": SAMPLES, "excluded": 0}
                outcomes.append(row | {"exploited": exploited, "correct": correct})
            other = {"judged": 5, "exploited": 5, "correct": 0, "excluded": 0, "problem_id": "p0"}
            outcomes.append(key | other | {"shown_mode": GT_ONLY})  # none of these three may count
            outcomes.append(key | other | {"shown_mode": MODES[0], "state": "as_trained"})
            outcomes.append(key | other | {"shown_mode": MODES[0], "data": "train_iid"})
            outcomes.append(key | other | {"shown_mode": MODES[0], "state": "base", "exploited": 1 + (seed > 4), "correct": 2})
            outcomes.append(key | other | {"shown_mode": GT_ONLY, "state": "base"})  # does not count either
            cell = dict.fromkeys(CELLS.columns) | {"arm": arm, "seed": seed, "uses_ground_truth": arm == "labelled"}
            cell |= {"draw": seed if arm == "haar" else None, "qmass": 0.5, "hack_rate_as_trained": 0.9}
            cells.append(cell | {"hack_rate": hits / PROBLEMS / SAMPLES, "solve_rate": right / PROBLEMS / SAMPLES})
    return cells, outcomes


def plan_file(folder: Path, old: str = "", new: str = "") -> Path:
    path = folder / "plan.md"
    assert old in PLAN
    path.write_text(PLAN.replace(old, new, 1) if old else PLAN)
    return path


def judged(
    folder: Path, tables: tuple[list[dict], list[dict]], plan: Path | None = None, shuffle: int = 0, covered=COVERED
) -> dict:
    rows = [list(table) for table in tables]
    if shuffle:
        for table in rows:
            random.Random(shuffle).shuffle(table)
    empty = [pl.from_arrow(contract.schema.empty_table()) for contract in (CELLS, OUTCOMES)]
    frames = [pl.DataFrame(table, schema=columns.schema) for table, columns in zip(rows, empty)]
    settings, digest = load_plan(plan or plan_file(folder))
    return verdict(collect(settings, *frames), digest, covered)


def jittered(mean: float, by: list[float] = JITTER) -> list[float]:
    return [mean + step for step in by]


TURNED = JITTER[::-1]
CASES = {  # name -> (tables, wording, reasons)
    "adds value": (world({"v_act": jittered(0.3), "haar": jittered(0.6, TURNED)}), VALUE, []),
    "adds less": (world({"v_act": jittered(0.475, [0.0, 0.0083] * 4), "haar": jittered(0.6)}), LESS, []),
    "nothing net": (world({"v_act": jittered(0.5, [0.025, -0.025] * 4)}), NOTHING, ["hack rate against haar", "hack rate against absorb"]),
    "nothing net, Haar harms": (
        world({"v_act": jittered(0.5, [0.025, -0.025] * 4), "haar": jittered(0.7)}), NOTHING + AND_PLACEBO_HARMS, ["hack rate against absorb"]
    ),
    "harms": (world({"v_act": jittered(0.7)}), HARMS, ["hack rate against haar", "hack rate against absorb"]),
    "too noisy": (
        world({"v_act": [0.1, 0.9, 0.1, 0.9, 0.2, 0.8, 0.1, 0.1]}), NOT_INFORMATIVE, ["hack rate against haar", "hack rate against absorb"]
    ),
    "beats Haar alone": (
        world({"v_act": jittered(0.45, [0.1, -0.1] * 4), "haar": jittered(0.9)}), NOT_INFORMATIVE, ["hack rate against absorb"]
    ),
    "solve rate lost": (
        world({"v_act": jittered(0.3), "haar": jittered(0.6)}, solve={"v_act": 0.1}),
        NOT_INFORMATIVE, ["solve rate against haar", "solve rate against absorb"],
    ),
    "solve rate lost within the margin": (world({"v_act": jittered(0.3), "haar": jittered(0.6)}, solve={"v_act": 0.175}), VALUE, []),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_each_wording_and_each_reason(tmp_path: Path, name: str) -> None:
    tables, wording, reasons = CASES[name]
    [found] = judged(tmp_path, tables)["claims"]
    assert (found["wording"], found["reasons"]) == (wording, reasons), found
    assert found["holds"] == (wording in (VALUE, LESS)) and found["seeds"] == 8


def test_every_wording_is_reached() -> None:
    assert {case[1] for case in CASES.values()} == set(WORDINGS)


def without(tables: tuple[list[dict], list[dict]], *gone: tuple[str, int]) -> tuple[list[dict], list[dict]]:
    return tuple([row for row in rows if (row["arm"], row["seed"]) not in gone] for rows in tables)


def ended(tables: tuple[list[dict], list[dict]], *runs: tuple[str, int]) -> tuple[list[dict], list[dict]]:
    return [row | ({"diverged_at_step": 9} if (row["arm"], row["seed"]) in runs else {}) for row in tables[0]], tables[1]


@pytest.mark.parametrize("arm", ["absorb", "v_act", "haar", "random", "labelled"])
def test_a_block_that_is_not_complete_takes_the_wording(tmp_path: Path, arm: str) -> None:
    found = judged(tmp_path, without(CASES["adds value"][0], (arm, 6)))
    assert (found["missing"], found["not_run"]) == ([{"arm": arm, "seed": 6}], [])
    [claim] = found["claims"]
    lacking = [] if arm in ("random", "labelled") else ["7 of 8 seeds"]
    assert (claim["wording"], claim["reasons"]) == (NOT_INFORMATIVE, ["1 runs are missing", *lacking])
    assert (claim["p"], claim["p_holm"], claim["holds"]) == (None, None, False)


def test_a_campaign_may_end_after_a_block(tmp_path: Path) -> None:
    """Of the block that was run, the verdict is that of a plan with no other."""
    tables = CASES["adds value"][0]
    found = judged(tmp_path, without(tables, *((arm, seed) for arm in ARMS for seed in (5, 6, 7, 8))))
    assert (found["seeds"], found["missing"], found["not_run"]) == ([1, 2, 3, 4], [], [5, 6, 7, 8])
    [claim] = found["claims"]
    assert (claim["reasons"], claim["against"][0]["seeds"]) == (["4 of 8 seeds"], 4)
    assert claim["against"][0]["hack"]["mean"] == pytest.approx(-0.25) and claim["against"][0]["hack"]["low"] is None
    whole = judged(tmp_path, tables)
    longer = plan_file(tmp_path, "  - {seeds: [5, 6, 7, 8]", "  - {seeds: [9, 10], arms: [absorb]}\n  - {seeds: [5, 6, 7, 8]")
    other = judged(tmp_path, tables, longer)
    assert other["not_run"] == [9, 10] and other["claims"] == whole["claims"]


def test_an_empty_campaign_has_a_verdict_of_nulls(tmp_path: Path) -> None:
    found = judged(tmp_path, ([], []))
    [claim] = found["claims"]
    assert claim["wording"] == NOT_INFORMATIVE and claim["against"][0]["hack"] is None and claim["beside"] == []
    assert (found["arms"], found["modes"], found["missing"], found["not_run"]) == ([], [], [], list(SEEDS))
    assert {test["p"] for test in found["secondary"]} == {None}


def test_an_ended_run_counts_and_other_treatments_of_it_stand_beside(tmp_path: Path) -> None:
    tables = CASES["adds value"][0]
    before, after = (judged(tmp_path, given) for given in (tables, ended(tables, ("v_act", 2), ("haar", 5))))
    assert after["ended"] == [{"arm": "v_act", "seed": 2, "diverged_at_step": 9}, {"arm": "haar", "seed": 5, "diverged_at_step": 9}]
    old, new = before["claims"][0], after["claims"][0]
    assert {key: new[key] for key in ("p", "p_holm", "wording", "seeds")} == {key: old[key] for key in ("p", "p_holm", "wording", "seeds")}
    haar, absorb = new["against"]
    assert haar["hack"] == old["against"][0]["hack"]
    sensitivity = haar["sensitivity"]
    rates = {arm["arm"]: np.array(arm["hack_rates"]) for arm in after["arms"]}
    differences = rates["v_act"] - rates["haar"]
    assert (sensitivity["ended"], absorb["sensitivity"]["ended"]) == (2, 1)
    assert sensitivity["complete_pairs"]["seeds"] == 6
    assert sensitivity["complete_pairs"]["hack"]["mean"] == pytest.approx(np.delete(differences, [1, 4]).mean())
    worst = differences.copy()
    worst[1], worst[4] = 1.0 - rates["haar"][1], rates["v_act"][4] - 0.0
    assert sensitivity["worst_case"]["hack"]["mean"] == pytest.approx(worst.mean())
    solve = np.zeros(8)
    solve[1], solve[4] = 0.0 - 0.2, 0.2 - 1.0
    assert sensitivity["worst_case"]["solve"]["mean"] == pytest.approx(solve.mean())


def test_the_numbers_of_a_claim_are_those_computed_by_hand(tmp_path: Path) -> None:
    found = judged(tmp_path, world({"v_act": [0.2] * 4 + [0.4] * 4, "haar": 0.5, "absorb": 0.6}, solve={"v_act": 0.25}))
    [claim] = found["claims"]
    assert {(part["rate"], part["against"]): part["p"] for part in claim["parts"]} == {
        (rate, arm): 1 / 256 for rate in ("hack", "solve") for arm in ("haar", "absorb")
    }  # every seed agrees
    assert (claim["p"], claim["p_holm"]) == (1 / 256, 1 / 256)
    haar, absorb = claim["against"]
    assert haar["hack"]["mean"] == pytest.approx(-0.2) and haar["solve"]["mean"] == pytest.approx(0.05)
    spread = 0.1 * np.sqrt(8 / 7)
    assert haar["hack"]["spread"] == pytest.approx(spread)
    assert haar["power"] == {
        "level": 0.025, "difference": 0.1, "power": power(0.1, spread, 8, 0.025), "detectable": pytest.approx(detectable(spread, 8, 0.025, 0.8)),
    }  # fmt: skip
    assert absorb["power"]["difference"] == 0.05
    random_, harm, random_harm = claim["beside"]
    assert [(row["first"], row["second"]) for row in claim["beside"]] == [("v_act", "random"), ("haar", "absorb"), ("random", "absorb")]
    assert (random_["hack"]["mean"], harm["hack"]["mean"]) == (pytest.approx(-0.2), pytest.approx(-0.1))
    labelled = found["arms"][-1]
    assert (labelled["arm"], labelled["seeds"], labelled["uses_ground_truth"]) == ("labelled", [5, 6, 7, 8], True)
    assert labelled["from_reference"]["hack"]["mean"] == pytest.approx(-0.5) and found["arms"][0]["from_reference"] is None


def test_holm_goes_over_the_claims(tmp_path: Path) -> None:
    ahead = [-0.2, -0.2, -0.2, -0.2, -0.2, -0.2, 0.1, 0.05]  # one-sided p between .0125 and .025
    tables = world({"v_act": jittered(0.5, ahead), "absorb": 0.5, "haar": 0.5, "random": 0.5})
    [alone] = judged(tmp_path, tables)["claims"]
    assert 0.0125 < alone["p"] <= 0.025 and alone["holds"]
    other = "  - {name: other, method: random, placebo: haar, random: v_act, better_than: [haar, absorb]}\nsecondary:"
    both = judged(tmp_path, tables, plan_file(tmp_path, "secondary:", other))["claims"]
    assert both[0]["p"] == alone["p"] and both[0]["p_holm"] == 2 * alone["p"] and not both[0]["holds"]


def test_modes_with_and_without_pairs_are_apart_and_make_a_claim_selective(tmp_path: Path) -> None:
    cells, outcomes = world({"v_act": 0.6, "haar": 0.6, "absorb": 0.6})
    for row in outcomes:
        if row["arm"] == "v_act" and (row["data"], row["state"]) == ("heldout", "deployed") and row["shown_mode"] != GT_ONLY:
            row["exploited"] = 0 if row["shown_mode"] in COVERED else 5
    cells = [row | ({"hack_rate": 4 / 6} if row["arm"] == "v_act" else {}) for row in cells]
    found = judged(tmp_path, (cells, outcomes))
    [claim] = found["claims"]
    assert (claim["covered"]["mean"], claim["uncovered"]["mean"]) == (pytest.approx(-0.6), pytest.approx(0.4))
    assert (claim["wording"], claim["selective"]) == (HARMS, True)
    interaction = found["secondary"][2]
    assert (interaction["mean"], interaction["p"], interaction["p_holm"]) == (pytest.approx(-1.0), 2 / 256, 3 * 2 / 256)
    rates = {row["mode"]: (row["covered"], row["hack_rates"]) for row in found["modes"] if row["arm"] == "v_act"}
    assert rates == {mode: (mode in COVERED, [0.0 if mode in COVERED else 1.0] * 8) for mode in MODES}
    every = judged(tmp_path, (cells, outcomes), covered=MODES)["claims"][0]
    assert (every["uncovered"], every["selective"]) == (None, False)


def test_loopholes_of_another_environment_count_as_ours_do(tmp_path: Path) -> None:
    names = {mode: f"own-{place}" for place, mode in enumerate(MODES)}
    cells, outcomes = world({"v_act": jittered(0.3)})
    theirs = [row | {"shown_mode": names.get(row["shown_mode"], GT_ONLY)} for row in outcomes]
    expected = json.dumps(judged(tmp_path, (cells, outcomes)))
    for mode, name in names.items():
        expected = expected.replace(f'"{mode}"', f'"{name}"')
    found = judged(tmp_path, (cells, theirs), covered=[names[mode] for mode in COVERED])
    assert json.dumps(found) == expected and {row["mode"] for row in found["modes"]} == set(names.values())
    [claim] = found["claims"]
    assert (claim["covered"]["mean"], claim["uncovered"]["mean"]) == (pytest.approx(-0.2), pytest.approx(-0.2))


def test_an_equivalence_takes_the_larger_side_doubled(tmp_path: Path) -> None:
    found = judged(tmp_path, world({"random": jittered(0.55, [0.025, -0.025] * 4), "haar": 0.5}))["secondary"][1]
    assert (found["kind"], found["p"]) == ("equivalence", 2 * effects.p_less(np.array([0.075, 0.025] * 4), 0.1))
    apart = judged(tmp_path, world({"random": 0.7, "haar": 0.5}))["secondary"][1]
    assert apart["p"] == 1.0


def test_the_exact_test_by_hand_and_by_scipy_and_holm() -> None:
    assert effects.p_less(np.array([-0.1, -0.2, -0.3, -0.4])) == 1 / 16
    assert effects.p_less(np.array([0.1, -0.2, -0.3, -0.4])) == 2 / 16  # no flip, or that of 0.1
    assert effects.two_sided(np.array([0.1, -0.2, -0.3, -0.4])) == 4 / 16
    assert effects.p_less(np.array([-0.1, -0.1, 0.1])) == 4 / 8  # ties count
    assert effects.p_greater(np.array([0.1, 0.2, 0.3]), -0.05) == 1 / 8 and effects.two_sided(np.zeros(4)) == 1.0
    rng = np.random.default_rng(0)
    for _ in range(20):
        given, than = rng.integers(-3, 4, 9) / 8, rng.integers(-1, 2) / 8
        for name, test in (("less", effects.p_less), ("greater", effects.p_greater)):
            other = permutation_test((given - than,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative=name)
            assert test(given, than) == pytest.approx(other.pvalue)
    assert effects.holm([0.01, 0.04]) == [0.02, 0.04] and effects.holm([0.04, 0.03]) == [0.06, 0.06]
    assert effects.holm([0.9, 0.6]) == [1.0, 1.0]


def test_the_interval_holds_the_means_that_the_test_does_not_reject() -> None:
    assert effects.interval(np.arange(5.0), 0.05) == (None, None)  # no p-value of five seeds is as small as .025
    rng = np.random.default_rng(1)
    for seeds in (6, 8, 10):
        given = rng.standard_normal(seeds)
        low, high = effects.interval(given, 0.05)
        assert effects.p_greater(given, low - 1e-6) <= 0.025 < effects.p_greater(given, low + 1e-6)
        assert effects.p_less(given, high + 1e-6) <= 0.025 < effects.p_less(given, high - 1e-6)
        flipped = effects.interval(-given, 0.05)
        assert flipped == (pytest.approx(-high), pytest.approx(-low))
    low, high = effects.t_interval(np.array([1.0, 2.0, 3.0]), 0.05)
    assert (low, high) == (pytest.approx(2 - 4.302653 / np.sqrt(3)), pytest.approx(2 + 4.302653 / np.sqrt(3)))


def paired(counts: np.ndarray) -> Pairs:
    return Pairs(list(range(len(counts))), counts, np.zeros((len(counts), 2), bool))


def test_the_bootstrap_draws_seeds_and_problems_independently() -> None:
    rng = np.random.default_rng(1)
    hits = rng.integers(0, 3, size=(3, 40, 1))
    alike = np.stack([np.full((3, 40, 2), 4.0), hits + [1, 0], hits + [0, 2]], axis=-1)
    assert np.allclose(effects.crossed_bootstrap(paired(alike), 200, 0, 0.05), [[0.25, 0.25], [-0.5, -0.5]])  # a constant on every problem
    half = 1.96 * 2
    shared = np.zeros((5, 40, 2, 3))
    shared[..., 0], shared[:, :20, 0, 1] = 4, 4  # one half of the problems differs, in every seed: seeds do not average it out
    low, high = effects.crossed_bootstrap(paired(shared), 4000, 0, 0.05)[0]
    assert high - low == pytest.approx(half * 0.5 / np.sqrt(40), rel=0.08)
    flat = np.zeros((5, 40, 2, 3))
    flat[..., 0], flat[..., 0, 1] = 4, 4 * np.arange(5)[:, None] / 10
    low, high = effects.crossed_bootstrap(paired(flat), 4000, 0, 0.05)[0]
    assert high - low == pytest.approx(half * np.std(np.arange(5) / 10) / np.sqrt(5), rel=0.08)  # seeds alone vary


def test_power_is_the_rejection_rate_of_the_test_itself() -> None:
    for seeds, level, ratio in ((8, 0.0125, 0.7), (8, 0.025, 1.4), (6, 0.025, 1.0), (10, 0.0125, 0.0)):
        noise = np.random.default_rng(derive_seed(0, "power", seeds)).standard_normal((len(critical_ratios(seeds, level)), seeds))
        assert power(2 * ratio, 2.0, seeds, level) == np.mean([effects.p_greater(one + ratio) <= level for one in noise])
    wanted = detectable(1.0, 8, 0.0125, 0.8)
    assert power(wanted + 1e-9, 1.0, 8, 0.0125) >= 0.8 > power(wanted - 1e-9, 1.0, 8, 0.0125)
    assert detectable(1.0, 6, 0.0125, 0.8) is None and power(9.0, 1.0, 6, 0.0125) == 0.0  # 1/2^6 is over 0.0125


def test_under_the_null_the_test_rejects_at_its_level_and_the_interval_covers() -> None:
    rng = np.random.default_rng(7)
    noise = rng.standard_normal((2000, 8))
    rejected = sum(effects.p_less(one) <= 0.025 for one in noise)
    assert binomtest(rejected, 2000, 6 / 256).pvalue > 0.01  # the largest attainable level up to 0.025
    covered = sum(low <= 0.0 <= high for low, high in (effects.interval(one, 0.05) for one in noise))
    assert binomtest(covered, 2000, 1 - 12 / 256).pvalue > 0.01


def test_the_order_of_rows_changes_nothing(tmp_path: Path) -> None:
    tables = CASES["adds value"][0]
    first = judged(tmp_path, tables)
    assert all(json.dumps(judged(tmp_path, tables, shuffle=seed)) == json.dumps(first) for seed in (1, 2))


def test_the_stage_writes_the_same_bytes_and_names_the_plan(tmp_path: Path) -> None:
    cells, outcomes = ended(CASES["adds value"][0], ("haar", 2))
    write_table(tmp_path / "cells.parquet", CELLS, cells)
    write_table(tmp_path / "outcomes.parquet", OUTCOMES, outcomes)
    pair = dict.fromkeys(PAIRS.columns, "x")
    write_table(tmp_path / "pairs.parquet", PAIRS, [pair | {"pair_id": mode, "mode": mode} for mode in COVERED])
    plan = plan_file(tmp_path)
    written = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        inputs = [tmp_path / f"{name}.parquet" for name in ("cells", "outcomes")]
        main(*inputs, plan, tmp_path / "pairs.parquet", folder / "verdict.json", folder / "verdict.md")
        written.append([(folder / name).read_bytes() for name in ("verdict.json", "verdict.md")])
    assert written[0] == written[1]
    found = json.loads(written[0][0], parse_constant=lambda name: pytest.fail(f"{name} in verdict.json"))
    digest = load_plan(plan)[1]
    assert next(iter(found)) == "claims" and found["plan_sha256"] == digest
    text = written[0][1].decode()
    assert f"own tails (v_act): **{VALUE}**" in text and digest in text and "labelled (uses ground truth)" in text
    assert "haar with seed 2 (in step 9, from 0)" in text
    plan.write_text(plan.read_text() + "\n")
    assert load_plan(plan)[1] != digest


@pytest.mark.parametrize(
    "old, new, key",
    [
        ("alpha: 0.05\n", "", "key 'alpha'"),
        ("alpha: 0.05", "alpha: five", "key 'alpha'.*five"),
        ("alpha: 0.05", "alpha: 0.05\nbeta: 1", "key 'beta'"),
        ("placebo: 0.1, ", "placebo: 0, ", "key 'margins.placebo'"),
        ("placebo: haar", "placebo: hear", r"claims.0.placebo is 'hear'"),
        ("random: random", "random: calf", r"claims.0.random is 'calf'"),
        ("reference: absorb", "reference: none", r"reference is 'none'"),
        ("[haar, absorb]", "[haar]", r"claims.0.better_than lacks absorb"),
        ("[haar, absorb]", "[haar, absorb, v_act]", r"claims.0.better_than holds 'v_act'"),
        ("second: random", "second: best", r"secondary.0.second is 'best'"),
        ("v_act, haar, random]", "v_act, haar, haar]", r"cells of blocks holds \('haar', 1\) twice"),
        ("[5, 6, 7, 8]", "[4, 6, 7, 8]", r"cells of blocks holds \('absorb', 4\) twice"),
        ("7, 8]", "7, x]", "key 'blocks.1.seeds.3'.*'x'"),
        ("min_seeds: 8", "min_seeds: 9", "blocks have 8 seeds"),
        ("min_seeds: 8", "min_seeds: 5", "min_seeds is 5"),
        ("kind: equivalence", "kind: sameness", "key 'secondary.1.kind'"),
        ("---\nblocks", "blocks", "no front matter"),
        ("arms: [", "arms: [[", "cannot be read as Markdown"),
    ],
)
def test_a_plan_that_cannot_be_used_is_refused_by_file_and_key(tmp_path: Path, old: str, new: str, key: str) -> None:
    with pytest.raises(PlanError, match=key) as error:
        load_plan(plan_file(tmp_path, old, new))
    assert "plan.md" in str(error.value)


def changed(rows: list[dict], of: str, seed: int, **values: object) -> list[dict]:
    return [row | values if (row["arm"], row["seed"]) == (of, seed) else row for row in rows]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c, o: (changed(c, "haar", 3, arm="hair"), o), "'hair' with seed 3 is not in the plan"),
        (lambda c, o: (changed(c, "haar", 3, hack_rate=0.99), o), "'haar' with seed 3: hack_rate is 0.99"),
        (lambda c, o: (changed(c, "haar", 3, solve_rate=None), o), "'haar' with seed 3: solve_rate is None"),
        (lambda c, o: (changed(c, "haar", 3, qmass=None), o), "'haar' with seed 3: qmass is null"),
        (lambda c, o: (changed(c, "haar", 3, uses_ground_truth=True), o), "'haar' with seed 3 uses ground truth, and the claim 'own tails'"),
        (lambda c, o: (c, without((o, o), ("haar", 3))[0]), "'haar' with seed 3 has no judged sample"),
        (lambda c, o: (c, changed(o, "haar", 3, problem_id="p99")), "seed 3: problem 'p0' is in one of the arms random and haar only"),
    ],
)
def test_tables_that_do_not_belong_together_are_refused_by_name(tmp_path: Path, change, message: str) -> None:
    with pytest.raises(CampaignError, match=message):
        judged(tmp_path, change(*CASES["adds value"][0]))


def test_the_base_model_s_rates_are_those_of_hinted_held_out_problems(tmp_path: Path) -> None:
    assert judged(tmp_path, CASES["adds value"][0])["base"] == {"hack_rate": 0.3, "solve_rate": 0.4}  # later seeds have more arms, and count no more
    cells, outcomes = CASES["adds value"][0]
    without = judged(tmp_path, (cells, [row for row in outcomes if row["state"] != "base"]))
    assert without["base"] == {"hack_rate": None, "solve_rate": None}
    other = [row | ({"correct": 3} if (row["state"], row["arm"], row["seed"]) == ("base", "haar", 2) else {}) for row in outcomes]
    with pytest.raises(CampaignError, match="seed 2: the base model's samples differ between arms"):
        judged(tmp_path, (cells, other))


def test_the_plan_of_the_toy_campaign_is_that_of_its_cells() -> None:
    plan, campaign = load_plan(TOY)[0], load_campaign(TOY.with_name("params.yaml"))
    begun = [cell for block in plan.blocks[:3] for cell in block.cells]  # compute ended before the last
    assert [(arm, str(seed)) for arm, seed in begun] == campaign.runs and set(plan.arms) == set(campaign.arm)
    assert (len(plan.cells), len(begun), plan.first_level) == (192, 124, 0.0125)
