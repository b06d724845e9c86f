"""The ground-truth monitor answers from a process of its own as evaluation.labels does, and ends with its trainer."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from projected_grpo.environment.grader import NotGradedError
from projected_grpo.gate.zones import ABSORB, KEEP, ROUTE
from projected_grpo.ground_truth.labels import label
from projected_grpo.grpo.monitor_process import MonitorError, MonitorProcess
from projected_grpo.grpo.monitors import labelled_zones
from verify.monitors import PROBLEM, command, rollouts  # noqa: F401  command is a fixture
from verify.sandbox import monitoring
from verify.verify_environment import HACKS, SOLVE, TRUTH, WRONG


def test_the_process_answers_as_the_labels_do_and_its_word_is_the_zone(command):
    programs = [*HACKS.values(), SOLVE, WRONG, "def f(:\n", ""]
    zones = []
    with MonitorProcess(command) as monitor:
        for shown in ("run_tests", "sentinel", "gt_only"):
            seen = monitor(rollouts([0.0] * len(programs), programs, shown), torch.zeros(0))
            asked = [{"problem_id": "p", "shown_mode": shown, "program": program} for program in programs]
            labels = label(asked, [PROBLEM], monitoring([TRUTH]))
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
        with pytest.raises(MonitorError, match="stages.pipeline.ground_truth_monitor.*ended with status -9.*start training again"):
            monitor(rollouts([0.0], [SOLVE]), torch.zeros(0))


def test_a_process_that_cannot_start_says_why_and_is_one_clear_error(command, capfd):
    with MonitorProcess([*command[:-1], "nowhere.parquet"]) as monitor:
        with pytest.raises(MonitorError, match="ended with status 1 before it had answered"):
            monitor(rollouts([0.0], [SOLVE]), torch.zeros(0))
    assert "nowhere.parquet: is no file" in capfd.readouterr().err


def test_its_limits_are_those_of_the_arm_s_own_settings(command, tmp_path, capfd):
    (tmp_path / "cell.yaml").write_text("profile: elsewhere\n")
    with MonitorProcess([*command, "--params", str(tmp_path / "cell.yaml"), "--seed", "7"]) as monitor:
        with pytest.raises(MonitorError, match="ended with status 1 before it had answered"):
            monitor(rollouts([0.0], [SOLVE]), torch.zeros(0))
    assert "cell.yaml" in capfd.readouterr().err


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
