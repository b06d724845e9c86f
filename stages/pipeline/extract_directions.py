"""Make the directions that use no ground truth: v_act and its controls.

v_act comes from the authored pairs, and so do shuffled (a random sign for each pair) and flipped. The irrelevant direction comes from pairs
whose sides differ in something else, and the self-generated one from pairs of the base model's own completions, with a hint and
without. Haar-random directions, the placebo, come from no pair.
"""

from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.core.parquet import write_table
from projected_grpo.core.runtime import deterministic, run_stage
from projected_grpo.core.tables import DIRECTIONS, PAIRS
from projected_grpo.environment.load import refuse_ground_truth
from projected_grpo.settings.arm import load_settings


def main(
    pairs: Annotated[Path, typer.Option(help="Table pairs, the authored ones.")],
    irrelevant: Annotated[Path, typer.Option(help="Table pairs of an irrelevant contrast.")],
    problems: Annotated[Path, typer.Option(help="Table problems.")],
    base: Annotated[Path, typer.Option(help="Folder of the base model.")],
    init: Annotated[Path, typer.Option(help="Folder of the adapter's initialization.")],
    self_generated: Annotated[Path, typer.Option(help="Table pairs, written; empty where the base model attempted no loophole.")],
    out: Annotated[Path, typer.Option(help="Folder with a folder for each direction, written.")],
) -> None:
    from projected_grpo.gate.extract import from_pairs, haar_rows, own_pairs
    from projected_grpo.policy.load import load_policy

    deterministic()
    refuse_ground_truth()
    settings = load_settings()
    policy = load_policy(base, init, settings)
    write_table(out / "haar" / "direction.parquet", DIRECTIONS, haar_rows(settings, policy))
    write_table(self_generated, PAIRS, own_pairs(settings, policy, problems, base))
    from_pairs(settings, policy, pairs, [out / name for name in ("v_act", "shuffled", "flipped")])
    from_pairs(settings, policy, irrelevant, [out / "irrelevant"])
    from_pairs(settings, policy, self_generated, [out / "self_generated"])


if __name__ == "__main__":
    run_stage(main)
