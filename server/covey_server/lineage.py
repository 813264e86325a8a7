"""The record of every member that ever lived: parents, what changed, fitness, and when it died."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from covey.errors import StorageError
from covey_server.member import LineageEntry, Member

_FIELDS = tuple(f.name for f in dataclasses.fields(LineageEntry))


class Lineage:
    """Entries by member id, in order of birth. Entries are never removed."""

    def __init__(self, entries: Iterable[LineageEntry] = ()) -> None:
        self._entries = {entry.member_id: entry for entry in entries}

    @property
    def entries(self) -> tuple[LineageEntry, ...]:
        """Everybody who ever lived, in order of birth."""
        return tuple(self._entries.values())

    @property
    def next_member_id(self) -> int:
        """First id that was never given."""
        return max(self._entries, default=-1) + 1

    def __getitem__(self, member_id: int) -> LineageEntry:
        return self._entries[member_id]

    def born(self, member: Member) -> None:
        """Enter a new member.

        Raises:
            ValueError: its id was given before.
        """
        if member.member_id in self._entries:
            raise ValueError(f"member {member.member_id} was born before; ids are never reused")
        self._entries[member.member_id] = LineageEntry(
            member_id=member.member_id,
            parent_id=member.parent_id,
            generation=member.generation,
            mutation=member.mutation,
            change=member.change,
            fitness=member.fitness,
            fitness_stderr=member.fitness_stderr,
            env_steps=member.env_steps,
            updates=member.updates,
            hyperparameters=dict(member.hyperparameters),
            architecture=architecture(member),
        )

    def evaluated(self, member: Member) -> None:
        """Take down a living member's newest fitness and how far it has come; how it was made stays as it was."""
        self._entries[member.member_id] = replace(
            self._entries[member.member_id],
            fitness=member.fitness,
            fitness_stderr=member.fitness_stderr,
            env_steps=member.env_steps,
            updates=member.updates,
        )

    def died(self, member_id: int, generation: int) -> None:
        """Take down in which generation a member was replaced."""
        self._entries[member_id] = replace(self._entries[member_id], died_generation=generation)

    def line(self, member_id: int) -> tuple[LineageEntry, ...]:
        """The member, its parent, and so on back to one of the first population."""
        line = [self._entries[member_id]]
        while (parent := line[-1].parent_id) is not None:
            line.append(self._entries[parent])
        return tuple(line)

    def to_json(self) -> list[dict[str, Any]]:
        """Entries as JSON objects; a fitness that is no finite number becomes null, as JSON has no other word."""
        return [
            {
                **{name: getattr(entry, name) for name in _FIELDS},
                "fitness": _finite(entry.fitness),
                "fitness_stderr": _finite(entry.fitness_stderr),
            }
            for entry in self.entries
        ]

    @staticmethod
    def from_json(data: Iterable[Mapping[str, Any]]) -> Lineage:
        """Inverse of `to_json`.

        Raises:
            StorageError: an entry that is not of this form, or that names a parent not entered before it.
        """
        lineage = Lineage()
        for item in data:
            if not isinstance(item, Mapping) or set(item) != set(_FIELDS):
                raise StorageError(f"lineage: entry {str(item)[:80]!r}, expected the keys {', '.join(sorted(_FIELDS))}")
            entry = LineageEntry(**item)
            known = lineage._entries
            if entry.member_id in known or (entry.parent_id is not None and entry.parent_id not in known):
                raise StorageError(
                    f"lineage: member {entry.member_id} with parent {entry.parent_id}, expected a new id and a parent "
                    "entered before; the file is damaged: resume from an earlier checkpoint"
                )
            lineage._entries[entry.member_id] = entry
        return lineage


def architecture(member: Member) -> dict[str, object]:
    """Widths and activations of every network of a member, short enough to read; JSON."""
    result: dict[str, object] = {}
    for name, network in member.networks.items():
        spec = network.spec
        result[name] = {
            "encoders": {
                i.name: {"hidden_size": list(i.encoder.hidden_size), "activation": i.encoder.activation}
                for i in spec.inputs
            },
            "latent_dim": spec.latent_dim,
            "head": {"hidden_size": list(spec.head.hidden_size), "activation": spec.head.activation},
        }
    return result


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
