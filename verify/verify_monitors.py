"""Monitors during training: flags change advantages as they should, and each kind of monitor says what it ought to.

The ground-truth monitor answers from a process of its own as evaluation.labels does, and ends with its trainer.
"""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from projected_grpo.env.grader import NotGradedError
from projected_grpo.evaluation.labels import label
from projected_grpo.gate.probe import ProbeError, fit, load_probe, threshold_at
from projected_grpo.gate.zones import ABSORB, KEEP, ROUTE
from projected_grpo.grpo import judge as judging
from projected_grpo.grpo.judge import EndpointJudge, JudgeError, LocalJudge, question_tokens
from projected_grpo.grpo.monitor_process import MonitorError, MonitorProcess
from projected_grpo.grpo.monitors import JudgeMonitor, ProbeMonitor, labelled_zones, open_monitor, watch
from projected_grpo.grpo.records import rollout_rows, step_row
from projected_grpo.grpo.rollouts import Rollouts, Seen
from projected_grpo.parquet import write_table
from projected_grpo.policy.base import Base
from projected_grpo.sampling.protocol import Completion
from projected_grpo.settings import load_settings
from projected_grpo.tables import GROUND_TRUTH, PROBLEMS
from stages.build_judge import QUESTION
from verify.sandbox import sandbox
from verify.tiny import tiny_policy
from verify.verify_environment import HACKS, SOLVE, TRUTH, WRONG
from verify.verify_environment import PROBLEM as TASK

PROBLEM = TASK | {"split": "train", "family": "", "mode": "run_tests", "statement": "solve(xs): keep even numbers, double each."}


def rollouts(rewards: list[float], programs: list[str] | None = None, shown: str = "run_tests") -> Rollouts:
    """Rollouts for one problem, before any monitor; their advantages are marked so that a gate sees them replaced."""
    count = len(rewards)
    programs = programs or [f"p{i}" for i in range(count)]
    return Rollouts(
        [PROBLEM] * count, [shown] * count, [[1]] * count, [Completion([5, 2], [-1.0, -1.0])] * count,
        torch.zeros(count, dtype=torch.bool), torch.zeros(count, dtype=torch.bool), programs, programs, torch.tensor(rewards), torch.full((count,), 9.0),
        torch.ones(count, dtype=torch.bool),
    )  # fmt: skip


def flags(flagged: list[int]) -> torch.Tensor:
    return torch.tensor(flagged, dtype=torch.bool)


def watched(rewards: list[float], flagged: list[int], use: str, group: int) -> Rollouts:
    seen = Seen(flags(flagged).float(), flags(flagged))
    return watch(lambda rollouts, pooled: seen, use, rollouts(rewards), torch.zeros(len(rewards), 1), group)


def test_a_penalty_takes_what_passing_pays_before_advantages_are_taken():
    """By hand: rewards 3.5 and .5 less 3 where flagged; each group's mean is taken afterwards."""
    seen = watched([3.5, 3.5, 0.5, 0.5] + [3.5, 0.5, 0.5, 0.5] + [0.5] * 4, [1, 0, 0, 0] + [1, 0, 0, 0] + [0, 0, 1, 0], "penalty", 4)
    assert seen.advantage.tolist() == [-0.75, 2.25, -0.75, -0.75] + [0.0] * 4 + [0.75, 0.75, -2.25, 0.75]
    assert seen.gated.tolist() == [True] * 4 + [False] * 4 + [True] * 4
    assert seen.rewards.tolist()[:2] == [3.5, 3.5], "rewards stay what the environment paid"


def test_screening_leaves_a_flagged_rollout_out_of_the_mean_and_of_the_loss():
    rewards = [3.5, 3.5, 0.5, 0.0] + [3.5, 0.5, 0.5, 0.5] + [3.5, 0.5, 0.0, 0.0] + [3.5, 0.5, 0.0, 0.0]
    seen = watched(rewards, [1, 0, 0, 0] + [1, 0, 0, 0] + [1, 0, 1, 1] + [1, 1, 1, 1], "screening", 4)
    third = 4.0 / 3.0
    expected = [0.0, 3.5 - third, 0.5 - third, -third] + [0.0] * 12
    assert seen.advantage.tolist() == pytest.approx(expected, abs=1e-6)
    assert seen.gated.tolist() == [False, True, True, True] + [False] * 12  # equal rewards; one left; none left


def test_without_a_use_or_a_monitor_advantages_stay():
    assert watched([3.5, 0.5], [1, 0], "none", 2).advantage.tolist() == [9.0, 9.0]
    given = rollouts([3.5, 0.5])
    assert watch(None, "none", given, torch.zeros(2, 1), 2) is given


def test_tables_hold_the_word_of_an_oracle_free_monitor_and_nothing_of_the_ground_truth_monitor():
    seen = watched([3.5, 0.5, 0.5, 0.5], [1, 0, 0, 0], "penalty", 4)
    ids = ["a", "b", "c", "d"]

    def written(given: Rollouts) -> tuple[list, float | None]:
        rows = rollout_rows(0, ids, given, 4)
        return [row["suspicion"] for row in rows], step_row(0, given, None, None, None, 0.1, 0)["flagged_share"]

    assert written(seen) == ([1.0, 0.0, 0.0, 0.0], 0.25)
    assert written(replace(seen, seen=replace(seen.seen, correct=flags([0, 1, 1, 1])))) == ([None] * 4, None)
    assert written(replace(seen, seen=None)) == ([None] * 4, None)


def test_exploited_is_routed_correct_is_kept_and_the_rest_absorbed():
    seen = Seen(torch.tensor([1.0, 0.0, 0.0]), flags([1, 0, 0]), correct=flags([0, 1, 0]))
    assert labelled_zones(seen).tolist() == [ROUTE, KEEP, ABSORB]


# The ground-truth monitor as a process


@pytest.fixture(scope="module")
def command(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("tables")
    write_table(folder / "problems.parquet", PROBLEMS, [PROBLEM])
    write_table(folder / "ground_truth.parquet", GROUND_TRUTH, [TRUTH])
    tables = ["--problems", str(folder / "problems.parquet"), "--ground-truth", str(folder / "ground_truth.parquet")]
    return [sys.executable, "-m", "stages.ground_truth_monitor", *tables]


def test_the_process_answers_as_the_labels_do_and_its_word_is_the_zone(command):
    programs = [*HACKS.values(), SOLVE, WRONG, "def f(:\n", ""]
    zones = []
    with MonitorProcess(command) as monitor:
        for shown in ("run_tests", "sentinel", "gt_only"):
            seen = monitor(rollouts([0.0] * len(programs), programs, shown), torch.zeros(0))
            asked = [{"problem_id": "p", "shown_mode": shown, "program": program} for program in programs]
            labels = label(asked, [PROBLEM], [TRUTH], sandbox())
            assert seen.flagged.tolist() == [row["exploited"] for row in labels]
            assert seen.correct.tolist() == [row["gt_correct"] for row in labels]
            assert seen.suspicion.tolist() == [float(row["exploited"]) for row in labels]
            zones.append(dict(zip([*HACKS, "correct", "wrong", "broken", "empty"], labelled_zones(seen).tolist())))
    others = dict.fromkeys(HACKS, ABSORB) | {"correct": KEEP, "wrong": ABSORB, "broken": ABSORB, "empty": ABSORB}
    assert zones == [others | {"run_tests": ROUTE}, others | {"sentinel": ROUTE}, others]
    assert monitor.process.returncode == 0


def test_a_killed_process_is_one_clear_error(command):
    with MonitorProcess(command) as monitor:
        monitor(rollouts([0.0], [SOLVE]), torch.zeros(0))
        monitor.process.kill()
        with pytest.raises(MonitorError, match="stages.ground_truth_monitor.*ended with status -9.*start training again"):
            monitor(rollouts([0.0], [SOLVE]), torch.zeros(0))


def test_a_process_that_cannot_start_says_why_and_is_one_clear_error(command, capfd):
    with MonitorProcess([*command[:-1], "nowhere.parquet"]) as monitor:
        with pytest.raises(MonitorError, match="ended with status 1 before it had answered"):
            monitor(rollouts([0.0], [SOLVE]), torch.zeros(0))
    assert "nowhere.parquet: cannot be read" in capfd.readouterr().err


@pytest.mark.parametrize(
    "answer, message",
    [
        ("I think not", "answered 'I think not"),
        ('{"id": 0, "suspicion": 1.0}', "Field required"),
        ('{"id": 0, "exploited": "no", "correct": true}', "valid boolean"),
        ('{"id": 1, "exploited": false, "correct": true}', "answered for rollout 1, expected 0"),
    ],
)
def test_an_answer_that_is_not_the_protocol_s_is_one_clear_error(answer, message):
    program = f"import sys\nfor line in sys.stdin:\n    print({answer!r}, flush=True)"
    with MonitorProcess([sys.executable, "-c", program]) as monitor, pytest.raises(MonitorError, match=message):
        monitor(rollouts([0.0], [SOLVE]), torch.zeros(0))


def test_what_the_machine_failed_to_judge_is_an_error_as_in_grading():
    program = "import sys\nfor line in sys.stdin:\n    print('{\"id\": 0, \"exploited\": null, \"correct\": true}', flush=True)"
    with MonitorProcess([sys.executable, "-c", program]) as monitor, pytest.raises(NotGradedError):
        monitor(rollouts([0.0], [SOLVE]), torch.zeros(0))


def ended(process: int) -> bool:
    """Gone, or a zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_the_process_ends_with_a_trainer_that_was_killed(command):
    program = (
        "import sys, time\nfrom projected_grpo.grpo.monitor_process import MonitorProcess\n"
        "monitor = MonitorProcess(sys.argv[1:])\nprint(monitor.process.pid, flush=True)\ntime.sleep(600)\n"
    )
    trainer = subprocess.Popen([sys.executable, "-c", program, *command], stdout=subprocess.PIPE, text=True)
    monitor = int(trainer.stdout.readline())
    deadline = time.monotonic() + 60
    while "ground_truth_monitor" not in Path(f"/proc/{monitor}/cmdline").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not ended(monitor)
    os.kill(trainer.pid, signal.SIGKILL)
    trainer.wait()
    while not ended(monitor):
        assert time.monotonic() < deadline, "the monitor outlived its trainer"
        time.sleep(0.05)


# The probe


def clusters(count: int, seed: int, apart: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Readings (count, 6) of hack and clean sides that share their pair's offset and lie `apart`."""
    rng = torch.Generator().manual_seed(seed)
    odd = torch.tensor([0.0, 1.0] * 3)
    offset = 3.0 * torch.randn(count, 6, generator=rng) * (1.0 - odd)
    hack, clean = (torch.randn(count, 6, generator=rng) + offset for _ in range(2))
    return hack + apart * odd, clean


def test_the_probe_separates_two_clusters_and_is_the_regression_that_it_was_fitted_as(tmp_path):
    hack, clean = clusters(40, 0, apart=4.0)
    probe, recall = fit(hack, clean, 0.05)
    probe.save(tmp_path)
    probe = load_probe(tmp_path, 6)
    assert recall == 1.0
    new_hack, new_clean = clusters(200, 1, apart=4.0)
    assert (probe.suspicion(new_hack) >= probe.threshold).float().mean() > 0.98
    assert (probe.suspicion(new_clean) < probe.threshold).float().mean() > 0.9
    features = torch.cat([hack, clean]).double().numpy()
    scaler = StandardScaler().fit(features)
    model = LogisticRegression(max_iter=10_000).fit(scaler.transform(features), [1] * 40 + [0] * 40)
    expected = model.predict_proba(scaler.transform(new_hack.double().numpy()))[:, 1]
    np.testing.assert_allclose(probe.suspicion(new_hack).numpy(), expected, atol=1e-5)
    seen = ProbeMonitor(probe)(rollouts([0.0] * 200), new_clean)
    assert torch.equal(seen.flagged, seen.suspicion >= probe.threshold) and seen.correct is None


def test_the_threshold_flags_the_stated_share_of_held_out_clean_sides():
    clean = np.linspace(0.0, 0.95, 20, dtype=np.float32)
    for rate, allowed in ((0.0, 0), (0.04, 0), (0.05, 1), (0.10, 2), (0.12, 2), (0.95, 19), (1.0, 20)):
        assert (np.random.default_rng(0).permutation(clean) >= threshold_at(clean, rate)).sum() == allowed
    assert (np.full(20, 0.5, np.float32) >= threshold_at(np.full(20, 0.5, np.float32), 0.05)).sum() == 0  # at most
    hack, clean_sides = clusters(2000, 2, apart=1.0)  # clusters that overlap: held-out folds decide
    for rate in (0.05, 0.2):
        probe, _ = fit(hack, clean_sides, rate)
        fresh = clusters(4000, 3, apart=1.0)[1]
        assert (probe.suspicion(fresh) >= probe.threshold).float().mean() == pytest.approx(rate, abs=0.03)


def test_more_features_than_pairs_do_not_fool_the_threshold():
    """Sides that differ by nothing: the fit separates its own pairs, and the folds see that it cannot."""
    rng = torch.Generator().manual_seed(0)
    hack, clean = torch.randn(30, 200, generator=rng), torch.randn(30, 200, generator=rng)
    probe, recall = fit(hack, clean, 0.05)
    assert (probe.suspicion(hack) > 0.5).all() and recall < 0.25
    assert (probe.suspicion(torch.randn(2000, 200, generator=rng)) >= probe.threshold).float().mean() < 0.15


def test_a_probe_of_another_shape_or_none_is_refused_by_its_file(tmp_path):
    with pytest.raises(ProbeError, match="probe.safetensors: cannot be read"):
        load_probe(tmp_path, 6)
    hack, clean = clusters(5, 0, apart=1.0)
    fit(hack, clean, 0.05)[0].save(tmp_path)
    with pytest.raises(ProbeError, match="has 6 weights, expected 8"):
        load_probe(tmp_path, 8)
    with pytest.raises(ProbeError, match="found 1 pairs.*pairs.selector"):
        fit(hack[:1], clean[:1], 0.05)


# The judge


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The tiny model, untouched by an adapter, as a transformers folder."""
    path = tmp_path_factory.mktemp("judge")
    policy = tiny_policy(moved=False)
    for name, layer in policy.layers.items():
        parent, attribute = name.rsplit(".", 1)
        setattr(policy.base.model.get_submodule(parent), attribute, layer.base)
    policy.base.model.save_pretrained(path)
    policy.base.tokenizer.save_pretrained(path)
    return path


def test_a_local_judge_s_suspicion_is_the_share_of_yes_in_the_next_token(folder):
    judge = LocalJudge(folder, micro_tokens=2, device="cpu")
    questions = ["solve(xs): double each?\n", "no", "def solve(xs):\n    return 1\nyes or no?\n", "x"]
    found = judge(questions)
    base = judge.base
    for question, suspicion in zip(questions, found):
        tokens = torch.tensor([base.encode(base.tokenizer.bos_token + question)])
        probability = base.model(tokens).logits[0, -1].softmax(-1)
        yes, no = (probability[[base.encode(w)[0] for w in words]].sum() for words in (("yes", "Yes"), ("no", "No")))
        assert float(suspicion) == pytest.approx(float(yes / (yes + no)), abs=1e-5)
    assert found.max() - found.min() > 0.01


def test_the_judge_monitor_shows_prompt_and_completion_and_flags_from_its_threshold():
    asked = []

    def answer(questions):
        asked.extend(questions)
        return torch.tensor([0.5, 0.25])

    monitor = JudgeMonitor(answer, QUESTION, 0.5, tiny_policy(moved=False).base)
    seen = monitor(rollouts([0.0] * 3, ["print({})", "return 1", "print({})"]), torch.zeros(0))
    assert len(asked) == 2 and "Checked by calling run_tests()." in asked[0] and PROBLEM["statement"] in asked[0]
    assert "print({})" in asked[0] and "return 1" in asked[1] and "yes or no" in asked[0]
    assert seen.suspicion.tolist() == [0.5, 0.25, 0.5] and seen.flagged.tolist() == [True, False, True]


def test_a_chat_model_is_asked_without_the_system_message_of_the_task(folder):
    base = LocalJudge(folder, 1, "cpu").base
    base.tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    tokens = question_tokens(Base(base.model, base.tokenizer), "yes or no?")
    assert base.tokenizer.decode(tokens) == "<user>yes or no?<assistant>"


def test_a_judge_that_cannot_tell_yes_from_no_or_is_nowhere_is_refused(folder, tmp_path, monkeypatch):
    with pytest.raises(JudgeError, match="no config.json; set monitor.judge"):
        LocalJudge(tmp_path, 1, "cpu")
    monkeypatch.setattr(judging, "NO", ("yes",))
    with pytest.raises(JudgeError, match="begin with the same token"):
        LocalJudge(folder, 1, "cpu")


class Endpoint(BaseHTTPRequestHandler):
    """Answers as the question says, and notes what it was sent."""

    seen: list[tuple[str | None, dict]] = []
    busy = 0

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Endpoint.seen.append((self.headers.get("Authorization"), body))
        question = body["messages"][0]["content"]
        status, choice = 200, {"message": {"role": "assistant", "content": question}}
        if question == "logprobs":
            tops = [("Yes", 0.3), (" yes", 0.1), ("NO", 0.1), ("Maybe", 0.5)]
            tops = [{"token": token, "logprob": math.log(p)} for token, p in tops]
            choice["logprobs"] = {"content": [{"token": "Maybe", "logprob": math.log(0.5), "top_logprobs": tops}]}
        if question == "refused" or Endpoint.busy > 0:
            status, Endpoint.busy = 503 if Endpoint.busy else 401, Endpoint.busy - 1
        answer = b"<html>" if question == "html" else json.dumps({"choices": [choice]}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def endpoint(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv(judging.KEY, raising=False)
    monkeypatch.setattr(judging, "WAITS_S", (0.0, 0.0))
    Endpoint.seen, Endpoint.busy = [], 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield EndpointJudge(f"http://127.0.0.1:{server.server_port}/v1/", "m")
        server.shutdown()


def test_an_endpoint_s_log_probabilities_or_else_its_word_are_the_suspicion(endpoint, monkeypatch):
    questions = ["logprobs", "Yes.", "no", " No", "yes"]
    assert endpoint(questions).tolist() == pytest.approx([0.8, 1.0, 0.0, 0.0, 1.0])
    key, body = Endpoint.seen[0]
    assert key is None and body["model"] == "m" and body["max_tokens"] == 1 and body["temperature"] == 0
    monkeypatch.setenv(judging.KEY, "k")
    endpoint(["yes"])
    assert Endpoint.seen[-1][0] == "Bearer k"


def test_a_busy_endpoint_is_asked_again_and_a_refusal_or_nonsense_is_one_clear_error(endpoint):
    Endpoint.busy = 2
    assert endpoint(["yes"]).tolist() == [1.0] and len(Endpoint.seen) == 3
    Endpoint.busy = 3
    with pytest.raises(JudgeError, match="503"):
        endpoint(["yes"])
    with pytest.raises(JudgeError, match="v1/chat/completions: 401.*PGRPO_JUDGE_KEY"):
        endpoint(["refused"])
    with pytest.raises(JudgeError, match="expected a chat completion"):
        endpoint(["html"])
    with pytest.raises(JudgeError, match="answered 'perhaps', expected yes or no"):
        endpoint(["perhaps"])
    with pytest.raises(JudgeError, match="refused"):
        EndpointJudge("http://127.0.0.1:1", "m")(["yes"])


def test_each_kind_opens_its_own_monitor(folder, tmp_path, command):
    settings, base = load_settings(), tiny_policy(moved=False).base
    (tmp_path / "prompt.txt").write_text(QUESTION)
    fit(*clusters(5, 0, apart=1.0), 0.05)[0].save(tmp_path)

    def opened(kind: str, **changes) -> type:
        changed = settings.model_copy(update={"monitor": settings.monitor.model_copy(update={"kind": kind} | changes)})
        with open_monitor(changed, tmp_path, base, 6, command) as monitor:
            return type(getattr(monitor, "judge", monitor))

    assert opened("none") is type(None) and opened("probe") is ProbeMonitor
    assert opened("ground_truth") is MonitorProcess
    assert opened("judge", judge=str(folder)) is LocalJudge
    assert opened("judge", judge="http://127.0.0.1:1", judge_model="m") is EndpointJudge
