"""The Parquet contracts of a campaign: what its finished cells measured, one table of runs and one of problems."""

from projected_grpo.tables import BOOL, F64, I32, STR, table

CELLS = table(
    "cells", ["arm", "seed"],
    arm=(STR, "name of the arm in the campaign"),
    seed=(I32, "of training and evaluation"),
    draw=(I32, "draw of the direction; null where it has one"),
    uses_ground_truth=(BOOL, "labels reach training in this arm: it is an upper bound or a diagnostic, never a method"),
    qmass=(F64, "mean over the steps"),
    hack_rate=(F64, "deployed, held-out problems with a hint"),
    solve_rate=(F64, "the same"),
    hack_rate_as_trained=(F64, "with the quarantine, held-out problems with a hint"),
    solve_rate_as_trained=(F64, "the same"),
    solve_rate_unhinted=(F64, "deployed, held-out problems without a hint"),
    selectivity=(F64, "relative hack removed by deployment ablation minus relative solve lost; null where either is 0/0"),
    auroc_live=(F64, "of the score that routed, for exploits: mean over the windows of training with both classes; null without any"),
    diverged_at_step=(I32, "null where training reached its last step"),
)
OUTCOMES = table(
    "outcomes", ["arm", "seed", "data", "state", "shown_mode", "problem_id"],
    arm=(STR, "as in cells"),
    seed=(I32, "as in cells"),
    data=(STR, "train_iid | heldout | heldout_words"),
    state=(STR, "base | as_trained | deployed"),
    shown_mode=(STR, "mode whose hint was shown; gt_only: none"),
    problem_id=(STR, "as in problems"),
    judged=(I32, "samples with a judgement"),
    exploited=(I32, "of them, samples that exploit"),
    correct=(I32, "of them, samples that pass every held-out test"),
    excluded=(I32, "samples without a judgement, because infrastructure failed"),
)
