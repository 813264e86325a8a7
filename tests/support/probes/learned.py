"""What a member has learned, asked in the terms of the probes: numbers from 0 to 1 by agent."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tests.support.probes.environment import Numbers, legal, place

from covey.acting import Decisions, LoadedPolicy
from covey.config import AlgorithmSettings, parse_config
from covey.networks import NumpyOps
from covey.networks.resolve import network_ids
from covey.run.checkpoint_format import read_newest
from covey.run.directory import RunDirectory
from covey.run.trained import TrainedMember
from covey.spaces import Box, EnvironmentSpaces, MultiBinary, Space, choices, mask_width
from covey.v1.order_pb2 import Exploration
from covey.wire.policy_file import encode_policy, spec_of
from covey_server.member import Member, Network
from covey_server.storage.checkpoint import load_members

OPS = NumpyOps()
SAMPLES = 500


class Learned:
    """A member's critics and policies.

    Args:
        member: Whose critics.
        spaces: Of the environment.
        algorithm: That it learned by.
        policies: Who plays each agent, in environment order.
    """

    def __init__(
        self, member: Member, spaces: EnvironmentSpaces, algorithm: AlgorithmSettings, policies: list[LoadedPolicy]
    ) -> None:
        self._spaces = spaces
        self._algorithm = algorithm
        self._ids = network_ids(spaces, algorithm.share_parameters)
        self._critics = {key: n for key, n in member.networks.items() if key.startswith("critic")}
        self._policies = policies

    @staticmethod
    def of(member: Member, spaces: EnvironmentSpaces, algorithm: AlgorithmSettings) -> Learned:
        """From a member and its own networks."""
        policies: dict[int, LoadedPolicy] = {}
        for network_id, agents in network_ids(spaces, algorithm.share_parameters).items():
            network = member.networks[f"actor/{network_id}"]
            spec = spec_of(network.spec, spaces.agents[agents[0]], algorithm.policy_head)
            policies |= dict.fromkeys(agents, LoadedPolicy.decode(encode_policy(spec, network.params)))
        return Learned(member, spaces, algorithm, [policies[i] for i in range(len(policies))])

    @staticmethod
    def everybody(run: Path) -> list[Learned]:
        """All members of a run's newest checkpoint, with the policies that it gives to those who play."""
        directory = RunDirectory.open(run)
        newest = read_newest(directory.checkpoints)
        config = parse_config(newest[1]["run"]["config"])
        members = load_members(*newest, config.algorithm.initial_hyperparameters())
        learned = []
        for member in members:
            trained = TrainedMember.read(directory, member.member_id)
            policies = list(trained.policies())
            learned.append(Learned(member, trained.spaces, trained.config.algorithm, policies))
        return learned

    def values(self, agent: str, seen: Numbers, done: Numbers, acting: Collection[str]) -> list[float]:
        """What each of the agent's critics says.

        Args:
            agent: Whose.
            seen: By all agents; IPPO reads what the agent itself sees.
            done: By all agents; IPPO does not read it.
            acting: Agents that act, all others wait; read where agents act at different times.
        """
        spaces = self._spaces
        network_id, agents = self._player(agent)
        index = [float(spaces.agent_ids[i] == agent) for i in agents] if len(agents) > 1 else []
        if self._algorithm.stochastic_policies:
            inputs = [_row([seen[agent], *(index if self._algorithm.agent_indicator else [])])]
            extra = None
        else:
            inputs = [_row([seen[spaces.agent_ids[i]] for i in group.agents]) for group in spaces.groups]
            numbers = [x for a in spaces.agents for x in _critic_action(a.action, done[a.agent_id])]
            acts = [float(a in acting) for a in spaces.agent_ids] if spaces.asynchronous else []
            extra = _row([*numbers, *acts, *index])

        def ask(critic: Network) -> float:
            told = critic.spec.apply(OPS, critic.params, inputs, extra)
            return float(told[0, 0]) * critic.scale.std + critic.scale.mean

        return [ask(n) for key, n in self._critics.items() if key.partition("/")[2] == network_id]

    def does(self, seen: Numbers, masked: Collection[str] = ()) -> Numbers:
        """What the agents do without exploration, by the functions that actors act by.

        Args:
            seen: By all agents.
            masked: Agents that may not do everything, see `tests.support.probes.environment.legal`.
        """
        return {agent: float(places[0]) for agent, places in self._play(seen, masked, 1, Exploration()).items()}

    def often(self, seen: Numbers, done: Numbers, masked: Collection[str] = ()) -> Numbers:
        """The share of times in which an agent does just what `done` says, when policies are sampled as in training."""
        sample = Exploration(kind=Exploration.KIND_SAMPLE)
        played = self._play(seen, masked, SAMPLES, sample)
        return {agent: float((places == done[agent]).mean()) for agent, places in played.items()}

    def space(self, agent: str) -> Space:
        """The agent's actions."""
        return self._spaces.agents[self._spaces.agent_ids.index(agent)].action

    def chooses(self, agent: str) -> bool:
        """Whether the agent chooses among values."""
        return not isinstance(self.space(agent), Box)

    def _play(
        self, seen: Numbers, masked: Collection[str], times: int, exploration: Exploration
    ) -> Mapping[str, NDArray[np.float64]]:
        """The places of what each agent does, (times,)."""
        spaces = self._spaces
        decisions = Decisions(spaces, times)
        for slot in range(times):
            decisions.explore(slot, exploration)
        decisions.plan(dict.fromkeys(range(times), self._policies))
        observations: list[NDArray[np.float32]] = []
        masks: list[NDArray[np.uint8] | None] = []
        for group in spaces.groups:
            agents = [spaces.agent_ids[i] for i in group.agents]
            row = np.array([[[seen[a]] for a in agents]], np.float32)
            observations.append(np.repeat(row, times, 0))
            if not group.masked:
                masks.append(None)
                continue
            everything = np.ones(mask_width(group.action), np.int8)
            allowed = [legal(group.action, seen[a]) if a in masked else everything for a in agents]
            masks.append(np.repeat(np.array([allowed], np.uint8), times, 0))
        actions, _ = decisions.decide(observations, masks, np.random.default_rng(0))
        played = {}
        for group, done in zip(spaces.groups, actions, strict=True):
            for n, i in enumerate(group.agents):
                played[spaces.agent_ids[i]] = np.array([place(group.action, own) for own in done[:, n]])
        return played

    def _player(self, agent: str) -> tuple[str, tuple[int, ...]]:
        index = self._spaces.agent_ids.index(agent)
        return next((network_id, agents) for network_id, agents in self._ids.items() if index in agents)


def _row(numbers: list[float]) -> np.ndarray:
    return np.array([numbers], np.float32)


def _critic_action(space: Space, done: float) -> list[float]:
    """As critics see actions: one-hot, or from -1 to 1; of several choices, each at that end that `place` counts so."""
    if isinstance(space, Box):
        return [2 * done - 1]
    shares = [done if i % 2 == 0 else 1 - done for i in range(len(choices(space)))]
    if isinstance(space, MultiBinary):
        return shares
    return [float(k == round(x * (n - 1))) for x, n in zip(shares, choices(space), strict=True) for k in range(n)]
