"""What a step has just used of the device's memory is there when it is captured, however many subsets fall due."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from typing import Any

import pytest
from tests.support.replays import config, filled, population, spaces_for
from torch import Tensor

from covey_server.algorithms import ALGORITHMS, member_vectors
from covey_server.algorithms.member_vectors import MemberVectors
from covey_server.algorithms.off_policy import OffPolicy
from covey_server.packing import networks_by_role, pack_rows
from covey_server.packing.row_index import RowIndex
from covey_server.packing.updates.backend import Step, UpdateBackend


class RunTwice(UpdateBackend):
    """Runs each step, and again as a capture would: from then on nothing may be made that comes from the host."""

    def __init__(self) -> None:
        self.capturing = False
        self.captures = 0

    def run(self, key: Hashable, step: Step, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        results = step(*inputs)
        self.capturing = True
        step(*inputs)
        self.capturing = False
        self.captures += 1
        return results


@pytest.mark.parametrize("algorithm", ["MADDPG", "MATD3", "MASAC"])
def test_a_step_that_has_just_run_finds_its_indices(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Just what one step needs, so that each new subset of the members puts others out.
    monkeypatch.setattr(networks_by_role, "KEPT_PASSES", 3)
    monkeypatch.setattr(member_vectors, "KEPT_INDICES", 3)
    monkeypatch.setattr(pack_rows, "KEPT_SUBSETS", 1)
    backend = RunTwice()
    made = {"before": 0}

    def watched(*args: Any, **kwargs: Any) -> RowIndex:
        assert not backend.capturing, "an index is made during a capture"
        made["before"] += 1
        return RowIndex(*args, **kwargs)

    monkeypatch.setattr(pack_rows, "RowIndex", watched)
    index = MemberVectors.index

    def watched_index(self: MemberVectors, places: tuple[int, ...]) -> Tensor:
        assert not backend.capturing or places in self._indices, "an index is made during a capture"
        return index(self, places)

    monkeypatch.setattr(MemberVectors, "index", watched_index)
    settings: dict[str, Any] = {"shared": True}
    spaces = spaces_for(algorithm)
    learner = ALGORITHMS[algorithm](config(algorithm, **settings), spaces, population(algorithm, spaces, **settings))
    assert isinstance(learner, OffPolicy)
    learner._updates = backend
    replay = filled(spaces)
    for _ in range(2):
        for due in itertools.chain.from_iterable(itertools.combinations(range(4), n) for n in range(1, 5)):
            learner.update(due, replay)
    assert backend.captures == 30 and made["before"] > 30  # they were put out and made again
