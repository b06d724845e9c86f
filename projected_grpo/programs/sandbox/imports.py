"""How a program imports: what the fork-server loaded already, or the code of the standard library in memory, and nothing else."""

import contextlib
import importlib
import marshal
import mmap
import os
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec

# what programs import most, so that a fork has it already, and the extension modules, which can be loaded from files alone
PRELOADED = ("bisect", "collections", "functools", "heapq", "itertools", "math", "operator", "random", "re", "string", "typing")
EXTENSIONS = (
    "_bisect", "_blake2", "_contextvars", "_csv", "_ctypes", "_datetime", "_decimal", "_heapq", "_json", "_md5", "_pickle",
    "_posixsubprocess", "_queue", "_random", "_sha1", "_sha256", "_sha3", "_sha512", "_socket", "_statistics", "_struct", "_typing",
    "array", "binascii", "cmath", "fcntl", "math", "mmap", "pyexpat", "resource", "select", "unicodedata", "zlib",
)  # fmt: skip


class Library:
    """An importer of the modules in the file that library.py describes. Its file is sealed, so no program changes it for another.

    The mapping is private, because Linux before 6.7 refuses a shared one of a sealed file, even to read."""

    def __init__(self, descriptor: int) -> None:
        self.data = memoryview(mmap.mmap(descriptor, os.fstat(descriptor).st_size, mmap.MAP_PRIVATE, mmap.PROT_READ))
        self.start = 8 + int.from_bytes(self.data[:8], "little")
        self.index = marshal.loads(self.data[8 : self.start])

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name not in self.index:
            return None
        _, _, is_package, origin = self.index[name]
        spec = ModuleSpec(name, self, origin=origin, is_package=is_package)
        spec.has_location = True
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        """The usual kind of module."""

    def exec_module(self, module: object) -> None:
        start, end, _, _ = self.index[module.__name__]
        exec(marshal.loads(self.data[self.start + start : self.start + end]), vars(module))


def import_from_memory(descriptor: int) -> None:
    """Load what programs share, then take the importers of files away."""
    for name in (*PRELOADED, *EXTENSIONS):
        with contextlib.suppress(ModuleNotFoundError):  # builds of Python differ in which of them they have
            importlib.import_module(name)
    sys.meta_path[:] = [BuiltinImporter, FrozenImporter, Library(descriptor)]
    sys.path[:] = []
    sys.path_importer_cache.clear()
