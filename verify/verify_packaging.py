"""What is imported is declared, and the library can be installed into another project."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
DECLARED = tomllib.loads((PROJECT / "pyproject.toml").read_text())
OWN = {"projected_grpo", "stages", "bench", "verify", "examples", "child", "confine", "imports", "nodes", "protocol"}  # the last five: the sandbox's own
FOLDERS = {"projected_grpo": {"gpu", "ray"}, "stages": {"ray"}, "bench": {"peer"}, "verify": {"test"}, "examples": {"examples"}}  # folder -> extras and groups beside


def names(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w.-]+", text)[0].lower().replace("_", "-") for text in requirements}


def imported(folder: str) -> set[str]:
    found = set()
    for path in sorted((PROJECT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [node.module]
            found |= {module.partition(".")[0] for module in modules}
    return found - OWN - set(sys.stdlib_module_names)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_library_that_is_imported_is_declared(folder: str) -> None:
    project, groups = DECLARED["project"], DECLARED["dependency-groups"]
    beside = project["optional-dependencies"] | groups
    declared = names(project["dependencies"]).union(*(names(beside[extra]) for extra in FOLDERS[folder]))
    of = packages_distributions()
    undeclared = {module for module in imported(folder) if not declared & names(of.get(module, [module]))}
    assert undeclared == set()


def test_the_library_is_a_wheel_that_grades_in_another_project(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=PROJECT, check=True, capture_output=True)
    [wheel] = tmp_path.glob("projected_grpo-*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    program = (
        "from projected_grpo.programs.sandbox.runner import Sandbox\n"
        "from projected_grpo.settings.profile import Grading\n"
        "from projected_grpo.ground_truth.requests import answer\n"
        "import json, projected_grpo\n"
        "test = {'args': [1], 'kwargs': {}, 'expected': 2}\n"
        "code = 'def f(x): return x + 1'\n"
        "row = dict(id=1, mode='gt_only', setup_code='', entry_point='f', tests=[test], heldout_tests=[test], canonical_solution=code, program=code)\n"
        "with Sandbox(Grading(cpu_s=2, wall_s=20, memory_mb=256, workers=1)) as sandbox:\n"
        "    print(projected_grpo.__file__, next(answer([json.dumps(row).encode()], sandbox))['gt_correct'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "installed")}, capture_output=True, text=True)
    assert done.stdout.split() == [str(tmp_path / "installed/projected_grpo/__init__.py"), "True"], done.stderr
