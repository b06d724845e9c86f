"""Starts a command as an ordinary user, and is one: `python -m verify.ordinary` judges the quick attacks and their twins.

Python may lie where only root can read, so the command keeps the one capability that reading needs. The sandbox drops it.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

USER = 65534  # nobody
REASON = "needs root, which starts it as another user" if os.geteuid() != 0 else None if shutil.which("setpriv") else "needs setpriv (util-linux)"


def as_ordinary_user(*command: str) -> subprocess.CompletedProcess:
    with tempfile.TemporaryDirectory() as home:
        os.chown(home, USER, USER)
        as_user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        own = {"PYTHONDONTWRITEBYTECODE": "1", "HOME": home, "TMPDIR": home, "PYTHONPATH": str(Path(__file__).parents[1])}
        kept = {name: os.environ[name] for name in ("PATH", "PGRPO_TYPECHECK", "LANG") if name in os.environ}
        return subprocess.run([*as_user, *command], env=kept | own, capture_output=True, text=True, check=False)


def main() -> None:
    """Prints the user, how many attacks were accepted, how many twins were refused, and how many programs were judged."""
    from projected_grpo.ground_truth.verdicts import verdicts_of
    from verify.attacks import ATTACKS, ELSEWHERE
    from verify.sandbox import sandbox
    from verify.verify_attacks import rows_of
    from verify.verify_environment import PROBLEM, TRUTH

    accepted = refused = count = 0
    groups = [(PROBLEM, TRUTH, ATTACKS), *((*rows_of(kind), attacks) for kind, attacks in ELSEWHERE.items())]
    for problem, truth, attacks in groups:
        quick = [attack for attack in attacks if attack.pace == "quick"]
        programs = [attack.program for attack in quick] + [attack.twin for attack in quick]
        verdicts = verdicts_of(programs, [problem] * len(programs), [truth], sandbox())
        accepted += sum(verdict.correct is not False for verdict in verdicts[: len(quick)])
        refused += sum(verdict.correct is not True for verdict in verdicts[len(quick) :])
        count += len(programs)
    print(os.geteuid(), accepted, refused, count)


if __name__ == "__main__":
    main()
