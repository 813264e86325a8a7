"""Memory of the learner and of an actor in real runs, beside what is predicted before they begin.

    python -m benchmarks.memory [--only vectors]

Six shapes, each a run of `covey learner` with one `covey actor`: three agents with vectors, two with images, large and
small ones and large ones with IPPO, fifty with 16 numbers, twenty with images that share their networks. Training goes
on until replay is full and a generation has been followed by the next. "start" is resident memory when the actor
has joined, "full" the most from there on.
Prints one line of JSON a shape, MiB, with measured over predicted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import yaml

from covey.bounds.memory import Memory
from covey.config import load_config
from covey.envs import load_environment, read_spaces
from covey_actor.workers import actor_arguments, start_worker
from covey_server.algorithms import ALGORITHMS

ROOT = Path(__file__).resolve().parent.parent
MIB = 1 << 20
LONGEST_S = 900

IMAGE = [84, 84, 4]

SHAPES: dict[str, dict[str, Any]] = {
    "vectors": {"agents": 3, "shape": [18], "algorithm": {"name": "MATD3"}, "max_size": 100_000, "steps": 52_000},
    "images": {"agents": 2, "shape": IMAGE, "algorithm": {"name": "MATD3", "learn_step": 64}, "max_size": 2000},
    "small images": {
        "agents": 2,
        "shape": [10, 10, 5],
        "algorithm": {"name": "MATD3", "learn_step": 64},
        "max_size": 10_000,
    },
    "images, IPPO": {"agents": 2, "shape": IMAGE, "algorithm": {"name": "IPPO", "learn_step": 512}, "max_size": 2048},
    "many agents": {"agents": 50, "shape": [16], "algorithm": {"name": "MATD3", "learn_step": 256}, "max_size": 2000},
    "images, shared": {
        "agents": 20,
        "shape": IMAGE,
        "algorithm": {"name": "MATD3", "share_parameters": True, "learn_step": 256, "batch_size": 16},
        "max_size": 1000,
    },
}
"""By name: the environment, the algorithm, replay, and env steps of a member in a generation."""


def configuration(name: str) -> dict[str, Any]:
    """The configuration of a shape's run: two generations, in the first of which replay is filled."""
    shape = SHAPES[name]
    steps = shape.get("steps", shape["max_size"] // 2 + 200)
    return {
        "algorithm": shape["algorithm"],
        "environment": {
            "name": "benchmarks.synthetic.shapes",
            "config": {"agents": shape["agents"], "shape": shape["shape"]},
            "num_envs": 4,
        },
        "training": {"pop_size": 2, "evo_steps": steps, "max_steps": steps + 200, "confirm_episodes": 1},
        "replay_buffer": {"max_size": shape["max_size"]},
    }


def predicted(path: Path) -> Memory:
    """Compute what memory a run is predicted to take, from its configuration and its environment's spaces."""
    config = load_config(path)
    made = read_spaces(load_environment(config.environment.name, config.environment.config)())
    return ALGORITHMS[config.algorithm.name].planned_memory(config, made)


def measured(path: Path, folder: Path) -> dict[str, int]:
    """Run a learner and an actor to the end, and look at their memory four times a second."""
    command = [sys.executable, "-m", "covey", "learner", str(path), "--runs", str(folder)]
    with (folder / "log").open("w") as log:
        learner = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
    actor = None
    found: dict[str, int] = {}
    try:
        while not (address := list(folder.glob("*/address.json"))):
            if learner.poll() is not None:
                raise SystemExit((folder / "log").read_text())
            time.sleep(0.1)
        where = json.loads(address[0].read_text())["address"]
        actor = start_worker(actor_arguments(where, allow_env=["benchmarks.*"], env_path=[ROOT]))
        processes = {"learner": psutil.Process(learner.pid), "actor": psutil.Process(actor.pid)}
        end = time.monotonic() + LONGEST_S
        while learner.poll() is None and time.monotonic() < end:
            for name, process in processes.items():
                try:
                    rss = process.memory_info().rss
                except psutil.Error:
                    continue
                if "joined" in (folder / "log").read_text():
                    found.setdefault(f"{name}_start", rss)
                found[f"{name}_full"] = max(found.get(f"{name}_full", 0), rss)
            time.sleep(0.25)
    finally:
        for each in (actor, learner):
            if each is not None and each.poll() is None:
                each.kill()
                each.wait()
    return found


def main() -> None:
    """Run the shapes and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(SHAPES))
    args = parser.parse_args()
    for name in SHAPES if args.only is None else [args.only]:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "job.yaml")
            path.write_text(yaml.safe_dump(configuration(name)))
            plan = predicted(path)
            taken = measured(path, Path(directory))
        line: dict[str, Any] = {"shape": name}
        for key in ("learner_start", "learner_full", "actor_start", "actor_full"):
            expected, got = getattr(plan, key), taken.get(key, 0)
            line[key] = {
                "predicted_mib": expected // MIB,
                "measured_mib": got // MIB,
                "ratio": round(got / expected, 2),
            }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
