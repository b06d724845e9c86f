"""Base models of a shape and in their dtype: deterministic weights, a chat without thinking, a message for each bad input."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench.cost import SCALES
from projected_grpo.base_models.shape import chat_tokenizer, config_of, write_shape
from projected_grpo.core import base as base_module
from projected_grpo.core.base import Base, ModelError, load_base, require_fast
from projected_grpo.core.errors import ProblemError
from projected_grpo.environment.render import check_lengths, render
from projected_grpo.problems import authored
from projected_grpo.prompts.modes import GT_ONLY, MODES
from projected_grpo.prompts.prompts import SYSTEM, is_chat
from projected_grpo.settings.arm import load_settings
from projected_grpo.settings.files import SettingsError, check, read_yaml
from projected_grpo.settings.models import ShapeModel
from projected_grpo.settings.profile import AuthoredProblems, LocalSampling, Profile
from verify.sandbox import asking
from verify.workspace import PROFILE, copy_project, edit, run

ROOT = Path(__file__).resolve().parents[1]
SHAPE = ShapeModel(
    kind="shape", device="cpu", vocab=700, width=48, layers=3, heads=4, kv_heads=2, head_dim=16, mlp=80, positions=2048,
    rope_theta=1e6, rms_eps=1e-6, tied_embeddings=True, dtype="float32", seed=0,
)  # fmt: skip
SAMPLING = LocalSampling(engine="merged", rows=8, max_prompt_tokens=1024, max_new_tokens=1024, temperature=1.0)
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def problems() -> list[dict]:
    return authored.make_problems(AuthoredProblems(kind="authored", path="data/problems", train=40, val=2, test=8, seed=0), MODES)[0]


@pytest.fixture(scope="module")
def shape(tmp_path_factory, problems) -> Path:
    return written(tmp_path_factory.mktemp("shape") / "base", problems)


def written(folder: Path, problems: list[dict], **changes: object) -> Path:
    write_shape(SHAPE.model_copy(update=changes), [row["statement"] for row in problems], folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_same_settings_give_the_same_bytes_and_another_seed_other_weights(shape, problems, tmp_path):
    torch.manual_seed(7)  # what was drawn before does not matter
    assert contents(written(tmp_path / "again", problems)) == contents(shape)
    other = contents(written(tmp_path / "other", problems, seed=1))
    assert {name for name, data in contents(shape).items() if other[name] != data} == {WEIGHTS}


def test_a_shape_goes_from_the_stage_to_logits(problems, tmp_path):
    """The commands of the pipeline, on the profile of Qwen3-4B's shape with a few small layers in place of its own."""
    workspace = copy_project(tmp_path / "work", "qwen3_4b_shape")
    profile = workspace / "profiles/qwen3_4b_shape.yaml"
    for key, value in {"vocab": 700, "width": 48, "layers": 3, "heads": 4, "kv_heads": 2, "head_dim": 16, "mlp": 80}.items():
        edit(profile, rf"\n  {key}: \d+", f"\n  {key}: {value}")
    edit(profile, "device: cuda", "device: cpu")
    tables = ["--problems", "problems.parquet"]
    run([sys.executable, "-m", "stages.pipeline.make_problems", *tables, "--ground-truth", "truth.parquet"], workspace)
    made = [sys.executable, "-m", "stages.pipeline.base_model", *tables, "--out", "base"]
    refused = run(made, workspace, check=False)
    assert refused.returncode == 1 and "issue 146508" in refused.stderr and "Traceback" not in refused.stderr
    assert not (workspace / "base").exists()
    edit(profile, "dtype: bfloat16", "dtype: float32")
    run(made, workspace)
    base = load_base(workspace / "base", "cpu")
    tokens = torch.tensor([render(base, asking(chat=True), problems[0], problems[0]["mode"])])
    logits = base.model(tokens).logits
    assert logits.shape == (1, tokens.shape[1], 700) and logits.dtype == torch.float32 and logits.isfinite().all()
    assert 0.05 < float(logits.std()) < 1.0  # far from a model that is sure of anything
    assert base.model.config.rope_parameters == {"rope_type": "default", "rope_theta": 1e6}


def test_embeddings_are_tied_where_the_settings_say_so(shape, problems, tmp_path):
    tied = load_base(shape, "cpu").model
    assert tied.lm_head.weight is tied.model.embed_tokens.weight
    untied = load_base(written(tmp_path / "untied", problems, tied_embeddings=False), "cpu").model
    assert untied.lm_head.weight is not untied.model.embed_tokens.weight
    assert untied.num_parameters() - tied.num_parameters() == 700 * 48


def test_the_shape_of_the_profile_is_that_of_qwen3_4b(tmp_path):
    (tmp_path / "profiles").symlink_to(ROOT / "profiles")
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    edit(tmp_path / "params.yaml", PROFILE, "profile: qwen3_4b_shape")
    settings = load_settings(tmp_path).profile.model
    config = config_of(settings, chat_tokenizer(["a"], 300))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    assert model.num_parameters() == 4_022_468_096  # as published
    layer = model.model.layers[0]
    assert (layer.self_attn.q_proj.weight.shape, layer.self_attn.k_proj.weight.shape) == ((4096, 2560), (1024, 2560))
    assert layer.mlp.gate_proj.weight.shape == (9728, 2560) and layer.self_attn.q_norm.weight.shape == (128,)
    assert config.rope_parameters["rope_theta"] == 1e6 and config.rms_norm_eps == 1e-6 and len(model.model.layers) == 36


def test_the_costs_that_the_documentation_states_are_those_of_the_profile():
    profiles = [Path(f"profiles/{name}.yaml") for name in ("qwen3_4b", "qwen3_4b_shape")]
    real, shaped = (check(Profile, read_yaml(path), path) for path in profiles)
    config, cost = config_of(shaped.model, chat_tokenizer(["a"], 300)), SCALES["qwen3_4b"]
    for key in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
                "intermediate_size", "tie_word_embeddings"):  # fmt: skip
        assert getattr(config, key) == getattr(cost.config, key), key
    train, sampling = real.train, real.sampling
    assert (cost.prompts, cost.group, cost.completion, cost.deployed_share) == (train.prompts, train.group, sampling.max_new_tokens, train.gen_deploy_frac)
    assert (cost.micro_tokens, cost.recompute_layers, cost.merged, cost.sampled_rows) == (train.micro_tokens, train.recompute_layers, sampling.engine == "merged", sampling.rows)
    assert real.sampling == shaped.sampling and (train.group, train.micro_tokens) == (shaped.train.group, shaped.train.micro_tokens)


def test_the_chat_ends_in_an_empty_thought_and_every_id_is_in_the_vocabulary(shape, problems):
    base = load_base(shape, "cpu")
    row = problems[0]
    for mode in (row["mode"], GT_ONLY):
        tokens = render(base, asking(chat=True), row, mode)
        expected = (
            f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{asking(chat=True).prompt(row, mode)}<|im_end|>\n"
            "<|im_start|>assistant\n<think>\n\n</think>\n\n"
        )
        assert base.tokenizer.decode(tokens) == expected
        assert max(tokens) < SHAPE.vocab
    thinking = base.tokenizer.apply_chat_template([{"role": "user", "content": "x"}], add_generation_prompt=True, tokenize=False)
    assert thinking.endswith("<|im_start|>assistant\n")  # as Qwen3's template, which thinks unless told not to
    assert is_chat(base) and len(base.tokenizer) <= SHAPE.vocab
    assert base.encode("<think>") == [base.tokenizer.convert_tokens_to_ids("<think>")]
    assert base.decode([5, base.eos_id]) == base.decode([5]) and base.tokenizer.eos_token == "<|im_end|>"
    odd = "λ = '\t'\n  ½ 😀"
    assert base.decode(base.encode(odd)) == odd  # bytes, so any text survives
    few = Base(base.model, chat_tokenizer(["a"], SHAPE.vocab))
    assert len(few.tokenizer) < SHAPE.vocab and few.decode([SHAPE.vocab - 1]) == ""  # an id that the model alone has


def test_a_model_is_loaded_in_the_dtype_in_which_it_was_saved(shape, problems, tmp_path, monkeypatch):
    assert load_base(shape, "cpu").model.dtype == torch.float32
    folder = written(tmp_path / "half", problems, dtype="bfloat16")
    with pytest.raises(ModelError, match=r"half: is bfloat16.*44 to 499 times.*146508.*set model.dtype=float32") as refused:
        load_base(folder, "cpu")
    assert str(folder) in str(refused.value)
    monkeypatch.setattr(base_module, "require_fast", lambda *given: None)
    model = load_base(folder, "cpu").model
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    full = load_base(shape, "cpu").model.model.layers[1].mlp.up_proj.weight
    assert 0.9 < float(model.model.layers[1].mlp.up_proj.weight.float().std() / full.std()) < 1.1


def test_a_template_whose_turns_end_with_an_unknown_token_is_refused_until_the_checkpoint_names_it(shape, tmp_path):
    folder = Path(shutil.copytree(shape, tmp_path / "model"))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"eos_token": "<|endoftext|>"}))
    settings = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(settings | {"eos_token_id": None}))
    with pytest.raises(ModelError, match=r"model: its chat template ends a turn with '<\|im_end\|>', but .* '<\|endoftext\|>'.*generation_config.json"):
        load_base(folder, "cpu")
    end = AutoTokenizer.from_pretrained(shape).convert_tokens_to_ids("<|im_end|>")
    (folder / "generation_config.json").write_text(json.dumps(settings | {"eos_token_id": [end]}))
    base = load_base(folder, "cpu")
    assert base.end_ids == (base.eos_id, end) and base.eos_id != end


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA GPU here")
def test_a_gpu_that_is_not_there_is_named_before_the_weights_are_read(shape, tmp_path):
    (tmp_path / "config.json").write_text((shape / "config.json").read_text())
    with pytest.raises(ModelError, match="model.device is cuda, and torch finds no CUDA GPU here; set model.device=cpu"):
        load_base(tmp_path, "cuda")


def test_prompts_that_are_too_long_are_refused_by_name_before_anything_is_sampled(shape, problems):
    base = load_base(shape, "cpu")
    check_lengths(base, asking(chat=True), problems, SAMPLING)
    problems = [row for row in problems if row["split"] == "train"]
    lengths = {row["problem_id"]: len(render(base, asking(chat=True), row, row["mode"])) for row in problems}
    name, longest = max(lengths.items(), key=lambda item: item[1])
    check_lengths(base, asking(chat=True), problems, SAMPLING.model_copy(update={"max_prompt_tokens": longest}))
    with pytest.raises(ProblemError) as refused:
        check_lengths(base, asking(chat=True), problems, SAMPLING.model_copy(update={"max_prompt_tokens": longest - 1}))
    said = f"problem {name}: its prompt has {longest} tokens, the most of all problems, and sampling.max_prompt_tokens is {longest - 1}"
    assert said in str(refused.value) and f"raise it to {longest}" in str(refused.value)
    with pytest.raises(ProblemError, match="max_new_tokens is 2049, and the base model has 2048 positions"):
        check_lengths(base, asking(chat=True), problems, SAMPLING.model_copy(update={"max_new_tokens": 1025}))


def test_a_test_problem_is_measured_in_held_out_words_too(shape, problems):
    base = load_base(shape, "cpu")
    problem = next(row for row in problems if row["mode"] == "sentinel") | {"split": "test"}
    known, other = (len(render(base, asking(chat=True), row, "sentinel")) for row in (problem, reworded(problem, "sentinel", "ACCEPTED")))
    assert other > known
    tight = SAMPLING.model_copy(update={"max_prompt_tokens": known})
    check_lengths(base, asking(chat=True), [problem | {"split": "train"}], tight)
    with pytest.raises(ProblemError, match=f"problem {problem['problem_id']}: its prompt has {other} tokens"):
        check_lengths(base, asking(chat=True), [problem], tight)


def reworded(problem: dict, field: str, word: str) -> dict:
    return problem | {"words": json.dumps(json.loads(problem["words"]) | {field: word})}


def test_a_revision_that_is_no_commit_is_refused_with_the_settings(tmp_path):
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    edit(tmp_path / "params.yaml", PROFILE, "profile: qwen3_4b")
    assert load_settings(tmp_path).profile.model.id == "Qwen/Qwen3-4B"
    for revision in ("main", "1cfa9a7"):
        edit(tmp_path / "profiles/qwen3_4b.yaml", r"revision: \w+", f"revision: {revision}")
        with pytest.raises(SettingsError, match=f"qwen3_4b.yaml: key 'model.revision'.*found '{revision}'"):
            load_settings(tmp_path)


def test_a_bfloat16_model_is_not_sampled_on_merged_weights(tmp_path):
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    edit(tmp_path / "params.yaml", PROFILE, "profile: qwen3_4b_shape")
    edit(tmp_path / "profiles/qwen3_4b_shape.yaml", "engine: adapted", "engine: merged")
    with pytest.raises(SettingsError, match="model.dtype is bfloat16 and sampling.engine is merged.*set sampling.engine=adapted"):
        load_settings(tmp_path)
    edit(tmp_path / "profiles/qwen3_4b_shape.yaml", "dtype: bfloat16", "dtype: float32")
    assert load_settings(tmp_path).profile.sampling.engine == "merged"


def test_bfloat16_is_refused_for_the_cpu_alone():
    require_fast(torch.float32, "cpu", "model.dtype")
    with pytest.raises(ModelError, match="model.dtype: is bfloat16"):
        require_fast(torch.bfloat16, "cpu", "model.dtype")
    require_fast(torch.bfloat16, "cuda", "model.dtype")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA GPU")
def test_a_profile_for_a_gpu_is_refused_where_there_is_none(shape):
    with pytest.raises(ModelError, match="model.device is cuda, and torch finds no CUDA GPU here; set model.device=cpu"):
        load_base(shape, "cuda")
