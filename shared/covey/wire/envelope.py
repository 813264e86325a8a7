"""The checksum of a fragment's envelope: of all that a fragment says besides its compressed rows, which have their own.

Without TLS nothing else notices a flipped bit that leaves a message readable, such as another return of an episode.
proto/README.md says what is summed up, byte by byte.
"""

from __future__ import annotations

import struct
import zlib

from covey.v1.fragment_pb2 import Fragment


def envelope_crc32(fragment: Fragment) -> int:
    """CRC-32 of a whole fragment's fields, without its blob, in the form that proto/README.md describes."""
    f = fragment
    parts = [
        struct.pack("<QQIII", f.seq, f.order_id, f.raw_bytes, f.shortfall, f.eval_steps),
        struct.pack("<ff", f.wait_s, f.work_s),
        f.schema_hash,
    ]
    for s in f.streams:
        numbers = (s.slot, s.lead_in_rows, s.rows, s.steps, s.cut_before, *s.state_sizes)
        parts.append(struct.pack(f"<IIII?{len(s.state_sizes)}I", *numbers))
        if s.context_rows:  # which protocol version 1 does not have
            parts.append(struct.pack("<I", s.context_rows))
    for e in f.episodes:
        numbers = (e.evaluation, e.slot, e.seed, e.length, e.task_id, e.member_id)
        parts += [struct.pack("<?IQIQQ", *numbers), struct.pack(f"<{len(e.returns)}d", *e.returns), e.policies]
    for fault in f.faults:
        parts += [struct.pack("<?IQQ", fault.evaluation, fault.slot, fault.task_id, fault.seed), fault.message.encode()]
    return zlib.crc32(b"".join(parts))


def is_intact(fragment: Fragment) -> bool:
    """Whether a whole fragment's envelope is as its sender made it; true for senders that give no checksum."""
    return not fragment.HasField("envelope_crc32") or fragment.envelope_crc32 == envelope_crc32(fragment)
