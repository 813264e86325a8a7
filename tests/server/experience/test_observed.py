"""What agents observe counts once for each decision, however messages were cut, and for the member that played it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.support.random_play import Cut, fragments, play
from tests.support.replays import SEEN

from covey.networks.normalisation import Moments
from covey.observations import ObservationEncoding
from covey.spaces import AgentSpec, Box, EnvironmentSpaces
from covey_server.experience import observed
from covey_server.experience.observed import ObservedRows
from covey_server.experience.parts import Part
from covey_server.experience.stream import Stream

NUMBERS = {1, 3, 4}
"""Agents of SEEN who see numbers; the others see choices."""


def streams(cut: Cut, member_id: int) -> list[Stream]:
    found, first = [], 0
    for s in cut.streams:
        found.append(Stream(s.slot, member_id, first, s.rows + s.lead_in_rows, s.lead_in_rows, s.steps, s.cut_before))
        first += found[-1].rows
    return found


@pytest.mark.parametrize("lengths", [[1000], [5, 8], [1]])
def test_every_decision_counts_once(lengths: list[int]) -> None:
    made = play(SEEN, 12, 0, forced=0.3)
    rows = ObservedRows(SEEN)
    for cut in fragments(made, SEEN, lengths):
        rows.add(cut.columns, streams(cut, 4), [4])
    found = rows.take(4)
    assert found.keys() == NUMBERS and not rows.take(4)
    for agent in NUMBERS:
        decided = [
            cells[agent].observation.reshape(-1)
            for cells, final in zip(made.rows, made.final, strict=True)
            if not final and cells[agent].part in (Part.CHOSE, Part.FORCED)
        ]
        seen = ObservationEncoding.of(SEEN.agents[agent].observation).encode(np.array(decided))
        expected = Moments.of(seen)
        assert found[agent].count == expected.count > 20
        np.testing.assert_allclose(found[agent].mean, expected.mean, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found[agent].squares, expected.squares, rtol=1e-9)


def test_rows_count_for_the_members_that_played_them_if_they_count() -> None:
    rows = ObservedRows(SEEN)
    one, other = fragments(play(SEEN, 12, 0), SEEN, [1000])[0], fragments(play(SEEN, 12, 1), SEEN, [1000])[0]
    columns = {name: np.concatenate([one.columns[name], other.columns[name]]) for name in one.columns}
    behind = len(one.columns["kind"])
    both = [*streams(one, 1), *(s._replace(first_row=s.first_row + behind) for s in streams(other, 2))]
    rows.add(columns, both, [1])
    assert not rows.take(2)
    rows.add(columns, both, [2])
    alone = ObservedRows(SEEN)
    alone.add(other.columns, streams(other, 2), [2])
    for agent, expected in alone.take(2).items():
        assert rows._moments[2][agent].to_json() == expected.to_json()
    assert rows.take(1)


def test_a_checkpoint_keeps_what_nobody_has_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, again = ObservedRows(SEEN), ObservedRows(SEEN)
    cut = fragments(play(SEEN, 12, 0), SEEN, [1000])[0]
    for member_id in (3, 7):
        rows.add(cut.columns, streams(cut, member_id), [member_id])
    again.from_state(json.loads(json.dumps(rows.to_state())))
    assert again.to_state() == rows.to_state() and rows.to_state().keys() == {"3", "7"}
    # Members that were replaced never take theirs: the oldest are dropped.
    monkeypatch.setattr(observed, "MOST_MEMBERS", 2)
    rows.join(8, {1: Moments.none(4)})
    assert rows.to_state().keys() == {"7", "8"}


def test_agents_without_numbers_are_left_out() -> None:
    pixels = Box("uint8", (9, 9), (0.0,) * 81, (255.0,) * 81)
    spaces = EnvironmentSpaces.build([AgentSpec("a_0", pixels, SEEN.agents[0].action)])
    assert ObservedRows(spaces)._groups == []
