"""How many decisions PPO's minibatches and forward passes have, by the sizes of the whole population alone.

Results of a batch differ by rounding where it is padded otherwise. So whoever else is due, and however members are
divided, a member learns in batches of the same size.
"""

from __future__ import annotations

from collections.abc import Sequence

from covey_server.algorithms.agent_types import AgentType
from covey_server.algorithms.estimates import CHUNK
from covey_server.experience.rollouts import Rollout
from covey_server.member import MemberSizes
from covey_server.packing.updates import UpdateBackend


def even_length(count: int, size: int) -> int:
    """Return the largest of `count` decisions' minibatches: as few as none is above `size`, equal but for one."""
    return -(-count // max(1, -(-count // size)))


def enough(samples: int, longest: int) -> int:
    """Return a padded size, doubled until there is room for minibatches of this length.

    A rollout that lacks something may make fewer and larger minibatches than a whole one.
    """
    while samples < longest:
        samples *= 2
    return samples


class MinibatchSizes:
    """Padded sizes of what networks of similar agents learn from at a time.

    Args:
        group: The types of agents.
        population: Sizes of all members.
        updates: Says what sizes are padded to.
        steps: Decisions of a sequence, from which policies with memory learn.

    Attributes:
        chunk: Inputs of a network that are evaluated at a time.
        sequences: Sequences of a minibatch.
    """

    def __init__(
        self, group: Sequence[AgentType], population: Sequence[MemberSizes], updates: UpdateBackend, steps: int = 1
    ) -> None:
        self._agents = [agents for own in group for agents in own.ids.values()]
        own = [m.hyperparameters for m in population]
        # Decisions of a whole rollout, in which every agent acts in every step.
        rollouts = [(h.learn_step * len(agents), h.batch_size) for h in own for agents in self._agents]
        self._whole = updates.padded(max(even_length(count, size) for count, size in rollouts))
        views = max(count for count, _ in rollouts) * 9 // 8  # with what was seen last in episodes
        self.chunk = min(CHUNK, updates.padded(views))
        self.sequences = max(1, max(h.batch_size for h in own) // steps)

    def of(self, rollout: Rollout, batch_size: int) -> int:
        """Return the padded size of the minibatches that a member makes of its rollout.

        It is the population's, of whole rollouts, or `enough` for this one.
        """
        counts = [sum(len(rollout.agents[a].here) for a in its) for its in self._agents]
        return enough(self._whole, max(even_length(count, batch_size) for count in counts))
