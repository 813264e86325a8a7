"""How long an update of a population of 1 to 256 members takes on one device; prints one JSON object a figure.

    python -m benchmarks.gpu.updates [--device cuda] [--updates eager graph recorded] [--settings page learning large]

Members are fresh and equal in sizes, which are those of population_update.py. An update of IPPO is a learning phase on
a round of 2,048 env steps, and putting that together on the CPU is part of it. "ms" is the best of several blocks,
"median_ms" their median, on the wall. What would take longer than `--cell-s`, going by the size before, is skipped, and
the line says so. "captured" is what lay recorded afterwards, "trusted" whether it had equalled eager updates so far.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, get_args

import numpy as np
import torch
from benchmarks.population_update import SETTINGS, filled_replay, filled_rollouts, settings, speaker_listener

from covey.config import Config, Updates
from covey_server.algorithms import ALGORITHMS, Algorithm, build_networks
from covey_server.algorithms.ippo import IPPO
from covey_server.experience.replay import Replay
from covey_server.member import Member
from covey_server.packing.updates import verification
from covey_server.packing.updates.capture import Capture
from covey_server.packing.updates.replayed import Replayed
from covey_server.packing.updates.verification import Verification

DISTINCT = 4
"""Members with weights of their own; others begin with the same, which costs an update nothing."""

REPLAY_STEPS = 20_000
SPACES = speaker_listener()


def population(config: Config, size: int) -> list[Member]:
    """Fresh members; making each one's weights would take most of the time."""
    networks = [build_networks(config, SPACES, np.random.default_rng(m)) for m in range(min(size, DISTINCT))]
    return [
        Member(
            member_id=m,
            networks=networks[m % DISTINCT],
            hyperparameters=config.algorithm.initial_hyperparameters(),
        )
        for m in range(size)
    ]


def seconds_of_blocks(
    update: Callable[[Any], None], experience: Callable[[], Any], device: str, calls: int, spend_s: float
) -> list[float]:
    """Time of one update in each of at least 3 blocks of so many, going on for so long."""
    blocks: list[float] = []
    ends = time.perf_counter() + spend_s
    while len(blocks) < 3 or (time.perf_counter() < ends and len(blocks) < 50):
        given = [experience() for _ in range(calls)]
        begins = time.perf_counter()
        for its in given:
            update(its)
        if device != "cpu":
            torch.cuda.synchronize()
        blocks.append((time.perf_counter() - begins) / calls)
    return blocks


def captures(learner: Algorithm) -> int:
    """Recordings or CUDA graphs that the learner has."""
    owners: Sequence[Any] = learner._groups if isinstance(learner, IPPO) else [learner]
    backends = [owner._updates for owner in owners]
    return sum(isinstance(c, Capture) for b in backends if isinstance(b, Replayed) for c in b._captures.values())


def measured(
    algorithm: str, setting: str, size: int, device: str, updates: Updates, replay: Replay, spend_s: float
) -> dict[str, Any]:
    """The figures of one population."""
    verification.PROCESS = Verification()
    config = settings(algorithm, setting)
    config = config.model_copy(update={"learner": config.learner.model_copy(update={"updates": updates})})
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    learner = ALGORITHMS[algorithm](config, SPACES, population(config, size), device)
    rounds = isinstance(learner, IPPO)

    def experience() -> Any:
        return filled_rollouts(SPACES, size) if rounds else replay

    def update(experience: Any) -> None:
        learner.update(range(size), experience)

    # Keys are run eagerly, captured, and compared with the step in their first three runs; MATD3 has two.
    for _ in range(2 if rounds else 8):
        update(experience())
    blocks = seconds_of_blocks(update, experience, device, 1 if rounds else 2, spend_s)
    figures: dict[str, Any] = {
        "ms": round(min(blocks) * 1e3, 3),
        "median_ms": round(statistics.median(blocks) * 1e3, 3),
        "blocks": len(blocks),
    }
    if updates in ("graph", "recorded", "auto"):
        seen = verification.PROCESS
        figures |= {"captured": captures(learner), "trusted": seen.trusted and not seen._unsteady}
    if device != "cpu":
        figures["peak_mib"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--algo", nargs="+", default=["MADDPG", "IPPO", "MATD3"])
    parser.add_argument("--updates", nargs="+", default=["eager", "graph", "recorded"], choices=get_args(Updates))
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 4, 16, 64, 256])
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="CPU threads of an update")
    parser.add_argument("--spend-s", type=float, default=0.3, help="how long each is measured, at least 3 blocks")
    parser.add_argument("--cell-s", type=float, default=8.0, help="what would take longer in all is skipped")
    args = parser.parse_args()
    replay = filled_replay(SPACES, REPLAY_STEPS, args.device)
    for setting, algorithm, updates, threads in itertools.product(args.settings, args.algo, args.updates, args.threads):
        torch.set_num_threads(threads)
        took_s, before = 0.0, 0
        for size in args.sizes:
            line = {"algorithm": algorithm, "setting": setting, "updates": updates, "members": size}
            line |= {"device": args.device, "threads": threads}
            expected_s = took_s * size / before if before else 0.0
            if expected_s > args.cell_s:
                print(json.dumps(line | {"skipped": f"would take about {expected_s:.0f} s"}), flush=True)
                continue
            begins = time.perf_counter()
            try:
                line |= measured(algorithm, setting, size, args.device, updates, replay, args.spend_s)
            except torch.OutOfMemoryError as exc:
                line["skipped"] = str(exc).splitlines()[0]
            took_s, before = time.perf_counter() - begins, size
            print(json.dumps(line | {"seconds": round(took_s, 2)}), flush=True)


if __name__ == "__main__":
    main()
