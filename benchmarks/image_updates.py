"""CPU time of an update of members that see images: all of them at once, beside one after another.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.image_updates [--updates 5]

Two agents with images of 84 x 84 x 4 and of 10 x 10 x 5 and five choices, the encoder that a configuration without
sizes gets, everything else by default. An update of MATD3 is a minibatch of 64 a member, the mean of one with and one
without the policies; one of IPPO a learning phase over a rollout of 400 env steps a member. Members of one structure
learn in one pass; "one_by_one_ms" is what learners of a single member each take together, in turn with it. CPU
milliseconds of one thread, the least of so many updates; prints one JSON object a line.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import torch
from benchmarks.agents_scaling import collected, rollouts

from covey.config import parse_config
from covey.envs import load_environment, read_spaces
from covey.rows import RowSchema
from covey_server.algorithms import ALGORITHMS, Algorithm, build_networks
from covey_server.experience.replay import Replay
from covey_server.member import Member

IMAGES = ([84, 84, 4], [10, 10, 5])
MEMBERS = 4
REPLAY_FRAGMENTS = 10


def measure(name: str, shape: list[int], updates: int) -> dict[str, Any]:
    """Time both ways for one algorithm and one size of image."""
    environment = {"name": "benchmarks.synthetic.shapes", "config": {"agents": 2, "shape": shape}}
    config = parse_config(
        {
            "algorithm": {"name": name, **({"learn_step": 400} if name == "IPPO" else {})},
            "environment": environment,
            "training": {},
            "replay_buffer": {"max_size": 2000},
        }
    )
    make = load_environment(config.environment.name, config.environment.config)
    spaces = read_spaces(make())
    schema = RowSchema.of(spaces)
    sent = collected(make, spaces)
    rows = [sum(s.lead_in_rows + s.rows for s in f.streams) for f in sent]
    decoded = [schema.decode(f.blob, n, f.raw_bytes) for f, n in zip(sent, rows, strict=True)]
    kind = ALGORITHMS[name]

    def learner(numbers: range) -> Algorithm:
        made = [
            Member(
                member_id=m,
                networks=build_networks(config, spaces, np.random.default_rng(m)),
                hyperparameters=config.algorithm.initial_hyperparameters(),
            )
            for m in numbers
        ]
        return kind(config, spaces, made)

    replay = None
    if config.algorithm.learns_from == "replay":
        replay = kind.experience(config, spaces, torch.device("cpu"))
        assert isinstance(replay, Replay)
        for i in range(REPLAY_FRAGMENTS):
            replay.insert(decoded[i % 2], list(sent[i % 2].streams))

    def cpu_ms(learners: list[Algorithm], members: int) -> float:
        """Make an update of all, or two where the policies learn in every second one."""
        phases = 1 if replay is None else 2
        total = 0.0
        for _ in range(phases):
            for each in learners:
                experience = rollouts(spaces, list(zip(decoded, sent, strict=True))) if replay is None else replay
                start = time.process_time()
                each.update(range(members), experience)
                total += time.process_time() - start
        return total / phases * 1e3

    together, alone = [learner(range(MEMBERS))], [learner(range(m, m + 1)) for m in range(MEMBERS)]
    for _ in range(2):  # recorded after that
        cpu_ms(together, MEMBERS), cpu_ms(alone, 1)
    taken = [(cpu_ms(together, MEMBERS), cpu_ms(alone, 1)) for _ in range(updates)]
    packed, one_by_one = (min(column) for column in zip(*taken, strict=True))
    return {
        "algorithm": name,
        "image": shape,
        "members": MEMBERS,
        "packed_ms": round(packed, 1),
        "one_by_one_ms": round(one_by_one, 1),
        "times_faster": round(one_by_one / packed, 2),
        "parameters_a_member": sum(
            n.spec.numbers for n in build_networks(config, spaces, np.random.default_rng(0)).values()
        ),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=5, help="the least of which is told")
    updates = parser.parse_args().updates
    torch.set_num_threads(1)
    for shape in IMAGES:
        for name in ("MATD3", "IPPO"):
            print(json.dumps(measure(name, shape, updates)), flush=True)


if __name__ == "__main__":
    main()
