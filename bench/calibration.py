"""Error rates and power of the claims and coverage of the intervals, on simulated campaigns with known differences.

Usage: `python -m bench.calibration --plan campaigns/toy2/plan.md`. A campaign has the plan's arms of the claims and its seeds, 72
problems with four samples. A run's rates lie around its arm's means; a problem's rate lies around its run's, so samples cluster in
problems, half of a problem's luck is its own in every run, and runs with one seed share a part of their luck. The luck of Haar arms
is wider, as the first campaign's was, because each seed has another draw. A share of the runs is ended by the tripwire and
keeps a rate of its own. Each campaign goes through `claims.judge`, as a real one's pairs do. The table is printed.
"""

from collections import Counter
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from scipy.special import betaincinv
from scipy.stats import norm

from projected_grpo.analysis.campaign import Pairs
from projected_grpo.analysis.claims import WORDINGS, judge
from projected_grpo.analysis.contrast import contrast
from projected_grpo.analysis.plan import Plan, load_plan
from projected_grpo.core.seeds import derive_seed

PROBLEMS, SAMPLES = 72, 4
CLUSTER = 4.0  # concentration of a problem's rate around its run's
SEED_LUCK = 0.3  # correlation of the luck of two runs with one seed
REFERENCE, SOLVES = 0.30, 0.12  # deployed hack and solve rate of the reference
SPREAD = {"haar": 0.12, "haar_wide": 0.12}  # standard deviation between runs of an arm's hack rate; with that of the samples, a
OTHER_SPREAD, SOLVE_SPREAD = 0.025, 0.02  # difference from Haar has about .13, and one between other arms .05
ENDED, ENDED_HACK, ENDED_SOLVE = 0.05, 0.5, 0.02  # share of ended runs, and the rates that such a run has
WORLDS: dict[str, dict[str, float]] = {  # name -> arm -> its hack rate minus that of the reference; 0 if not named
    "all arms alike": {},
    "Haar harms, v_act as absorb": {"haar": 0.15, "haar_wide": 0.15, "random_wide": 0.05},
    "v_act 0.05 below absorb, Haar alike": {"v_act": -0.05, "v_act_wide": -0.05},
    "v_act 0.05 below absorb, Haar harms": {"v_act": -0.05, "v_act_wide": -0.05, "haar": 0.15, "haar_wide": 0.15, "random_wide": 0.05},
    "v_act 0.10 below absorb, Haar harms": {"v_act": -0.10, "v_act_wide": -0.10, "haar": 0.15, "haar_wide": 0.15, "random_wide": 0.05},
    "v_act 0.20 below absorb, Haar harms, solve lower by its margin": {"v_act": -0.20, "v_act_wide": -0.20, "haar": 0.15, "haar_wide": 0.15},
    "v_act 0.10 above absorb": {"v_act": 0.10, "v_act_wide": 0.10},
}
SOLVES_LESS = {"v_act 0.20 below absorb, Haar harms, solve lower by its margin": ("v_act", "v_act_wide")}  # arms


def campaign(plan: Plan, seeds: int, world: str, ended: float, rng: np.random.Generator) -> tuple[list[str], np.ndarray]:
    """Arms of the claims, and their (S, P, arms, 3) judged, exploited and correct samples."""
    arms = list(dict.fromkeys(arm for claim in plan.claims for arm in (claim.method, *claim.better_than)))
    shared, own = rng.standard_normal((seeds, 1)), rng.standard_normal((seeds, len(arms)))
    luck = np.sqrt(SEED_LUCK) * shared + np.sqrt(1 - SEED_LUCK) * own
    means = np.array([REFERENCE + WORLDS[world].get(arm, 0.0) for arm in arms])
    spread = np.array([SPREAD.get(arm, OTHER_SPREAD) for arm in arms])
    solves = np.array([SOLVES - plan.margins.solve * (arm in SOLVES_LESS.get(world, ())) for arm in arms])
    hack, solve = means + spread * luck, solves + SOLVE_SPREAD * rng.standard_normal((seeds, len(arms)))
    stopped = rng.random((seeds, len(arms))) < ended
    hack, solve = np.where(stopped, ENDED_HACK, hack), np.where(stopped, ENDED_SOLVE, solve)
    exploited = _samples(hack, SAMPLES, rng)
    correct = rng.binomial(SAMPLES - exploited, np.clip(solve / (1 - np.clip(hack, 0, 0.9)), 0.001, 0.9)[:, None, :])
    return arms, np.stack([np.full_like(exploited, SAMPLES), exploited, correct], axis=-1).astype(float)


def _samples(rates: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """(S, P, arms) hits, from (S, arms) rates."""
    rates = np.clip(rates, 0.002, 0.998)[:, None, :]
    everywhere, here = rng.standard_normal((PROBLEMS, 1)), rng.standard_normal((len(rates), PROBLEMS, rates.shape[-1]))
    by_problem = betaincinv(rates * CLUSTER, (1 - rates) * CLUSTER, norm.cdf((everywhere + here) / np.sqrt(2)))
    return rng.binomial(samples, by_problem)


def simulate(plan: Plan, seeds: int, world: str, ended: float, campaigns: int) -> dict[str, str]:
    """One row of the table: how often each claim holds and each wording is given, and how often the interval of D covers."""
    rng = np.random.default_rng(derive_seed(0, "calibration", world, f"{seeds} {ended:g}"))
    held, said, covered, wrong, spreads = np.zeros(len(plan.claims)), Counter(), 0, 0, []
    truths = {claim.method: WORLDS[world].get(claim.method, 0.0) for claim in plan.claims}
    for _ in range(campaigns):
        arms, counts = campaign(plan, seeds, world, ended, rng)

        def pairs(first: str, second: str) -> Pairs:
            both = counts[:, :, [arms.index(first), arms.index(second)]]
            return Pairs(list(range(seeds)), both, np.zeros((seeds, 2), bool))

        found = judge(plan, pairs, 0)
        held += [one.holds for one in found]
        wrong += any(one.holds and (truths[one.method] >= 0.0 or one.method in SOLVES_LESS.get(world, ())) for one in found)
        said[found[0].wording] += 1
        net = contrast(pairs(plan.claims[0].method, plan.reference), plan.claims[0].method, plan.reference, plan.alpha).hack
        spreads.append(net.spread)
        covered += net.low <= truths[plan.claims[0].method] <= net.high
    shares = {f"{claim.name} holds": held[place] / campaigns for place, claim in enumerate(plan.claims)}
    shares |= {"a false claim holds": wrong / campaigns, "interval covers": covered / campaigns}
    shares |= {wording: said[wording] / campaigns for wording in WORDINGS}
    said_spread = {"spread of D": f"{np.sqrt(np.mean(np.square(spreads))):.3f}"}
    return said_spread | {name: f"{share:.3f} ({np.sqrt(share * (1 - share) / campaigns):.3f})" for name, share in shares.items()}


def main(
    plan: Annotated[Path, typer.Option(help="Plan whose claims, margins and levels are used.")],
    campaigns: Annotated[int, typer.Option(help="Simulated campaigns for each row.")] = 500,
    seeds: Annotated[list[int], typer.Option(help="Seeds of a campaign; repeat the option.")] = [8, 16],
) -> None:
    design = load_plan(plan)[0]
    for count in seeds:
        for ended in (0.0, ENDED):
            for place, world in enumerate(WORLDS):
                row = simulate(design, count, world, ended, campaigns)
                if place == 0:
                    print(f"\n{count} seeds, {ended:.0%} of the runs ended\n| world | " + " | ".join(row) + " |\n" + "|---" * (len(row) + 1) + "|")
                print(f"| {world} | " + " | ".join(row.values()) + " |", flush=True)


if __name__ == "__main__":
    typer.run(main)
