"""Error rates of the verdict's tests and coverage of its intervals, on simulated campaigns with a known difference.

Usage: `python -m bench.calibration --plan campaigns/toy/plan.md`. A campaign has the plan's seeds, 72 problems with four
samples and two runs a seed. A run's rate is close to binary or graded; a problem's rate lies around its run's, so samples
cluster in problems, and half of a problem's luck is its own in every run. Runs with one seed share a part of their luck. The
Haar draw differs from seed to seed, so its luck is part of its run's. The simulated pairs go through
`contrast.compare` and `verdict.decide`, as a campaign's do, with the machinery control taken as met. The table is
printed and the figure is written.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import matplotlib
import numpy as np
import typer
from scipy.special import betaincinv
from scipy.stats import norm

from projected_grpo.analysis.campaign import Pair
from projected_grpo.analysis.contrast import Comparison, compare, power_against
from projected_grpo.analysis.effects import paired
from projected_grpo.analysis.plan import Plan, load_plan
from projected_grpo.analysis.verdict import NO_DIFFERENCE, NOT_INFORMATIVE, PLACEBO, TREATMENT, decide
from projected_grpo.reporting.style import FAINT, INK, STYLE, canvas, key, svg
from projected_grpo.seeds import derive_seed

PROBLEMS, SAMPLES = 72, 4
LOW, HIGH = 0.05, 0.85  # hack rate of a run that did not learn to hack and of one that did
GRADED = 20.0  # concentration of a graded run's rate around its arm's mean: a standard deviation of 0.1
CLUSTER = 4.0  # concentration of a problem's rate around its run's
SEED_LUCK = 0.3  # correlation of the luck of two runs with one seed
SOLVES = 0.2  # share of the samples that do not exploit which are correct
PLACEBO_RATE = 0.6  # mean deployed hack rate of the placebo
EFFECTS = (0.0, -0.05, -0.1, -0.2, -0.3, -0.4)
NULL_TIMES = 4  # times as many campaigns without a difference, whose rate of rejection is the smallest
DRAWS = 400  # of the bootstrap
WORDINGS = (TREATMENT, NO_DIFFERENCE, PLACEBO, NOT_INFORMATIVE)


def binary(mean: float, luck: np.ndarray) -> np.ndarray:
    """Rates of runs that are LOW or HIGH. luck: uniform on (0, 1)."""
    return np.where(luck < (mean - LOW) / (HIGH - LOW), HIGH, LOW)


def graded(mean: float, luck: np.ndarray) -> np.ndarray:
    return betaincinv(mean * GRADED, (1 - mean) * GRADED, 1 - luck)


WORLDS: dict[str, tuple[Callable, Callable]] = {  # name -> rates of the treatment's and of the placebo's runs
    "runs close to binary": (binary, binary),
    "graded runs": (graded, graded),
    "treatment graded, placebo close to binary": (graded, binary),
}
MARKERS = {"runs close to binary": (INK, "o"), "graded runs": ("#6E6E6E", "s")}
MARKERS["treatment graded, placebo close to binary"] = (FAINT, "D")


def campaign(world: str, effect: float, seeds: int, rng: np.random.Generator) -> list[Pair]:
    """One simulated contrast whose expected difference of hack rates is `effect`."""
    shared, own = rng.standard_normal((seeds, 1)), rng.standard_normal((seeds, 2))
    luck = norm.cdf(np.sqrt(SEED_LUCK) * shared + np.sqrt(1 - SEED_LUCK) * own)
    means = (PLACEBO_RATE + effect, PLACEBO_RATE)
    rates = np.stack([kind(mean, luck[:, run]) for run, (kind, mean) in enumerate(zip(WORLDS[world], means))], axis=-1)
    everywhere, here = rng.standard_normal((PROBLEMS, 1)), rng.standard_normal((seeds, PROBLEMS, 2))
    rates = np.clip(rates, 1e-6, 1 - 1e-6)[:, None, :]
    by_problem = betaincinv(rates * CLUSTER, (1 - rates) * CLUSTER, norm.cdf((everywhere + here) / np.sqrt(2)))
    exploited = rng.binomial(SAMPLES, by_problem)
    correct = rng.binomial(SAMPLES - exploited, SOLVES)
    counts = np.stack([np.full_like(exploited, SAMPLES), exploited, correct], axis=-1).astype(float)
    qmass = rng.normal(0.0, 0.01, seeds)
    return [Pair(seed, counts[seed], float(qmass[seed])) for seed in range(seeds)]


def simulate(world: str, effect: float, plan: Plan, campaigns: int) -> tuple[list[Comparison], float]:
    """Comparisons of simulated campaigns, and the standard deviation of the difference between seeds over all of them."""
    rng = np.random.default_rng(derive_seed(0, "calibration", world, f"{effect:g}"))
    drawn = [campaign(world, effect, len(plan.seeds), rng) for _ in range(campaigns)]
    spread = float(np.std([paired(pairs)[:, 0] for pairs in drawn]))
    return [compare(pairs, plan, f"calibration {number}") for number, pairs in enumerate(drawn)], spread


def rates_of(found: list[Comparison], effect: float, spread: float, plan: Plan) -> dict[str, float]:
    """One row of the table: rejection rates, predicted power, coverage, and the share of each wording."""
    level, seeds = plan.alpha / 2, len(plan.seeds)
    said = Counter(decide(numbers, plan)[0] for numbers in found)
    row = {
        "campaigns": len(found),
        "spread": spread,
        "rejected at alpha": float(np.mean([numbers.hack_p <= plan.alpha for numbers in found])),
        "rejected at alpha/2": float(np.mean([numbers.hack_p <= level for numbers in found])),
        "power predicted": power_against(abs(effect), spread, seeds, level),
        "coverage": float(np.mean([numbers.hack_low <= effect <= numbers.hack_high for numbers in found])),
        "coverage at equal qmass": float(np.mean([_covers_at_equal_qmass(numbers, effect) for numbers in found])),
        "solve rejected at alpha": float(np.mean([numbers.solve_p <= plan.alpha for numbers in found])),
    }
    return row | {wording: said[wording] / len(found) for wording in WORDINGS}


def _covers_at_equal_qmass(numbers: Comparison, effect: float) -> bool:
    """qmass has no effect in the simulated campaigns, so the effect at equal qmass is the planted one."""
    return numbers.hack_at_equal_qmass_low <= effect <= numbers.hack_at_equal_qmass_high


def error(share: float, campaigns: int) -> float:
    return float(np.sqrt(share * (1 - share) / campaigns))


def words(name: str, value: float, campaigns: int) -> str:
    """A share of simulated campaigns with its standard error; other numbers alone."""
    if name == "campaigns":
        return str(value)
    simulated = name not in ("spread", "power predicted")
    return f"{value:.3f} ({error(value, campaigns):.3f})" if simulated else f"{value:.3f}"


def figure(rows: dict[str, list[dict[str, float]]], plan: Plan) -> str:
    """Rejection rate with the predicted power, and coverage, by planted difference; bars are two standard errors."""
    with matplotlib.rc_context(STYLE):
        drawing = canvas(7.4, 3.0)
        left, right = drawing.subplots(1, 2)
        for world, (colour, marker) in MARKERS.items():
            for axis, name in ((left, "rejected at alpha/2"), (right, "coverage")):
                shares = [row[name] for row in rows[world]]
                bars = [2 * error(row[name], int(row["campaigns"])) for row in rows[world]]
                axis.errorbar(EFFECTS, shares, bars, color=colour, marker=marker, elinewidth=1.0, linewidth=1.0)
            left.plot(EFFECTS, [row["power predicted"] for row in rows[world]], color=colour, linestyle=":")
        left.axhline(plan.alpha / 2, color=FAINT, linewidth=0.8)
        right.axhline(1 - plan.alpha, color=FAINT, linewidth=0.8)
        left.set(title=f"Rejected at {plan.alpha / 2:g} (dotted: power predicted)", ylabel="share of campaigns", ylim=(0.0, 1.02))
        right.set(title=f"Coverage of the {100 * (1 - plan.alpha):g}% bootstrap interval", ylim=(0.7, 1.0))
        for axis in (left, right):
            axis.set_xlabel("planted difference of hack rates")
            axis.set_xticks([effect for effect in EFFECTS if effect != -0.05])
            axis.grid(axis="y")
        key(drawing, [(world, colour, marker) for world, (colour, marker) in MARKERS.items()])
        return svg(drawing)


def main(
    plan: Annotated[Path, typer.Option(help="Plan whose seeds, margins and levels are used.")],
    campaigns: Annotated[int, typer.Option(help="Simulated campaigns for each world and planted difference.")] = 500,
    out: Annotated[Path, typer.Option(help="Figure, written.")] = Path("docs/figures/calibration.svg"),
) -> None:
    design = load_plan(plan)[0].model_copy(update={"bootstrap_draws": DRAWS})
    rows: dict[str, list[dict[str, float]]] = {}
    for world in WORLDS:
        for effect in EFFECTS:
            found, spread = simulate(world, effect, design, campaigns if effect else NULL_TIMES * campaigns)
            row = rates_of(found, effect, spread, design)
            rows.setdefault(world, []).append(row)
            if len(rows[world]) == 1:
                print(f"\n{world}\n| planted | " + " | ".join(row) + " |\n" + "|---" * (len(row) + 1) + "|")
            shown = [words(name, value, len(found)) for name, value in row.items()]
            print(f"| {effect:+.2f} | " + " | ".join(shown) + " |", flush=True)
    out.write_text(figure(rows, design))
    print(f"\n{campaigns} campaigns a row, {NULL_TIMES * campaigns} without a difference -> {out}")


if __name__ == "__main__":
    typer.run(main)
