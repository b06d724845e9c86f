"""A fresh copy of the project in a folder of its own, and the real pipeline on tiny inputs in it.

`python -m verify.workspace FOLDER` is `make smoke`.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from verify import forks

PROJECT = Path(__file__).resolve().parents[1]
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
        if (PROJECT / name).is_file():
            (workspace / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, workspace / name)
    (workspace / "dvc.lock").unlink(missing_ok=True)
    edit(workspace / "params.yaml", PROFILE, f"profile: {profile}")
    edit(workspace / "params.yaml", r"draws: 10000", "draws: 100")  # of the offline gate test
    edit(workspace / "campaigns/toy/params.yaml", r"seeds: .*", 'seeds: ["41"]')  # every command of DVC loads all cells
    run(["git", "init", "-q"], workspace)
    run(["git", "config", "user.name", "gate"], workspace)
    run(["git", "config", "user.email", "gate@example.org"], workspace)
    commit(workspace)
    return workspace


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


if __name__ == "__main__":
    target = Path(sys.argv[1]).resolve()
    shutil.rmtree(target, ignore_errors=True)
    dvc(copy_project(target), "repro", quiet=False, forked=False)
    print(f"smoke: the pipeline ran; its report is {target / 'reports' / 'report.html'}")
