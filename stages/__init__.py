"""The commands. What loads torch, transformers or PEFT is imported inside `main` or the function that needs it, because these take
seconds, and a command answers --help and a wrong option without them.

The library comes first, because it sets how idle threads wait, which torch reads when it loads.
"""

import projected_grpo  # noqa: F401
