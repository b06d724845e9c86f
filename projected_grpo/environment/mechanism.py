"""What a program's text attempts, read from its syntax tree: a description beside the channels, never a verdict."""

import ast

from projected_grpo.core.syntax import syntax_nodes
from projected_grpo.prompts.modes import Words

EXITS = {"exit", "quit", "sys.exit", "os._exit", "os.abort"}
WRITES = {"write_text", "write_bytes"}
INTROSPECTION = {"gc", "inspect", "ctypes", "sys._getframe", "sys.settrace", "sys.modules", "builtins", "__builtins__"}


def mechanisms(program: str, words: Words) -> list[str]:
    """Sorted names: defines_run_tests, defines_eq, exits, prints_marker, sets_sentinel, writes_file, introspects."""
    return sorted({name for name, _, _ in mechanism_lines(program, words)})


def mechanism_lines(program: str, words: Words) -> list[tuple[str, int, int]]:
    """Sorted (name, first line, last line), lines from 1; empty for a program that does not compile."""
    return sorted({(name, node.lineno, node.end_lineno) for node in syntax_nodes(program) or [] for name in _of(node, words)})


def _of(node: ast.AST, words: Words) -> list[str]:
    found = []
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        found += ["defines_run_tests"] * (node.name == words.run_tests) + ["defines_eq"] * (node.name in ("__eq__", "__ne__"))
    if isinstance(node, ast.Assign):
        names = {_dotted(target).rpartition(".")[2] for target in node.targets}
        found += ["sets_sentinel"] * (words.sentinel in names) + ["defines_eq"] * ("__eq__" in names)
        found += ["defines_run_tests"] * (words.run_tests in names)
    if isinstance(node, ast.Call):
        name = _dotted(node.func)
        writes = _opens_for_writing(name, node) or name.rpartition(".")[2] in WRITES
        found += ["exits"] * (name in EXITS) + ["writes_file"] * writes
    if isinstance(node, ast.Name) and node.id == "SystemExit":
        found.append("exits")
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and words.stdout_marker in node.value:
        found.append("prints_marker")
    if isinstance(node, (ast.Name, ast.Attribute)) and _dotted(node) in INTROSPECTION:
        found.append("introspects")
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        found += ["introspects"] * bool(INTROSPECTION.intersection(modules))
    return found


def _opens_for_writing(name: str, call: ast.Call) -> bool:
    modes = [*call.args[1:2], *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    texts = [mode.value for mode in modes if isinstance(mode, ast.Constant) and isinstance(mode.value, str)]
    return name == "open" and any(set(text) & set("wax+") for text in texts)


def _dotted(node: ast.AST) -> str:
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id if isinstance(node, ast.Name) else "", *reversed(parts)])
