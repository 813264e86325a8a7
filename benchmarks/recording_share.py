"""What share of a run's updates goes into recording them anew, as mutations change sizes; prints one JSON object.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.recording_share [--generations 4] [--steps 15000]

The learner's part of `examples/speaker_listener.yaml` alone, in CPU seconds: experience is random and so are fitnesses,
selection and mutation are as in a run, and updates fall due as fragments of the members come in, in a random order.
"capture_s" has the update that is made while it is recorded in it, "comparison_s" both updates that are compared.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.population_update import filled_replay, speaker_listener

from covey.config import load_config
from covey_server.algorithms import ALGORITHMS, build_networks
from covey_server.evolution.generation import initial_population, next_generation
from covey_server.member import Member
from covey_server.packing.updates.recorded import Recorded
from covey_server.packing.updates.verification import Verification

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "speaker_listener.yaml"

FRAGMENT_STEPS = 64

clock = time.process_time


def timed(owner: type, name: str, spent: Counter[str]) -> None:
    """Let every call of a method be counted, and its CPU seconds added up."""
    method: Callable[..., Any] = getattr(owner, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        start = clock()
        try:
            return method(*args, **kwargs)
        finally:
            spent[f"{name}_us"] += int(1e6 * (clock() - start))
            spent[name] += 1

    setattr(owner, name, call)


def due_now(members: Sequence[Member], owed: Sequence[int], left: Sequence[int]) -> list[int]:
    """Who is updated now: as in a run, members of which each has a single update due wait for others."""
    due = [i for i, m in enumerate(members) if owed[i] >= m.hyperparameters.learn_step]
    waiting = all(owed[i] < 2 * members[i].hyperparameters.learn_step and left[i] for i in due)
    return [] if waiting else due


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generations", type=int, default=4)
    parser.add_argument("--steps", type=int, default=15_000, help="env steps of a member in a generation")
    parser.add_argument("--backend", default="auto", help="learner.updates")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    spaces = speaker_listener()
    config = load_config(EXAMPLE)
    config = config.model_copy(update={"learner": config.learner.model_copy(update={"updates": args.backend})})
    replay = filled_replay(spaces, 50_000, "cpu")
    spent: Counter[str] = Counter()
    timed(Recorded, "capture", spent)
    timed(Verification, "compare", spent)
    initialisation, mutating, selecting, draws = (np.random.default_rng([args.seed, i]) for i in range(4))
    members = initial_population(config, lambda rng: build_networks(config, spaces, rng), initialisation, mutating)
    updates, update_s = 0, 0.0
    for generation in range(1, args.generations + 1):
        learner = ALGORITHMS[config.algorithm.name](config, spaces, members)
        owed, left = [m.unpaid_steps for m in members], [args.steps] * len(members)
        while any(left):
            m = int(draws.choice(np.flatnonzero(left)))
            steps = min(FRAGMENT_STEPS, left[m])
            left[m] -= steps
            owed[m] += steps
            while due := due_now(members, owed, left):
                for i in due:
                    owed[i] -= members[i].hyperparameters.learn_step
                start = clock()
                learner.update(due, replay)
                update_s += clock() - start
                updates += 1
        learner.unpack()
        for member, rest in zip(members, owed, strict=True):
            member.unpaid_steps = rest
            member.fitness = float(draws.normal())
        if generation < args.generations:
            size = len(members)
            members = next_generation(members, config, selecting, mutating, generation * size, generation)
    anew = (spent["capture_us"] + spent["compare_us"]) / 1e6
    result = {
        "passes": updates,
        "update_s": round(update_s, 2),
        "ms_per_pass": round(1e3 * update_s / updates, 2),
        "captures": spent["capture"],
        "capture_s": round(spent["capture_us"] / 1e6, 3),
        "comparisons": spent["compare"],
        "comparison_s": round(spent["compare_us"] / 1e6, 3),
        "share": round(anew / update_s, 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
