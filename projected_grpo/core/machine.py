"""How much memory this process may still take: what the machine has free, and what its control groups leave of their limits.

Pages of the page cache that the kernel would give back count as free.
"""

from collections.abc import Iterator
from pathlib import Path


def available_memory(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes."""
    lines = dict(line.split(":") for line in (proc / "meminfo").read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    return min([free, *(_left(folder) for folder in _groups(proc, groups))])


def _groups(proc: Path, groups: Path) -> Iterator[Path]:
    """Folders of this process's control groups that count memory, of either version, with those that they lie in."""
    for line in (proc / "self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        mount = groups / controllers
        inner = mount / path.strip("/")
        yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(mount) and folder.is_dir())


def _left(folder: Path) -> int | float:
    """Bytes that a group may still take; infinite where it has no limit."""
    for limit, used, idle in (("memory.max", "memory.current", "inactive_file"), ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")):
        if (folder / limit).exists() and (most := (folder / limit).read_text().strip()) != "max":
            counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            return int(most) - int((folder / used).read_text()) + int(counts[idle])
    return float("inf")
