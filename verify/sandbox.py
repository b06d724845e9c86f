"""One sandbox for all gates of a process, and how they grade and judge with it."""

from functools import cache

from projected_grpo.programs.sandbox.runner import Sandbox
from projected_grpo.settings.profile import Grading

LIMITS = Grading(cpu_s=2, wall_s=30, memory_mb=512, workers=2)


@cache
def sandbox() -> Sandbox:
    """Its servers end with this process."""
    return Sandbox(LIMITS)
