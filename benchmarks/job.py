"""The page's jobs end to end, as a person runs it (`covey train`, local actors); prints one JSON object.

    .venv/bin/python benchmarks/job.py [--algo MADDPG | IPPO] [--max-steps 40000] [--rounds 3]
        [--set section.key=value ...] [--peer 'COMMAND']

With --peer, a command that prints one JSON line with `env_steps_per_s` (the same job on another library) runs in turn
with ours, and `ratio` is ours over the peer's, round by round; its median is the figure to quote.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def last_json(command: list[str], cwd: str) -> dict[str, Any]:
    """Run a command; the last line that it prints, as JSON."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(done.stdout.strip().splitlines()[-1])
    assert isinstance(result, dict)
    return result


def main() -> None:
    """Run the rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algo", choices=["MADDPG", "IPPO"], default="MADDPG")
    parser.add_argument("--max-steps", type=int, default=40_000, help="env steps per member")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="overrides")
    parser.add_argument("--peer", help="command of the same job on another library, run in turn with ours")
    arguments = parser.parse_args()
    overrides = [f"training.max_steps={arguments.max_steps}", "training.target_score=null", *arguments.overrides]
    runs: list[dict[str, Any]] = []
    peers: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        config = EXAMPLES / f"page_{arguments.algo.lower()}.yaml"
        command = [sys.executable, "-m", "covey", "train", str(config), "--runs", folder, "--json"]
        for override in overrides:
            command += ["--set", override]
        for _ in range(arguments.rounds):
            runs.append(last_json(command, folder))
            if arguments.peer:
                peers.append(last_json(shlex.split(arguments.peer), os.getcwd()))
    rates = [r["env_steps_per_s"] for r in runs]
    keys = ("env_steps", "wall_s", "eval_env_steps", "updates", "members_per_pass", "staleness_updates", "idle_s")
    result: dict[str, Any] = {
        "benchmark": "job",
        "algorithm": arguments.algo,
        "population": 4,
        "env_steps_per_s": statistics.median(rates),
        "rounds": [{"env_steps_per_s": r["env_steps_per_s"]} | {k: r[k] for k in keys} for r in runs],
    }
    if peers:
        ratios = [ours / theirs["env_steps_per_s"] for ours, theirs in zip(rates, peers, strict=True)]
        result["peer"] = [p["env_steps_per_s"] for p in peers]
        result["ratio"] = round(statistics.median(ratios), 2)
        result["ratios"] = [round(r, 2) for r in ratios]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
