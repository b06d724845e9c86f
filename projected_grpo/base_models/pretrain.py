"""Pretrain the toy base model: a byte-level BPE and a small Llama on generated attempts at training tasks.

Only tasks of the train split appear, so the test split holds compositions that the base model never saw.
"""

import math
import random
from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from projected_grpo.core.seeds import derive_seed
from projected_grpo.prompts.code import toy_prompt
from projected_grpo.prompts.modes import GT_ONLY, MODES, TRAINING_WORDS, held_out_words
from projected_grpo.settings.models import ToyModel
from projected_grpo.toy_world.attempts import sample_attempt

PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"
UNHINTED_SHARE = 0.25
TRAINING_WORDS_SHARE = 0.75
IGNORED = -100  # label of a position that carries no loss


def corpus(problems: list[dict], settings: ToyModel) -> list[tuple[str, str]]:
    """(prompt, program) pairs. The hint of a prompt and its words are drawn independently of the task.

    Some prompts show words that GRPO never shows: the toy model can copy only words that it knows.
    """
    rng = random.Random(derive_seed(settings.seed, "corpus"))
    loopholes = settings.loophole_share.model_dump()
    train = [row for row in problems if row["split"] == "train"]
    pairs = []
    for _ in range(settings.samples):
        row = rng.choice(train)
        mode = GT_ONLY if rng.random() < UNHINTED_SHARE else rng.choice(MODES)
        words = TRAINING_WORDS if rng.random() < TRAINING_WORDS_SHARE else held_out_words(rng)
        family = tuple(row["family"].split("|"))
        program = sample_attempt(family, mode, words, settings.correct_share, loopholes, rng)
        pairs.append((toy_prompt(row["statement"], mode, words), program))
    return pairs


def train_tokenizer(texts: list[str], vocab: int) -> PreTrainedTokenizerFast:
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(texts, vocab_size=vocab, special_tokens=[PAD, BOS, EOS], show_progress=False)
    return PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, pad_token=PAD, bos_token=BOS, eos_token=EOS)


def pretrain(problems: list[dict], settings: ToyModel, folder: Path, progress: Callable[[int, float], None]) -> None:
    """Train tokenizer and model and save both to `folder` as a transformers checkpoint."""
    torch.manual_seed(derive_seed(settings.seed, "base-model"))
    pairs = corpus(problems, settings)
    tokenizer = train_tokenizer([prompt + program for prompt, program in pairs[:10000]], settings.vocab)
    prompts = tokenizer([BOS + prompt for prompt, _ in pairs], add_special_tokens=False)["input_ids"]
    programs = tokenizer([program + EOS for _, program in pairs], add_special_tokens=False)["input_ids"]
    model = LlamaForCausalLM(_config(settings, tokenizer))
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.95), weight_decay=0.1)
    order = torch.Generator().manual_seed(derive_seed(settings.seed, "corpus-order"))
    for step in range(settings.steps):
        chosen = torch.randint(len(pairs), (settings.batch,), generator=order).tolist()
        tokens, labels = _batch([prompts[i] for i in chosen], [programs[i] for i in chosen])
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _schedule(step, settings.steps)
        hidden = model.model(tokens).last_hidden_state[:, :-1]  # (B, T-1, d)
        kept = labels[:, 1:] != IGNORED
        loss = cross_entropy(model.lm_head(hidden[kept]), labels[:, 1:][kept])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        progress(step, loss.item())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _config(settings: ToyModel, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        intermediate_size=settings.mlp,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def _batch(prompts: list[list[int]], programs: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded tokens (B, T) and labels (B, T); prompt and padding positions carry no loss."""
    longest = max(len(p) + len(c) for p, c in zip(prompts, programs))
    tokens = torch.zeros(len(prompts), longest, dtype=torch.long)
    labels = torch.full_like(tokens, IGNORED)
    for row, (prompt, program) in enumerate(zip(prompts, programs)):
        end = len(prompt) + len(program)
        tokens[row, :end] = torch.tensor(prompt + program)
        labels[row, len(prompt) : end] = tokens[row, len(prompt) : end]
    return tokens, labels


def _schedule(step: int, steps: int) -> float:
    """Linear warm-up over 5% of the steps, then cosine to 10%."""
    warmup = max(1, steps // 20)
    if step < warmup:
        return (step + 1) / warmup
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
