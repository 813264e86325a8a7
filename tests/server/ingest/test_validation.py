from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from tests.support.examples import examples
from tests.support.fragments import SCHEMA, SPACES, C, F, L, S, T, columns, fragment, order, refused

from covey.collect.collector import Collector
from covey.envs import SyncSlots, load_environment, read_spaces
from covey.errors import FragmentError
from covey.rows import RowSchema
from covey.v1.fragment_pb2 import Fragment
from covey.v1.order_pb2 import Order, PolicyRef
from covey.wire.limits import MAX_REWARD
from covey_server.ingest.validation import check_fragment


def test_an_honest_fragment_comes_out_as_it_went_in() -> None:
    streams = [[S, S, F, S, C, S, T], [S, S, S, F]]
    values = columns([k for s in streams for k in s], seed=3)
    accepted = check_fragment(fragment(streams, values), order(), SCHEMA, SPACES)
    for name, array in values.items():
        assert np.array_equal(accepted.columns[name], array)
    assert [(s.slot, s.member_id, s.first_row, s.rows, s.steps) for s in accepted.streams] == [
        (0, 0, 0, 7, 4),
        (1, 1, 7, 4, 3),
    ]
    assert (accepted.rows, accepted.steps, accepted.steps_by_member) == (11, 7, {0: 4, 1: 3})


def test_steps_of_a_members_slots_are_added_up() -> None:
    accepted = check_fragment(fragment([[S, T], [S, S, T], [S, T]]), order(slots=3), SCHEMA, SPACES)
    assert accepted.steps_by_member == {0: 2, 1: 2}


def test_a_fragment_without_rows_is_an_answer() -> None:
    accepted = check_fragment(fragment([]), order(), SCHEMA, SPACES)
    assert (accepted.rows, accepted.steps, accepted.steps_by_member) == (0, 0, {})
    assert set(accepted.columns) == {c.name for c in SCHEMA.columns}


def test_blob_without_rows() -> None:
    spoilt = fragment([])
    spoilt.blob = b"junk"
    assert refused(spoilt) == "size"


@pytest.mark.parametrize("schema_hash", [b"", b"x" * 16, SCHEMA.hash + b"\0"])
def test_other_schema(schema_hash: bytes) -> None:
    spoilt = fragment([[S, T]])
    spoilt.schema_hash = schema_hash
    assert refused(spoilt) == "schema"


def test_other_order() -> None:
    spoilt = fragment([[S, T]])
    spoilt.order_id = 78
    assert refused(spoilt) == "order"


@pytest.mark.parametrize("slots", [[2], [0, 0], [1, 0], [0, 4_000_000_000]])
def test_slots_that_the_order_does_not_name_or_in_another_sequence(slots: list[int]) -> None:
    spoilt = fragment([[S, T]] * len(slots))
    for stream, slot in zip(spoilt.streams, slots, strict=True):
        stream.slot = slot
    assert refused(spoilt) == "slot"


def test_more_steps_than_ordered() -> None:
    assert refused(fragment([[S] * 9 + [T]])) == "rows"
    assert check_fragment(fragment([[S] * 8 + [T]]), order(), SCHEMA, SPACES).steps == 8


@pytest.mark.parametrize(
    "kinds",
    [
        [S],  # not closed
        [S, S, S],
        [T],  # closes nothing
        [F, S, T],
        [S, T, S, T],
        [S, T, T],
        [S, F, F],
        [S, F, T],
        [S, C, T],
        [S, L, S, T],
        [S, F, L, S, T],
        [L, T],
        [L, F],
        [S, 0, T],
        [S, 6, T],
        [S, 255],
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_illegal_row_sequences(kinds: list[int], place: int) -> None:
    streams: list[list[int]] = [[S, S, T], [S, F]]
    streams[place] = kinds
    assert refused(fragment(streams)) == "rows"


@pytest.mark.parametrize("kinds", [[C], [C, S, T], [S, C], [S, F, C], [L, L, S, T], [L, C, S, F], [C, C]])
def test_unusual_row_sequences_that_are_legal(kinds: list[int]) -> None:
    assert check_fragment(fragment([[S, T], kinds]), order(), SCHEMA, SPACES).rows == 2 + len(kinds)


@examples(2)
@given(st.lists(st.lists(st.sampled_from([S, F, C, T, L]), min_size=1, max_size=8), min_size=1, max_size=4))
def test_the_grammar_is_that_of_a_plain_reading(streams: list[list[int]]) -> None:
    def legal(kinds: Sequence[int]) -> bool:
        while kinds and kinds[0] == L:
            kinds = kinds[1:]
        if L in kinds or not kinds or kinds[-1] == S:
            return False
        before = None
        for i, kind in enumerate(kinds):
            if kind == F and before != S:
                return False
            if kind == T and (before != S or i != len(kinds) - 1):
                return False
            before = kind
        return True

    sent = fragment(streams)
    expected = all(legal(k) and sum(x == L for x in k) <= 3 for k in streams)
    try:
        check_fragment(sent, order(slots=4), SCHEMA, SPACES)
        assert expected
    except FragmentError as error:
        assert (error.reason, expected) == ("rows", False)


@pytest.mark.parametrize("field", ["steps", "rows", "lead_in_rows"])
def test_counts_that_differ_from_the_rows(field: str) -> None:
    # The sums fit, so that only a look at the rows can tell.
    spoilt = fragment([[S, S, F, S, T], [S, S, S, T]])
    if field == "steps":
        spoilt.streams[0].steps -= 1
    else:
        spoilt.streams[0].rows -= 1
        if field == "rows":
            spoilt.streams[1].rows += 1
        else:
            spoilt.streams[0].lead_in_rows += 1
    assert refused(spoilt) == "rows"


def test_a_stream_cannot_be_all_closing_rows() -> None:
    assert refused(fragment([[C] * 19])) == "rows"
    assert refused(fragment([[L] * 4 + [S, T]])) == "rows"


# -- sizes and frames --------------------------------------------------------------


def test_sizes_that_do_not_agree() -> None:
    spoilt = fragment([[S, S, T]])
    spoilt.raw_bytes += 1
    assert refused(spoilt) == "size"
    spoilt = fragment([[S, S, T]])
    spoilt.blob = zstandard.ZstdCompressor(write_checksum=True).compress(b"\0" * (spoilt.raw_bytes + 1))
    assert refused(spoilt) == "size"


def test_more_rows_than_fit() -> None:
    spoilt = Fragment(order_id=77, schema_hash=SCHEMA.hash, raw_bytes=SCHEMA.row_bytes * 400_001)
    spoilt.streams.add(slot=0, rows=400_001, steps=400_000)
    assert refused(spoilt, steps=1 << 20) == "size"


def test_a_bomb_costs_no_memory() -> None:
    # A header that claims 1 GiB, and content that is 64 MiB behind a header that claims what is expected.
    honest = fragment([[S, S, T]])
    bomb = zstandard.ZstdCompressor(level=1).compress(b"\0" * (64 << 20))
    claims_a_lot = b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 1 << 30) + honest.blob[6:]
    claims_little = b"\x28\xb5\x2f\xfd\xe4" + struct.pack("<Q", honest.raw_bytes) + bomb[9:]
    claims_nothing = zstandard.ZstdCompressor(write_content_size=False).compress(b"\0" * (64 << 20))
    assert zstandard.get_frame_parameters(claims_a_lot).content_size == 1 << 30
    assert zstandard.get_frame_parameters(claims_little).content_size == honest.raw_bytes
    tracemalloc.start()
    try:
        for blob, reason in (
            (claims_a_lot, "size"),
            (claims_little, "checksum"),
            (claims_nothing, "size"),
            (bomb, "size"),
        ):
            spoilt = fragment([[S, S, T]])
            spoilt.blob = blob
            assert refused(spoilt) == reason
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def test_trailing_frames_and_truncation() -> None:
    honest = fragment([[S, S, T]])
    for blob in (honest.blob + honest.blob, honest.blob + b"x", honest.blob[:-1], honest.blob[:9], b"x" * 40):
        spoilt = fragment([[S, S, T]])
        spoilt.blob = blob
        assert refused(spoilt) in ("checksum", "size")
    spoilt = fragment([[S, S, T]])
    spoilt.blob = b""
    assert refused(spoilt) in ("checksum", "size")


def test_no_flipped_bit_changes_what_gets_through() -> None:
    # Some bits of a zstd frame are unused: flipping one may pass, with the content as it was.
    honest = fragment([[S, S, T], [S, F]])
    expected = check_fragment(honest, order(), SCHEMA, SPACES).columns
    for bit in range(8 * len(honest.blob)):
        blob = bytearray(honest.blob)
        blob[bit // 8] ^= 1 << bit % 8
        try:
            columns = SCHEMA.decode(bytes(blob), 5, honest.raw_bytes)
        except FragmentError as error:
            assert error.reason in ("checksum", "size"), bit
        else:
            assert all(np.array_equal(columns[name], expected[name]) for name in expected), bit


# -- what is reported beside the rows --------------------------------------------------------------


def test_honest_reports_pass() -> None:
    sent = fragment([[S, F]])
    sent.eval_steps = 2
    sent.episodes.add(slot=1, returns=[1, 2, 3], length=900, member_id=1)
    sent.episodes.add(evaluation=True, slot=0, seed=4, task_id=9, returns=[1, 2, 3], length=25, policies=b"p" * 48)
    sent.faults.add(slot=0, message="ValueError: no")
    assert len(check_fragment(sent, order(eval_steps=32), SCHEMA, SPACES).episodes) == 2


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"returns": [1.0, 2.0]}, "episodes"),
        ({"returns": [1.0, 2.0, np.nan]}, "not_finite"),
        ({"returns": [1.0, np.inf, -np.inf]}, "not_finite"),
        ({"returns": [1.0, 1.7e308, 1.0]}, "not_finite"),
        ({"returns": [1.0, 1e15, 1.0]}, "not_finite"),
        ({"returns": [1.0, 1.7e308, -1.7e308]}, "not_finite"),
        ({"returns": [1.0, -1.8e39, 1.0]}, "not_finite"),  # of five steps
        ({"length": 2**32 - 1}, "episodes"),
        ({"length": 0}, "episodes"),
        ({"member_id": 1}, "episodes"),
        ({"slot": 2}, "episodes"),
        ({"evaluation": True}, "episodes"),  # no policies
    ],
)
def test_bad_episodes(fields: dict[str, object], reason: str) -> None:
    spoilt = fragment([[S, F]])
    spoilt.eval_steps = 1
    spoilt.episodes.add(**{"slot": 0, "returns": [1, 2, 3], "length": 5, "member_id": 0} | fields)
    assert refused(spoilt, eval_steps=8) == reason


def test_returns_of_the_largest_rewards_pass() -> None:
    sent = fragment([[S, F]])
    most = 5 * MAX_REWARD
    sent.episodes.add(slot=0, returns=[most, -most, 0], length=5, member_id=0)
    sent.wait_s = 86_400.0 * 365
    check_fragment(sent, order(), SCHEMA, SPACES)


@pytest.mark.parametrize(("length", "task_id"), [(26, 9), (2**32 - 1, 9), (2**32 - 1, 8), (0, 9)])
def test_evaluations_longer_than_their_task_allows(length: int, task_id: int) -> None:
    asked = order(eval_steps=32)
    asked.evaluations.add(task_id=9, max_episode_steps=25, seeds=[4])
    sent = fragment([])
    sent.eval_steps = 32
    sent.episodes.add(evaluation=True, seed=4, task_id=task_id, returns=[1, 2, 3], length=length, policies=b"p" * 48)
    with pytest.raises(FragmentError, match=f"length {length}; expected 3, 1 to") as error:
        check_fragment(sent, asked, SCHEMA, SPACES)
    assert error.value.reason == "episodes"


def test_more_evaluation_steps_than_slots_could_make() -> None:
    spoilt = fragment([])
    spoilt.eval_steps = 2**32 - 1
    assert refused(spoilt, eval_steps=32) == "episodes"


def test_a_frame_without_a_checksum_is_none() -> None:
    sent = fragment([[S, F]])
    raw = zstandard.ZstdDecompressor().decompress(sent.blob)
    sent.blob = zstandard.ZstdCompressor(write_checksum=False).compress(raw)
    with pytest.raises(FragmentError, match="has no checksum, expected one") as error:
        check_fragment(sent, order(), SCHEMA, SPACES)
    assert error.value.reason == "checksum"


def test_more_evaluation_episodes_than_steps() -> None:
    spoilt = fragment([])
    spoilt.eval_steps = 1
    for _ in range(2):
        spoilt.episodes.add(evaluation=True, returns=[1, 2, 3], length=1, policies=b"p" * 48)
    assert refused(spoilt, eval_steps=8) == "episodes"


def test_evaluation_that_was_not_ordered() -> None:
    spoilt = fragment([])
    spoilt.eval_steps = 1
    assert refused(spoilt) == "episodes"


def test_long_fault_messages_and_impossible_times() -> None:
    spoilt = fragment([])
    spoilt.faults.add(message="x" * 501)
    assert refused(spoilt) == "faults"
    for value in (float("nan"), -1.0, float("inf"), 3e38, 1.1e8):
        spoilt = fragment([])
        spoilt.wait_s = value
        assert refused(spoilt) == "not_finite"


# -- from a real environment -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mpe2.simple_speaker_listener_v4", "mpe2.simple_spread_v3"])
def test_what_actors_collect_passes_whatever_the_phase_of_their_slots(name: str) -> None:
    make_env = load_environment(name, {"continuous_actions": True, "max_cycles": 7})
    found = read_spaces(make_env(), None)
    schema = RowSchema.of(found)
    collector = Collector(SyncSlots(make_env, found, 6), found, schema, train_slots=4, compression_level=1)
    everybody = [0] * len(found.agents)
    for k in range(6):
        given = Order(order_id=k + 1, noise_seed=k, eval_steps=k % 2 * 16, policies=[PolicyRef(builtin="random")])
        for slot in range(4):
            given.slots.add(
                slot=slot, steps=5 + slot, member_id=slot % 3, agent_policies=everybody, restart=k == 4, seed=k
            )
        given.evaluations.add(task_id=k + 1, seeds=[1, 2], agent_policies=everybody, max_episode_steps=25)
        accepted = check_fragment(collector.run(given, {}), given, schema, found)
        assert accepted.steps_by_member == {0: 13, 1: 6, 2: 7}
    collector.close()
