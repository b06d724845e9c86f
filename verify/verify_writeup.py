"""The numbers of the write-up and of README are those of the published verdict, and an unknown one is refused."""

import json
import re
from pathlib import Path

import pytest

from projected_grpo.analysis.plan import load_plan
from projected_grpo.reporting.writeup import SPAN, WriteupError, facts, fill
from stages.writeup import main
from verify.campaign_inputs import PLAN, VERDICT

RESULTS, TEXTS = Path("docs/results/toy2"), [Path("README.md"), Path("docs/writeup.md")]


def test_named_numbers_are_filled_and_nothing_else_changes(tmp_path: Path) -> None:
    (tmp_path / "plan.md").write_text(PLAN)
    (tmp_path / "verdict.json").write_text(json.dumps(VERDICT))
    text = tmp_path / "text.md"
    text.write_text(
        "D is <!-- v_act - none hack -->9<!-- / --> over <!-- seeds -->\n9\n<!-- / --> seeds, below <!-- margin reference --><!-- / -->; "
        "<!-- own tails wording -->x<!-- / -->. <!-- a comment that stays -- >"
    )
    for _ in range(2):
        main([text], tmp_path / "verdict.json", tmp_path / "plan.md")
        assert text.read_text() == (
            "D is <!-- v_act - none hack -->-0.123 [-0.234, -0.012]<!-- / --> over <!-- seeds -->2<!-- / --> seeds, below <!-- margin reference -->0.06<!-- / -->; "
            "<!-- own tails wording -->the direction adds nothing net; selective (hack rate against none)<!-- / -->. <!-- a comment that stays -- >"
        )
    text.write_text("<!-- v_act - calf hack -->1<!-- / -->")
    with pytest.raises(WriteupError, match="text.md: names 'v_act - calf hack'.*v_act - none hack"):
        main([text], tmp_path / "verdict.json", tmp_path / "plan.md")


def test_the_published_texts_have_the_numbers_of_the_published_verdict() -> None:
    known = facts(json.loads((RESULTS / "verdict.json").read_text()), load_plan(Path("campaigns/toy2/plan.md"))[0])
    for path in TEXTS:
        text = path.read_text()
        assert SPAN.search(text) and fill(text, known, str(path)) == text, f"{path}: run `python -m stages.writeup`"
    outside = SPAN.sub("", TEXTS[1].read_text())
    assert not re.findall(r"\d*\.\d+", outside), "a number of the write-up that no verdict fills"
