"""What a vectorised environment shows after a reset or a step, as library users get it.

Dims: E environments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.envs.arrays import SlotArrays
from covey.spaces import EnvironmentSpaces


class Observations(dict[str, Any]):
    """Observations of E environments by agent, (E, *shape); after an episode's end, those of the next episode.

    Where an observation space is a Dict or Tuple: dictionaries and tuples of arrays (E, *shape of the leaf).

    Attributes:
        final: By agent (E, *shape), what the step itself led to: where an episode ended, its last observation,
            elsewhere the observation that is here too.
        ended: (E,) bool, whether the episode ended in this step.
        begun: (E,) bool, whether an episode begins with the observations that are here.
        now: The slots' arrays, with masks and who is to act.
        after: The same arrays as they were before the next episodes began; zeros for an environment that failed.
        spaces: Spaces of the environments.
    """

    def __init__(
        self,
        seen: Mapping[str, Any],
        final: Mapping[str, Any],
        ended: NDArray[np.bool_],
        now: SlotArrays,
        after: SlotArrays,
        spaces: EnvironmentSpaces,
        begun: NDArray[np.bool_] | None = None,
    ) -> None:
        super().__init__(seen)
        self.final = final
        self.ended = ended
        self.begun = ended if begun is None else begun
        self.now, self.after = now, after
        self.spaces = spaces
