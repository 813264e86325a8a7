"""How long one update of a whole population takes, on the sizes of simple_speaker_listener; prints one JSON object.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/population_update.py [--algo IPPO] [--device cuda] [--profile]

`page` is batch 32, hidden 32-32, latent 64, head 32; `learning` is batch 256, hidden 64-64, latent 64, head 64.
Members are equal in structure and sizes (`--mixed`: widths and batch sizes differ). MATD3 runs with its policy delay
of 2, so its figure is the mean of updates with and without the policy. An update of IPPO is a learning phase: 4 epochs
in minibatches of 128 through rounds of 2048 env steps, whatever the setting's batch size.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import torch

from covey.config import Config, parse_config
from covey.rows import Columns, RowKind, RowSchema
from covey.spaces import AgentSpec, Box, EnvironmentSpaces
from covey.v1 import fragment_pb2
from covey_server.algorithms import ALGORITHMS, IPPO, Algorithm, build_networks, initial_hyperparameters
from covey_server.member import Member
from covey_server.replay import Replay
from covey_server.rollouts import Rollouts
from covey_server.validation import Stream

SETTINGS: dict[str, dict[str, Any]] = {
    "page": {"batch_size": 32, "hidden": [32, 32], "head": [32]},
    "learning": {"batch_size": 256, "hidden": [64, 64], "head": [64]},
}


ROUND_STEPS, SLOTS, FRAGMENT_STEPS = 2048, 8, 32


def speaker_listener() -> EnvironmentSpaces:
    """The spaces of mpe2.simple_speaker_listener_v4 with continuous actions."""

    def observation(n: int) -> Box:
        return Box("float32", (n,), (-np.inf,) * n, (np.inf,) * n)

    def action(n: int) -> Box:
        return Box("float32", (n,), (0.0,) * n, (1.0,) * n)

    return EnvironmentSpaces.build(
        [AgentSpec("speaker_0", observation(3), action(3)), AgentSpec("listener_0", observation(11), action(5))]
    )


def settings(algorithm: str, name: str, *, width: int = 0, batch: int = 0) -> Config:
    """A configuration of the benchmark; `width` and `batch` override the setting's."""
    s = SETTINGS[name]
    hidden = [width] * len(s["hidden"]) if width else s["hidden"]
    rhythm = {"batch_size": batch or s["batch_size"], "learn_step": 100}
    if algorithm == "IPPO":
        rhythm = {"batch_size": batch or 128, "learn_step": ROUND_STEPS, "update_epochs": 4}
    return parse_config(
        {
            "algorithm": {"name": algorithm, **rhythm},
            "environment": {"name": "mpe2.simple_speaker_listener_v4"},
            "network": {
                "latent_dim": 64,
                "encoder_config": {"hidden_size": hidden},
                "head_config": {"hidden_size": s["head"]},
            },
            "training": {},
        }
    )


def random_rows(spaces: EnvironmentSpaces, steps: int, streams: int = 1) -> Columns:
    """Streams of so many steps and a tail row."""
    rng = np.random.default_rng(0)
    columns = RowSchema.of(spaces).empty(streams * (steps + 1))
    for name, column in columns.items():
        if name.endswith(("observation", "action", "reward")):
            columns[name] = rng.random(column.shape).astype(column.dtype)
        elif name.endswith("active"):
            column[:] = 1
    columns["kind"][:] = RowKind.STEP
    columns["kind"][steps :: steps + 1] = RowKind.TAIL
    return columns


def filled_rollouts(spaces: EnvironmentSpaces, members: int) -> Rollouts:
    """A round of every member, in fragments of 8 slots."""
    rollouts = Rollouts(spaces)
    columns = random_rows(spaces, FRAGMENT_STEPS, SLOTS)
    rows = FRAGMENT_STEPS + 1
    for m in range(members):
        streams = [Stream(s, m, s * rows, rows, 0, FRAGMENT_STEPS, False) for s in range(SLOTS)]
        for _ in range(ROUND_STEPS // FRAGMENT_STEPS // SLOTS):
            rollouts.insert(m, columns, streams, "actor")
    return rollouts


def filled_replay(spaces: EnvironmentSpaces, steps: int, device: str) -> Replay:
    """A replay memory with random rows."""
    columns = random_rows(spaces, steps)
    replay = Replay(spaces, steps, 1 << 30, device)
    replay.insert(columns, [fragment_pb2.SlotStream(rows=steps + 1, steps=steps)])
    return replay


def population(
    algorithm: str, setting: str, size: int, spaces: EnvironmentSpaces, device: str, mixed: bool
) -> Algorithm:
    """Fresh members, packed."""
    members = []
    for m in range(size):
        config = settings(algorithm, setting)
        if mixed:
            batch = settings(algorithm, setting).algorithm.batch_size // (1 + m % 2)
            config = settings(algorithm, setting, width=SETTINGS[setting]["hidden"][0] - 4 * (m % 3), batch=batch)
        networks = build_networks(config, spaces, np.random.default_rng(m))
        members.append(Member(member_id=m, networks=networks, hyperparameters=initial_hyperparameters(config)))
    return ALGORITHMS[algorithm](settings(algorithm, setting), spaces, members, device)


def milliseconds(learner: Algorithm, size: int, replay: Replay, updates: int, device: str) -> float:
    """Best of ten blocks of the mean time of an update of all members: other processes only ever add."""

    def block(n: int) -> float:
        total = 0.0
        on_policy = isinstance(learner, IPPO)
        for _ in range(n):
            experience = filled_rollouts(speaker_listener(), size) if on_policy else replay
            start = time.perf_counter()
            learner.update(range(size), experience)
            if on_policy and device != "cpu":
                torch.cuda.synchronize()
            total += time.perf_counter() - start
        start = time.perf_counter()
        if device != "cpu":
            torch.cuda.synchronize()
        return (total + time.perf_counter() - start) / n * 1e3

    block(max(1, updates // 20))
    return min(block(max(1, updates // 10)) for _ in range(10))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--algo", nargs="+", default=["MADDPG", "MATD3"], choices=list(ALGORITHMS))
    parser.add_argument("--updates", type=int, default=200, help="for each figure; ten are enough for IPPO")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--mixed", action="store_true")
    parser.add_argument(
        "--profile", action="store_true", help="print where the first algorithm's time goes at the first size"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    spaces = speaker_listener()
    replay = filled_replay(spaces, 100_000, args.device)
    if args.profile:
        learner = population(args.algo[0], args.settings[0], args.sizes[0], spaces, args.device, args.mixed)
        with torch.profiler.profile() as profile:
            milliseconds(learner, args.sizes[0], replay, args.updates, args.device)
        print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=40))
        return
    result: dict[str, Any] = {"device": args.device, "torch": torch.__version__, "mixed": args.mixed}
    for setting in args.settings:
        for algorithm in args.algo:
            for size in args.sizes:
                learner = population(algorithm, setting, size, spaces, args.device, args.mixed)
                ms = milliseconds(learner, size, replay, args.updates, args.device)
                result.setdefault("ms_per_population_update", {}).setdefault(setting, {}).setdefault(algorithm, {})[
                    size
                ] = round(ms, 2)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
