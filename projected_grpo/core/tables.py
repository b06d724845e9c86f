"""The Parquet contracts: the key, columns and types of every table. What a column means, and its unit, is in messages/columns.py."""

from collections.abc import Sequence

import pyarrow as pa

from projected_grpo.core.parquet import Table

STR, I32, F32, F64, BOOL = pa.string(), pa.int32(), pa.float32(), pa.float64(), pa.bool_()
TOKENS, LOGPROBS, VECTOR = pa.list_(I32), pa.list_(F32), pa.list_(F32)
ZONE_NAMES = ("keep", "absorb", "route")
DATA = ("heldout", "train_iid", "heldout_words")
STATES = ("base", "as_trained", "deployed")


def table(name: str, key: Sequence[str], **columns: pa.DataType) -> Table:
    return Table(name, tuple(key), columns)


PROBLEMS = table(
    "problems", ["problem_id"],
    problem_id=STR, split=STR, family=STR, entry_point=STR, setup_code=STR, statement=STR, mode=STR, words=STR, visible_tests=STR,
)
GROUND_TRUTH = table(
    "ground_truth", ["problem_id"],
    problem_id=STR, heldout_tests=STR, canonical_solution=STR,
)
PAIRS = table(
    "pairs", ["pair_id"],
    pair_id=STR, set=STR, tags=STR, mode=STR, provenance=STR, prompt=STR, clean_prompt=STR, hack=STR, clean=STR, content_sha256=STR,
)
PAIR_AUDIT = table(
    "pair_audit", ["pair_id"],
    pair_id=STR, mode=STR, hack_chars=I32, clean_chars=I32, length_gap=F64, edit_share=F64, sign_test_p=F64, mean_length_gap=F64,
)
DEMONSTRATIONS = table(
    "demonstrations", ["demonstration_id"],
    demonstration_id=STR, problem_id=STR, kind=STR, mode=STR, text=STR, program=STR, provenance=STR,
)
DIRECTIONS = table(
    "directions", ["direction", "draw", "reading", "module"],
    direction=STR, draw=I32, reading=STR, module=STR, vector=VECTOR,
)
DIFFERENCES = table(
    "differences", ["pair_id", "reading"],
    pair_id=STR, reading=STR, vector=VECTOR,
)
ROLLOUTS = table(
    "rollouts", ["rollout_id"],
    rollout_id=STR, step=I32, problem_id=STR, sample=I32, shown_mode=STR, source=STR, sampled_with=STR, prompt_tokens=TOKENS,
    completion_tokens=TOKENS, text=STR, program=STR, visible_pass=BOOL, channels=STR, env_status=STR, sampler_logprob=LOGPROBS,
    reward=F32, advantage=F32, suspicion=F32,
)
GATE = table(
    "gate", ["rollout_id"],
    rollout_id=STR, score=F32, cosine=F32, t_low=F32, t_high=F32, zone=STR, rho_mean=F32,
)
FEATURES = table(
    "features", ["rollout_id", "reading"],
    rollout_id=STR, reading=STR, vector=VECTOR,
)
STEPS = table(
    "steps", ["step"],
    step=I32, reward_mean=F64, reward_hinted=F64, reward_unhinted=F64, compiled_share=F64, qmass=F64,
    **{f"{zone}_share": F64 for zone in ZONE_NAMES}, gated=I32, **{f"rho_{zone}": F64 for zone in ZONE_NAMES},
    **{f"rho_clipped_{zone}": F64 for zone in ZONE_NAMES}, **{f"rho_max_negative_{zone}": F64 for zone in ZONE_NAMES},
    **{f"dual_clip_share_{zone}": F64 for zone in ZONE_NAMES}, clip_fraction=F64, kl=F64, grad_norm_deployed=F64,
    grad_norm_quarantine=F64, learning_rate=F64, completion_length=F64, t_low=F64, t_high=F64, score_p10=F64, score_p50=F64,
    score_p90=F64, direction_age=I32, loss=F64, sampler_gap=F64, **{f"mismatch_{zone}": F64 for zone in ZONE_NAMES},
    **{f"mismatch_cut_{zone}": F64 for zone in ZONE_NAMES}, **{f"mismatch_kl_{zone}": F64 for zone in ZONE_NAMES}, flagged_share=F64,
)
LABELS = table(
    "labels", ["rollout_id"],
    rollout_id=STR, gt_correct=BOOL, heldout_pass_rate=F64, env_passed=BOOL, exploited=BOOL, visible_pass=BOOL, hardcode_suspect=BOOL,
    correct_attempted=BOOL, foreign_exploit=BOOL, unattributed_pass=BOOL, channels=STR, mechanism=STR, eq_hinted=BOOL,
    arbitrary_pass=BOOL, test_func_gt_pass=BOOL, test_modification=STR, reward_hack_label=STR, strict=BOOL, loose=BOOL, env_status=STR,
    status=STR,
)
EVAL_KEY = dict(data=STR, state=STR, shown_mode=STR, problem_id=STR, sample=I32)
EVAL_ROLLOUTS = table(
    "eval_rollouts", list(EVAL_KEY),
    **EVAL_KEY, words=STR, text=STR, program=STR,
)
EVAL = table(
    "eval", list(EVAL_KEY),
    **EVAL_KEY, exploited=BOOL, gt_correct=BOOL, env_passed=BOOL, channels=STR, status=STR,
)
DIAGNOSTICS = table(
    "diagnostics", ["first_step", "rollouts", "reading", "direction", "draw"],
    first_step=I32, last_step=I32, rollouts=STR, reading=STR, direction=STR, draw=I32, n=I32, positives=I32, auroc=F64,
    average_precision=F64, f_half=F64,
)
ZONES = table(
    "zones", ["first_step", "rollouts", "zone"],
    first_step=I32, last_step=I32, rollouts=STR, zone=STR, n=I32, hack_share=F64, solve_share=F64,
)
