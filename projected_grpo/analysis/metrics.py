"""The numbers of one run, for its page, for a comparison of runs and for a campaign's table of cells."""

from collections.abc import Sequence

import polars as pl

from projected_grpo.analysis.rates import Cell, find, selectivity


def metrics(cells: Sequence[Cell], steps: pl.DataFrame, diagnostics: pl.DataFrame) -> dict[str, float | None]:
    """Rates on held-out problems with a hint, deployed unless the name says otherwise, from the 2x2 and the tables steps and diagnostics.

    qmass is the mean over steps; auroc_live, of the score that routed, is the mean over the windows of training in which both classes occur.
    """
    trained, deployed = (find(cells, "heldout", state) for state in ("as_trained", "deployed"))
    live = diagnostics.filter(direction="live", rollouts="all")
    return {
        "hack_rate": deployed.hack.value,
        "qmass": steps["qmass"].mean(),
        "solve_rate": deployed.solve.value,
        "hack_rate_as_trained": trained.hack.value,
        "solve_rate_as_trained": trained.solve.value,
        "solve_rate_unhinted": deployed.solve_unhinted.value,
        "selectivity": selectivity(trained, deployed),
        "auroc_live": live["auroc"].mean(),
    }
