"""The files behind a module of the user's own, read without importing any: what DVC and the separation from the ground truth rest on."""

import ast
import hashlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from projected_grpo.environment.load import ROOM
from projected_grpo.environment.protocol import ProtocolError


def digest(name: str) -> str:
    """Of the code behind `module:function` as far as it lies in the working folder; an installed package is the lock's to name."""
    files = sources(name)
    if not files and find_spec(name.partition(".")[0].partition(":")[0]) is None:
        raise ProtocolError(f"{name}: found no such module, neither in the working folder nor installed; mend its name in the profile, or install it")
    text = "".join(f"{file}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n" for file in sorted(files))
    return f"sha256 {hashlib.sha256(text.encode()).hexdigest()}"


def require_apart(environment: str, ground_truth: str) -> None:
    """Raises ProtocolError where importing the environment would import the module of the ground truth, or its room, and where that
    module does not import the room as soon as it is imported, by which training knows a ground truth and refuses it."""
    truth = _file(ground_truth.partition(":")[0])
    if truth and not any(name.startswith(ROOM) for node in _parsed(truth).body for name in _names(node, truth)):
        raise ProtocolError(f"ground_truth is {ground_truth}, and {truth} imports nothing of {ROOM} outside of functions; import Verdict at its top")
    for file in sorted(sources(environment)):
        if any(name.startswith(ROOM) for name in _imports(file)):
            raise ProtocolError(
                f"environment is {environment}, whose imports reach the ground truth by {file}; training imports the environment, "
                "so move what both need to a module of its own"
            )


def sources(name: str) -> set[Path]:
    """Files of the working folder that importing the module of `name` may run, less the library's."""
    found, todo = set(), [name.partition(":")[0]]
    while todo:
        module = todo.pop()
        parts = module.split(".")
        for end in range(1, len(parts) + 1):
            file = _file(".".join(parts[:end]))
            if file and file not in found and parts[0] != "projected_grpo":
                found.add(file)
                todo += _imports(file)
    return found


def _file(module: str) -> Path | None:
    path = Path(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _imports(file: Path) -> Iterator[str]:
    """Dotted names that its import statements give, wherever these are."""
    for node in ast.walk(_parsed(file)):
        yield from _names(node, file)


def _parsed(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_text())
    except SyntaxError as error:
        raise ProtocolError(f"{file}: line {error.lineno}: {error.msg}; mend the module") from error


def _names(node: ast.AST, file: Path) -> Iterator[str]:
    """Of one import statement, which may be relative to the file's folder; none of another node."""
    package = file.parent.parts
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = package[: len(package) + 1 - node.level] if node.level else ()
        module = ".".join([*above, *([node.module] if node.module else [])])
        yield from (module, *(f"{module}.{alias.name}" for alias in node.names))
