"""The library comes first, because it sets how idle threads wait, which torch reads when it loads."""

import projected_grpo  # noqa: F401
