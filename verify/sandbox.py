"""One sandbox for all gates of a process, and how they grade and judge with it."""

from functools import cache

from projected_grpo.env.sandbox.runner import Sandbox
from projected_grpo.scale import Grading

LIMITS = Grading(cpu_s=2, wall_s=30, memory_mb=512, workers=2)


@cache
def sandbox() -> Sandbox:
    """Its servers end with this process."""
    return Sandbox(LIMITS)
