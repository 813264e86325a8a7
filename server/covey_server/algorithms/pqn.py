"""PQN, parallelised Q-network (Gallici et al., 2024): Q-learning from rollouts, without replay or target networks.

"Simplifying Deep Temporal Difference Learning", for a team, as VDN mixes it. In env step t the agents that act have
utilities Q_i of their own observations and actions, and the team's value is their sum:

    Q_tot(x_t, a_t) = Q_1(o_1, a_1) + ... + Q_N(o_N, a_N)          V(x) = sum_i max_a Q_i(o_i, a), a legal

Of a rollout that was played epsilon-greedily by one policy, with the team's reward r_t = r_1 + ... + r_N, the lambda
returns are computed once, backwards from where a trajectory ends, by the networks that played it (Peng's Q(lambda)):

    G_t = r_t + gamma (1 - lambda) V(x_{t+1}) + gamma lambda G_{t+1}
    G_t = r_t + gamma V(x_{t+1})                                   where the rollout, or an episode's time, is over
    G_t = r_t                                                      where all agents have terminated

Then, for `update_epochs` passes over the rollout in shuffled minibatches, the networks learn by Adam to predict them:

    L   = mean (Q_tot(x_t, a_t) - G_t)^2

What keeps values bounded in place of target networks is LayerNorm: every hidden layer is normalised. The publication's
optimiser is RAdam; here it is Adam, as in all of covey's algorithms, which differs in the first steps alone.

Agents that are dead are 0 in the sum, and get no reward. An agent that was cut off while others go on counts with what
it saw last: gamma max_a Q_i(o_i', a), and no later return has it. A minibatch's env steps are of one member.

Dims: M members, B env steps of a minibatch, D env steps of all rollouts, N agents, A width of all agents' actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covey.config import Config, NetConfig, PQNHyperparameters, PQNSettings
from covey.errors import ConfigError
from covey.networks import NetworkSpec
from covey.networks.encoders import Encoder
from covey.networks.mlp import MLP
from covey.networks.multi_input import MultiInput
from covey.networks.resolve import network_ids
from covey.spaces import EnvironmentSpaces
from covey_server.algorithms.advantages import discounted_sums
from covey_server.algorithms.agent_types import MAX_PADDED_WIDTH
from covey_server.algorithms.discrete_team import DiscreteTeam
from covey_server.algorithms.estimates import CHUNK, CHUNK_BYTES, side_by_side
from covey_server.algorithms.loss_means import LossMeans
from covey_server.algorithms.member_vectors import MemberVectors
from covey_server.algorithms.minibatch_sizes import enough, even_length
from covey_server.algorithms.on_rounds import OnRounds
from covey_server.algorithms.roles import actor_spec, indicator, networks_by_id
from covey_server.algorithms.schedules import scheduled
from covey_server.algorithms.shuffles import Shuffle
from covey_server.algorithms.team_rounds import TeamPool, TeamRound, TeamRounds
from covey_server.algorithms.value_decomposition import AgentColumns
from covey_server.experience.rollouts import Rollouts
from covey_server.member import Member, MemberSizes
from covey_server.packing import counter_rng
from covey_server.packing.networks_by_role import PackedNetworks, Pass
from covey_server.packing.policy_snapshot import PolicySnapshot
from covey_server.packing.updates import backend_of


class PQN(DiscreteTeam, OnRounds):
    """PQN for a population: stacks the members' utilities and updates them from rollouts.

    Args:
        config: The run's configuration.
        spaces: Spaces of the environment.
        members: The population. `Member.updates` counts learning phases; everything else in a member stays as it is
            until `unpack`.
        device: Where training happens.
        population: As `Algorithm` has it.
    """

    state_roles = ()

    # -- what a run consists of -----------------------------------------------------------------------------------

    @classmethod
    def network_specs(cls, config: Config, spaces: EnvironmentSpaces) -> dict[str, NetworkSpec]:
        """Describe a member's networks: utilities, by which actors act, with normalised hidden layers."""
        ids, configs = networks_by_id(config, spaces)
        specs = {}
        for i, agents in ids.items():
            _check_normalised(configs[i], i)
            spec = actor_spec(config.algorithm, configs[i], spaces, agents)
            inputs = tuple(replace(own, encoder=_normalised(own.encoder)) for own in spec.inputs)
            specs[f"actor/{i}"] = replace(spec, inputs=inputs, head=replace(spec.head, layer_norm=True))
        return specs

    # -- learning -------------------------------------------------------------------------------------------------

    def __init__(
        self,
        config: Config,
        spaces: EnvironmentSpaces,
        members: Sequence[Member],
        device: torch.device | str = "cpu",
        population: Sequence[MemberSizes] | None = None,
    ) -> None:
        assert isinstance(config.algorithm, PQNSettings)
        self._config, self._settings = config, config.algorithm
        self._spaces, self._seed, self._members = spaces, config.training.seed, list(members)
        self._device = torch.device(device)
        self.passes = 0
        self.member_updates = 0
        ids = network_ids(spaces, config.algorithm.share_parameters)
        places = {a: (indicator(config.algorithm, own), n) for own in ids.values() for n, a in enumerate(own)}
        self._pool = TeamPool(spaces, places, self._device)
        self._columns = AgentColumns([a.action.width for a in spaces.agents], self._device)
        self._updates = backend_of(config, self._device, [n.spec for m in members for n in m.networks.values()])
        self._gradients_of = self._updates.pure(type(self)._gradients)  # unbound: it must not keep itself alive
        self._own = [m.own(PQNHyperparameters) for m in members]
        self._own_lr = {"lr": np.array([own.lr for own in self._own])}
        numbers = {name: [getattr(h, name) for h in self._own] for name in ("gamma", "q_lambda")}
        self._vectors = MemberVectors(numbers, self._device)
        self._losses = LossMeans({"critic_loss": 1}, len(members), self._device)
        # Minibatches and forward passes are as long as the sizes of the whole population say, whoever is due.
        everybody = [MemberSizes.of(m) for m in members] if population is None else population
        sizes = [(m.hyperparameters.learn_step, m.hyperparameters.batch_size) for m in everybody]
        self._samples = self._updates.padded(max(even_length(count, size) for count, size in sizes))
        most = max(1, CHUNK_BYTES // (4 * max(self._pool.widths)))
        self._chunk = min(CHUNK, most, self._updates.padded(max(count for count, _ in sizes)))
        widths = [*self._pool.widths, *self._columns.widths]
        self._utilities = PackedNetworks(
            members,
            {f"actor/{i}": agents for i, agents in ids.items()},
            self._device,
            widen=max(widths) <= MAX_PADDED_WIDTH,
            multiple=self._updates.multiple,
            population=everybody,
        )

    @torch.no_grad()
    def update(self, due: Sequence[int], experience: Rollouts) -> None:
        """Let each member in `due` (positions in the population) learn from its rollout, taken out of `experience`."""
        by_samples: dict[int, dict[int, TeamRound]] = {}
        for m in sorted(due):
            its = TeamRound.of(experience.take(self._members[m].member_id), self._spaces)
            if len(its):
                samples = enough(self._samples, even_length(len(its), self._own[m].batch_size))
                by_samples.setdefault(samples, {})[m] = its
        for samples, rounds in by_samples.items():
            self._learn(tuple(rounds), self._pool(list(rounds.values())), samples)
        for m in due:
            self._members[m].updates += 1

    def _learn(self, due: tuple[int, ...], rounds: TeamRounds, samples: int) -> None:
        """Let members learn in minibatches that are padded to so many env steps."""
        target = self._returns(due, rounds)
        lr = scheduled(self._config, self._members, self._own_lr)["lr"]
        ids, updates = zip(*((self._members[m].member_id, self._members[m].updates) for m in due), strict=True)
        keys = counter_rng.keys(self._seed, ids, updates, self._device)
        own = [self._own[m] for m in due]
        shuffle = Shuffle(rounds.counts, np.array([h.batch_size for h in own]), samples, self._device)
        length = np.maximum(shuffle.length, 1)[..., None]
        weight = torch.from_numpy((shuffle.own / length).astype(np.float32)).to(self._device, non_blocking=True)
        epochs = np.array([h.update_epochs for h in own])
        for e in range(epochs.max()):
            order = shuffle.order(keys, [f"shuffle/{e}"])
            for minibatch, its_weight, length_of in zip(order, weight, shuffle.length, strict=True):
                among = np.flatnonzero((epochs > e) & (length_of > 0))
                if len(among):
                    chosen = tuple(due[i] for i in among)
                    at, w = minibatch, its_weight
                    if len(among) < len(due):
                        index = torch.from_numpy(among).to(self._device, non_blocking=True)
                        at, w = at.index_select(0, index), w.index_select(0, index)
                    self._improve(chosen, rounds, at, target, w, lr)

    def _returns(self, due: tuple[int, ...], rounds: TeamRounds) -> Tensor:
        """Compute the lambda returns of all env steps, (D,), by the members' networks as they are."""
        utilities = self._utilities.select(due)
        widest = -(-int(rounds.counts.max()) // self._chunk) * self._chunk
        places, back = side_by_side(rounds.counts, widest, self._device)
        best = rounds.next_present.new_empty(*places.shape, rounds.next_present.shape[-1])
        for first in range(0, widest, self._chunk):
            at = places[:, first : first + self._chunk]
            after = rounds.after[at]
            found = utilities.outputs_by_agent("frozen", [[inputs.take(after) for inputs in rounds.inputs]])
            values = torch.cat(found, -1)
            if rounds.next_legal is not None:
                values = values.masked_fill(~rounds.next_legal[at], -torch.inf)
            best[:, first : first + self._chunk] = self._columns.by_agent(values, -torch.inf).amax(-1)
        best = best.flatten(0, 1).index_select(0, back)
        counts = torch.from_numpy(rounds.counts).to(self._device)

        def by_step(name: str) -> Tensor:
            return self._vectors.of(name, due).repeat_interleave(counts, output_size=len(rounds.reward))

        gamma, decay = by_step("gamma"), by_step("gamma") * by_step("q_lambda")
        value, kept = ((best * whose).sum(-1) for whose in (rounds.next_present, rounds.kept))
        # Lambda's share of what is kept comes from the return of the next env step in place of its value.
        terms = self._settings.reward_scale * rounds.reward + gamma * value - decay * kept
        return discounted_sums(terms, decay * rounds.continues, rounds.longest)

    def _improve(
        self,
        chosen: tuple[int, ...],
        rounds: TeamRounds,
        at: Tensor,
        target: Tensor,
        weight: Tensor,
        lr: NDArray[np.float64],
    ) -> None:
        """Let members learn from a minibatch each.

        Args:
            chosen: The members.
            rounds: Their rollouts.
            at: (M, B), env steps of these.
            target: (D,), the returns of all of them.
            weight: (M, B), 1 / size of the minibatch, 0 in padding.
            lr: Learning rates of the population.
        """
        utilities = self._utilities.select(chosen)
        runs = utilities.count_steps(lr[list(chosen)])
        self._losses.count("critic_loss", chosen)
        self.passes += len(utilities.rows_members)
        self.member_updates += sum(utilities.rows_members)
        index = None if len(chosen) == len(self._members) else self._vectors.index(chosen)

        def step(*tensors: Tensor) -> list[Tensor]:
            gradients, losses = self._gradients_of(self, utilities, *tensors)
            utilities.move(gradients, self._settings.max_grad_norm)
            self._losses.add("critic_loss", index, losses)
            return []

        here = rounds.here[at]
        inputs = [weight, target[at], rounds.taken[at], *(its.take(here) for its in rounds.inputs)]
        # All that decides which operations a step makes, besides what never changes in this object.
        self._updates.run((chosen, runs, at.shape), step, inputs)

    def _gradients(
        self, utilities: Pass, weight: Tensor, target: Tensor, taken: Tensor, *inputs: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """Compute the gradients of the utilities' parameters and the members' losses, (M,).

        Args:
            utilities: The networks of M members.
            weight: (M, B), weights that sum to 1 over a member's minibatch.
            target: (M, B), returns.
            taken: (M, B, A), what agents did, one-hot; zeros for those that did not act.
            inputs: What each agent's network reads, (M, B, width).
        """
        outputs = torch.cat(utilities.outputs_by_agent("learn", [inputs]), -1)
        error = (outputs * taken).sum(-1) - target
        weighted = weight * error  # the loss is w e^2, and its gradient 2 w e
        grad = (2 * weighted).unsqueeze(-1) * taken
        found = utilities.agent_gradients(grad.split_with_sizes(self._columns.widths, -1))
        return found, (weighted * error).sum(-1)

    def snapshot(self) -> PolicySnapshot:
        """Copy the utilities as they are now; quick, and the copy can be read on another thread."""
        return PolicySnapshot.of([self._utilities], self._members)

    def packed(self) -> list[PackedNetworks]:
        """Return the stacked utilities."""
        return [self._utilities]

    def metrics(self) -> dict[int, dict[str, float]]:
        """Return the mean "critic_loss" of the team's value since the last call, by member id; then reset."""
        return {member.member_id: means for member, means in zip(self._members, self._losses.take(), strict=True)}


def _check_normalised(config: NetConfig, network_id: str) -> None:
    """Refuse a configuration by which hidden layers would not be normalised, or there would be none.

    Raises:
        ConfigError: names the key.
    """
    why = f"of {network_id!r} with PQN, whose values nothing else bounds, as it has no target networks"
    for key, part in (("encoder_config", config.encoder_config), ("head_config", config.head_config)):
        if "layer_norm" in part.model_fields_set and not part.layer_norm:
            raise ConfigError(f"network.{key}.layer_norm: false, expected true {why}; leave it out")
    head = config.head_config
    if not head.hidden_size:
        raise ConfigError(
            f"network.head_config.hidden_size: [], expected a hidden layer, which is normalised, {why}; "
            "write hidden_size: [64]"
        )
    if not head.min_hidden_layers:
        raise ConfigError(f"network.head_config.min_hidden_layers: 0, expected at least 1 {why}; leave it out")


def _normalised(encoder: Encoder) -> Encoder:
    """Return an encoder whose hidden layers are normalised, where they are those of an MLP; others stay."""
    if isinstance(encoder, MLP):
        return replace(encoder, layer_norm=True)
    if isinstance(encoder, MultiInput) and encoder.vector is not None:
        return replace(encoder, vector=replace(encoder.vector, layer_norm=True))
    return encoder
