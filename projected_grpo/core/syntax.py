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
