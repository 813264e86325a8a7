"""States of policies with memory in fragments: sizes that policies have, numbers that a GRU has, or a refusal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import zstandard
from tests.support.cue_environment import CueEnv
from tests.support.remembering import remembering

from covey.collect import Collector
from covey.envs import SyncSlots, read_spaces
from covey.errors import FragmentError
from covey.rows import RowSchema
from covey.v1.fragment_pb2 import Fragment
from covey.v1.order_pb2 import Order
from covey.wire.envelope import envelope_crc32
from covey_server.experience.states import read_states
from covey_server.ingest.validation import Accepted, check_fragment

SPACES = read_spaces(CueEnv())
SCHEMA = RowSchema.of(SPACES)
PLAYERS = [remembering(SPACES.agents[0], 0, state=3), remembering(SPACES.agents[1], 1, state=0)]
SIZES = {p.sha256: p.spec.network.state_size for p in PLAYERS}


def order() -> Order:
    made = Order(order_id=1)
    for player in PLAYERS:
        made.policies.add(sha256=player.sha256, member_id=1)
    for slot in range(2):
        made.slots.add(slot=slot, member_id=1, steps=3, agent_policies=range(2), seed=slot)
    return made


def fragment() -> Fragment:
    collector = Collector(SyncSlots(CueEnv, SPACES, 2), SPACES, SCHEMA, 2, 1)
    policies = {p.sha256: p for p in PLAYERS}
    collector.run(order(), policies)
    return collector.run(order(), policies)  # a slot has just made three of four steps


def check(sent: Fragment, sizes: Callable[[bytes], int | None] = SIZES.__getitem__) -> Accepted:
    return check_fragment(sent, order(), SCHEMA, SPACES, unclipped=True, state_size=sizes)


def with_states(sent: Fragment, *values: float) -> Fragment:
    """The same fragment with other states."""
    raw = zstandard.ZstdDecompressor().decompress(sent.blob)[: -4 * 6] + np.array(values, "<f4").tobytes()
    sent.blob = zstandard.ZstdCompressor(write_checksum=True).compress(raw)
    sent.raw_bytes = len(raw)
    return sent


def refused(sent: Fragment, reason: str = "states") -> str:
    with pytest.raises(FragmentError) as caught:
        check(sent)
    assert caught.value.reason == reason
    return str(caught.value)


def test_states_are_read_as_they_were_sent() -> None:
    sent = fragment()
    assert [list(s.state_sizes) for s in sent.streams] == [[3, 0], [3, 0]]
    states = read_states(check(sent).raw, sent.streams)
    assert [[len(own) for own in its] for its in states] == [[3, 0], [3, 0]] and np.abs(states[0][0]).min() > 0
    # Policies that are not kept any more: any sizes are taken, as after a restart.
    check(sent, lambda sha256: None)
    changed = read_states(check(with_states(sent, 1, -1, 0.5, 0, 0, 0)).raw, sent.streams)
    assert changed[0][0].tolist() == [1, -1, 0.5]


@pytest.mark.parametrize("sizes", [[], [3], [3, 0, 0], [0, 3], [4, 0], [3, 1], [2**31, 0]])
def test_other_sizes_than_the_policies_are_refused(sizes: list[int]) -> None:
    sent = fragment()
    sent.streams[1].ClearField("state_sizes")
    sent.streams[1].state_sizes.extend(sizes)
    assert "slot 1: states of" in refused(sent) and "expected [3, 0], as the policies have" in refused(sent)


@pytest.mark.parametrize("number", [np.nan, np.inf, 1.5, -3.0])
def test_what_no_gru_remembers_is_refused(number: float) -> None:
    assert "slot 1: a state holds" in refused(with_states(fragment(), 0, 0, 0, 0, number, 0))


@pytest.mark.parametrize("numbers", [[0.0] * 5, [0.0] * 7, []])
def test_more_or_less_than_the_sizes_say_is_refused(numbers: list[float]) -> None:
    refused(with_states(fragment(), *numbers), reason="size")


def test_the_checksum_of_the_envelope_covers_sizes() -> None:
    sent = fragment()
    before = envelope_crc32(sent)
    sent.streams[0].state_sizes[1] = 1
    assert envelope_crc32(sent) != before
