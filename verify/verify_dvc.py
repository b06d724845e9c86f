"""DVC re-runs what an edit can change and nothing else: declared inputs are complete, and the invalidation table holds."""

import ast
import re
import shutil
import sys
from pathlib import Path

import networkx as nx
import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from projected_grpo.core.parquet import read_rows, write_table
from projected_grpo.core.tables import DIRECTIONS
from projected_grpo.settings.arm import Settings
from projected_grpo.settings.profile import Profile
from stages.pipeline.arm import CODE, digest
from verify.closure import import_closure
from verify.workspace import dvc, edit, run

STAGES = YAML(typ="safe").load(Path("dvc.yaml").read_text())["stages"]
SHARED = ("projected_grpo/__init__.py", "projected_grpo/settings/", "projected_grpo/messages/")  # what is read is declared by key; messages
COMMAND = {stage: text["cmd"] if isinstance(text["cmd"], str) else " ".join(text["cmd"]) for stage, text in STAGES.items()}
MODULES = {stage: [name.replace(".", "/") + ".py" for name in re.findall(r"-m (stages\.pipeline\.\w+)", text)] for stage, text in COMMAND.items()}
READERS = {  # library files that receive the whole settings
    "extract_directions": ["projected_grpo/gate/extract.py"],
    "train_arm": ["projected_grpo/grpo/loop.py", "projected_grpo/grpo/monitors.py", "projected_grpo/gate/refresh.py"],
}
LIVE = "reports/live.csv"  # is written while a run trains, and kept by nobody
LOADS = "projected_grpo/policy/load.py"  # which receives the whole settings of every stage that calls it
HASHED = {"arm": Path("stages/pipeline/ground_truth_monitor.py")}  # a program whose code is hashed, never imported
NAMES = {"profile": "profile_name"}  # key of params.yaml -> as the settings have it, where it differs
PROPERTIES = {  # of the settings -> the keys that decide it
    "gate.reading": {"gate.score", "gate.site"},
    "profile.problems": {"profile.problems.kind"},  # of an environment of the user's own, all other keys are in the table problems
    "uses_ground_truth": {"gate.direction", "gate.policy", "monitor.kind"},
}


def closure_of(stage: str) -> set[str]:
    files = set().union(*(import_closure(Path(module)) for module in MODULES[stage]))
    if stage in HASHED:
        files |= import_closure(HASHED[stage])
    return {str(path) for path in files}


def declared_settings(stage: dict) -> set[str]:
    names = set()
    for item in stage.get("params", []):
        names |= {NAMES.get(item, item)} if isinstance(item, str) else {f"profile.{name}" for name in next(iter(item.values()))}
    return names


def settings_read(path: str) -> set[str]:
    """Dotted settings that a file names, such as profile.train.steps, also through names like `profile = settings.profile`."""
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


@pytest.mark.parametrize("stage", sorted(STAGES.keys() - {"profile"}))  # which writes all settings of the profile, and depends on their folder
def test_every_setting_that_a_stage_reads_is_declared(stage):
    read = set().union(*(settings_read(path) for path in [*MODULES[stage], *READERS.get(stage, []), *({LOADS} & closure_of(stage))]))
    declared = declared_settings(STAGES[stage])
    undeclared = {name for name in read if not any(name == d or name.startswith(f"{d}.") for d in declared)}
    assert not undeclared, f"{stage} reads {sorted(undeclared)} without declaring it"


@pytest.mark.parametrize("pipeline", ["dvc.yaml", *sorted(map(str, Path("campaigns").glob("*/dvc.yaml")))])
def test_a_stage_that_reads_the_curriculum_depends_on_the_demonstrations_of_the_profile(pipeline):
    """Which stand where the curriculum gives no number."""
    for name, stage in YAML(typ="safe").load(Path(pipeline).read_text())["stages"].items():
        declared = declared_settings(stage.get("do", stage))
        assert not declared & {"curriculum", "profile.curriculum"} or "profile.demonstrations" in declared, name  # a cell's is in its arm's file


def test_the_report_shows_all_settings_and_so_depends_on_all():
    sections = {f"profile.{name}" for name in Profile.model_fields} | set(Settings.model_fields) - {"profile"}
    assert declared_settings(STAGES["report"]) == sections


def test_the_search_for_settings_sees_through_other_names():
    assert {"profile.train.steps", "gate.draw", "adapter", "profile.grading", "seed"} <= settings_read("stages/pipeline/train_arm.py") | settings_read("projected_grpo/grpo/loop.py") | settings_read(LOADS)


@pytest.mark.parametrize("stage", STAGES)
def test_every_output_of_a_command_is_an_output_of_its_stage_and_nothing_persists(stage):
    text = STAGES[stage]
    outs = [next(iter(o)) if isinstance(o, dict) else o for kind in ("outs", "metrics", "plots") for o in text.get(kind, [])]
    for path in re.findall(r"(?:artifacts|reports)/[\w./${}-]+", COMMAND[stage]):
        known = [p for p in [*outs, *text["deps"]] if p == path or p.startswith(f"{path}/") or path.startswith(f"{p}/")]
        assert known or path == LIVE, f"{stage}: {path} is neither an input nor an output"
    for kind in ("outs", "metrics", "plots"):
        for out in text.get(kind, []):
            assert not (isinstance(out, dict) and ("persist" in str(out) or kind == "outs" and "cache" in str(out)))


def test_training_depends_on_what_its_arm_reads_and_on_no_ground_truth():
    deps = STAGES["train_arm"]["deps"]
    assert [dep for dep in deps if not dep.startswith(("stages", "projected_grpo", "requirements"))] == [
        "artifacts/arm", "artifacts/base", "artifacts/init", "artifacts/problems.parquet",
    ]  # fmt: skip
    assert "projected_grpo/ground_truth" not in deps and "projected_grpo/problems" not in deps


POOL = r"(?s)hack_demos: null(.*)until_step: null"
WITH_POOL = r"hack_demos: 1\1until_step: 2"
HEAL = r"heal_epochs: 0"
WITH_HEAL = "heal_epochs: 1"
MONITOR = r"(?s)policy: route(.*?)kind: none( .*?)\n  use: none"
WATCHED = "policy: {}\\1kind: {}\\2\n  use: {}"


@pytest.mark.parametrize(
    "pattern, replacement, files",
    [
        (r"\Z", "# nothing else\n", {}),
        (r"direction: haar", "direction: v_act", {"direction.parquet": "artifacts/directions/v_act/direction.parquet"}),
        (r"direction: haar", "direction: directions/mine.parquet", {"direction.parquet": "directions/mine.parquet"}),
        (r"cuts: quantile", "cuts: pairs", {"cut_pairs.parquet": "artifacts/pairs.parquet"}),
        (POOL, WITH_POOL, {"demonstrations.parquet": "artifacts/demonstrations.parquet"}),
        (HEAL, WITH_HEAL, {"heal_pairs.parquet": "artifacts/pairs.parquet"}),
        (r"warm_start: starts/zero", "warm_start: starts/earlier", {"warm_start/adapter.safetensors": "starts/earlier/adapter.safetensors"}),
        (MONITOR, WATCHED.format("none", "probe", "penalty"), {"probe.safetensors": None}),
        (MONITOR, WATCHED.format("none", "judge", "screening"), {"judge_question.txt": None}),
        (MONITOR, WATCHED.format("none", "direction", "discount"), {}),
        (MONITOR, WATCHED.format("none", "ground_truth", "penalty"), {"ground_truth.parquet": "artifacts/ground_truth.parquet", "ground_truth_code.json": None}),
        (MONITOR, WATCHED.format("labelled", "ground_truth", "none"), {"ground_truth.parquet": "artifacts/ground_truth.parquet", "ground_truth_code.json": None}),
    ],
)
def test_an_arm_holds_what_its_training_uses_and_nothing_else(finished, tmp_path, pattern, replacement, files):
    """Of the Haar arm with a change: an edit of what is not in the folder trains nothing again."""
    workspace = finished["haar"]
    params = workspace / "params.yaml"
    before = params.read_text()
    try:
        edit(params, pattern, replacement)
        (workspace / "directions/mine.parquet").write_bytes((workspace / "artifacts/directions/v_act/direction.parquet").read_bytes())
        shutil.copytree(workspace / "artifacts/train/adapter", workspace / "starts/earlier")
        arm = STAGES["arm"]["cmd"].removeprefix("python ").replace("artifacts/arm", str(tmp_path)).split()
        run([sys.executable, *arm], workspace)
        expected = {"direction.parquet": "artifacts/directions/haar/direction.parquet"} | files
        held = {str(path.relative_to(tmp_path)): path for path in tmp_path.rglob("*") if path.is_file()}
        assert held.keys() == expected.keys()
        assert all(held[name].read_bytes() == (workspace / source).read_bytes() for name, source in expected.items() if source)
    finally:
        params.write_text(before)
        (workspace / "directions/mine.parquet").unlink()
        shutil.rmtree(workspace / "starts/earlier")


def test_an_arm_that_uses_ground_truth_changes_with_the_code_of_the_monitor_s_process(tmp_path, monkeypatch):
    stage = "arm"
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


AFTER = {"label_rollouts", "deploy_ablate_eval", "gate_diagnostics", "report"}
TRAIN = {"train_arm"} | AFTER
ARM = {"arm"} | TRAIN
INIT = {"init_adapter", "extract_directions", "extract_oracle", "base_eval"} | ARM
BASE = {"base_model"} | INIT
ROUTES = {"arm", "train_arm", "deploy_ablate_eval", "gate_diagnostics", "report"}
COMPUTES = {"base_model", "init_adapter", "extract_directions", "extract_oracle", "arm", "train_arm", "base_eval", "deploy_ablate_eval"}
TABLE = [  # (file, old, new, directly stale, all that may re-run: what lies below re-runs where its inputs came out otherwise)
    ("pairs/toy.md", r"return 0", "return 1", {"author_pairs"}, {"author_pairs"} | INIT),
    ("params.yaml", r"seed: 41", "seed: 42", {"train_arm", "base_eval", "deploy_ablate_eval", "report"}, TRAIN | {"base_eval"}),
    ("params.yaml", r"init: gaussian", "init: pissa", INIT - {"label_rollouts", "gate_diagnostics"}, INIT),
    ("params.yaml", r"masking: output", "masking: parameter", ROUTES, ARM),
    ("params.yaml", r"policy: route", "policy: absorb", ROUTES, ARM),
    ("params.yaml", r"direction: v_act", "direction: haar", ROUTES, ARM),
    ("params.yaml", MONITOR, WATCHED.format("labelled", "ground_truth", "none"), ROUTES, ARM),
    ("params.yaml", r"false_positive_rate: 0.05", "false_positive_rate: 0.1", {"arm", "train_arm", "report"}, ARM),
    ("params.yaml", POOL, WITH_POOL, {"arm", "train_arm", "report"}, ARM),
    ("params.yaml", HEAL, WITH_HEAL, {"arm", "train_arm", "report"}, ARM),
    ("params.yaml", r"kl_limit: 2.0", "kl_limit: 4.0", {"arm", "train_arm", "report"}, ARM),
    ("params.yaml", r"draws: 100 ", "draws: 50 ", {"gate_diagnostics", "report"}, {"gate_diagnostics", "report"}),
    ("profiles/smoke.yaml", r"  samples: 2\n", "  samples: 1\n", {"base_eval", "deploy_ablate_eval", "report"}, {"base_eval", "deploy_ablate_eval", "report"}),
    ("profiles/smoke.yaml", r"clip: 0.2", "clip: 0.3", {"train_arm", "report"}, TRAIN),
    ("profiles/smoke.yaml", POOL.replace("null", "0"), WITH_POOL, {"arm", "train_arm", "report"}, ARM),
    ("profiles/smoke.yaml", r"heldout_tests: 6", "heldout_tests: 7", {"make_problems", "report"}, {"make_problems"} | BASE),
    ("profiles/toy.yaml", r"clip: 0.2", "clip: 0.3", set(), set()),
    ("projected_grpo/ground_truth/verdicts.py", r"\Z", "# x\n", {"extract_oracle", "arm", "label_rollouts", "base_eval", "deploy_ablate_eval"}, {"extract_oracle", "base_eval"} | ARM),
    ("stages/pipeline/arm.py", r"one word", "a word", {"arm"}, ARM),
    ("projected_grpo/reporting/html.py", r"\Z", "# x\n", {"report"}, {"report"}),
    ("projected_grpo/reporting/served.py", r"\Z", "# x\n", {"report"}, {"report"}),
    ("stages/pipeline/report.py", r"\Z", "# x\n", {"report"}, {"report"}),
    ("stages/pipeline/export_adapter.py", r"\Z", "# x\n", {"report"}, {"report"}),
    ("projected_grpo/messages/memory.py", r"\Z", "# x\n", set(), set()),
    ("projected_grpo/messages/columns.py", r"paid by the environment", "the environment paid it", set(), set()),
    ("projected_grpo/base_models/pretrain.py", r"\Z", "# x\n", {"base_model"}, BASE),
    ("stages/pipeline/train_arm.py", r"\Z", "# x\n", {"train_arm"}, TRAIN),
    ("requirements.lock", r"\Z", "# x\n", COMPUTES, BASE),
    ("projected_grpo/grpo/loss.py", r"\Z", "# x\n", {"train_arm"}, TRAIN),
    ("projected_grpo/problems/demonstrations.py", r"\Z", "# x\n", {"make_problems", "author_pairs"}, {"make_problems", "author_pairs"} | BASE),
    ("projected_grpo/analysis/nulls.py", r"\Z", "# x\n", {"gate_diagnostics", "report"}, {"gate_diagnostics", "report"}),
    ("examples/listing/environment.py", r"\Z", "# x\n", {"make_problems"}, {"make_problems"} | BASE),  # whose tables stay what they are
    ("starts/zero/README.md", r"\Z", "x\n", {"arm"}, ARM),
    ("directions/README.md", r"\Z", "x\n", {"arm"}, ARM),
]  # fmt: skip


@pytest.mark.parametrize("file, old, new, direct, plan", TABLE, ids=[f"{row[0]}-{n}" for n, row in enumerate(TABLE)])
def test_the_invalidation_table(finished, monkeypatch, file, old, new, direct, plan):
    """On a workspace whose pipeline ran: DVC's own status names the directly stale stages; the graph gives the rest. After an edit of
    a profile, the stage of that name has run, so that DVC compares its keys."""
    workspace = finished["v_act"]
    path, resolved = workspace / file, workspace / "artifacts/profile.yaml"
    before, profile = path.read_text(), resolved.read_bytes()
    try:
        path.write_text(re.sub(old, new, before, count=1))
        assert path.read_text() != before
        if file.startswith("profiles"):
            run([sys.executable, *STAGES["profile"]["cmd"].split()[1:]], workspace)
        monkeypatch.chdir(workspace)
        with Repo() as repo:
            graph = repo.index.graph  # edges run from a stage to what it depends on
            by_name = {stage.addressing: stage for stage in graph if stage.path_in_repo == "dvc.yaml"}
            stale = set(repo.status(targets=["dvc.yaml"])) & set(by_name) - {"profile"}
            reached = {s.addressing for name in stale for s in nx.ancestors(graph, by_name[name])} & set(by_name) | stale
    finally:
        path.write_text(before)
        resolved.write_bytes(profile)
    assert stale == direct
    assert reached == plan


def test_what_comes_out_as_before_runs_nothing_below(finished, tmp_path):
    """White space in a pair, an edit of a pair in an arm that reads no pair, and one of the ground-truth monitor's code."""
    workspace = Path(shutil.copytree(finished["haar"], tmp_path / "workspace", symlinks=True))
    edit(workspace / "pairs/toy.md", r"\n### ", "\n\n\n### ")
    assert ran(workspace) == {"author_pairs"}
    edit(workspace / "pairs/toy.md", r"return 0", "return 1")
    assert ran(workspace) == {"author_pairs", "init_adapter", "extract_directions", "arm", "gate_diagnostics", "report"}
    edit(workspace / "projected_grpo/ground_truth/verdicts.py", r"\Z", "# x\n")
    assert ran(workspace) == {"extract_oracle", "arm", "label_rollouts", "base_eval", "deploy_ablate_eval"}


def test_a_stage_refuses_a_profile_that_is_not_the_one_whose_keys_dvc_compares(finished, tmp_path):
    """As where a profile is edited while a campaign's cells run one by one."""
    workspace = Path(shutil.copytree(finished["haar"], tmp_path / "workspace", symlinks=True))
    edit(workspace / "profiles/smoke.yaml", r"clip: 0.2", "clip: 0.3")
    refused = dvc(workspace, "repro", "--single-item", "--force", "label_rollouts", check=False)
    assert refused.returncode and "smoke.yaml: was changed since the stage profile wrote artifacts/profile.yaml" in refused.stdout + refused.stderr
    dvc(workspace, "repro", "--single-item", "profile")
    dvc(workspace, "repro", "--single-item", "--force", "label_rollouts")


def test_an_arm_takes_no_copy_of_the_oracle_direction_under_another_name(finished, tmp_path):
    workspace = finished["haar"]
    params, mine = workspace / "params.yaml", workspace / "directions/mine.parquet"
    before = params.read_text()
    try:
        edit(params, r"direction: haar", "direction: directions/mine.parquet")
        for rows in (read_rows(workspace / "artifacts/directions/oracle/direction.parquet", DIRECTIONS), [ORACLE_OF_NOBODY]):
            write_table(mine, DIRECTIONS, [row | {"direction": "mine"} for row in rows])
            arm = STAGES["arm"]["cmd"].removeprefix("python ").replace("artifacts/arm", str(tmp_path / "arm")).split()
            done = run([sys.executable, *arm], workspace, check=False)
            refused = "mine.parquet: is the oracle direction, which uses ground truth; set gate.direction=oracle" in done.stderr
            assert refused == (done.returncode == 1) == (rows != [ORACLE_OF_NOBODY])
    finally:
        params.write_text(before)
        mine.unlink()


ORACLE_OF_NOBODY = {"direction": "oracle", "draw": 0, "reading": "bottleneck", "module": "m", "vector": [1.0]}


def ran(workspace: Path) -> set[str]:
    return set(re.findall(r"Running stage '(\w+)'", dvc(workspace, "repro").stdout))
