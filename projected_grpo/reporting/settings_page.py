"""docs/settings.md from the typed settings: each key with its values, its value in this repository and its meaning.

A meaning is the comment beside the field, so that code and page cannot say different things.
"""

import ast
import inspect
import re
import tokenize
from collections.abc import Iterator, Mapping
from io import StringIO
from types import UnionType
from typing import Union, get_args, get_origin

from pydantic import BaseModel

from projected_grpo.settings.arm import Settings

HEAD = """# Settings

Made from the typed settings by `python -m stages.settings_page`; a gate compares. `params.yaml` says what makes an arm, and
`profiles/<profile>.yaml` at which scale it runs. `dvc exp run -S gate.direction=haar` sets a key and runs the arm. The key is written into
`params.yaml` and stays there for the commands after it; `--temp` and `--queue` run in a copy and leave the file as it is. A key of a profile is
set with `-S 'profiles/toy.yaml:train.steps=50'`, where the profile itself gives it. `null` in the curriculum stands for the number of the
profile's section `demonstrations`; the tables show the number that counts, and a profile without the section has none. A value with brackets or backslashes has quotes of its
own: `-S "gate.modules='.*\\.(q|k)_proj'"`. A profile that begins with `extends: toy` has the settings of `profiles/toy.yaml` but for those
that it gives; a section that names its `kind` or `engine` is given whole. An unknown key, a missing one or a value of another type is an
error that names file and key.
"""

KEYS = {"profile_name": "profile"}  # field -> key of the file, where it has another name


def settings_page(settings: Settings) -> str:
    """Markdown. The values are those of `settings`; a kind of model, problems or sampling that they do not choose has none."""
    arm = {name: field.annotation for name, field in Settings.model_fields.items() if name != "profile"}
    parts = [HEAD, "\n## params.yaml\n\n", _head("params.yaml"), *_rows(Settings, arm, "", settings)]
    profile = Settings.model_fields["profile"].annotation
    sections = {name: kinds for name, field in profile.model_fields.items() if (kinds := _kinds(field.annotation))}
    single = {name: field.annotation for name, field in profile.model_fields.items() if name not in sections}
    parts += ["\n## profiles/<profile>.yaml\n\n", _head(settings.profile_name), *_rows(profile, single, "", settings.profile)]
    for section, kinds in sections.items():
        for kind in kinds:
            chosen = values if isinstance(values := getattr(settings.profile, section), kind) else None
            parts += [f"\n### {section}{_of_kind(kind)}\n\n", *([f"{_doc(kind)}\n\n"] if _doc(kind) else [])]
            own = {name: inner.annotation for name, inner in kind.model_fields.items()}
            parts += [_head(settings.profile_name if chosen else None), *_rows(kind, own, f"{section}.", chosen)]
    return "".join(parts)


def _head(file: str | None) -> str:
    """Of a table, with a column for the values in that file."""
    columns = ["key", "values", *([file] if file else []), "meaning"]
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n"


def _rows(model: type[BaseModel], fields: Mapping[str, object], prefix: str, values: BaseModel | None) -> Iterator[str]:
    written = _written(model)
    for name, annotation in fields.items():
        value = None if values is None else getattr(values, name)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            inner = {key: field.annotation for key, field in annotation.model_fields.items()}
            yield from _rows(annotation, inner, f"{prefix}{name}.", value)
        else:
            kind, meaning = written[name]
            shown = [] if values is None else [f"`{_yaml(value)}`"]
            yield f"| {' | '.join([f'`{prefix}{KEYS.get(name, name)}`', _values(annotation, kind), *shown, meaning])} |\n"


def _written(model: type[BaseModel]) -> dict[str, tuple[str, str]]:
    """Of each field, its annotation as it is written and the comment beside it, its own or one it inherits."""
    found: dict[str, tuple[str, str]] = {}
    for owner in reversed([kind for kind in model.__mro__ if issubclass(kind, BaseModel) and kind.__module__.startswith("projected_grpo")]):
        source = inspect.getsource(owner)
        comments = {token.start[0]: token.string.lstrip("# ") for token in tokenize.generate_tokens(StringIO(source).readline) if token.type == tokenize.COMMENT}
        for node in ast.parse(source).body[0].body:
            if isinstance(node, ast.AnnAssign):
                lines = range(node.lineno, node.end_lineno + 1)
                found[node.target.id] = ast.unparse(node.annotation), " ".join(comments[line] for line in lines if line in comments)
    return found


WORDS = {"Count": "whole number from 1", "Natural": "whole number from 0", "Positive": "number over 0", "Share": "0 to 1", "Tail": "0 to under 0.5"}
TYPES = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "null"}


def _values(annotation: object, written: str) -> str:
    """What a key may be, for a reader."""
    if written in WORDS:
        return WORDS[written]
    if limits := re.findall(r"\b(ge|gt|le|lt)=([\d.]+)", written):
        return ", ".join(f"{dict(ge='from', gt='over', le='up to', lt='under')[word]} {number}" for word, number in limits)
    choices = get_args(annotation)
    if choices and all(isinstance(choice, str) for choice in choices):
        return ", ".join(f"`{choice}`" for choice in choices)
    if get_origin(annotation) is list:
        return f"list of: {_values(choices[0], '')}"
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(_values(choice, part) for choice, part in zip(choices, written.split(" | ")))
    return TYPES.get(annotation, written)


def _kinds(annotation: object) -> list[type[BaseModel]]:
    """Of a section; none of a key with a value."""
    found = [annotation] if isinstance(annotation, type) else [kind for kind in get_args(annotation) if isinstance(kind, type)]
    return [kind for kind in found if issubclass(kind, BaseModel)]


def _of_kind(model: type[BaseModel]) -> str:
    """What tells a kind of a section from its others."""
    tags = [name for name in ("kind", "engine") if name in model.model_fields]
    return "".join(f", {name} {' or '.join(get_args(model.model_fields[name].annotation))}" for name in tags)


def _doc(model: type[BaseModel]) -> str:
    return vars(model).get("__doc__") or ""


def _yaml(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"[{', '.join(map(_yaml, value))}]" if isinstance(value, list) else "''" if value == "" else str(value)
