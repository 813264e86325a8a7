"""How long one update of a whole population takes, on the sizes of simple_speaker_listener; prints one JSON object.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/population_update.py [--algo IPPO] [--device cuda] [--profile]

`page` is batch 32, hidden 32-32, latent 64, head 32; `learning` is batch 256, hidden 64-64, latent 64, head 64; `large`
is batch 1024, hidden 256-256, latent 64, head 256.
Members are equal in structure and sizes (`--mixed`: widths and batch sizes differ; `--evolved N`: as N generations of
selection by random scores and of the page's mutations leave them, with activations mutating too where `--act-mut` gives
their odds). MATD3 runs with its policy delay of 2, so its figure is the mean of updates with and without the policy. An
update of IPPO is a learning phase: 4 epochs in minibatches of 128 (`large`: 1024) through rounds of 2048 env
steps, whatever the setting's batch size.

"ms_learning" is without drawing the batch from replay, "gflops" what its matrix products come to in that time, and
"gflops_of_large_products" what so many threads do at best, "gflops_of_the_page's_products" what they do of products of
those sizes and nothing else: what could be gained at most without fewer products. With `--peer PYTHON`, AgileRL's
`learn` of members of the same sizes, each of which is given a batch, is timed in turn; "times_faster" is its mean times
the members, over ms_learning.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from covey.config import Config, Mutation, Training, Updates, parse_config
from covey.networks.resize import get_subnetwork
from covey.rows import Columns, RowKind, RowSchema
from covey.spaces import AgentSpec, Box, EnvironmentSpaces
from covey.v1 import fragment_pb2
from covey_server.algorithms import ALGORITHMS, Algorithm, build_networks
from covey_server.algorithms.ippo import IPPO
from covey_server.algorithms.off_policy import OffPolicy
from covey_server.evolution.generation import initial_population, next_generation
from covey_server.experience.replay import Replay
from covey_server.experience.rollouts import Rollouts
from covey_server.experience.stream import Stream
from covey_server.member import Member, Network

SETTINGS: dict[str, dict[str, Any]] = {
    "page": {"batch_size": 32, "hidden": [32, 32], "head": [32]},
    "learning": {"batch_size": 256, "hidden": [64, 64], "head": [64]},
    "large": {"batch_size": 1024, "hidden": [256, 256], "head": [256], "minibatch": 1024},
}

BLOCKS = 25

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
        rhythm = {"batch_size": batch or s.get("minibatch", 128), "learn_step": ROUND_STEPS, "update_epochs": 4}
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


def evolved(
    algorithm: str, setting: str, size: int, spaces: EnvironmentSpaces, device: str, generations: int, act_mut: float
) -> tuple[list[Member], Algorithm]:
    """Members after so many generations, and what has them packed."""
    config = settings(algorithm, setting)
    odds = {"no_mut": 0.2, "arch_mut": 0.2, "new_layer": 0.2, "params_mut": 0.2, "act_mut": act_mut, "rl_hp_mut": 0.2}
    mutation = Mutation.model_validate({"probabilities": odds, "mutation_sd": 0.1})
    config = config.model_copy(update={"mutation": mutation, "training": Training(pop_size=size)})
    initialisation, mutating, selecting, scores = (np.random.default_rng([0, i]) for i in range(4))

    def networks(rng: np.random.Generator) -> dict[str, Network]:
        return build_networks(config, spaces, rng)

    members = initial_population(config, networks, initialisation, mutating)
    for generation in range(1, generations + 1):
        for member in members:
            member.fitness = float(scores.normal())
        members = next_generation(members, config, selecting, mutating, generation * size, generation)
    return members, ALGORITHMS[algorithm](config, spaces, members, device)


def population(
    algorithm: str,
    setting: str,
    size: int,
    spaces: EnvironmentSpaces,
    device: str,
    mixed: bool,
    updates: Updates = "auto",
) -> tuple[list[Member], Algorithm]:
    """Fresh members, and what has them packed."""
    members = []
    for m in range(size):
        config = settings(algorithm, setting)
        if mixed:
            batch = settings(algorithm, setting).algorithm.batch_size // (1 + m % 2)
            config = settings(algorithm, setting, width=SETTINGS[setting]["hidden"][0] - 4 * (m % 3), batch=batch)
        networks = build_networks(config, spaces, np.random.default_rng(m))
        members.append(
            Member(member_id=m, networks=networks, hyperparameters=config.algorithm.initial_hyperparameters())
        )
    config = settings(algorithm, setting)
    config = config.model_copy(update={"learner": config.learner.model_copy(update={"updates": updates})})
    return members, ALGORITHMS[algorithm](config, spaces, members, device)


class Peer:
    """AgileRL's `learn`, in an environment of its own; see `peer/learn.py`."""

    def __init__(self, python: str, algorithm: str, members: Sequence[Member]) -> None:
        command = [python, str(Path(__file__).parent / "peer" / "learn.py"), "--algo", algorithm]
        command += ["--threads", str(torch.get_num_threads())]
        command += ["--members", json.dumps([sizes(m) for m in members])]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._said()

    def _said(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit("the peer cannot run: expected a Python with agilerl 2.58.0 and peft 0.21.0; it says why above")
        return line

    def milliseconds(self, calls: int) -> float:
        """Mean time of so many calls."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{calls}\n")
        self._process.stdin.flush()
        return float(self._said())

    def close(self) -> None:
        """Let it end."""
        self._process.communicate()


def sizes(member: Member) -> dict[str, Any]:
    """A member's networks, which are all of one architecture, and its batch."""
    spec = next(n.spec for key, n in member.networks.items() if key.startswith("actor/"))
    return {
        "hidden": list(get_subnetwork(spec, "encoder.observation").hidden_size),
        "latent": spec.latent_dim,
        "head": list(spec.head.hidden_size),
        "batch": member.hyperparameters.batch_size,
    }


def milliseconds(
    learner: Algorithm, size: int, replay: Replay, updates: int, device: str, peer: Peer | None = None
) -> tuple[float, float, float]:
    """Mean times of an update of all members, of learning alone, and of the peer's `learn` of one member.

    Best of BLOCKS each, taken in turn. With one thread it is the process's own time; other processes only ever add.
    """
    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter

    def now() -> float:
        if device != "cpu":
            torch.cuda.synchronize()
        return clock()

    def block(n: int) -> tuple[float, float]:
        total = learning = 0.0
        for _ in range(n):
            if isinstance(learner, OffPolicy):
                start = now()
                drawn = learner.draw(range(size), replay)
                middle = now()
                learner.learn(*drawn)
            else:
                experience = experience_of(learner, size, replay)
                start = middle = now()
                learner.update(range(size), experience)
            end = now()
            total, learning = total + end - start, learning + end - middle
        return total / n * 1e3, learning / n * 1e3

    # Short blocks, of an even number of updates for MATD3's delay: some of them fall between what disturbs them. Not
    # too short: the first update of each finds the caches full of the peer.
    n = max(1, updates // (2 * BLOCKS)) * 2 if updates > BLOCKS else 1
    block(n)
    taken = [(*block(n), peer.milliseconds(max(1, n // 2)) if peer else 0.0) for _ in range(min(updates, BLOCKS))]
    ours, learning, theirs = zip(*taken, strict=True)
    return min(ours), min(learning), min(theirs)


def gflop(learner: Algorithm, size: int, replay: Replay) -> float:
    """Arithmetic of the matrix products of an update, mean of two; of a learner that has made none yet."""
    with FlopCounterMode(display=False) as counter:
        for _ in range(2):
            learner.update(range(size), experience_of(learner, size, replay))
    return float(counter.get_total_flops()) / 2e9


def gflops_of_products(networks: int, samples: int, read: int, told: int) -> float:
    """Of a layer's product in so many networks at once; best of 50."""
    x, w = torch.ones(networks, samples, read), torch.ones(networks, read, told)
    y = torch.empty(networks, samples, told)

    def seconds() -> float:
        start = time.perf_counter()
        torch.bmm(x, w, out=y)
        return time.perf_counter() - start

    return 2e-9 * x.numel() * told / min(seconds() for _ in range(50))


def experience_of(learner: Algorithm, size: int, replay: Replay) -> Any:
    """What it learns from."""
    return filled_rollouts(speaker_listener(), size) if isinstance(learner, IPPO) else replay


def passes(learner: Algorithm, size: int, replay: Replay) -> dict[str, float]:
    """Into how many batched passes the critics of all members fall in an update, and how many members one has."""
    passes, members = learner.passes, learner.member_updates
    learner.update(range(size), experience_of(learner, size, replay))
    passes, members = learner.passes - passes, learner.member_updates - members
    return {"passes_per_update": passes, "members_per_pass": round(members / passes, 2)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--algo", nargs="+", default=["MADDPG", "MATD3"], choices=list(ALGORITHMS))
    parser.add_argument("--updates", type=int, default=200, help="for each figure; ten are enough for IPPO")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--settings", nargs="+", default=["page", "learning"], choices=list(SETTINGS))
    parser.add_argument("--mixed", action="store_true")
    parser.add_argument("--evolved", type=int, metavar="GENERATIONS")
    parser.add_argument("--act-mut", type=float, default=0.0, help="odds of activations; those of other kinds are 0.2")
    parser.add_argument(
        "--profile", action="store_true", help="print where the first algorithm's time goes at the first size"
    )
    parser.add_argument(
        "--backend", default="auto", choices=get_args(Updates), help="learner.updates, but where members are --evolved"
    )
    parser.add_argument("--peer", metavar="PYTHON", help="time AgileRL's learn in turn, by a Python that has agilerl")
    parser.add_argument("--threads", type=int, default=1, help="of both sides; of more than one wall time is told")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    spaces = speaker_listener()
    replay = filled_replay(spaces, 100_000, args.device)
    if args.profile:
        _, learner = population(args.algo[0], args.settings[0], args.sizes[0], spaces, args.device, args.mixed)
        with torch.profiler.profile() as profile:
            milliseconds(learner, args.sizes[0], replay, args.updates, args.device)
        print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=40))
        return
    result: dict[str, Any] = {"device": args.device, "torch": torch.__version__, "mixed": args.mixed}
    result |= {"threads": args.threads}
    if args.device == "cpu":
        result["gflops_of_large_products"] = round(gflops_of_products(1, 1024, 1024, 1024), 1)
        result["gflops_of_the_page's_products"] = round(gflops_of_products(64, 32, 32, 64), 1)
    for setting in args.settings:
        for algorithm in args.algo:
            for size in args.sizes:
                if args.evolved is None:
                    members, learner = population(
                        algorithm, setting, size, spaces, args.device, args.mixed, args.backend
                    )
                else:
                    members, learner = evolved(
                        algorithm, setting, size, spaces, args.device, args.evolved, args.act_mut
                    )
                peer = Peer(args.peer, algorithm, members) if args.peer else None
                arithmetic = 0.0 if args.backend == "compiled" else gflop(learner, size, replay)
                ms, learning, peer_ms = milliseconds(learner, size, replay, args.updates, args.device, peer)
                figures = {"ms_per_population_update": round(ms, 2), "ms_learning": round(learning, 2)}
                if peer:
                    times = round(size * peer_ms / learning, 1)
                    figures |= {"ms_per_peer_learn": round(peer_ms, 2), "times_faster": times}
                if arithmetic:
                    figures["gflops"] = round(arithmetic / learning * 1e3, 1)
                figures |= passes(learner, size, replay)
                for name, figure in figures.items():
                    result.setdefault(name, {}).setdefault(setting, {}).setdefault(algorithm, {})[size] = figure
                if peer:
                    peer.close()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
