"""Independent Q-learning (Tan, 1993) with target networks (Mnih et al., 2015), all members in one packed pass.

For agent i with Q_i, its own observation o and action a:

    y   = r + gamma (1 - d) max_a' Q'_i(o', a')
    L_i = mean (Q_i(o, a) - y)^2

then the target Q' moves by tau. Acting is greedy with respect to Q, but for `epsilon` of the actions.

Dims: M members of the pass, B samples, N agents, A_i actions of agent i.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from covey.config import AlgorithmSettings, Config
from covey.errors import SpaceError
from covey.networks import NetworkSpec
from covey.networks.resolve import network_ids
from covey.spaces import Discrete, EnvironmentSpaces
from covey.v1.order_pb2 import Exploration
from covey_server.algorithms import Algorithm
from covey_server.algorithms.roles import actor_spec, networks_by_id
from covey_server.member import Member
from covey_server.orders.pace import UpdatesPerStep
from covey_server.packing import counter_rng
from covey_server.packing.networks_by_role import PackedNetworks
from covey_server.packing.policy_snapshot import PolicySnapshot
from own_algorithm.settings import IndependentQHyperparameters, IndependentQSettings
from own_algorithm.thinned_replay import ThinnedReplay


class IndependentQ(Algorithm):
    """A network per agent, from its observation to the values of its actions; the policy takes the best."""

    with_targets: ClassVar[bool] = True

    # -- what a run consists of -----------------------------------------------------------------------------------

    @classmethod
    def check_actions(cls, settings: AlgorithmSettings, spaces: EnvironmentSpaces) -> None:
        """Only discrete actions, and all agents acting in every step."""
        for agent in spaces.agents:
            if not isinstance(agent.action, Discrete):
                raise SpaceError(f"action of agent {agent.agent_id!r}: expected Discrete for {settings.name}")
        if spaces.asynchronous:
            raise SpaceError(f"environment: some agents wait, expected all to act in every step for {settings.name}")

    @classmethod
    def network_specs(cls, config: Config, spaces: EnvironmentSpaces) -> dict[str, NetworkSpec]:
        """One network per agent or group; its role is "actor", as actors act by it."""
        ids, configs = networks_by_id(config, spaces)
        return {f"actor/{i}": actor_spec(config.algorithm, configs[i], spaces, ids[i]) for i in ids}

    @classmethod
    def experience(cls, config: Config, spaces: EnvironmentSpaces, device: torch.device) -> ThinnedReplay:
        """The memory of this package."""
        memory = config.replay_buffer
        return ThinnedReplay(spaces, memory.max_size, memory.max_bytes, device)

    @classmethod
    def pace(cls, config: Config) -> UpdatesPerStep:
        """An update for every `learn_step` env steps of a member's own."""
        return UpdatesPerStep(config.learner.max_updates_owed, config.training.learning_delay)

    @classmethod
    def exploration(cls, config: Config, member: Member) -> Exploration:
        """Epsilon-greedy."""
        return Exploration(kind=Exploration.KIND_EPSILON_GREEDY, scale=_settings(config).epsilon)

    # -- learning -------------------------------------------------------------------------------------------------

    def __init__(
        self, config: Config, spaces: EnvironmentSpaces, members: Sequence[Member], device: torch.device | str = "cpu"
    ) -> None:
        self._settings = _settings(config)
        self._seed = config.training.seed
        self._members = list(members)
        self._device = torch.device(device)
        ids = network_ids(spaces, self._settings.share_parameters)
        self._q = PackedNetworks(self._members, {f"actor/{i}": a for i, a in ids.items()}, self._device, widen=True)
        self._widths = [agent.action.width for agent in spaces.agents]
        # Per agent: its group's position, and its columns in the group's joint observation.
        self._views: dict[int, tuple[int, slice]] = {}
        for g, group in enumerate(spaces.groups):
            width = group.observation.width
            self._views |= {a: (g, slice(k * width, (k + 1) * width)) for k, a in enumerate(group.agents)}
        self._loss = torch.zeros(len(self._members), device=self._device)
        self._losses = [0] * len(self._members)
        self.passes = 0
        self.member_updates = 0

    @torch.no_grad()
    def update(self, due: Sequence[int], experience: Any) -> None:
        """One update of each member in `due`, in one pass."""
        chosen = tuple(sorted(due))
        members = [self._members[m] for m in chosen]
        keys = counter_rng.keys(self._seed, [m.member_id for m in members], [m.updates for m in members], self._device)
        own = [m.own(IndependentQHyperparameters) for m in members]
        sizes = [h.batch_size for h in own]
        batch = experience.sample(keys, torch.tensor(sizes, device=self._device), max(sizes))
        gamma = self._vector([h.gamma for h in own])

        q = self._q.select(chosen)
        after = q.outputs_by_agent("target", [self._own(batch.next_observation)])
        now = q.outputs_by_agent("learn", [self._own(batch.observation)])
        if batch.next_legal is not None:  # what a mask forbids there cannot be the best
            legal = batch.next_legal.split(self._widths, -1)
            after = [values.masked_fill(~allowed, -torch.inf) for values, allowed in zip(after, legal, strict=True)]
        taken = batch.action.split(self._widths, -1)  # one-hot, (M, B, A_i) each
        grads, losses = [], self._vector([0.0] * len(chosen))
        for i, (values, next_values, action) in enumerate(zip(now, after, taken, strict=True)):
            target = batch.reward[..., i] + gamma[:, None] * (1 - batch.terminated[..., i]) * next_values.amax(-1)
            error = (values * action).sum(-1) - target
            weight = batch.weight[..., i] / batch.weight[..., i].sum(-1, keepdim=True).clamp(min=1)
            losses += (weight * error.square()).sum(-1)
            grads.append((2 * weight * error).unsqueeze(-1) * action)
        gradients = q.agent_gradients(grads)
        q.count_steps(np.array([h.lr for h in own]))
        q.move(gradients, None)
        q.soften(self._vector([self._settings.tau] * len(chosen)))

        for at, m in enumerate(chosen):
            self._members[m].updates += 1
            self._loss[m] += losses[at]
            self._losses[m] += 1
        self.passes += len(q.rows_members)
        self.member_updates += sum(q.rows_members)

    def snapshot(self) -> PolicySnapshot:
        """The policies as they are now."""
        return PolicySnapshot.of([self._q], self._members)

    def unpack(self) -> None:
        """Write everything back into the members."""
        self._q.unpack()

    def metrics(self) -> dict[int, dict[str, float]]:
        """Mean loss since the last call, by member."""
        sums, counts = self._loss.tolist(), self._losses
        self._loss.zero_()
        self._losses = [0] * len(counts)
        return {
            member.member_id: {"q_loss": sums[m] / counts[m]} for m, member in enumerate(self._members) if counts[m]
        }

    def _own(self, observation: Sequence[Tensor]) -> list[Tensor]:
        """What each agent sees, (M, B, width) in the order of the environment."""
        return [observation[g][..., columns] for _, (g, columns) in sorted(self._views.items())]

    def _vector(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self._device)


def _settings(config: Config) -> IndependentQSettings:
    assert isinstance(config.algorithm, IndependentQSettings)
    return config.algorithm
