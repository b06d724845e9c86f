"""Prose whose numbers are filled from verdict.json, so that none of them can drift.

In the Markdown, a number stands between two comments, the first of which names it:
`<!-- v_act - absorb hack -->-0.035 [-0.078, +0.008]<!-- / -->`.
"""

import re
from collections.abc import Mapping

from projected_grpo.analysis.plan import Plan
from projected_grpo.core.errors import InputError
from projected_grpo.reporting.verdict import ends, mean, number, pair, stated

SPAN = re.compile(r"<!-- (?P<name>[^/][^>]*?) -->.*?<!-- / -->", re.DOTALL)
SHARES = ("qmass", "keep_share", "route_share", "keep_exploits", "absorb_exploits", "route_exploits")


class WriteupError(InputError):
    """A text that cannot be filled; the message names the file and the name of the number."""


def facts(verdict: Mapping, plan: Plan) -> dict[str, str]:
    """Name -> words of every number that a text may state."""
    found = {"seeds": str(len(verdict["seeds"])), "runs": str(sum(len(arm["seeds"]) for arm in verdict["arms"])), "ended": str(len(verdict["ended"]))}
    found |= {f"margin {name}": f"{value:.2f}" for name, value in plan.margins.model_dump().items()}
    found |= {"level": f"{plan.alpha / 2:g}", "first level": f"{plan.first_level:g}"}
    found |= {"planned seeds": str(len(plan.seeds)), "planned runs": str(len(plan.cells))}
    found |= {f"base {name}": number(verdict["base"][f"{name}_rate"]) for name in ("hack", "solve")}
    for claim in verdict["claims"]:
        name = claim["name"]
        found |= {f"{name} wording": stated(claim), f"{name} p": number(claim["p"], 4), f"{name} p holm": number(claim["p_holm"], 4)}
        found |= {f"{claim['method']} {modes}": ends(claim[modes]) for modes in ("covered", "uncovered")}
        for contrast in (*claim["against"], *claim["beside"]):
            found |= _contrast(contrast)
        for contrast in claim["against"]:
            arms, able = f"{contrast['first']} - {contrast['second']}", contrast["power"]
            found |= {f"{arms} power": number(able and able["power"], 2), f"{arms} detectable": number(able and able["detectable"])}
            found |= {f"{arms} bootstrap": pair(contrast["sensitivity"]["hack_bootstrap"])} if contrast["sensitivity"] else {}
    for test in verdict["secondary"]:
        name = f"{test['kind']} {test['first']} - {test['second']}"
        found |= {name: ends(test), f"{name} p": number(test["p"], 4), f"{name} p holm": number(test["p_holm"], 4)}
    for arm in verdict["arms"]:
        name = arm["arm"]
        found |= {f"{name} hack": number(mean(arm["hack_rates"])), f"{name} solve": number(mean(arm["solve_rates"])), f"{name} runs": str(len(arm["seeds"]))}
        found |= {f"{name} trained hack": number(mean(arm["hack_rates_as_trained"]))}
        found |= {f"{name} {share}": number(mean(arm[share])) for share in SHARES}
        found |= _contrast(arm["from_reference"]) if arm["from_reference"] else {}
        found |= {f"{name} {rate}, seeds of {other['arm']}": number(shared) for other in verdict["arms"] for rate in ("hack", "solve") if (shared := _on(arm, other, rate)) is not None}
    for row in verdict["modes"]:
        found |= {f"{row['arm']} {row['mode']}": number(mean(row["hack_rates"]), 2), f"{row['arm']} {row['mode']} net": ends(row["from_reference"])}
    return found


def _on(arm: Mapping, other: Mapping, rate: str) -> float | None:
    """The arm's mean on the seeds of another arm, of which it has more."""
    rates = dict(zip(arm["seeds"], arm[f"{rate}_rates"], strict=True))
    return mean([rates[seed] for seed in other["seeds"]]) if set(other["seeds"]) < rates.keys() else None


def _contrast(contrast: Mapping) -> dict[str, str]:
    return {f"{contrast['first']} - {contrast['second']} {rate}": ends(contrast[rate]) for rate in ("hack", "solve")}


def fill(text: str, known: Mapping[str, str], where: str) -> str:
    """The text with the words of each named number in place of those that stand there. Raises WriteupError."""

    def words(span: re.Match) -> str:
        name = " ".join(span["name"].split())
        if name not in known:
            raise WriteupError(f"{where}: names '{name}', which the verdict does not have; it has {', '.join(sorted(known))}")
        return f"<!-- {span['name']} -->{known[name]}<!-- / -->"

    return SPAN.sub(words, text)
