"""Models and problems of a hub, served on this machine: fetched once at a commit, and refused by name where they are not to be had."""

import json
import shutil
from pathlib import Path

import polars
import pytest
import torch
from safetensors.torch import load_file

from projected_grpo.base_models.hub import copy_and_save
from projected_grpo.core.base import ModelError
from projected_grpo.problems import authored
from projected_grpo.prompts.modes import MODES
from projected_grpo.settings.models import FolderModel
from projected_grpo.settings.profile import AuthoredProblems
from verify.hub import COMMIT, hub, outcomes
from verify.verify_models import contents, written

ABSENT = "a" * 40  # a commit that is nowhere


def line(number: int) -> dict:
    """A LeetCode problem, with keys that are not read."""
    return {
        "id": number, "difficulty": "medium", "question": f"Add {number} to a.", "func_name": "Solution().add", "setup_code": "",
        "canonical_solution": "class Solution: ...", "gt_answer": [f"assert Solution().add(a = {a}) == {a + number}" for a in range(9)],
        "hint": None, "prompt": [{"role": "user", "content": "x"}],
    }  # fmt: skip


def served(shape: Path, folder: Path) -> dict[str, Path]:
    """Repositories: the shape, the same without a chat template, one that is no model, and a set of problems."""
    plain, broken = (Path(shutil.copytree(shape, folder / name)) for name in ("plain", "broken"))
    (plain / "chat_template.jinja").unlink()
    (broken / "config.json").write_text('{"model_type": "unheard_of"}')
    problems = folder / "problems"
    problems.mkdir()
    (problems / "five.jsonl").write_text("".join(json.dumps(line(number)) + "\n" for number in range(5)))
    polars.DataFrame([line(number) for number in range(5)]).write_parquet(problems / "five.parquet")
    (problems / "wrong.jsonl").write_text(json.dumps(line(0)) + "\n" + json.dumps(line(1) | {"gt_answer": ["x"]}) + "\n")
    return {"owner/tiny": shape, "owner/plain-text": plain, "owner/broken": broken, "owner/set": problems}


def model(name: str, revision: str, folder: Path) -> list:
    return ["model", {"kind": "hub", "device": "cpu", "id": name, "revision": revision, "dtype": "float32"}, str(folder)]


def problem_set(name: str, revision: str, file: str) -> list:
    return ["problems", f"hf://datasets/{name}@{revision}/{file}"]


@pytest.fixture(scope="module")
def shape(tmp_path_factory) -> Path:
    settings = AuthoredProblems(kind="authored", path="data/problems", train=4, val=1, test=1, seed=0)
    return written(tmp_path_factory.mktemp("shape") / "base", authored.make_problems(settings, MODES)[0])


@pytest.fixture(scope="module")
def asked(shape, tmp_path_factory) -> dict:
    """What a process with a hub says to each request, and after it one that has its cache and no network."""
    folder = tmp_path_factory.mktemp("hub")
    online = {
        "tiny": model("owner/tiny", COMMIT, folder / "tiny"),
        "absent": model("owner/absent", COMMIT, folder / "none"),
        "revision": model("owner/tiny", ABSENT, folder / "none"),
        "chatless": model("owner/plain-text", COMMIT, folder / "none"),
        "broken": model("owner/broken", COMMIT, folder / "none"),
        "five": problem_set("owner/set", COMMIT, "five.jsonl"),
        "parquet": problem_set("owner/set", COMMIT, "five.parquet"),
        "wrong": problem_set("owner/set", COMMIT, "wrong.jsonl"),
        "no file": problem_set("owner/set", COMMIT, "absent.jsonl"),
        "no set": problem_set("owner/other", COMMIT, "five.jsonl"),
        "unpinned": problem_set("owner/set", "main", "five.jsonl"),
    }
    offline = {
        "tiny, cached": model("owner/tiny", COMMIT, folder / "cached"),
        "revision, offline": model("owner/tiny", ABSENT, folder / "none"),
        "five, cached": problem_set("owner/set", COMMIT, "five.jsonl"),
        "no file, offline": problem_set("owner/set", COMMIT, "absent.jsonl"),
    }
    with hub(served(shape, folder)) as address:
        said = outcomes(list(online.values()), address, folder / "home", offline=False)
    said += outcomes(list(offline.values()), address, folder / "home", offline=True)
    return dict(zip([*online, *offline], said, strict=True)) | {"address": address, "folder": folder}


def test_a_model_of_the_hub_is_fetched_once_and_then_needs_no_network(shape, asked):
    fetched, cached = contents(asked["folder"] / "tiny"), contents(asked["folder"] / "cached")
    assert asked["tiny"] == asked["tiny, cached"] == "written" and fetched == cached and fetched.keys() == contents(shape).keys()
    for name in ("model.safetensors", "tokenizer.json", "config.json", "chat_template.jinja"):
        assert fetched[name] == contents(shape)[name]


def test_a_model_that_is_not_to_be_had_is_refused_by_name_and_setting(asked):
    address = asked["address"]
    assert f"owner/absent, revision {COMMIT}: {address} has no owner/absent" in asked["absent"] and "check model.id" in asked["absent"]
    assert f"owner/tiny, revision {ABSENT}: {address} has owner/tiny but no such revision; set model.id and model.revision" in asked["revision"]
    assert f"owner/plain-text, revision {COMMIT}: its tokenizer has no chat template" in asked["chatless"] and "set model.id" in asked["chatless"]
    assert "owner/broken" in asked["broken"] and "unheard_of" in asked["broken"] and "check model.id" in asked["broken"]
    assert f"owner/tiny, revision {ABSENT}: is not, or not whole, in the cache {asked['folder'] / 'home' / 'hub'}" in asked["revision, offline"]
    assert f"with HF_HUB_OFFLINE=0, or beforehand `hf download owner/tiny --revision {ABSENT}`" in asked["revision, offline"]
    assert not (asked["folder"] / "none").exists()


def test_problems_of_a_hub_dataset_are_read_at_a_commit(asked):
    """JSON lines and Parquet give the same problems, from the cache too; what is not to be had is refused by name."""
    assert asked["five"] == asked["parquet"] == asked["five, cached"] == "leetcode-0 leetcode-1 leetcode-2 leetcode-3 leetcode-4"
    assert f"hf://datasets/owner/set@{COMMIT}/wrong.jsonl: line 2: key 'gt_answer': item 0" in asked["wrong"]
    assert f"owner/set, revision {COMMIT}" in asked["no file"] and "has owner/set but not the file; check problems.path" in asked["no file"]
    assert "has no owner/other" in asked["no set"] and "check problems.path" in asked["no set"]
    assert "found hf://datasets/owner/set@main/five.jsonl, expected hf://datasets/OWNER/NAME@COMMIT/FILE" in asked["unpinned"]
    assert f"beforehand `hf download owner/set absent.jsonl --repo-type dataset --revision {COMMIT}`" in asked["no file, offline"]


def test_a_folder_s_model_is_taken_as_it_is_and_anything_else_is_refused(shape, tmp_path):
    def copy(path: Path, out: Path, dtype: str = "float32") -> None:
        copy_and_save(FolderModel(kind="folder", device="cpu", path=str(path), dtype=dtype), out)

    copy(shape, tmp_path / "base")
    for name in ("model.safetensors", "tokenizer.json", "config.json", "chat_template.jinja"):
        assert contents(tmp_path / "base")[name] == contents(shape)[name]
    copy(shape, tmp_path / "half", "bfloat16")
    assert {tensor.dtype for tensor in load_file(tmp_path / "half/model.safetensors").values()} == {torch.bfloat16}
    repositories = served(shape, tmp_path)
    with pytest.raises(ModelError, match="absent: found no config.json; set model.path"):
        copy(tmp_path / "absent", tmp_path / "out")
    with pytest.raises(ModelError, match="plain: its tokenizer has no chat template.* set model.path"):
        copy(repositories["owner/plain-text"], tmp_path / "out")
    with pytest.raises(ModelError, match="(?s)broken: transformers cannot load a causal language model.* check model.path"):
        copy(repositories["owner/broken"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
