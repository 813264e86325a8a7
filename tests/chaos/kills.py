"""`make chaos KILLS=50`: kill -9 of the learner, and what a restart would find, each time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.chaos.ledger import Differences, compare_promises, compare_recovery
from tests.chaos.world import STANDSTILL_S, quantiles, world


def kills(count: int, seed: int, directory: Path) -> dict[str, Any]:
    """Kill a learner with four actors so often at random instants; returns what is printed.

    Each time, before it is resumed: every fragment that an actor was told is durable is in the journal, once, as it was
    made; and what recovery makes of a copy of the run has the members' steps and the replay that the journal has.
    """
    differences: list[str] = []
    equal = promised = fragments = env_steps = 0
    with world(directory, seed) as w:
        w.start_learner()
        for number in range(1, count + 1):
            if not w.step_until(lambda: w.serves, STANDSTILL_S):
                differences.append(f"kill {number}: the learner takes nothing in\n{w.learner_says()}")
                break
            w.step_for(w.rng.uniform(0.0, 5.0))
            w.end_learner()
            w.note_fault("learner_killed")
            assert w.history is not None
            found = Differences()
            compare_promises(w.history, w.notes, found)
            compare_recovery(w.history, w.run, directory, found)
            equal += not found.found
            promised, fragments = found.promised, found.taken
            env_steps = sum(t.steps.total() for t in w.history.taken if not t.refused)
            differences += [f"kill {number}: {d}" for d in found.found]
            w.start_learner()
        differences += w.unexpected
    return {
        "ok": equal == count and not differences,
        "kills": w.faults["learner_killed"],
        "equal": equal,
        "promised_durable": promised,
        "fragments": fragments,
        "env_steps": env_steps,
        "restart_to_first_fragment_s": quantiles(w.restart_s),
        "differences": differences,
    }
