"""Train the examples on several seeds and judge what comes of them on fresh episodes; `docs/results.md` is made of it.

    .venv/bin/python benchmarks/learning.py [JOB ...] [--seeds 0 1 2] [--out docs/results.json]

Runs one after another, each as a person would: `covey train`, then `covey evaluate --episodes 400`. Every finished run
is entered into the file at once, in place of the same job's run with the same seed; each is printed as a JSON line.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
EPISODES = 400


@dataclass(frozen=True)
class Job:
    """What is trained and how it is judged.

    Attributes:
        config: Of the examples.
        evaluations: Options of each.
        overrides: What differs from the example.
    """

    config: str
    evaluations: tuple[list[str], ...] = ([],)
    overrides: tuple[str, ...] = ()


JOBS = {
    "ippo_speaker_listener": Job("ippo_speaker_listener.yaml"),
    "ippo_spread": Job("ippo_spread.yaml"),
    "maddpg_speaker_listener": Job("maddpg_speaker_listener.yaml"),
    "maddpg_spread": Job("maddpg_spread.yaml"),
    "matd3_speaker_listener": Job("speaker_listener.yaml"),
    "matd3_speaker_listener_long": Job("speaker_listener.yaml", overrides=("training.max_steps=3500000",)),
    "tictactoe": Job("tictactoe.yaml", (["--play", "player_2=random"], ["--play", "player_1=random"])),
}
"""By name; the long one takes half an hour a seed."""


def covey(folder: str, *arguments: str) -> dict[str, Any]:
    """A command's result."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "covey", *arguments, "--json"]
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(done.stdout.strip().splitlines()[-1])
    assert isinstance(result, dict)
    return result


def curve(run: Path, members: int) -> list[list[float]]:
    """[env steps of each member, best fitness, seconds of the run] wherever the fitness changed."""
    points: list[list[float]] = []
    with (run / "metrics.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["name"] == "fitness/best" and (not points or points[-1][1] != float(row["value"])):
                points.append([int(row["env_steps"]) / members, float(row["value"]), float(row["wall_s"])])
    return points


def train(name: str, seed: int, folder: str) -> dict[str, Any]:
    """What a run says of itself in the end."""
    job = JOBS[name]
    overrides = [o for override in (f"training.seed={seed}", *job.overrides) for o in ("--set", override)]
    return covey(folder, "train", str(ROOT / "examples" / job.config), "--runs", folder, *overrides)


def judge(name: str, seed: int, trained: dict[str, Any]) -> dict[str, Any]:
    """A finished run as the page has it."""
    job, run = JOBS[name], Path(trained["run_dir"])
    members = len(json.loads((run / "members.json").read_text())["members"])
    judged = [
        covey(str(run), "evaluate", str(run), "--episodes", str(EPISODES), "--seed", "1", *options)
        for options in job.evaluations
    ]
    return {
        "job": name,
        "seed": seed,
        "config": f"examples/{job.config}",
        "overrides": list(job.overrides),
        "wall_s": trained["wall_s"],
        "env_steps_per_member": trained["env_steps"] / members,
        "env_steps_per_s": trained["env_steps_per_s"],
        "evaluations": [
            {"options": options, "mean_return": e["mean_return"], "stderr": e["stderr"]}
            | ({"outcomes": e["outcomes"]} if "outcomes" in e else {})
            for options, e in zip(job.evaluations, judged, strict=True)
        ],
        "curve": curve(run, members),
    }


def enter(done: dict[str, Any], out: Path) -> None:
    """Into the file, in place of the same job's run with the same seed."""
    kept = json.loads(out.read_text()) if out.exists() else []
    kept = [r for r in kept if (r["job"], r["seed"]) != (done["job"], done["seed"])] + [done]
    kept.sort(key=lambda r: (list(JOBS).index(r["job"]), r["seed"]))
    out.write_text(json.dumps(kept, indent=1) + "\n")


def main() -> None:
    """Run the jobs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="*", metavar="JOB", help=f"of {', '.join(JOBS)}; all if none is named")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results.json")
    arguments = parser.parse_args()
    if unknown := set(arguments.jobs) - set(JOBS):
        parser.error(f"unknown {', '.join(sorted(unknown))}, expected some of {', '.join(JOBS)}")
    for job in arguments.jobs or JOBS:
        for seed in arguments.seeds:
            with tempfile.TemporaryDirectory() as folder:
                done = judge(job, seed, train(job, seed, folder))
            print(json.dumps(done), flush=True)
            enter(done, arguments.out)


if __name__ == "__main__":
    main()
