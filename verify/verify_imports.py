"""The house rules of imports: one direction, no circles, training apart from the ground-truth monitor, and no library that
takes seconds to import before a command knows its options."""

import subprocess
import sys
from pathlib import Path

import pytest

from verify.closure import direct_imports, import_closure

TIERS = [  # the house, from its ground up: a room imports from those below it alone
    {"core"}, {"settings"}, {"messages", "policy", "prompts"}, {"programs", "sampling", "toy_world"}, {"base_models", "environment"},
    {"evaluation", "gate", "problems"}, {"ground_truth"}, {"analysis", "grpo"}, {"reporting"},
]  # fmt: skip
LOADER = Path("projected_grpo/environment/load.py")
LIBRARY = sorted(Path("projected_grpo").rglob("*.py"))
STAGES = sorted(path for path in Path("stages").rglob("*.py") if path.stem != "__init__")
ORACLE_FREE = [
    "train_arm", "init_adapter", "extract_directions", "build_demonstrations", "author_pairs", "base_model",
]  # fmt: skip

SLOW = {  # library that takes a second or more to import -> the commands that do so before they know their options
    "torch": set(),
    "transformers": set(),
    "peft": set(),
    "sklearn": set(),
    "matplotlib": {"compare", "reanalyse", "report", "report_campaign"},
}


def tier(path: Path) -> int:
    room = path.parts[1]
    return next(index for index, rooms in enumerate(TIERS) if room in rooms)


@pytest.mark.parametrize("path", LIBRARY, ids=str)
def test_the_library_imports_one_way(path):
    for imported in direct_imports(path):
        assert imported.parts[0] == "projected_grpo", f"{path} imports {imported}"
        if path.name == imported.name == "__init__.py" or len(imported.parts) == 2:
            continue
        assert imported.parts[1] == path.parts[1] or tier(imported) < tier(path), f"{path} imports {imported}, which is not below it"


def test_there_is_no_circle():
    for path in LIBRARY:
        for imported in direct_imports(path) - {path}:
            assert path not in import_closure(imported) or path.name == "__init__.py", f"{path} and {imported}"


@pytest.mark.parametrize("stage", ORACLE_FREE)
def test_nothing_that_training_or_the_directions_run_can_reach_the_ground_truth_monitor(stage):
    closure = import_closure(Path(f"stages/pipeline/{stage}.py"))
    assert not closure & {Path("projected_grpo/ground_truth/verdicts.py"), Path("projected_grpo/ground_truth/own_tests.py")}
    assert not any(path.parts[1] in ("ground_truth", "evaluation") for path in closure)
    assert Path("stages/pipeline/ground_truth_monitor.py") not in closure
    for path in closure:
        assert "GROUND_TRUTH" not in path.read_text() or path.name == "tables.py", f"{path} names the table ground_truth"
        assert "__import__" not in path.read_text()
        assert "import_module" not in path.read_text() or path == LOADER  # of the user's environment; it refuses a ground truth (verify_own_environment.py)


def test_the_monitor_is_reachable_where_it_should_be():
    for stage in ("label_rollouts", "ground_truth_monitor"):
        assert Path("projected_grpo/ground_truth/verdicts.py") in import_closure(Path(f"stages/pipeline/{stage}.py"))


def afterwards(script: str, *arguments: str) -> tuple[str, set[str]]:
    """What an interpreter prints, and the modules that it holds at its end."""
    tell = "import atexit, sys; atexit.register(lambda: print('modules:', *sys.modules)); "
    done = subprocess.run([sys.executable, "-c", tell + script, *arguments], check=True, text=True, stdout=subprocess.PIPE)
    printed, _, names = done.stdout.rpartition("modules: ")
    return printed, set(names.split())


@pytest.mark.parametrize("path", STAGES, ids=str)
def test_the_help_of_a_command_waits_for_no_library_that_only_its_work_needs(path):
    name = ".".join(path.with_suffix("").parts)
    printed, found = afterwards(f"import runpy; runpy.run_module('{name}', run_name='__main__', alter_sys=True)", "--help")
    assert f"Usage: python -m {name} " in printed
    assert found & SLOW.keys() == {library for library, commands in SLOW.items() if path.stem in commands}


def test_transformers_looks_for_none_of_the_libraries_that_a_policy_does_without():
    _, found = afterwards("import projected_grpo.core.base")
    assert "transformers.modeling_utils" in found and not found & {"sklearn", "scipy", "psutil"}


@pytest.mark.parametrize("path", LIBRARY + STAGES, ids=str)
def test_a_file_stays_short(path):
    assert len(path.read_text().splitlines()) <= 250
