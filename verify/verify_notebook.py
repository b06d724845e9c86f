"""The notebook of the documentation runs on an archive as `stages.archive` writes it, and its numbers are those of the report."""

import json
from pathlib import Path

import datasets
import matplotlib
import polars as pl
import pytest

from projected_grpo.analysis.rates import find, two_by_two
from projected_grpo.core.parquet import read_rows
from projected_grpo.core.tables import EVAL, STATES
from stages.archive import main

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs/explore.ipynb"


def cells(kind: str) -> list[dict]:
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == kind]


@pytest.mark.parametrize("slim", [False, True])
def test_every_cell_runs_on_an_archive_and_gives_the_rates_of_the_report(finished, tmp_path, monkeypatch, slim):
    matplotlib.use("agg")
    monkeypatch.chdir(finished["v_act"])
    main(rev="workspace", out=tmp_path / "archive", slim=slim)
    monkeypatch.setenv("ARCHIVE", str(tmp_path / "archive"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    space: dict = {}
    for cell in cells("code"):
        exec(compile("".join(cell["source"]), NOTEBOOK.name, "exec"), space)
    try:
        assert len(space["plt"].get_fignums()) == 3
    finally:
        space["plt"].close("all")
    report = two_by_two(read_rows(Path("artifacts/eval.parquet"), EVAL))
    found = {row["state"]: (row["hack"], row["solve"]) for row in space["rates"].iter_rows(named=True)}
    held_out = {state: find(report, "heldout", state) for state in STATES}
    assert found == {state: pytest.approx((cell.hack.value, cell.solve.value)) for state, cell in held_out.items()}
    own = pl.read_parquet("artifacts/train/rollouts.parquet").filter(source="policy")
    assert space["labelled"].select("rollout_id").equals(own.select("rollout_id")) and space["texts"].num_rows == own.height
    exploited = own.join(pl.read_parquet("artifacts/labels.parquet").select("rollout_id", "exploited"), on="rollout_id")
    hinted = exploited.filter(pl.col("shown_mode") != "gt_only").group_by("step").agg(pl.col("exploited").mean()).sort("step")
    assert space["shares"]["exploited"].to_list() == hinted["exploited"].to_list()


def test_the_notebook_is_kept_without_outputs():
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells("code"))
