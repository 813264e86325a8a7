"""Fragments: parts and their joining, and the round trip of whatever orders give."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.examples import examples

from covey.collect import FragmentAssembler, split_fragment
from covey.errors import FragmentError
from covey.v1 import fragment_pb2


def fragment(size: int, seq: int = 3) -> fragment_pb2.Fragment:
    made = fragment_pb2.Fragment(
        seq=seq,
        order_id=9,
        schema_hash=b"h" * 16,
        blob=np.random.default_rng(size).bytes(size),
        raw_bytes=7,
        wait_s=1.5,
        eval_steps=4,
    )
    made.streams.add(slot=1, rows=5, steps=4)
    made.episodes.add(slot=1, returns=[1.0, 2.0], length=3)
    return made


@examples(0.6)
@given(st.integers(0, 5000), st.integers(200, 3000))
def test_parts_join_to_the_fragment(size: int, most: int) -> None:
    whole = fragment(size)
    parts = split_fragment(whole, most)
    assert (len(parts) == 1) == (whole.ByteSize() <= most)
    for i, part in enumerate(parts):
        assert part.ByteSize() <= most + 100
        assert (part.seq, part.order_id, part.schema_hash) == (3, 9, b"h" * 16)
        if len(parts) > 1:
            assert (part.part, part.parts) == (i, len(parts))
    assembler = FragmentAssembler()
    *early, last = [assembler.add(part) for part in parts]
    assert early == [None] * (len(parts) - 1)
    assert last == whole


def parts_of(size: int = 5000, seq: int = 3) -> list[fragment_pb2.Fragment]:
    return split_fragment(fragment(size, seq), 1000)


def spoil(part: fragment_pb2.Fragment, change: Callable[[fragment_pb2.Fragment], object]) -> fragment_pb2.Fragment:
    change(part)
    return part


@pytest.mark.parametrize(
    "second",
    [
        parts_of()[2],
        parts_of(seq=4)[1],
        spoil(parts_of()[1], lambda p: setattr(p, "order_id", 1)),
        spoil(parts_of()[1], lambda p: setattr(p, "parts", 99)),
        spoil(parts_of()[1], lambda p: setattr(p, "schema_hash", b"")),
    ],
)
def test_parts_out_of_turn_are_refused_and_leave_nothing_behind(second: fragment_pb2.Fragment) -> None:
    assembler = FragmentAssembler()
    assert assembler.add(parts_of()[0]) is None
    with pytest.raises(FragmentError, match="expected part 1 of one fragment") as caught:
        assembler.add(second)
    assert caught.value.reason == "parts"
    with pytest.raises(FragmentError):
        assembler.add(parts_of()[1])
    assert [assembler.add(p) for p in parts_of()][-1] == fragment(5000)


def test_assembling_is_bounded_in_bytes_and_parts() -> None:
    assembler = FragmentAssembler(max_bytes=3000)
    parts = parts_of()
    with pytest.raises(FragmentError) as caught:
        for part in parts:
            assembler.add(part)
    assert caught.value.reason == "size"
    with pytest.raises(FragmentError):
        FragmentAssembler().add(fragment_pb2.Fragment(seq=1, part=0, parts=1 << 30))
    with pytest.raises(FragmentError):
        FragmentAssembler().add(fragment_pb2.Fragment(seq=1, part=5, parts=5))


def test_a_resend_begins_anew() -> None:
    assembler = FragmentAssembler()
    parts = parts_of()
    assembler.add(parts[0])
    assembler.add(parts[1])
    assert [assembler.add(p) for p in parts][-1] == fragment(5000)
    assembler.add(parts[0])
    assert assembler.add(fragment(10)) == fragment(10), "a fragment in one piece drops the unfinished one too"
