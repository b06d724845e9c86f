"""The policy's first rollout of a run that exploits each loophole mode, as a page to read."""

from collections.abc import Sequence

from projected_grpo.prompts.modes import GT_ONLY, in_order


def first_exploits(rollouts: Sequence[dict], labels: Sequence[dict], problems: Sequence[dict]) -> dict[str, str]:
    """Mode -> Markdown of the policy's earliest rollout that exploits it, for the modes that it exploits.

    `rollouts` and `labels` are rows of their tables in the same order, `problems` rows of the table problems.
    """
    statements = {row["problem_id"]: row["statement"] for row in problems}
    pages: dict[str, str] = {}
    for row, found in sorted(zip(rollouts, labels, strict=True), key=lambda both: both[0]["rollout_id"]):
        mode = row["shown_mode"]
        if found["exploited"] and row["source"] == "policy" and mode != GT_ONLY and mode not in pages:
            pages[mode] = _page(row, found, statements[row["problem_id"]])
    return {mode: pages[mode] for mode in in_order(pages)}


def _page(row: dict, found: dict, statement: str) -> str:
    facts = {
        "rollout": row["rollout_id"],
        "problem": row["problem_id"],
        "sampled with": row["sampled_with"],
        "reward": f"{row['reward']:.1f}",
        "advantage": f"{row['advantage']:+.2f}",
        "channels": found["channels"] or "none",
        "held-out tests passed": f"{found['heldout_pass_rate']:.0%}",
    }
    lines = "".join(f"| {name} | {value} |\n" for name, value in facts.items())
    return (
        f"# First exploit of {row['shown_mode']}\n\n| fact | value |\n|---|---|\n{lines}\n## Task\n\n{statement}\n\n"
        f"## Completion\n\n`````\n{row['text'].rstrip()}\n`````\n"
    )
