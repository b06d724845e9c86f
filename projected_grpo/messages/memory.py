"""Out of memory on the GPU, as one message: which setting to lower, and to about what.

torch's message says what was asked for, what the process holds and what is free. The setting's part of it is taken to grow
in proportion to the setting; the rest is what the GPU held before: weights, adapter, optimizer.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from projected_grpo.core.errors import InputError
from projected_grpo.settings.profile import Sampling, Train

UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
SIZE = r"([\d.]+) (bytes|KiB|MiB|GiB)"
ASKED, FREE = rf"Tried to allocate {SIZE}", rf"of which {SIZE} is free"
HELD, IDLE = rf"{SIZE} is allocated by PyTorch", rf"{SIZE} is reserved by PyTorch but unallocated"
MARGIN = 0.9  # the allocation that failed need not be a step's last


class MemoryShortage(InputError):
    """The GPU's memory does not suffice; the message names the setting, its value and one that should fit."""


@dataclass(frozen=True)
class Lever:
    """A setting with which the memory of a block of code grows."""

    key: str  # train.micro_tokens
    value: int
    used: int  # of the value, by the block
    least: int  # a lower value changes nothing: one rollout, or those of one prompt
    otherwise: str  # what to do where the least is too much


def forward_lever(train: Train, sampling: Sampling) -> Lever:
    """Of readings, log-probabilities and updates."""
    otherwise = f"lower sampling.max_new_tokens, which is {sampling.max_new_tokens}" if train.recompute_layers else "set train.recompute_layers=true"
    return Lever("train.micro_tokens", train.micro_tokens, train.micro_tokens, sampling.max_prompt_tokens + sampling.max_new_tokens, otherwise)


def sampling_lever(rows: int, used: int, copies: int, max_new_tokens: int) -> Lever:
    """Of our own decode loop; vLLM plans its memory before it samples. `used`: completions that are decoded at once, of
    which a prompt has `copies` at most."""
    otherwise = f"lower sampling.max_new_tokens, which is {max_new_tokens}, or the completions of a prompt (train.group, eval.samples)"
    return Lever("sampling.rows", rows, used, copies, otherwise)


@contextmanager
def advises(lever: Lever) -> Iterator[None]:
    """Within it, torch's OutOfMemoryError becomes a MemoryShortage. Enter it with weights and optimizer in place."""
    resident = torch.cuda.memory_allocated() if torch.cuda.is_available() else 0
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise shortage(error, lever, resident) from error


def shortage(error: torch.OutOfMemoryError, lever: Lever, resident: int) -> MemoryShortage:
    """`resident`: bytes that the process had allocated before the memory of `lever` was."""
    found = [re.search(pattern, str(error)) for pattern in (ASKED, FREE, HELD, IDLE)]
    if None in found:
        raise error  # of another kind than those that torch's CUDA allocator raises
    asked, free, held, idle = (float(match[1]) * UNITS[match[2]] for match in found)
    needed, limit, resident = held + asked, held + idle + free, min(resident, held)
    value = _two_digits(lever.used * MARGIN * (limit - resident) / (needed - resident))
    if needed <= limit:
        advice = f"enough, but {_gib(idle)} of it lie in pieces; set the environment variable PYTORCH_ALLOC_CONF=expandable_segments:True"
    elif value >= lever.least:
        advice = f"lower {lever.key} from {lever.value} to about {value}"
    else:
        advice = lever.otherwise
    return MemoryShortage(
        f"the GPU is out of memory: at least {_gib(needed)} are needed, {_gib(resident)} of them whatever {lever.key} is, and "
        f"this process can have {_gib(limit)}; {advice}. Finished stages stay, and training goes on from its last checkpoint."
    )


def _two_digits(number: float) -> int:
    """Rounded down."""
    unit = 10 ** max(0, len(str(int(number))) - 2)
    return int(number) // unit * unit


def _gib(size: int | float) -> str:
    return f"{size / 2**30:.1f} GiB"
