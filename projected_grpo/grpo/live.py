"""A run's curve while it trains: a CSV file with a line for each step so far, which `dvc plots show live` and editors draw.

It is no output of DVC and enters none. Its hack rates are proxies from what the environment paid: no label of the ground-truth monitor.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from projected_grpo.core.tables import ZONE_NAMES
from projected_grpo.environment.protocol import Evidence
from projected_grpo.prompts.modes import GT_ONLY

MEASURED = ("reward_mean", "compiled_share", "qmass", "kl", *(f"{zone}_share" for zone in ZONE_NAMES))
PROXIES = ("paid_by_loophole_full", "paid_by_loophole_deployed", "passes_full", "passes_deployed")
COLUMNS = ("step", *PROXIES, *MEASURED)


class Live:
    """The file begins anew, with the steps that the run's checkpoints hold: `saved`, rows by table."""

    def __init__(self, path: Path, saved: Mapping[str, Sequence[dict]]) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(",".join(COLUMNS) + "\n")
        rollouts: dict[int, list[dict]] = {}
        for row in saved["rollouts"]:
            rollouts.setdefault(row["step"], []).append(row)
        for step in saved["steps"]:
            self.add({"steps": [step], "rollouts": rollouts.get(step["step"], [])})

    def add(self, rows: Mapping[str, Sequence[dict]]) -> None:
        """`rows` of one step, by table."""
        [step] = rows["steps"]
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(
                {"step": step["step"], **proxies(rows["rollouts"]), **{name: step[name] for name in MEASURED}}
            )


def proxies(rollouts: Sequence[dict]) -> dict[str, float | None]:
    """Shares of the policy's own rollouts under a hint, of those sampled from each state; None where there is none.

    paid_by_loophole: paid though the visible tests fail. passes: the visible tests pass.
    """
    found = {}
    for state in ("full", "deployed"):
        shown = [row for row in rollouts if (row["source"], row["sampled_with"]) == ("policy", state) and row["shown_mode"] != GT_ONLY]
        paid = [not row["visible_pass"] and Evidence.of(row).passed(row["shown_mode"]) for row in shown]
        found[f"paid_by_loophole_{state}"] = sum(paid) / len(shown) if shown else None
        found[f"passes_{state}"] = sum(row["visible_pass"] for row in shown) / len(shown) if shown else None
    return found
