"""What a member has learned, asked in the terms of `tests.probes`: numbers from 0 to 1 by agent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tests.probes import Numbers

from covey.acting import Decisions, LoadedPolicy
from covey.networks import NetworkSpec, NumpyOps, Params
from covey.networks.resolve import network_ids
from covey.policy_file import PolicySpec, encode_policy
from covey.run_directory import RunDirectory, read_policies
from covey.spaces import Box, Discrete, EnvironmentSpaces, action_bounds
from covey_server.checkpoint import load_newest
from covey_server.member import Member

Networks = Mapping[str, tuple[NetworkSpec, Params]]

OPS = NumpyOps()


class Learned:
    """A member's critics and policies.

    Args:
        spaces: Of the environment.
        shared: Whether agents of a group share their networks.
        critics: By "<role>/<network id>".
        policies: By network id.
    """

    def __init__(self, spaces: EnvironmentSpaces, shared: bool, critics: Networks, policies: Networks) -> None:
        self._spaces = spaces
        self._ids = network_ids(spaces, shared)
        self._critics = critics
        self._policies = policies

    @staticmethod
    def of(member: Member, spaces: EnvironmentSpaces, shared: bool, policies: Networks | None = None) -> Learned:
        """From a member; its policies are its own networks unless they are given."""
        networks = {key: (network.spec, network.params) for key, network in member.networks.items()}
        critics = {key: network for key, network in networks.items() if key.startswith("critic")}
        own = {key.removeprefix("actor/"): n for key, n in networks.items() if key.startswith("actor/")}
        return Learned(spaces, shared, critics, own if policies is None else policies)

    @staticmethod
    def everybody(run: Path) -> list[Learned]:
        """All members of a run's newest checkpoint."""
        directory = RunDirectory.open(run)
        _, members = load_newest(directory.checkpoints)
        learned = []
        for member in members:
            _, policies, spaces, config = read_policies(directory, member.member_id)
            learned.append(Learned.of(member, spaces, config.algorithm.share_parameters, policies))
        return learned

    def values(self, agent: str, seen: Numbers, done: Numbers) -> list[float]:
        """What each of the agent's critics says about what all agents see and do."""
        spaces = self._spaces
        inputs = [_row([seen[spaces.agent_ids[i]] for i in group.agents]) for group in spaces.groups]
        extra = [number for a in spaces.agents for number in _critic_action(a.action, done[a.agent_id])]
        network_id, agents = self._player(agent)
        if len(agents) > 1:
            extra += [float(spaces.agent_ids[i] == agent) for i in agents]
        return [
            float(spec.apply(OPS, params, inputs, _row(extra))[0, 0])
            for key, (spec, params) in self._critics.items()
            if key.partition("/")[2] == network_id
        ]

    def does(self, seen: Numbers) -> Numbers:
        """What the agents do without exploration, by the functions that actors act by."""
        spaces = self._spaces
        players: list[LoadedPolicy | None] = []
        for agent in spaces.agents:
            network, params = self._policies[self._player(agent.agent_id)[0]]
            file = encode_policy(PolicySpec(network, agent.observation, agent.action), params)
            players.append(LoadedPolicy.decode(file))
        decisions = Decisions(spaces, 1)
        decisions.plan({0: players})
        observation = [np.array([[[seen[spaces.agent_ids[i]]] for i in g.agents]], np.float32) for g in spaces.groups]
        actions = decisions.decide(observation, np.random.default_rng(0))
        done = {}
        for group, action in zip(spaces.groups, actions, strict=True):
            for i, own in zip(group.agents, action[0], strict=True):
                done[spaces.agent_ids[i]] = _place(group.action, own)
        return done

    def odds(self, agent: str, seen: float, done: float) -> float:
        """The chance of a choice when a Discrete policy is sampled, as actors do while they explore."""
        network, params = self._policies[self._player(agent)[0]]
        logits = network.apply(OPS, params, [_row([seen])])[0].astype(np.float64)
        chances = np.exp(logits - logits.max())
        return float(chances[round(done)] / chances.sum())

    def chooses(self, agent: str) -> bool:
        """Whether the agent's actions are Discrete."""
        return isinstance(self._spaces.agents[self._spaces.agent_ids.index(agent)].action, Discrete)

    def _player(self, agent: str) -> tuple[str, tuple[int, ...]]:
        index = self._spaces.agent_ids.index(agent)
        return next((network_id, agents) for network_id, agents in self._ids.items() if index in agents)


def _row(numbers: list[float]) -> np.ndarray:
    return np.array([numbers], np.float32)


def _critic_action(space: Box | Discrete, done: float) -> list[float]:
    """As critics see actions: one-hot, or from -1 to 1."""
    if isinstance(space, Discrete):
        return [float(k == round(done * (space.n - 1))) for k in range(space.n)]
    return [2 * done - 1]


def _place(space: Box | Discrete, action: np.ndarray) -> float:
    if isinstance(space, Discrete):
        return float(action - space.start) / (space.n - 1)
    low, high = action_bounds(space)
    return float(((action - low) / (high - low))[0])
