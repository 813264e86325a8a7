"""The elites of a run's generations: the policies of each one's fittest member, of which a bounded number is kept.

They belong to checkpoints: an elite is on the disk before the checkpoint of the generation that follows it, and a run
that goes on from an earlier checkpoint drops those that this one does not know.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from covey.errors import StorageError
from covey.run.directory import SCORE, RunDirectory
from covey.run.files import cannot_write, read_json
from covey.run.kept import cut_short, drop_kept, put_back, write_kept
from covey.run.trained import TrainedMember


def stays(generation: int, newest: int, most: int) -> bool:
    """Whether a generation's elite is one of those that are kept when the newest generation is this one.

    Kept are the first generation, every `stride`-th after it, and the newest one. `stride` is the lowest power of two
    with which these are at most `most`. So they are spread evenly over the whole run, as its beginning tells as much of
    how it learned as its end, and at least half of the places are used. Doubling the stride drops every second one and
    needs none that was dropped before. What is kept follows from the newest generation alone, so a run that was
    interrupted keeps the same ones as one that was not.

    Args:
        generation: Number of a generation, at most `newest`.
        newest: Number of the newest generation that has an elite.
        most: Most elites that are kept, at least 2.
    """
    stride = 1
    while newest // stride + 1 + (newest % stride > 0) > most:
        stride *= 2
    return generation == newest or generation % stride == 0


@dataclass(slots=True)
class Elite:
    """The fittest member that has ended a generation.

    Attributes:
        member_id: Id of the member.
        fitness: Its fitness in the evaluation at the end of the generation.
        unwritten: Its policies and score, until they are on the disk.
    """

    member_id: int
    fitness: float
    unwritten: tuple[TrainedMember, dict[str, Any]] | None


Elites = dict[int, Elite]
"""Elites by generation."""


class EliteFolders:
    """Keeps the elites of a run's generations as folders of policies.

    The thread that trains enters elites; the one that writes checkpoints writes and thins out the folders.

    Args:
        run: The run whose elites they are.
        most: Most elites that are kept.
        tell: Takes a sentence for people: a disk that refuses an elite does not end the run.
    """

    def __init__(self, run: RunDirectory, most: int, tell: Callable[[str], None]) -> None:
        self._run = run
        self._most = most
        self._tell = tell
        self._elites: Elites = {}
        self._opened: tuple[Elite, TrainedMember] | None = None  # what `before` returned last

    def enter(self, member: TrainedMember, score: dict[str, Any]) -> None:
        """Enter a member that has ended a generation, unless a fitter one has ended it before.

        Args:
            member: The member, with the policies that were evaluated.
            score: What is to be said of it, its `fitness` among it.
        """
        fitness = float(score["fitness"])
        before = self._elites.get(member.generation)
        if math.isnan(fitness) or (before is not None and fitness <= before.fitness):
            return
        entered = self._elites | {member.generation: Elite(member.member_id, fitness, (member, score))}
        newest = max(entered)
        # Also of those that a full disk keeps from being written no more than these wait in memory.
        self._elites = {g: entered[g] for g in sorted(entered) if stays(g, newest, self._most)}

    def before(self, generation: int) -> TrainedMember | None:
        """The newest elite of a generation before this one, ready to play; None if there is none.

        Raises:
            StorageError: its folder cannot be read.
        """
        newest = max((g for g in self._elites if g < generation), default=None)
        if newest is None:
            return None
        elite = self._elites[newest]
        if self._opened is None or self._opened[0] is not elite:
            unwritten = elite.unwritten  # looked at once: the thread that writes checkpoints sets it to None
            self._opened = elite, unwritten[0] if unwritten else TrainedMember.elite(self._run, newest)
        return self._opened[1]

    def unwritten(self) -> Elites:
        """The elites that are not on the disk yet."""
        return {generation: elite for generation, elite in self._elites.items() if elite.unwritten is not None}

    def write(self, elites: Elites) -> None:
        """Write elites to the disk; those that it refuses stay unwritten, and the next checkpoint tries again."""
        for generation, elite in elites.items():
            if elite.unwritten is None:
                continue
            try:
                write_kept(self._run.elite(generation), *elite.unwritten)
                elite.unwritten = None
            except StorageError as exc:
                self._tell(f"{exc}; the elite of generation {generation} is written with the next checkpoint")

    def thin_out(self) -> None:
        """Delete the folders of elites that no longer stay."""
        try:
            generations = self._run.elite_generations()
            for generation in generations:
                if not stays(generation, generations[-1], self._most):
                    drop_kept(self._run.elite(generation))
        except StorageError as exc:
            self._tell(f"{exc}; more elites stay than checkpoint.keep_elites says")

    def to_state(self) -> dict[str, Any]:
        """What a checkpoint keeps, as JSON: whose policies are those of which generation."""
        return {str(g): {"member_id": e.member_id, "fitness": e.fitness} for g, e in self._elites.items()}

    def from_state(self, state: Mapping[str, Any]) -> None:
        """Go on with the elites that a checkpoint knows; delete the folders of all others.

        Raises:
            StorageError: the disk is not writable.
            KeyError, TypeError, ValueError, AttributeError: the state is not what `to_state` returns.
        """
        known = {int(g): (int(e["member_id"]), float(e["fitness"])) for g, e in state.items()}
        try:
            for folder in cut_short(self._run.elites):
                put_back(folder)
        except OSError as exc:
            raise cannot_write(self._run.elites, exc) from exc
        self._elites = {}
        for generation in self._run.elite_generations():
            folder = self._run.elite(generation)
            if generation in known and _whose(folder) == known[generation]:
                self._elites[generation] = Elite(*known[generation], None)
            else:
                drop_kept(folder)


def _whose(folder: Path) -> tuple[int, float] | None:
    """Id and fitness of the member whose policies a folder has; None if it does not say."""
    with contextlib.suppress(StorageError, KeyError, TypeError, ValueError):
        score = read_json(folder / SCORE)
        return int(score["member_id"]), float(score["fitness"])
    return None
