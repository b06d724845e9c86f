"""GRPO whose updates are routed between the deployed and the quarantine block by a direction. The ground-truth monitor
is not here: training sees the exploitable environment's reward, the routing score and what a monitor of the arm says."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace

import torch
from torch import Tensor

from projected_grpo.core.seeds import derive_seed
from projected_grpo.environment.checked import Checked
from projected_grpo.gate.pairs import PairTokens, read_side
from projected_grpo.gate.refresh import age, current_direction
from projected_grpo.gate.zones import Decision, Gate, PairReadings, deal
from projected_grpo.grpo import ranks
from projected_grpo.grpo.checkpoint import TABLES, Checkpoints
from projected_grpo.grpo.demonstrations import Demonstrations
from projected_grpo.grpo.monitors import Monitor, labelled_zones, watch
from projected_grpo.grpo.records import feature_rows, gate_rows, rollout_ids, rollout_rows, step_row
from projected_grpo.grpo.rollouts import Rollouts, pay, sample_rollouts
from projected_grpo.grpo.schedule import learning_rate
from projected_grpo.grpo.tripwire import Tripwire, require_agreement
from projected_grpo.grpo.update import Update, accumulate, behaviour_logp
from projected_grpo.messages.memory import advises, forward_lever
from projected_grpo.policy.policy import Policy
from projected_grpo.policy.readings import read_deployed
from projected_grpo.sampling.protocol import Sampler
from projected_grpo.settings.arm import PERMUTED, Settings, deployed_copies

PHASES = ("sample", "grade", "gate", "monitor", "update")


@dataclass
class Trainer:
    """`problems` are the training split. `cut_pairs` are the authored pairs where these set the cuts; `direction_pairs`
    are those from which the direction is extracted again at a refresh, where it comes from pairs. `demonstrations` is
    None where the curriculum has none, `monitor` in an arm without one."""

    settings: Settings
    policy: Policy
    gate: Gate
    problems: list[dict]
    cut_pairs: PairTokens | None
    direction_pairs: PairTokens | None
    environment: Checked
    sampler: Sampler
    demonstrations: Demonstrations | None = None
    monitor: Monitor | None = None
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        train = self.settings.profile.train
        self.direction = self.gate.direction  # as it was made, before any refresh
        self.deployed_copies = deployed_copies(self.settings)
        forward = forward_lever(train, self.settings.profile.sampling)
        self.levers = {"gate": forward, "update": forward}
        self.tripwire = Tripwire(self.settings.curriculum.kl_limit)
        self.optimizer = torch.optim.AdamW(
            self.policy.parameters(), lr=train.learning_rate, betas=(0.9, 0.99), weight_decay=train.decay
        )

    def run(self, checkpoints: Checkpoints | None, report: Callable[[Mapping[str, list[dict]]], None]) -> int | None:
        """Train to the last step, or to the one that trips the tripwire. Returns the step resumed from, or None.

        `report` gets each step's rows by table. Rows end up in the checkpoints, which the first rank alone has.
        """
        state = ranks.from_first(checkpoints and checkpoints.latest())
        start = self.restore(state) if state else 0
        rows: dict[str, list[dict]] = {name: [] for name in TABLES}
        train = self.settings.profile.train
        for step in range(start, train.steps):
            if self.tripwire.diverged_at_step is not None:
                break
            new = self.step(step)
            for name in rows:
                rows[name] += new[name]
            report(new)
            require_agreement(rows["steps"][-1]["sampler_gap"], self.policy.base.model.dtype)
            self.tripwire.watch(step, rows["steps"][-1]["kl"])
            diverged = self.tripwire.diverged_at_step is not None
            if not diverged:
                with self._phase("gate"):
                    self._refresh(step)
            if (step + 1) % train.checkpoint_every == 0 or step + 1 == train.steps or diverged:
                if checkpoints:
                    checkpoints.save(step + 1, self.state(step + 1), rows)
                rows = {name: [] for name in TABLES}
        return start if state else None

    def step(self, step: int) -> dict[str, list[dict]]:
        """One step, and its rows by table."""
        for phase in PHASES:
            self.seconds.setdefault(phase, []).append(0.0)
        settings, train = self.settings, self.settings.profile.train
        with self._phase("sample"):
            sampled = sample_rollouts(
                self.policy.base, self.environment, self.sampler, self.problems, step, train, self.deployed_copies, settings.seed, settings.curriculum.inoculate
            )
            if self.demonstrations:
                sampled = self.demonstrations.mix(sampled, step, train.group)
        with self._phase("grade"):
            rollouts = pay(self.policy.base, self.environment, sampled, train.group)
        rows = {"rollouts": [], "features": [], "gate": []}
        rate, direction_age = learning_rate(step, train), age(step, settings.gate.refresh_every)
        decision = update = mask = None
        with self.policy.held():
            with self._phase("gate"):
                readings, logp_deployed = self._read(rollouts)
            read = readings[settings.gate.reading]
            with self._phase("monitor"):
                rollouts = watch(self.monitor, settings.monitor.use, rollouts, read, train.group, self.environment.passes)
            ids = rollout_ids(step, len(rollouts.texts), train.group)
            rows["rollouts"] = rollout_rows(step, ids, rollouts, train.group)
            rows["features"] = feature_rows(ids, {name: readings[name] for name in settings.gate.features})
            gated = rollouts.gated.nonzero()[:, 0]
            try:
                if len(gated):
                    with self._phase("gate"):
                        decision = self._decide(step, rollouts, gated, read[gated])
                    with self._phase("update"):
                        update = self._gradients(rollouts, gated, decision.zones, logp_deployed)
            except FloatingPointError as error:  # raised before the optimizer's step, so the policy is still that of this step
                self.tripwire.trip(step, str(error))
                decision = None
        if update:
            with self._phase("update"):
                self._descend(rate)
            mask = rollouts.batch(gated).completion_mask()
            rows["gate"] = gate_rows([ids[i] for i in gated.tolist()], decision, update, mask)
        return rows | {"steps": [step_row(step, rollouts, decision, update, mask, rate, direction_age)]}

    def _refresh(self, step: int) -> None:
        every = self.settings.gate.refresh_every
        if every and (step + 1) % every == 0:
            widths = list(self.gate.widths.values())
            self.gate.aim(current_direction(self.settings, self.policy, self.direction, self.direction_pairs, widths))

    def _read(self, rollouts: Rollouts) -> tuple[dict[str, Tensor], Tensor]:
        """The readings (N, D) that are saved, and deployed log-probabilities (N, L), of all rollouts."""
        everyone = torch.arange(len(rollouts.texts))
        batch, train = rollouts.batch(everyone[ranks.share(len(everyone))]), self.settings.profile.train
        readings, logp = read_deployed(self.policy, batch, self.settings.gate.features, train.micro_tokens)
        return {name: ranks.gather_rows(own) for name, own in readings.items()}, ranks.gather_rows(logp)

    def _decide(self, step: int, rollouts: Rollouts, gated: Tensor, readings: Tensor) -> Decision:
        decision, policy = self.gate.assign(readings, self._read_pairs()), self.settings.gate.policy
        if policy == "labelled":
            return replace(decision, zones=labelled_zones(rollouts.seen)[gated])
        if policy not in (*PERMUTED, "labelled_masses"):
            return decision
        order = torch.rand(len(gated), generator=torch.Generator().manual_seed(derive_seed(self.settings.seed, "deal", step)))
        sign, prompt = (rollouts.advantage[gated] > 0).long(), gated // self.settings.profile.train.group
        cells = {"permuted_sign": sign, "permuted_prompt_sign": 2 * prompt + sign}.get(policy, torch.zeros_like(gated))
        if policy == "labelled_masses":
            order += labelled_zones(rollouts.seen)[gated]
        return replace(decision, zones=deal(decision.zones, cells, order))

    def _read_pairs(self) -> PairReadings | None:
        if self.cut_pairs is None:
            return None
        reading, size = self.settings.gate.reading, self.settings.profile.train.micro_tokens
        hack, clean = (read_side(self.policy, side, [reading], size) for side in (self.cut_pairs.hack, self.cut_pairs.clean))
        return hack[reading], clean[reading]

    def _gradients(self, rollouts: Rollouts, gated: Tensor, zones: Tensor, logp_deployed: Tensor) -> Update:
        """Gradients of the gated rollouts, of which this rank differentiates its share."""
        train, share = self.settings.profile.train, ranks.share(len(gated))
        own, zones = gated[share], zones[share]
        batch = rollouts.batch(own)
        width = int(batch.completion_length.max())
        logp_old, matches = behaviour_logp(
            self.policy, batch, zones, rollouts.sampled_deployed[own], logp_deployed[own, :width], train.micro_tokens
        )
        return accumulate(
            self.policy,
            batch,
            zones,
            self.settings.gate.masking,
            rollouts.advantage[own],
            logp_old,
            matches,
            rollouts.sampler_logp(own),
            train,
            self.settings.profile.sampling.max_new_tokens,
        )

    def _descend(self, rate: float) -> None:
        """One optimizer step at this learning rate."""
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.settings.profile.train.grad_clip)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()

    def state(self, step: int) -> dict:
        return {
            "step": step,
            "adapter": self.policy.state(),
            "optimizer": self.optimizer.state_dict(),
            "direction": self.gate.direction,
            "buffer": self.gate.buffer.readings,
            "tripwire": asdict(self.tripwire),
            "seconds": self.seconds,
        }

    def restore(self, state: dict) -> int:
        self.policy.load_state(state["adapter"], "the checkpoint")
        self.optimizer.load_state_dict(state["optimizer"])
        self.gate.direction, self.gate.buffer.readings = state["direction"], state["buffer"]
        self.tripwire = Tripwire(**state["tripwire"])
        self.seconds = state["seconds"]
        return state["step"]

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        """Add the seconds of this block to the step's phase `name`. Raises MemoryShortage where the GPU's memory runs out."""
        start = time.perf_counter()
        with advises(self.levers[name]) if name in self.levers else nullcontext():
            yield
        if self.policy.base.device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds[name][-1] = round(self.seconds[name][-1] + time.perf_counter() - start, 4)

