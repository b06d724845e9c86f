"""Data-parallel training: each rank computes its share of a step's rollouts, and every rank knows all results.

Decisions (advantages, the gate's buffer and cuts, zones, the optimizer's step) are made on all ranks from the same numbers, so
they agree without being sent. `torchrun` starts the ranks and tells each its place; without it there is one rank.
"""

import os
from collections.abc import Sequence

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from projected_grpo.core.errors import InputError
from projected_grpo.settings.profile import Train

SCREENED = 2  # rollouts of a group at least, where any of it trains


class RanksError(InputError):
    """More ranks than a step can be shared among; the message names the settings."""


def join() -> None:
    """Meet the other ranks, where torchrun started this process as one of several."""
    if "RANK" in os.environ:
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("gloo")


def check(train: Train, screening: bool) -> None:
    """Raises RanksError where a rank could be left without a prompt or without a rollout of a step."""
    most = min(train.prompts, train.group)
    if count() > most:
        raise RanksError(
            f"found {count()} ranks, expected at most {most}, the smaller of train.prompts ({train.prompts}) and train.group "
            f"({train.group}); start fewer with launch, or raise both"
        )
    if screening and count() > SCREENED:
        raise RanksError(
            f"found {count()} ranks, expected at most {SCREENED} under monitor.use=screening, which can leave that many rollouts of a "
            "step; start fewer with launch"
        )


def leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def share(items: int) -> slice:
    """This rank's part of `items` things: contiguous, in order of rank, of sizes that differ by at most one."""
    return slice(items * rank() // count(), items * (rank() + 1) // count())


def gather(own: Sequence) -> list:
    """The things of all ranks in order of rank, from each rank's own."""
    if count() == 1:
        return list(own)
    parts: list = [None] * count()
    dist.all_gather_object(parts, list(own))
    return [item for part in parts for item in part]


def gather_rows(own: Tensor) -> Tensor:
    """The rows (N, ...) of all ranks in order of rank; narrower rows (n, L) are filled with zeros on the right."""
    parts = gather([own])
    widest = max(part.shape[-1] for part in parts)
    return torch.cat([pad(part, (0, widest - part.shape[-1])) for part in parts])


def from_first(thing: object) -> object:
    """What the first rank has, on every rank."""
    box = [thing]
    if count() > 1:
        dist.broadcast_object_list(box)
    return box[0]


def sum_gradients(parameters: Sequence[Tensor]) -> None:
    """Put the sum over the ranks in place of each parameter's own gradient."""
    if count() == 1:
        return
    flat: Float[Tensor, " n"] = torch.cat([parameter.grad.flatten() for parameter in parameters]).cpu()
    dist.all_reduce(flat)
    for parameter, total in zip(parameters, flat.split([parameter.numel() for parameter in parameters])):
        parameter.grad.copy_(total.view_as(parameter.grad))
