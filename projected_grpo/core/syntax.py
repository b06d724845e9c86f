"""The syntax tree of a program that nobody has vetted."""

import ast
import warnings


def syntax_nodes(text: str) -> list[ast.AST] | None:
    """All nodes; None where the text does not parse."""
    try:
        with warnings.catch_warnings(action="ignore", category=SyntaxWarning):  # of the model's style, nothing to the user
            return list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def dotted(node: ast.AST) -> str:
    """A name with its attributes, such as sys.exit; where it begins with something else, from the first dot on."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id if isinstance(node, ast.Name) else "", *reversed(parts)])


def assigned(node: ast.AST) -> set[str]:
    """Last parts of the names that an assignment sets; none of another node."""
    return {dotted(target).rpartition(".")[2] for target in node.targets} if isinstance(node, ast.Assign) else set()
