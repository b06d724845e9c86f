"""DVC re-runs what an edit can change and nothing else: declared inputs are complete, and the invalidation table holds."""

import ast
import re
import shutil
from pathlib import Path

import networkx as nx
import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from projected_grpo.settings.arm import Settings
from projected_grpo.settings.profile import Profile
from stages.build_ground_truth_monitor import CODE, digest
from verify.closure import import_closure
from verify.workspace import dvc, edit

STAGES = YAML(typ="safe").load(Path("dvc.yaml").read_text())["stages"]
SHARED = ("projected_grpo/__init__.py", "projected_grpo/settings/", "projected_grpo/words/")  # what is read is declared by key; messages
MODULE = {stage: re.search(r"-m (stages\.\w+)", text["cmd"])[1].replace(".", "/") + ".py" for stage, text in STAGES.items()}
READERS = {  # library files that receive the whole settings
    "train_arm": ["projected_grpo/grpo/loop.py", "projected_grpo/grpo/monitors.py", "projected_grpo/gate/refresh.py"],
}
HASHED = {"build_ground_truth_monitor": Path("stages/ground_truth_monitor.py")}  # a program whose code is hashed, never imported
PROPERTIES = {  # of the settings -> the keys that decide it
    "gate.reading": {"gate.score", "gate.site"},
    "uses_ground_truth": {"gate.direction", "gate.policy", "monitor.kind"},
}


def closure_of(stage: str) -> set[str]:
    files = import_closure(Path(MODULE[stage]))
    if stage in HASHED:
        files |= import_closure(HASHED[stage])
    return {str(path) for path in files}


def declared_settings(stage: dict) -> set[str]:
    names = set()
    for item in stage.get("params", []):
        names |= {item} if isinstance(item, str) else {f"scale.{name}" for name in next(iter(item.values()))}
    return names


def settings_read(path: str) -> set[str]:
    """Dotted settings that a file names, such as scale.train.steps, also through names like `scale = settings.scale`."""
    tree = ast.parse(Path(path).read_text())
    aliases: dict[str, str] = {"settings": "settings"}

    def dotted(node: ast.AST) -> str | None:
        if isinstance(node, ast.Name):
            return aliases.get(node.id)
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "load_settings":
            return "settings"
        if isinstance(node, ast.Attribute):
            if node.attr == "settings":
                return "settings"
            root = dotted(node.value)
            return root and f"{root}.{node.attr}"
        return None

    aliased = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
            both = zip(target.elts, value.elts) if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) else [(target, value)]
            for name, source in both:
                if isinstance(name, ast.Name) and dotted(source):
                    aliases[name.id] = dotted(source)
                    aliased.add(source)
    inner = {child.value for child in ast.walk(tree) if isinstance(child, ast.Attribute)}
    names = {dotted(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node not in inner | aliased}
    read = {name.removeprefix("settings.") for name in names if name and name != "settings"}
    read = {re.sub(r"\.(kind|model_dump(_json)?)$", "", name) for name in read if not name.startswith("model_dump")}
    return {key for name in read for key in PROPERTIES.get(name, {name})}


@pytest.mark.parametrize("stage", STAGES)
def test_declared_dependencies_cover_the_import_closure(stage):
    closure = closure_of(stage)
    needed = {name for name in closure if not name.endswith("__init__.py") and not name.startswith(SHARED)}
    declared = STAGES[stage]["deps"]
    missing = {name for name in needed if not any(name == dep or name.startswith(f"{dep}/") for dep in declared)}
    assert not missing, f"{stage} imports {sorted(missing)} without depending on it"


@pytest.mark.parametrize("stage", STAGES)
def test_declared_code_is_in_the_import_closure(stage):
    closure = closure_of(stage) | {"projected_grpo/programs/sandbox/child.py"}  # started by the runner as a script
    for dep in STAGES[stage]["deps"]:
        if dep.startswith(("projected_grpo", "stages")):
            assert any(name == dep or name.startswith(f"{dep}/") for name in closure), f"{stage} does not import {dep}"


@pytest.mark.parametrize("stage", STAGES)
def test_every_setting_that_a_stage_reads_is_declared(stage):
    read = set().union(*(settings_read(path) for path in [MODULE[stage], *READERS.get(stage, [])]))
    declared = declared_settings(STAGES[stage])
    undeclared = {name for name in read if not any(name == d or name.startswith(f"{d}.") for d in declared)}
    assert not undeclared, f"{stage} reads {sorted(undeclared)} without declaring it"


def test_the_report_shows_all_settings_and_so_depends_on_all():
    sections = {f"scale.{name}" for name in Profile.model_fields} | set(Settings.model_fields) - {"scale"}
    assert declared_settings(STAGES["report"]) == sections


def test_the_search_for_settings_sees_through_other_names():
    assert {"scale.train.steps", "gate.draw", "adapter", "scale.grading", "seed"} <= settings_read("stages/train_arm.py") | settings_read("projected_grpo/grpo/loop.py")


@pytest.mark.parametrize("stage", STAGES)
def test_every_output_of_a_command_is_an_output_of_its_stage_and_nothing_persists(stage):
    text = STAGES[stage]
    outs = [next(iter(o)) if isinstance(o, dict) else o for kind in ("outs", "metrics", "plots") for o in text.get(kind, [])]
    for path in re.findall(r"(?:artifacts|reports)/[\w./${}-]+", text["cmd"]):
        known = [p for p in [*outs, *text["deps"]] if p == path or p.startswith(f"{path}/") or path.startswith(f"{p}/")]
        assert known, f"{stage}: {path} is neither an input nor an output"
    for kind in ("outs", "metrics", "plots"):
        for out in text.get(kind, []):
            assert not (isinstance(out, dict) and ("persist" in str(out) or kind == "outs" and "cache" in str(out)))


def test_training_does_not_depend_on_ground_truth_or_on_pairs_it_does_not_use():
    deps = STAGES["train_arm"]["deps"]
    assert "artifacts/ground_truth.parquet" not in deps and "artifacts/pairs.parquet" not in deps
    assert "artifacts/directions/${gate.direction}" in deps and "artifacts/monitors/${monitor.kind}" in deps
    assert not any(dep.startswith("artifacts/monitors") and "$" not in dep for dep in deps)
    assert not any(dep == "projected_grpo/env" or "oracle" in dep for dep in deps)
    templated = {"artifacts/demonstrations/${curriculum.pool}.parquet", "artifacts/heal/${curriculum.heal_pairs}.parquet"}
    assert templated | {"${curriculum.warm_start}"} < set(deps)


POOL = r"(?s)hack_demos: 0(.*)until_step: 0(.*)pool: none"
WITH_POOL = r"hack_demos: 1\1until_step: 2\2pool: demonstrations"
HEAL = r"(?s)heal_epochs: 0(.*)heal_pairs: none"
WITH_HEAL = r"heal_epochs: 1\1heal_pairs: pairs"


@pytest.mark.parametrize(
    "pattern, replacement, used",
    [
        (POOL, WITH_POOL, {"build_demonstrations"}),
        (HEAL, WITH_HEAL, {"author_pairs"}),
        (r"\Z", "# neither\n", set()),
    ],
)
def test_training_depends_on_demonstrations_and_pairs_where_the_arm_uses_them_alone(
    finished, monkeypatch, pattern, replacement, used
):
    """In the Haar arm, whose direction has no pairs."""
    workspace = finished["haar"]
    path = workspace / "params.yaml"
    before = path.read_text()
    try:
        edit(path, pattern, replacement)
        monkeypatch.chdir(workspace)
        with Repo() as repo:
            graph = repo.index.graph
            train = next(stage for stage in graph if stage.addressing == "train_arm")
            upstream = {stage.addressing for stage in nx.descendants(graph, train)}
    finally:
        path.write_text(before)
    assert upstream == {"make_problems", "base_model", "build_haar_placebo", "empty_inputs", "init_adapter"} | used


def test_the_ground_truth_monitor_s_folder_changes_with_the_code_of_its_process(tmp_path, monkeypatch):
    stage = "build_ground_truth_monitor"
    needed = {str(path) for path in import_closure(HASHED[stage]) if path.name != "__init__.py" and not str(path).startswith(SHARED)}
    listed = {str(file) for path in map(Path, CODE) for file in ([path] if path.is_file() else path.rglob("*.py"))}
    assert needed <= listed and set(CODE) <= set(STAGES[stage]["deps"])
    for name in listed:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(name, tmp_path / name)
    before = digest(CODE)
    monkeypatch.chdir(tmp_path)
    assert digest(CODE) == before
    for name in ("projected_grpo/ground_truth/verdicts.py", "projected_grpo/programs/sandbox/child.py", "projected_grpo/ground_truth/labels.py"):
        edit(Path(name), r"\Z", "# x\n")
        assert digest(CODE) != before
        before = digest(CODE)


AFTER = {"gate_diagnostics", "offline_gate", "report", "export_adapter"}
PAIR_PLAN = {"author_pairs", "extract_v_act", "extract_irrelevant", "build_probe"} | AFTER
TRAIN_PLAN = {"train_arm", "label_rollouts", "deploy_ablate_eval"} | AFTER
INIT_READERS = {
    "init_adapter", "extract_v_act", "extract_irrelevant", "generate_pairs", "extract_self_generated", "extract_oracle",
    "build_haar_placebo", "build_probe", "train_arm", "base_eval", "deploy_ablate_eval", "export_adapter",
}  # fmt: skip
EVERYTHING = set(STAGES) - {"build_judge", "empty_inputs"}
COMPUTES = INIT_READERS - {"export_adapter"} | {"base_model"}
TABLE = [  # (direction, file, old, new, directly stale, all that may re-run)
    ("v_act", "pairs/toy.md", r"return 0", "return 1", {"author_pairs"}, PAIR_PLAN | TRAIN_PLAN),
    ("haar", "pairs/toy.md", r"return 0", "return 1", {"author_pairs"}, PAIR_PLAN),
    ("haar", "params.yaml", r"seed: 41", "seed: 42", {"train_arm", "base_eval", "deploy_ablate_eval", "report"}, TRAIN_PLAN | {"base_eval"}),
    ("v_act", "params.yaml", r"init: gaussian", "init: pissa", INIT_READERS | {"report"}, INIT_READERS | {"gate_diagnostics"} | TRAIN_PLAN),
    ("v_act", "params.yaml", r"masking: output", "masking: parameter", {"train_arm", "deploy_ablate_eval", "gate_diagnostics", "report"}, TRAIN_PLAN),
    ("v_act", "params.yaml", r"policy: route", "policy: absorb", {"train_arm", "deploy_ablate_eval", "gate_diagnostics", "report"}, TRAIN_PLAN),
    ("v_act", "profiles/smoke.yaml", r"  samples: 2\n", "  samples: 1\n", {"base_eval", "deploy_ablate_eval", "report"}, {"base_eval", "deploy_ablate_eval", "report", "export_adapter"}),
    ("v_act", "profiles/smoke.yaml", r"clip: 0.2", "clip: 0.3", {"train_arm", "report"}, TRAIN_PLAN),
    ("v_act", "projected_grpo/ground_truth/verdicts.py", r"\Z", "# x\n", {"extract_oracle", "build_ground_truth_monitor", "label_rollouts", "base_eval", "deploy_ablate_eval"}, {"extract_oracle", "build_ground_truth_monitor", "base_eval"} | TRAIN_PLAN - {"train_arm"}),
    ("v_act", "params.yaml", r"false_positive_rate: 0.05", "false_positive_rate: 0.1", {"build_probe", "train_arm", "report"}, {"build_probe"} | TRAIN_PLAN),
    ("v_act", "stages/build_judge.py", r"one word", "a word", {"build_judge"}, {"build_judge"}),
    ("v_act", "params.yaml", r"(?s)policy: route(.*?)kind: none", r"policy: labelled\1kind: ground_truth", {"train_arm", "deploy_ablate_eval", "gate_diagnostics", "report"}, TRAIN_PLAN),
    ("v_act", "projected_grpo/reporting/html.py", r"\Z", "# x\n", {"report", "export_adapter"}, {"report", "export_adapter"}),
    ("v_act", "stages/report.py", r"\Z", "# x\n", {"report"}, {"report", "export_adapter"}),
    ("v_act", "stages/export_adapter.py", r"\Z", "# x\n", {"export_adapter"}, {"export_adapter"}),
    ("v_act", "projected_grpo/words/memory.py", r"\Z", "# x\n", set(), set()),
    ("v_act", "projected_grpo/base_models/pretrain.py", r"\Z", "# x\n", {"base_model"}, EVERYTHING - {"make_problems", "author_pairs", "build_demonstrations", "build_ground_truth_monitor"}),
    ("v_act", "stages/train_arm.py", r"\Z", "# x\n", {"train_arm"}, TRAIN_PLAN),
    ("v_act", "requirements.lock", r"\Z", "# x\n", COMPUTES, EVERYTHING - {"make_problems", "author_pairs", "build_demonstrations", "build_ground_truth_monitor"}),
    ("v_act", "projected_grpo/grpo/loss.py", r"\Z", "# x\n", {"train_arm"}, TRAIN_PLAN),
    ("v_act", "projected_grpo/problems/demonstrations.py", r"\Z", "# x\n", {"make_problems", "author_pairs", "build_demonstrations"}, EVERYTHING),
    ("v_act", "params.yaml", POOL, WITH_POOL, {"train_arm", "report"}, TRAIN_PLAN),
    ("haar", "params.yaml", HEAL, WITH_HEAL, {"train_arm", "report"}, TRAIN_PLAN),
    ("v_act", "params.yaml", r"kl_limit: 2.0", "kl_limit: 4.0", {"train_arm", "report"}, TRAIN_PLAN),
    ("v_act", "params.yaml", r"draws: 100 ", "draws: 50 ", {"offline_gate", "report"}, {"offline_gate", "report", "export_adapter"}),
    ("v_act", "projected_grpo/analysis/nulls.py", r"\Z", "# x\n", AFTER, AFTER),
    ("v_act", "examples/listing/environment.py", r"\Z", "# x\n", {"make_problems"}, EVERYTHING),  # whose tables stay what they are
    ("v_act", "starts/zero/README.md", r"\Z", "x\n", {"train_arm"}, TRAIN_PLAN),
]  # fmt: skip


@pytest.mark.parametrize("direction, file, old, new, direct, plan", TABLE, ids=[f"{row[0]}-{row[1]}-{n}" for n, row in enumerate(TABLE)])
def test_the_invalidation_table(finished, monkeypatch, direction, file, old, new, direct, plan):
    """On a workspace whose pipeline ran: DVC's own status names the directly stale stages; the graph gives the rest."""
    workspace = finished[direction]
    path = workspace / file
    before = path.read_text()
    try:
        path.write_text(re.sub(old, new, before, count=1))
        assert path.read_text() != before
        monkeypatch.chdir(workspace)
        with Repo() as repo:
            graph = repo.index.graph  # edges run from a stage to what it depends on
            by_name = {stage.addressing: stage for stage in graph if stage.path_in_repo == "dvc.yaml"}
            stale = set(repo.status(targets=["dvc.yaml"])) & set(by_name)
            reached = {s.addressing for name in stale for s in nx.ancestors(graph, by_name[name])} & set(by_name) | stale
        dry = dvc(workspace, "repro", "--dry", "--force-downstream").stdout
    finally:
        path.write_text(before)
    assert stale == direct
    assert reached == plan
    assert set(re.findall(r"Running stage '(\w+)'", dry)) == plan


@pytest.mark.parametrize(
    "policy, kind, use, above",
    [
        ("route", "none", "none", set()),
        ("none", "probe", "penalty", {"author_pairs", "build_probe"}),
        ("none", "judge", "screening", {"build_judge"}),
        ("none", "ground_truth", "penalty", {"build_ground_truth_monitor"}),
        ("labelled", "ground_truth", "none", {"build_ground_truth_monitor"}),
    ],
)
def test_training_lies_below_the_monitor_of_its_own_kind_alone(finished, monkeypatch, policy, kind, use, above):
    """So a pair edit re-runs an arm (of a Haar direction) only with a probe, and ground truth or the oracle's code only
    an arm that uses it."""
    path = finished["haar"] / "params.yaml"
    before = path.read_text()
    try:
        edit(path, "policy: route", f"policy: {policy}")
        edit(path, r"kind: none( .*)\n  use: none", rf"kind: {kind}\1\n  use: {use}")
        monkeypatch.chdir(finished["haar"])
        with Repo() as repo:
            graph = repo.index.graph
            train = next(stage for stage in graph if stage.addressing == "train_arm")
            needed = {stage.addressing for stage in nx.descendants(graph, train)}
    finally:
        path.write_text(before)
    watched = {"author_pairs", "build_probe", "build_judge", "build_ground_truth_monitor", "extract_oracle"}
    assert needed & watched == above


def test_a_changed_pair_re_runs_what_is_made_from_pairs_and_not_the_training_of_a_haar_arm(finished, tmp_path):
    workspace = Path(shutil.copytree(finished["haar"], tmp_path / "workspace", symlinks=True))
    edit(workspace / "pairs/toy.md", r"return 0", "return 1")
    ran = re.findall(r"Running stage '(\w+)'", dvc(workspace, "repro").stdout)
    assert set(ran) == PAIR_PLAN - {"extract_irrelevant"}
