"""Splits an actor's message that is too large to send at once into numbered parts, and joins them again."""

from __future__ import annotations

from covey.errors import FragmentError
from covey.rows import MAX_RAW_BYTES
from covey.v1 import fragment_pb2
from covey.wire.limits import MAX_PARTS, PART_BYTES

# The rows, and generously what zstd may add to bytes that do not compress.
MAX_BLOB_BYTES = MAX_RAW_BYTES + (MAX_RAW_BYTES >> 7) + 1024


def split_fragment(fragment: fragment_pb2.Fragment, max_bytes: int = PART_BYTES) -> list[fragment_pb2.Fragment]:
    """Split a message of an actor into parts of about `max_bytes`; a smaller message is returned as the only part.

    The first part carries the envelope; all have seq, order id, schema hash, their number and a piece of the blob.
    """
    if fragment.ByteSize() <= max_bytes:
        return [fragment]
    blob = fragment.blob  # every access copies
    first = fragment_pb2.Fragment()
    first.CopyFrom(fragment)
    first.blob = b""
    # An envelope may be large by itself (many episodes of many agents); each part still takes its share of the blob.
    cut = max(max_bytes - first.ByteSize() - 64, max_bytes // 2)
    pieces = [blob[:cut], *(blob[i : i + max_bytes] for i in range(cut, len(blob), max_bytes))]
    parts = [first]
    parts += [
        fragment_pb2.Fragment(seq=fragment.seq, order_id=fragment.order_id, schema_hash=fragment.schema_hash)
        for _ in pieces[1:]
    ]
    for i, (part, piece) in enumerate(zip(parts, pieces, strict=True)):
        part.blob, part.part, part.parts = piece, i, len(pieces)
    return parts


class FragmentAssembler:
    """Joins the parts of an actor's messages; holds at most one unfinished message, of at most `max_bytes`."""

    def __init__(self, max_bytes: int = MAX_BLOB_BYTES) -> None:
        self._max_bytes = max_bytes
        self._first: fragment_pb2.Fragment | None = None
        self._pieces: list[bytes] = []
        self._bytes = 0

    def add(self, part: fragment_pb2.Fragment) -> fragment_pb2.Fragment | None:
        """Take the next part of a message; returns the whole message with its last part, None before.

        A part 0 begins anew, whatever was unfinished: its sender resends.

        Raises:
            FragmentError: with reason "parts", a part out of turn or of another fragment; with reason "size", too many
                bytes. The parts held are dropped.
        """
        if part.parts <= 1 and part.part == 0:
            self._drop()
            return part
        if part.part == 0:
            self._drop()
            self._first = part
        first = self._first
        same = first is not None and (
            (part.seq, part.order_id, part.schema_hash, part.parts)
            == (first.seq, first.order_id, first.schema_hash, first.parts)
        )
        if first is None or not same or part.part != len(self._pieces) or not part.part < part.parts <= MAX_PARTS:
            expected = len(self._pieces)
            self._drop()
            raise FragmentError(
                "parts", f"part {part.part} of {part.parts} of seq {part.seq}, expected part {expected} of one fragment"
            )
        blob = part.blob
        self._pieces.append(blob)
        self._bytes += len(blob)
        if self._bytes > self._max_bytes:
            self._drop()
            raise FragmentError("size", f"parts of seq {part.seq} exceed {self._max_bytes} bytes")
        if len(self._pieces) < part.parts:
            return None
        whole = fragment_pb2.Fragment()
        whole.CopyFrom(first)
        whole.blob = b"".join(self._pieces)
        whole.ClearField("part")
        whole.ClearField("parts")
        self._drop()
        return whole

    def _drop(self) -> None:
        """Forget the parts of the unfinished message."""
        self._first, self._pieces, self._bytes = None, [], 0
