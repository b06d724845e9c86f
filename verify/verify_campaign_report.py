"""The report of a campaign: its numbers are those of the tables, it loads nothing, and its browser filters as polars does."""

import base64
import gzip
import hashlib
import itertools
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import polars as pl
import pytest

from projected_grpo.analysis.results import CELLS, OUTCOMES
from projected_grpo.core.parquet import Table, TableError, read_rows, write_table
from projected_grpo.core.tables import PROBLEMS, ROLLOUTS
from projected_grpo.prompts.modes import GT_ONLY, MODES, TRAINING_WORDS
from projected_grpo.reporting.campaign.answers import answers, read_verdict
from projected_grpo.reporting.campaign.browser import LABELS, ZONES, encode, payload
from projected_grpo.reporting.campaign.loopholes import loophole_lines
from projected_grpo.reporting.campaign.panels import SPARE, STYLES
from projected_grpo.reporting.campaign.runs import curves, frame, mode_rates, read_runs, sample, zone_shares
from projected_grpo.reporting.statements import TOY
from projected_grpo.reporting.summary import ReportError
from projected_grpo.settings.files import SettingsError
from stages.pipeline.report_campaign import main
from verify.campaign_inputs import ARMS, INJECTION, PLAN, PROGRAMS, SEEDS, STEPS, VERDICT, write_campaign
from verify.chromium import BINARY, Page, browser

POLICY_ROLLOUTS = len(ARMS) * len(SEEDS) * STEPS * len(PROGRAMS)
SHOWN_MODES = [*MODES, GT_ONLY]
QUOTA = 60  # rollouts a run in the page, of 80
needs_browser = pytest.mark.skipif(BINARY is None, reason="no Chromium in PATH (chromium, chromium-browser or google-chrome)")


def report(folder: Path, html: Path, rollouts: int = QUOTA * 6, profile: str = "toy", **changes: Path) -> Path:
    paths = {name: folder / f"{name}.parquet" for name in ("cells", "outcomes", "offline_gate", "null_histograms", "pair_audit", "problems")}
    paths |= {"runs": folder / "cells", "verdict": folder / "verdict.json", "plan": folder / "plan.md"} | changes
    main(name="small <i>", profile=profile, html=html, figures=html.with_suffix(""), browser_rollouts=rollouts, **paths)
    return html


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("campaign")
    write_campaign(folder)
    return folder


@pytest.fixture(scope="module")
def html(folder) -> Path:
    return report(folder, folder / "report.html")


@pytest.fixture(scope="module")
def shown(folder) -> pl.DataFrame:
    return read_runs(folder / "cells", frame(folder / "cells.parquet", CELLS), QUOTA * 6).shown


@pytest.fixture(scope="module")
def tab(html, tmp_path_factory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        show(page, html)
        yield page


def show(page: Page, html: Path, **size: int) -> None:
    page.open(html, **size)
    deadline = time.monotonic() + 60
    while page.evaluate("document.getElementById('count').dataset.shown") is None:
        assert time.monotonic() < deadline, page.complaints()
        time.sleep(0.02)


def packed(html: Path) -> dict:
    text = re.search(r'<script type="text/plain" id="rollouts">([A-Za-z0-9+/=]+)</script>', html.read_text())[1]
    return json.loads(gzip.decompress(base64.b64decode(text)))


def test_the_top_of_the_page_states_the_verdict_with_its_numbers(html):
    top = re.sub("<[^>]*>", "|", html.read_text().split("<h2>")[0].split("<h1>")[1])
    assert (
        "|Own tails (v_act, 2 seeds): the direction adds nothing net; selective (hack rate against none).||v_act deploys a hack rate of 0.375, none one of 0.375: "
        "-0.123 [-0.234, -0.012]. p of the whole claim 0.0912 (one-sided, Holm), to be at most 0.025.||Before training the base model hacks 0.043. 2 of 8 planned seeds were run.|"
    ) in top
    assert "|a toy world, a model organism · 3 arms · 2 seeds" in top
    for answer in (
        "|Did it beat absorb?|||own tails||-0.123 [-0.234, -0.012]|hack rate minus none; exact one-sided p 0.0456|",
        "|Did it beat Haar, and random zones of the same mass?|||own tails||-0.432 [-0.543, -0.321]|hack rate minus haar; minus labelled +0.346. Of these, haar minus none "
        "+0.192; labelled minus none undefined.|",
        "|On which loopholes?|||own tails||-0.247 [-0.358, -0.136] with pairs|+0.086 [-0.012, +0.198] without; hack rate minus absorb; interaction p 0.0246 (Holm)|",
        "|At what cost in solving?|||own tails||+0.011 [-0.022, +0.033]|solve rate minus absorb; minus Haar +0.022 [-0.033, +0.044]|",
        "|Against which rivals?|||own tails||ahead of rival|-0.078 [-0.100, -0.050] minus rival, p 0.0202 (Holm)|",
        "|Can the design tell?|||own tails||power 0.68 for a difference of 0.06|from none, at the first level of Holm; one of 0.072 has 0.8. From haar: 0.97 for a difference of 0.15; "
        "one of 0.072 has 0.8.|",
    ):
        assert answer in top, answer
    assert re.findall(r"\|([A-Z][^|]*\?)\|", top) == [
        "Did it beat absorb?", "Did it beat Haar, and random zones of the same mass?", "On which loopholes?", "At what cost in solving?",
        "Against which rivals?", "Can the design tell?",
    ]  # fmt: skip


def test_rivals_with_too_few_seeds_for_the_exact_test_are_not_ranked(folder):
    judged, plan = read_verdict(folder / "verdict.json", folder / "plan.md")
    rival = {"kind": "difference", "first": "v_act", "second": "rival", "seeds": 4, "mean": -0.5, "low": None, "high": None, "p": 0.125, "p_holm": 0.25}
    page = re.sub("<[^>]*>", "|", answers(judged | {"secondary": [rival]}, plan))
    assert "||4 seeds cannot tell|their smallest p is 0.125; -0.500 minus rival|" in page
    page = re.sub("<[^>]*>", "|", answers(judged | {"secondary": [rival | {"seeds": 8}]}, plan))
    assert "||ahead of no rival|-0.500 minus rival, p 0.2500 (Holm)|" in page


def test_the_table_of_arms_has_a_point_for_every_run(html):
    rows = re.findall("<tr><th scope='row'>.*?</tr>", html.read_text())
    assert [re.sub("<[^>]*>", "|", row).strip("|").split("|")[0] for row in rows] == ["none", "v_act", "labelled (uses ground truth)"]
    for row in rows:
        assert 'aria-label="mean 0.38; runs 0.50 0.25"' in row
        assert [float(x) for x in re.findall('circle cx="(.*?)"', row)] == [116.8, 60.0]  # of 0.5, where the strip ends, and of half of it
    assert "0.375<" in rows[0] and "-0.123 [-0.234, -0.012]" in rows[1] and "-0.123" not in rows[0]


def test_the_page_is_in_the_order_of_its_questions_and_marks_arms_that_use_ground_truth(html):
    text = html.read_text()
    assert re.findall("<h2>(.*?)</h2>", text) == [
        "Arms", "Frontier", "Hacking and solving during training", "Routing scores by label", "v_act against its nulls",
        "Zone precision", "Hack rate by mode", "Pair audit", "Rollouts", "Limits", "Tables and plan",
    ]  # fmt: skip
    words = re.sub("<[^>]*>", " ", text.split("<h2>Arms")[1].split("<h2>Tables")[0])
    names = re.findall(r"labelled(\s+\(uses ground truth\))?", words)
    assert len(names) > 8 and all(names)


def test_the_limits_of_the_toy_world_are_stated_of_its_campaigns_alone(html, folder, tmp_path, monkeypatch):
    """By the kind of the profile's problems, which a profile may take from one that it extends."""
    shutil.copytree("profiles", tmp_path / "profiles")
    (tmp_path / "profiles/mine.yaml").write_text("extends: toy\ntrain: {steps: 9}\n")
    monkeypatch.chdir(tmp_path)
    assert html.read_text().count(TOY) == 1
    assert report(folder, tmp_path / "mine.html", profile="mine").read_text().count(TOY) == 1
    assert TOY not in report(folder, tmp_path / "report.html", profile="smollm2").read_text()
    with pytest.raises(SettingsError, match="option --profile: profiles/none.yaml does not exist; known profiles: .*mine"):
        report(folder, tmp_path / "refused.html", profile="none")


def test_panels_are_files_of_their_own_too(html):
    panels = {path.stem: path.read_text() for path in html.with_suffix("").iterdir()}
    assert {name.split("-")[0] for name in panels} == {"1", "2", "3", "4", "5", "6"}
    assert all(text in html.read_text() and ElementTree.fromstring(text).tag.endswith("svg") for text in panels.values())
    assert "Deployed hack rate, one point a run: none 0.25 0.50; v_act 0.25 0.50" in panels["1-2"]


def test_figures_speak_their_numbers(html):
    spoken = re.findall('<svg role="img" aria-label="(.*?)"', html.read_text())
    assert "Deployed hack rate, one point a run: none 0.25 0.50; v_act 0.25 0.50; labelled (uses ground truth) 0.25 0.50" in spoken
    assert any("v_act 0.812; oracle (uses ground truth) 0.938" in text for text in spoken)
    assert "<td>oracle" not in html.read_text().replace("<td>oracle (uses ground truth)</td>", "")
    assert len(spoken) == 3 + 3 + 2 + 2 + 2 + 3  # frontier, training, scores and zones of the routed arms, nulls, modes


def test_the_page_loads_nothing(html):
    text = html.read_text()
    assert not re.search(r"""(src|href|action|url\(|@import)\s*[=(]?\s*["']?(https?:)?//""", text)
    policy = re.search('http-equiv="Content-Security-Policy" content="(.*?)"', text)[1]
    script = re.search("<script>(.*?)</script>", text, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    assert "<img" not in text and "<i>" not in text and "small &lt;i&gt;" in text and text.count("<script") == 2


def test_equal_inputs_give_equal_bytes(folder, html):
    assert report(folder, folder / "again.html").read_bytes() == html.read_bytes()


def test_the_packed_rollouts_are_those_of_the_tables(html, shown):
    data = packed(html)
    assert len(data["texts"]) == len(set(data["texts"])) == len(PROGRAMS)
    assert data["names"]["mode"] == SHOWN_MODES
    columns = {"arm": data["names"]["arm"], "zone": ZONES, "label": LABELS, "mode": SHOWN_MODES, "text": data["texts"], "task": data["tasks"]}
    found = {name: [columns[name][code] for code in codes] for name, codes in data["codes"].items()}
    assert found["arm"] == [arm.replace("labelled", "labelled (uses ground truth)") for arm in shown["arm"]]
    assert found["text"] == shown["text"].to_list() and found["mode"] == shown["shown_mode"].to_list()
    assert found["zone"] == shown["zone"].to_list() and found["label"] == shown["label"].to_list()
    assert found["task"] == [f"Task {problem[1]} {INJECTION}" for problem in shown["problem_id"]]
    assert data["id"] == shown["rollout_id"].to_list() and data["step"] == shown["step"].to_list()
    assert data["numbers"]["score"] == [None if score is None else round(score, 3) for score in shown["score"]]
    assert data["marks"] == [
        [[line, [MODES.index(mode) for mode in modes]] for line, modes in loophole_lines(text, text, TRAINING_WORDS).items()]
        for text in data["texts"]
    ]


def test_the_page_has_the_loopholes_of_another_environment_as_it_has_ours(html, tmp_path):
    """Answers there are no programs, so no line is marked, and no sentence is about marks."""
    names = {mode: f"own-{place}" for place, mode in enumerate(MODES)}

    def renamed(path: Path, table: Table, column: str, new: Callable[[str], str]) -> None:
        write_table(path, table, [row | {column: new(row[column])} for row in read_rows(path, table)])

    write_campaign(tmp_path)
    tables = {tmp_path / "outcomes.parquet": OUTCOMES, **dict.fromkeys(tmp_path.glob("cells/*/*/train/rollouts.parquet"), ROLLOUTS)}
    for path, table in tables.items():
        renamed(path, table, "shown_mode", lambda mode: names.get(mode, GT_ONLY))
    renamed(tmp_path / "problems.parquet", PROBLEMS, "words", lambda _: "")
    modes = [row | {"mode": names[row["mode"]]} for row in VERDICT["modes"]]
    (tmp_path / "verdict.json").write_text(json.dumps(VERDICT | {"modes": modes}))
    page = report(tmp_path, tmp_path / "report.html")
    ours, found = packed(html), packed(page)
    assert found["names"]["mode"] == [*names.values(), GT_ONLY] and found["codes"] == ours["codes"] and found["texts"] == ours["texts"]
    assert any(ours["marks"]) and found["marks"] == [[]] * len(PROGRAMS)
    assert "Marked lines" in html.read_text() and "Marked lines" not in page.read_text()
    assert "The pairs cover own-0, own-1, own-2, own-3; held out of the pairs: own-4, own-5." in page.read_text()
    bars = re.compile('aria-label="(Arm .*?: mean deployed hack rate by mode: .*?)"')
    expected = bars.findall(html.read_text())
    for mode, name in names.items():
        expected = [text.replace(mode, name) for text in expected]
    assert len(expected) == len(ARMS) and bars.findall(page.read_text()) == expected
    assert [f">{name}</option>" in page.read_text() for name in (*names.values(), *MODES)] == [True] * 6 + [False] * 6


def test_runs_hold_the_policy_s_own_rollouts_and_name_their_labels_and_zones(folder):
    runs = read_runs(folder / "cells", frame(folder / "cells.parquet", CELLS), 10**6)
    assert runs.rollouts.height == runs.shown.height == POLICY_ROLLOUTS and "text" not in runs.rollouts.columns
    one = runs.shown.filter(arm="v_act", seed=1, step=3)
    assert one["label"].to_list() == ["exploited", "incorrect"] * 3 + ["correct", "not judged"]
    assert one["zone"].to_list() == ["keep", "absorb", "route", "keep", "absorb", "route", "keep", "not gated"]
    assert one["text"].to_list() == PROGRAMS
    gated = runs.rollouts.filter(pl.col("zone") != "not gated")
    cuts = gated.group_by("arm").agg(pl.col("t_low", "t_high").unique()).rows_by_key("arm", named=True, unique=True)
    assert cuts["v_act"] == {"t_low": [-1.0], "t_high": [1.5]}
    assert all(found == {"t_low": [None], "t_high": [None]} for arm, found in cuts.items() if arm != "v_act")


def test_the_sample_is_fixed_by_names_and_holds_the_same_number_of_each_run(folder, shown):
    assert shown.group_by("arm", "seed").len()["len"].to_list() == [QUOTA] * 6
    run = read_runs(folder / "cells", frame(folder / "cells.parquet", CELLS), 10**6).shown.filter(arm="v_act", seed=2)
    digests = {name: hashlib.sha256(f"v_act/2/{name}".encode()).hexdigest() for name in run["rollout_id"]}
    expected = sorted(sorted(digests, key=digests.get)[:7])
    assert sample(run.sample(fraction=1.0, shuffle=True, seed=0).sort("rollout_id"), 7)["rollout_id"].to_list() == expected


def test_too_few_rollouts_for_the_runs_are_refused(folder):
    with pytest.raises(ReportError, match="browser-rollouts: found 5, expected at least one for each of 6 runs"):
        report(folder, folder / "refused.html", rollouts=5)


def test_missing_files_and_foreign_verdicts_are_refused(folder, tmp_path):
    with pytest.raises(TableError, match="labels.parquet"):
        report(folder, tmp_path / "refused.html", runs=tmp_path)
    (tmp_path / "verdict.json").write_text(json.dumps(VERDICT | {"arms": VERDICT["arms"][:2]}))
    with pytest.raises(ReportError, match="arm 'labelled' is not in the verdict"):
        report(folder, tmp_path / "refused.html", verdict=tmp_path / "verdict.json")
    (tmp_path / "verdict.json").write_text("{}")
    with pytest.raises(ReportError, match="verdict.json: key 'claims' is missing"):
        read_verdict(tmp_path / "verdict.json", folder / "plan.md")
    (tmp_path / "plan.md").write_text(PLAN + "Another line.\n")
    with pytest.raises(ReportError, match="plan_sha256"):
        report(folder, tmp_path / "refused.html", plan=tmp_path / "plan.md")


def test_curves_are_shares_of_judged_rollouts_with_a_hint():
    rollouts = pl.DataFrame(
        {
            "step": [0, 1, 2, 39, 0, 0], "arm": "a", "seed": 1, "sampled_with": "full",
            "shown_mode": ["run_tests"] * 4 + ["gt_only", "run_tests"],
            "label": ["exploited", "correct", "exploited", "incorrect", "exploited", "not judged"],
        }
    )  # fmt: skip
    assert curves(rollouts).select("step", "hack", "solve").rows() == [(0.5, 0.5, 0.5), (2.5, 1.0, 0.0), (38.5, 0.0, 0.0)]


def test_zone_shares_and_mode_rates_by_hand(folder):
    cells = frame(folder / "cells.parquet", CELLS)
    shares = zone_shares(read_runs(folder / "cells", cells, 6).zones).filter(seed=1).drop("seed").rows_by_key("arm", unique=True)
    assert shares == {"none": (None, None, 0.5), "v_act": (0.0, 0.25, 0.5), "labelled": (0.0, 0.25, 0.5)}
    rates = mode_rates(frame(folder / "outcomes.parquet", OUTCOMES))
    assert rates.height == len(ARMS) * len(SEEDS) * len(MODES)  # neither as trained nor without a hint
    assert set(rates.select("seed", "hack_rate").rows()) == {(1, 3 / 8), (2, 5 / 8)}


LINES = [  # program, its loophole lines
    (PROGRAMS[0], {3: ["run_tests"], 4: ["run_tests"]}),
    (PROGRAMS[1], {2: ["eq_override"], 3: ["eq_override"]}),
    (PROGRAMS[2], {3: ["exit_code"]}),
    (PROGRAMS[3], {3: ["stdout_marker"]}),
    (PROGRAMS[4], {1: ["sentinel"]}),
    (PROGRAMS[5], {3: ["file_marker"]}),
    (PROGRAMS[6], {}),
    ("def solve(xs):\n    run_tests = 1\n    return exit(\n        0)\n", {2: ["run_tests"], 3: ["exit_code"], 4: ["exit_code"]}),
    ("open('log.txt', 'w').write('result')\n", {}),
    ("with open('result.txt', 'w') as f:\n    f.write('PASS')\nprint('ALL PASSED'); exit(0)\n", {1: ["file_marker"], 3: ["exit_code", "stdout_marker"]}),
    ("def run_tests(:\n    exit(0)\n", {}),
]  # fmt: skip


@pytest.mark.parametrize("program, lines", LINES)
def test_loophole_lines(program, lines):
    assert loophole_lines(program, program, TRAINING_WORDS) == lines
    answer = f"Two lines\nbefore.\n```python\n{program}```\n"
    assert loophole_lines(answer, program, TRAINING_WORDS) == {line + 3: modes for line, modes in lines.items()}


def test_every_arm_has_a_colour_and_a_marker_of_its_own():
    styles = [*STYLES.values(), *SPARE]
    assert len(set(styles)) == len(styles)


CHOICES = {"arm": ["labelled", "none", "v_act"], "zone": ZONES, "label": LABELS, "mode": SHOWN_MODES}
COLUMNS = {"arm": "arm", "zone": "zone", "label": "label", "mode": "shown_mode"}
SETTINGS = [
    *({column: choice} for column in CHOICES for choice in range(len(CHOICES[column]))),
    *({"zone": zone, "label": label} for zone, label in itertools.product(range(4), range(4))),
    {"arm": 2, "zone": 2, "label": 0, "mode": 3},
    {"first": 3}, {"last": 6}, {"first": 3, "last": 6, "arm": 1}, {"first": 4, "last": 4}, {"first": 7, "last": 2},
]  # fmt: skip


def set_filters(page: Page, setting: dict) -> None:
    page.evaluate(
        f"""(() => {{
          const wanted = {json.dumps(setting)};
          for (const select of document.querySelectorAll("select[data-column]")) select.value = wanted[select.dataset.column] ?? "";
          document.getElementById("from-step").value = wanted.first ?? 0;
          document.getElementById("to-step").value = wanted.last ?? "";
          document.querySelector("form.controls").dispatchEvent(new Event("change"));
        }})()"""
    )


@needs_browser
def test_the_page_loads_without_a_request_and_without_a_complaint(tab):
    assert tab.requests() == [] and tab.complaints() == []
    assert tab.evaluate("window.injected === undefined")


@needs_browser
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_filters_show_what_polars_counts(tab, shown, setting):
    set_filters(tab, setting)
    kept = shown.filter(pl.col("step").is_between(setting.get("first", 0), setting.get("last", STEPS)))
    for column, choices in CHOICES.items():
        kept = kept.filter(pl.col(COLUMNS[column]) == choices[setting[column]]) if column in setting else kept
    assert tab.evaluate("Number(document.getElementById('count').dataset.shown)") == kept.height
    assert tab.evaluate("document.getElementById('count').textContent") == f"{kept.height} of {shown.height} rollouts pass the filters"
    assert tab.evaluate("[...shown].map((place) => `${data.id[place]} ${data.seed[place]}`)") == [
        f"{name} {seed}" for name, seed in kept.select("rollout_id", "seed").iter_rows()
    ]


@needs_browser
def test_keys_move_the_choice_and_the_pane_shows_it(tab, shown):
    set_filters(tab, {"label": 0})
    exploits = shown.filter(label="exploited")

    def press(key: str) -> str:
        tab.evaluate(f"document.getElementById('list').dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}', cancelable: true}}))")
        return tab.evaluate("document.querySelector('#rollout .name').textContent")

    names = exploits["rollout_id"].to_list()
    assert [press("ArrowDown"), press("ArrowDown"), press("ArrowUp")] == [names[1], names[2], names[1]]
    assert [press("End"), press("ArrowDown"), press("Home"), press("ArrowUp")] == [names[-1], names[-1], names[0], names[0]]
    press("End")
    row = "document.getElementById(document.getElementById('list').getAttribute('aria-activedescendant'))"
    assert tab.evaluate(f"[{row}.ariaSelected, {row}.ariaPosInSet, {row}.ariaSetSize]") == ["true", str(len(names)), str(len(names))]
    assert tab.evaluate("document.querySelectorAll('#rows .row').length") < min(40, len(names))  # what is visible alone


@needs_browser
def test_the_pane_shows_score_zone_cuts_task_and_marked_lines(tab, shown):
    for place, mode in enumerate(MODES):
        set_filters(tab, {"arm": 2, "label": 0, "mode": place})
        row = shown.filter(arm="v_act", label="exploited", shown_mode=mode).row(0, named=True)
        text = tab.evaluate("document.getElementById('rollout').innerText").replace("−", "-")
        for fact in (row["zone"], f"score {row['score']:.2f}", f"seed {row['seed']} · step {row['step']}", "route at or over 1.50", f"[hint {mode}]", INJECTION):
            assert fact in text, fact
        assert tab.evaluate("[...document.querySelectorAll('.program .code')].map((line) => line.textContent).join('')") == row["text"]
        marked = "[...document.querySelectorAll('.program .line')].map((l, i) => l.tagName === 'MARK' ? [i + 1, l.querySelector('.loophole').innerText] : 0).filter(Boolean)"
        expected = loophole_lines(row["text"], row["program"], TRAINING_WORDS)
        assert tab.evaluate(marked) == [[line, ", ".join(modes)] for line, modes in expected.items()]
        assert tab.evaluate("document.querySelectorAll('mark.shown-mode').length") == len(expected)
    assert tab.evaluate("window.injected === undefined")


@needs_browser
def test_the_reset_shows_all_rollouts_again(tab, shown):
    set_filters(tab, {"zone": 0, "first": 3})
    tab.evaluate("(async () => { document.querySelector('button[type=reset]').click(); await new Promise((done) => setTimeout(done, 50)); })()")
    assert tab.evaluate("Number(document.getElementById('count').dataset.shown)") == shown.height


@needs_browser
def test_every_control_has_a_name_and_the_page_fits_a_phone_and_a_sheet(tab, html):
    unnamed = "[...document.querySelectorAll('select, input, [tabindex], svg[role=img]')].filter((e) => !(e.labels?.length || e.ariaLabel || e.tagName === 'PRE'))"
    assert tab.evaluate(f"{unnamed}.length") == 0
    show(tab, html, width=390, height=844)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    tab.call("Emulation.setEmulatedMedia", media="print")
    visible = "(name) => getComputedStyle(document.querySelector(name)).display !== 'none'"
    assert tab.evaluate(f"['.controls', '.list', '.count', '#rollout', 'figure'].filter({visible})") == ["#rollout", "figure"]
    tab.call("Emulation.setEmulatedMedia", media="")


@needs_browser
@pytest.mark.parametrize("scheme, ground", [("light", "rgb(255, 255, 255)"), ("dark", "rgb(22, 22, 22)")])
def test_the_page_follows_the_screen(tab, html, scheme, ground):
    tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    show(tab, html)
    grounds = "['body', '.tall thead th', '.controls select'].map((name) => getComputedStyle(document.querySelector(name)).backgroundColor)"
    assert tab.evaluate(grounds) == [ground] * 3
    fills = "[...document.querySelectorAll('svg')].every((e) => (getComputedStyle(e).filter === 'none') === %s)"
    assert tab.evaluate(fills % str(scheme == "light").lower())
    tab.call("Emulation.setEmulatedMedia", features=[])


@needs_browser
def test_fifty_thousand_rollouts_are_shown_and_filtered(folder, tab, tmp_path):
    """The time is printed and not asserted."""
    cells = frame(folder / "cells.parquet", CELLS)
    runs = read_runs(folder / "cells", cells, 10**6)
    many = pl.concat([runs.shown.with_columns(seed=pl.lit(copy, pl.Int32)) for copy in range(105)])
    assert many.height == 50_400
    data = encode(payload(many, frame(folder / "problems.parquet", PROBLEMS), {arm: arm for arm in ARMS}))
    page = tmp_path / "many.html"
    page.write_text(re.sub(r'(id="rollouts">)[^<]*', lambda found: found[1] + data, report(folder, tmp_path / "few.html").read_text()))
    show(tab, page)
    start = time.perf_counter()
    set_filters(tab, {"arm": 2, "label": 0})
    print(f"50,400 rollouts filtered and shown in {1000 * (time.perf_counter() - start):.0f} ms")
    assert tab.evaluate("Number(document.getElementById('count').dataset.shown)") == many.filter(arm="v_act", label="exploited").height
