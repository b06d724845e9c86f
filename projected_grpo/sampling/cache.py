"""Cached keys and values that grow in place. transformers' own cache is copied whole at every token."""

import torch
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache, DynamicLayer

ROOM = 16  # tokens for which a buffer has room when it is made


class GrowingLayer(DynamicLayer):
    """`keys` and `values` are the beginnings of buffers; a selection or repetition of rows takes them out of these."""

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states, value_states
            self.buffers = self.keys, self.values
            return self.keys, self.values
        held = self.get_seq_length()
        end = held + key_states.shape[-2]
        if self.keys.data_ptr() != self.buffers[0].data_ptr() or end > self.buffers[0].shape[-2]:
            self.buffers = _with_room(self.keys, end), _with_room(self.values, end)
        for buffer, new in zip(self.buffers, (key_states, value_states)):
            buffer[..., held:end, :] = new
        self.keys, self.values = (buffer[..., :end, :] for buffer in self.buffers)
        return self.keys, self.values


def growing_cache(config: PreTrainedConfig) -> Cache:
    return Cache(layers=[GrowingLayer() for _ in range(config.num_hidden_layers)])


def _with_room(held: Tensor, end: int) -> Tensor:
    buffer = held.new_empty(*held.shape[:-2], end + ROOM, held.shape[-1])
    buffer[..., : held.shape[-2], :] = held
    return buffer
