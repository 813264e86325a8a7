"""What VDN, QMIX and PQN have in common: a team with Discrete actions, whose agents explore epsilon-greedily."""

from __future__ import annotations

from covey.config import AlgorithmSettings, Config, DiscreteTeamAlgorithm
from covey.errors import SpaceError
from covey.spaces import Discrete, EnvironmentSpaces
from covey.v1.order_pb2 import Exploration
from covey_server.algorithms.algorithm import Algorithm
from covey_server.member import Member


class DiscreteTeam(Algorithm):
    """Base of cooperative Q-learning: each agent has a utility of each of its actions, and plays the best or any."""

    @classmethod
    def check_actions(cls, settings: AlgorithmSettings, spaces: EnvironmentSpaces) -> None:
        """Refuse all but Discrete actions, and agents that do not all act in every env step.

        Raises:
            SpaceError: the error names the agent, and algorithms that can learn there.
        """
        for agent in spaces.agents:
            if not isinstance(agent.action, Discrete):
                raise SpaceError(
                    f"action of agent {agent.agent_id!r}: {type(agent.action).__name__}, expected Discrete with "
                    f"{settings.name}; use MATD3, MADDPG or IPPO"
                )
        if spaces.asynchronous:
            raise SpaceError(
                f"environment: its agents act at different times, expected all of them to act in every env step with "
                f"{settings.name}; use IPPO, MADDPG or MATD3"
            )

    @classmethod
    def exploration(cls, config: Config, member: Member) -> Exploration:
        """Say how actors explore: epsilon-greedily, by an epsilon that changes linearly with the member's env steps."""
        settings = config.algorithm
        assert isinstance(settings, DiscreteTeamAlgorithm)
        share = min(1.0, member.env_steps / settings.epsilon_steps)
        epsilon = settings.epsilon_start + share * (settings.epsilon_end - settings.epsilon_start)
        return Exploration(kind=Exploration.KIND_EPSILON_GREEDY, scale=epsilon)
