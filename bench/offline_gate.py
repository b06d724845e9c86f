"""Seconds and peak memory of the offline gate test on 20,000 synthetic rollouts of the toy profile's shape.

Usage: `python -m bench.offline_gate`. 28 modules of rank 8, 30 pairs, 10,000 Haar draws and 10,000 sign patterns; exploits
are shifted along a planted direction, and v_act is made from noisy differences along it.
"""

import resource
import time

import numpy as np

from projected_grpo.analysis.gate_test import gate_test
from projected_grpo.analysis.nulls import haar_block, signed_block
from projected_grpo.analysis.offline import Judged
from projected_grpo.settings.arm import Offline

ROLLOUTS, PAIRS, WIDTHS = 20_000, 30, {f"module-{m:02d}": 8 for m in range(28)}
SETTINGS = Offline(draws=10_000, memory_mb=64)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def main() -> None:
    rng, width = np.random.default_rng(0), list(WIDTHS.values())
    planted = haar_block(width, 1, 0, 1)[0]
    exploited, positive = rng.random(ROLLOUTS) < 0.4, rng.random(ROLLOUTS) < 0.5
    readings = rng.standard_normal((ROLLOUTS, sum(width)), dtype=np.float32) + np.float32(0.2) * exploited[:, None] * planted
    noise = rng.standard_normal((PAIRS, sum(width)), dtype=np.float32)
    differences = {f"pair-{p:02d}": planted + difference / 2 for p, difference in enumerate(noise)}
    v_act = signed_block(np.stack(list(differences.values())), np.ones((1, PAIRS)), width, "mean")[0]
    before, start = peak_mb(), time.perf_counter()
    judged = Judged.of(readings, exploited, positive, planted, keep_quantile=0.1, route_quantile=0.1)
    rows, _ = gate_test(judged, {"v_act": v_act, "oracle": planted}, differences, WIDTHS, "mean", SETTINGS, seed=0)
    seconds = time.perf_counter() - start
    for row in rows:
        if (row["part"], row["metric"]) == ("whole", "auroc"):
            print(f"{row['rollouts']}: AUROC of {row['direction']} {row['value']:.4f}; Haar draws {row['haar_low']:.4f} to "
                  f"{row['haar_high']:.4f}, p {row['haar_p']:.4f}; sign patterns p {row['sign_p']:.4f}")  # fmt: skip
    print(f"{seconds:.1f} s; peak memory {peak_mb():.0f} MB, {before:.0f} MB before; offline.memory_mb is {SETTINGS.memory_mb}")


if __name__ == "__main__":
    main()
