"""How long training takes to a score, beside other libraries in the same environment; prints a JSON object a run.

    .venv/bin/python benchmarks/time_to_score.py [TASK] [--seeds 0 1 2] [--max-steps N] [--lines SCORE ...]
        [--set section.key=value ...] [--peer 'PYTHON benchmarks/peer/sb3_ppo.py' ...]

A run is `covey train` of an example as a person runs it, with a checkpoint every two seconds, all of which are kept.
Afterwards the best member of each plays 400 episodes, the same unseen ones every time. A line is reached at the first
checkpoint whose score is above it and whose successor's is, too, as one score alone may be luck.

Seconds count from the start of the process to when a policy was on the disk. CPU seconds are those of the run's
processes together until then: on a machine that does something else as well, compare these. Rates are those between
the first policy and the last one, so without start-up; evaluation and checkpoints are in them. The last JSON object has
medians over the seeds.

A peer is a command that trains in the same environment. It runs in turn with ours, takes `--seed`, `--max-steps`,
`--every-s` and `--out FOLDER`, and leaves policies in that folder as the scripts in `benchmarks/peer/` do: files
NAME.npz in the order of their names, with `env_steps` and, for each layer of a network that all agents share,
`weight_0` (outputs, inputs), `bias_0` and so on, tanh between layers; its most probable action is played.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import itertools
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from covey.cli.evaluate import play, unseen_episode_seed
from covey.envs import build_slots, load_environment, read_spaces
from covey.envs.loading import MakeEnv
from covey.run.checkpoint_format import MANIFEST, STATE, checkpoint_paths
from covey.run.directory import RunDirectory
from covey.run.trained import TrainedMember

ROOT = Path(__file__).resolve().parent.parent
EPISODES, SEED = 400, 1
POLL_S = 0.2


@dataclass(frozen=True)
class Task:
    """What is trained.

    Attributes:
        config: Of the examples.
        overrides: What differs from the example.
        max_steps: Env steps of a member, unless others are asked for.
        lines: The scores, likewise.
    """

    config: str
    overrides: tuple[str, ...]
    max_steps: int
    lines: tuple[float, ...]


TASKS = {
    "spread": Task(
        "ippo_spread.yaml",
        ("environment.name=covey.envs.mpe.simple_spread_v3", "environment.num_envs=128", "training.pop_size=1"),
        400_000,
        (-50, -40, -35),
    ),
    "speaker_listener": Task(
        "speaker_listener.yaml",
        ("environment.name=covey.envs.mpe.simple_speaker_listener_v4",),
        200_000,
        (-20, -15),
    ),
}


@dataclass(frozen=True)
class Point:
    """A policy of a run.

    Attributes:
        seconds: From the start of the process until it was on the disk.
        cpu_s: CPU seconds of the run until then.
        env_steps: Env steps until then, of all members.
        score: Mean return of the episodes, summed over agents.
    """

    seconds: float
    cpu_s: float
    env_steps: int
    score: float


class Process:
    """A process that has ended, and the CPU seconds that it and all its descendants had used at times in between."""

    def __init__(self, command: Sequence[str], cwd: Path) -> None:
        # One thread unless the command says otherwise: idle threads spin, which costs more than a second one gains.
        environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "shared")}
        self._times, self._cpu_s = [0.0], [0.0]
        self.began = time.time()
        with subprocess.Popen(
            command, cwd=cwd, env=environment | os.environ, stdout=subprocess.PIPE, text=True
        ) as process:
            threading.Thread(target=self._watch, args=(process.pid,), daemon=True).start()
            printed, _ = process.communicate()
        self.wall_s = time.time() - self.began
        if process.returncode:
            raise SystemExit(
                f"{shlex.join(command)}: exit status {process.returncode}, expected 0; see what it printed"
            )
        self.result: dict[str, Any] = json.loads(printed.strip().splitlines()[-1])

    def at(self, moment: float) -> tuple[float, float]:
        """Seconds since the start and CPU seconds at a moment of the clock, as of the last look before it."""
        seconds = moment - self.began
        return seconds, self._cpu_s[max(0, bisect.bisect(self._times, seconds) - 1)]

    def _watch(self, pid: int) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(pid)
            while root.status() != psutil.STATUS_ZOMBIE:
                used = sum(root.cpu_times()[:4])  # its own, and those of children that have ended
                for child in root.children(recursive=True):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        used += sum(child.cpu_times()[:4])
                self._times.append(time.time() - self.began)
                self._cpu_s.append(used)
                time.sleep(POLL_S)


def train_covey(task: Task, seed: int, max_steps: int, every_s: float, overrides: Sequence[str], folder: Path) -> Any:
    """Run `covey train`; returns the process and the points of its checkpoints."""
    settings = [*task.overrides, f"training.seed={seed}", f"training.max_steps={max_steps}", "checkpoint.keep=1000000"]
    command = [sys.executable, "-m", "covey", "train", str(ROOT / "examples" / task.config), "--runs", str(folder)]
    for setting in (*settings, f"checkpoint.every_s={every_s}", *overrides):
        command += ["--set", setting]
    process = Process([*command, "--json"], folder)
    run = RunDirectory.open(Path(process.result["run_dir"]))
    points = []
    for path in checkpoint_paths(run.checkpoints):
        steps = json.loads((path / STATE).read_text())["totals"]["env_steps"]
        points.append(Point(*process.at((path / MANIFEST).stat().st_mtime), steps, checkpoint_score(run, path)))
    return process, points


def checkpoint_score(run: RunDirectory, checkpoint: Path) -> float:
    """Play the best member of a checkpoint; before the first generation has ended, the first one."""
    state = json.loads((checkpoint / STATE).read_text())
    members = [m["member_id"] for m in state["members"]]
    best = state["run"]["best_member"]
    with tempfile.TemporaryDirectory() as scratch:
        alone = RunDirectory(Path(scratch))  # a run that has this checkpoint and no other one
        alone.checkpoints.mkdir()
        (alone.checkpoints / checkpoint.name).symlink_to(checkpoint)
        alone.config.symlink_to(run.config)
        member = TrainedMember.read(alone, best if best in members else members[0])
        return float(play(member, EPISODES, SEED)["mean_return"])


def train_peer(command: str, task: Task, seed: int, max_steps: int, every_s: float, folder: Path) -> Any:
    """Run a peer; returns the process and the points of the policies that it left."""
    options = [f"--seed={seed}", f"--max-steps={max_steps}", f"--every-s={every_s}", f"--out={folder}"]
    process = Process([*shlex.split(command), *options], ROOT)
    environment = dict(setting.split("=", 1) for setting in task.overrides)["environment.name"]
    points = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as arrays:
            steps = int(arrays["env_steps"])
            count = sum(name.startswith("weight_") for name in arrays)
            layers = [(arrays[f"weight_{i}"], arrays[f"bias_{i}"]) for i in range(count)]
        score = layers_score(load_environment(environment, {}), layers)
        points.append(Point(*process.at(path.stat().st_mtime), steps, score))
    return process, points


def layers_score(make_env: MakeEnv, layers: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> float:
    """Play a network that all agents share, by its layers' weights (outputs, inputs) and biases (outputs,)."""
    slots = build_slots(make_env, read_spaces(make_env()), EPISODES)
    slots.reset(range(EPISODES), [unseen_episode_seed(SEED, k) for k in range(EPISODES)])
    returns = np.zeros(EPISODES)
    running = np.arange(EPISODES)
    while running.size:
        x = slots.arrays.observation[0]  # (episodes, agents, inputs)
        for i, (weight, bias) in enumerate(layers):
            x = (x if i == 0 else np.tanh(x)) @ weight.T + bias
        slots.step(running.tolist(), [x.argmax(-1)])
        returns[running] += slots.arrays.reward[running].sum(1)
        running = np.flatnonzero(slots.arrays.living.any(1))
    slots.close()
    return float(returns.mean())


def reached(points: Sequence[Point], line: float) -> Point | None:
    """The first point above a line whose successor is above it as well."""
    return next((p for p, after in itertools.pairwise(points) if min(p.score, after.score) > line), None)


def summed_up(who: str, seed: int, process: Process, points: Sequence[Point], lines: Sequence[float]) -> dict[str, Any]:
    """A run as it is printed."""
    # A checkpoint that nothing was learned before is no second opinion of the one before it.
    points = [p for i, p in enumerate(points) if i == 0 or p.env_steps > points[i - 1].env_steps]
    first, last = points[0], points[-1]
    steps = last.env_steps - first.env_steps
    told: dict[str, Any] = {"who": who, "seed": seed, "wall_s": round(process.wall_s, 1), "env_steps": last.env_steps}
    told["env_steps_per_s"] = round(steps / max(last.seconds - first.seconds, 1e-9))
    told["env_steps_per_cpu_s"] = round(steps / max(last.cpu_s - first.cpu_s, 1e-9))
    for line in lines:
        there = reached(points, line)
        told[f"to {line:g}"] = there and {
            "seconds": round(there.seconds, 1),
            "cpu_s": round(there.cpu_s, 1),
            "env_steps": there.env_steps,
        }
    told["curve"] = [[round(p.seconds, 1), round(p.cpu_s, 1), p.env_steps, round(p.score, 2)] for p in points]
    return told


def medians(runs: Sequence[dict[str, Any]], lines: Sequence[float]) -> dict[str, Any]:
    """Medians over runs that differ in their seeds; None where half of them did not reach a line."""
    result: dict[str, Any] = {"seeds": len(runs)}
    for rate in ("env_steps_per_s", "env_steps_per_cpu_s"):
        result[rate] = round(statistics.median(run[rate] for run in runs))
    for line in lines:
        there = [run[f"to {line:g}"] for run in runs]
        middle = {
            key: statistics.median(t[key] if t else float("inf") for t in there)
            for key in ("seconds", "cpu_s", "env_steps")
        }
        result[f"to {line:g}"] = None if float("inf") in middle.values() else middle
    return result


def main() -> None:
    """Run them in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", nargs="?", choices=TASKS, default="spread")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--max-steps", type=int, help="env steps per member, in place of the task's")
    parser.add_argument("--lines", type=float, nargs="+", help="scores, in place of the task's")
    parser.add_argument("--every-s", type=float, default=2.0, help="seconds between policies that are kept")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="overrides")
    parser.add_argument("--peer", action="append", default=[], metavar="COMMAND", help="repeatable; of spread only")
    parser.add_argument("--only-peers", action="store_true", help="do not run ours")
    arguments = parser.parse_args()
    task = TASKS[arguments.task]
    if arguments.peer and arguments.task != "spread":
        parser.error("--peer: peers share one network of Discrete actions, expected the task spread")
    lines, steps = arguments.lines or task.lines, arguments.max_steps or task.max_steps
    runs: dict[str, list[dict[str, Any]]] = {}
    for seed in arguments.seeds:
        for who in (*([] if arguments.only_peers else ["covey"]), *arguments.peer):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                if who == "covey":
                    process, points = train_covey(task, seed, steps, arguments.every_s, arguments.overrides, folder)
                else:
                    process, points = train_peer(who, task, seed, steps, arguments.every_s, folder)
            told = summed_up(who, seed, process, points, lines)
            runs.setdefault(who, []).append(told)
            print(json.dumps(told), flush=True)
    print(json.dumps({"summary": {who: medians(of, lines) for who, of in runs.items()}}))


if __name__ == "__main__":
    main()
