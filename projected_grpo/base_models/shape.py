"""A model of random weights at the shape of a real one, with a tokenizer and a chat template in the style of Qwen3.

It answers in random tokens that nearly never end, so a run on it takes the time and memory of the real model at full
length; nothing is learned from it.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen3Config

from projected_grpo.core.seeds import derive_seed
from projected_grpo.settings.models import ShapeModel

PAD, START, END, THINK, THOUGHT = SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
CHAT_TEMPLATE = (  # with thinking off, the answer begins after an empty thought
    "{% for message in messages %}" + START + "{{ message.role }}\n{{ message.content }}" + END + "\n{% endfor %}"
    "{% if add_generation_prompt %}" + START + "assistant\n"
    "{% if enable_thinking is false %}" + THINK + "\n\n" + THOUGHT + "\n\n{% endif %}{% endif %}"
)


def write_shape(settings: ShapeModel, texts: Sequence[str], folder: Path) -> None:
    """Save the model, and a tokenizer trained on `texts`, to `folder` as a transformers checkpoint."""
    tokenizer = chat_tokenizer(texts, settings.vocab)
    torch.manual_seed(derive_seed(settings.seed, "base-model"))
    model = AutoModelForCausalLM.from_config(config_of(settings, tokenizer), dtype=getattr(torch, settings.dtype))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def chat_tokenizer(texts: Sequence[str], vocab: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE whose ids all lie below `vocab`, with a chat template."""
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(texts, vocab_size=vocab, special_tokens=list(SPECIAL), show_progress=False)
    return PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, pad_token=PAD, eos_token=END, chat_template=CHAT_TEMPLATE)


def config_of(settings: ShapeModel, tokenizer: PreTrainedTokenizerFast) -> Qwen3Config:
    return Qwen3Config(
        vocab_size=settings.vocab,
        hidden_size=settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.kv_heads,
        head_dim=settings.head_dim,
        intermediate_size=settings.mlp,
        max_position_embeddings=settings.positions,
        rope_parameters={"rope_type": "default", "rope_theta": settings.rope_theta},
        rms_norm_eps=settings.rms_eps,
        tie_word_embeddings=settings.tied_embeddings,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
