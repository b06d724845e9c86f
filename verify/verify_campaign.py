"""A campaign runs the cells that are missing and no others, each the same run as its arm alone, and none without a plan."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from projected_grpo.analysis.results import CELLS, OUTCOMES
from projected_grpo.core.parquet import read_rows
from projected_grpo.core.tables import EVAL
from projected_grpo.settings.arm import load_settings
from projected_grpo.settings.campaign import CampaignError, arm_params, load_campaign
from projected_grpo.settings.files import SettingsError, read_yaml
from stages.campaign import main, require_committed
from verify.verify_pipeline import kill_when
from verify.workspace import CAMPAIGN as FOLDER
from verify.workspace import commit, copy_project, dvc, edit, run, set_cells

CORES = str(len(os.sched_getaffinity(0)))  # as many cells at once leave a thread to each, as the other gates' stages have
CAMPAIGN = [sys.executable, "-m", "stages.campaign", str(FOLDER), "--workers", CORES]
PIPELINE = YAML(typ="safe").load((FOLDER / "dvc.yaml").read_text())["stages"]
ROOT = YAML(typ="safe").load(Path("dvc.yaml").read_text())["stages"]
PIPELINE |= {name: stage["do"] for name, stage in PIPELINE.items() if "do" in stage}  # of each cell or seed
SAME = {
    "train": "train_arm", "label": "label_rollouts", "evaluate_base": "base_eval", "evaluate": "deploy_ablate_eval",
    "diagnose": "gate_diagnostics",
}  # fmt: skip


@pytest.mark.parametrize("stage", SAME)
def test_a_cell_depends_on_the_code_and_the_settings_that_its_arm_alone_does(stage):
    def code(text: dict) -> list[str]:
        return sorted(dep for dep in text["deps"] if dep.startswith(("stages", "projected_grpo")))

    def settings(text: dict, arm: str | None) -> dict[str, list[str]]:
        found = {"arm": [key for key in text["params"] if isinstance(key, str) and key != "seed"]}
        for item in (item for item in text["params"] if isinstance(item, dict)):
            found |= {"arm" if file == arm else file: sorted(keys) for file, keys in item.items()}
        return found

    cell, alone = PIPELINE[stage], ROOT[SAME[stage]]
    offline = stage == "diagnose"  # of a single arm the same stage makes the offline gate test too, of a campaign its report
    assert code(cell) == [dep for dep in code(alone) if not (offline and dep in ("stages/pipeline/offline_gate.py", "projected_grpo/gate"))]
    found, expected = settings(cell, "campaigns/${name}/arms/${item.arm}/params.yaml"), settings(alone, None)
    if offline:
        assert {"adapter.seed", "offline"} < set(expected["arm"])
        expected["arm"] = found["arm"]
    assert found == expected


@pytest.mark.parametrize("pipeline", sorted(Path("campaigns").glob("*/dvc.yaml")), ids=str)
def test_one_pipeline_serves_every_campaign_by_its_name(pipeline):
    text = pipeline.read_text()
    assert text == (FOLDER / "dvc.yaml").read_text() and pipeline.parent.name not in text
    assert len(text.splitlines()) <= 150 and len(Path("dvc.yaml").read_text().splitlines()) <= 320 and len(ROOT) <= 14


@pytest.mark.parametrize("campaign", sorted(Path("campaigns").glob("*/params.yaml")), ids=str)
def test_every_arm_of_a_campaign_can_be_trained(campaign, tmp_path):
    (tmp_path / "profiles").symlink_to(Path("profiles").resolve())
    params, planned = read_yaml(Path("params.yaml")), load_campaign(campaign)
    for name in planned.arm:
        with (tmp_path / "params.yaml").open("w") as file:
            YAML().dump(arm_params(planned, name, params | {"profile": planned.profile}), file)
        load_settings(tmp_path)


def test_the_stage_of_a_campaign_s_arm_reads_what_that_of_a_single_arm_does():
    of_campaign, alone = PIPELINE["arm"], ROOT["arm"]
    assert of_campaign["deps"] == alone["deps"]


def test_training_of_a_cell_sees_no_ground_truth_beside_its_arm():
    assert not any("ground_truth" in dep for dep in PIPELINE["train"]["deps"])


def test_an_arm_has_the_project_settings_but_for_its_own_and_a_cell_its_seed(tmp_path):
    campaign, params = load_campaign(FOLDER / "params.yaml"), read_yaml(Path("params.yaml"))
    params["gate"]["half_life"], params["seed"] = 48, 7
    made = arm_params(campaign, "haar_wide", params)
    (tmp_path / "profiles").symlink_to(Path("profiles").resolve())
    with (tmp_path / "params.yaml").open("w") as file:
        YAML().dump(made, file)
    settings = load_settings(tmp_path, seed=43)
    assert (settings.seed, settings.gate.draw, settings.gate.direction, settings.gate.cuts) == (43, 43, "haar", "quantile")
    assert (settings.gate.keep_quantile, settings.gate.route_quantile, settings.gate.half_life) == (0.05, 0.2, 48)
    assert settings.curriculum == load_settings().curriculum
    inoculated = arm_params(campaign, "inoculated", params)
    assert inoculated["curriculum"] == params["curriculum"] | {"inoculate": True}
    assert (inoculated["seed"], inoculated["gate"]["draw"]) == (0, 0)


def test_a_campaign_that_cannot_be_run_is_refused_by_key(tmp_path):
    campaign, params = load_campaign(FOLDER / "params.yaml"), read_yaml(Path("params.yaml"))
    with pytest.raises(CampaignError, match="arm 'haar2': the campaign has none, absorb"):
        arm_params(campaign, "haar2", params)
    with pytest.raises(CampaignError, match="key 'profile': found smollm2, expected toy"):
        arm_params(campaign, "haar", params | {"profile": "smollm2"})
    with pytest.raises(CampaignError, match="key 'launch': found 'torchrun --nproc-per-node 2', expected 'python'"):
        arm_params(campaign, "haar", params | {"launch": "torchrun --nproc-per-node 2"})
    wrong = {
        r"name: toy2": ("name: toy3", "key 'name': found 'toy3', expected 'toy2', the name of its folder"),
        r"101-absorb: .*": ('101-nothing: {seed: "101", arm: nothing}', "cells.101-nothing.arm is nothing, which the section arm lacks"),
        r"101-haar: ": ("101-v_act2: ", "cells.101-v_act2 is arm haar with seed 101; name it 101-haar"),
        r'seeds: \["101"': ('seeds: ["x1"', "seeds holds 'x1'"),
        r'seeds: \["101", ': ("seeds: [", "seeds is 102, .*, but the cells have 101, 102"),
        r"gate: \{policy: none,": ("gate: {policy: none, draw: 3,", "arm.none sets gate.draw, which all cells share"),
    }
    for pattern, (replacement, message) in wrong.items():
        path = tmp_path / "toy2/params.yaml"
        path.parent.mkdir(exist_ok=True)
        shutil.copy(FOLDER / "params.yaml", path)
        edit(path, pattern, replacement)
        with pytest.raises(SettingsError, match=message):
            load_campaign(path)


def test_a_plan_must_be_committed_as_it_lies_there(tmp_path):
    run(["git", "init", "-q"], tmp_path)
    run(["git", "config", "user.name", "gate"], tmp_path)
    run(["git", "config", "user.email", "gate@example.org"], tmp_path)
    plan = tmp_path / "plan.md"
    plan.write_text("a plan")
    with pytest.raises(CampaignError, match="plan.md: is not committed"):
        require_committed(plan)
    commit(tmp_path)
    require_committed(plan)
    plan.write_text("another plan")
    with pytest.raises(CampaignError, match="plan.md: is not committed"):
        require_committed(plan)


def test_a_cluster_gets_a_known_remote_and_a_committed_project_or_nothing(tmp_path, monkeypatch):
    workspace = copy_project(tmp_path / "workspace")
    monkeypatch.chdir(workspace)
    with pytest.raises(CampaignError, match="give --ray and --remote together"):
        main(FOLDER, ray="auto")
    with pytest.raises(CampaignError, match=r"\.dvc/config: found --remote shared, expected one of the remotes there \(none yet\)"):
        main(FOLDER, ray="auto", remote="shared")
    dvc(workspace, "remote", "add", "--local", "shared", str(tmp_path / "remote"))
    with pytest.raises(CampaignError, match="found --remote shared"):
        main(FOLDER, ray="auto", remote="shared")
    dvc(workspace, "remote", "add", "shared", str(tmp_path / "remote"))
    with pytest.raises(CampaignError, match=r"^\.dvc/config: not committed \(1 in all\)"):
        main(FOLDER, ray="auto", remote="shared")
    commit(workspace)
    new = workspace / "projected_grpo/gate/new.py"
    new.write_text("")
    with pytest.raises(CampaignError, match=r"^projected_grpo/gate/new.py: not committed \(1 in all\)"):
        main(FOLDER, ray="auto", remote="shared")
    new.unlink()
    (workspace / "dvc.lock").write_text("# DVC's own\n")
    monkeypatch.setitem(sys.modules, "ray", None)  # as where it is not installed
    with pytest.raises(CampaignError, match="ray: is not installed; .* --extra ray"):
        main(FOLDER, ray="auto", remote="shared")


def campaign(workspace: Path) -> str:
    done = run(CAMPAIGN, workspace, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_campaign_survives_a_kill_runs_new_cells_alone_and_equals_single_arms(finished, tmp_path):
    """The workspace holds the arm v_act with seed 41 already, run by the project's own pipeline."""
    workspace = tmp_path / "campaign"
    shutil.copytree(finished["v_act"], workspace, symlinks=True)
    set_cells(workspace, "41-v_act")
    commit(workspace)
    cells = workspace / FOLDER / "cells"
    kill_when(workspace, CAMPAIGN, "*/step-000002/state.pt")
    assert not (cells / "v_act/41/eval.parquet").exists()
    assert "0 cells are finished, 1 to run" in campaign(workspace)
    assert json.loads((cells / "v_act/41/train/run.json").read_text())["resumed_from_step"] is not None
    for name in ("train/rollouts", "train/gate", "train/steps", "train/features", "labels", "eval", "diagnostics"):
        alone = (workspace / "artifacts" / f"{name}.parquet").read_bytes()
        assert (cells / "v_act/41" / f"{name}.parquet").read_bytes() == alone, name

    before = (cells / "v_act/41/train/run.json").read_bytes()
    set_cells(workspace, "41-v_act", "41-labelled")
    edit(workspace / FOLDER / "plan.md", r"&core \[", "&core [labelled, ")
    commit(workspace)
    assert "1 cells are finished, 1 to run" in campaign(workspace)
    assert (cells / "v_act/41/train/run.json").read_bytes() == before
    verdict = json.loads((workspace / FOLDER / "reports/verdict.json").read_text())
    assert [claim["wording"] for claim in verdict["claims"]] == ["not informative"] * 2 and len(verdict["missing"]) == 30
    assert "not informative" in (workspace / FOLDER / "reports/report.html").read_text()
    rows = {row["arm"]: row for row in read_rows(workspace / FOLDER / "cells.parquet", CELLS)}
    assert {name: row["uses_ground_truth"] for name, row in rows.items()} == {"labelled": True, "v_act": False}
    metrics = json.loads((workspace / "reports/metrics.json").read_text())
    for name in ("hack_rate", "solve_rate", "qmass", "hack_rate_as_trained", "solve_rate_unhinted"):
        assert rows["v_act"][name] == pytest.approx(metrics[name], abs=5e-5)
    judged = [row for row in read_rows(cells / "v_act/41/eval.parquet", EVAL) if row["exploited"] is not None]
    counted = [row for row in read_rows(workspace / FOLDER / "outcomes.parquet", OUTCOMES) if row["arm"] == "v_act"]
    for data, state in {(row["data"], row["state"]) for row in judged}:
        of = [row for row in counted if (row["data"], row["state"]) == (data, state)]
        there = [row for row in judged if (row["data"], row["state"]) == (data, state)]
        assert sum(row["judged"] for row in of) == len(there)
        assert sum(row["exploited"] for row in of) == sum(row["exploited"] for row in there)
        assert sum(row["correct"] for row in of) == sum(row["gt_correct"] for row in there)
