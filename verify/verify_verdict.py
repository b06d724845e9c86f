"""The verdict follows its plan: hand-computed tests, each wording and each reason from planted tables, exact null rates."""

import json
import random
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import binomtest

from bench.calibration import campaign as simulated
from projected_grpo.analysis import effects
from projected_grpo.analysis.campaign import CampaignError, Pair, collect
from projected_grpo.analysis.contrast import compare
from projected_grpo.analysis.plan import PlanError, load_plan
from projected_grpo.analysis.power import critical_ratios, detectable_ratio, power
from projected_grpo.analysis.verdict import NO_DIFFERENCE, NOT_INFORMATIVE, PLACEBO, TREATMENT, verdict
from projected_grpo.env.modes import GT_ONLY, MODES
from projected_grpo.parquet import write_table
from projected_grpo.results import CELLS, OUTCOMES
from projected_grpo.seeds import derive_seed
from projected_grpo.tables import PAIRS
from stages.verdict import main

TOY = Path("campaigns/toy/plan.md")
PLAN = """---
arms: [absorb, labelled, v_act, haar, flipped]
seeds: [1, 2, 3, 4, 5, 6, 7, 8]
contrasts:
  - {name: cuts, treatment: v_act, placebo: haar, yoked: null}
machinery_control: {upper: labelled, reference: absorb, at_least: 0.1}
margins: {hack: 0.1, solve: 0.05}
alpha: 0.05
power_wanted: 0.8
qmass_difference: 0.02
hacked_over: 0.2
exclusions: {diverged: true}
min_seeds: 7
bootstrap_draws: 400
stopping: After the last run.
---
Prose.
"""
PROBLEMS, SAMPLES = 24, 5
SEEDS = range(1, 9)
COVERED = ["run_tests", "exit_code"]
JITTER = [0.0, 0.05, -0.05, 0.1, -0.1, 0.05, 0.0, -0.05]


def spread_over(total: int) -> list[int]:
    """`total` hits over the problems, no problem with more than SAMPLES."""
    return [total // PROBLEMS + (place < total % PROBLEMS) for place in range(PROBLEMS)]


def world(hack: dict, solve: dict | None = None, qmass: dict | None = None) -> tuple[list[dict], list[dict]]:
    """Rows of cells and outcomes. hack, solve, qmass: arm -> one value a seed, or one for all; solve 0.2, qmass 0.5 if not given."""
    base = {"absorb": 0.6, "labelled": 0.1, "flipped": 0.6} | hack
    cells, outcomes = [], []
    for arm, rates in base.items():
        for place, seed in enumerate(SEEDS):
            rate = rates if isinstance(rates, float) else rates[place]
            solved, mass = ((given or {}).get(arm, default) for given, default in ((solve, 0.2), (qmass, 0.5)))
            solved, mass = (value if isinstance(value, float) else value[place] for value in (solved, mass))
            hits, right = round(rate * PROBLEMS * SAMPLES), round(solved * PROBLEMS * SAMPLES)
            key = {"arm": arm, "seed": seed, "data": "heldout", "state": "deployed"}
            for index, (exploited, correct) in enumerate(zip(spread_over(hits), spread_over(right))):
                row = key | {"shown_mode": MODES[index % 6], "problem_id": f"p{index}", "judged": SAMPLES, "excluded": 0}
                outcomes.append(row | {"exploited": exploited, "correct": correct})
            other = {"judged": 5, "exploited": 5, "correct": 0, "excluded": 0, "problem_id": "p0"}
            outcomes.append(key | other | {"shown_mode": GT_ONLY})  # none of these three may count
            outcomes.append(key | other | {"shown_mode": MODES[0], "state": "as_trained"})
            outcomes.append(key | other | {"shown_mode": MODES[0], "data": "train_iid"})
            cell = dict.fromkeys(CELLS.columns) | {"arm": arm, "seed": seed, "uses_ground_truth": arm == "labelled"}
            cell |= {"draw": seed if arm == "haar" else None, "qmass": mass, "hack_rate_as_trained": 0.9}
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


BEATS = {"v_act": jittered(0.2), "haar": jittered(0.6, JITTER[::-1])}
SMALL = {"v_act": jittered(0.4, [0.025, -0.025] * 4), "haar": 0.4}
MASS = [0.51, 0.55, 0.53, 0.57, 0.54, 0.6, 0.52, 0.56]  # of the treatment, against 0.5
CASES = {  # name -> (tables, wording, reasons)
    "treatment": (world(BEATS), TREATMENT, []),
    "placebo": (world({"v_act": BEATS["haar"], "haar": BEATS["v_act"]}), PLACEBO, []),
    "equivalent": (world(SMALL), NO_DIFFERENCE, []),
    "significant and within the margin": (world({"v_act": 0.35, "haar": 0.4}), NO_DIFFERENCE, []),
    "power": (world({"v_act": [0.1, 0.9, 0.1, 0.9, 0.2, 0.8, 0.1, 0.1], "haar": 0.5}), NOT_INFORMATIVE, ["power"]),
    "machinery control": (world(BEATS | {"labelled": 0.55}), NOT_INFORMATIVE, ["machinery control"]),
    "machinery control by its test": (
        world(BEATS | {"labelled": [0.0, 0.0, 0.0, 0.7, 0.7, 0.7, 0.7, 0.7], "absorb": 0.6}), NOT_INFORMATIVE, ["machinery control"]
    ),
    "solve rate lost": (world(BEATS, solve={"v_act": 0.1, "haar": 0.3}), NOT_INFORMATIVE, ["solve rate"]),
    "solve rate of the placebo lost": (
        world({"v_act": BEATS["haar"], "haar": BEATS["v_act"]}, solve={"v_act": 0.3, "haar": 0.1}), NOT_INFORMATIVE, ["solve rate"]
    ),
    "solve rate of the placebo gained": (
        world({"v_act": BEATS["haar"], "haar": BEATS["v_act"]}, solve={"v_act": 0.1, "haar": 0.3}), PLACEBO, []
    ),
    "solve rate lost within the margin": (world(BEATS, solve={"v_act": 0.2, "haar": 0.225}), TREATMENT, []),
    "solve rates apart, hack rates alike": (world(SMALL, solve={"v_act": 0.3, "haar": 0.1}), NOT_INFORMATIVE, ["solve rate"]),
    "routing mass explains it": (
        world({"v_act": [0.8 - 6 * (mass - 0.5) for mass in MASS], "haar": 0.8}, qmass={"v_act": MASS}), NOT_INFORMATIVE, ["routing mass"]
    ),
    "routing mass does not explain it": (
        world({"v_act": [0.4 - (mass - 0.5) for mass in MASS], "haar": 0.8}, qmass={"v_act": MASS}), TREATMENT, []
    ),
    "routing mass without variation": (world(BEATS, qmass={"v_act": 0.55}), NOT_INFORMATIVE, ["routing mass"]),
    "routing mass within its limit": (world(BEATS, qmass={"v_act": 0.515}), TREATMENT, []),
    "routing mass hides a difference": (
        world({"v_act": [0.5 + 4 * (mass - 0.5475) for mass in MASS], "haar": 0.5}, qmass={"v_act": MASS}), NOT_INFORMATIVE, ["routing mass"]
    ),
    "routing mass hides nothing": (world({"v_act": 0.35, "haar": 0.4}, qmass={"v_act": MASS}), NO_DIFFERENCE, []),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_each_wording_and_each_reason(tmp_path: Path, name: str) -> None:
    tables, wording, reasons = CASES[name]
    found = judged(tmp_path, tables)
    assert (found["verdict"], found["reasons"]) == (wording, reasons), found["contrasts"][0]
    assert (found["missing"], found["excluded"]) == ([], [])


def test_every_wording_and_reason_is_reached() -> None:
    assert {case[1] for case in CASES.values()} == {TREATMENT, NO_DIFFERENCE, PLACEBO, NOT_INFORMATIVE}
    reasons = {reason for case in CASES.values() for reason in case[2]}
    assert reasons == {"power", "machinery control", "solve rate", "routing mass"}  # missing cells, too few pairs: below


def without(tables: tuple[list[dict], list[dict]], *gone: tuple[str, int]) -> tuple[list[dict], list[dict]]:
    return tuple([row for row in rows if (row["arm"], row["seed"]) not in gone] for rows in tables)


def diverged(tables: tuple[list[dict], list[dict]], *runs: tuple[str, int]) -> tuple[list[dict], list[dict]]:
    return [row | ({"diverged_at_step": 9} if (row["arm"], row["seed"]) in runs else {}) for row in tables[0]], tables[1]


@pytest.mark.parametrize("arm", ["absorb", "labelled", "v_act", "haar", "flipped"])
def test_a_missing_run_is_listed_and_counts_where_the_verdict_rests_on_its_arm(tmp_path: Path, arm: str) -> None:
    found = judged(tmp_path, without(world(BEATS), (arm, 3)))
    assert found["missing"] == [{"arm": arm, "seed": 3}]
    expected = (TREATMENT, []) if arm == "flipped" else (NOT_INFORMATIVE, ["missing cells"])
    assert (found["verdict"], found["reasons"]) == expected


def test_an_empty_campaign_has_a_verdict_of_nulls(tmp_path: Path) -> None:
    found = judged(tmp_path, ([], []))
    assert (found["verdict"], found["reasons"]) == (NOT_INFORMATIVE, ["missing cells", "machinery control"])
    assert len(found["missing"]) == 40 and found["contrasts"][0]["hack_effect"] is None and found["contrasts"][0]["seeds"] == 0


def test_a_diverged_run_is_excluded_with_its_partner_and_listed(tmp_path: Path) -> None:
    one = judged(tmp_path, diverged(world(BEATS), ("haar", 2)))
    assert one["excluded"] == [{"arm": "haar", "seed": 2, "diverged_at_step": 9}] and one["missing"] == []
    assert (one["verdict"], one["contrasts"][0]["seeds"], one["contrasts"][0]["p_floor"]) == (TREATMENT, 7, 2 / 2**7)
    assert [arm["seeds"] for arm in one["arms"] if arm["arm"] == "haar"] == [[1, 3, 4, 5, 6, 7, 8]]
    yoked = judged(tmp_path, diverged(world(BEATS), ("haar", 2)), plan_file(tmp_path, "yoked: null", "yoked: flipped"))["contrasts"][0]
    assert (yoked["seeds"], yoked["yoked_seeds"], yoked["uncovered_seeds"]) == (7, 8, 7)  # what a part rests on has a count of its own
    two = judged(tmp_path, diverged(world(BEATS), ("haar", 2), ("v_act", 4)))
    assert (two["verdict"], two["reasons"], two["contrasts"][0]["seeds"]) == (NOT_INFORMATIVE, ["too few pairs"], 6)
    kept = judged(tmp_path, diverged(world(BEATS), ("haar", 2)), plan_file(tmp_path, "diverged: true", "diverged: false"))
    assert (kept["excluded"], kept["contrasts"][0]["seeds"]) == ([], 8)


def test_the_numbers_of_a_contrast_are_those_computed_by_hand(tmp_path: Path) -> None:
    found = judged(tmp_path, world({"v_act": [0.2] * 4 + [0.4] * 4, "haar": 0.5}, solve={"v_act": 0.25}, qmass={"v_act": MASS}))
    numbers = found["contrasts"][0]
    assert numbers["hack_effect"] == pytest.approx(-0.2) and numbers["solve_effect"] == pytest.approx(0.05)
    assert (numbers["hack_p"], numbers["p_floor"]) == (2 / 256, 2 / 256)  # every seed agrees
    assert numbers["solve_p"] == pytest.approx(1 / 256)  # one-sided: all eight differences are over -0.05
    assert numbers["hack_p_holm"] == 2 / 256 and numbers["solve_p_holm"] == pytest.approx(2 / 256)
    spread = 0.1 * np.sqrt(8 / 7)
    assert numbers["spread"] == pytest.approx(spread)
    assert numbers["power_at_margin"] == power(0.1 / spread, 8, 0.025)
    assert numbers["smallest_detectable"] == pytest.approx(spread * detectable_ratio(8, 0.025, 0.8))
    assert (numbers["rank_p"], numbers["rank_p_floor"]) == (pytest.approx(1 / 9),) * 2
    assert numbers["qmass_difference"] == pytest.approx(np.mean(MASS) - 0.5)
    assert found["machinery_effect"] == pytest.approx(0.5) and found["machinery_control"] is True
    arm = found["arms"][2]
    assert (arm["arm"], arm["hacked"], arm["hack_rates"]) == ("v_act", 4, [0.2] * 4 + [0.4] * 4)  # 0.2 is not over 0.2
    labelled, absorb = found["arms"][1], found["arms"][0]
    assert (labelled["hacked_share"], labelled["hacked_low"], labelled["uses_ground_truth"]) == (0.0, 0.0, True)
    assert absorb["hacked_low"] == pytest.approx(0.025 ** (1 / 8)) and absorb["hacked_high"] == 1.0


def test_modes_with_and_without_pairs_are_apart(tmp_path: Path) -> None:
    cells, outcomes = world({"v_act": 0.6, "haar": 0.6})
    for row in outcomes:
        if row["arm"] == "v_act" and row["shown_mode"] in COVERED and (row["data"], row["state"]) == ("heldout", "deployed"):
            row["exploited"] = 0
    cells = [row | ({"hack_rate": 0.4} if row["arm"] == "v_act" else {}) for row in cells]
    found = judged(tmp_path, (cells, outcomes))
    numbers = found["contrasts"][0]
    assert (numbers["covered_effect"], numbers["uncovered_effect"], numbers["hack_effect"]) == (-0.6, 0.0, -0.2)
    assert (numbers["covered_p"], numbers["uncovered_p"]) == (2 / 256, 1.0)
    assert (numbers["covered_seeds"], numbers["uncovered_seeds"], numbers["yoked_seeds"]) == (8, 8, None)
    every = judged(tmp_path, (cells, outcomes), covered=MODES)["contrasts"][0]
    assert (every["covered_effect"], every["uncovered_effect"], every["uncovered_p"]) == (-0.2, None, None)
    rates = {row["mode"]: (row["covered"], row["hack_rates"]) for row in found["modes"] if row["arm"] == "v_act"}
    assert rates == {mode: (mode in COVERED, [0.0 if mode in COVERED else 0.6] * 8) for mode in MODES}


def test_the_sign_flip_test_by_hand_and_holm_and_the_rank() -> None:
    assert effects.sign_flip_p(np.array([-0.1, -0.2, -0.3, -0.4]), "two-sided") == 2 / 16 == effects.smallest_p(4)
    assert effects.sign_flip_p(np.array([0.1, -0.2, -0.3, -0.4]), "less") == 2 / 16  # no flip, or that of 0.1
    assert effects.sign_flip_p(np.array([0.1, -0.2, -0.3, -0.4]), "two-sided") == 4 / 16
    assert effects.sign_flip_p(np.array([-0.1, -0.1, 0.1]), "less") == 4 / 8  # ties count
    both = np.array([[0.1, 0.2, 0.3], [0.1, -0.2, 0.3]])
    assert effects.sign_flip_p(both, "greater").tolist() == [1 / 8, 3 / 8]
    assert effects.holm([0.01, 0.04]) == [0.02, 0.04] and effects.holm([0.04, 0.03]) == [0.06, 0.06]
    assert effects.holm([0.9, 0.6]) == [1.0, 1.0]
    assert effects.rank_p([0.1, 0.2, 0.9], [0.1, 0.3, 0.4, 0.2]) == 3 / 5
    assert effects.rank_p([0.0], [0.1, 0.3, 0.4, 0.2]) == 1 / 5


def test_the_effect_at_equal_qmass_is_the_intercept() -> None:
    qmass = np.array([0.0, 0.1, 0.3])
    assert effects.at_equal_qmass(-0.1 - 2 * qmass, qmass) == pytest.approx(-0.1)
    hack, other = np.array([0.3, -0.2, 0.1, 0.4]), np.array([0.02, -0.01, 0.05, 0.03])
    assert effects.at_equal_qmass(hack, other) == pytest.approx(np.polyfit(other, hack, 1)[1])
    assert np.isnan(effects.at_equal_qmass(hack, np.full(4, 0.05)))


def test_the_bootstrap_resamples_problems_in_pairs_and_seeds() -> None:
    rng = np.random.default_rng(1)
    hits = rng.integers(0, 3, size=(2, 40, 1))
    counts = [np.stack([np.full((40, 2), 4.0), hits[seed] + [1, 0], hits[seed] + [0, 2]], axis=-1) for seed in (0, 1)]
    alike = [Pair(seed, counts[seed], 0.1) for seed in (0, 1)]
    drawn, qmass = effects.bootstrap(alike, 200, 0)
    assert drawn.shape == (200, 2, 2) and np.ptp(qmass) == 0.0
    assert np.allclose(drawn, [0.25, -0.5])  # runs that differ by a constant on every problem differ by it in every draw
    one = np.zeros((40, 2, 3))
    one[..., 0], one[:20, 0, 1] = 4, 4
    within = effects.bootstrap([Pair(seed, one, 0.0) for seed in range(5)], 4000, 0)[0][..., 0].mean(axis=1)
    assert within.std() == pytest.approx(0.5 / np.sqrt(40 * 5), rel=0.05)  # problems alone vary
    flat = [Pair(seed, np.broadcast_to([[4.0, 4 * seed / 10, 0], [4.0, 0, 0]], (40, 2, 3)), 0.0) for seed in range(5)]
    between = effects.bootstrap(flat, 4000, 0)[0][..., 0].mean(axis=1)
    assert between.std() == pytest.approx(np.std(np.arange(5) / 10) / np.sqrt(5), rel=0.05)  # seeds alone vary


def test_power_is_the_rejection_rate_of_the_test_itself() -> None:
    for seeds, level, ratio in ((8, 0.025, 0.7), (8, 0.05, 1.4), (6, 0.05, 1.0), (10, 0.025, 0.0)):
        noise = np.random.default_rng(derive_seed(0, "power", seeds)).standard_normal((len(critical_ratios(seeds, level)), seeds))
        right = effects.sign_flip_p(noise + ratio, "greater") <= level / 2
        assert power(ratio, seeds, level) == right.mean()
    wanted = detectable_ratio(8, 0.025, 0.8)
    assert power(wanted + 1e-9, 8, 0.025) >= 0.8 > power(wanted - 1e-9, 8, 0.025)
    assert detectable_ratio(6, 0.025, 0.8) is None and power(9.0, 6, 0.025) == 0.0  # 2/2^6 is over 0.025


def test_under_the_null_the_test_rejects_at_its_level() -> None:
    noise = np.random.default_rng(7).standard_normal((4000, 8))
    rejected = int((effects.sign_flip_p(noise, "two-sided") <= 0.05).sum())
    assert binomtest(rejected, 4000, 12 / 256).pvalue > 0.01  # the largest attainable level under 0.05
    plan = load_plan(TOY)[0].model_copy(update={"bootstrap_draws": 20})
    rng = np.random.default_rng(3)
    found = [compare(simulated("graded runs", 0.0, 8, rng), plan, "null") for _ in range(200)]
    rejected = sum(numbers.hack_p <= 0.05 for numbers in found)
    assert binomtest(rejected, 200, 12 / 256).pvalue > 0.01


def test_the_order_of_rows_changes_nothing(tmp_path: Path) -> None:
    tables = world(BEATS, qmass={"v_act": MASS})
    first = judged(tmp_path, tables)
    assert all(json.dumps(judged(tmp_path, tables, shuffle=seed)) == json.dumps(first) for seed in (1, 2))


def test_the_stage_writes_the_same_bytes_and_names_the_plan(tmp_path: Path) -> None:
    cells, outcomes = diverged(without(world(BEATS), ("flipped", 8)), ("haar", 2))
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
    assert list(found)[:3] == ["verdict", "reasons", "plan_sha256"] and found["plan_sha256"] == digest
    assert found["covered_modes"] == COVERED
    text = written[0][1].decode()
    assert text.startswith(f"# Verdict: {TREATMENT}\n") and digest in text and "labelled (uses ground truth)" in text
    assert "flipped with seed 8" in text and "haar with seed 2 (diverged in step 9, from 0)" in text
    plan.write_text(plan.read_text() + "\n")
    assert load_plan(plan)[1] != digest


@pytest.mark.parametrize(
    "old, new, key",
    [
        ("alpha: 0.05\n", "", "key 'alpha'"),
        ("alpha: 0.05", "alpha: five", "key 'alpha'.*five"),
        ("alpha: 0.05", "alpha: 0.05\nbeta: 1", "key 'beta'"),
        ("hack: 0.1, ", "hack: 0, ", "key 'margins.hack'"),
        ("placebo: haar", "placebo: hear", r"contrasts.0.placebo is 'hear'"),
        ("yoked: null", "yoked: calf", r"contrasts.0.yoked is 'calf'"),
        ("placebo: haar", "placebo: v_act", r"contrasts.0.placebo is 'v_act', as the treatment"),
        ("upper: labelled", "upper: best", r"machinery_control.upper is 'best'"),
        ("upper: labelled", "upper: absorb", r"machinery_control.reference"),
        ("v_act, haar, flipped", "v_act, haar, haar", "arms holds 'haar' twice"),
        ("7, 8]", "7, 7]", "seeds holds 7 twice"),
        ("7, 8]", "7, x]", "key 'seeds.7'.*'x'"),
        ("min_seeds: 7", "min_seeds: 9", "seeds has 8"),
        ("min_seeds: 7", "min_seeds: 6", "min_seeds is 6"),
        ("---\narms", "arms", "no front matter"),
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
        (lambda c, o: (changed(c, "haar", 3, uses_ground_truth=True), o), "'haar' with seed 3: uses_ground_truth is True"),
        (lambda c, o: (changed(c, "labelled", 3, uses_ground_truth=False), o), "'labelled' with seed 3: uses_ground_truth is False"),
        (lambda c, o: (c, without((o, o), ("haar", 3))[0]), "'haar' with seed 3 has no judged sample"),
        (lambda c, o: (c, changed(o, "haar", 3, problem_id="p99")), "seed 3: problem 'p0' is in one of the arms v_act and haar only"),
    ],
)
def test_tables_that_do_not_belong_together_are_refused_by_name(tmp_path: Path, change, message: str) -> None:
    with pytest.raises(CampaignError, match=message):
        judged(tmp_path, change(*world(BEATS)))


def test_the_plan_of_the_toy_campaign_is_usable() -> None:
    plan, _ = load_plan(TOY)
    assert len(plan.arms) == 9 and plan.seeds == list(range(41, 49))
    assert (plan.contrasts[0].treatment, plan.contrasts[0].placebo) == ("v_act", "haar")
