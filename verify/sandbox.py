"""One sandbox for all gates of a process, and the environment `code` with it, which pays and is judged."""

from collections.abc import Sequence
from functools import cache

from projected_grpo.environment.checked import Checked
from projected_grpo.environment.code import CodeEnvironment
from projected_grpo.ground_truth.code import CodeTruth
from projected_grpo.ground_truth.monitor import GroundTruthMonitor
from projected_grpo.programs.sandbox.runner import Sandbox
from projected_grpo.settings.profile import Grading

LIMITS = Grading(cpu_s=2, wall_s=30, memory_mb=512, workers=2)


@cache
def sandbox() -> Sandbox:
    """Its servers end with this process."""
    return Sandbox(LIMITS)


def asking(chat: bool = False) -> Checked:
    """It runs no program."""
    return Checked("code", CodeEnvironment(chat, LIMITS))


def paying(used: Sandbox | None = None) -> Checked:
    """Of the toy world, in the sandbox of all gates or another."""
    return Checked("code", CodeEnvironment(False, LIMITS, sandbox=used or sandbox()))


def monitoring(truths: Sequence[dict], used: Sandbox | None = None) -> GroundTruthMonitor:
    """`truths` are rows of the table ground_truth."""
    found = paying(used)
    return GroundTruthMonitor(found, "code", CodeTruth(truths, found.environment.sandbox), frozenset(row["problem_id"] for row in truths))
