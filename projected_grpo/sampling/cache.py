"""Cached keys and values in buffers with room for a completion. transformers' own cache is copied whole at every token."""

import torch
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache, DynamicLayer


class RoomyLayer(DynamicLayer):
    """`keys` and `values` are the prompts', and from the first selection of rows the beginnings of buffers with `room` for more tokens."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states.clone(), value_states.clone()
            self.capacity = key_states.shape[-2] + self.room
            return self.keys, self.values
        held, end = self.keys.shape[-2], self.keys.shape[-2] + key_states.shape[-2]
        for buffer, new in zip(self.buffers, (key_states, value_states)):
            buffer.narrow(2, held, end - held).copy_(new)
        self.keys, self.values = (buffer.narrow(2, 0, end) for buffer in self.buffers)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        held = self.keys, self.values
        self.buffers = [old.new_empty(len(indices), old.shape[1], self.capacity, old.shape[3]) for old in held]
        self.keys, self.values = (buffer[:, :, : old.shape[2]] for buffer, old in zip(self.buffers, held))
        for old, new in zip(held, (self.keys, self.values)):
            torch.index_select(old, 0, indices, out=new)


def roomy_cache(config: PreTrainedConfig, room: int) -> Cache:
    return Cache(layers=[RoomyLayer(room) for _ in range(config.num_hidden_layers)])
