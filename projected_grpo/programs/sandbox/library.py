"""The standard library as one sealed file in memory, from which programs import without opening a file of the machine.

A file on the disk carries bits from one program to the next: who reads it changes its time of access, and its pages in the
page cache. The layout is the length of an index in 8 bytes, the index, then the code of each module, the latter two marshalled;
the index maps a module's name to (start of its code, end, whether it is a package, path of its source).
"""

import fcntl
import marshal
import os
import sysconfig
from collections.abc import Iterator
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path

SKIPPED = {"test", "tests", "site-packages", "dist-packages", "idlelib", "lib2to3", "ensurepip", "turtledemo", "tkinter", "pydoc_data"}
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


@cache
def library() -> int:
    """Its descriptor, one for all fork-servers of this process."""
    codes = {name: (marshal.dumps(SourceFileLoader(name, str(path)).get_code(name)), path) for name, path in _modules()}
    ends, end = {}, 0
    for name, (code, path) in codes.items():
        start, end = end, end + len(code)
        ends[name] = start, end, path.stem == "__init__", str(path)
    index = marshal.dumps(ends)
    descriptor = os.memfd_create("library", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(descriptor, "wb", closefd=False) as file:
        file.writelines([len(index).to_bytes(8, "little"), index, *(code for code, _ in codes.values())])
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
    return descriptor


def _modules() -> Iterator[tuple[str, Path]]:
    root = Path(sysconfig.get_path("stdlib"))
    for folder, inner, files in os.walk(root):
        inner[:] = sorted(name for name in inner if name.isidentifier() and name not in SKIPPED)
        for path in sorted(Path(folder, name) for name in files if name.endswith(".py")):
            parts = path.relative_to(root).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path
