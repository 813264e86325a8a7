"""Counts and tells of observations outside of the space that the environment declares.

They are learned from as they are: many environments exceed their bounds a little, and policies act by the same numbers.
"""

from __future__ import annotations

import numpy as np

from covey.envs.observation_bounds import ObservationBounds
from covey.rows import Columns, leaf_columns
from covey.spaces import EnvironmentSpaces
from covey_server.learner import Learner
from covey_server.orders.session import Session


class OutsideSpaces:
    """Looks for observed numbers outside of the run's observation spaces in what actors send.

    Args:
        learner: Its counters and events tell of them.
    """

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self._bounds: ObservationBounds | None = None

    def look(self, session: Session, columns: Columns, spaces: EnvironmentSpaces) -> None:
        """Count the numbers outside, and log an event for the first one of an actor. Call it under the lock.

        Args:
            session: The actor's session.
            columns: Rows of it that were accepted.
            spaces: The run's spaces.
        """
        self._bounds = self._bounds or ObservationBounds(spaces)
        names = [name for g in spaces.groups for name, _ in leaf_columns(g.group_id, "observation", g.observation)]
        for k, (name, (g, _)) in enumerate(zip(names, self._bounds.leaves, strict=True)):
            found = self._bounds.outside(k, columns[name], columns[f"{spaces.groups[g].group_id}/active"])
            if found is None:
                continue
            values, outside = found
            if not session.observations_outside:
                row, member, number = np.unravel_index(int(outside.argmax()), outside.shape)
                sentence = self._bounds.sentence(k, int(member), int(number), float(values[row, member, number]))
                self._learner.event(
                    f"environment {self._learner.config.environment.name} of actor {session.actor_id}: {sentence}; it "
                    "is learned from as it is, and further ones are counted"
                )
            count = int(np.count_nonzero(outside))
            session.observations_outside += count
            self._learner.totals.counters["observations_outside"] += count
