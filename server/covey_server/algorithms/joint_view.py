"""What a value network sees that knows more than its agent: the environment's state, or what all agents observe.

Where rows of the run hold the state of the whole environment (`environment.state`), it is the agent's own observation
and then the state: the "agent-specific global state" of Yu et al., 2022. The state is that of the row in which the
agent observed, and is never stacked. Example, with the group a of agents a_0, a_1, a_2 and the group b of one agent:

    for a_1:  a_1 state               for b_0:  b_0 state

Elsewhere it is the observations of all agents. Own first, then those of the other agents of its group, beginning behind
it, then those of the other groups. So the network of agents that share it finds each number in the same place, whoever
of them it speaks for:

    for a_1:  a_1 a_2 a_0 b_0         for b_0:  b_0 a_0 a_1 a_2

An agent that is gone is seen as zeros (Yu et al., 2022, "death masking"). Where agents act at different times, the
network also reads of each agent, in the same order, whether it acts, and if it waits its last action.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from covey.rows import STATE, Active, read_leaves
from covey.spaces import Box, EnvironmentSpaces, Space, TupleSpace, leaves
from covey_server.algorithms.distributions import distribution_of
from covey_server.experience.observations import TorchEncoding
from covey_server.experience.rollouts import Rollout, RoundColumn


class JointView:
    """The environment's state, or the observations of all agents, as each agent's value network reads them.

    Args:
        spaces: Spaces of the environment.
        device: Where they are encoded.

    Attributes:
        spaces: Spaces of the environment.
        more: How many numbers are read behind the observations.
    """

    def __init__(self, spaces: EnvironmentSpaces, device: torch.device) -> None:
        self.spaces = spaces
        self._place = {a: (g, n) for g, group in enumerate(spaces.groups) for n, a in enumerate(group.agents)}
        at_work = [1 + agent.action.width if spaces.asynchronous else 0 for agent in spaces.agents]
        self.more = sum(at_work) + (0 if spaces.state is None else spaces.state.width)
        state = [] if spaces.state is None else [TorchEncoding(spaces.state, device)]
        encoding = [[TorchEncoding(leaf.space, device) for leaf in leaves(g.stacked)] for g in spaces.groups]
        numbers = [TorchEncoding(_numbers(1 + g.action.width), device) for g in spaces.groups]
        self._encodings = []
        for g in range(len(spaces.groups)):
            first = spaces.groups[g].agents[0]
            own = [encode for a in self.seen(first) for encode in encoding[self._place[a][0]]]
            working = [numbers[self._place[a][0]] for a in self.order(first)] if spaces.asynchronous else []
            self._encodings.append([*own, *state, *working])

    def width(self, agent: int) -> int:
        """How many numbers the agent's value network reads, but for the agent's one-hot index."""
        return sum(self.spaces.agents[a].stacked.width for a in self.seen(agent)) + self.more

    def seen(self, agent: int) -> list[int]:
        """The agents whose observations the agent's value network reads, in this order."""
        return self.order(agent) if self.spaces.state is None else [agent]

    def observation(self, agent: int) -> Space:
        """The observations that the agent's value network reads, or stacks of, as one space."""
        seen = [self.spaces.agents[a].observation for a in self.seen(agent)]
        return seen[0] if self.spaces.state is not None else TupleSpace(tuple(seen))

    def encodings(self, agent: int) -> Sequence[TorchEncoding]:
        """How each of the agent's `sources` is encoded; one object for all agents of a group."""
        return self._encodings[self._place[agent][0]]

    def sources(self, agent: int, rollout: Rollout) -> list[RoundColumn]:
        """What the agent's value network reads in all rows of a rollout."""
        found = [source for a in self.seen(agent) for source in rollout.agents[a].source]
        if self.spaces.state is not None:
            found.append(rollout.columns[STATE])
        return found + ([self._at_work(a, rollout) for a in self.order(agent)] if self.spaces.asynchronous else [])

    def order(self, agent: int) -> list[int]:
        """All agents in the order in which the agent's value network sees them: itself first."""
        g, n = self._place[agent]
        own = self.spaces.groups[g].agents
        others = [a for i, group in enumerate(self.spaces.groups) if i != g for a in group.agents]
        return [*own[n:], *own[:n], *others]

    def _at_work(self, agent: int, rollout: Rollout) -> NDArray[np.float32]:
        """Whether the agent acts in each of R rows, and its last action where it waits: (R, 1 + numbers)."""
        g, n = self._place[agent]
        group, columns = self.spaces.groups[g], rollout.columns
        acts = np.asarray(columns[f"{group.group_id}/active"][:, n] != Active.ABSENT, np.float32)[:, None]
        action = read_leaves(columns, group.group_id, "action", group.action, (slice(None), n))
        last = distribution_of(group.action).encode(action)
        return np.concatenate([acts, last * (1 - acts)], 1)


def _numbers(count: int) -> Box:
    """A space of so many numbers that are read as they are."""
    return Box("float32", (count,), (-np.inf,) * count, (np.inf,) * count)
