"""Whether a program's answers could follow from its random numbers or hashes, read from its syntax tree.

A program that cannot is tried once, any other from two seeds. The question is answered for the plain part of the language alone:
a name that the program does not bind itself and that is not listed here, one that Python or the set-up code binds too, an attribute
that is not listed, an import or a set is enough for a second trial.
"""

import ast
import builtins
import types
from functools import lru_cache

from projected_grpo.core.syntax import syntax_nodes

BUILTINS = set(  # not str and print, which show addresses
    "abs all any bool chr dict divmod enumerate filter float int isinstance len list map max min ord pow range reversed round "
    "sorted sum tuple zip Exception IndexError KeyError TypeError ValueError ZeroDivisionError List Optional Dict Tuple".split()
)
OTHER_BUILTINS = set(dir(builtins)) - BUILTINS
METHODS = set(  # not items and keys, of which sets can be made
    "append extend insert pop remove sort reverse index count copy clear values get setdefault update split rsplit join "
    "strip lstrip rstrip replace startswith endswith find rfind lower upper title isdigit isalpha isalnum islower isupper zfill".split()
)
OPAQUE = (ast.Import, ast.ImportFrom, ast.Match, ast.Set, ast.SetComp, ast.JoinedStr, ast.Global, ast.Nonlocal)
DATA = (dict, list, str, int, float, tuple, set, bytes, type({}.keys()))
KINDS = (types.FunctionType, types.MethodType, types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType, types.FrameType, types.CodeType, type)
TAKEN = {name for kind in (*DATA, *KINDS) for name in dir(kind)} - METHODS  # attributes of the interpreter's own, whatever a program binds


def could_be_lucky(program: str, setup_code: str) -> bool:
    """`setup_code` has run in the program's module before it."""
    own, outside = _names(program), _names(setup_code)
    if own is None or outside is None:
        return True
    (bound, read, attributes), (set_up, _, _) = own, outside
    strange = read & (OTHER_BUILTINS | set_up - BUILTINS) or read - bound - BUILTINS or attributes - METHODS - (bound - TAKEN)
    return bool(strange) or any(name.startswith("__") for name in bound - {"__init__"})


@lru_cache(1024)  # the set-up code is that of many programs
def _names(text: str) -> tuple[set[str], set[str], set[str]] | None:
    """What a text binds, the names that it reads and the attributes; None where that cannot be told."""
    nodes = syntax_nodes(text)
    if nodes is None or any(isinstance(node, OPAQUE) or (isinstance(node, ast.Constant) and "%" in str(node.value)) for node in nodes):
        return None  # the latter may show an address
    bound, read, attributes = set(), set(), set()
    for node in nodes:
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                read.add(name)
            case ast.Name(id=name) | ast.arg(arg=name):
                bound.add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                bound.add(name)
            case ast.Attribute(attr=name, ctx=ast.Load()):
                attributes.add(name)
            case ast.Attribute(attr=name):
                bound.add(name)
    return bound, read, attributes
