"""`make chaos MINUTES=20`: a run in which something goes wrong all the time; prints one JSON object.

Exit code 1 if anything was lost, counted twice or otherwise than the other side has it, if a process ended as none
should, or if training stood still. `--seed` repeats the draws, though not the moments at which they hit.
`make chaos KILLS=50` kills the learner so often instead and compares each time: see `tests.chaos.kills`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.chaos.faults import FAMILIES, deck
from tests.chaos.kills import kills
from tests.chaos.ledger import Differences, compare_promises, compare_recovery
from tests.chaos.world import HEARTBEAT_S, STANDSTILL_S, STEP_TIMEOUT_S, World, quantiles, world

SHOWN = 20
PAUSE_S = 0.5, 8.0
"""Between faults: at least and at most, in a run of many minutes."""


def chaos(seconds: float, seed: int, directory: Path, pause_s: tuple[float, float], only: str) -> dict[str, Any]:
    """Train in trouble for so long, then compare; returns what is printed."""
    with world(directory, seed) as w:
        w.start_learner()
        if not w.step_until(lambda: w.serves, STANDSTILL_S):
            raise RuntimeError(f"the run did not begin\n{w.learner_says()}")
        began = time.monotonic()
        faults = deck(w.rng, only)
        next_at = began
        while time.monotonic() < began + seconds:
            if time.monotonic() >= next_at:
                fault = next(faults)
                if fault(w):
                    w.note_fault(fault.__name__)
                    next_at = time.monotonic() + w.rng.uniform(*pause_s)
            w.step()
        faults_s = time.monotonic() - began
        w.settle()
        goes_on = w.recovers()
        w.end_learner(signal.SIGTERM)
        found = Differences()
        assert w.history is not None
        compare_promises(w.history, w.notes, found)
        status = json.loads((w.run / "status.json").read_text())
        compare_recovery(w.history, w.run, directory, found)
    return _report(w, found, status, goes_on, faults_s)


def _report(w: World, found: Differences, status: dict[str, Any], goes_on: bool, faults_s: float) -> dict[str, Any]:
    learner = {f.__name__ for f in FAMILIES["learner"]}
    kills_ = sum(w.faults[k] for k in ("learner_killed", "power_cut", "newest_checkpoint_damaged"))
    return {
        "ok": goes_on and not found.found and not w.unexpected and w.longest_still_s < STANDSTILL_S,
        "faults": w.faults.total(),
        "faults_by_kind": dict(sorted(w.faults.items())),
        "families": {name: sum(w.faults[f.__name__] for f in set(kinds)) for name, kinds in FAMILIES.items()},
        "learner_faults": sum(n for kind, n in w.faults.items() if kind in learner),
        "learner_kills": kills_,
        "lost": len(found.lost),
        "duplicated": len(found.doubled),
        "steps_wrong": len(found.steps),
        "content_wrong": len(found.content),
        "unexpected": len(w.unexpected),
        "promised_durable": found.promised,
        "fragments": found.taken,
        "refused": dict(found.refused),
        "env_steps": status["env_steps"],
        "updates": status["updates"],
        "generation": status["generation"],
        "counters": status["counters"],
        "restart_to_first_fragment_s": quantiles(w.restart_s),
        "black_hole_to_quota_moved_s": quantiles(w.noticed_s) | {"bound": 2 * HEARTBEAT_S},
        "longest_still_s": round(w.longest_still_s, 1),
        "longest_wait_for_actors_s": {
            "max": round(w.longest_wait_s, 1),
            "bound": 2 * HEARTBEAT_S + STEP_TIMEOUT_S,
            "faults": w.faults_in_longest_wait,
        },
        "goes_on": goes_on,
        "seconds": round(faults_s, 1),
        "differences": [*found.found, *w.unexpected][:SHOWN],
    }


def main() -> int:
    """Run, and report."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="how long things go wrong")
    parser.add_argument("--kills", type=int, help="kill the learner so often instead, and compare each time")
    parser.add_argument("--seed", type=int, default=0, help="of all draws")
    parser.add_argument("--pause", type=float, nargs=2, default=PAUSE_S, help="seconds between faults, from and to")
    parser.add_argument("--only", default="", help="faults whose names this pattern finds")
    parser.add_argument("--keep", type=Path, help="a directory to work in, and to keep")
    arguments = parser.parse_args()
    directory = arguments.keep or Path(tempfile.mkdtemp(prefix="covey-chaos-"))
    if arguments.kills:
        report = kills(arguments.kills, arguments.seed, directory)
    else:
        report = chaos(arguments.minutes * 60, arguments.seed, directory, tuple(arguments.pause), arguments.only)
    for difference in report.pop("differences"):
        print(difference, file=sys.stderr)
    if report["ok"] and not arguments.keep:
        shutil.rmtree(directory)
    else:
        report["directory"] = str(directory)
    print(json.dumps({"seed": arguments.seed} | report))
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
