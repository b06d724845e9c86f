"""A fresh copy of the project in a folder of its own, and the real pipeline on tiny inputs in it.

`python -m verify.workspace FOLDER` is `make smoke`.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from verify import forks

PROJECT = Path(__file__).resolve().parents[1]
CAMPAIGN = Path("campaigns/toy2")
PROFILE = re.compile(r"^profile: \w+", re.MULTILINE)


def environment(workspace: Path, forked: bool = False) -> dict[str, str]:
    """This process's environment, with the interpreter's programs first and checkpoints inside the workspace.

    Where `forked`, stages are forks of a process that has imported their libraries (verify/forks.py). Byte code is kept,
    because under type checks every library that the project imports has byte code of its own.
    """
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    programs = [*([forks.start()] if forked else []), Path(sys.executable).parent, os.environ["PATH"]]
    return kept | {
        "PATH": os.pathsep.join(map(str, programs)),
        "PGRPO_SCRATCH": str(workspace / ".scratch"),
        "DVC_NO_ANALYTICS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def copy_project(workspace: Path, profile: str = "smoke") -> Path:
    """Tracked and new files of the project as the only commit of a new repository, set to `profile`."""
    listing = run(["git", "ls-files", "-co", "--exclude-standard"], PROJECT).stdout.splitlines()
    for name in listing:
        if (PROJECT / name).is_file() and (name.startswith(f"{CAMPAIGN}/") or not name.startswith("campaigns/")):  # every command of DVC loads all cells
            (workspace / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, workspace / name)
    (workspace / "dvc.lock").unlink(missing_ok=True)
    edit(workspace / "params.yaml", PROFILE, f"profile: {profile}")
    edit(workspace / "params.yaml", r"draws: 10000", "draws: 100")  # of the offline gate test
    set_cells(workspace, "41-absorb", profile="toy")  # every command of DVC loads all cells
    run(["git", "init", "-q"], workspace)
    run(["git", "config", "user.name", "gate"], workspace)
    run(["git", "config", "user.email", "gate@example.org"], workspace)
    commit(workspace)
    return workspace


def set_cells(workspace: Path, *names: str, profile: str = "smoke") -> None:
    """Let the campaign have these cells, <seed>-<arm>, the first seed planned; the offline gate test scores the first one's readings."""
    path = workspace / CAMPAIGN / "params.yaml"
    cells = [name.split("-") for name in names]
    lines = "".join(f'  {seed}-{arm}: {{seed: "{seed}", arm: {arm}}}\n' for seed, arm in cells)
    edit(path, re.compile(r"^cells:.*", re.MULTILINE | re.DOTALL), f"cells:\n{lines}")
    edit(path, r"seeds: .*", f"seeds: {json.dumps(list(dict.fromkeys(seed for seed, _ in cells)))}")
    edit(path, r"offline_run: \S+", f"offline_run: {cells[0][1]}/{cells[0][0]}")
    edit(path, r"profile: \w+", f"profile: {profile}")
    edit(workspace / CAMPAIGN / "plan.md", r"seeds: \[\d+", f"seeds: [{cells[0][0]}")


def commit(workspace: Path) -> None:
    run(["git", "add", "-A"], workspace)
    run(["git", "commit", "-q", "-m", "workspace"], workspace)


def edit(path: Path, pattern: str | re.Pattern, replacement: str) -> None:
    text = path.read_text()
    changed, count = re.subn(pattern, replacement, text, count=1)
    assert count == 1, f"{path}: nothing matches {pattern}"
    path.write_text(changed)


def run(command: list[str], folder: Path, check: bool = True, quiet: bool = True, forked: bool = True, **variables: str):
    forked = forked and command[0] == sys.executable
    settings = environment(folder, forked) | variables
    if forked:
        command = [str(forks.start() / "python"), *command[1:]]
    done = subprocess.run(command, cwd=folder, env=settings, text=True, capture_output=quiet, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def dvc(workspace: Path, *arguments: str, check: bool = True, quiet: bool = True, forked: bool = True, **variables: str):
    return run([sys.executable, "-m", "dvc", *arguments], workspace, check, quiet, forked, **variables)


def gather_arm(workspace: Path) -> None:
    """Bring artifacts/arm up to the settings."""
    shutil.rmtree(workspace / "artifacts/arm")
    names = ("directions", "pairs.parquet", "demonstrations.parquet", "ground_truth.parquet", "base", "init")
    inputs = [part for name in names for part in (f"--{name.partition('.')[0].replace('_', '-')}", f"artifacts/{name}")]
    run([sys.executable, "-m", "stages.pipeline.arm", *inputs, "--out", "artifacts/arm"], workspace)


if __name__ == "__main__":
    target = Path(sys.argv[1]).resolve()
    shutil.rmtree(target, ignore_errors=True)
    dvc(copy_project(target), "repro", quiet=False, forked=False)
    print(f"smoke: the pipeline ran; its report is {target / 'reports' / 'report.html'}")
