"""Lineage of a run: for every member that ever lived its parent, mutation, fitness and generation of death."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

from pydantic import TypeAdapter

from covey.errors import StorageError
from covey.v1.population_service_pb2 import MemberInfo
from covey_server.member import LineageEntry, Member

_FIELDS = tuple(f.name for f in dataclasses.fields(LineageEntry))
_ENTRY = TypeAdapter(LineageEntry)


class Lineage:
    """The records of all members that a run ever had, by member id; those of members that died never change.

    Args:
        entries: Entries of earlier members, in any order, except that members that died are in the order of their
            deaths.
    """

    def __init__(self, entries: Iterable[LineageEntry] = ()) -> None:
        given = list(entries)
        # Ids rise with every birth, so order of ids is order of birth.
        self._entries = {e.member_id: e for e in sorted(given, key=lambda e: e.member_id)}
        self._living = {e.member_id: e for e in self._entries.values() if e.died_generation is None}
        self._dead = [e for e in given if e.died_generation is not None]

    @property
    def entries(self) -> tuple[LineageEntry, ...]:
        """Records of all members that ever lived, in the order of their births."""
        return tuple(self._entries.values())

    @property
    def living(self) -> tuple[LineageEntry, ...]:
        """Records of members that are alive, in the order of their births."""
        return tuple(self._living.values())

    @property
    def dead(self) -> Sequence[LineageEntry]:
        """Records of members that died, in the order of their deaths."""
        return self._dead

    @property
    def next_member_id(self) -> int:
        """Lowest member id that no member ever had."""
        return next(reversed(self._entries), -1) + 1

    def __contains__(self, member_id: int) -> bool:
        return member_id in self._entries

    def __getitem__(self, member_id: int) -> LineageEntry:
        return self._entries[member_id]

    def born(self, member: Member) -> None:
        """Add a record for a new member: parent, mutation, hyperparameters, architecture.

        Raises:
            ValueError: the member's id, or a higher one, was used before.
        """
        if member.member_id < self.next_member_id:
            raise ValueError(f"member {member.member_id} was born before; ids are never reused")
        entry = LineageEntry(
            member_id=member.member_id,
            parent_id=member.parent_id,
            generation=member.generation,
            mutation=member.mutation,
            change=member.change,
            fitness=member.fitness,
            fitness_stderr=member.fitness_stderr,
            env_steps=member.env_steps,
            updates=member.updates,
            hyperparameters=member.hyperparameters.numbers(),
            architecture=architecture(member),
        )
        parent = None if member.parent_id is None else self._entries.get(member.parent_id)
        if parent is not None:
            # Equal values are shared with the parent's entry, to save memory over thousands of generations.
            if entry.hyperparameters == parent.hyperparameters:
                entry = replace(entry, hyperparameters=parent.hyperparameters)
            if entry.architecture == parent.architecture:
                entry = replace(entry, architecture=parent.architecture)
        self._enter(entry)

    def changed(self, member: Member, change: str) -> None:
        """Update a living member's entry after its hyperparameters were set by hand; `change` says it in words."""
        entry = self._living[member.member_id]
        words = f"{entry.change}; {change}" if entry.change else change
        self._enter(replace(entry, hyperparameters=member.hyperparameters.numbers(), change=words))

    def evaluated(self, member: Member) -> None:
        """Update a living member's record after an evaluation: its fitness, env steps and updates."""
        self._enter(
            replace(
                self._living[member.member_id],
                fitness=member.fitness,
                fitness_stderr=member.fitness_stderr,
                env_steps=member.env_steps,
                updates=member.updates,
            )
        )

    def compared(self, generation: int) -> None:
        """Note what the members born in this generation are compared with, once all living members were evaluated.

        A child that was changed and its parent that was not begin the generation with equal weights, and are evaluated
        by the same episodes at its end: the difference is what the change was worth (`covey lineage --worth`).
        """
        for child in [e for e in self._living.values() if e.generation == generation and e.first_fitness is None]:
            parent = None if child.parent_id is None else self._living.get(child.parent_id)
            then = None if parent is None else parent.fitness
            self._enter(replace(child, first_fitness=child.fitness, parent_fitness=then))

    def died(self, member_id: int, generation: int) -> None:
        """Mark a living member as dead, replaced at the start of a generation."""
        entry = replace(self._living.pop(member_id), died_generation=generation)
        self._entries[member_id] = entry
        self._dead.append(entry)

    def _enter(self, entry: LineageEntry) -> None:
        """Add or replace the record of a living member."""
        self._entries[entry.member_id] = self._living[entry.member_id] = entry


def entry_info(entry: LineageEntry) -> MemberInfo:
    """Convert the record of a member's life to the message that `covey lineage` shows."""
    dead = entry.died_generation is not None
    return MemberInfo(
        member_id=entry.member_id,
        parent_id=entry.parent_id,
        generation=entry.generation,
        env_steps=entry.env_steps,
        updates=entry.updates,
        fitness=entry.fitness,
        fitness_stderr=entry.fitness_stderr,
        architecture_json=json.dumps(entry.architecture),
        hyperparameters_json=json.dumps(entry.hyperparameters),
        mutation=entry.mutation,
        change=entry.change,
        state="dead" if dead else "",
        died_generation=entry.died_generation,
        first_fitness=entry.first_fitness,
        parent_fitness=entry.parent_fitness,
    )


def entry_from_json(data: object) -> LineageEntry:
    """Read the record of a member's life from a JSON object; a fitness of null stands for None, NaN or infinity.

    Raises:
        StorageError: a field is missing, of another type or too large.
    """
    try:
        entry = _ENTRY.validate_python(data)
        entry_info(entry)  # raises ValueError for numbers that are too large for the message's fields
    except (TypeError, ValueError) as exc:  # pydantic's are ValueErrors
        raise StorageError(
            f"lineage: {str(data)[:80]!r} is not an entry, expected {', '.join(_FIELDS)}; the file is damaged"
        ) from exc
    return entry


def architecture(member: Member) -> dict[str, object]:
    """Return encoders' kinds, layer widths and activations of each network of a member, as JSON for people to read."""
    result: dict[str, object] = {}
    for name, network in member.networks.items():
        spec = network.spec
        result[name] = {
            "encoders": {i.name: i.encoder.described() for i in spec.inputs},
            "latent_dim": spec.latent_dim,
            "head": {"hidden_size": list(spec.head.hidden_size), "activation": spec.head.activation},
        }
    return result
