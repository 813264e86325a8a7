"""Start of a run, and of a command that is refused.

    python benchmarks/start.py [--repeats 5]

`covey train` starts on an example, is asked for its status every 20 ms from the moment it has an address, and is
stopped at the first env step that its learner knows. Counted from the start of the process: the run's directory, the
learner's address, both actors joined, the first env step. Beside it, how long `covey train` takes to say that a
configuration file is missing, or wrong. CPU seconds are those of the whole command with its actors, its end included:
they are noisy by less than the wall time where others use the machine too. Prints one line of JSON; medians over the
repeats.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from covey.v1.population_service_pb2 import GetStatusRequest
from covey.v1.population_service_pb2_grpc import PopulationServiceStub
from covey.wire.channel import connect

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "speaker_listener.yaml"
TRAIN = (sys.executable, "-m", "covey", "train")
LONGEST_S = 120.0
LOOK_S = 0.02


def started(runs: Path) -> dict[str, float]:
    """Start a run; returns the seconds from the start of its process to what is seen of it."""
    seen: dict[str, float] = {}
    began = time.perf_counter()
    with (runs / "log").open("w") as log:
        process = subprocess.Popen([*TRAIN, str(EXAMPLE), "--runs", str(runs)], stdout=log, stderr=log)
    try:
        stub = None
        while "first_env_step_s" not in seen:
            now = time.perf_counter() - began
            if process.poll() is not None or now > LONGEST_S:
                raise SystemExit(f"no env step after {now:.0f} s: {(runs / 'log').read_text()}")
            if stub is None:
                if list(runs.glob("*/config.yaml")):
                    seen.setdefault("run_directory_s", now)
                if found := list(runs.glob("*/address.json")):
                    seen["address_s"] = now
                    stub = PopulationServiceStub(connect(json.loads(found[0].read_text())["address"]))
            else:
                status = stub.GetStatus(GetStatusRequest(), timeout=LONGEST_S).status
                if status.actors == 2:
                    seen.setdefault("actors_joined_s", now)
                if status.env_steps:
                    seen["first_env_step_s"] = now
            time.sleep(LOOK_S)
    finally:
        process.terminate()
        process.wait()
    return seen


def refused(config: Path) -> float:
    """Seconds until `covey train` has refused a configuration."""
    began = time.perf_counter()
    code = subprocess.run([*TRAIN, str(config)], cwd=config.parent, capture_output=True).returncode
    if code != 2:
        raise SystemExit(f"covey train {config}: exit code {code}, expected 2")
    return time.perf_counter() - began


def cpu_s(before: os.times_result) -> float:
    """CPU seconds of processes that were waited for since then."""
    now = os.times()
    return now.children_user + now.children_system - before.children_user - before.children_system


def measure(repeats: int) -> dict[str, float]:
    """So many starts, each followed by one command for either faulty configuration."""
    figures: dict[str, list[float]] = defaultdict(list)
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as directory:
            runs = Path(directory)
            before = os.times()
            for name, seconds in started(runs).items():
                figures[name].append(seconds)
            figures["cpu_s"].append(cpu_s(before))
            wrong = runs / "wrong.yaml"
            wrong.write_text(EXAMPLE.read_text() + "  pop_sise: 4\n")
            for name, config in (("missing_file", runs / "missing.yaml"), ("wrong_file", wrong)):
                before = os.times()
                figures[f"{name}_s"].append(refused(config))
                figures[f"{name}_cpu_s"].append(cpu_s(before))
    return {name: round(statistics.median(values), 3) for name, values in figures.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args(arguments)
    print(json.dumps({"benchmark": "start", "repeats": args.repeats, **measure(args.repeats)}))


if __name__ == "__main__":
    main()
