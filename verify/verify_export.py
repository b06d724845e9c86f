"""The exported adapters are the trained policy to any loader of PEFT adapters: equal logits, exact padding, a card that
states the measured numbers, and no other base model."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import LlamaForCausalLM

from projected_grpo.analysis.rates import two_by_two
from projected_grpo.core.base import Base, ModelError
from projected_grpo.core.parquet import write_table
from projected_grpo.core.tables import EVAL
from projected_grpo.policy.export import STATES, VLLM_RANKS, check_export, export_adapter, lora_factors, padded_rank
from projected_grpo.policy.inits import initialize, save_init
from projected_grpo.policy.origin import AdapterError, digest
from projected_grpo.policy.policy import Policy
from projected_grpo.reporting.card import Card, render_card
from projected_grpo.reporting.manifest import describe, parse_manifest
from projected_grpo.reporting.served import answer, check_prompting, load_exports
from projected_grpo.reporting.statements import DATA_NAMES, STATE_NAMES
from projected_grpo.sampling.merged import BLOCKS
from projected_grpo.settings.arm import Adapter, load_settings
from projected_grpo.settings.models import HubModel
from verify.tiny import RANK, tiny_batch, tiny_model, tiny_policy, tiny_tokenizer
from verify.verify_inits import INITS, every_init
from verify.verify_report import eval_rows, manifest

COLUMNS = {init: {"deployed": RANK, "full": 2 * RANK} if init == "antipasto" else {"deployed": 2 * RANK, "full": 4 * RANK} for init in INITS}
HUB = HubModel(kind="hub", device="cpu", id="owner/name", revision="ab" * 20, dtype="float32")
every_state = pytest.mark.parametrize("state", STATES)


def export(policy: Policy, state: str, folder: Path) -> tuple[int, int]:
    return export_adapter(policy, STATES[state], None, folder)


@torch.no_grad()
def logits(model, tokens: Tensor) -> Tensor:
    return model(tokens).logits


@torch.no_grad()
def merged(policy: Policy, state: str) -> LlamaForCausalLM:
    """The plain model with the weights into which the trainer merges the adapter in this state."""
    model = tiny_model()
    for name, layer in policy.layers.items():
        model.get_submodule(name).weight.copy_(layer.merged(BLOCKS[state]))
    return model


@every_init
@every_state
def test_plain_peft_gives_the_logits_of_the_trainer_s_merged_model(init, state, tmp_path):
    policy, tokens = tiny_policy(moved=True, init=init), tiny_batch().tokens
    columns, rank = export(policy, state, tmp_path)
    assert (columns, rank) == (COLUMNS[init][state], 16 if columns > 8 else 8)
    loaded = PeftModel.from_pretrained(tiny_model(), tmp_path)
    found, wanted = logits(loaded, tokens), logits(merged(policy, state), tokens)
    assert (found - wanted).abs().max() < 1e-5
    for other in (tiny_model(), merged(policy, "full" if state == "deployed" else "deployed")):
        assert (logits(other, tokens) - wanted).abs().max() > 1e-2


@every_init
def test_the_export_gives_the_log_probabilities_that_training_computes(init, tmp_path):
    policy, batch = tiny_policy(moved=True, init=init), tiny_batch()
    with torch.no_grad():
        wanted = policy.logp(batch)
    export(policy, "full", tmp_path)
    found = logits(PeftModel.from_pretrained(tiny_model(), tmp_path), batch.tokens).log_softmax(-1)
    for row, (start, length) in enumerate(zip(batch.prompt_length.tolist(), batch.completion_length.tolist())):
        places = torch.arange(start, start + length)
        torch.testing.assert_close(found[row, places - 1, batch.tokens[row, places]], wanted[row, :length], rtol=0, atol=1e-5)


@every_init
@every_state
def test_padding_is_zeros_after_the_factors_bit_for_bit(init, state, tmp_path):
    policy = tiny_policy(moved=True, init=init)
    columns, rank = export(policy, state, tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert len(tensors) == 2 * len(policy.layers) and rank > columns
    for name, layer in policy.layers.items():
        A, B = (tensors[f"base_model.model.{name}.lora_{side}.weight"] for side in "AB")
        down, up = lora_factors(layer, STATES[state])
        assert len(down) == columns
        assert torch.equal(A[:columns], down) and torch.equal(B[:, :columns], up)
        assert A.shape == (rank, down.shape[1]) and B.shape == (up.shape[0], rank)
        assert not A[columns:].any() and not B[:, columns:].any()


def test_a_rank_that_fits_is_not_padded_and_one_over_the_largest_is_refused(tmp_path):
    assert [padded_rank(n) for n in (1, 8, 9, 129, 257, 512)] == [8, 8, 16, 256, 320, 512]
    with pytest.raises(AdapterError, match="513 columns.*lower adapter.rank"):
        padded_rank(513)
    model = tiny_model()
    policy = Policy(Base(model, tiny_tokenizer()), initialize(model, Adapter(init="gaussian", rank=8, seed=0), {}), 1.0)
    assert export(policy, "deployed", tmp_path) == (16, 16) and export(policy, "full", tmp_path) == (32, 32)


@every_init
def test_resetting_the_quarantine_makes_the_full_export_the_deployed_one(init, tmp_path):
    policy, tokens = tiny_policy(moved=True, init=init), tiny_batch().tokens
    export(policy, "deployed", tmp_path / "deployed")
    policy.reset_quarantine()
    export(policy, "full", tmp_path / "reset")
    deployed, reset = (logits(PeftModel.from_pretrained(tiny_model(), tmp_path / name), tokens) for name in ("deployed", "reset"))
    torch.testing.assert_close(reset, deployed, rtol=0, atol=1e-5)


@every_state
def test_the_configuration_is_one_that_vllm_accepts_and_names_a_base_model_of_the_hub_alone(state, tmp_path):
    """vLLM reads r, alpha and these fields, and refuses a value that asks for anything but a plain LoRA."""
    policy = tiny_policy(moved=True)
    _, rank = export(policy, state, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert rank in VLLM_RANKS and config["r"] == config["lora_alpha"] == rank
    assert config["target_modules"] == sorted({name.rsplit(".", 1)[1] for name in policy.layers})
    assert config["bias"] == "none" and config["init_lora_weights"] is True and config["task_type"] == "CAUSAL_LM"
    assert not any(config[key] for key in ("use_dora", "use_rslora", "modules_to_save", "rank_pattern", "alpha_pattern", "lora_bias"))
    assert (config["base_model_name_or_path"], config["revision"]) == (None, None)
    export_adapter(policy, STATES[state], HUB, tmp_path / "hub")
    named = json.loads((tmp_path / "hub/adapter_config.json").read_text())
    assert named == config | {"base_model_name_or_path": HUB.id, "revision": HUB.revision}


def test_a_user_without_the_project_loads_the_export_by_its_own_configuration(tmp_path, monkeypatch):
    """As AutoPeftModel does for a model of the hub, which lies in a local cache here."""
    policy, tokens = tiny_policy(moved=True), tiny_batch().tokens
    snapshots = tmp_path / "hub/models--owner--name"
    tiny_model().save_pretrained(snapshots / "snapshots" / HUB.revision)
    export_adapter(policy, STATES["deployed"], HUB, tmp_path / "elsewhere/deployed")
    monkeypatch.chdir(tmp_path / "elsewhere")
    served = AutoPeftModelForCausalLM.from_pretrained("deployed", cache_dir=str(tmp_path / "hub"), local_files_only=True)
    export(policy, "deployed", tmp_path / "plain")
    torch.testing.assert_close(logits(served, tokens), logits(PeftModel.from_pretrained(tiny_model(), tmp_path / "plain"), tokens), rtol=0, atol=0)


def both(policy: Policy, folder: Path) -> Path:
    for state in STATES:
        export(policy, state, folder / state)
    return folder


def tiny_base(seed: int = 0) -> Base:
    return Base(tiny_model(seed), tiny_tokenizer())


def test_another_base_model_is_refused_with_both_digests(tmp_path):
    both(tiny_policy(moved=True), tmp_path)
    found, expected = digest(tiny_model(0))[:12], digest(tiny_model(1))[:12]
    with pytest.raises(AdapterError, match=f"another base model, found weights of sha256 {found}, expected {expected}"):
        load_exports(tiny_base(seed=1), tmp_path)


def test_a_missing_or_an_empty_folder_is_refused_by_name(tmp_path):
    with pytest.raises(AdapterError, match="nowhere: is no folder; the stage report writes it, with deployed and full in it"):
        load_exports(tiny_base(), tmp_path / "nowhere")
    with pytest.raises(AdapterError, match="deployed: found no adapter_config.json; the stage report writes it"):
        load_exports(tiny_base(), tmp_path)
    both(tiny_policy(moved=True), tmp_path)
    (tmp_path / "full/adapter_model.safetensors").unlink()
    with pytest.raises(AdapterError, match="full: found no adapter_model.safetensors"):
        load_exports(tiny_base(), tmp_path)
    check_export(tmp_path / "deployed", digest(tiny_model()))


def test_a_tokenizer_that_cannot_make_the_prompts_is_refused(tmp_path):
    base, toy = tiny_base(), load_settings().profile
    check_prompting(base, tmp_path, toy)
    chat = toy.model_copy(update={"model": toy.model.model_copy(update={"kind": "gguf"})})
    with pytest.raises(ModelError, match="no chat template, and the profile's problems are asked in a chat"):
        check_prompting(base, tmp_path, chat)
    base.tokenizer.chat_template = "{{ messages }}"
    check_prompting(base, tmp_path, chat)
    base = tiny_base()
    base.tokenizer.bos_token = None
    with pytest.raises(ModelError, match="neither a chat template nor a token that begins a text"):
        check_prompting(base, tmp_path, toy)


def test_served_answers_are_those_of_each_policy(tmp_path):
    """Greedy, against the merged models; sampled, the same answer for the same seed."""
    policy = tiny_policy(moved=True)
    base = tiny_base()
    served = load_exports(base, both(policy, tmp_path))
    sampling = load_settings().profile.sampling
    prompt = "def solve(xs):\n"
    answers = {}
    for state in STATES:
        tokens = [*base.encode(base.tokenizer.bos_token + prompt)]
        start, model = len(tokens), merged(policy, state)
        while len(tokens) < start + sampling.max_new_tokens and tokens[-1] != base.eos_id:
            tokens.append(int(logits(model, torch.tensor([tokens]))[0, -1].argmax()))
        answers[state] = answer(served, base, state, tokens[:start], sampling, None)
        assert answers[state] == base.decode(tokens[start:])
        sampled = [answer(served, base, state, tokens[:start], sampling, seed) for seed in (1, 1, 2)]
        assert sampled[0] == sampled[1] != sampled[2]
    assert answers["deployed"] != answers["full"]


def card(state: str = "deployed", columns: int = 6, hub: HubModel | None = None, **arm: object) -> str:
    record = parse_manifest(manifest(**arm), "manifest.json")
    record.settings["adapter"] = {"init": "gaussian", "rank": 3}
    return render_card(Card(state, record, two_by_two(eval_rows()), {"qmass": 0.4567}, hub, "ab" * 32, columns, 8))


def test_the_card_has_the_values_and_intervals_of_the_table_eval():
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in card().splitlines() if line.startswith("|")]
    shown = {(line[0], line[1]): [[float(number) for number in re.findall(r"[\d.]+", text)] for text in line[2:]] for line in lines[2:]}
    cells = two_by_two(eval_rows())
    assert len(shown) == len(cells) == 9
    for cell in cells:
        *rates, problems = shown[DATA_NAMES[cell.data], STATE_NAMES[cell.state]]
        for found, rate in zip(rates, (cell.hack, cell.solve, cell.solve_unhinted), strict=True):
            assert found == pytest.approx([rate.value, rate.low, rate.high], abs=5e-4)
        assert problems == [cell.hack.problems]
    assert "The mean qmass over training steps is 0.457." in card() and "ab" * 32 in card()


def test_the_card_says_what_holds_of_its_arm_and_folder():
    assert "no parameter of it" in card() and "as trained, with the deployed block and the quarantine" in card("full")
    assert "`deployed` and `full` hold the same adapter" in card(policy="none") and "hold the same adapter" not in card()
    assert "uses ground truth" not in card() and "model organism" in card()
    labelled = card(policy="labelled", kind="ground_truth")
    assert "# Arm labelled (uses ground truth), deployed adapter" in labelled and "It is an upper bound, not a method" in labelled
    assert "ended its training in step 11, counted from 0" in card(diverged_at_step=11)
    assert "Its last 2 columns are zero" in card() and "columns are zero" not in card(columns=8)
    assert card().startswith("---\nlibrary_name: peft\n") and "which has no address" in card() and "- `gate.policy`: route" in card()
    named = card(hub=HUB)
    assert named.startswith("---\nbase_model: owner/name\nlibrary_name: peft\n")
    assert f'from_pretrained("owner/name", revision="{HUB.revision}")' in named and "has no address" not in named


def run_stage(folder: Path, out: str, policy: str, hash_seed: int) -> subprocess.Popen:
    """The stage on the inputs in `folder`, in a process that orders sets in its own way."""
    described = describe(load_settings(), {}, folder / "run.json")
    described["arm"]["gate.policy"] = policy
    (folder / f"{out}.json").write_text(json.dumps(described))
    paths = {"adapter": "trained", "base": "base", "init": "init", "eval": "eval.parquet", "metrics": "metrics.json", "manifest": f"{out}.json", "out": out}
    options = [text for name, path in paths.items() for text in (f"--{name}", str(folder / path))]
    return subprocess.Popen([sys.executable, "-m", "stages.pipeline.export_adapter", *options], env=os.environ | {"PYTHONHASHSEED": str(hash_seed)})


def test_the_stage_writes_equal_bytes_twice_and_one_adapter_where_rank_2r_deploys_whole(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    init = initialize(model, load_settings().adapter, {})
    save_init(init, tmp_path / "init")
    policy = Policy(Base(model, tiny_tokenizer()), init, 1.0)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.copy_(0.05 * torch.randn(parameter.shape))
    policy.save(tmp_path / "trained", uses_ground_truth=False)
    write_table(tmp_path / "eval.parquet", EVAL, eval_rows())
    facts = {"resumed_from_step": None, "diverged_at_step": None, "seconds_by_phase": {}, "versions": {}}
    (tmp_path / "run.json").write_text(json.dumps(facts))
    (tmp_path / "metrics.json").write_text('{"qmass": null}')
    runs = [run_stage(tmp_path, "one", "route", 1), run_stage(tmp_path, "two", "route", 2), run_stage(tmp_path, "whole", "none", 1)]
    assert [process.wait() for process in runs] == [0, 0, 0]
    written = {out: {state: read(tmp_path / out / state) for state in STATES} for out in ("one", "two", "whole")}
    assert written["one"] == written["two"]
    assert set(written["one"]["full"]) == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert written["whole"]["deployed"][name] == written["whole"]["full"][name] == written["one"]["full"][name]
        assert written["one"]["deployed"][name] != written["one"]["full"][name]


def read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
