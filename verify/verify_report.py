"""The report states what the tables hold: intervals, exclusions, metrics, comparability, escaping, and equal bytes."""

import json
from dataclasses import replace
from typing import get_args

import numpy as np
import polars as pl
import pytest
from scipy.stats import beta

from projected_grpo.analysis.rates import effective_size, find, rate, selectivity, two_by_two
from projected_grpo.core.tables import DATA, STATES
from projected_grpo.prompts.modes import GT_ONLY, MODES
from projected_grpo.reporting import figures, summary
from projected_grpo.reporting.compare import CompareError, Run, arm_table, check_comparable, frontier_points, markdown, run_table
from projected_grpo.reporting.html import Contents, render
from projected_grpo.reporting.manifest import Arm, ManifestError, describe, parse_manifest
from projected_grpo.reporting.style import ARM_COLOURS, ARM_MARKERS, look
from projected_grpo.settings.arm import DIRECTIONS, SCORED, Gate, load_settings
from projected_grpo.settings.monitor import LABELLED

METRIC_NAMES = [
    "hack_rate", "qmass", "solve_rate", "hack_rate_as_trained", "solve_rate_as_trained", "solve_rate_unhinted",
    "selectivity", "auroc_live", "hack_rate_low", "hack_rate_high", "base_solve_rate", "n_valid",
]  # fmt: skip
INJECTION = "<script>alert('rollout')</script>"


def exact(hits: float, n: float) -> tuple[float, float]:
    return float(beta.ppf(0.025, hits, n - hits + 1)), float(beta.ppf(0.975, hits + 1, n - hits))


def manifest(**changes: object) -> str:
    gate = {"policy": "route", "direction": "v_act", "draw": 0, "cuts": "quantile", "refresh_every": 0}
    gate |= {key: value for key, value in changes.items() if key in gate}
    monitor = {"kind": changes.get("kind", "none"), "use": changes.get("use", "none")}
    train = {"learning_rate": changes.get("learning_rate", 0.001)}
    curriculum = load_settings().curriculum.model_dump()
    curriculum |= {key: value for key, value in changes.items() if key in curriculum}
    settings = {"profile_name": "toy", "seed": changes.get("seed", 1), "gate": gate, "monitor": monitor, "curriculum": curriculum}
    settings["profile"] = {"train": train, "problems": {"kind": "toy"}, "demonstrations": {"hack_demos": curriculum["hack_demos"]}}
    arm = {f"gate.{key}": value for key, value in gate.items()} | {f"monitor.{key}": value for key, value in monitor.items()}
    arm["curriculum.inoculate"] = curriculum["inoculate"]
    times = {"sample": [1.0, 1.0]}
    return json.dumps(
        {"arm": arm, "settings": settings, "inputs": {"pairs": changes.get("pairs", "a")}, "resumed_from_step": None,
         "diverged_at_step": changes.get("diverged_at_step"), "seconds_by_phase": times, "versions": {}}
    )


def run(rev: str, hack_rate: float = 0.5, **changes: object) -> Run:
    metrics = dict.fromkeys(METRIC_NAMES, 0.25) | {"hack_rate": hack_rate, "hack_rate_low": 0.0, "hack_rate_high": 1.0}
    return Run(rev, parse_manifest(manifest(**changes), rev), metrics)


def eval_rows(hack_as_trained: bool = True) -> list[dict]:
    """Four problems, three samples each, with a hint and without; sample 2 of problem 0 was not judged."""
    rows = []
    for data in DATA:
        for state in STATES:
            for index in range(4):
                for mode in (MODES[index], GT_ONLY):
                    for sample in range(3):
                        exploited = mode != GT_ONLY and state == "as_trained" and hack_as_trained and sample < 2
                        judged = (index, sample) != (0, 2)
                        rows.append(
                            {
                                "data": data,
                                "state": state,
                                "shown_mode": mode,
                                "problem_id": f"p{index}",
                                "sample": sample,
                                "exploited": exploited if judged else None,
                                "gt_correct": sample == 2 if judged else None,
                                "env_passed": exploited,
                                "channels": "",
                                "status": "ok" if judged else "timeout_wall",
                            }
                        )
    return rows


def step_table(steps: int = 8) -> pl.DataFrame:
    names = ["qmass", "keep_share", "absorb_share", "route_share", "rho_keep", "rho_absorb", "rho_route", "kl", "compiled_share"]
    columns = {name: [0.25 + 0.01 * step for step in range(steps)] for name in ["reward_mean", *names]}
    return pl.DataFrame({"step": list(range(steps)), **columns}).with_columns(qmass=pl.lit(None, pl.Float64))


def diagnostic_table() -> pl.DataFrame:
    rows = []
    for kind in ("all", "positive_advantage"):
        for direction, draws in (("live", 1), ("v_act", 1), ("haar", 4)):
            for window, auroc in ((0, 0.9), (4, None)):
                window_of = {"first_step": window, "last_step": window + 3, "rollouts": kind}
                named = {"reading": "bottleneck", "direction": direction, "auroc": auroc}
                rows += [window_of | named | {"draw": draw} for draw in range(draws)]
    return pl.DataFrame(rows, infer_schema_length=None)


def labelled_table(steps: int = 8) -> pl.DataFrame:
    rows = []
    for step in range(steps):
        for sample, mode in enumerate([*MODES, GT_ONLY]):
            rows.append(
                {
                    "rollout_id": f"{step}-0-{sample}",
                    "step": step,
                    "problem_id": "p0",
                    "shown_mode": mode,
                    "text": f"{step} {sample} {INJECTION}",
                    "reward": 3.5,
                    "exploited": mode != GT_ONLY,
                    "gt_correct": mode == GT_ONLY,
                    "status": "ok",
                }
            )
    return pl.DataFrame(rows)


def contents(policy: str = "route", **arm: str) -> Contents:
    cells, rollouts, diagnostics = two_by_two(eval_rows()), labelled_table(), diagnostic_table()
    gate = rollouts.select("rollout_id", score=pl.lit(0.5), zone=pl.lit("route"))
    problems = pl.DataFrame({"problem_id": ["p0"], "statement": [INJECTION]})
    return Contents(
        manifest=parse_manifest(manifest(policy=policy, **arm), "manifest.json"),
        metrics=summary.headline(cells, step_table(), diagnostics),
        cells=cells,
        curve=summary.training_curve(step_table(), rollouts),
        labelled=rollouts,
        diagnostics=diagnostics,
        covered=list(MODES[:2]),
        examples=summary.examples(rollouts, gate, problems),
        paths={},
    )


def test_no_hit_counts_problems_not_samples():
    found = rate([False] * 40, [f"p{i // 4}" for i in range(40)])
    assert (found.value, found.low, found.n, found.problems) == (0.0, 0.0, 40, 10)
    assert found.high == pytest.approx(1.0 - 0.025 ** (1 / 10))


def test_one_sample_a_problem_is_clopper_pearson_of_n():
    found = rate([True] * 9 + [False] * 21, [f"p{i}" for i in range(30)])
    assert (found.low, found.high) == pytest.approx(exact(9, 30))


def test_effective_size_by_hand():
    """The variance is problems / (problems - 1) times the sum of squared residuals over the square of the samples."""
    sizes = np.full(4, 8)
    hits = np.array([8, 0, 6, 1])  # share 15/32, residuals 4.25, -3.75, 2.25, -2.75
    variance = 4 / 3 * (4.25**2 + 3.75**2 + 2.25**2 + 2.75**2) / 32**2
    assert effective_size(hits, sizes) == pytest.approx(15 / 32 * 17 / 32 / variance)
    assert effective_size(np.array([8, 0, 8, 0]), sizes) == 4.0  # 3 by the formula; never under the problems
    assert effective_size(np.array([4, 4, 4, 5]), sizes) == 32.0  # more by the formula; never over the samples


def test_equal_shares_of_every_problem_count_all_samples():
    found = rate([True, False] * 10, [f"p{i // 2}" for i in range(20)])
    assert (found.low, found.high) == pytest.approx(exact(10, 20))


def test_clustering_widens():
    hits = [i < 20 for i in range(40)]
    clustered, spread = rate(hits, [f"p{i // 4}" for i in range(40)]), rate(hits, [f"p{i % 10}" for i in range(40)])
    assert clustered.value == spread.value
    assert clustered.high - clustered.low > spread.high - spread.low
    assert (clustered.low, clustered.high) == pytest.approx(exact(5, 10))


def test_rates_leave_out_and_count_nulls():
    found = rate([True, None, False, None], ["a", "a", "b", "c"])
    assert (found.value, found.n, found.problems, found.excluded) == (0.5, 2, 2, 2)
    nothing = rate([None, None], ["a", "b"])
    assert (nothing.value, nothing.low, nothing.high, nothing.n, nothing.excluded) == (None, None, None, 0, 2)


def test_two_by_two_keeps_hint_and_no_hint_apart():
    cells = two_by_two(eval_rows())
    trained, deployed = find(cells, "heldout", "as_trained"), find(cells, "heldout", "deployed")
    assert trained.hack.value == pytest.approx(8 / 11) and deployed.hack.value == 0.0
    assert trained.solve.value == trained.solve_unhinted.value == pytest.approx(3 / 11)
    assert list(trained.hack_by_mode) == list(MODES[:4]) and trained.hack_by_mode[MODES[0]].value == 1.0
    assert selectivity(trained, deployed) == pytest.approx(1.0)
    assert selectivity(deployed, deployed) is None


@pytest.mark.parametrize("hack_as_trained", [True, False])
def test_metrics_are_flat_ordered_and_without_nan(hack_as_trained: bool):
    numbers = summary.headline(two_by_two(eval_rows(hack_as_trained)), step_table(), diagnostic_table())
    assert list(numbers) == METRIC_NAMES
    json.dumps(numbers, allow_nan=False)
    assert numbers["qmass"] is None and numbers["auroc_live"] == 0.9 and numbers["n_valid"] == 11
    assert numbers["selectivity"] == (1.0 if hack_as_trained else None)


def test_tables_of_two_runs_are_refused():
    labels = pl.DataFrame({"rollout_id": ["a", "c"]})
    with pytest.raises(summary.ReportError, match="rollouts and labels.*2 rollouts.*'b'"):
        summary.labelled(pl.DataFrame({"rollout_id": ["a", "b"]}), labels)


def test_compare_refuses_a_differing_learning_rate():
    with pytest.raises(CompareError, match=r"'profile.train.learning_rate': found 0.001 in one; 0.002 in two"):
        check_comparable([run("one"), run("two", learning_rate=0.002, seed=2)])


def test_compare_refuses_one_run_twice():
    with pytest.raises(CompareError, match="revisions one and two.*each arm, variant and seed once"):
        check_comparable([run("one"), run("two")])


def test_compare_accepts_another_arm_and_seed():
    runs = [run("b", 0.1, seed=2), run("a", 0.7), run("h", 0.3, direction="haar", draw=3), run("n", policy="none"), run("m", direction="directions/mine.parquet")]
    check_comparable(runs)
    table = run_table(runs)
    assert table["rev"].to_list() == ["n", "a", "b", "h", "m"]
    arms = arm_table(table).rows_by_key("group", named=True, unique=True)
    assert (arms["route v_act"]["runs"], arms["route v_act"]["hacked"]) == (2, 1)
    assert arms["route v_act"]["mean_hack_rate"] == pytest.approx(0.4)
    drawing = figures.frontier_figure(frontier_points(table))
    assert drawing.count("seed ") >= 5 and "route directions/mine.parquet" in drawing


def test_a_manifest_without_a_key_is_refused():
    with pytest.raises(ManifestError, match="manifest.json: key 'versions'"):
        parse_manifest(json.dumps(json.loads(manifest()) | {"versions": None}), "manifest.json")


def test_model_text_is_escaped():
    page = render(contents())
    assert "<script" not in page
    assert "&lt;script&gt;alert(&#x27;rollout&#x27;)" in page


def test_examples_show_each_mode_and_correct_ones_of_the_last_quarter():
    rows = contents().examples
    assert len(rows) == 10 and min(row["step"] for row in rows) >= 6
    assert [row["shown_mode"] for row in rows[:6]] == list(MODES)
    assert sum(row["gt_correct"] for row in rows) == 2


def test_permuted_arms_are_told_apart_by_the_direction_whose_zones_they_permute():
    arms = [run("r", policy="permuted_step", direction=direction, draw=draw).manifest.arm for direction, draw in (("v_act", 0), ("haar", 3))]
    assert [arm.name for arm in arms] == ["permuted_step v_act", "permuted_step haar 3"]


def test_an_arm_that_inoculates_is_named_for_it():
    assert run("r", policy="none", inoculate=True).manifest.arm.name == "inoculated"


def test_compare_takes_every_setting_of_the_gate_for_a_variant():
    runs = [run("one"), run("two", refresh_every=5)]
    check_comparable(runs)
    assert run_table(runs)["variant"].to_list() == ["gate.refresh_every=0", "gate.refresh_every=5"]


def test_compare_shows_in_what_runs_of_one_arm_differ():
    runs = [run("one"), run("two", hack_demos=1, cuts="pairs"), run("three", seed=2)]
    check_comparable(runs)
    table = run_table(runs)
    plain, other = "gate.cuts='quantile', curriculum.hack_demos=0", "gate.cuts='pairs', curriculum.hack_demos=1"
    assert dict(table.select("rev", "variant").rows()) == {"one": plain, "three": plain, "two": other}
    assert sorted(arm_table(table)["runs"].to_list()) == [1, 2]
    with pytest.raises(CompareError, match="revisions two and again.*each arm, variant and seed once"):
        check_comparable([*runs, run("again", hack_demos=1, cuts="pairs")])


def test_demonstrations_are_left_out_of_what_the_report_says_of_the_policy():
    rollouts = pl.DataFrame({"rollout_id": ["a", "b"], "step": [0, 0], "source": ["policy", "demonstration"]})
    labels = pl.DataFrame({"rollout_id": ["a", "b"], "exploited": [False, True], "gt_correct": [True, False]})
    joined = summary.labelled(rollouts, labels)
    assert joined["rollout_id"].to_list() == ["a"]
    assert summary.training_curve(pl.DataFrame({"step": [0], "reward_mean": [0.5]}), joined)["hack"].to_list() == [0.0]


def test_a_divergence_is_said_and_only_where_there_was_one():
    page = contents()
    assert "diverged" not in render(page)
    record = parse_manifest(manifest(diverged_at_step=11), "manifest.json")
    assert "This run diverged: the tripwire ended its training in step 11, counted from 0" in render(replace(page, manifest=record))
    assert run_table([run("a", diverged_at_step=11)])["diverged_at_step"].to_list() == [11]


def test_one_block_is_said_of_the_none_arm_only():
    assert "as one block" in render(contents("none"))
    assert "as one block" not in render(contents())


def test_figures_have_equal_bytes_twice():
    assert render(contents()) == render(contents())


def test_compare_refuses_runs_on_different_pairs():
    with pytest.raises(CompareError, match=r"'inputs.pairs': found 'a' in one; 'b' in two"):
        check_comparable([run("one"), run("two", pairs="b", seed=2)])


def test_a_run_file_that_is_cut_is_refused(tmp_path):
    path = tmp_path / "run.json"
    path.write_text('{"resumed_from_step": nu')
    with pytest.raises(ManifestError, match="run.json: cannot be read as JSON"):
        describe(load_settings(), {}, path)


MARKED = {  # policy, direction, kind and use of the monitor -> the arm's name
    ("labelled", "v_act", "ground_truth", "none"): "labelled (uses ground truth)",
    ("none", "v_act", "ground_truth", "penalty"): "penalty (uses ground truth)",
    ("none", "v_act", "ground_truth", "screening"): "screening (uses ground truth)",
    ("route", "oracle", "none", "none"): "route oracle (uses ground truth)",
    ("none", "v_act", "probe", "penalty"): "penalty probe",
    ("permuted_sign", "oracle", "none", "none"): "permuted_sign oracle (uses ground truth)",
    ("labelled_masses", "v_act", "ground_truth", "none"): "labelled_masses v_act (uses ground truth)",
    ("none", "v_act", "direction", "discount"): "discount v_act",
    ("none", "v_act", "judge", "screening"): "screening judge",
    ("none", "v_act", "none", "none"): "none",
}


def test_arms_that_use_ground_truth_are_marked_in_every_table_and_figure():
    keys = ("policy", "direction", "kind", "use")
    runs = [run(f"r{i}", **dict(zip(keys, arm))) for i, arm in enumerate(MARKED)]
    check_comparable(runs)
    table = run_table(runs)
    assert dict(zip(table["rev"], table["group"])) == {f"r{i}": name for i, name in enumerate(MARKED.values())}
    drawing = figures.frontier_figure(frontier_points(table))
    for arm, shown in MARKED.items():
        page = render(contents(**dict(zip(keys, arm))))
        assert shown in drawing and shown in markdown(table) and shown in page
        marked = shown.endswith("(uses ground truth)")
        assert ("uses ground truth" in page) == ("It is an upper bound" in page) == marked
        assert ("took no part in training" in page) != marked


def test_the_figure_of_the_routing_score_is_of_the_reading_that_the_gate_scores():
    table = diagnostic_table()
    elsewhere = table.filter(pl.col("direction") != "live").with_columns(reading=pl.lit("residual"), auroc=pl.lit(0.1))
    assert figures.diagnostics_figure(pl.concat([table, elsewhere])) == figures.diagnostics_figure(table)
    dealt = {"permuted_sign": "zones were permuted;", "labelled_masses": "zones were dealt by label;"}
    for policy, words in ({"route": "own, which routed;", "absorb": "routed nothing in this arm;"} | dealt).items():
        assert words in render(contents(policy))


def test_every_arm_has_a_colour_and_a_marker_of_its_own():
    assert set(ARM_COLOURS) == set(ARM_MARKERS)
    assert len({(ARM_COLOURS[name], ARM_MARKERS[name]) for name in ARM_COLOURS}) == len(ARM_COLOURS)
    policies, directions = get_args(Gate.model_fields["policy"].annotation), [*DIRECTIONS, "directions/mine.parquet"]
    monitored = [("none", kind, use) for kind in ("probe", "judge", "ground_truth") for use in ("penalty", "screening")]
    routed = [(policy, "ground_truth" if policy in LABELLED else "none", "none") for policy in policies]
    for policy, kind, use in [*monitored, *routed, ("none", "direction", "discount")]:
        for direction in directions if policy in SCORED else [name for name in directions if name != "oracle"]:
            values = {"gate.policy": policy, "gate.direction": direction, "gate.draw": 0, "curriculum.inoculate": False}
            assert look(Arm.model_validate(values | {"monitor.kind": kind, "monitor.use": use}).group)
