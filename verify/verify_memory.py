"""Out of memory on a GPU becomes one message with the setting to lower and a value that fits in the same proportion."""

from pathlib import Path

import pytest
import torch

from projected_grpo.messages.memory import Lever, MemoryShortage, advises, forward_lever, sampling_lever, shortage
from projected_grpo.settings.files import check, read_yaml
from projected_grpo.settings.profile import Profile

GIB = 2**30
LEVER = Lever("train.micro_tokens", 16384, used=16384, least=3072, otherwise="set train.recompute_layers=true")
TOY = Path("profiles/toy.yaml")
SCALE = check(Profile, read_yaml(TOY), TOY)


def raised(asked: str, free: str, held: str, idle: str) -> torch.OutOfMemoryError:
    """As the CUDA allocator of torch words it, another process on the GPU included."""
    return torch.OutOfMemoryError(
        f"CUDA out of memory. Tried to allocate {asked}. GPU 0 has a total capacity of 79.11 GiB of which {free} is free. "
        "Process 2493055 has 12.02 GiB memory in use. Including non-PyTorch memory, this process has 62.00 GiB memory in use. "
        f"Of the allocated memory {held} is allocated by PyTorch, with 24.00 MiB allocated in private pools (e.g., CUDA "
        f"Graphs), and {idle} is reserved by PyTorch but unallocated. If reserved but unallocated memory is large try setting "
        "PYTORCH_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
    )


def test_the_setting_is_lowered_by_what_it_can_have_beside_what_is_resident():
    error = raised("10.00 GiB", "1.00 GiB", "60.00 GiB", "512.00 MiB")
    message = str(shortage(error, LEVER, 20 * GIB))
    assert "at least 70.0 GiB are needed, 20.0 GiB of them whatever" in message and "can have 61.5 GiB" in message
    wanted = 16384 * 0.9 * (61.5 - 20) / (70 - 20)  # 12238.8
    assert "lower train.micro_tokens from 16384 to about 12000" in message and 11e3 < wanted < 13e3
    assert message.endswith("Finished stages stay, and training goes on from its last checkpoint.")
    assert "16384 to about 12000" not in str(shortage(error, LEVER, 40 * GIB))  # more is resident, so more must go
    assert "from 16384 to about 10000" in str(shortage(error, LEVER, 40 * GIB))


def test_small_sizes_are_read_in_their_own_units():
    message = str(shortage(raised("512 bytes", "0 bytes", "1.00 GiB", "1024.00 KiB"), LEVER, 0))
    assert "lower" not in message and "in pieces" in message  # 1 MiB lies idle, so 512 bytes were there
    message = str(shortage(raised("2.00 MiB", "0 bytes", "1.00 GiB", "1024.00 KiB"), LEVER, 0))
    assert "to about 14000" in message  # 16384 x 0.9, less a thousandth


def test_a_setting_that_was_not_used_up_is_lowered_below_what_was_used():
    lever = Lever("sampling.rows", 512, used=48, least=8, otherwise="")
    message = str(shortage(raised("10.00 GiB", "1.00 GiB", "60.00 GiB", "512.00 MiB"), lever, 20 * GIB))
    assert "lower sampling.rows from 512 to about 35" in message and int(48 * 0.9 * (61.5 - 20) / (70 - 20)) == 35


def test_where_the_least_value_is_too_much_the_message_says_what_else_to_do():
    message = str(shortage(raised("10.00 GiB", "1.00 GiB", "60.00 GiB", "0 bytes"), LEVER, 60 * GIB))
    assert "set train.recompute_layers=true" in message and "lower train.micro_tokens" not in message
    message = str(shortage(raised("10.00 GiB", "1.00 GiB", "60.00 GiB", "0 bytes"), LEVER, 65 * GIB))
    assert "60.0 GiB of them whatever" in message  # memory that was freed since is not held now


def test_the_levers_are_the_settings_of_the_profile():
    """Below one rollout, or below those of one prompt, a lower value would change nothing."""
    forward, sampling = forward_lever(SCALE.train, SCALE.sampling), sampling_lever(SCALE.sampling.rows, 96, SCALE.train.group, SCALE.sampling.max_new_tokens)
    assert (forward.key, forward.value, forward.least) == ("train.micro_tokens", 2048, 96 + 56)
    assert (sampling.key, sampling.value, sampling.used, sampling.least) == ("sampling.rows", 1024, 96, 8)
    assert forward.otherwise == "set train.recompute_layers=true" and "sampling.max_new_tokens, which is 56" in sampling.otherwise
    recomputed = SCALE.train.model_copy(update={"recompute_layers": True})
    assert "sampling.max_new_tokens, which is 56" in forward_lever(recomputed, SCALE.sampling).otherwise


def test_within_the_block_the_error_is_translated_and_any_other_passes():
    error = raised("10.00 GiB", "1.00 GiB", "60.00 GiB", "512.00 MiB")
    with pytest.raises(MemoryShortage, match="lower train.micro_tokens from 16384 to about 12000") as told, advises(LEVER):
        raise error
    assert told.value.__cause__ is error
    for other in (RuntimeError("out of memory"), torch.OutOfMemoryError("CUDA out of memory.")):
        with pytest.raises(type(other), match="out of memory") as passed, advises(LEVER):
            raise other
        assert not isinstance(passed.value, MemoryShortage)
