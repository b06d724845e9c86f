"""The trained adapter as a PEFT LoRA folder, for loaders that know nothing of blocks and initializations.

A LoRA computes W x + (alpha / rank) B A x. The net delta of a layer is up @ down in either parametrization, with the
initialization subtracted already, so A = down, B = up and alpha = rank is the same layer. The deployed adapter has the
deployed block's columns alone. vLLM allocates for few ranks (`--max-lora-rank`); a rank in between is padded with zeros.
The weights' metadata say which base model they belong to, as the trainer's own files do. The configuration names one of the hub by
its id and commit, which resolve anywhere, and no other: a folder's path says nothing on another machine.
"""

import json
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from peft import LoraConfig, TaskType
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from torch import Tensor
from torch.nn.functional import pad

from projected_grpo.policy.adapter import AdaptedLayer
from projected_grpo.policy.origin import AdapterError, Origin, load_tensors, save_tensors
from projected_grpo.policy.policy import Policy
from projected_grpo.settings.models import HubModel

VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
STATES = {"deployed": True, "full": False}  # folder of the export -> is it the deployed block alone


@torch.no_grad()
def lora_factors(
    layer: AdaptedLayer, deployed_only: bool
) -> tuple[Float[Tensor, "columns d_in"], Float[Tensor, "d_out columns"]]:
    """(A, B) of the layer's net delta B A: of both blocks, or of the deployed one alone."""
    down, up = layer.factors()
    if deployed_only:
        deployed = torch.arange(len(down)) % (2 * layer.rank) < layer.rank
        down, up = down[deployed], up[:, deployed]
    return down, up


def padded_rank(columns: int) -> int:
    """The smallest rank that vLLM allocates for and that holds so many columns. Raises AdapterError."""
    fitting = [rank for rank in VLLM_RANKS if rank >= columns]
    if not fitting:
        raise AdapterError(f"the net delta has {columns} columns, and vLLM serves at most {VLLM_RANKS[-1]}; lower adapter.rank")
    return fitting[0]


def export_adapter(policy: Policy, deployed_only: bool, hub: HubModel | None, folder: Path) -> tuple[int, int]:
    """Write adapter_config.json, which names the base model where it is one of the hub, and adapter_model.safetensors to `folder`.

    Returns the net delta's columns and the rank that they are padded to. Raises AdapterError.
    """
    factors = {name: lora_factors(layer, deployed_only) for name, layer in policy.layers.items()}
    return write_lora(factors, policy.origin, hub, folder)


def write_lora(factors: dict[str, tuple[Tensor, Tensor]], origin: Origin, hub: HubModel | None, folder: Path) -> tuple[int, int]:
    """The same for any factors: of each layer, A (columns, d_in) and B (d_out, columns)."""
    tensors = {}
    for name, (down, up) in factors.items():
        columns = len(down)
        rank = padded_rank(columns)
        tensors[f"base_model.model.{name}.lora_A.weight"] = pad(down, (0, 0, 0, rank - columns)).contiguous()
        tensors[f"base_model.model.{name}.lora_B.weight"] = pad(up, (0, rank - columns)).contiguous()
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        base_model_name_or_path=hub and hub.id,
        revision=hub and hub.revision,
        inference_mode=True,
        r=rank,
        lora_alpha=rank,
        target_modules=[name.rsplit(".", 1)[-1] for name in factors],
    ).to_dict()
    config["target_modules"] = sorted(config["target_modules"])  # PEFT makes it a set
    save_tensors(folder / SAFETENSORS_WEIGHTS_NAME, tensors, origin)
    (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    return columns, rank


def check_export(folder: Path, base: str) -> None:
    """Raises AdapterError where `folder` is no exported adapter, or one of a base model whose digest is not `base`."""
    for name in (CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME):
        if not (folder / name).is_file():
            raise AdapterError(f"{folder}: found no {name}; the stage report writes it")
    path = folder / SAFETENSORS_WEIGHTS_NAME
    _, origin = load_tensors(path, "export_adapter")
    origin.check(replace(origin, base=base), str(path), "export_adapter")
