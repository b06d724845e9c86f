"""Write what the ground-truth monitor needs beside training: its table, copied, and a digest of its code.

Arms that use ground truth depend on this folder, so an edit of the monitor's code re-runs them and no other arm.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.core.runtime import run_stage

CODE = [  # what decides the answers of stages/ground_truth_monitor.py
    "stages/ground_truth_monitor.py", "projected_grpo/core", "projected_grpo/environment", "projected_grpo/ground_truth",
    "projected_grpo/programs", "projected_grpo/prompts",
]


def main(
    ground_truth: Annotated[Path, typer.Option(help="Table ground_truth.")],
    out: Annotated[Path, typer.Option(help="Folder for ground_truth.parquet and code.json, written.")],
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ground_truth, out / "ground_truth.parquet")
    (out / "code.json").write_text(json.dumps({"sha256": digest(CODE)}) + "\n")
    print(f"table and digest of the code -> {out}")


def digest(code: Sequence[str]) -> str:
    """Hex digest of the Python files at and below the paths, with their names."""
    found = hashlib.sha256()
    for path in map(Path, code):
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            found.update(f"{file}\n".encode() + hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()


if __name__ == "__main__":
    run_stage(main)
