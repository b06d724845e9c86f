"""Saved rollouts are labelled and tested again without training, from the cache, the working folder or an archive."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from projected_grpo.analysis.results import CELLS
from projected_grpo.core.errors import InputError
from projected_grpo.core.parquet import read_rows, write_table
from projected_grpo.core.tables import DIAGNOSTICS, DIRECTIONS, LABELS
from projected_grpo.reporting.archive import pack, unpack
from projected_grpo.reporting.changes import verdict_changes
from projected_grpo.reporting.saved import RUN_TABLES, SavedError, fetch
from stages.reanalyse import main
from stages.show_cells import main as show_cells
from verify.workspace import CAMPAIGN, edit, set_cells

RESULTS = ("labels", "eval", "diagnostics", "zones", "offline_gate", "null_histograms")
HOME = CAMPAIGN / "cells/v_act/41"


@pytest.fixture
def workspace(finished, tmp_path, monkeypatch) -> Path:
    """A copy of the finished v_act workspace, which is the working folder."""
    folder = Path(shutil.copytree(finished["v_act"], tmp_path / "workspace", symlinks=True))
    monkeypatch.chdir(folder)
    return folder


def forget(path: str) -> None:
    """Remove an output from DVC's cache."""
    digest = hashlib.md5(Path(path).read_bytes()).hexdigest()
    Path(".dvc/cache/files/md5", digest[:2], digest[2:]).unlink()


def counts(printed: str) -> dict[str, list[int]]:
    """Column -> numbers of the printed table of disagreements."""
    rows = re.findall(rf"^ ({'|'.join(LABELS.columns)}) +(\d+)(?: +(\d+))?", printed, re.MULTILINE)
    return {name: [int(number) for number in found if number] for name, *found in rows}


def test_an_unchanged_run_gives_the_same_bytes_from_the_cache_alone(workspace, finished, tmp_path, capsys):
    """Without the working folder's outputs, and without what only training, evaluation by sampling and export read."""
    forget("artifacts/train/adapter/adapter.safetensors")
    forget("artifacts/base/model.safetensors")
    forget("artifacts/init/init.safetensors")
    shutil.rmtree("artifacts")
    main(tmp_path / "out", rev="HEAD")
    for name in RESULTS:
        saved = finished["v_act"] / "artifacts" / f"{name}.parquet"
        assert (tmp_path / "out/artifacts" / saved.name).read_bytes() == saved.read_bytes(), name
    for name in ("metrics.json", "frontier.json", "manifest.json", "plots/training.csv", "report.html"):
        assert (tmp_path / "out/reports" / name).read_bytes() == (finished["v_act"] / "reports" / name).read_bytes(), name
    printed = counts(capsys.readouterr().out)
    assert set(printed) == set(LABELS.columns) - {"rollout_id"} and not any(map(sum, printed.values()))
    assert printed["exploited"] == [0, 0] and not Path("artifacts").exists()


def test_what_the_cache_lacks_comes_from_the_remote(workspace, finished, tmp_path):
    shutil.move(".dvc/cache/files", tmp_path / "remote/files")
    Path(".dvc/config.local").write_text(f"[core]\n    remote = r\n['remote \"r\"']\n    url = {tmp_path / 'remote'}\n")
    shutil.rmtree("artifacts")
    saved = fetch("HEAD", None, tmp_path / "home", model=True)
    for path in (*saved.tables, Path("artifacts/base/model.safetensors"), Path("artifacts/init/init.safetensors")):
        assert (tmp_path / "home" / path).read_bytes() == (finished["v_act"] / path).read_bytes(), path


def test_new_pairs_and_directions_change_diagnostics_and_no_label(workspace, tmp_path, capsys):
    trained = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path("artifacts/train").rglob("*.*")}
    own = read_rows(Path("artifacts/directions/v_act/direction.parquet"), DIRECTIONS)
    write_table(tmp_path / "mine.parquet", DIRECTIONS, [row | {"direction": "mine"} for row in own])
    shutil.rmtree("artifacts/train/adapter")
    main(tmp_path / "out", rev="workspace", pairs="pairs/toy.md@exit_code", directions=[tmp_path / "mine.parquet"])
    torch.use_deterministic_algorithms(False)  # as it was before the directions were extracted
    assert counts(capsys.readouterr().out)["exploited"] == [0, 0]
    out = tmp_path / "out/artifacts"
    for name in ("labels", "eval", "zones", "pairs"):
        assert (out / f"{name}.parquet").read_bytes() == Path(f"artifacts/{name}.parquet").read_bytes()
    kept = {path: was for path, was in trained.items() if "adapter" not in path.parts}
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path("artifacts/train").rglob("*.*")} == kept
    old, new = (diagnostics(folder / "diagnostics.parquet") for folder in (Path("artifacts"), out))
    changed = {key[3] for key in new if new[key] != old.get(key)}
    assert changed == {"v_act", "shuffled", "flipped", "mine"}
    for (*window, name, draw), row in new.items():
        if name == "mine":  # the saved run's v_act
            assert {**row, "direction": "v_act"} == old[(*window, "v_act", draw)]
    made = read_rows(out / "directions/v_act/direction.parquet", DIRECTIONS)
    assert [row["module"] for row in made] == [row["module"] for row in own] and made != own


def diagnostics(path: Path) -> dict[tuple, dict]:
    return {tuple(row[name] for name in DIAGNOSTICS.key): row for row in read_rows(path, DIAGNOSTICS)}


@pytest.fixture
def campaign(workspace) -> Path:
    """The workspace's run as the one finished cell of a campaign, which plans another arm."""
    set_cells(Path(), "41-v_act", "41-haar")
    (CAMPAIGN / "arms/v_act").mkdir(parents=True)
    shutil.copy("params.yaml", CAMPAIGN / "arms/v_act/params.yaml")
    shutil.copytree("artifacts/train", HOME / "train")
    for name in ("labels", "eval", "eval_rollouts", "diagnostics", "zones"):
        shutil.copy(f"artifacts/{name}.parquet", HOME / f"{name}.parquet")
    return workspace


def test_a_campaign_survives_its_archive_and_changed_labels_are_counted(campaign, tmp_path, capsys):
    """Two saved labels are falsified before the cell is archived; `datasets` loads what `stages.archive` writes."""
    true = (HOME / "labels.parquet").read_bytes()
    rows = read_rows(HOME / "labels.parquet", LABELS)
    wrong = [row | {"exploited": not row["exploited"]} if place < 2 else row for place, row in enumerate(rows)]
    write_table(HOME / "labels.parquet", LABELS, wrong)
    pack(fetch("workspace", CAMPAIGN, tmp_path / "saved", model=False), tmp_path / "saved", tmp_path / "archive")

    saved = unpack([tmp_path / "archive"], tmp_path / "unpacked")
    assert [(run.arm, run.seed, run.home) for run in saved.runs] == [("v_act", 41, HOME)]
    for path in saved.tables:
        assert pq.read_table(tmp_path / "unpacked" / path).equals(pq.read_table(path), check_metadata=True), path
    for name, table in RUN_TABLES.items():
        files = str(tmp_path / "archive" / table.name / "*.parquet")
        loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
        assert len(loaded) == pq.read_metadata(HOME / f"{name}.parquet").num_rows, name
        assert (set(loaded["arm"]), set(loaded["seed"])) == ({"v_act"}, {41})

    main(tmp_path / "out", archive=[tmp_path / "archive"])
    printed = capsys.readouterr().out
    assert {name: found for name, found in counts(printed).items() if any(found)} == {"exploited": [2, 0]}
    assert (tmp_path / "out" / HOME / "labels.parquet").read_bytes() == true
    for name in ("offline_gate", "null_histograms"):
        assert (tmp_path / "out" / CAMPAIGN / f"{name}.parquet").read_bytes() == Path(f"artifacts/{name}.parquet").read_bytes()
    [cell] = read_rows(tmp_path / "out" / CAMPAIGN / "cells.parquet", CELLS)
    assert "1 cells of campaigns/toy2 are missing, so its outcomes are written to" in printed and "Rates" not in printed and f"{cell['hack_rate']:.3f}" not in printed
    assert cell["hack_rate"] == pytest.approx(json.loads(Path("reports/metrics.json").read_text())["hack_rate"], abs=5e-5)
    verdict = json.loads((tmp_path / "out" / CAMPAIGN / "reports/verdict.json").read_text())
    assert {claim["wording"] for claim in verdict["claims"]} == {"not informative"}

    page = (tmp_path / "out" / CAMPAIGN / "reports/report.html").read_text()
    assert "not informative" in page.split("<h2>")[0] and f"{cell['hack_rate']:.2f}" in page.split("<h2>Frontier")[1]

    claimed = tmp_path / "verdict.json"
    claimed.write_text(json.dumps(verdict).replace('"not informative"', '"the direction adds value"'))
    reasons = "27 runs are missing, 0 of 8 seeds"
    changes = verdict_changes(claimed, tmp_path / "out" / CAMPAIGN / "reports/verdict.json")
    assert [row[:2] for row in changes[1:]] == [
        [claim["name"], f"the direction adds value ({reasons}) -> not informative ({reasons})"]
        for claim in verdict["claims"]
    ]

    show_cells([tmp_path / "out" / CAMPAIGN])
    shown = capsys.readouterr().out
    assert re.search(rf"v_act +41 +{cell['hack_rate']:.3f}", shown) and f"{CAMPAIGN}: 1 of 2 cells done\n" in shown


def test_a_campaign_without_a_plan_has_its_tables_again_and_no_verdict(campaign, tmp_path, capsys):
    """One of its two cells is finished; its rates are printed, as there is no verdict that they could be seen before."""
    (CAMPAIGN / "plan.md").unlink()
    rows = read_rows(HOME / "labels.parquet", LABELS)
    true = (HOME / "labels.parquet").read_bytes()
    write_table(HOME / "labels.parquet", LABELS, [row | {"exploited": False} if row["exploited"] else row for row in rows])
    pack(fetch("workspace", CAMPAIGN, tmp_path / "saved", model=False), tmp_path / "saved", tmp_path / "archive")
    assert not list((tmp_path / "archive").rglob("plan.md"))
    main(tmp_path / "live", rev="workspace", campaign=CAMPAIGN)
    main(tmp_path / "out", archive=[tmp_path / "archive"])
    printed = capsys.readouterr().out
    assert printed.count(f"{CAMPAIGN} has no plan.md, so no verdict and no page\n") == 2
    rate = json.loads(Path("reports/metrics.json").read_text())["hack_rate"]
    assert len(re.findall(rf"v_act +41 +held-out +deployed +{rate:.3f} -> {rate:.3f}", printed)) == 2
    [cell] = read_rows(tmp_path / "out" / CAMPAIGN / "cells.parquet", CELLS)
    assert (cell["arm"], cell["seed"]) == ("v_act", 41) and cell["hack_rate"] == pytest.approx(rate, abs=5e-5)
    for out in (tmp_path / "live", tmp_path / "out"):
        assert (out / HOME / "labels.parquet").read_bytes() == true and not (out / CAMPAIGN / "reports").exists()
        for name in ("eval", "diagnostics", "zones"):
            assert (out / HOME / f"{name}.parquet").read_bytes() == Path(f"artifacts/{name}.parquet").read_bytes(), name
    for name in ("cells", "outcomes", "offline_gate", "null_histograms"):
        one, other = (tmp_path / out / CAMPAIGN / f"{name}.parquet" for out in ("live", "out"))
        assert one.read_bytes() == other.read_bytes(), name


def test_slim_archives_of_the_parts_of_a_campaign_give_the_results_of_the_whole(campaign, tmp_path):
    other, aside = CAMPAIGN / "cells/haar/41", tmp_path / "aside"
    shutil.copytree(CAMPAIGN / "arms/v_act", CAMPAIGN / "arms/haar")
    edit(CAMPAIGN / "arms/haar/params.yaml", "direction: v_act", "direction: haar")
    shutil.copytree(HOME, other)
    main(tmp_path / "whole", rev="workspace", campaign=CAMPAIGN)
    for number, hidden in enumerate((other, HOME)):
        hidden.rename(aside)
        pack(fetch("workspace", CAMPAIGN, tmp_path / f"saved {number}", model=False), tmp_path / f"saved {number}", tmp_path / f"part {number}", slim=True)
        aside.rename(hidden)
    parts = [tmp_path / "part 0", tmp_path / "part 1"]
    rollouts = pq.read_table(parts[0] / "rollouts/rollouts.parquet")
    assert rollouts["completion_tokens"].null_count == rollouts["sampler_logprob"].null_count == len(rollouts) > 0
    assert rollouts["program"].null_count > 0 and pq.read_metadata(parts[0] / "features/features.parquet").num_rows == 0
    main(tmp_path / "parts", archive=parts)
    same = ["cells.parquet", "outcomes.parquet", "reports/verdict.json", "reports/verdict.md"]
    same += [f"cells/{arm}/41/{name}.parquet" for arm in ("v_act", "haar") for name in ("labels", "eval", "zones")]
    for name in same:
        assert (tmp_path / "parts" / CAMPAIGN / name).read_bytes() == (tmp_path / "whole" / CAMPAIGN / name).read_bytes(), name
    kept = ["rollout_id", "text", "program", "reward", "advantage", "channels"]
    for arm in ("v_act", "haar"):
        of = [pq.read_table(folder / CAMPAIGN / f"cells/{arm}/41/train/rollouts.parquet", columns=kept) for folder in (tmp_path / "parts", tmp_path / "whole")]
        assert of[0].equals(of[1])

    (parts[1] / "settings/params.yaml").write_text((parts[1] / "settings/params.yaml").read_text() + "\n")
    with pytest.raises(SavedError, match="settings/params.yaml: differs from that of another archive"):
        unpack(parts, tmp_path / "refused")


def other_schema(workspace: Path) -> None:
    path = Path("artifacts/labels.parquet")
    pq.write_table(pq.read_table(path).append_column("verdict", pa.array([1.0] * pq.read_metadata(path).num_rows)), path)


def without(path: str):
    def remove(workspace: Path) -> None:
        forget(path)
        Path(path).unlink()

    return remove


@pytest.mark.parametrize(
    "change, given, message",
    [
        (None, {"rev": "nosuch"}, "revision nosuch: unknown Git revision 'nosuch'; expected workspace, a git revision, or an exp"),
        (None, {"rev": "HEAD~1"}, r"revision HEAD~1: holds no artifacts/\S+; expected a revision in which the pipeline ran"),
        (without("artifacts/train/features.parquet"), {"rev": "HEAD"}, r"HEAD: artifacts/train/features.parquet is neither .* `dvc pull art"),
        (other_schema, {"rev": "workspace"}, r"workspace: artifacts/labels.parquet: unknown columns \['verdict'\]; expected the table labels"),
        (lambda _: edit(Path("params.yaml"), "seed: 41", "seeds: 41"), {"rev": "workspace"}, "revision workspace: params.yaml: key 'seed'"),
        (None, {"rev": "HEAD", "campaign": CAMPAIGN}, f"{CAMPAIGN}: no cell is finished"),
        (None, {"rev": "HEAD", "archive": [Path("artifacts")]}, "either --rev or --archive"),
        (None, {}, "either --rev or --archive"),
        (None, {"archive": [Path("artifacts")]}, "artifacts: holds no settings/params.yaml"),
        (None, {"archive": [Path("artifacts")], "pairs": "pairs/toy.md"}, "--archive goes with neither"),
        (None, {"rev": "HEAD", "pairs": "pairs/none.md"}, "pairs/none.md"),
        (None, {"rev": "HEAD", "directions": [Path("artifacts/directions/v_act/direction.parquet")]}, "has a direction 'v_act' already"),
        (None, {"rev": "HEAD", "directions": [Path("artifacts/directions/v_act/differences.parquet")]}, "expected the table directions"),
    ],
)  # fmt: skip
def test_what_cannot_be_analysed_is_refused_before_anything_is_written(workspace, tmp_path, change, given, message):
    if change:
        change(workspace)
    with pytest.raises(InputError, match=message):
        main(tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_exists_is_left_as_it_is(workspace, tmp_path):
    with pytest.raises(InputError, match="exists already; name a new folder"):
        main(tmp_path, rev="HEAD")
