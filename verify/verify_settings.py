"""Settings that cannot be used are refused with the file and the key; every profile of the repository loads.

Random streams are named: distinct names give distinct seeds, and a seed is the same on every machine."""

import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from projected_grpo.core.seeds import derive_seed
from projected_grpo.reporting.settings_page import settings_page
from projected_grpo.settings.arm import Gate, Settings, load_settings
from projected_grpo.settings.files import SettingsError
from verify.workspace import edit

DEMONSTRATED = [("curriculum.hack_demos", 1), ("curriculum.until_step", 5)]
ROOT = Path(__file__).resolve().parents[1]
PROFILES = sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of the repository's settings."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    _change(tmp_path, "params.yaml", "profile", "toy")
    return tmp_path


def _change(root: Path, file: str, key: str, value: object) -> None:
    """Set the dotted key of a settings file, or remove it where the value is None."""
    data = YAML(typ="safe").load((root / file).read_text())
    *sections, name = key.split(".")
    section = data
    for part in sections:
        section = section[part]
    if value is None:
        del section[name]
    else:
        section[name] = value
    with (root / file).open("w") as stream:
        YAML(typ="safe").dump(data, stream)


def _refusal(root: Path, file: str, *changes: tuple[str, object]) -> str:
    """The message of the error that the changed settings raise."""
    for key, value in changes:
        _change(root, file, key, value)
    with pytest.raises(SettingsError) as error:
        load_settings(root)
    return str(error.value)


def test_the_settings_of_the_repository_are_read_as_written() -> None:
    settings = load_settings(ROOT)
    written = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    profile = YAML(typ="safe").load((ROOT / "profiles" / f"{written['profile']}.yaml").read_text())
    written["curriculum"] |= profile["demonstrations"]
    assert settings.model_dump(exclude={"profile", "profile_name"}) | {"profile": settings.profile_name} == written
    assert settings.profile.model_dump() == profile


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_loads(root: Path, name: str) -> None:
    _change(root, "params.yaml", "profile", name)
    assert load_settings(root).profile_name == name


@pytest.mark.parametrize(
    "file, key, value, found",
    [
        ("params.yaml", "gate.polcy", "route", "'route'"),
        ("params.yaml", "learning_rate", 0.1, "0.1"),
        ("params.yaml", "profile_name", "toy", "profiles"),
        ("profiles/toy.yaml", "train.lr", 0.1, "0.1"),
        ("profiles/toy.yaml", "model.dropout", 0.1, "0.1"),
        ("profiles/toy.yaml", "gate", {}, "{}"),
    ],
)
def test_an_unknown_key_is_refused_by_file_and_key(root: Path, file: str, key: str, value: object, found: str) -> None:
    message = _refusal(root, file, (key, value))
    assert file in message and f"key '{key}': " in message and "unknown key" in message and found in message


def test_a_curriculum_has_the_demonstrations_of_its_profile_where_it_gives_no_number(root: Path) -> None:
    for key, value in {"hack_demos": 2, "solve_demos": 1, "until_step": 7}.items():
        _change(root, "profiles/toy.yaml", f"demonstrations.{key}", value)
    _change(root, "params.yaml", "curriculum.solve_demos", 0)
    found = load_settings(root).curriculum
    assert (found.hack_demos, found.solve_demos, found.until_step) == (2, 0, 7)


@pytest.mark.parametrize(
    "file, key, value",
    [
        ("profiles/toy.yaml", "train.learning_rate", "1e-05"),
        ("profiles/toy.yaml", "train.steps", 5.0),
        ("profiles/toy.yaml", "train.steps", True),
        ("profiles/toy.yaml", "train.steps", 0),
        ("profiles/toy.yaml", "train.kl_beta", -0.1),
        ("profiles/toy.yaml", "train.unhackable_share", 1.5),
        ("profiles/toy.yaml", "train.decay", "0.1"),
        ("profiles/toy.yaml", "sampling.temperature", 0.0),
        ("profiles/toy.yaml", "pairs.selector", 3),
        ("profiles/toy.yaml", "pairs.selector", "elsewhere/toy.md"),
        ("params.yaml", "seed", "41"),
        ("params.yaml", "seed", -1),
        ("params.yaml", "gate.keep_quantile", 0.5),
        ("params.yaml", "gate.route_quantile", -0.1),
        ("params.yaml", "gate.half_life", 0.0),
        ("params.yaml", "gate.features", "bottleneck"),
        ("params.yaml", "gate.policy", "oracle"),
        ("params.yaml", "monitor.kind", "oracle"),
        ("params.yaml", "monitor.false_positive_rate", 1.5),
        ("params.yaml", "gate.direction", "random"),
        ("params.yaml", "gate.masking", "input"),
        ("params.yaml", "adapter.init", "svd"),
        ("params.yaml", "adapter.rank", 8.5),
        ("params.yaml", "offline.draws", 0),
        ("params.yaml", "offline.memory_mb", 0.5),
        ("params.yaml", "curriculum.kl_limit", 0.0),
        ("params.yaml", "curriculum.warm_start", ""),
        ("params.yaml", "curriculum.warm_start", "artifacts/train/adapter"),
        ("params.yaml", "gate.direction", "directions/v_act.parquet"),
        ("params.yaml", "gate.direction", "artifacts/directions/v_act/direction.parquet"),
    ],
)
def test_a_value_of_the_wrong_type_or_range_is_refused_by_file_and_key(
    root: Path, file: str, key: str, value: object
) -> None:
    message = _refusal(root, file, (key, value))
    assert file in message and f"'{key}'" in message and repr(value) in message


@pytest.mark.parametrize(
    "file, key",
    [
        ("params.yaml", "seed"),
        ("params.yaml", "gate"),
        ("params.yaml", "gate.refresh_every"),
        ("profiles/toy.yaml", "train.kl_beta"),
        ("profiles/toy.yaml", "problems.heldout_tests"),
        ("profiles/toy.yaml", "grading"),
    ],
)
def test_a_missing_key_is_refused_by_file_and_key(root: Path, file: str, key: str) -> None:
    message = _refusal(root, file, (key, None))
    assert file in message and f"'{key}'" in message and "is missing" in message


VLLM = [
    ("sampling.engine", "vllm"), ("sampling.tensor_parallel", 1), ("sampling.memory_share", 0.3),
    ("sampling.rows", None),
]  # fmt: skip


def test_the_keys_of_a_sampling_engine_are_there_with_it_and_without_another_s(root: Path) -> None:
    message = _refusal(root, "profiles/toy.yaml", ("sampling.engine", "vllm"))
    for key in ("tensor_parallel", "memory_share"):
        assert f"profiles/toy.yaml: key 'sampling.{key}': the key is missing" in message
    assert "key 'sampling.rows': unknown key; found 1024" in message
    for key, value in VLLM:
        _change(root, "profiles/toy.yaml", key, value)
    assert load_settings(root).profile.sampling.tensor_parallel == 1
    for key, value in (("sampling.temperature", 0.005), ("sampling.temperature", 2.5), ("sampling.memory_share", 1.0)):
        before = load_settings(root).profile.sampling.model_dump()[key.split(".")[1]]
        message = _refusal(root, "profiles/toy.yaml", (key, value))
        assert f"key '{key}'" in message and repr(value) in message
        _change(root, "profiles/toy.yaml", key, before)
    message = _refusal(root, "profiles/toy.yaml", ("sampling.engine", "hf"))
    assert "key 'sampling'" in message and "'hf'" in message and "'merged', 'adapted', 'vllm'" in message


def test_an_unknown_profile_is_refused_with_the_known_ones(root: Path) -> None:
    message = _refusal(root, "params.yaml", ("profile", "toi"))
    assert "params.yaml" in message and "'profile'" in message and "toi.yaml" in message
    for name in PROFILES:
        assert name in message


@pytest.mark.parametrize("value", [None, 3, ["toy"]])
def test_a_profile_that_is_no_name_is_refused(root: Path, value: object) -> None:
    message = _refusal(root, "params.yaml", ("profile", value))
    assert "params.yaml" in message and "'profile'" in message


@pytest.mark.parametrize("data", [b"- 1\n", b"", b"seed: [1\n", b"seed: 1\nseed: 2\n", b"seed: \xff\n"])
def test_a_file_that_is_no_mapping_is_refused_by_name(root: Path, data: bytes) -> None:
    for file in ("profiles/toy.yaml", "params.yaml"):
        (root / file).write_bytes(data)
        with pytest.raises(SettingsError, match=file):
            load_settings(root)


def test_a_missing_params_file_is_refused_by_name(root: Path) -> None:
    (root / "params.yaml").unlink()
    with pytest.raises(SettingsError, match="params.yaml"):
        load_settings(root)


@pytest.mark.parametrize(
    "file, changes, words",
    [
        (
            "params.yaml",
            [("gate.direction", "haar"), ("gate.refresh_every", 5), ("gate.site", "output"), ("gate.features", ["output"])],
            ["'gate'", "gate.refresh_every is 5", "haar is defined by no pair"],
        ),
        ("params.yaml", [("gate.site", "residual")], ["'gate'", "gate.features lacks residual"]),
        ("params.yaml", [("gate.score", "gradient")], ["'gate'", "gate.features lacks gradient"]),
        (
            "params.yaml",
            [("gate.score", "gradient"), ("gate.site", "output"), ("gate.features", ["output", "gradient"])],
            ["'gate'", "reads at the bottleneck", "gate.site is output"],
        ),
        ("params.yaml", [("gate.draw", 128), ("gate.direction", "haar")], ["gate.draw is 128", "placebo.draws makes 128, counted from 0"]),
        ("params.yaml", [("gate.features", ["bottleneck", "bottleneck"])], ["'gate'", "names a reading twice", "name each once"]),
        ("params.yaml", [("gate.policy", "none"), ("gate.direction", "oracle")], ["'gate'", "oracle, which uses ground truth", "gate.policy=none follow"]),
        (
            "params.yaml",
            [("gate.policy", "labelled"), ("monitor.kind", "ground_truth"), ("gate.cuts", "pairs")],
            ["'gate'", "gate.cuts is pairs", "set gate.policy=route, one that starts with permuted, or gate.cuts=quantile"],
        ),
        ("params.yaml", [("gate.refresh_every", 80)], ["gate.refresh_every is 80", "train.steps is 80", "set it to 0"]),
        ("params.yaml", [("gate.buffer", 95)], ["gate.buffer is 95", "up to 96 rollouts", "set it to 96 or more"]),
        ("params.yaml", [("curriculum.known_modes", ["run_tests"])], ["'curriculum'", "known_modes is run_tests", "hack_demos is 0"]),
        ("params.yaml", [("gate.modules", "q_proj(")], ["'gate'", "gate.modules is no regular expression"]),
        ("params.yaml", [("gate.policy", "labelled")], ["gate.policy is labelled", "monitor.kind is none", "set monitor.kind=ground_truth"]),
        ("params.yaml", [("gate.policy", "labelled"), ("monitor.kind", "probe")], ["gate.policy is labelled", "monitor.kind is probe"]),
        (
            "params.yaml",
            [("gate.policy", "labelled"), ("monitor.kind", "ground_truth"), ("monitor.use", "penalty")],
            ["gate.policy is labelled", "monitor.use is penalty", "set monitor.kind=ground_truth and monitor.use=none"],
        ),
        ("params.yaml", [("monitor.kind", "judge"), ("monitor.use", "screening")], ["monitor.use is screening", "gate.policy is route", "set gate.policy=none"]),
        ("params.yaml", [("gate.policy", "none"), ("monitor.use", "penalty")], ["'monitor'", "monitor.use is penalty", "monitor.kind is none"]),
        ("params.yaml", [("gate.policy", "none"), ("monitor.kind", "probe")], ["monitor.kind is probe", "nothing uses it"]),
        ("params.yaml", [("monitor.kind", "ground_truth")], ["monitor.kind is ground_truth", "nothing uses it", "gate.policy=labelled"]),
        ("params.yaml", [("gate.policy", "labelled_masses")], ["gate.policy is labelled_masses", "monitor.kind is none", "set monitor.kind=ground_truth"]),
        (
            "params.yaml",
            [("gate.policy", "none"), ("monitor.kind", "direction"), ("monitor.use", "penalty")],
            ["monitor.kind is direction", "monitor.use is penalty", "set monitor.kind=direction and monitor.use=discount, or neither"],
        ),
        ("params.yaml", [("gate.policy", "none"), ("monitor.kind", "probe"), ("monitor.use", "discount")], ["monitor.kind is probe", "discount"]),
        (
            "params.yaml",
            [("gate.policy", "none"), ("monitor.kind", "direction"), ("monitor.use", "discount"), ("gate.refresh_every", 5)],
            ["monitor.kind is direction", "gate.refresh_every is 5", "set it to 0"],
        ),
        ("params.yaml", [*DEMONSTRATED, ("gate.policy", "none"), ("curriculum.inoculate", True)], ["'curriculum'", "curriculum.inoculate is true", "set it to false"]),
        ("params.yaml", [("curriculum.inoculate", True)], ["curriculum.inoculate is true", "gate.policy is route", "set gate.policy=none"]),
        ("params.yaml", [("monitor.judge", "https://a/v1")], ["'monitor'", "https://a/v1", "set monitor.judge_model"]),
        ("params.yaml", [("monitor.judge_model", "m")], ["'monitor'", "'artifacts/base'", "'m'"]),
        ("params.yaml", [("gate.direction", "v_act"), ("gate.draw", 3)], ["'gate'", "gate.draw is 3", "v_act"]),
        (
            "params.yaml",
            [("curriculum.hack_demos", 1)],
            ["'curriculum'", "curriculum.until_step is 0", "set both, or both to 0"],
        ),
        ("params.yaml", [("gate.warmup", 9000)], ["'gate'", "gate.warmup is 9000", "gate.buffer holds 8192", "lower gate.warmup"]),
        ("params.yaml", [("curriculum.until_step", 5)], ["'curriculum'", "solve_demos is 0", "until_step is 5"]),
        ("params.yaml", [*DEMONSTRATED, ("curriculum.known_modes", [])], ["'curriculum'", "names no mode", "hack_demos=0"]),
        ("params.yaml", [*DEMONSTRATED, ("curriculum.hack_demos", 7)], ["solve_demos is 7", "a group has 6", "lower them"]),
        ("params.yaml", [*DEMONSTRATED, ("curriculum.hack_demos", 9), ("gate.policy", "none")], ["is 9", "a group has 8"]),
        (
            "profiles/toy.yaml",
            [("train.group", 6), ("train.gen_deploy_frac", 0.25)],
            ["'train'", "train.gen_deploy_frac is 1.5", "whole number"],
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused_by_file_and_key(
    root: Path, file: str, changes: list[tuple[str, object]], words: list[str]
) -> None:
    message = _refusal(root, file, *changes)
    assert file in message
    for word in words:
        assert word in message


def test_demonstrations_may_take_every_full_copy_and_no_more(root: Path) -> None:
    for key, value in [*DEMONSTRATED, ("curriculum.hack_demos", 6)]:
        _change(root, "params.yaml", key, value)
    assert load_settings(root).curriculum.hack_demos == 6


@pytest.mark.parametrize(
    "policy, kind, use",
    [("labelled", "ground_truth", "none"), ("route", "none", "none")]
    + [("none", kind, use) for kind in ("ground_truth", "probe", "judge") for use in ("penalty", "screening")],
)
def test_an_arm_with_one_intervention_is_accepted(root: Path, policy: str, kind: str, use: str) -> None:
    for key, value in (("gate.policy", policy), ("monitor.kind", kind), ("monitor.use", use)):
        _change(root, "params.yaml", key, value)
    settings = load_settings(root)
    assert (settings.gate.policy, settings.monitor.kind, settings.monitor.use) == (policy, kind, use)


@pytest.mark.parametrize("deployed, group", [(0.1, 10), (0.3, 10), (0.7, 10), (0.25, 8), (0.0, 3), (1.0, 5)])
def test_a_group_that_divides_is_accepted(root: Path, deployed: float, group: int) -> None:
    _change(root, "profiles/toy.yaml", "train.group", group)
    _change(root, "profiles/toy.yaml", "train.gen_deploy_frac", deployed)
    assert load_settings(root).profile.train.group == group


def test_every_error_of_a_file_is_in_one_message(root: Path) -> None:
    message = _refusal(root, "profiles/toy.yaml", ("train.steps", 0), ("train.clip", "x"), ("eval.samples", None))
    for key in ("train.steps", "train.clip", "eval.samples"):
        assert f"'{key}'" in message


def test_settings_cannot_be_changed_after_loading() -> None:
    settings: Settings = load_settings(ROOT)
    with pytest.raises(ValueError, match="frozen"):
        settings.seed = 1
    with pytest.raises(ValueError, match="frozen"):
        settings.gate.draw = 1


def test_a_derived_seed_is_pinned() -> None:
    assert derive_seed(41, "sampling", 3) == 5015974360797767644
    assert derive_seed(0) == 3456079177858693020


def test_distinct_names_give_distinct_seeds() -> None:
    names = [(root, *rest) for root in (0, 1, 41) for rest in [(), ("a",), ("b",), ("a", "b"), ("ab",), ("a", 0), (1,)]]
    names += [(41, "sampling", step) for step in range(500)] + [(4, 1, "sampling"), (41, "gate", 3)]
    seeds = {derive_seed(*name) for name in names}
    assert len(seeds) == len(set(names))
    assert all(0 <= seed < 1 << 63 for seed in seeds)


def test_the_page_of_settings_is_made_from_the_code():
    page = settings_page(load_settings())
    assert Path("docs/settings.md").read_text() == page, "run python -m stages.settings_page"
    rows = {line.split("`")[1]: [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| `gate.")}
    assert set(rows) == {f"gate.{name}" for name in Gate.model_fields}
    assert rows["gate.half_life"][1:] == ["number over 0 or null", "`96.0`", "rollouts after which a score counts half in the quantiles; null: all count alike"]
    assert not any("|" in comment for row in rows.values() for comment in row)


def _extending(root: Path, text: str, name: str = "mine") -> None:
    (root / f"profiles/{name}.yaml").write_text(text)


def test_a_profile_that_extends_another_has_its_settings_but_for_its_own(root: Path) -> None:
    toy = load_settings(root).profile
    edit(root / "params.yaml", "profile: toy", "profile: mine")
    _extending(root, "extends: toy\ntrain: {steps: 7}\nproblems:\n  seed: 3\n")
    mine = load_settings(root).profile
    assert mine.train == toy.train.model_copy(update={"steps": 7}) and mine.problems == toy.problems.model_copy(update={"seed": 3})
    assert mine.model_copy(update={"train": toy.train, "problems": toy.problems}) == toy
    _extending(root, "extends: mine\ngrading: {workers: 5}\n", "third")
    edit(root / "params.yaml", "profile: mine", "profile: third")
    third = load_settings(root).profile
    assert (third.train.steps, third.grading.workers, third.grading.cpu_s) == (7, 5, toy.grading.cpu_s)
    whole = "extends: smollm2\nmodel: {kind: folder, device: cpu, path: models/mine, dtype: float32}\n"
    _extending(root, whole, "third")  # a section of another kind stands alone
    assert load_settings(root).profile.model.model_dump() == {"kind": "folder", "device": "cpu", "path": "models/mine", "dtype": "float32"}


@pytest.mark.parametrize(
    "text, message",
    [
        ("extends: toy\ntrain: {stepz: 7}\n", r"mine\.yaml: key 'train.stepz': unknown key"),
        ("extends: toy\nmodel: {kind: folder, device: cpu, dtype: float32}\nproblems: {kind: authored}\n", r"mine\.yaml: key 'model.path': the key is missing"),
        ("extends: absent\n", r"mine\.yaml: key 'extends': .*absent\.yaml does not exist; known profiles: .*toy"),
        ("extends: 3\n", r"mine\.yaml: key 'extends': found 3, expected the name"),
        ("extends: mine\n", r"mine\.yaml: key 'extends': mine extends this profile itself"),
        ("extends: loop\n", r"loop\.yaml: key 'extends': mine extends this profile itself"),
        ("extends: wrong\n", r"wrong\.yaml: key 'train.stepz': unknown key"),
    ],
)
def test_a_profile_that_cannot_be_extended_is_refused_by_file_and_key(root: Path, text: str, message: str) -> None:
    edit(root / "params.yaml", "profile: toy", "profile: mine")
    _extending(root, text)
    _extending(root, "extends: mine\n", "loop")
    _extending(root, "extends: toy\ntrain: {stepz: 7}\n", "wrong")
    with pytest.raises(SettingsError, match=message):
        load_settings(root)


def test_an_arm_may_be_routed_by_a_table_of_the_user_s_own(root: Path) -> None:
    edit(root / "params.yaml", "direction: v_act", "direction: directions/mine.parquet")
    settings = load_settings(root)
    assert settings.gate.direction_name == "mine" and not settings.uses_ground_truth
    edit(root / "params.yaml", "refresh_every: 0", "refresh_every: 5")
    edit(root / "params.yaml", r"site: bottleneck", "site: output")
    edit(root / "params.yaml", r"features: \[bottleneck\]", "features: [output]")
    with pytest.raises(SettingsError, match="refresh_every is 5, but directions/mine.parquet is defined by no pair"):
        load_settings(root)
