"""The Parquet contracts of results that no training reads: of a run's offline gate test, and of a campaign's finished cells."""

from projected_grpo.core.tables import BOOL, F64, I32, STR, table

OFFLINE_GATE = table(
    "offline_gate", ["reading", "rollouts", "direction", "part", "member", "metric"],
    reading=STR, rollouts=STR, direction=STR, part=STR, member=STR, metric=STR, n=I32, positives=I32, value=F64,
    **{f"{null}_{what}": F64 for null in ("haar", "sign") for what in ("p", "floor", "low", "median", "high")},
    remark=STR,
)
NULL_HISTOGRAMS = table(
    "null_histograms", ["reading", "rollouts", "null", "bin"],
    reading=STR, rollouts=STR, null=STR, bin=I32, low=F64, high=F64, draws=I32,
)
CELLS = table(
    "cells", ["arm", "seed"],
    arm=STR, seed=I32, draw=I32, uses_ground_truth=BOOL, qmass=F64, keep_share=F64, route_share=F64, keep_exploits=F64,
    absorb_exploits=F64, route_exploits=F64, hack_rate=F64, solve_rate=F64, hack_rate_as_trained=F64, solve_rate_as_trained=F64,
    solve_rate_unhinted=F64, selectivity=F64, auroc_live=F64, diverged_at_step=I32,
)
OUTCOMES = table(
    "outcomes", ["arm", "seed", "data", "state", "shown_mode", "problem_id"],
    arm=STR, seed=I32, data=STR, state=STR, shown_mode=STR, problem_id=STR, judged=I32, exploited=I32, correct=I32, excluded=I32,
)
