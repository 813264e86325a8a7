"""The checksum of a fragment's envelope notices every flipped bit that leaves the message readable."""

from __future__ import annotations

import zlib

from covey.v1.fragment_pb2 import Fragment
from covey.wire.envelope import envelope_crc32, is_intact


def sealed() -> Fragment:
    f = Fragment(seq=3, order_id=1 << 41, schema_hash=b"s" * 16, raw_bytes=94, eval_steps=7, wait_s=0.25, work_s=1.5)
    f.streams.add(slot=1, rows=2, steps=1, cut_before=True)
    f.streams.add(slot=2, lead_in_rows=1, rows=3, steps=2)
    f.episodes.add(slot=1, returns=[1.5, -2.0], length=1, member_id=4)
    f.episodes.add(evaluation=True, slot=0, seed=9, returns=[3.0, 4.0], length=25, task_id=8, policies=b"p" * 32)
    f.faults.add(slot=2, message="ValueError: nö", task_id=8, seed=1)
    f.envelope_crc32 = envelope_crc32(f)
    return f


def test_a_flipped_bit_of_any_field_is_noticed() -> None:
    data = sealed().SerializeToString()
    read = unnoticed = 0
    for bit in range(8 * len(data)):
        spoilt = bytearray(data)
        spoilt[bit // 8] ^= 1 << bit % 8
        try:
            other = Fragment.FromString(bytes(spoilt))
        except Exception:
            continue
        read += 1
        # What is lost by turning the checksum's own field into another, or into an unknown one, cannot be seen.
        unnoticed += is_intact(other) and other.HasField("envelope_crc32")
    assert read > 500 and unnoticed <= 16, "only the blob's own bits, and unknown fields, are not summed up here"


def test_it_is_what_the_specification_says() -> None:
    f = Fragment(seq=1, order_id=2, schema_hash=b"\x05" * 16, raw_bytes=3)
    f.episodes.add(slot=7, returns=[1.0], length=6, member_id=8)
    text = "0100000000000000 0200000000000000 03000000 00000000 00000000 00000000 00000000" + "05" * 16
    text += "00 07000000 0000000000000000 06000000 0000000000000000 0800000000000000 000000000000f03f"
    assert envelope_crc32(f) == zlib.crc32(bytes.fromhex(text))


def test_senders_that_give_none_are_taken_at_their_word() -> None:
    f = sealed()
    f.ClearField("envelope_crc32")
    f.episodes[0].returns[0] = 17.0
    assert is_intact(f)
