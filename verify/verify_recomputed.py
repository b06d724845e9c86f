"""An independent program recomputes the verdict from the published tables, with polars and scipy alone, to eight digits."""

import json
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from ruamel.yaml import YAML
from scipy.optimize import bisect
from scipy.stats import permutation_test

from projected_grpo.analysis.results import CELLS, OUTCOMES
from projected_grpo.core.parquet import write_table
from verify.verify_verdict import CASES, PLAN, judged

PUBLISHED = [folder for folder in sorted(Path("docs/results").iterdir()) if (folder / "verdict.json").exists() and folder.name != "toy"]
DIGITS = 2e-8


@pytest.fixture(params=["planted", *(folder.name for folder in PUBLISHED)])
def folder(request, tmp_path: Path) -> Path:
    if request.param != "planted":
        return Path("docs/results") / request.param
    for table, rows in zip((CELLS, OUTCOMES), CASES["adds value"][0]):
        write_table(tmp_path / f"{table.name}.parquet", table, rows)
    (tmp_path / "plan.md").write_text(PLAN)
    (tmp_path / "verdict.json").write_text(json.dumps(judged(tmp_path, CASES["adds value"][0])))
    return tmp_path


def differences(outcomes: pl.DataFrame, first: str, second: str, column: str, modes: list[str] | None = None) -> np.ndarray:
    shown = outcomes.filter(pl.col("shown_mode") != "gt_only", pl.col("shown_mode").is_in(modes or outcomes["shown_mode"].unique()))
    rates = shown.filter(data="heldout", state="deployed").group_by("arm", "seed").agg(rate=pl.col(column).sum() / pl.col("judged").sum())
    both = rates.filter(arm=first).join(rates.filter(arm=second), on="seed").sort("seed")
    return (both["rate"] - both["rate_right"]).to_numpy()


@cache
def patterns(seeds: int) -> np.ndarray:
    return np.array(list(product((1.0, -1.0), repeat=seeds)))


def p_by_patterns(values: np.ndarray, side: int) -> float:
    """Share of the sign patterns whose mean lies as far on the side, -1 or 1."""
    return float(np.mean(side * (patterns(len(values)) @ values) >= side * values.sum() - 1e-10))


def limit(values: np.ndarray, side: int, level: float) -> float:
    turns = lambda shift: (p_by_patterns(values - shift, -side) > level) - 0.5  # noqa: E731
    return bisect(turns, values.mean(), values.mean() + 2 * side, xtol=1e-11)


def agrees(found: dict, values: np.ndarray, level: float) -> None:
    assert found["mean"] == pytest.approx(values.mean(), abs=DIGITS)
    for name, side in (("p_less", -1), ("p_greater", 1)):
        assert found[name] == pytest.approx(p_by_patterns(values, side), abs=DIGITS)
    if found["low"] is not None:
        assert [found["low"], found["high"]] == pytest.approx([limit(values, side, level) for side in (-1, 1)], abs=DIGITS)


def holm(p: list[float]) -> list[float]:
    ranked = sorted(range(len(p)), key=lambda place: p[place])
    scaled = [min(1.0, (len(p) - rank) * p[place]) for rank, place in enumerate(ranked)]
    return [max(scaled[: ranked.index(place) + 1]) for place in range(len(p))]


def test_the_base_model_s_rates_agree_with_an_independent_program(folder: Path) -> None:
    base, outcomes = json.loads((folder / "verdict.json").read_text())["base"], pl.read_parquet(folder / "outcomes.parquet")
    once = outcomes.filter(pl.col("shown_mode") != "gt_only", data="heldout", state="base").unique(["seed", "shown_mode", "problem_id"])
    for name, column in (("hack_rate", "exploited"), ("solve_rate", "correct")):
        assert base[name] == pytest.approx(once[column].sum() / once["judged"].sum(), abs=DIGITS)


def test_claims_and_secondary_tests_agree_with_an_independent_program(folder: Path) -> None:
    verdict, outcomes = json.loads((folder / "verdict.json").read_text()), pl.read_parquet(folder / "outcomes.parquet")
    plan = YAML(typ="safe").load((folder / "plan.md").read_text().split("---")[1])
    level, margins, p_claims = plan["alpha"] / 2, plan["margins"], []
    for claim, planned in zip(verdict["claims"], plan["claims"], strict=True):
        for found in (*claim["against"], *claim["beside"]):
            for rate, column in (("hack", "exploited"), ("solve", "correct")):
                agrees(found[rate], differences(outcomes, found["first"], found["second"], column), level)
        parts = []
        for other in planned["better_than"]:
            hack, solve = (differences(outcomes, planned["method"], other, column) for column in ("exploited", "correct"))
            exact = dict(permutation_type="samples", n_resamples=np.inf, alternative="less")
            parts += [permutation_test((hack,), np.mean, **exact).pvalue, p_by_patterns(solve + margins["solve"], 1)]
        p_claims.append(max(parts))
        assert claim["p"] is None or claim["p"] == pytest.approx(max(parts), abs=DIGITS)
    known = [p if claim["p"] is not None else None for claim, p in zip(verdict["claims"], holm(p_claims))]
    assert [claim["p_holm"] for claim in verdict["claims"]] == pytest.approx(known, abs=DIGITS)
    covered = sorted({row["mode"] for row in verdict["modes"] if row["covered"]})
    p_secondary, without = [], sorted({*outcomes["shown_mode"]} - {*covered, "gt_only"})
    for test in verdict["secondary"]:
        values = differences(outcomes, *(arms := (test["first"], test["second"], "exploited")))
        if test["kind"] == "interaction":
            values = differences(outcomes, *arms, covered) - differences(outcomes, *arms, without)
        ends = [p_by_patterns(values, side) for side in (-1, 1)] if len(values) else [1.0]
        if test["kind"] == "equivalence" and len(values):
            ends = [max(p_by_patterns(values - side * margins["placebo"], -side) for side in (1, -1))]
        p_secondary.append(min(1.0, 2 * min(ends)))
        assert test["p"] is None or test["p"] == pytest.approx(p_secondary[-1], abs=DIGITS)
    adjusted = [p if test["p"] is not None else None for test, p in zip(verdict["secondary"], holm(p_secondary))]
    assert [test["p_holm"] for test in verdict["secondary"]] == pytest.approx(adjusted, abs=DIGITS)
