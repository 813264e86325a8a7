"""What more agents cost a learner: updates, bytes, memory, in simple_spread with N agents; prints one JSON object.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/agents_scaling.py [--agents 3 10 20 50] [--algo IPPO]

Algorithms, networks and batches are those of examples/ippo_spread.yaml and examples/maddpg_spread.yaml, four members:
"MADDPG" with networks of each agent's own, "MADDPG, shared" with one policy and one critic for all agents, as the
example has it. No run is started: one collector plays two orders at random, and what it sent is what the algorithm
learns from, over and over. Each figure comes from a process of its own.

An update of MADDPG is one minibatch of 256 for each member, best of a few; an update of IPPO a learning phase of its 10
epochs in 4 minibatches over a rollout of 400 env steps a member. "ms" are of one thread's CPU time; "ms_products" what
its matrix products alone would take at the speed of large ones: no update of as much arithmetic is faster.
"wire_bytes" and "replay_bytes" are for one env step of all agents, "replay_full_mb" what the example's replay memory
takes when it is full, "replay_resident_mb" what it takes with the 8,000 env steps that are learned from. "parameters"
are all members'; "rss_mb" is the process's memory after the updates, "peak_mb" the most it ever had, with torch's 200
or so.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from covey.bounds.experience import experience_bytes
from covey.collect import Collector
from covey.config import Config, load_config
from covey.envs import build_slots, load_environment, read_spaces
from covey.resources import rss_bytes
from covey.rows import Columns, RowSchema
from covey.spaces import EnvironmentSpaces
from covey.v1.fragment_pb2 import Fragment
from covey.v1.order_pb2 import Order
from covey_server.algorithms import ALGORITHMS, build_networks
from covey_server.experience.replay import Replay
from covey_server.experience.replay_layout import RowLayout
from covey_server.experience.rollouts import Rollouts
from covey_server.experience.stream import Stream
from covey_server.member import Member

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
EXAMPLE = {
    "IPPO": ("ippo_spread.yaml", []),
    "MADDPG": ("maddpg_spread.yaml", ["algorithm.share_parameters=false"]),
    "MADDPG, shared": ("maddpg_spread.yaml", []),
}
MEMBERS, SLOTS, STEPS = 4, 4, 25
ROLLOUT_STEPS = 400
REPLAY_FRAGMENTS = 80


def collected(make: Any, spaces: EnvironmentSpaces) -> list[Fragment]:
    """Two orders of random play: whole episodes in each of the slots."""
    collector = Collector(build_slots(make, spaces, SLOTS), spaces, RowSchema.of(spaces), SLOTS, compression_level=1)
    fragments = []
    for i in range(2):
        order = Order(order_id=i + 1, noise_seed=i)
        order.policies.add(builtin="random")
        for slot in range(SLOTS):
            order.slots.add(slot=slot, seed=slot, steps=STEPS, agent_policies=[0] * len(spaces.agents))
        fragments.append(collector.run(order, {}))
    collector.close()
    return fragments


def rollouts(spaces: EnvironmentSpaces, fragments: list[tuple[Columns, Fragment]]) -> Rollouts:
    """A rollout of every member, of the same rows."""
    memory = Rollouts(spaces)
    for m in range(MEMBERS):
        for n in range(ROLLOUT_STEPS // (SLOTS * STEPS)):
            columns, fragment = fragments[n % len(fragments)]
            streams, first = [], 0
            for s in fragment.streams:
                rows = s.rows + s.lead_in_rows
                streams.append(Stream(s.slot, m, first, rows, s.lead_in_rows, s.steps, False))
                first += rows
            memory.insert(m, columns, streams, "actor")
    return memory


def cpu_seconds(action: Callable[[], object]) -> float:
    """Measure the CPU time of one call of a function."""
    start = time.process_time()
    action()
    return time.process_time() - start


def gflops_of_large_products() -> float:
    """Speed of matrix products at its best, in 1e9 operations a second."""
    x, y = torch.ones(1024, 1024), torch.empty(1024, 1024)
    return 2e-9 * 1024**3 / min(cpu_seconds(lambda: torch.mm(x, x, out=y)) for _ in range(10))


def measure(which: str, agents: int, updates: int) -> dict[str, Any]:
    """All figures of one algorithm with so many agents."""
    torch.set_num_threads(1)
    file, own = EXAMPLE[which]
    settings = [
        f"environment.config={{N: {agents}}}",
        f"training.pop_size={MEMBERS}",
        f"learner.max_memory_bytes={1 << 40}",
    ]
    config: Config = load_config(EXAMPLES / file, [*own, *settings])
    make = load_environment(config.environment.name, config.environment.config)
    spaces = read_spaces(make())
    schema = RowSchema.of(spaces)
    sent = collected(make, spaces)
    steps = sum(s.steps for f in sent for s in f.streams)
    figures: dict[str, Any] = {"wire_bytes": round(sum(len(f.SerializeToString()) for f in sent) / steps)}
    rows = [sum(s.lead_in_rows + s.rows for s in f.streams) for f in sent]
    decoded = [schema.decode(f.blob, n, f.raw_bytes) for f, n in zip(sent, rows, strict=True)]
    kind = ALGORITHMS[config.algorithm.name]
    replay_bytes = experience_bytes(config, spaces) if config.algorithm.learns_from == "replay" else 0
    figures["replay_full_mb"] = round(replay_bytes / 1e6)
    members = [
        Member(
            member_id=m,
            networks=build_networks(config, spaces, np.random.default_rng(m)),
            hyperparameters=config.algorithm.initial_hyperparameters(),
        )
        for m in range(MEMBERS)
    ]
    figures["parameters"] = sum(n.spec.numbers for m in members for n in m.networks.values())
    learner = kind(config, spaces, members)
    replay = None
    if which != "IPPO":
        replay = kind.experience(config, spaces, torch.device("cpu"))
        assert isinstance(replay, Replay)
        before = rss_bytes()
        for i in range(REPLAY_FRAGMENTS):
            replay.insert(decoded[i % 2], list(sent[i % 2].streams))
        row_bytes = RowLayout(spaces, torch.device("cpu")).row_bytes
        figures["replay_bytes"] = round(row_bytes * sum(rows) / steps + 8)
        figures["replay_resident_mb"] = round((rss_bytes() - before) / 1e6)

    def update() -> float:
        experience = rollouts(spaces, list(zip(decoded, sent, strict=True))) if replay is None else replay
        return cpu_seconds(lambda: learner.update(range(MEMBERS), experience))

    with FlopCounterMode(display=False) as counter:
        update()
    gflop = counter.get_total_flops() / 1e9
    update()  # recorded now
    best = min(update() for _ in range(updates))
    figures |= {"ms": round(best * 1e3, 1), "gflop": round(gflop, 2), "gflops": round(gflop / best, 1)}
    figures["ms_products"] = round(gflop / gflops_of_large_products() * 1e3, 1)
    figures["rss_mb"] = round(rss_bytes() / 1e6)
    figures["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, nargs="+", default=[3, 10, 20, 50])
    parser.add_argument("--algo", nargs="+", default=list(EXAMPLE), choices=list(EXAMPLE))
    parser.add_argument("--updates", type=int, default=5, help="the best of which is told")
    parser.add_argument("--here", action="store_true", help="in this process, and for the first of each alone")
    args = parser.parse_args()
    if args.here:
        print(json.dumps(measure(args.algo[0], args.agents[0], args.updates)))
        return
    result: dict[str, Any] = {"torch": torch.__version__, "members": MEMBERS}
    for which in args.algo:
        for agents in args.agents:
            command = [sys.executable, __file__, "--here", "--algo", which, "--agents", str(agents)]
            done = subprocess.run([*command, "--updates", str(args.updates)], capture_output=True, text=True)
            told = json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr.strip().split("\n")[-1]}
            result.setdefault(which, {})[agents] = told
    print(json.dumps(result))


if __name__ == "__main__":
    main()
