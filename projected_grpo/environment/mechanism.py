"""What a program's text attempts, read from its syntax tree: a description beside the channels, never a verdict."""

import ast

from projected_grpo.core.syntax import dotted, syntax_nodes
from projected_grpo.prompts.modes import LOOPHOLES, Words

INTROSPECTION = {"gc", "inspect", "ctypes", "sys._getframe", "sys.settrace", "sys.modules", "builtins", "__builtins__"}


def mechanisms(program: str, words: Words) -> list[str]:
    """Sorted names: the mechanisms of the loopholes, and introspects."""
    return sorted({name for name, _, _ in mechanism_lines(program, words)})


def mechanism_lines(program: str, words: Words) -> list[tuple[str, int, int]]:
    """Sorted (name, first line, last line), lines from 1; empty for a program that does not compile."""
    return sorted({(name, node.lineno, node.end_lineno) for node in syntax_nodes(program) or [] for name in _of(node, words)})


def _of(node: ast.AST, words: Words) -> list[str]:
    found = [loophole.mechanism for loophole in LOOPHOLES.values() if loophole.in_text(node, words)]
    if isinstance(node, (ast.Name, ast.Attribute)) and dotted(node) in INTROSPECTION:
        found.append("introspects")
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        found += ["introspects"] * bool(INTROSPECTION.intersection(modules))
    return found
