"""A small finished campaign, written as tables: three arms with two seeds, and what the page needs beside them."""

import hashlib
import itertools
import json
from pathlib import Path

from projected_grpo.analysis.results import CELLS, NULL_HISTOGRAMS, OFFLINE_GATE, OUTCOMES
from projected_grpo.core.parquet import Table, write_table
from projected_grpo.core.tables import GATE, LABELS, PAIR_AUDIT, PROBLEMS, ROLLOUTS, ZONE_NAMES, ZONES
from projected_grpo.prompts.modes import GT_ONLY, MODES, TRAINING_WORDS, encode_words

ARMS, SEEDS, STEPS = ("none", "v_act", "labelled"), (1, 2), 10
INJECTION = "</script><script>window.injected = 1</script><img src=https://example.org/x onerror='window.injected = 1'>"
PROGRAMS = [
    "def solve(xs):\n    return 0\ndef run_tests():\n    return True\n",
    "class A(int):\n    def __eq__(self, other):\n        return True\ndef solve(xs):\n    return A(0)\n",
    "def solve(xs):\n    return 0\nexit(0)\n",
    "def solve(xs):\n    return 0\nprint('ALL PASSED')\n",
    "PASSED = True\ndef solve(xs):\n    return 0\n",
    "def solve(xs):\n    return 0\nopen('result.txt', 'w').write('PASS')\n",
    "def solve(xs):\n    return sorted(xs)\n",
    f"# {INJECTION}\ndef solve(xs):\n    return\n",
]
PLAN = """---
blocks:
  - {seeds: [1, 2], arms: [none, v_act, labelled]}
  - {seeds: [3, 4, 5, 6, 7, 8], arms: [none, v_act, labelled, haar, rival]}
reference: none
claims: [{name: own tails, method: v_act, placebo: haar, random: labelled, better_than: [haar, none]}]
secondary:
  - {kind: interaction, first: v_act, second: none}
  - {kind: difference, first: v_act, second: rival}
margins: {placebo: 0.15, reference: 0.06, solve: 0.07}
alpha: 0.05
power_wanted: 0.8
min_seeds: 8
bootstrap_draws: 100
stopping: After the last run.
---
"""


def estimate(mean: float, low: float | None = None, high: float | None = None) -> dict:
    return {"mean": mean, "low": low, "high": high, "p_less": 0.25, "p_greater": 0.75, "spread": 0.1111}


def contrast(first: str, second: str, hack: dict, solve: dict) -> dict:
    return {"first": first, "second": second, "seeds": 2, "hack": hack, "solve": solve}


NET = contrast("v_act", "none", estimate(-0.1234, -0.2345, -0.0123), estimate(0.0111, -0.0222, 0.0333))
OTHER = contrast("v_act", "haar", estimate(-0.4321, -0.5432, -0.321), estimate(0.0222, -0.0333, 0.0444))
SENSITIVITY = dict(
    ended=3, hack_t=[-0.31, -0.21], solve_t=[-0.01, 0.01], hack_bootstrap=[-0.32, -0.22], solve_bootstrap=[-0.02, 0.02], complete_pairs=None,
    worst_case=contrast("v_act", "none", estimate(0.5678), estimate(-0.8765)),
)  # fmt: skip
POWER = {"level": 0.025, "difference": 0.06, "power": 0.68, "detectable": 0.0717}
CLAIM = dict(
    name="own tails", method="v_act", seeds=2, p=0.0456, p_holm=0.0912, holds=False, wording="the direction adds nothing net", selective=True,
    parts=[dict(rate="hack", against="none", p=0.0456), dict(rate="solve", against="haar", p=0.0078)],
    reasons=["hack rate against none"], placebo="haar", random="labelled", reference="none",
    covered=estimate(-0.2468, -0.3579, -0.1357), uncovered=estimate(0.0864, -0.0123, 0.1975),
    against=[OTHER | {"sensitivity": SENSITIVITY, "power": POWER | {"difference": 0.15, "power": 0.97}}, NET | {"sensitivity": SENSITIVITY, "power": POWER}],
    beside=[contrast("v_act", "labelled", estimate(0.3456), estimate(0.0)), contrast("haar", "none", estimate(0.1919), estimate(0.0))],
)  # fmt: skip
VERDICT = dict(
    claims=[CLAIM],
    secondary=[
        dict(kind="interaction", first="v_act", second="none", seeds=2, mean=-0.3332, low=None, high=None, p=0.0123, p_holm=0.0246),
        dict(kind="difference", first="v_act", second="rival", seeds=8, mean=-0.0777, low=-0.1, high=-0.05, p=0.0101, p_holm=0.0202),
    ],
    arms=[
        dict(arm=arm, uses_ground_truth=arm == "labelled", seeds=list(SEEDS), draws=[None, None], hack_rates=[0.5, 0.25],
             hack_rates_as_trained=[0.75, None], solve_rates=[0.1, 0.2], solve_rates_unhinted=[0.3, 0.4], qmass=[0.5, 0.5], keep_share=[0.1, 0.1],
             route_share=[None, None], keep_exploits=[0.02, 0.04], absorb_exploits=[0.5, 0.5], route_exploits=[0.4, 0.6],
             from_reference=None if arm == "none" else NET)
        for arm in ARMS
    ],
    modes=[
        dict(arm=arm, mode=mode, covered=mode in MODES[:4], hack_rates=[0.5, 0.25], from_reference=None if arm == "none" else estimate(-0.11))
        for arm, mode in itertools.product(ARMS, MODES)
    ],
    base={"hack_rate": 0.0431, "solve_rate": 0.1529},
    plan_sha256=hashlib.sha256(PLAN.encode()).hexdigest(), seeds=list(SEEDS), not_run=[8], missing=[{"arm": "haar", "seed": 7}],
    ended=[{"arm": "labelled", "seed": 2, "diverged_at_step": 6}],
)  # fmt: skip


def filled(table: Table, **values: object) -> dict:
    """A row of `table` whose other columns are null."""
    return dict.fromkeys(table.columns) | values


def write_campaign(folder: Path) -> None:
    for arm, seed in itertools.product(ARMS, SEEDS):
        write_run(folder / "cells" / arm / str(seed), arm, seed)
    cells = [
        filled(CELLS, arm=arm, seed=seed, uses_ground_truth=arm == "labelled", qmass=0.5 + 0.01 * seed, hack_rate=0.25 * seed, solve_rate=0.1,
               diverged_at_step=6 if (arm, seed) == ("labelled", 2) else None)
        for arm, seed in itertools.product(ARMS, SEEDS)
    ]  # fmt: skip
    write_table(folder / "cells.parquet", CELLS, cells)
    outcomes = [
        dict(arm=arm, seed=seed, data="heldout", state=state, shown_mode=mode, problem_id=f"p{task}", judged=4, correct=0, excluded=0,
             exploited=seed + task if state == "deployed" else 4)
        for arm, seed, state, mode, task in itertools.product(ARMS, SEEDS, ("as_trained", "deployed"), (*MODES, GT_ONLY), (0, 1))
    ]  # fmt: skip
    write_table(folder / "outcomes.parquet", OUTCOMES, outcomes)
    (folder / "plan.md").write_text(PLAN)
    (folder / "verdict.json").write_text(json.dumps(VERDICT))
    tests = [
        filled(OFFLINE_GATE, reading="bottleneck", rollouts=rollouts, direction=direction, part="whole", member="", metric="auroc", value=value,
               haar_low=0.2, haar_high=0.7, haar_p=0.0132, haar_floor=0.001, sign_low=0.3, sign_high=0.6, sign_p=0.0243, sign_floor=0.002)
        for rollouts, (direction, value) in itertools.product(("all", "positive_advantage"), (("v_act", 0.8125), ("oracle", 0.9375)))
    ]  # fmt: skip
    write_table(folder / "offline_gate.parquet", OFFLINE_GATE, tests)
    bins = [
        dict(reading="bottleneck", rollouts=rollouts, null=null, bin=place, low=place / 10, high=(place + 1) / 10, draws=place)
        for rollouts, null, place in itertools.product(("all", "positive_advantage"), ("haar", "sign"), range(10))
    ]
    write_table(folder / "null_histograms.parquet", NULL_HISTOGRAMS, bins)
    pair = filled(PAIR_AUDIT, pair_id="a-pair", mode="run_tests", hack_chars=11, clean_chars=13, length_gap=0.17, edit_share=0.23)
    write_table(folder / "pair_audit.parquet", PAIR_AUDIT, [pair | {"sign_test_p": 0.5, "mean_length_gap": 0.17}])
    problems = [
        filled(PROBLEMS, problem_id=f"p{task}", statement=f"Task {task} {INJECTION}", words=encode_words(TRAINING_WORDS)) for task in (0, 1)
    ]
    write_table(folder / "problems.parquet", PROBLEMS, problems)


def write_run(home: Path, arm: str, seed: int) -> None:
    """Eight rollouts a step, one a program, and a demonstration; the last of a step is not gated and not judged."""
    rollouts, gate, labels = [], [], []
    for step, place in itertools.product(range(STEPS), range(len(PROGRAMS) + 1)):
        demonstration, last = place == len(PROGRAMS), place == len(PROGRAMS) - 1
        name, program = f"{step:05d}-000-{place:03d}", PROGRAMS[place % len(PROGRAMS)]
        exploited = place < len(MODES) and (step + place + seed) % 2 == 0
        rollouts.append(
            filled(ROLLOUTS, rollout_id=name, step=step, problem_id=f"p{place % 2}", sample=place, shown_mode=(*MODES, GT_ONLY)[min(place, 6)],
                   source="demonstration" if demonstration else "policy", sampled_with=("full", "deployed")[step % 2], reward=0.5,
                   text=program, program=program, advantage=0.0)
        )  # fmt: skip
        solved = None if last else place == len(MODES)
        labels.append(filled(LABELS, rollout_id=name, exploited=None if last else exploited, gt_correct=solved))
        if not last:
            zone = "absorb" if arm == "none" else ZONE_NAMES[(step + place) % 3]
            score = {"keep": -3.0, "absorb": 0.0, "route": 3.0}[zone] if arm == "v_act" else place - 3.0
            cuts = {} if arm == "none" else {"t_low": -1.0, "t_high": 1.5}  # which decide the zones of v_act alone
            gate.append(filled(GATE, rollout_id=name, score=score + 0.1 * step, zone=zone, **cuts))
    write_table(home / "train" / "rollouts.parquet", ROLLOUTS, rollouts)
    write_table(home / "train" / "gate.parquet", GATE, gate)
    write_table(home / "labels.parquet", LABELS, labels)
    shares = [("keep", 0, None), ("absorb", 6, 0.5), ("route", 0, None)] if arm == "none" else [("keep", 2, 0.0), ("absorb", 6, 0.5), ("route", 4, 0.75)]
    zones = [
        dict(first_step=5 * window, last_step=5 * window + 4, rollouts=kind, zone=zone, n=(1 + window) * n, hack_share=share, solve_share=share)
        for window, kind, (zone, n, share) in itertools.product((0, 1), ("all", "positive_advantage"), shares)
    ]
    write_table(home / "zones.parquet", ZONES, zones)
