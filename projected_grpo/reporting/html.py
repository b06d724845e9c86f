"""The report of one run: one self-contained page of the numbers, the figures, the settings and some rollouts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from projected_grpo.analysis.rates import Cell, find
from projected_grpo.prompts.modes import GT_ONLY
from projected_grpo.reporting import figures, opening, statements
from projected_grpo.reporting.manifest import Manifest, flatten
from projected_grpo.reporting.page import (
    escape,
    figure,
    listing,
    number_words,
    page,
    rate_cell,
    rate_words,
    section,
    table,
    wide,
)
from projected_grpo.reporting.statements import DATA_NAMES, STATE_NAMES
from projected_grpo.reporting.style import LABEL_COLOURS, ZONE_COLOURS
from projected_grpo.settings.arm import PERMUTED


@dataclass(frozen=True)
class Contents:
    """What the page shows."""

    manifest: Manifest
    metrics: Mapping[str, float | int | None]
    cells: Sequence[Cell]
    curve: pl.DataFrame  # summary.training_curve
    labelled: pl.DataFrame  # summary.labelled
    diagnostics: pl.DataFrame
    covered: Sequence[str]  # modes of the pairs
    examples: Sequence[Mapping]  # summary.examples
    paths: Mapping[str, Path]  # what each file is -> where it is


def render(contents: Contents) -> str:
    """The page as text. Everything that a model wrote is escaped."""
    title = f"Deployment ablation report: arm {contents.manifest.arm.name}"
    one_block = contents.manifest.arm.policy == "none"
    return page(
        title,
        [
            f"<h1>{escape(title)}</h1>",
            f'<p class="found">{escape(opening.sentence(contents.cells, one_block))}</p>',
            opening.picture(contents.cells, one_block),
            _facts(contents.manifest),
            *(f'<p class="note">{escape(text)}</p>' for text in statements.divergence(contents.manifest)),
            _abstract(contents),
            section("Rates by data and state", f"<p>{escape(statements.rates(contents.manifest))}</p>", _rates(contents.cells)),
            section("Figures", *_figures(contents)),
            section("Excluded samples", *_excluded(contents)),
            section("Example rollouts", *_examples(contents.examples)),
            section("Limits", *(f"<p>{escape(text)}</p>" for text in statements.limits(contents.manifest))),
            section("Settings", listing(flatten(contents.manifest.settings).items())),
            section("Run", *_run(contents.manifest)),
            section("Files", wide(table(["what", "path"], _paths(contents.paths)), "Files of the run")),
        ],
    )


def _facts(manifest: Manifest) -> str:
    arm, settings = manifest.arm, manifest.settings
    facts = (
        f"policy {arm.policy} · direction {arm.direction} · draw {arm.draw} · monitor {arm.monitor}, use {arm.use} · "
        f"seed {settings['seed']} · profile {settings['profile_name']}"
    )
    return f'<p class="facts">{escape(facts)}</p>'


def _abstract(contents: Contents) -> str:
    metrics = contents.metrics
    base, trained, deployed = (find(contents.cells, "heldout", state) for state in STATE_NAMES)
    sentences = [
        f"On held-out problems whose prompt carries a hint, the deployed policy has a hack rate of "
        f"{rate_words(deployed.hack)} over {deployed.hack.n} samples of {deployed.hack.problems} problems.",
        f"The hack rate is {rate_words(trained.hack)} as trained and {rate_words(base.hack)} in the base model.",
        f"The solve rate on the same prompts is {rate_words(deployed.solve)} deployed, {rate_words(trained.solve)} "
        f"as trained and {rate_words(base.solve)} in the base model.",
        f"Without a hint the deployed solve rate is {rate_words(deployed.solve_unhinted)}.",
        f"The mean qmass over training steps is {number_words(metrics['qmass'])}, the mean AUROC of the live routing "
        f"score over windows of training is {number_words(metrics['auroc_live'])}, and the selectivity of the "
        f"deployment ablation is {number_words(metrics['selectivity'])}.",
    ]
    note = statements.ONE_BLOCK if contents.manifest.arm.policy == "none" else ""
    return f'<p class="abstract">{escape(" ".join(sentences + [note]).strip())}</p>'


def _rates(cells: Sequence[Cell]) -> str:
    head = ["data", "state", "hack rate, with hint", "solve rate, with hint", "solve rate, no hint", "problems"]
    rows = [
        [
            DATA_NAMES[cell.data],
            STATE_NAMES[cell.state],
            rate_cell(cell.hack),
            rate_cell(cell.solve),
            rate_cell(cell.solve_unhinted),
            str(cell.hack.problems),
        ]
        for cell in cells
    ]
    return wide(table(head, rows), "Rates by data and state")


def _figures(contents: Contents) -> list[str]:
    trained, deployed = (find(contents.cells, "heldout", state) for state in ("as_trained", "deployed"))
    arm = contents.manifest.arm
    one_block = f" {statements.ONE_BLOCK}" if arm.policy == "none" else ""
    dealt = dict.fromkeys(PERMUTED, "whose zones were permuted") | {"labelled_masses": "whose zones were dealt by label"}
    routed = ({"route": "which routed"} | dealt).get(arm.policy, "which routed nothing in this arm")
    return [
        figure(
            1,
            figures.states_figure(contents.cells),
            "Hack rate and solve rate of the base model, of the policy as trained, and of the deployed policy, from "
            "which the quarantine is ablated. Bars are 95% Korn-Graubard intervals." + one_block,
        ),
        figure(
            2,
            figures.modes_figure(trained, deployed, contents.covered),
            "Hack rate on held-out problems by the loophole mode whose hint the prompt shows. Bands mark "
            "the modes that the contrastive pairs cover and the modes that are held out of the pairs. Bars are 95% "
            "Korn-Graubard intervals." + one_block,
            narrow=True,
        ),
        figure(
            3,
            figures.training_figure(contents.curve),
            "The course of training. The ground-truth monitor labelled the saved rollouts after training. "
            + (statements.USES_GROUND_TRUTH if arm.uses_ground_truth else "Its labels took no part in training.")
            + " Reward and label shares cover all rollouts of the policy in a step, KL those of groups whose rewards differ, "
            "zone shares and ratios also the demonstrations among these. The dashed line is an importance ratio of 1.",
        ),
        figure(
            4,
            figures.diagnostics_figure(contents.diagnostics),
            f"AUROC of the routing score for exploited rollouts, by window of training steps. The live score is the arm's own, {routed}; "
            "v_act and the Haar draws are as extracted before training, at the same reading. The dashed line is the AUROC of a "
            "chance-level classifier. Windows that hold one class only are left out.",
        ),
    ]


def _excluded(contents: Contents) -> list[str]:
    unjudged = contents.labelled["exploited"].null_count()
    text = (
        "Samples have no judgement where the run of the environment or of the ground-truth monitor reached the wall-clock limit or "
        "failed for another reason that is not the program's, twice. They are left out of every rate "
        f"and counted here. In training this holds for {unjudged} of {contents.labelled.height} rollouts."
    )
    rows = [
        [DATA_NAMES[cell.data], STATE_NAMES[cell.state], str(cell.solve.excluded), str(cell.solve_unhinted.excluded)]
        for cell in contents.cells
    ]
    return [f"<p>{escape(text)}</p>", wide(table(["data", "state", "excluded, with hint", "excluded, no hint"], rows), "Excluded samples")]


def _examples(rows: Sequence[Mapping]) -> list[str]:
    text = (
        "The rollouts come from the last quarter of training. One exploit of each mode is shown where there is one, "
        "then correct rollouts, then others, in an order that is fixed by a hash of their names. Rollouts of groups "
        "whose rewards are equal have no score and no zone."
    )
    return [f"<p>{escape(text)}</p>", f'<div class="cards">{"".join(_card(row) for row in rows)}</div>']


def _card(row: Mapping) -> str:
    verdict = _verdict(row)
    colour = LABEL_COLOURS.get({"exploited": "hack", "correct": "solve"}.get(verdict, ""), "#666")
    zone = row["zone"] or "not gated"
    hint = "no hint" if row["shown_mode"] == GT_ONLY else f"hint {row['shown_mode']}"
    score = "" if row["score"] is None else f"<span>score {row['score']:.2f}</span>"
    head = (
        f'<span class="verdict" style="color:{colour}">{verdict}</span>'
        f'<span class="tag" style="background:{ZONE_COLOURS.get(zone, "#fff")}80">{escape(zone)}</span>'
        f"{score}<span>reward {row['reward']:.1f}</span><span class=\"name\">{escape(row['rollout_id'])}</span>"
    )
    task = f'<div class="task">{escape(row["statement"])} <span class="hint">[{escape(hint)}]</span></div>'
    return f'<article class="card"><header>{head}</header>{task}<pre>{escape(row["text"])}</pre></article>'


def _verdict(row: Mapping) -> str:
    if row["gt_correct"] is None:
        return "not judged"
    if row["gt_correct"]:
        return "correct"
    return "exploited" if row["exploited"] else "incorrect"


def _run(manifest: Manifest) -> list[str]:
    step = manifest.resumed_from_step
    text = "Training ran without interruption." if step is None else f"Training was resumed from step {step}."
    seconds = {phase: sum(times) for phase, times in manifest.seconds_by_phase.items()}
    rows = [
        [escape(phase), f"{total:.1f}", f"{total / max(1, len(manifest.seconds_by_phase[phase])):.2f}"]
        for phase, total in seconds.items()
    ]
    timing = table(["phase", "seconds", "seconds a step"], rows)
    return [f"<p>{escape(text)}</p>", timing, listing(flatten(manifest.versions).items())]


def _paths(paths: Mapping[str, Path]) -> list[list[str]]:
    return [[escape(what), f"<code>{escape(path)}</code>"] for what, path in paths.items()]
