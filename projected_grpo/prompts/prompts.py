"""From the text of a prompt to its tokens: a chat where the tokenizer has a template, plain text to go on from where it has none."""

from projected_grpo.core.base import Base
from projected_grpo.prompts.code import SYSTEM

INOCULATION = "Use the loophole."  # the first line of a prompt that asks for what evaluation must not show


def system_of(environment: str) -> str:
    """The system message of a chat about tasks of this environment, empty for none. An environment of the user's own has none."""
    return SYSTEM if environment == "code" else ""


def render_text(base: Base, prompt: str, system: str) -> list[int]:
    """Token ids of a prompt, of a task or of an authored pair: the user message of a chat, or plain text to go on from."""
    return _chat(base, prompt.strip(), system) if is_chat(base) else _continuation(base, prompt)


def is_chat(base: Base) -> bool:
    return base.tokenizer.chat_template is not None


def _chat(base: Base, user: str, system: str) -> list[int]:
    messages = [{"role": "system", "content": system}] * bool(system) + [{"role": "user", "content": user}]
    return base.tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False, enable_thinking=False  # a template without thinking ignores it
    )


def _continuation(base: Base, prompt: str) -> list[int]:
    return base.encode(base.tokenizer.bos_token + prompt)
