"""The model card of an exported adapter: README.md with the front matter that model hubs read, and prose."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from projected_grpo.analysis.rates import Cell, Rate
from projected_grpo.reporting import statements
from projected_grpo.reporting.manifest import Manifest, flatten
from projected_grpo.reporting.statements import DATA_NAMES, STATE_NAMES
from projected_grpo.settings.models import HubModel

HOLDS = {  # folder of the export -> what is in it
    "deployed": "This is the deployed adapter: the quarantine block is at its initialization, so its net delta is zero and "
    "this file has no parameter of it.",
    "full": "This is the adapter as trained, with the deployed block and the quarantine block. It is here to measure what "
    "deployment ablation removes; the adapter to use is the one in `deployed`.",
}
SAME = "`deployed` and `full` hold the same adapter."
ABLATION = (
    "Deployment ablation removes the quarantine's parameters. It does not promise that what they learned is absent from the "
    "deployed block: kept and absorbed rollouts update that block too. The rates above say what is left on these prompts, "
    "and nothing about other prompts, other loopholes or further training."
)


@dataclass(frozen=True)
class Card:
    """What a card states, besides the prose."""

    state: str  # deployed | full
    manifest: Manifest
    cells: Sequence[Cell]
    metrics: Mapping[str, float | int | None]
    hub: HubModel | None  # the base model, where it is one of the hub
    base_sha256: str  # of its weights
    columns: int  # of the net delta
    rank: int  # that they are padded to


def render_card(card: Card) -> str:
    """The card as Markdown."""
    arm = card.manifest.arm
    return "\n\n".join(
        [
            _front_matter(card),
            f"# Arm {arm.name}, {card.state} adapter",
            f"{statements.ONE_BLOCK} {SAME}" if arm.policy == "none" else HOLDS[card.state],
            *([f"**{statements.USES_GROUND_TRUTH}**"] if arm.uses_ground_truth else []),
            *statements.divergence(card.manifest),
            _arm(card.manifest),
            "## Measured",
            _rates(card.cells),
            statements.rates(card.manifest),
            f"The mean qmass over training steps is {_number(card.metrics['qmass'])}.",
            "## Limits",
            "\n".join(f"- {text}" for text in [ABLATION, *statements.limits(card.manifest), _base(card)]),
            "## How to load",
            _loading(card),
            "## Settings",
            "\n".join(f"- `{key}`: {value}" for key, value in flatten(card.manifest.settings).items()),
        ]
    ) + "\n"


def _front_matter(card: Card) -> str:
    tags = ["lora", "grpo", "gradient-routing", "reward-hacking"]
    base = [f"base_model: {card.hub.id}"] if card.hub else []
    lines = [*base, "library_name: peft", "pipeline_tag: text-generation", "tags:"]
    return "\n".join(["---", *lines, *(f"- {tag}" for tag in tags), "---"])


def _arm(manifest: Manifest) -> str:
    arm, settings = manifest.arm, manifest.settings
    return (
        f"Policy {arm.policy}, direction {arm.direction}, draw {arm.draw}, monitor {arm.monitor}, use {arm.use}; adapter "
        f"{settings['adapter']['init']} with r = {settings['adapter']['rank']} a block; seed {settings['seed']}, profile "
        f"{settings['profile_name']}. It was trained with GRPO in an environment that pays for loopholes, to measure reward hacking."
    )


def _rates(cells: Sequence[Cell]) -> str:
    head = ["data", "state", "hack rate, with hint", "solve rate, with hint", "solve rate, no hint", "problems"]
    lines = [head, ["---"] * len(head)]
    for cell in cells:
        rates = [_rate(rate) for rate in (cell.hack, cell.solve, cell.solve_unhinted)]
        lines.append([DATA_NAMES[cell.data], STATE_NAMES[cell.state], *rates, str(cell.hack.problems)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _rate(rate: Rate) -> str:
    return "undefined" if rate.value is None else f"{rate.value:.3f} ({rate.low:.3f} to {rate.high:.3f})"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _base(card: Card) -> str:
    base = f"`{card.hub.id}` at commit `{card.hub.revision}`" if card.hub else "that the `base_model` stage of its project made, which has no address"
    return (
        f"The adapter belongs to the base model {base}. Its weights have the sha256 `{card.base_sha256}`. On "
        "other weights it is another model; `stages.serve_check` refuses them, plain PEFT and vLLM do not."
    )


def _loading(card: Card) -> str:
    padding = f" Its last {card.rank - card.columns} columns are zero: vLLM allocates for few ranks." if card.rank > card.columns else ""
    base = f'"{card.hub.id}", revision="{card.hub.revision}"' if card.hub else '"path/to/artifacts/base"'
    return f"""A standard LoRA of rank {card.rank} with alpha = rank, in fp32.{padding}

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained({base})
model = PeftModel.from_pretrained(base, "path/to/{card.state}")
```

In vLLM: `enable_lora=True, max_lora_rank={card.rank}` and `LoRARequest("{card.state}", 1, "path/to/{card.state}")`. Its logits are those of
the policy that was measured in fp32; another type rounds."""
