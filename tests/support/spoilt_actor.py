"""covey's own actor with a fault in how its policies act: `python -m tests.support.spoilt_actor FAULT ARGUMENTS`.

Arguments are those of `python -m covey_actor`.
"""

from __future__ import annotations

import sys
from typing import Any

from covey.acting.decisions import Decisions
from covey.acting.normalised import Normalised
from covey.v1.order_pb2 import Exploration
from covey_actor.__main__ import main

EXPLORE = Decisions.explore


def read_raw(self: Normalised) -> None:
    """Read observations as they are."""


def read_unclipped(self: Normalised) -> None:
    """Leave out the bounds of what is read."""
    self._x -= self._mean
    self._x *= self._scale


def sample_values(self: Decisions, slot: int, exploration: Exploration) -> None:
    """Sample a softmax where the largest output is to be taken, as actors of version 1 do."""
    given = Exploration()
    given.CopyFrom(exploration)
    if given.kind == Exploration.KIND_EPSILON_GREEDY:
        given.kind = Exploration.KIND_GAUSSIAN
    EXPLORE(self, slot, given)


def never_explore(self: Decisions, slot: int, exploration: Exploration) -> None:
    """Take the largest output whatever epsilon is."""
    greedy = exploration.kind == Exploration.KIND_EPSILON_GREEDY
    EXPLORE(self, slot, Exploration() if greedy else exploration)


FAULTS: dict[str, tuple[Any, str, Any]] = {
    "reads_raw": (Normalised, "__call__", read_raw),
    "reads_unclipped": (Normalised, "__call__", read_unclipped),
    "samples_values": (Decisions, "explore", sample_values),
    "never_explores": (Decisions, "explore", never_explore),
}

if __name__ == "__main__":
    owner, name, spoilt = FAULTS[sys.argv.pop(1)]
    setattr(owner, name, spoilt)
    sys.exit(main())
