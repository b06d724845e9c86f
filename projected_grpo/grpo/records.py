"""Table rows of one training step."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from projected_grpo.core.tables import ZONE_NAMES
from projected_grpo.gate.zones import ABSORB, KEEP, ROUTE, Decision
from projected_grpo.grpo.loss import MISMATCH_CAP
from projected_grpo.grpo.rollouts import Rollouts, Seen
from projected_grpo.grpo.update import Update
from projected_grpo.prompts.modes import GT_ONLY

BY_ZONE = ("rho", "rho_clipped", "rho_max_negative", "dual_clip_share", "mismatch", "mismatch_cut", "mismatch_kl")
SCORE_QUANTILES = {"score_p10": 0.1, "score_p50": 0.5, "score_p90": 0.9}


def rollout_ids(step: int, rollouts: int, group: int) -> list[str]:
    return [f"{step:05d}-{i // group:03d}-{i % group:03d}" for i in range(rollouts)]


def rollout_rows(step: int, ids: Sequence[str], rollouts: Rollouts, group: int) -> list[dict]:
    told = _told(rollouts)
    return [
        {
            "rollout_id": name,
            "step": step,
            "problem_id": rollouts.problems[i]["problem_id"],
            "sample": i % group,
            "shown_mode": rollouts.shown_modes[i],
            "source": "demonstration" if rollouts.demonstrated[i] else "policy",
            "sampled_with": "deployed" if rollouts.sampled_deployed[i] else "full",
            "prompt_tokens": rollouts.prompts[i],
            "completion_tokens": rollouts.completions[i].tokens,
            "text": rollouts.texts[i],
            "program": rollouts.programs[i],
            **rollouts.paid[i].columns(),
            "sampler_logprob": rollouts.completions[i].logprob,
            "reward": float(rollouts.rewards[i]),
            "advantage": float(rollouts.advantage[i]),
            "suspicion": None if told is None else float(told.suspicion[i]),
        }
        for i, name in enumerate(ids)
    ]


def feature_rows(ids: Sequence[str], readings: Mapping[str, Tensor]) -> list[dict]:
    return [
        {"rollout_id": name, "reading": reading, "vector": vector}
        for reading, vectors in readings.items()
        for name, vector in zip(ids, vectors.tolist(), strict=True)
    ]


def gate_rows(ids: Sequence[str], decision: Decision, update: Update, mask: Tensor) -> list[dict]:
    rho = (update.rho * mask).sum(1) / mask.sum(1)
    return [
        {
            "rollout_id": name,
            "score": float(decision.scores[i]),
            "cosine": float(decision.cosines[i]),
            "t_low": decision.t_low,
            "t_high": decision.t_high,
            "zone": ZONE_NAMES[int(decision.zones[i])],
            "rho_mean": float(rho[i]),
        }
        for i, name in enumerate(ids)
    ]


def step_row(
    step: int,
    rollouts: Rollouts,
    decision: Decision | None,
    update: Update | None,
    mask: Tensor | None,
    learning_rate: float,
    direction_age: int,
) -> dict:
    """The row of the table steps; `decision`, `update` and `mask` are None where no group's rewards differ or the run diverged.

    Rewards, lengths, KL and flags are of the policy's own rollouts, without the demonstrations.
    """
    policy, told = ~rollouts.demonstrated, _told(rollouts)
    hinted = torch.tensor([mode != GT_ONLY for mode in rollouts.shown_modes])
    lengths = torch.tensor([float(len(completion.tokens)) for completion in rollouts.completions])
    row = {
        "step": step,
        "reward_mean": _mean(rollouts.rewards[policy]),
        "reward_hinted": _mean(rollouts.rewards[policy & hinted]),
        "reward_unhinted": _mean(rollouts.rewards[policy & ~hinted]),
        "compiled_share": _mean(torch.tensor([float(given.compiled) for given in rollouts.paid])[policy]),
        "gated": int(rollouts.gated.sum()),
        "learning_rate": learning_rate,
        "completion_length": _mean(lengths[policy]),
        "direction_age": direction_age,
        "flagged_share": None if told is None else _mean(told.flagged[policy].float()),
    }
    names = ["qmass", "loss", "sampler_gap", "clip_fraction", "kl", "grad_norm_deployed", "grad_norm_quarantine"]
    names += [f"{name}_{zone}" for name in BY_ZONE for zone in ZONE_NAMES]
    names += [f"{zone}_share" for zone in ZONE_NAMES] + ["t_low", "t_high", *SCORE_QUANTILES]
    if update is None:
        return row | dict.fromkeys(names)
    sampled = mask & policy[rollouts.gated, None]
    total = update.grad_norm_deployed + update.grad_norm_quarantine
    row |= {
        "qmass": update.grad_norm_quarantine / total if total > 0 else None,
        "loss": update.loss,
        "sampler_gap": _max(update.mismatch[sampled].log().abs()),
        "clip_fraction": float(update.clipped[mask].float().mean()),
        "kl": _mean(update.kl[sampled]),
        "grad_norm_deployed": update.grad_norm_deployed,
        "grad_norm_quarantine": update.grad_norm_quarantine,
        "t_low": decision.t_low,
        "t_high": decision.t_high,
        **{name: float(decision.scores.quantile(q)) for name, q in SCORE_QUANTILES.items()},
    }
    negative = rollouts.advantage[rollouts.gated, None] < 0
    for zone in (KEEP, ABSORB, ROUTE):
        name, chosen = ZONE_NAMES[zone], decision.zones == zone
        inside = chosen[:, None] & mask
        row[f"{name}_share"] = float(chosen.float().mean())
        row[f"rho_{name}"] = _mean(update.rho[inside])
        row[f"rho_clipped_{name}"] = _mean(update.rho_clipped[inside])
        row[f"rho_max_negative_{name}"] = _max(update.rho[inside & negative])
        row[f"dual_clip_share_{name}"] = _mean(update.dual_clipped[inside].float())
        mismatch = update.mismatch[inside & sampled]
        row[f"mismatch_{name}"] = _mean(mismatch)
        row[f"mismatch_cut_{name}"] = _mean((mismatch > MISMATCH_CAP).float())
        row[f"mismatch_kl_{name}"] = _mean(mismatch - 1 - mismatch.log())
    return row


def _told(rollouts: Rollouts) -> Seen | None:
    """What the tables hold of a monitor: nothing of the ground-truth monitor, whose word is a label."""
    return rollouts.seen if rollouts.seen and rollouts.seen.correct is None else None


def _mean(values: Tensor) -> float | None:
    return float(values.mean()) if len(values) else None


def _max(values: Tensor) -> float | None:
    return float(values.max()) if len(values) else None
