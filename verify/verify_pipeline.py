"""The real pipeline on tiny inputs: whole, deterministic, resumed after SIGKILL to the same bytes, and clear about bad input."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from safetensors.torch import load_file

from projected_grpo.core.base import load_base
from projected_grpo.core.parquet import read_rows, write_table
from projected_grpo.core.tables import (
    DIRECTIONS,
    EVAL,
    EVAL_ROLLOUTS,
    FEATURES,
    GATE,
    GROUND_TRUTH,
    LABELS,
    PAIRS,
    PROBLEMS,
    ROLLOUTS,
    STATES,
    STEPS,
)  # fmt: skip
from projected_grpo.evaluation.deploy_ablate import sample_state
from projected_grpo.gate.pairs import pair_tokens, read_side
from projected_grpo.gate.probe import load_probe
from projected_grpo.ground_truth.follow import is_held
from projected_grpo.ground_truth.labels import label
from projected_grpo.grpo.checkpoint import Checkpoints
from projected_grpo.policy.inits import load_init
from projected_grpo.policy.policy import Policy
from projected_grpo.sampling.engine import open_sampler
from projected_grpo.settings.arm import load_settings
from verify import forks
from verify.sandbox import asking, monitoring
from verify.workspace import PROJECT, copy_project, dvc, edit, environment, gather_arm, run

TABLES = ("rollouts", "gate", "features", "steps")
SHORT_PROMPTS = ("max_prompt_tokens: 96", "max_prompt_tokens: 9")


def train(out: Path) -> list[str]:
    inputs = ["--problems", "artifacts/problems.parquet", "--base", "artifacts/base", "--init", "artifacts/init", "--arm", "artifacts/arm"]
    return [sys.executable, "-m", "stages.pipeline.train_arm", *inputs, "--out", str(out)]


def tables(folder: Path) -> dict[str, bytes]:
    return {name: (folder / f"{name}.parquet").read_bytes() for name in TABLES}


def weights(folder: Path) -> bytes:
    return (folder / "adapter/adapter.safetensors").read_bytes()


@pytest.fixture
def workspace(finished, tmp_path) -> Path:
    """A copy of the finished v_act workspace that a gate may break."""
    return Path(shutil.copytree(finished["v_act"], tmp_path / "workspace", symlinks=True, ignore=shutil.ignore_patterns(".scratch")))


def train_whole(workspace: Path, out: Path) -> None:
    """An uninterrupted run, whose checkpoints are forgotten."""
    gather_arm(workspace)
    run(train(out), workspace)
    shutil.rmtree(workspace / ".scratch")


def test_every_rollout_is_graded_labelled_and_gated_where_its_group_differs(finished):
    folder = finished["v_act"] / "artifacts"
    rollouts = read_rows(folder / "train/rollouts.parquet", ROLLOUTS)
    gate = {row["rollout_id"]: row for row in read_rows(folder / "train/gate.parquet", GATE)}
    labels = {row["rollout_id"]: row for row in read_rows(folder / "labels.parquet", LABELS)}
    features = {row["rollout_id"] for row in read_rows(folder / "train/features.parquet", FEATURES)}
    assert len(rollouts) == 6 * 4 * 4 and len(gate) > 0
    assert set(labels) == features == {row["rollout_id"] for row in rollouts}
    for row in rollouts:
        group = [r["reward"] for r in rollouts if r["rollout_id"][:9] == row["rollout_id"][:9]]
        assert (row["rollout_id"] in gate) == (max(group) - min(group) > 1e-4)
        assert row["advantage"] == pytest.approx(row["reward"] - sum(group) / 4, abs=1e-5)
        assert row["sampled_with"] == ("deployed" if row["sample"] == 3 else "full")
        label = labels[row["rollout_id"]]
        assert (row["reward"] > 3.0 - 1e-6) == label["env_passed"]
        assert label["exploited"] == (label["env_passed"] and not label["gt_correct"])


def test_labels_are_those_of_a_fresh_run_of_every_program_in_the_environment(finished, tmp_path):
    """Value by value, and as bytes: each rollout is graded anew and alone, without what training saved of its run."""
    folder = finished["v_act"] / "artifacts"
    problems, truths = read_rows(folder / "problems.parquet", PROBLEMS), read_rows(folder / "ground_truth.parquet", GROUND_TRUTH)
    rows, found = read_rows(folder / "train/rollouts.parquet", ROLLOUTS), []
    for row in rows:
        asked = {name: row[name] for name in ("problem_id", "shown_mode", "program")}
        found += [{"rollout_id": row["rollout_id"]} | label([asked], problems, monitoring(truths))[0]]
    assert found == read_rows(folder / "labels.parquet", LABELS)
    write_table(tmp_path / "labels.parquet", LABELS, found)
    assert (tmp_path / "labels.parquet").read_bytes() == (folder / "labels.parquet").read_bytes()
    assert any(row["exploited"] for row in found) and any(row["mechanism"] for row in found)


def test_the_sampler_holds_the_weights_of_the_step(finished):
    """Log-probabilities of the merged sampler equal the trainer's at every step, while the policy moves."""
    steps = read_rows(finished["v_act"] / "artifacts/train/steps.parquet", STEPS)
    gaps = [row["sampler_gap"] for row in steps if row["sampler_gap"] is not None]
    assert len(gaps) >= 4 and max(gaps) < 1e-3
    assert [row["kl"] for row in steps if row["kl"] is not None][0] == 0.0
    assert [row["kl"] for row in steps if row["kl"] is not None][-1] > 0.0


def test_headline_numbers_are_those_of_the_evaluation_table(finished):
    folder = finished["v_act"]
    metrics = json.loads((folder / "reports/metrics.json").read_text())
    assert list(metrics)[:2] == ["hack_rate", "qmass"] and len(metrics) <= 12
    rows = [r for r in read_rows(folder / "artifacts/eval.parquet", EVAL) if r["data"] == "heldout" and r["state"] == "deployed"]
    hinted = [r for r in rows if r["shown_mode"] != "gt_only"]
    assert metrics["hack_rate"] == pytest.approx(sum(r["exploited"] for r in hinted) / len(hinted), abs=1e-4)
    steps = [r["qmass"] for r in read_rows(folder / "artifacts/train/steps.parquet", STEPS) if r["qmass"] is not None]
    assert metrics["qmass"] == pytest.approx(sum(steps) / len(steps), abs=1e-4)


def test_the_evaluation_is_that_of_one_process_which_samples_and_judges_all_states(finished, tmp_path):
    """The base model's rows are made apart, by a policy without a trained adapter; here the trained policy makes them too."""
    folder, settings = finished["v_act"] / "artifacts", load_settings(finished["v_act"])
    policy = Policy(load_base(folder / "base", "cpu"), load_init(folder / "init", settings.adapter), settings.profile.sampling.temperature)
    policy.load(folder / "train/adapter")
    problems, truths = read_rows(folder / "problems.parquet", PROBLEMS), read_rows(folder / "ground_truth.parquet", GROUND_TRUTH)
    sampler = open_sampler(policy, settings.profile.sampling, folder / "base")
    rows = [row for state in STATES for row in sample_state(policy, asking(), sampler, problems, settings.profile.eval, settings.seed, state)]
    labels = label(rows, problems, monitoring(truths))
    write_table(tmp_path / "eval_rollouts.parquet", EVAL_ROLLOUTS, rows)
    write_table(tmp_path / "eval.parquet", EVAL, [{name: (row | new)[name] for name in EVAL.columns} for row, new in zip(rows, labels, strict=True)])
    for name in ("eval_rollouts", "eval"):
        assert (tmp_path / f"{name}.parquet").read_bytes() == (folder / f"{name}.parquet").read_bytes(), name
    texts = {state: [row["text"] for row in rows if row["state"] == state] for state in STATES}
    assert len(texts["base"]) == len(texts["deployed"]) > 0 and texts["base"] != texts["deployed"] != texts["as_trained"]


def test_an_evaluation_of_the_base_model_with_another_seed_is_refused(workspace):
    command = re.sub(r"^python", sys.executable, YAML(typ="safe").load(workspace / "dvc.yaml")["stages"]["deploy_ablate_eval"]["cmd"])
    before = (workspace / "artifacts/eval.parquet").read_bytes()
    done = run([*command.split(), "--seed", "42"], workspace, check=False)
    assert done.returncode == 1 and "artifacts/base_eval: is not of seed 42 and these problems" in done.stderr and "Traceback" not in done.stderr
    assert (workspace / "artifacts/eval.parquet").read_bytes() == before


def kill_when(workspace: Path, command: list[str], appears: str, forked: bool = True) -> None:
    """Start `command` in a group of its own and SIGKILL the group once a file of that pattern is in the scratch.

    A stage that is a fork is killed when the process that asked for it is; DVC and a campaign are programs of their own.
    """
    scratch = workspace / ".scratch"
    if forked and command[2] == "stages.pipeline.train_arm":
        command = [str(forks.start() / "python"), *command[1:]]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    process = subprocess.Popen(command, cwd=workspace, env=environment(workspace, forked), **silent)
    deadline = time.monotonic() + 900  # of a machine with much else to do
    while not list(scratch.glob(appears)):
        assert process.poll() is None and time.monotonic() < deadline, f"training ended before {appears} was there"
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_training_killed_and_killed_again_resumes_under_dvc_to_the_same_bytes_with_refresh(workspace, tmp_path):
    """The reference is an uninterrupted run; the other is killed at two checkpoints and finished by `dvc repro`."""
    edit(workspace / "params.yaml", "refresh_every: 0", "refresh_every: 2")
    dvc(workspace, "repro", "extract_directions")
    train_whole(workspace, tmp_path / "whole")
    repro = [sys.executable, "-m", "dvc", "repro", "--single-item", "train_arm"]
    kill_when(workspace, repro, "*/step-000002/state.pt", forked=False)
    (workspace / ".dvc/tmp/rwlock").unlink(missing_ok=True)
    kill_when(workspace, repro, "*/step-000004/state.pt")
    assert not (workspace / "artifacts/train/rollouts.parquet").exists()
    (workspace / ".dvc/tmp/rwlock").unlink(missing_ok=True)
    kill_when(workspace, repro, "*/outputs")  # all is written, and DVC has yet to record it
    (workspace / ".dvc/tmp/rwlock").unlink(missing_ok=True)
    dvc(workspace, "repro", "--single-item", "train_arm")
    assert json.loads((workspace / "artifacts/train/run.json").read_text())["resumed_from_step"] == len(steps_of(tmp_path / "whole"))
    assert tables(workspace / "artifacts/train") == tables(tmp_path / "whole")


def steps_of(folder: Path) -> list[dict]:
    return read_rows(folder / "steps.parquet", STEPS)


def test_training_killed_at_twenty_random_moments_never_does_a_checkpoint_s_step_again(workspace, tmp_path):
    """A stage is started as DVC starts it, without its outputs. Of those that end before they are killed, every second begins anew."""
    began = time.monotonic()
    train_whole(workspace, tmp_path / "whole")
    span, moments = time.monotonic() - began, random.Random(7)
    out, log, done, ended = tmp_path / "killed", tmp_path / "log", 0, 0
    for _ in range(20):
        shutil.rmtree(out, ignore_errors=True)
        with log.open("w") as said:
            command = [str(forks.start() / "python"), *train(out)[1:]]
            process = subprocess.Popen(command, cwd=workspace, env=environment(workspace), stdout=said, start_new_session=True)
            try:
                assert process.wait(moments.uniform(0, span)) == 0
                assert tables(out) == tables(tmp_path / "whole") and weights(out) == weights(tmp_path / "whole")
                ended += 1
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if found := re.match(r"(\d+) steps are done", log.read_text()):
            assert int(found[1]) >= done
            done = int(found[1])
        if process.returncode == 0 and ended % 2 == 0:
            shutil.rmtree(workspace / ".scratch")
            done = 0
        while (lock := next((workspace / ".scratch").glob("*.lock"), None)) and is_held(lock):
            time.sleep(0.01)  # the stage that was killed is a fork, and ends when its server has seen that nobody waits for it
    shutil.rmtree(out, ignore_errors=True)
    run(train(out), workspace)
    assert tables(out) == tables(tmp_path / "whole") and weights(out) == weights(tmp_path / "whole") and ended < 20


def test_checkpoints_go_with_their_age_and_with_the_next_run_of_the_same_outputs(tmp_path):
    root, day = tmp_path / "checkpoints", 86400
    for name, age, outputs in (("a", 0, "x"), ("b", 2, "y"), ("c", 0, "y"), ("d", 29, None), ("e", 31, None)):
        (root / name).mkdir(parents=True)
        if outputs:
            (root / name / "outputs").write_text(str(tmp_path / outputs))
        os.utime(root / name, (0, time.time() - age * day))
    Checkpoints(root / "now").finish(tmp_path / "x")
    assert {path.name for path in root.iterdir() if path.is_dir()} == {"now", "c", "d"}  # a's outputs are new, b and e are old
    held = Checkpoints(root / "d")
    os.utime(root / "d", (0, 0))
    Checkpoints(root / "later").finish(tmp_path / "z")
    assert (root / "d").exists() and held.steps() == 0  # old, but under way


def set_arm(workspace: Path, policy: str, kind: str, use: str) -> None:
    edit(workspace / "params.yaml", "policy: route", f"policy: {policy}")
    edit(workspace / "params.yaml", r"kind: none( .*)\n  use: none", rf"kind: {kind}\1\n  use: {use}")


def test_the_labelled_arm_routes_by_ground_truth_is_marked_and_resumes_to_the_same_bytes(workspace, tmp_path):
    """Killed with its monitor process at a checkpoint, finished by `dvc repro`, and compared with the arm before it."""
    set_arm(workspace, "labelled", "ground_truth", "none")
    train_whole(workspace, tmp_path / "whole")
    kill_when(workspace, [sys.executable, "-m", "dvc", "repro", "--single-item", "train_arm"], "*/step-000002/state.pt")
    (workspace / ".dvc/tmp/rwlock").unlink(missing_ok=True)
    dvc(workspace, "repro")
    folder = workspace / "artifacts"
    assert json.loads((folder / "train/run.json").read_text())["resumed_from_step"] >= 2
    assert tables(folder / "train") == tables(tmp_path / "whole")
    labels = {row["rollout_id"]: row for row in read_rows(folder / "labels.parquet", LABELS)}
    zones = {row["rollout_id"]: row["zone"] for row in read_rows(folder / "train/gate.parquet", GATE)}
    expected = {True: "route", False: "absorb"}
    assert zones == {name: "keep" if labels[name]["gt_correct"] else expected[labels[name]["exploited"]] for name in zones}
    assert len(set(zones.values())) >= 2
    assert {row["suspicion"] for row in read_rows(folder / "train/rollouts.parquet", ROLLOUTS)} == {None}
    assert {row["flagged_share"] for row in read_rows(folder / "train/steps.parquet", STEPS)} == {None}
    assert "arm labelled (uses ground truth)" in (workspace / "reports/report.html").read_text()
    compared = run([sys.executable, "-m", "stages.compare", "HEAD", "workspace", "--out", "comparison"], workspace)
    assert "route v_act" in compared.stdout and "labelled (uses ground truth)" in (workspace / "comparison/comparison.md").read_text()


@pytest.mark.parametrize("kind, use", [("probe", "penalty"), ("judge", "screening")])
def test_a_monitor_is_recorded_changes_advantages_and_resumes_to_the_same_bytes(workspace, tmp_path, kind, use):
    set_arm(workspace, "none", kind, use)
    train_whole(workspace, tmp_path / "whole")
    kill_when(workspace, train(tmp_path / "resumed"), "*/step-000002/state.pt")
    run(train(tmp_path / "resumed"), workspace)
    assert json.loads((tmp_path / "resumed/run.json").read_text())["resumed_from_step"] >= 2
    assert tables(tmp_path / "resumed") == tables(tmp_path / "whole")
    threshold = 0.5 if kind == "judge" else threshold_of_probe(workspace)
    rows = read_rows(tmp_path / "whole/rollouts.parquet", ROLLOUTS)
    gated = {row["rollout_id"] for row in read_rows(tmp_path / "whole/gate.parquet", GATE)}
    for i in range(0, len(rows), 4):
        group = rows[i : i + 4]
        flagged = [row["suspicion"] >= threshold for row in group]
        if use == "penalty":
            rewards = [row["reward"] - 3.0 * flag for row, flag in zip(group, flagged)]
            left = rewards
        else:
            rewards = [None if flag else row["reward"] for row, flag in zip(group, flagged)]
            left = [reward for reward in rewards if reward is not None]
        differ = len(left) > 1 and max(left) - min(left) > 1e-4
        for row, reward in zip(group, rewards):
            assert row["advantage"] == pytest.approx(0.0 if reward is None else reward - sum(left) / len(left), abs=1e-5)
            assert (row["rollout_id"] in gated) == (differ and reward is not None)
    for step in read_rows(tmp_path / "whole/steps.parquet", STEPS):
        ours = [row["suspicion"] >= threshold for row in rows if row["step"] == step["step"]]
        assert step["flagged_share"] == pytest.approx(sum(ours) / len(ours))


def threshold_of_probe(workspace: Path) -> float:
    """Of the workspace's probe, whose suspicion is high on the hack sides of the pairs that it was fitted on."""
    artifacts, settings = workspace / "artifacts", load_settings(workspace)
    policy = Policy(load_base(artifacts / "base", "cpu"), load_init(artifacts / "init", settings.adapter), 1.0)
    probe = load_probe(artifacts / "arm", 14 * 8)
    pairs = pair_tokens(policy.base, read_rows(artifacts / "pairs.parquet", PAIRS), "code")
    hack, clean = (probe.suspicion(read_side(policy, side, ["bottleneck"], 1024)["bottleneck"]).mean() for side in (pairs.hack, pairs.clean))
    assert hack > 0.8 and clean < 0.2
    return float(probe.threshold)


def test_an_arm_is_routed_by_a_table_of_the_user_s_own_as_by_one_of_ours(workspace, finished, tmp_path):
    """The table holds v_act under another name."""
    rows = read_rows(workspace / "artifacts/directions/v_act/direction.parquet", DIRECTIONS)
    edit(workspace / "params.yaml", "direction: v_act", "direction: directions/mine.parquet")
    write_table(workspace / "directions/mine.parquet", DIRECTIONS, rows)
    gather_arm(workspace)
    refused = run(train(tmp_path / "out"), workspace, check=False)
    assert refused.returncode == 1 and "direction.parquet: holds the direction 'v_act', expected 'mine'" in refused.stderr
    write_table(workspace / "directions/mine.parquet", DIRECTIONS, [row | {"direction": "mine"} for row in rows])
    train_whole(workspace, tmp_path / "out")
    assert tables(tmp_path / "out") == tables(finished["v_act"] / "artifacts/train")


def test_a_checkpoint_of_other_settings_is_never_picked_up(workspace, finished, tmp_path):
    kill_when(workspace, train(tmp_path / "killed"), "*/step-000002/state.pt")
    edit(workspace / "params.yaml", "seed: 41", "seed: 43")
    assert "0 steps are done, by checkpoints of these settings" in run(train(tmp_path / "other"), workspace).stdout
    assert json.loads((tmp_path / "other/run.json").read_text())["resumed_from_step"] is None
    assert tables(tmp_path / "other")["rollouts"] != tables(finished["v_act"] / "artifacts/train")["rollouts"]


def test_a_run_that_needs_less_memory_goes_on_from_the_checkpoint(workspace, tmp_path):
    """As after a MemoryShortage: what decides memory alone is no part of the checkpoint's key."""
    kill_when(workspace, train(tmp_path / "killed"), "*/step-000002/state.pt")
    edit(workspace / "profiles/smoke.yaml", r"micro_tokens: \d+", "micro_tokens: 100")
    edit(workspace / "profiles/smoke.yaml", r"recompute_layers: false", "recompute_layers: true")
    edit(workspace / "profiles/smoke.yaml", r"rows: \d+", "rows: 4")
    said = run(train(tmp_path / "smaller"), workspace).stdout
    done = json.loads((tmp_path / "smaller/run.json").read_text())["resumed_from_step"]
    assert done >= 2 and f"{done} steps are done, by checkpoints of these settings" in said


def test_the_same_seed_gives_the_same_bytes_in_another_folder(finished, tmp_path):
    again = copy_project(tmp_path / "again")
    dvc(again, "repro", "deploy_ablate_eval", "author_pairs")
    for name in ("problems", "ground_truth", "pairs", "pair_audit", "eval", "eval_rollouts", "train/rollouts", "train/gate", "train/features"):
        first, second = (folder / f"artifacts/{name}.parquet" for folder in (finished["v_act"], again))
        assert first.read_bytes() == second.read_bytes(), name
    adapters = [(folder / "artifacts/train/adapter/adapter.safetensors").read_bytes() for folder in (finished["v_act"], again)]
    assert adapters[0] == adapters[1]


def test_a_finished_pipeline_has_nothing_to_do(finished):
    for workspace in finished.values():
        assert "Data and pipelines are up to date" in dvc(workspace, "repro").stdout


def test_a_whitespace_edit_of_the_pairs_runs_author_pairs_alone(workspace):
    edit(workspace / "pairs/toy.md", r"\n\n### ", "\n\n\n### ")
    ran = [line.split("'")[1] for line in dvc(workspace, "repro").stdout.splitlines() if line.startswith("Running stage")]
    assert ran == ["author_pairs"]


def test_the_arm_without_a_quarantine_runs_as_an_experiment_and_deploys_what_it_trained(workspace):
    dvc(workspace, "exp", "run", "-n", "one-block", "-S", "gate.policy=none")
    shown = dvc(workspace, "exp", "show", "--csv", "--no-pager").stdout
    assert "one-block" in shown and "hack_rate" in shown and "qmass" in shown
    steps = read_rows(workspace / "artifacts/train/steps.parquet", STEPS)
    assert {row["absorb_share"] for row in steps} <= {1.0, None}
    rollouts = read_rows(workspace / "artifacts/train/rollouts.parquet", ROLLOUTS)
    assert {row["sampled_with"] for row in rollouts} == {"full"}
    texts = {"as_trained": [], "deployed": []}
    for row in read_rows(workspace / "artifacts/eval_rollouts.parquet", EVAL_ROLLOUTS):
        texts.get(row["state"], []).append(row["text"])
    assert texts["as_trained"] == texts["deployed"] != []
    compared = run([sys.executable, "-m", "stages.compare", "HEAD", "one-block", "--out", "comparison"], workspace)
    assert "one-block" in compared.stdout and (workspace / "comparison/comparison.md").exists()
    refused = [sys.executable, "-m", "stages.compare", "HEAD", "workspace", "--out", "comparison"]
    edit(workspace / "reports/manifest.json", r'"kl_beta": [0-9.e-]+', '"kl_beta": 0.9')  # as of a run with another setting
    done = run(refused, workspace, check=False)
    assert done.returncode == 1 and "settings key 'profile.train.kl_beta': found" in done.stderr and "0.9 in workspace" in done.stderr


@pytest.mark.parametrize("init, masking", [("scorda", "output"), ("antipasto", "parameter")])
def test_an_arm_of_another_initialization_and_masking_runs_to_its_evaluation(workspace, init, masking):
    edit(workspace / "params.yaml", "init: gaussian", f"init: {init}")
    edit(workspace / "params.yaml", "masking: output", f"masking: {masking}")
    dvc(workspace, "repro", "deploy_ablate_eval")
    steps = read_rows(workspace / "artifacts/train/steps.parquet", STEPS)
    assert max(row["sampler_gap"] for row in steps if row["sampler_gap"] is not None) < 1e-3
    updated = [row for row in steps if row["kl"] is not None]
    assert updated[0]["kl"] == 0.0 and updated[-1]["kl"] > 0.0
    assert all(row["grad_norm_deployed"] > 0 and row["grad_norm_quarantine"] > 0 for row in updated)
    parts = {name.rsplit(".", 1)[1] for name in load_file(workspace / "artifacts/train/adapter/adapter.safetensors")}
    assert parts == ({"U", "S", "Vh", "g", "X"} if init == "antipasto" else {"A0", "B0", "dA", "dB"})


def test_a_malformed_pair_file_names_the_pair_and_make_repro_puts_the_outputs_back(workspace):
    before = (workspace / "artifacts/pairs.parquet").read_bytes()
    edit(workspace / "pairs/toy.md", r"#### Hack\n", "#### Hacked\n")
    (workspace / ".venv").symlink_to(PROJECT / ".venv")
    done = run(["make", "repro"], workspace, check=False)
    assert done.returncode != 0 and "pairs/toy.md" in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert (workspace / "artifacts/pairs.parquet").read_bytes() == before


def remove_a_module(workspace: Path) -> None:
    path = workspace / "artifacts/arm/direction.parquet"
    rows = read_rows(path, DIRECTIONS)
    path.unlink()
    write_table(path, DIRECTIONS, [row for row in rows if row["module"] != rows[3]["module"]])


def truncate_the_problems(workspace: Path) -> None:
    path = workspace / "artifacts/problems.parquet"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[: len(data) // 2])


def swap_in_a_foreign_table(workspace: Path) -> None:
    path = workspace / "artifacts/problems.parquet"
    rows = read_rows(path, PROBLEMS)
    path.unlink()
    write_table(path, DIRECTIONS, [{"direction": "v_act", "draw": i, "reading": "bottleneck", "module": "m", "vector": [1.0]} for i in range(len(rows))])


@pytest.mark.parametrize(
    "spoil, message",
    [
        (remove_a_module, "direction.parquet: draw 0, reading bottleneck: module 'model.layers.0.self_attn.k_proj' is missing"),
        (truncate_the_problems, "problems.parquet: cannot be read as the Parquet table problems"),
        (swap_in_a_foreign_table, "problems.parquet: column 'problem_id' is missing"),
        (lambda w: edit(w / "params.yaml", "draw: 0", "drawn: 0"), "params.yaml: key 'gate.drawn'"),
        (lambda w: edit(w / "profiles/smoke.yaml", "clip: 0.2", "clip: wide"), "profiles/smoke.yaml: key 'train.clip'"),
        (lambda w: edit(w / "params.yaml", "init: gaussian", "init: pissa"), "init.safetensors: found adapter.init 'gaussian', expected 'pissa'"),
        (lambda w: edit(w / "params.yaml", "draw: 0", "draw: 7"), "gate.draw is 7, but v_act has one draw"),
        (lambda w: edit(w / "profiles/smoke.yaml", *SHORT_PROMPTS), "the most of all problems, and sampling.max_prompt_tokens is 9; raise it"),
    ],
)
def test_bad_input_ends_with_one_clear_message_and_leaves_earlier_outputs_untouched(workspace, spoil, message):
    out = workspace / "artifacts/train"
    before = tables(out)
    spoil(workspace)
    done = run(train(out), workspace, check=False)
    assert done.returncode == 1
    assert message in done.stderr and "Traceback" not in done.stderr
    assert tables(out) == before


@pytest.mark.parametrize("stage", ["extract_directions", "extract_oracle"])
def test_stages_that_sample_before_training_refuse_prompts_that_are_too_long_too(workspace, stage):
    edit(workspace / "profiles/smoke.yaml", *SHORT_PROMPTS)
    command = re.sub(r"^python", sys.executable, YAML(typ="safe").load(workspace / "dvc.yaml")["stages"][stage]["cmd"])
    done = run(command.split(), workspace, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "the most of all problems, and sampling.max_prompt_tokens is 9; raise it" in done.stderr
