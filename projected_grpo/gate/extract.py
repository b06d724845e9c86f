"""The tables of directions that use no ground truth, made at the untrained policy."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from projected_grpo.core.parquet import read_rows, write_table
from projected_grpo.core.tables import DIFFERENCES, DIRECTIONS, PAIRS, PROBLEMS
from projected_grpo.environment.load import load_environment
from projected_grpo.environment.render import check_lengths
from projected_grpo.gate.directions import direction_rows, haar, pair_signs, paired_direction
from projected_grpo.gate.generate import generate_pairs
from projected_grpo.gate.pairs import pair_differences, pair_tokens
from projected_grpo.policy.policy import Policy
from projected_grpo.policy.readings import module_widths
from projected_grpo.sampling.engine import open_sampler
from projected_grpo.settings.arm import DRAWN, Settings


def haar_rows(settings: Settings, policy: Policy) -> list[dict]:
    """K Haar-random directions of the shape of v_act. No pair and no problem is read."""
    rows = []
    for reading in settings.gate.features:
        widths = module_widths(policy, reading)
        draws = haar(list(widths.values()), settings.placebo.draws, settings.adapter.seed)
        rows += [row for k, draw in enumerate(draws) for row in direction_rows("haar", k, reading, widths, draw)]
    print(f"haar: {settings.placebo.draws} draws at {', '.join(settings.gate.features)}")
    return rows


def own_pairs(settings: Settings, policy: Policy, problems: Path, base: Path) -> list[dict]:
    """Pairs of the base model's own completions. No ground truth is read."""
    profile = settings.profile
    sampler = open_sampler(policy, profile.sampling, base)
    tasks = read_rows(problems, PROBLEMS)
    environment = load_environment(profile.environment, profile.problems, profile.grading)
    check_lengths(policy.base, environment, tasks, profile.sampling)
    pairs = generate_pairs(policy, environment, sampler, tasks, profile.pairs.generated, settings.adapter.seed)
    print(f"{len(pairs)} self-generated pairs")
    return pairs


def from_pairs(settings: Settings, policy: Policy, pairs: Path, folders: list[Path]) -> None:
    """Write the directions that the folders are named for, and beside the first the differences that they are made from."""
    rows, differences = read_rows(pairs, PAIRS), {}
    if rows:
        tokens = pair_tokens(policy.base, rows, settings.profile.environment)
        differences = pair_differences(policy, tokens, settings.gate.features, settings.profile.train.micro_tokens)
    for folder in folders:
        write_table(folder / "direction.parquet", DIRECTIONS, paired_rows(settings, policy, folder.name, differences))
        if settings.gate.refresh_every:
            shutil.copyfile(pairs, folder / "pairs.parquet")
    saved = [
        {"pair_id": row["pair_id"], "reading": reading, "vector": vector}
        for reading, vectors in differences.items()
        for row, vector in zip(rows, vectors.tolist(), strict=True)
    ]
    write_table(folders[0] / "differences.parquet", DIFFERENCES, saved)
    print(f"{', '.join(folder.name for folder in folders)}: from {len(rows)} pairs at {', '.join(differences) or 'no reading'}")


def paired_rows(settings: Settings, policy: Policy, name: str, differences: Mapping[str, Float[Tensor, "P D"]]) -> list[dict]:
    rows = []
    for reading, vectors in differences.items():
        widths = module_widths(policy, reading)
        for draw in range(settings.placebo.draws if name in DRAWN else 1):
            signs = pair_signs(name, draw, len(vectors), settings.adapter.seed)
            direction = paired_direction(vectors, signs, list(widths.values()), settings.gate.extraction)
            rows += direction_rows(name, draw, reading, widths, direction)
    return rows
