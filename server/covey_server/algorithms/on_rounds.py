"""What IPPO, MAPPO and PQN have in common: a member plays a rollout with one policy, learns from it, and forgets it."""

from __future__ import annotations

import torch

from covey.config import Config
from covey.spaces import EnvironmentSpaces
from covey_server.algorithms.algorithm import Algorithm
from covey_server.experience.rollouts import Rollouts
from covey_server.orders.pace import Rounds


class OnRounds(Algorithm):
    """Base of algorithms that learn from a member's newest rollout alone."""

    @classmethod
    def experience(cls, config: Config, spaces: EnvironmentSpaces, device: torch.device) -> Rollouts:
        """Make an empty memory for the members' rollouts: what each has collected since it last learned."""
        del config, device
        return Rollouts(spaces)

    @classmethod
    def pace(cls, config: Config) -> Rounds:
        """Make the rule for updates: a learning phase after every `learn_step` env steps of a member."""
        del config
        return Rounds()
