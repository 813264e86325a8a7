"""The actors' side of the ledger: what each process made, and what it was promised."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from covey.v1.fragment_pb2 import Fragment


def fragment_hash(fragment: Fragment) -> str:
    """SHA-256 of a whole fragment: its rows, numbers and envelope, but not the checksum of these."""
    kept = Fragment()
    kept.CopyFrom(fragment)
    kept.ClearField("envelope_crc32")
    return hashlib.sha256(kept.SerializeToString(deterministic=True)).hexdigest()


@dataclass(slots=True)
class ActorNotes:
    """One actor process."""

    key: tuple[str, int] = ("", 0)
    made: dict[int, str] = field(default_factory=dict)  # hash by seq
    received: int = 0
    durable: int = 0


def read_notes(directory: Path) -> list[ActorNotes]:
    """The notes of all actor processes that got as far as to join."""
    processes = []
    for path in sorted(directory.glob("*.notes")):
        notes = ActorNotes()
        for line in path.read_text().splitlines():
            match line.split():
                case ["incarnation", actor_id, number]:
                    notes.key = actor_id, int(number)
                case ["made", seq, sha]:
                    notes.made[int(seq)] = sha
                case ["received", seq]:
                    notes.received = int(seq)
                case ["durable", seq]:
                    notes.durable = int(seq)
        if notes.key[1]:
            processes.append(notes)
    return processes
