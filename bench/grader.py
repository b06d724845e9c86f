"""Programs graded in a second and CPU milliseconds a program, beside a fresh `python -c` for each, in one run.

Usage, on an otherwise idle machine: `python -m bench.grader [--programs N]`, N at least 10. Both sides run the same programs
with ten tests, two at a time: the sandbox as training uses it (channels looked for, answers compared outside), and an
interpreter a program that executes it and ten asserts. Ten reports show whether memory grows.
"""

import json
import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.environment.grader import grade
from projected_grpo.programs.sandbox.runner import Sandbox
from projected_grpo.prompts.modes import MODES
from projected_grpo.settings.profile import Grading, ToyProblems
from projected_grpo.toy_world.toy import make_problems

LIMITS = Grading(cpu_s=2, wall_s=20, memory_mb=1024, workers=2)
WORLD = ToyProblems(kind="toy", train=60, val=1, test=1, visible_tests=10, heldout_tests=1, seed=0)
FRESH = 200  # programs given to fresh interpreters
REPORTS = 10


def main(programs: Annotated[int, typer.Option(help="Programs given to the sandbox.", min=10)] = 4000) -> None:
    problems, truths = make_problems(WORLD, MODES)
    rows = [problems[i % len(problems)] for i in range(programs)]
    texts = [f"{truths[i % len(truths)]['canonical_solution']}# {i}\n" for i in range(programs)]
    fresh_rate, fresh_cpu = fresh(texts[:FRESH], rows[:FRESH])
    print(f"fresh python -c: {fresh_rate:7.1f} programs/s  {fresh_cpu * 1e3:6.1f} ms CPU a program")
    with Sandbox(LIMITS) as sandbox:
        spent = 0.0
        for part in range(REPORTS):
            chosen = slice(part * programs // REPORTS, (part + 1) * programs // REPORTS)
            began, cpu = time.perf_counter(), time.process_time() + servers_cpu(sandbox)
            grades = grade(texts[chosen], rows[chosen], sandbox)
            seconds = time.perf_counter() - began
            assert all(given.visible_pass for given in grades), "a canonical solution was refused"
            spent += seconds
            count = len(grades)
            cpu = (time.process_time() + servers_cpu(sandbox) - cpu) / count
            servers = sum(resident(server.process.pid) for server in sandbox.servers)
            print(f"sandbox:         {count / seconds:7.1f} programs/s  {cpu * 1e3:6.1f} ms CPU a program  "
                  f"memory: this process {resident(os.getpid()):.0f} MB, servers {servers:.0f} MB", flush=True)  # fmt: skip
    print(f"ratio of programs a second: {programs / spent / fresh_rate:.1f}; {programs / spent * 60:.0f} programs a minute")


def fresh(texts: list[str], rows: list[dict]) -> tuple[float, float]:
    """(programs a second, CPU seconds a program) of one interpreter a program."""
    codes = []
    for text, row in zip(texts, rows):
        asserts = [f"assert solve(*{t['args']!r}) == {t['expected']!r}" for t in json.loads(row["visible_tests"])]
        codes.append("\n".join([text, *asserts]))
    began, cpu = time.perf_counter(), children_cpu()
    with ThreadPoolExecutor(LIMITS.workers) as pool:
        list(pool.map(lambda code: subprocess.run([sys.executable, "-c", code], check=True), codes))
    return len(codes) / (time.perf_counter() - began), (children_cpu() - cpu) / len(codes)


def servers_cpu(sandbox: Sandbox) -> float:
    """CPU seconds of the fork-servers and of the programs that they waited for."""
    total = 0
    for server in sandbox.servers:
        fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(int(ticks) for ticks in fields[11:15])
    return total / os.sysconf("SC_CLK_TCK")


def children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def resident(pid: int) -> float:
    """Resident memory, MB."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


if __name__ == "__main__":
    typer.run(main)
