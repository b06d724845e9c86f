"""The import closure of a module inside the project, read from the source without importing anything."""

import ast
from pathlib import Path

ROOTS = ("projected_grpo", "stages", "verify", "bench")


def file_of(module: str) -> Path | None:
    """The project file of a dotted module name, or None where it is not a module of the project."""
    path = Path(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def direct_imports(path: Path) -> set[Path]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {file for name in names if name.split(".")[0] in ROOTS if (file := file_of(name))}
    return found


def import_closure(path: Path) -> set[Path]:
    """All project files that importing `path` and calling its functions may run, `path` included."""
    closure, todo = set(), [path]
    while todo:
        file = todo.pop()
        if file not in closure:
            closure.add(file)
            todo += direct_imports(file)
    return closure
