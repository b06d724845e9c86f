"""Gradient routing of GRPO updates by an activation-space direction.

Run-time type checks (beartype over jaxtyping shapes) are on where PGRPO_TYPECHECK=1, as in `make test` and
`make smoke`, and off otherwise.
"""

import os

# Read when torch loads. An idle thread spins for some ten microseconds, within which the next operation mostly comes, and
# then leaves its core to others; without the spin a toy step on two threads takes twice as long.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

if os.environ.get("PGRPO_TYPECHECK") == "1":
    from jaxtyping import install_import_hook

    install_import_hook("projected_grpo", "beartype.beartype")
