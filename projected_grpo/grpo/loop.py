"""GRPO whose updates are routed between the deployed and the quarantine block by a direction. The ground-truth monitor
is not here: training sees the exploitable environment's reward and the routing score, and nothing else."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from projected_grpo.env.sandbox.runner import Sandbox
from projected_grpo.gate.directions import extract_v_act
from projected_grpo.gate.zones import Gate
from projected_grpo.grpo.checkpoint import TABLES, Checkpoints
from projected_grpo.grpo.records import feature_rows, gate_rows, rollout_ids, rollout_rows, step_row
from projected_grpo.grpo.rollouts import Rollouts, pay, sample_rollouts
from projected_grpo.grpo.schedule import learning_rate
from projected_grpo.grpo.update import Update, accumulate, behaviour_logp
from projected_grpo.policy.policy import Policy
from projected_grpo.sampling.local import LocalSampler
from projected_grpo.settings import Settings


@dataclass
class Trainer:
    """`problems` are the training split; `pair_sides` holds the pairs' tokens where the direction is refreshed."""

    settings: Settings
    policy: Policy
    gate: Gate
    problems: list[dict]
    pair_sides: dict[str, list[list[int]]] | None
    sandbox: Sandbox
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        train = self.settings.scale.train
        self.sampler = LocalSampler(self.policy, self.settings.scale.sampling.max_new_tokens)
        one_block = self.settings.gate.policy == "none"  # rank 2r deploys whole, so there is nothing to ablate
        self.deployed_copies = 0 if one_block else int(train.group * train.gen_deploy_frac)
        self.optimizer = torch.optim.AdamW(
            self.policy.parameters(), lr=train.learning_rate, betas=(0.9, 0.99), weight_decay=train.decay
        )

    def run(self, checkpoints: Checkpoints, report: Callable[[dict], None]) -> int | None:
        """Train to the last step. Returns the step resumed from, or None. Rows end up in the checkpoints."""
        state = checkpoints.latest()
        start = self.restore(state) if state else 0
        rows: dict[str, list[dict]] = {name: [] for name in TABLES}
        train = self.settings.scale.train
        for step in range(start, train.steps):
            for name, new in self.step(step).items():
                rows[name] += new
            self._refresh(step)
            report(rows["steps"][-1])
            if (step + 1) % train.checkpoint_every == 0 or step + 1 == train.steps:
                checkpoints.save(step + 1, self.state(step + 1), rows)
                rows = {name: [] for name in TABLES}
        return start if state else None

    def step(self, step: int) -> dict[str, list[dict]]:
        """One step, and its rows by table."""
        settings, train = self.settings, self.settings.scale.train
        with self._phase("sample"):
            sampled = sample_rollouts(
                self.policy.base, self.sampler, self.problems, step, train, self.deployed_copies, settings.seed
            )
        with self._phase("grade"):
            rollouts = pay(self.policy.base, sampled, train.group, self.sandbox)
        with self._phase("gate"):
            pooled, logp_deployed = self._read(rollouts)
        ids = rollout_ids(step, len(rollouts.texts), train.group)
        rate = learning_rate(step, train)
        rows = {
            "rollouts": rollout_rows(step, ids, rollouts, train.group),
            "features": feature_rows(ids, pooled),
            "gate": [],
        }
        gated = rollouts.gated.nonzero()[:, 0]
        if len(gated) == 0:
            self._phase_skipped("update")
            return rows | {"steps": [step_row(step, rollouts, None, None, None, rate, None)]}
        with self._phase("update"):
            decision = self.gate.assign(pooled[gated])
            batch, update, gap = self._update(rollouts, gated, decision.zones, logp_deployed, rate)
        mask = batch.completion_mask()
        rows["gate"] = gate_rows([ids[i] for i in gated.tolist()], decision, update, mask)
        rows["steps"] = [step_row(step, rollouts, decision.zones, update, mask, rate, gap)]
        return rows

    def _refresh(self, step: int) -> None:
        every = self.settings.gate.refresh_every
        if every and (step + 1) % every == 0:
            self.gate.direction = extract_v_act(self.policy, self.pair_sides, self.settings.scale.train.micro_batch)

    def _read(self, rollouts: Rollouts) -> tuple[Tensor, Tensor]:
        """Pooled deployed bottlenecks (N, M, r) and deployed log-probabilities (N, L) of all rollouts."""
        batch = rollouts.batch(torch.arange(len(rollouts.texts)))
        order = batch.micro_batches(self.settings.scale.train.micro_batch)
        logp = torch.zeros(batch.completion_mask().shape)
        pooled = []
        for index in order:
            acts, part = self.policy.read_deployed(batch.select(index))
            pooled.append(acts)
            logp[index, : part.shape[1]] = part
        return torch.cat(pooled)[torch.cat(order).argsort()], logp

    def _update(self, rollouts: Rollouts, gated: Tensor, zones: Tensor, logp_deployed: Tensor, rate: float):
        """One optimizer step on the gated rollouts. Returns (batch, update, largest sampler gap)."""
        train = self.settings.scale.train
        batch, deployed = rollouts.batch(gated), rollouts.sampled_deployed[gated]
        width = int(batch.completion_length.max())
        logp_old, matches = behaviour_logp(
            self.policy, batch, zones, deployed, logp_deployed[gated, :width], train.micro_batch
        )
        update: Update = accumulate(
            self.policy,
            batch,
            zones,
            rollouts.advantage[gated],
            logp_old,
            matches,
            train,
            self.settings.scale.sampling.max_new_tokens,
        )
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), train.grad_clip)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        gap = _sampler_gap(rollouts, gated[deployed].tolist(), logp_deployed)
        return batch, update, gap

    def state(self, step: int) -> dict:
        return {
            "step": step,
            "adapter": self.policy.state(),
            "optimizer": self.optimizer.state_dict(),
            "direction": self.gate.direction,
            "buffer": self.gate.buffer.pooled,
            "seconds": self.seconds,
        }

    def restore(self, state: dict) -> int:
        self.policy.load_state(state["adapter"], "the checkpoint")
        self.optimizer.load_state_dict(state["optimizer"])
        self.gate.direction, self.gate.buffer.pooled = state["direction"], state["buffer"]
        self.seconds = state["seconds"]
        return state["step"]

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds.setdefault(name, []).append(round(time.perf_counter() - start, 4))

    def _phase_skipped(self, name: str) -> None:
        self.seconds.setdefault(name, []).append(0.0)


def _sampler_gap(rollouts: Rollouts, deployed: list[int], logp_deployed: Tensor) -> float | None:
    """Largest difference between the sampler's and the gate's log-probabilities of deployed rollouts, nats."""
    gaps = []
    for i in deployed:
        sampled = torch.tensor(rollouts.completions[i].logprob)
        gaps.append(float((sampled - logp_deployed[i, : len(sampled)]).abs().max()))
    return max(gaps) if gaps else None
