"""The memory that a campaign may still take: less than the machine's where a control group's limit is lower, page cache free."""

from pathlib import Path

import pytest

from projected_grpo.core.machine import available_memory

MB = 2**20
VERSIONS = {  # of control groups: line of /proc/self/cgroup, folder of the group, files of limit and use, key of what can be given back
    "v2": ("0::/a/b", "a/b", "memory.max", "memory.current", "inactive_file"),
    "v1": ("5:memory:/a/b", "memory/a/b", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_group_s_limit_less_what_it_uses_and_cannot_give_back_is_available(tmp_path: Path, version: str) -> None:
    line, path, limit, used, idle = VERSIONS[version]
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(f"MemTotal: 9 kB\nMemFree: 1 kB\nMemAvailable: {1000 * 1024} kB\n")
    (tmp_path / "proc/self/cgroup").write_text(f"7:cpu:/\n{line}\n")
    group = tmp_path / "groups" / path
    group.mkdir(parents=True)
    (group / limit).write_text(f"{500 * MB}\n")
    (group / used).write_text(f"{450 * MB}\n")
    (group / "memory.stat").write_text(f"anon 5\n{idle} {150 * MB}\n")
    assert available_memory(tmp_path / "proc", tmp_path / "groups") == 200 * MB
    (group.parent / limit).write_text(f"{100 * MB}\n")  # the group around it is narrower
    (group.parent / used).write_text(f"{40 * MB}\n")
    (group.parent / "memory.stat").write_text(f"{idle} 0\n")
    assert available_memory(tmp_path / "proc", tmp_path / "groups") == 60 * MB
    (tmp_path / "proc/meminfo").write_text("MemAvailable: 30720 kB\n")
    assert available_memory(tmp_path / "proc", tmp_path / "groups") == 30 * MB


def test_without_a_limit_it_is_what_the_machine_has(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemAvailable: 1024 kB\n")
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "groups").mkdir()
    (tmp_path / "groups/memory.max").write_text("max\n")
    assert available_memory(tmp_path / "proc", tmp_path / "groups") == MB
    assert available_memory() > 64 * MB
