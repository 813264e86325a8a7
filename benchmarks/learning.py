"""Train the jobs of docs/results.md by sweeps, and enter what comes of each run as it ends.

    .venv/bin/python -m benchmarks.learning [JOB ...] --runs DIR [--seeds 100-104] [--jobs 1]

A job is `covey sweep examples/FILE --name JOB`, with its settings; stopped, it goes on where it was. Scores are those
of `covey evaluate --keep`, over 1,000 episodes that neither training nor the choice of the best has seen. Each run is a
JSON line, and an entry of docs/results.json in place of the one that the same job had with that seed.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.pages.learning_jobs import JOBS, Job

from covey.experiments.grid import parse_seeds
from covey.experiments.run_process import is_evaluated, is_trained
from covey.experiments.sweep_directory import SweepDirectory

ROOT = Path(__file__).resolve().parent.parent
EPISODES = 1000
LOOK_S = 2.0


def sweep_command(name: str, job: Job, seeds: str, runs: Path, jobs: int) -> list[str]:
    """The command that trains a job, as words."""
    command = ["covey", "sweep", f"examples/{job.config}", "--name", name, "--seeds", seeds, "--runs", str(runs)]
    command += ["--jobs", str(jobs), "--episodes", str(EPISODES)]
    return command + [word for key, value in job.settings.items() for word in ("--set", f"{key}={value}")]


def entry(name: str, job: Job, run: Path) -> dict[str, Any]:
    """A finished run as the page has it."""
    result, kept = (json.loads((run / f"{file}.json").read_text()) for file in ("result", "evaluations"))
    members = len(json.loads((run / "members.json").read_text())["members"])
    seconds = [*_seconds(run, members), (float("inf"), result["wall_s"])]  # the last generation ends with the run
    return {
        "job": name,
        "seed": int(json.loads((run / "combination.json").read_text())["seed"]),
        "config": f"examples/{job.config}",
        "settings": dict(job.settings),
        "read_at": list(job.read_at),
        "members": members,
        "env_steps": result["env_steps"] // members,
        "wall_s": result["wall_s"],
        "episodes": kept["episodes"],
        "score": kept["best"]["mean_return"],
        "stderr": kept["best"]["stderr"],
        "curve": [
            [g["env_steps"], round(g["mean_return"], 3), round(g["stderr"], 3), _until(seconds, g["env_steps"])]
            for g in kept["generations"]
            if g["env_steps"]
        ],
        "games": _played(run) if job.game else [],
    }


def _seconds(run: Path, members: int) -> list[tuple[float, float]]:
    """(env steps of each member, seconds since the start) at every line of the run's metrics."""
    with (run / "metrics.csv").open(newline="") as file:
        return [(int(row["env_steps"]) / members, float(row["wall_s"])) for row in csv.DictReader(file)]


def _until(seconds: Sequence[tuple[float, float]], env_steps: float) -> float:
    return next(round(at, 1) for steps, at in seconds if steps >= env_steps)


def _played(run: Path) -> list[dict[str, Any]]:
    """Games against scripted players, in every seat."""
    command = [sys.executable, "-m", "benchmarks.games", str(run), "--games", str(EPISODES)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT, env=_environment())
    return [json.loads(line) for line in done.stdout.splitlines()]


def _environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def enter(done: dict[str, Any], out: Path) -> None:
    """Into the file, in place of the same job's run with the same seed."""
    kept = json.loads(out.read_text()) if out.exists() else []
    kept = [r for r in kept if (r["job"], r["seed"]) != (done["job"], done["seed"])] + [done]
    kept.sort(key=lambda r: (list(JOBS).index(r["job"]), r["seed"]))
    # A line a run: what a run changes is one line of the file.
    out.write_text("[\n" + ",\n".join(json.dumps(run) for run in kept) + "\n]\n")


def train(name: str, seeds: str, runs: Path, jobs: int, out: Path) -> int:
    """Train a job's sweep and enter each run as it ends; returns the sweep's exit code."""
    job, sweep, entered = JOBS[name], SweepDirectory(runs / name), set[Path]()
    command = [sys.executable, "-m", *sweep_command(name, job, seeds, runs, jobs)]
    process = subprocess.Popen(command, cwd=ROOT, env=_environment())
    wanted = set(parse_seeds(seeds))
    while True:
        over = process.poll() is not None
        for run in sweep.runs() if sweep.path.exists() else ():
            if run not in entered and is_trained(run) and is_evaluated(run, EPISODES):
                entered.add(run)
                done = entry(name, job, run)
                if done["seed"] in wanted:
                    print(json.dumps(done), flush=True)
                    enter(done, out)
        if over:
            return process.returncode
        time.sleep(LOOK_S)


def main() -> None:
    """Run the jobs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="JOB", help=f"of {', '.join(JOBS)}; all if none is named")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the sweeps, which go on where they were")
    parser.add_argument("--seeds", help="such as 100-104; those of the job if left out")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results.json")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(JOBS):
        parser.error(f"unknown {', '.join(sorted(unknown))}, expected some of {', '.join(JOBS)}")
    for name in arguments.names or JOBS:
        seeds = arguments.seeds or f"{JOBS[name].seeds[0]}-{JOBS[name].seeds[-1]}"
        if code := train(name, seeds, arguments.runs.resolve(), arguments.jobs, arguments.out.resolve()):
            sys.exit(code)


if __name__ == "__main__":
    main()
