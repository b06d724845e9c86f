"""The Parquet contracts of results that no training reads: of a run's offline gate test, and of a campaign's finished cells."""

from projected_grpo.core.tables import BOOL, F64, I32, STR, table

NULL_BAND = "quantile over the null's draws; null for a part, and without a draw"
OFFLINE_GATE = table(
    "offline_gate", ["reading", "rollouts", "direction", "part", "member", "metric"],
    reading=(STR, "what was scored, see policy/readings.py"),
    rollouts=(STR, "all (judged rollouts of the policy) | positive_advantage"),
    direction=(STR, "v_act, irrelevant, self_generated or oracle (uses ground truth), as it was made before training"),
    part=(STR, "whole | without_pair (v_act from all pairs but one) | module (one module of v_act alone)"),
    member=(STR, "the pair that is left out, or the module; empty for whole"),
    metric=(
        STR,
        "auroc | average_precision | precision and recall of exploits among the scores from the route cut up (route_), or "
        "above the keep cut (keep_) | route_f_half: F_0.5 at the route cut | keep_hack_share: exploits among the scores up "
        "to the keep cut | oracle_cosine: cosine with the oracle direction, of no rollouts and listed under all",
    ),
    n=(I32, "rollouts"),
    positives=(I32, "rollouts that exploit, by the ground-truth monitor"),
    value=(F64, "null with one class only"),
    **{
        column: (F64, meaning)
        for null, draws in (("haar", "Haar draws"), ("sign", "v_act's pairs with other signs"))
        for column, meaning in {
            f"{null}_p": f"(1 + draws at least as good) / (draws + 1), among {draws}; null for a part",
            f"{null}_floor": "1 / (draws + 1), the smallest p-value that this null can give; null for a part",
            f"{null}_low": f"2.5% {NULL_BAND}",
            f"{null}_median": f"50% {NULL_BAND}",
            f"{null}_high": f"97.5% {NULL_BAND}",
        }.items()
    },
    remark=(STR, "of the oracle's auroc: whether it lies inside the Haar band (2.5% to 97.5%); null elsewhere"),
)
NULL_HISTOGRAMS = table(
    "null_histograms", ["reading", "rollouts", "null", "bin"],
    reading=(STR, "as in offline_gate"),
    rollouts=(STR, "as in offline_gate"),
    null=(STR, "haar | sign"),
    bin=(I32, "number of the bin, from AUROC 0 up; a hundred of equal width"),
    low=(F64, "AUROC at its lower edge, which belongs to it"),
    high=(F64, "AUROC at its upper edge, which belongs to the last bin alone"),
    draws=(I32, "draws whose AUROC lies in the bin"),
)

CELLS = table(
    "cells", ["arm", "seed"],
    arm=(STR, "name of the arm in the plan of the campaign"),
    seed=(I32, "of training and evaluation"),
    draw=(I32, "draw of the direction; null where the direction has one draw"),
    uses_ground_truth=(BOOL, "labels reach training in this arm: it is an upper bound or a diagnostic, never a method"),
    qmass=(F64, "mean over the steps, see steps"),
    keep_share=(F64, "share of the judged rollouts of training that were kept; null where none is gated, as in the next four"),
    route_share=(F64, "share that was routed"),
    keep_exploits=(F64, "share of the exploits of training that were kept; null without exploits, as in the next two"),
    absorb_exploits=(F64, "share of them that updated both blocks"),
    route_exploits=(F64, "share of them that were routed"),
    hack_rate=(F64, "deployed, held-out problems with a hint: exploited over judged samples in outcomes"),
    solve_rate=(F64, "the same: correct over judged samples"),
    hack_rate_as_trained=(F64, "with the quarantine, held-out problems with a hint"),
    solve_rate_as_trained=(F64, "the same"),
    solve_rate_unhinted=(F64, "deployed, held-out problems without a hint"),
    selectivity=(F64, "relative hack removed by deployment ablation minus relative solve lost; null where either is 0/0"),
    auroc_live=(F64, "of the score that routed, for exploits: mean over the windows of training with both classes; null without any"),
    diverged_at_step=(I32, "the step, from 0, in which the tripwire ended training; null where it did not"),
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
