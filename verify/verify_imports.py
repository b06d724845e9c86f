"""The house rules of imports: one direction, no circles, and training apart from the ground-truth monitor."""

from pathlib import Path

import pytest

from verify.closure import direct_imports, import_closure

TIERS = [  # a file imports from its own tier or from one above it in this list
    {"errors", "downloads", "memory", "seeds", "parquet", "tables", "scale", "curriculum", "monitor", "settings", "campaign", "results", "runtime", "__init__"},
    {"gate", "policy", "sampling", "env", "problems"},
    {"evaluation", "analysis", "reporting", "grpo"},
]
LIBRARY = sorted(Path("projected_grpo").rglob("*.py"))
STAGES = sorted(path for path in Path("stages").glob("*.py") if path.stem != "__init__")
ORACLE_FREE = [
    "train_arm", "init_adapter", "build_probe", "build_judge", "extract_directions", "generate_pairs", "build_haar_placebo",
    "build_demonstrations", "author_pairs",
    "empty_inputs", "base_model",
]  # fmt: skip


def tier(path: Path) -> int:
    room = path.parts[1].removesuffix(".py")
    return next(index for index, rooms in enumerate(TIERS) if room in rooms)


@pytest.mark.parametrize("path", LIBRARY, ids=str)
def test_the_library_imports_one_way(path):
    for imported in direct_imports(path):
        assert imported.parts[0] == "projected_grpo", f"{path} imports {imported}"
        assert tier(imported) <= tier(path), f"{path} imports {imported} from a later tier"


def test_there_is_no_circle():
    for path in LIBRARY:
        for imported in direct_imports(path) - {path}:
            assert path not in import_closure(imported) or path.name == "__init__.py", f"{path} and {imported}"


@pytest.mark.parametrize("stage", ORACLE_FREE)
def test_nothing_that_training_or_the_directions_run_can_reach_the_ground_truth_monitor(stage):
    closure = import_closure(Path(f"stages/{stage}.py"))
    assert not closure & {Path("projected_grpo/env/oracle.py"), Path("projected_grpo/env/own_tests.py")}
    assert not any(path.parts[1] == "evaluation" for path in closure)
    assert Path("stages/ground_truth_monitor.py") not in closure
    for path in closure:
        assert "GROUND_TRUTH" not in path.read_text() or path.name == "tables.py", f"{path} names the table ground_truth"
        assert "import_module" not in path.read_text() and "__import__" not in path.read_text()


def test_the_monitor_is_reachable_where_it_should_be():
    for stage in ("label_rollouts", "ground_truth_monitor"):
        assert Path("projected_grpo/env/oracle.py") in import_closure(Path(f"stages/{stage}.py"))


@pytest.mark.parametrize("path", LIBRARY + STAGES, ids=str)
def test_a_file_stays_short(path):
    assert len(path.read_text().splitlines()) <= 250
