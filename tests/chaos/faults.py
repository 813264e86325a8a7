"""What goes wrong. A fault is a function of the world: it returns False where it makes no sense now."""

from __future__ import annotations

import os
import random
import re
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.chaos.world import HEARTBEAT_S, ActorPlace, World
from tests.support.bad_actors import ANSWERS

from covey.run.checkpoint_format import STATE, TENSORS, checkpoint_paths, read_newest
from covey_server.storage.journal import Position
from covey_server.storage.journal_segment import SEGMENT_START

Fault = Callable[[World], bool]

# -- actors -----------------------------------------------------------------------------------------------------------


def actor_killed(world: World) -> bool:
    """kill -9; another process of its name comes a moment later."""
    place = _some_place(world)
    if place is not None:
        place.process.kill()
    return place is not None


def actor_replaced(world: World) -> bool:
    """kill -9, and its successor is there at once."""
    place = _some_place(world)
    if place is not None:
        place.process.kill()
        world.start_actor(place)
    return place is not None


def actor_doubled(world: World) -> bool:
    """A second process of its name, while the first one works: the first is fenced out."""
    place = _some_place(world)
    if place is not None:
        world.start_actor(place)
    return place is not None


def actor_told_to_leave(world: World) -> bool:
    """SIGTERM."""
    place = _some_place(world)
    if place is not None:
        place.process.terminate()
    return place is not None


def actor_paused(world: World) -> bool:
    """SIGSTOP for less than makes it lost."""
    return _freeze(world, world.rng.uniform(0.2, 1.0) * HEARTBEAT_S)


def actor_frozen(world: World) -> bool:
    """SIGSTOP for so long that it is given up; then it comes back."""
    return _freeze(world, world.rng.uniform(2.5, 6.0) * HEARTBEAT_S)


def _freeze(world: World, seconds: float) -> bool:
    place = _some_place(world)
    if place is None:
        return False
    process = place.process
    process.freeze()
    _until(world, place, seconds, process.thaw)
    return True


def bad_actor(world: World) -> bool:
    """One more actor, which sends heartbeats and does not do what it is told, in one of eight ways."""
    if not world.serves:
        return False
    return world.start_bad_actor(world.rng.choice([*ANSWERS]), world.rng.uniform(3.0, 20.0))


# -- connections ------------------------------------------------------------------------------------------------------


def line_cut(world: World) -> bool:
    """Connections are reset."""
    place = _some_place(world)
    if place is not None:
        place.proxy.cut()
    return place is not None


def line_half_open(world: World) -> bool:
    """The other end knows nothing of the connections, and does not say so."""
    place = _some_place(world)
    if place is not None:
        place.proxy.half_open()
        world.black_hole_opens(place)
        _until(world, place, world.rng.uniform(3.0, 6.0), place.proxy.heal)
    return place is not None


def line_lost_upwards(world: World) -> bool:
    """Nothing of the actor reaches the learner."""
    return _black_hole(world, up=True, down=False)


def line_lost_downwards(world: World) -> bool:
    """Nothing of the learner reaches the actor."""
    return _black_hole(world, up=False, down=True)


def line_lost(world: World) -> bool:
    """Nothing gets through."""
    return _black_hole(world, up=True, down=True)


def line_slow(world: World) -> bool:
    """A bad line."""
    place = _some_place(world)
    if place is not None:
        place.proxy.slow(world.rng.uniform(0.05, 0.4), world.rng.uniform(20e3, 200e3))
        _until(world, place, world.rng.uniform(1.0, 6.0), place.proxy.heal)
    return place is not None


def _black_hole(world: World, *, up: bool, down: bool) -> bool:
    place = _some_place(world)
    if place is None:
        return False
    place.proxy.black_hole(up=up, down=down)
    if up:
        world.black_hole_opens(place)
    _until(world, place, world.rng.uniform(3.0, 7.0), place.proxy.heal)
    return True


# -- environments -----------------------------------------------------------------------------------------------------


def environment_raises(world: World) -> bool:
    """An exception in `step`."""
    return _trouble(world, "raise")


def environment_says_nan(world: World) -> bool:
    """Observations that are no numbers."""
    return _trouble(world, "nan")


def environment_hangs(world: World) -> bool:
    """A step that takes several heartbeat intervals."""
    return _trouble(world, f"hang {world.rng.uniform(2.0, 6.0)}")


def _trouble(world: World, what: str) -> bool:
    place = _some_place(world)
    if place is not None:
        place.trouble.write_text(what)
    return place is not None


# -- the learner ------------------------------------------------------------------------------------------------------


def learner_killed(world: World) -> bool:
    """kill -9."""
    if not _may_end(world):
        return False
    world.end_learner()
    _come_back(world)
    return True


def power_cut(world: World) -> bool:
    """The machine dies: of the journal, any part of what was not synced is gone."""
    if not _may_end(world) or world.history is None:
        return False
    world.end_learner()
    synced = _last_synced(world.notes / "journal.synced")
    segments = sorted(p for p in world.history.segment(0).parent.iterdir() if int(p.stem) >= synced.segment)
    torn = world.rng.choice(segments)
    size = torn.stat().st_size
    least = synced.offset if int(torn.stem) == synced.segment else min(size, len(SEGMENT_START))
    end = Position(int(torn.stem), world.rng.randint(least, size))
    os.truncate(torn, end.offset)
    for behind in segments[segments.index(torn) + 1 :]:
        behind.unlink()
    world.history.rewind(end)
    _come_back(world)
    return True


def newest_checkpoint_damaged(world: World) -> bool:
    """kill -9, and a byte of the newest checkpoint is another one."""
    if not _may_end(world):
        return False
    kept = checkpoint_paths(world.run / "checkpoints")
    if len(kept) < 2:
        return False  # one must be sound
    world.end_learner()
    damage_newest_checkpoint(world)
    _come_back(world)
    return True


def learner_told_to_stop(world: World) -> bool:
    """SIGTERM: a checkpoint, actors leave, and it is resumed."""
    if not _may_end(world):
        return False
    world.end_learner(signal.SIGTERM)
    _come_back(world)
    return True


def learner_frozen(world: World) -> bool:
    """SIGSTOP."""
    if not _may_end(world) or world.learner is None:
        return False
    learner = world.learner
    learner.freeze()
    world.learner_frozen = True
    world.black_holes_do_not_count()

    def thaw() -> None:
        learner.thaw()
        world.learner_frozen = False

    world.after(world.rng.uniform(0.5, 4.0), thaw)
    return True


def disk_full(world: World) -> bool:
    """No file of the learner's may grow beyond what its journal has now, or a bit more. It may end of that."""
    if not _may_end(world) or world.learner is None:
        return False
    learner, size = world.learner, world.rng.randrange(1 << 10, 1 << 16)
    _, hard = resource.prlimit(learner.popen.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(learner.popen.pid, resource.RLIMIT_FSIZE, (size, hard))
    world.expect_end = True

    def room() -> None:
        if world.learner is learner and learner.popen.poll() is None:
            resource.prlimit(learner.popen.pid, resource.RLIMIT_FSIZE, (hard, hard))
            world.after(1.0, lambda: setattr(world, "expect_end", False))

    world.after(world.rng.uniform(1.0, 4.0), room)
    return True


def damage_newest_checkpoint(world: World) -> None:
    """Another bit somewhere in it. Generations that no other one has are made again: what they played is void."""
    assert world.history is not None
    newest = checkpoint_paths(world.run / "checkpoints")[-1]
    path = newest / world.rng.choice([STATE, TENSORS])
    data = bytearray(path.read_bytes())
    data[world.rng.randrange(len(data))] ^= 1 << world.rng.randrange(8)
    path.write_bytes(data)
    _, state, _ = read_newest(world.run / "checkpoints")
    world.history.supersede(Position(*state["run"]["journal"]), int(state["run"]["generation"]))


def _may_end(world: World) -> bool:
    """Mostly only when it is at work, or nothing would ever be done; now and then while it still starts."""
    if world.learner is None or world.learner_frozen or world.expect_end:
        return False
    return world.serves or (world.history is not None and world.ends_early)


def _come_back(world: World) -> None:
    world.after(world.rng.choice([0.0, world.rng.uniform(0.0, 2.0)]), world.start_learner)


def _last_synced(notes: Path) -> Position:
    lines = [line.split() for line in notes.read_text().splitlines()] if notes.exists() else []
    return Position(int(lines[-1][1]), int(lines[-1][2])) if lines else Position(0, 0)


# -- drawing ----------------------------------------------------------------------------------------------------------

FAMILIES: dict[str, tuple[Fault, ...]] = {
    "actor": (actor_killed, actor_replaced, actor_doubled, actor_told_to_leave, actor_paused, actor_frozen),
    "bad": (bad_actor,),
    "line": (line_cut, line_half_open, line_lost_upwards, line_lost_downwards, line_lost, line_slow),
    "environment": (environment_raises, environment_says_nan, environment_hangs),
    "learner": (
        *(learner_killed, learner_killed, power_cut, newest_checkpoint_damaged),
        *(learner_told_to_stop, learner_frozen, disk_full),
    ),
}


def deck(rng: random.Random, only: str = "") -> Iterator[Fault]:
    """All faults whose names this pattern finds, in random order, again and again.

    Families alternate, so that a short run meets them all.
    """
    kinds = {family: [f for f in faults if re.search(only, f.__name__)] for family, faults in FAMILIES.items()}
    piles: dict[str, list[Fault]] = {family: [] for family, faults in kinds.items() if faults}
    while True:
        for family in rng.sample(list(piles), len(piles)):
            piles[family] = piles[family] or rng.sample(kinds[family], len(kinds[family]))
            yield piles[family].pop()


def _some_place(world: World) -> ActorPlace | None:
    """An actor that is not in trouble already."""
    places = [p for p in world.places if p.is_running and not p.faulty and len(p.processes) == 1]
    return world.rng.choice(places) if places else None


def _until(world: World, place: ActorPlace, seconds: float, heal: Callable[[], None]) -> None:
    place.faulty = True

    def healed() -> None:
        heal()
        place.faulty = False
        world.black_hole_ends(place)

    world.after(seconds, healed)
