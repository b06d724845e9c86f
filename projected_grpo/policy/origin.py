"""Files of adapter tensors that say where they come from: settings, the base model's weights, whether labels took part."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from projected_grpo.core.errors import InputError
from projected_grpo.settings.arm import Adapter

USES_LABELS = "uses_ground_truth"
KEY = "origin"  # the one key of the metadata: safetensors writes several in no fixed order


class AdapterError(InputError):
    """An adapter or its initialization that does not fit; the message names the file and the tensor or setting."""


@dataclass(frozen=True)
class Origin:
    adapter: Adapter
    base: str  # digest of the base model's weights
    uses_ground_truth: bool  # labels of the ground-truth monitor took part in its training

    def check(self, expected: "Origin", source: str, stage: str) -> None:
        """Raises AdapterError where `source`, which `stage` writes, has this origin and not the expected one."""
        for key, wanted in expected.adapter.model_dump().items():
            found = getattr(self.adapter, key)
            if found != wanted:
                raise AdapterError(
                    f"{source}: found adapter.{key} {found!r}, expected {wanted!r}; run the {stage} stage again"
                )
        if self.base != expected.base:
            raise AdapterError(
                f"{source}: belongs to another base model, found weights of sha256 {self.base[:12]}, "
                f"expected {expected.base[:12]}; run the {stage} stage again"
            )


def digest(model: nn.Module) -> str:
    """sha256 over the names and values of a model's weights."""
    state, sha = model.state_dict(), hashlib.sha256()
    for name in sorted(state):
        sha.update(name.encode())
        sha.update(state[name].cpu().contiguous().view(torch.uint8).numpy())
    return sha.hexdigest()


def save_tensors(path: Path, tensors: dict[str, Tensor], origin: Origin) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    said = json.dumps(origin.adapter.model_dump() | {"base": origin.base, USES_LABELS: origin.uses_ground_truth}, sort_keys=True)
    save_file(tensors, path, metadata={KEY: said})


def load_tensors(path: Path, stage: str) -> tuple[dict[str, Tensor], Origin]:
    """The tensors of a file that `stage` writes, by name, and their origin. Raises AdapterError."""
    if not path.exists():
        raise AdapterError(f"{path}: missing; the {stage} stage writes it")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
            said = (file.metadata() or {}).get(KEY)
    except SafetensorError as error:
        raise AdapterError(f"{path}: cannot be read as safetensors: {error}; run the {stage} stage again") from error
    if said is None or USES_LABELS not in (values := json.loads(said)):
        lacks = KEY if said is None else f"{KEY}.{USES_LABELS}"
        raise AdapterError(f"{path}: its metadata has no key '{lacks}'; run the {stage} stage again")
    return tensors, Origin(base=values.pop("base"), uses_ground_truth=values.pop(USES_LABELS), adapter=Adapter(**values))
