"""Memory and file descriptors of a learner whose actors come and go, for as long as is asked.

    python benchmarks/soak.py [--minutes 30] [--actors 16] [--replace-s 10]

A learner at work (updates, evaluations, generations, checkpoints, a journal that is cut off behind them), real actor
processes, and every few seconds one of them killed, told to leave, or frozen, and another one started, in turn under
its name or a new one. Sampled are the learner and one actor that stays. Prints one JSON object: values at the start of
the second half, in its middle and at its end, and what they grew a minute in it, as the slope of a line through all
samples; at the start caches and replay fill. Flat is what stays within a few hundred KiB a minute.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
CONFIG: dict[str, Any] = {
    "name": "soak",
    "algorithm": {"name": "MADDPG", "batch_size": 64, "learn_step": 100},
    "environment": {"name": "mpe2.simple_speaker_listener_v4", "config": {"continuous_actions": True}, "num_envs": 4},
    "network": {"latent_dim": 16, "encoder_config": {"hidden_size": [32]}, "head_config": {"hidden_size": [32]}},
    # What mutations make larger does not count: only what is left behind.
    "mutation": {"probabilities": {"no_mut": 1.0, "arch_mut": 0, "params_mut": 0, "rl_hp_mut": 0}},
    "replay_buffer": {"max_size": 10_000},
    "training": {"max_steps": 1 << 40, "evo_steps": 5_000, "pop_size": 4, "learning_delay": 1000},
    "learner": {"heartbeat_interval_s": 2.0},
    "checkpoint": {"every_s": 10.0, "journal_segment_bytes": 1 << 20},
    "logging": {"tensorboard": True},
}
ENDS = (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP)


class Actors:
    """The steady one, and those that come and go."""

    def __init__(self, address: str, count: int, log: Path) -> None:
        self._address, self._log = address, log
        self._names = (f"soak-{i}" for i in itertools.count())
        self.steady = self._start(next(self._names))
        self._others = [(name, self._start(name)) for name in itertools.islice(self._names, count - 1)]
        self._ends = itertools.cycle(ENDS)
        self._frozen: list[subprocess.Popen[bytes]] = []
        self.replaced = 0

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "covey_actor", "--learner", self._address, "--name", name]
        with self._log.open("ab") as log:
            return subprocess.Popen(command, env=ENVIRONMENT, stdout=log, stderr=log)

    def replace(self) -> None:
        """End the oldest, and start another: every second one has its name."""
        name, process = self._others.pop(0)
        end = next(self._ends)
        process.send_signal(end)
        if end == signal.SIGSTOP:
            self._frozen.append(process)
            if len(self._frozen) > 1:  # long given up
                _end(self._frozen.pop(0))
        else:
            process.wait(30)
        self.replaced += 1
        name = next(self._names) if self.replaced % 2 else name
        self._others.append((name, self._start(name)))

    def end(self) -> None:
        """All of them."""
        for process in (self.steady, *(p for _, p in self._others), *self._frozen):
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def soak(minutes: float, count: int, replace_s: float, sample_s: float) -> dict[str, Any]:
    """One learner, so many actors, so long."""
    with tempfile.TemporaryDirectory() as directory:
        file, log = Path(directory, "soak.yaml"), Path(directory, "log")
        file.write_text(yaml.safe_dump(CONFIG))
        command = [sys.executable, "-m", "covey", "learner", str(file), "--runs", directory]
        with log.open("ab") as output:
            learner = subprocess.Popen(command, env=ENVIRONMENT, stdout=output, stderr=output)
        actors = None
        samples: list[dict[str, float]] = []
        try:
            actors = Actors(_address(learner, Path(directory)), count, Path(directory, "actors.log"))
            processes = {"learner": psutil.Process(learner.pid), "actor": psutil.Process(actors.steady.pid)}
            began = replaced_at = time.monotonic()
            while (now := time.monotonic()) < began + 60 * minutes:
                sample = {"minute": (now - began) / 60}
                for who, process in processes.items():
                    sample |= {f"{who}_rss_mb": process.memory_info().rss / 1e6, f"{who}_fds": process.num_fds()}
                    sample[f"{who}_threads"] = process.num_threads()
                sample["disk_mb"] = sum(p.stat().st_size for p in Path(directory).rglob("journal/*")) / 1e6
                samples.append(sample)
                if now >= replaced_at + replace_s:
                    replaced_at = now
                    actors.replace()
                time.sleep(sample_s)
            status, replaced = _status(Path(directory)), actors.replaced
        except (psutil.Error, OSError) as exc:
            raise SystemExit(f"soak: {exc!r}; {log.read_text()[-2000:]}") from exc
        finally:
            if actors is not None:
                actors.end()
            _end(learner)
    return {
        "benchmark": "soak",
        "minutes": minutes,
        "actors": count,
        "replaced": replaced,
        "env_steps": status["env_steps"],
        "generations": status["generation"],
        "sessions": status["gauges"]["sessions"],
        **summary(samples),
    }


def summary(samples: list[dict[str, float]]) -> dict[str, Any]:
    """Of each value in the second half: at its start, in its middle, at its end, and its slope per minute."""
    half = samples[len(samples) // 2 :]
    minutes = np.array([s["minute"] for s in half])
    result = {}
    for name in half[0].keys() - {"minute"}:
        values = np.array([s[name] for s in half])
        slope = float(np.polyfit(minutes, values, 1)[0]) if len(half) > 1 else 0.0
        at = [round(float(values[i]), 1) for i in (0, len(values) // 2, -1)]
        result[name] = {"start": at[0], "middle": at[1], "end": at[2], "per_minute": round(slope, 3)}
    return dict(sorted(result.items()))


def _address(learner: subprocess.Popen[bytes], directory: Path) -> str:
    """Where it listens, as soon as it does."""
    while learner.poll() is None:
        for file in directory.glob("*/address.json"):
            return str(json.loads(file.read_text())["address"])
        time.sleep(0.05)
    raise SystemExit(f"the learner ended: {Path(directory, 'log').read_text()}")


def _status(directory: Path) -> dict[str, Any]:
    """What the learner last wrote about itself."""
    (file,) = directory.glob("*/status.json")
    return dict(json.loads(file.read_text()))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--actors", type=int, default=16)
    parser.add_argument("--replace-s", type=float, default=10.0)
    parser.add_argument("--sample-s", type=float, default=2.0)
    args = parser.parse_args()
    print(json.dumps(soak(args.minutes, args.actors, args.replace_s, args.sample_s)))


if __name__ == "__main__":
    main()
