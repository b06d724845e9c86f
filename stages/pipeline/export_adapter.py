"""Export the trained adapter as two PEFT LoRA folders, deployed and full, each with a model card."""

import json
from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.analysis.rates import two_by_two
from projected_grpo.core.parquet import read_rows
from projected_grpo.core.runtime import run_stage
from projected_grpo.core.tables import EVAL
from projected_grpo.reporting.card import Card, render_card
from projected_grpo.reporting.manifest import parse_manifest
from projected_grpo.settings.arm import load_settings


def main(
    adapter: Annotated[Path, typer.Option(help="Folder of the trained adapter.")],
    base: Annotated[Path, typer.Option(help="Folder of the base model; the export names a model of the hub, and no folder.")],
    init: Annotated[Path, typer.Option(help="Folder of the adapter's initialization.")],
    eval: Annotated[Path, typer.Option(help="Table eval.")],
    manifest: Annotated[Path, typer.Option(help="The arm and its settings, JSON of the report stage.")],
    metrics: Annotated[Path, typer.Option(help="Headline metrics, JSON of the report stage.")],
    out: Annotated[Path, typer.Option(help="Folder for deployed/ and full/, written.")],
) -> None:
    from projected_grpo.policy.export import STATES, export_adapter
    from projected_grpo.policy.load import load_policy

    record = parse_manifest(manifest.read_text(), str(manifest))
    cells, numbers = two_by_two(read_rows(eval, EVAL)), json.loads(metrics.read_text())
    settings = load_settings()
    policy = load_policy(base, init, settings)
    policy.load(adapter)
    hub = settings.profile.model if settings.profile.model.kind == "hub" else None
    one_block = record.arm.policy == "none"
    for state, deployed_only in STATES.items():
        columns, rank = export_adapter(policy, deployed_only and not one_block, hub, out / state)
        card = Card(state, record, cells, numbers, hub, policy.origin.base, columns, rank)
        (out / state / "README.md").write_text(render_card(card))
        print(f"{state}: net delta of {columns} columns, LoRA of rank {rank} -> {out / state}")


if __name__ == "__main__":
    run_stage(main)
