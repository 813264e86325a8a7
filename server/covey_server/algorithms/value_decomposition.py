"""Cooperative Q-learning by a team value that is mixed from the agents' own values: what VDN and QMIX share.

Each agent i has a utility Q_i of its own observation and action. The team's value of a joint action a is mixed from the
utilities of those who act, and rises with each of them, so that the best joint action is made of everybody's own best:

    Q_tot(x, a) = mix(Q_1(o_1, a_1), ..., Q_N(o_N, a_N); x)        d mix / d Q_i >= 0

Learned is Q_tot, from the team's reward r = r_1 + ... + r_N, by double Q-learning (van Hasselt et al., 2016):

    a*_i = argmax Q_i(o'_i, a)                                     the best that is legal, by the networks
    y    = r + gamma (1 - d) mix'(Q'_1(o'_1, a*_1), ..., Q'_N(o'_N, a*_N); x')      by the target networks
    L    = mean (Q_tot(x, a) - y)^2

then targets move: theta' += tau (theta - theta'). d is 1 when nobody goes on: all agents have terminated. An agent that
is dead takes no part in the mix, and gets no reward; one that was cut off is valued by what it saw last.

The agents play epsilon-greedily: each one's action is uniform with probability epsilon, which falls linearly, and
otherwise its best.

Dims: M members of the pass, B samples, N agents, A width of all agents' actions, W of the widest.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from covey.bounds.experience import stream_steps
from covey.bounds.layers import LayerOutputs, layer_outputs
from covey.config import Config, ValueDecompositionAlgorithm, ValueDecompositionHyperparameters
from covey.networks import NetworkSpec
from covey.networks.resolve import network_ids
from covey.spaces import EnvironmentSpaces
from covey_server.algorithms.agent_types import MAX_PADDED_WIDTH
from covey_server.algorithms.discrete_team import DiscreteTeam
from covey_server.algorithms.loss_means import LossMeans
from covey_server.algorithms.member_vectors import MemberVectors
from covey_server.algorithms.normalised_batches import NormalisedBatches
from covey_server.algorithms.policy_inputs import PolicyInputs
from covey_server.algorithms.roles import actor_spec, networks_by_id
from covey_server.algorithms.schedules import scheduled
from covey_server.algorithms.statistics import kept_statistics
from covey_server.algorithms.team import Team
from covey_server.experience.batch import Batch
from covey_server.experience.replay import Replay
from covey_server.member import Member, MemberSizes
from covey_server.orders.pace import UpdatesPerStep
from covey_server.packing import counter_rng
from covey_server.packing.networks_by_role import PackedNetworks, Pass
from covey_server.packing.pack_rows import Mode
from covey_server.packing.policy_snapshot import PolicySnapshot
from covey_server.packing.torch_ops import gradients
from covey_server.packing.updates import backend_of


class ValueDecomposition(DiscreteTeam):
    """Base of VDN and QMIX: stacks the population's utilities and mixers and updates them from replay.

    Args:
        config: The run's configuration.
        spaces: Spaces of the environment.
        members: The population. `Member.updates` counts on with every update; everything else in a member stays as it
            is until `unpack`.
        device: Where training happens.
        population: As `Algorithm` has it.
    """

    with_targets: ClassVar[bool] = True
    normalizes = True
    state_roles: ClassVar[tuple[str, ...] | None] = ()

    # -- what a run consists of -----------------------------------------------------------------------------------

    @classmethod
    def network_specs(cls, config: Config, spaces: EnvironmentSpaces) -> dict[str, NetworkSpec]:
        """Describe a member's networks: utilities, by which actors act, and what mixes them."""
        ids, configs = networks_by_id(config, spaces)
        utilities = {f"actor/{i}": actor_spec(config.algorithm, configs[i], spaces, ids[i]) for i in ids}
        return utilities | cls.mixer_specs(config, spaces)

    @classmethod
    @abstractmethod
    def mixer_specs(cls, config: Config, spaces: EnvironmentSpaces) -> dict[str, NetworkSpec]:
        """Describe the networks that mix utilities, by key; none where nothing of the mix is learned."""

    @classmethod
    def layer_outputs(cls, config: Config, spaces: EnvironmentSpaces, specs: Mapping[str, NetworkSpec]) -> LayerOutputs:
        """Count what layers give for one sample: utilities act for each of their agents, mixers for the team."""
        ids = network_ids(spaces, config.algorithm.share_parameters)
        agents = {f"actor/{i}": len(its) for i, its in ids.items()}
        return LayerOutputs.total(layer_outputs(spec).times(agents.get(key, 1)) for key, spec in specs.items())

    @classmethod
    def experience(cls, config: Config, spaces: EnvironmentSpaces, device: torch.device) -> Replay:
        """Make an empty replay memory, which all members share."""
        memory = config.replay_buffer
        replay = Replay(spaces, memory.max_size, memory.max_bytes, device, stream_steps(config, spaces))
        if kept_statistics(config.algorithm):
            replay.observe()
        return replay

    @classmethod
    def pace(cls, config: Config) -> UpdatesPerStep:
        """Make the rule for updates: one for every `learn_step` env steps collected for a member."""
        return UpdatesPerStep(config.learner.max_updates_owed, config.training.learning_delay)

    # -- learning -------------------------------------------------------------------------------------------------

    def __init__(
        self,
        config: Config,
        spaces: EnvironmentSpaces,
        members: Sequence[Member],
        device: torch.device | str = "cpu",
        population: Sequence[MemberSizes] | None = None,
    ) -> None:
        assert isinstance(config.algorithm, ValueDecompositionAlgorithm)
        self._config, self._settings = config, config.algorithm
        self._seed, self._members = config.training.seed, list(members)
        self._device = torch.device(device)
        self.passes = 0
        self.member_updates = 0
        ids = network_ids(spaces, config.algorithm.share_parameters)
        self._inputs = PolicyInputs(spaces, config.algorithm, ids, self._device)
        mixers: dict[str, tuple[int, ...]] = {key: (0,) for key in self.mixer_specs(config, spaces)}
        self._normalise = None
        if kept_statistics(config.algorithm):
            reader = next((key for key in mixers if key.partition("/")[0] in (self.state_roles or ())), None)
            self._normalise = NormalisedBatches(spaces, ids, self._members, self._device, reader)
        self._agents = len(spaces.agents)
        self._columns = AgentColumns([a.action.width for a in spaces.agents], self._device)
        # Functions are not bound to this object, which would keep itself alive until garbage is collected.
        self._updates = backend_of(config, self._device, [n.spec for m in members for n in m.networks.values()])
        self._gradients_of_all = self._updates.pure(type(self)._gradients)
        own = [m.own(ValueDecompositionHyperparameters) for m in members]
        numbers = {name: [getattr(h, name) for h in own] for name in ("gamma", "tau", "batch_size")}
        self._vectors = MemberVectors(numbers, self._device)
        self._own_lr = {"lr": np.array([h.lr for h in own])}
        self._losses = LossMeans({"critic_loss": 1}, len(members), self._device)
        # How many samples batches have and packs compute: by the sizes of the whole population, whoever is due.
        self._population = [MemberSizes.of(m) for m in members] if population is None else population
        self._samples = [self._updates.padded(m.hyperparameters.batch_size) for m in self._population]
        widths = [n for a in spaces.agents for n in (a.stacked.width, a.action.width)]
        utilities = {f"actor/{i}": agents for i, agents in ids.items()}
        self._utilities = self._packed(utilities, widen=max(widths) <= MAX_PADDED_WIDTH)
        # A mixer serves the whole team, so it counts as the network of one agent.
        self._mixers = self._packed(mixers, widen=False) if mixers else None

    def _packed(self, agents: dict[str, tuple[int, ...]], *, widen: bool) -> PackedNetworks:
        return PackedNetworks(
            self._members,
            agents,
            self._device,
            widen=widen,
            multiple=self._updates.multiple,
            population=self._population,
            samples=self._samples if self._updates.cut else None,
        )

    @abstractmethod
    def _mix(self, utilities: Tensor, weights: Tensor | None) -> Tensor:
        """Mix the team's value, (M, B), from utilities, (M, B, N) with 0 for those who are dead.

        Args:
            utilities: Of what each agent does.
            weights: (M, B, outputs), what the mixer says; None without one.
        """

    def update(self, due: Sequence[int], experience: Replay) -> None:
        """Make one update of each member in `due` (positions in the population), all in one batch."""
        if self._normalise is not None and experience.observed is not None:
            self._normalise.move_on(due, experience.observed)
        chosen = tuple(sorted(due))
        ids, counts = zip(*((self._members[m].member_id, self._members[m].updates) for m in chosen), strict=True)
        keys = counter_rng.keys(self._seed, ids, counts, self._device)
        batch = experience.sample(keys, self._vectors.of("batch_size", chosen), max(self._samples))
        self.learn(chosen, batch, keys)

    @torch.no_grad()
    def learn(self, chosen: tuple[int, ...], batch: Batch, keys: Tensor) -> None:
        """Make one update of some members from a batch that was drawn.

        Args:
            chosen: Positions in the population, ascending.
            batch: A sample for each of them, observations as they came.
            keys: Unused: nothing else is drawn.
        """
        del keys
        if self._normalise is not None:
            batch = self._normalise(chosen, batch)
        for m in chosen:
            self._members[m].updates += 1
        passes = [networks.select(chosen) for networks in self.packed()]
        lr = scheduled(self._config, self._members, self._own_lr)["lr"][list(chosen)]
        runs = tuple(p.count_steps(lr) for p in passes)
        self._losses.count("critic_loss", chosen)
        self.passes += len(passes[0].rows_members)
        self.member_updates += sum(passes[0].rows_members)

        def step(*tensors: Tensor) -> list[Tensor]:
            self._step(chosen, batch.of(tensors))
            return []

        # All that decides which operations a step makes, besides what never changes in this object.
        self._updates.run((chosen, runs, batch.part is None, batch.action.shape), step, batch.tensors())

    def _step(self, chosen: tuple[int, ...], batch: Batch) -> None:
        """Do one update's tensor operations, for these members."""
        utilities = self._utilities.select(chosen)
        mixers = None if self._mixers is None else self._mixers.select(chosen)
        gamma = self._vectors.of("gamma", chosen).unsqueeze(-1)
        of_utilities, of_mixers, losses = self._gradients_of_all(self, utilities, mixers, batch, gamma)
        tau, bound = self._vectors.of("tau", chosen), self._settings.max_grad_norm
        for networks, its in ((utilities, of_utilities), (mixers, of_mixers)):
            if networks is not None:
                networks.move(its, bound)
                networks.soften(tau)
        index = None if len(chosen) == len(self._members) else self._vectors.index(chosen)
        self._losses.add("critic_loss", index, losses)

    def _gradients(
        self, utilities: Pass, mixers: Pass | None, batch: Batch, gamma: Tensor
    ) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Compute the gradients of utilities and mixers, a matrix for each stack of networks, and members' losses."""
        team = Team.of(batch)
        target = self._settings.reward_scale * team.reward + gamma * (1 - team.terminated) * self._next_value(
            utilities, mixers, team
        )
        outputs = torch.cat(self._inputs.outputs(utilities, "learn", batch.observation), -1)
        weights = self._mixer_outputs(mixers, "learn", batch.observation, batch.state)
        with torch.enable_grad():
            leaves = [x.detach().requires_grad_() for x in (outputs, weights) if x is not None]
            done = self._columns.by_agent(leaves[0] * batch.action, 0.0).sum(-1)
            value = self._mix(done * team.present, leaves[1] if mixers is not None else None)
        error = value.detach() - target
        weighted = team.weight * error  # the loss is w e^2, and its gradient 2 w e
        grads = gradients(value, leaves, 2 * weighted)
        of_utilities = utilities.agent_gradients(grads[0].split_with_sizes(self._columns.widths, -1))
        of_mixers = [] if mixers is None else mixers.agent_gradients([grads[1]])
        return of_utilities, of_mixers, (weighted * error).sum(-1)

    def _next_value(self, utilities: Pass, mixers: Pass | None, team: Team) -> Tensor:
        """Return the target networks' team value, (M, B), of what the networks would do next."""
        choice = torch.cat(self._inputs.outputs(utilities, "frozen", team.next_observation), -1)
        if team.next_legal is not None:
            choice = choice.masked_fill(~team.next_legal, -torch.inf)
        best = self._columns.by_agent(choice, -torch.inf).argmax(-1, keepdim=True)
        values = torch.cat(self._inputs.outputs(utilities, "target", team.next_observation), -1)
        done = self._columns.by_agent(values, 0.0).gather(-1, best).squeeze(-1)
        weights = self._mixer_outputs(mixers, "target", team.next_observation, team.next_state)
        return self._mix(done * team.next_present, weights)

    def _mixer_outputs(
        self, mixers: Pass | None, mode: Mode, observation: Sequence[Tensor], state: Tensor | None
    ) -> Tensor | None:
        """Run the mixers on the environment's state, or on what all agents observe where rows do not hold it.

        Returns:
            (M, B, outputs); None without mixers.
        """
        if mixers is None:
            return None
        read = observation if state is None else (state,)
        (outputs,) = mixers.outputs_by_agent(mode, [x.unsqueeze(0) for x in read])
        return outputs

    def snapshot(self) -> PolicySnapshot:
        """Copy the utilities as they are now; quick, and the copy can be read on another thread."""
        return PolicySnapshot.of([self._utilities], self._members)

    def packed(self) -> list[PackedNetworks]:
        """Return the stacked utilities and, where there are any, the stacked mixers."""
        return [self._utilities] if self._mixers is None else [self._utilities, self._mixers]

    def metrics(self) -> dict[int, dict[str, float]]:
        """Return the mean "critic_loss" of the team's value since the last call, by member id; then reset."""
        return {member.member_id: means for member, means in zip(self._members, self._losses.take(), strict=True)}


class AgentColumns:
    """The columns of each agent in the agents' outputs side by side, filled up where agents have fewer than others.

    Args:
        widths: Numbers of each agent.
        device: Where they are.
    """

    def __init__(self, widths: Sequence[int], device: torch.device) -> None:
        self.widths = list(widths)
        most, behind = max(widths), sum(widths)
        ends = np.cumsum(widths)
        # Behind the last column there will be one to fill up with.
        columns = [[*range(end - n, end), *[behind] * (most - n)] for n, end in zip(widths, ends, strict=True)]
        self._index = None if min(widths) == most else torch.tensor(columns, device=device).flatten()

    def by_agent(self, x: Tensor, fill: float) -> Tensor:
        """Take (M, B, A) apart by agent: (M, B, N, W), filled up with a number."""
        if self._index is not None:
            x = torch.nn.functional.pad(x, (0, 1), value=fill).index_select(-1, self._index)
        return x.view(*x.shape[:-1], len(self.widths), -1)
