"""What a learner process costs per row, and how long its acknowledgements take, with 1 to 256 actors on loopback.

    python benchmarks/growth.py [--actors 1,4,16,64,256] [--seconds 10]      as fast as the learner takes it, no updates
    python benchmarks/growth.py --actors 16 --rows-per-s 10000 --updates     the trainer updating without a pause

The learner is a real process with journal and replay; the actors are synthetic (`synthetic/actors.py`), a few processes
for all of them. Rows are of MPE size (simple_spread_v3, continuous). CPU seconds are the learner process's, of all
threads, updates included. Prints one JSON object a line.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import yaml

SYNTHETIC = Path(__file__).parent / "synthetic" / "actors.py"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
LONG = 1 << 40


def config(*, updates: bool, evo_steps: int, learn_step: int) -> dict[str, Any]:
    """A population of 4 on simple_spread_v3; with updates, members owe more than can be paid."""
    return {
        "name": "growth",
        "algorithm": {"name": "MADDPG", "batch_size": 256, "learn_step": learn_step},
        "environment": {"name": "mpe2.simple_spread_v3", "config": {"continuous_actions": True}, "num_envs": 8},
        "network": {
            "latent_dim": 32,
            "encoder_config": {"hidden_size": [64]},
            "head_config": {"hidden_size": [64]},
        },
        "mutation": {"probabilities": {"no_mut": 1.0, "arch_mut": 0, "params_mut": 0, "rl_hp_mut": 0}},
        "replay_buffer": {"max_size": 200_000},
        "training": {
            "max_steps": LONG,
            "evo_steps": evo_steps,
            "pop_size": 4,
            "learning_delay": 1000 if updates else LONG,
        },
        # On a busy machine hundreds of actors take a while to join; none of them is lost.
        "learner": {"max_updates_owed": LONG, "heartbeat_interval_s": 60.0},
        "logging": {"tensorboard": False},
    }


def measure(actors: int, rows_per_s: float | None, seconds: float, settings: dict[str, Any]) -> dict[str, Any]:
    """One learner, so many actors, so many seconds."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "growth.yaml")
        file.write_text(yaml.safe_dump(settings))
        command = [sys.executable, "-m", "covey", "learner", str(file), "--runs", directory]
        with Path(directory, "log").open("w") as log:
            learner = subprocess.Popen(command, env=ENVIRONMENT, stdout=log, stderr=log)
        clients: list[subprocess.Popen[str]] = []
        try:
            address = _address(learner, Path(directory))
            processes = 1 if actors < 64 else 2
            for i in range(processes):
                command = [sys.executable, str(SYNTHETIC), address, "--actors", str(actors // processes)]
                command += ["--name", f"synthetic-{i}"]
                if rows_per_s is not None:
                    command += ["--rows-per-s", str(rows_per_s / processes)]
                clients.append(
                    subprocess.Popen(command, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                )
            for client in clients:
                _line(client)
            time.sleep(2.0)
            process = psutil.Process(learner.pid)
            _tell(clients)
            begun = process.cpu_times()
            rss_mb = []
            for _ in range(max(1, round(seconds))):
                time.sleep(seconds / max(1, round(seconds)))
                rss_mb.append(round(process.memory_info().rss / 1e6))
            ended = process.cpu_times()
            _tell(clients)
            results = [json.loads(_line(client)) for client in clients]
        finally:
            for client in clients:
                client.kill()
                client.wait()
            learner.kill()
            learner.wait()
    rows = sum(r["steps"] for r in results)
    cpu_s = ended.user + ended.system - begun.user - begun.system
    ack_ms = sorted(ms for r in results for ms in r["ack_ms"])
    return {
        "benchmark": "growth",
        "actors": actors,
        "env_steps_per_s": round(sum(r["steps"] / r["seconds"] for r in results)),
        "learner_cpu_share": round(cpu_s / seconds, 3),
        "learner_cpu_s_per_million_rows": round(cpu_s / rows * 1e6, 2) if rows else None,
        "ack_ms": {f"p{p}": round(ack_ms[int(len(ack_ms) * p / 100)], 2) for p in (50, 90, 99)} if ack_ms else None,
        "ack_ms_max": round(ack_ms[-1], 2) if ack_ms else None,
        "fragments": len(ack_ms),
        "learner_rss_mb": rss_mb,
    }


def _address(learner: subprocess.Popen[bytes], directory: Path) -> str:
    """Where it listens, as soon as it does."""
    while learner.poll() is None:
        for file in directory.glob("*/address.json"):
            return str(json.loads(file.read_text())["address"])
        time.sleep(0.05)
    raise SystemExit(f"the learner ended: {Path(directory, 'log').read_text()}")


def _tell(clients: list[subprocess.Popen[str]]) -> None:
    for client in clients:
        assert client.stdin is not None
        client.stdin.write("\n")
        client.stdin.flush()


def _line(client: subprocess.Popen[str]) -> str:
    assert client.stdout is not None
    line = client.stdout.readline()
    if not line:
        raise SystemExit("synthetic actors ended; their error is above")
    return line


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--actors", default="1,4,16,64,256")
    parser.add_argument("--rows-per-s", type=float, help="env steps a second of all actors together; unset: no limit")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--updates", action="store_true", help="with the trainer at work")
    parser.add_argument("--learn-step", type=int, default=8, help="env steps an update, with --updates")
    parser.add_argument("--evo-steps", type=int, default=LONG, help="length of a generation; default: no turn-over")
    args = parser.parse_args()
    settings = config(updates=args.updates, evo_steps=args.evo_steps, learn_step=args.learn_step)
    for actors in map(int, args.actors.split(",")):
        print(json.dumps(measure(actors, args.rows_per_s, args.seconds, settings)), flush=True)


if __name__ == "__main__":
    main()
