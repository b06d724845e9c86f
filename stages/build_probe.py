"""Fit the probe: a logistic regression on both sides of the authored pairs, as the gate reads them before training."""

from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.core.base import load_base
from projected_grpo.core.parquet import read_rows
from projected_grpo.core.runtime import deterministic, run_stage
from projected_grpo.core.tables import PAIRS
from projected_grpo.gate.pairs import pair_tokens, read_side
from projected_grpo.gate.probe import fit
from projected_grpo.policy.inits import load_init
from projected_grpo.policy.policy import Policy
from projected_grpo.settings.arm import load_settings


def main(
    pairs: Annotated[Path, typer.Option(help="Table pairs.")],
    base: Annotated[Path, typer.Option(help="Folder of the base model.")],
    init: Annotated[Path, typer.Option(help="Folder of the adapter's initialization.")],
    out: Annotated[Path, typer.Option(help="Folder for probe.safetensors, written.")],
) -> None:
    deterministic()
    settings = load_settings()
    policy = Policy(load_base(base, settings.scale.model.device), load_init(init, settings.adapter), settings.scale.sampling.temperature)
    tokens = pair_tokens(policy.base, read_rows(pairs, PAIRS), settings.scale.environment)
    reading, size, rate = settings.gate.reading, settings.scale.train.micro_tokens, settings.monitor.false_positive_rate
    hack, clean = (read_side(policy, side, [reading], size)[reading] for side in (tokens.hack, tokens.clean))
    probe, recall = fit(hack, clean, rate)
    probe.save(out)
    print(
        f"probe at the {reading} from {len(tokens)} pairs: the threshold {float(probe.threshold):.3f} flags at most "
        f"{rate:.0%} of held-out clean sides and {recall:.0%} of held-out hack sides -> {out}"
    )


if __name__ == "__main__":
    run_stage(main)
