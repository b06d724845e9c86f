"""How far output masking bends the quarantine's gradient: its cosine with that of parameter masking, which is exact.

Usage, after `make repro`: `python -m bench.masking`. The last gated rollouts are taken with their saved zones and
advantages, under the trained adapter and rho = 1. The deployed block has the same gradient under both.
"""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from projected_grpo.core.base import load_base
from projected_grpo.core.parquet import read_rows
from projected_grpo.core.runtime import deterministic
from projected_grpo.core.tables import GATE, ROLLOUTS, ZONE_NAMES
from projected_grpo.gate.zones import ABSORB, KEEP, ROUTE, zone_state
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.policy.inits import load_init
from projected_grpo.policy.policy import Policy
from projected_grpo.settings.arm import load_settings

ROLLOUTS_READ = 256


def quarantine_gradient(
    policy: Policy, batch: TokenBatch, zones: Tensor, advantage: Tensor, masking: str, micro_tokens: int
) -> Tensor:
    """Of the sum of advantage times log-probability, all layers in one vector."""
    for parameter in policy.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for zone in (KEEP, ABSORB, ROUTE):
        inside = (zones == zone).nonzero()[:, 0]
        for layout in policy.lay_out(batch.select(inside), micro_tokens) if len(inside) else ():
            logp = policy.token_logp(layout, policy.forward(layout, zone_state(zone, masking)).last_hidden_state)
            (logp.sum(1) * advantage[inside[layout.index.cpu()]].to(logp.device)).sum().backward()
    return torch.cat([g.flatten() for layer in policy.layers.values() for g in layer.block_gradients()[1]])


def main() -> None:
    deterministic()
    settings = load_settings()
    init = load_init(Path("artifacts/init"), settings.adapter)
    policy = Policy(load_base(Path("artifacts/base"), settings.profile.model.device), init, settings.profile.sampling.temperature)
    policy.load(Path("artifacts/train/adapter"))
    gated = {row["rollout_id"]: row["zone"] for row in read_rows(Path("artifacts/train/gate.parquet"), GATE)}
    rollouts = read_rows(Path("artifacts/train/rollouts.parquet"), ROLLOUTS)
    rows = [row for row in rollouts if row["rollout_id"] in gated][-ROLLOUTS_READ:]
    zones = torch.tensor([ZONE_NAMES.index(gated[row["rollout_id"]]) for row in rows])
    advantage = torch.tensor([row["advantage"] for row in rows])
    batch = TokenBatch.collate([row["prompt_tokens"] for row in rows], [row["completion_tokens"] for row in rows])
    routed = (zones == ROUTE).nonzero()[:, 0]
    for name, index in (("all gated rollouts", torch.arange(len(rows))), ("routed rollouts", routed)):
        part = (policy, batch.select(index), zones[index], advantage[index])
        micro_tokens = settings.profile.train.micro_tokens
        output, exact = (quarantine_gradient(*part, masking, micro_tokens) for masking in ("output", "parameter"))
        cosine, ratio = float(cosine_similarity(output, exact, dim=0)), float(output.norm() / exact.norm())
        print(f"{name:<18} {len(index):>4}  cosine {cosine:.4f}  norm of output / parameter masking {ratio:.3f}")


if __name__ == "__main__":
    main()
