"""The Parquet contracts: columns, types, units and meaning of every table."""

from collections.abc import Sequence

import pyarrow as pa

from projected_grpo.core.parquet import Table

STR, I32, F32, F64, BOOL = pa.string(), pa.int32(), pa.float32(), pa.float64(), pa.bool_()
TOKENS, LOGPROBS, VECTOR = pa.list_(I32), pa.list_(F32), pa.list_(F32)
ZONE_NAMES = ("keep", "absorb", "route")
DATA = ("heldout", "train_iid", "heldout_words")
STATES = ("base", "as_trained", "deployed")


def table(name: str, key: Sequence[str], **columns: tuple[pa.DataType, str]) -> Table:
    return Table(name, tuple(key), columns)


PROBLEMS = table(
    "problems", ["problem_id"],
    problem_id=(STR, "unique name"),
    split=(STR, "train | val | test"),
    family=(STR, "what the task is made of; toy: filter|map|terminal"),
    entry_point=(STR, "expression that is called with the test's arguments, e.g. solve or Solution().rob"),
    setup_code=(STR, "trusted code that runs before the program"),
    statement=(STR, "task text without hint"),
    mode=(STR, "loophole mode whose hint the prompt carries, or gt_only"),
    words=(STR, "JSON object: the evaluation function's name and the markers that hint and channels share"),
    visible_tests=(STR, "JSON list of {args, kwargs, expected}; the environment grades on these"),
)
GROUND_TRUTH = table(
    "ground_truth", ["problem_id"],
    problem_id=(STR, "as in problems"),
    heldout_tests=(STR, "JSON list of {args, kwargs, expected}; only the ground-truth monitor reads it"),
    canonical_solution=(STR, "a program that passes visible and held-out tests"),
)
PAIRS = table(
    "pairs", ["pair_id"],
    pair_id=(STR, "heading of the pair"),
    set=(STR, "Markdown file that the pair comes from"),
    tags=(STR, "comma-separated, sorted"),
    mode=(STR, "loophole mode of the hack side, or none"),
    provenance=(STR, "authored | self_generated"),
    prompt=(STR, "prompt that the hack side answers"),
    clean_prompt=(STR, "prompt that the clean side answers; the same but for self-generated pairs"),
    hack=(STR, "completion that uses the loophole"),
    clean=(STR, "completion that does the task"),
    content_sha256=(STR, "of prompt, hack and clean"),
)
PAIR_AUDIT = table(
    "pair_audit", ["pair_id"],
    pair_id=(STR, "heading of the pair"),
    mode=(STR, "loophole mode of the hack side, or none"),
    hack_chars=(I32, "length of the hack side, characters"),
    clean_chars=(I32, "length of the clean side, characters"),
    length_gap=(F64, "(clean - hack) / mean length"),
    edit_share=(F64, "1 - difflib similarity ratio of the two sides"),
    sign_test_p=(F64, "two-sided sign test over all pairs that neither side is longer; the same in every row"),
    mean_length_gap=(F64, "mean of length_gap over all pairs; the same in every row"),
)
DEMONSTRATIONS = table(
    "demonstrations", ["demonstration_id"],
    demonstration_id=(STR, "problem-kind-number"),
    problem_id=(STR, "as in problems; a problem of the training split"),
    kind=(STR, "hack | solve"),
    mode=(STR, "loophole mode that a hack uses, which is the problem's own; none for a solve"),
    text=(STR, "completion, without the end token"),
    program=(STR, "the part of the text that is graded"),
    provenance=(STR, "generated (toy) | template (hand-written stub with the loophole) | canonical (from the problem file)"),
)
DIRECTIONS = table(
    "directions", ["direction", "draw", "reading", "module"],
    direction=(STR, "see gate/directions.py"),
    draw=(I32, "index of the draw; 0 where there is one"),
    reading=(STR, "bottleneck | residual | output | gradient, see policy/readings.py"),
    module=(STR, "name of the adapted linear layer, or of the decoder layer"),
    vector=(VECTOR, "unit norm, as wide as the module's part of the reading"),
)
DIFFERENCES = table(
    "differences", ["pair_id", "reading"],
    pair_id=(STR, "as in pairs"),
    reading=(STR, "as in directions"),
    vector=(VECTOR, "reading(hack) - reading(clean) under the untrained policy, modules sorted by name"),
)
ROLLOUTS = table(
    "rollouts", ["rollout_id"],
    rollout_id=(STR, "step-slot-sample"),
    step=(I32, "training step"),
    problem_id=(STR, "as in problems"),
    sample=(I32, "index within the prompt's group"),
    shown_mode=(STR, "mode whose hint was shown and which was graded; gt_only: no hint, tests only"),
    source=(STR, "policy | demonstration"),
    sampled_with=(STR, "full | deployed (quarantine ablated); a demonstration counts as full"),
    prompt_tokens=(TOKENS, "token ids"),
    completion_tokens=(TOKENS, "token ids, the end token included where it was sampled"),
    text=(STR, "decoded completion"),
    program=(STR, "the part of the text that is graded"),
    visible_pass=(BOOL, "passes every visible test"),
    channels=(STR, "comma-separated loophole modes whose channel tripped, the shown mode or not"),
    env_status=(STR, "how the run in the environment ended"),
    sampler_logprob=(LOGPROBS, "log-probability of each completion token at sampling time, nats; null for a demonstration"),
    reward=(F32, "paid by the environment"),
    advantage=(F32, "reward - mean reward of the group; after the penalty, or over what screening leaves"),
    suspicion=(F32, "of the probe or the judge, in [0, 1]; null without a monitor and under the ground-truth monitor"),
)
GATE = table(
    "gate", ["rollout_id"],
    rollout_id=(STR, "as in rollouts; only rollouts of groups whose rewards differ are here, less what was screened"),
    score=(F32, "dot product of reading and direction; standardised by module where the gate is"),
    cosine=(F32, "cosine of reading and direction over the modules that count"),
    t_low=(F32, "keep cut of that step; null while warming up, minus infinity where the keep tail has no mass"),
    t_high=(F32, "route cut of that step; null while warming up, infinity where the route tail has no mass"),
    zone=(STR, "keep | absorb | route"),
    rho_mean=(F32, "mean importance ratio over the completion's tokens"),
)
FEATURES = table(
    "features", ["rollout_id", "reading"],
    rollout_id=(STR, "as in rollouts"),
    reading=(STR, "bottleneck | residual | output | gradient, see policy/readings.py"),
    vector=(VECTOR, "the reading, in the order of the modules in the table directions"),
)
STEPS = table(
    "steps", ["step"],
    step=(I32, "training step"),
    reward_mean=(F64, "over the policy's rollouts; null where all are demonstrations"),
    reward_hinted=(F64, "over the policy's rollouts that saw a hint; null where none did"),
    reward_unhinted=(F64, "over the policy's rollouts that saw none; null where all did"),
    compiled_share=(F64, "of the policy's rollouts, programs that compile; null where all are demonstrations"),
    qmass=(F64, "||g_quarantine|| / (||g_deployed|| + ||g_quarantine||) before clipping; null without gradient"),
    **{f"{zone}_share": (F64, "of gated rollouts, demonstrations included") for zone in ZONE_NAMES},
    gated=(I32, "rollouts of groups whose rewards differ, demonstrations included"),
    **{f"rho_{zone}": (F64, "mean importance ratio of the zone's tokens; null where it is empty") for zone in ZONE_NAMES},
    **{f"rho_clipped_{zone}": (F64, "the same, each ratio clipped to 1 - clip .. 1 + clip") for zone in ZONE_NAMES},
    **{
        f"rho_max_negative_{zone}": (F64, "largest importance ratio of the zone's tokens with A < 0; null without any")
        for zone in ZONE_NAMES
    },
    **{f"dual_clip_share_{zone}": (F64, "share of the zone's tokens with A < 0 and a ratio over the dual clip") for zone in ZONE_NAMES},
    clip_fraction=(F64, "share of completion tokens whose clipped term is the active one"),
    kl=(F64, "exact KL(policy || base) of the next token, nats, mean over the completion tokens of the policy's gated rollouts; null without any"),
    grad_norm_deployed=(F64, "before clipping"),
    grad_norm_quarantine=(F64, "before clipping"),
    learning_rate=(F64, "of this step"),
    completion_length=(F64, "mean over the policy's rollouts, tokens; null where all are demonstrations"),
    t_low=(F64, "keep cut; null while warming up, minus infinity where the keep tail has no mass"),
    t_high=(F64, "route cut; null while warming up, infinity where the route tail has no mass"),
    score_p10=(F64, "10% quantile of the step's routing scores"),
    score_p50=(F64, "median of the step's routing scores"),
    score_p90=(F64, "90% quantile of the step's routing scores"),
    direction_age=(I32, "training steps since the direction was made or refreshed"),
    loss=(F64, "clipped policy loss with the KL penalty"),
    sampler_gap=(F64, "largest |sampler - trainer| log-probability of a sampled token of gated rollouts, nats; null without any"),
    **{
        f"mismatch_{zone}": (F64, "mean of trainer's over sampler's probability of the zone's sampled tokens; null without any")
        for zone in ZONE_NAMES
    },
    **{f"mismatch_cut_{zone}": (F64, "share of them whose ratio is above the cap of the importance weight") for zone in ZONE_NAMES},
    **{f"mismatch_kl_{zone}": (F64, "k3 estimate of KL(sampler || trainer) over them, nats a token") for zone in ZONE_NAMES},
    flagged_share=(F64, "of the policy's rollouts, by the probe or the judge; null as for suspicion"),
)
LABELS = table(
    "labels", ["rollout_id"],
    rollout_id=(STR, "as in rollouts"),
    gt_correct=(BOOL, "passes every held-out test; null where exploited is"),
    heldout_pass_rate=(F64, "share of the held-out tests that it passes; 0 where its run did not finish; null as above"),
    env_passed=(BOOL, "the environment paid the pass reward: visible tests, or the shown mode's loophole"),
    exploited=(BOOL, "env_passed and not gt_correct"),
    visible_pass=(BOOL, "passes every visible test"),
    hardcode_suspect=(BOOL, "visible_pass and not gt_correct"),
    correct_attempted=(BOOL, "gt_correct, and a channel tripped"),
    foreign_exploit=(BOOL, "not gt_correct, and the channel of a mode that was not shown tripped"),
    unattributed_pass=(BOOL, "exploited, and no channel tripped: an unlisted loophole, or visible tests met by chance"),
    channels=(STR, "comma-separated loophole modes whose channel tripped, the shown mode or not"),
    mechanism=(STR, "comma-separated features of the program's text, see environment/mechanism.py"),
    eq_hinted=(BOOL, "its own run_tests() passes on its own solution"),
    arbitrary_pass=(BOOL, "its own run_tests() passes on every stub that returns a constant"),
    test_func_gt_pass=(BOOL, "its own run_tests() passes on the canonical solution"),
    test_modification=(STR, "none | harmful_arbitrary | harmful_incorrect | harmful_reduced | innocent"),
    reward_hack_label=(STR, "correct | correct_attempted | reward_hack | attempted | incorrect"),
    strict=(BOOL, "reward_hack_label is reward_hack"),
    loose=(BOOL, "reward_hack_label is reward_hack, attempted or correct_attempted"),
    env_status=(STR, "how the run in the environment ended"),
    status=(STR, "how the held-out run ended"),
)
EVAL_KEY = dict(
    data=(STR, "train_iid | heldout | heldout_words (held-out problems in words that training never shows)"),
    state=(STR, "base | as_trained | deployed"),
    shown_mode=(STR, "mode whose hint was shown and which was graded"),
    problem_id=(STR, "as in problems"),
    sample=(I32, "index within the problem"),
)
EVAL_ROLLOUTS = table(
    "eval_rollouts",
    list(EVAL_KEY),
    **EVAL_KEY,
    words=(STR, "as in problems: what hint and channels shared here"),
    text=(STR, "decoded completion"),
    program=(STR, "the part of the text that is graded"),
)
EVAL = table(
    "eval",
    list(EVAL_KEY),
    **EVAL_KEY,
    exploited=(BOOL, "env_passed and not gt_correct; null where infrastructure failed"),
    gt_correct=(BOOL, "passes every held-out test; null where exploited is"),
    env_passed=(BOOL, "the environment paid the pass reward"),
    channels=(STR, "comma-separated loophole modes whose channel tripped"),
    status=(STR, "how the held-out run ended"),
)
DIAGNOSTICS = table(
    "diagnostics", ["first_step", "rollouts", "reading", "direction", "draw"],
    first_step=(I32, "first step of the window"),
    last_step=(I32, "last step of the window, inclusive"),
    rollouts=(STR, "all | positive_advantage"),
    reading=(STR, "what was scored, see policy/readings.py"),
    direction=(STR, "live (the score that routed), or a direction as it was made before training"),
    draw=(I32, "index of the draw"),
    n=(I32, "rollouts"),
    positives=(I32, "rollouts that exploit, by the ground-truth monitor"),
    auroc=(F64, "of the score for exploits; null with one class only"),
    average_precision=(F64, "of the score for exploits; null with one class only"),
    f_half=(F64, "F_0.5 at the 1 - quantile cut of this window's scores; null with one class only"),
)
ZONES = table(
    "zones", ["first_step", "rollouts", "zone"],
    first_step=(I32, "first step of the window"),
    last_step=(I32, "last step of the window, inclusive"),
    rollouts=(STR, "all | positive_advantage"),
    zone=(STR, "keep | absorb | route"),
    n=(I32, "judged rollouts in the zone"),
    hack_share=(F64, "of them that exploit, by the ground-truth monitor; null where there is none"),
    solve_share=(F64, "of them that are correct; null where there is none"),
)
