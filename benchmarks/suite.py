"""Run the benchmarks one after another and enter what they print into docs/benchmarks.json.

    .venv/bin/python benchmarks/suite.py [NAME ...] [--quick] [--out docs/benchmarks.json]

All of them take about half an hour on two cores that have nothing else to do. `PEER`, in the environment, is a Python
that has AgileRL (see agilerl_job.py), `PEER_SB3` one with stable-baselines3 and `PEER_JAX` one with jax (see
time_to_score.py): what can be compared with them is then measured in turn with them. Benchmarks run
again replace their own entries; entries of another machine or of other versions leave the file. With --quick everything
is shortened to a trial that says nothing, without a peer. The exit status is 1 if a benchmark failed.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "numpy", "grpcio", "zstandard", "pettingzoo", "mpe2")


@dataclass(frozen=True)
class Benchmark:
    """One command.

    Attributes:
        script: File in benchmarks/, without `.py`.
        budget_s: What it takes with its peers, on two cores; a minute and three times as long is too long.
        options: Of the script.
        quick: What comes after them in a trial.
        peers: What comes after them with a peer, by the variable that names its Python; `{python}` is it.
    """

    script: str
    budget_s: int
    options: str = ""
    quick: str = ""
    peers: Mapping[str, str] = field(default_factory=dict)

    def command(self, *, quick: bool, pythons: Mapping[str, str]) -> list[str]:
        """The command as it is run, from the root of the checkout, with the peers whose Pythons are given."""
        peers = [text.replace("{python}", pythons[name]) for name, text in self.peers.items() if name in pythons]
        words = shlex.split(" ".join([self.options, self.quick if quick else "", *peers]))
        return [f"benchmarks/{self.script}.py", *words]


def peer_job(options: str) -> dict[str, str]:
    """The option of job.py that has it run the same job on AgileRL."""
    return {"PEER": f"--peer '{{python}} benchmarks/agilerl_job.py {options}'"}


SHORT_JOB = "--max-steps 1000 --rounds 1"
FREQUENT = (
    "--set algorithm.learn_step=8 --set mutation.rl_hp_selection="
    "'{lr_actor: {min: 0.0001, max: 0.01}, lr_critic: {min: 0.0001, max: 0.01}, batch_size: {min: 8, max: 512}}'"
)
"""The range of learn_step would take it back to 20."""

SUITE: dict[str, Benchmark] = {
    "time_to_score": Benchmark(
        "time_to_score",
        500,
        "spread --seeds 0 1 2 --max-steps 600000",
        "--seeds 0 --max-steps 6400",
        {
            "PEER_SB3": "--peer '{python} benchmarks/peer/sb3_ppo.py'",
            "PEER_JAX": "--peer '{python} benchmarks/peer/jax_ppo.py'",
        },
    ),
    "job_maddpg": Benchmark(
        "job", 120, "--algo MADDPG --rounds 3", SHORT_JOB, peer_job("--max-steps 5000 --evo-steps 5000")
    ),
    "job_ippo": Benchmark(
        "job",
        130,
        "--algo IPPO --max-steps 40000 --rounds 3",
        SHORT_JOB,
        peer_job("--algo IPPO --max-steps 6144 --evo-steps 6144"),
    ),
    # At a learn_step of 5 AgileRL makes 8 // 5 updates in each step of all 8 environments: one in 8 env steps, as ours.
    "job_frequent_updates": Benchmark(
        "job",
        130,
        f"--algo MADDPG --max-steps 20000 --rounds 3 {FREQUENT}",
        SHORT_JOB,
        peer_job("--max-steps 2504 --evo-steps 2504 --learn-step 5"),
    ),
    "population_update": Benchmark(
        "population_update",
        170,
        "--updates 200 --sizes 1 4 16 64 --settings page",
        "--updates 10 --sizes 1 --algo MADDPG",
        {"PEER": "--peer {python}"},
    ),
    "population_update_evolved": Benchmark(
        "population_update",
        100,
        "--updates 200 --sizes 4 16 --settings page --evolved 20",
        "--updates 10 --sizes 4 --algo MADDPG",
        {"PEER": "--peer {python}"},
    ),
    "population_update_two_threads": Benchmark(
        "population_update",
        60,
        "--updates 200 --sizes 4 16 --settings page --threads 2",
        "--updates 10 --sizes 4 --algo MADDPG --threads 2",
        {"PEER": "--peer {python}"},
    ),
    "actor_loop": Benchmark("actor_loop", 25, "--seconds 20", "--seconds 0.5"),
    "actor_process": Benchmark("actor_process", 20, "--repeats 5", "--repeats 1"),
    "start": Benchmark("start", 40, "--repeats 5", "--repeats 1"),
    "evaluation_share": Benchmark("evaluation_share", 20, "--runs 300", "--runs 3"),
    "latency": Benchmark("latency", 30, "--seconds 20", "--seconds 2"),
    "wire": Benchmark("wire", 30, "--orders 20", "--orders 2"),
    "ingest": Benchmark("ingest", 15, "--seconds 6", "--seconds 0.1"),
    "growth": Benchmark("growth", 100, "--seconds 10", "--actors 1,4 --seconds 1"),
    "growth_busy": Benchmark("growth", 20, "--actors 16 --rows-per-s 10000 --updates", "--seconds 1"),
    "break_even": Benchmark("break_even", 170, "--max-steps 20000", "--max-steps 300 --actors 1 --cost-ms 0"),
}
"""By name, in the order of the page; what a newcomer runs."""

LEFT_OUT = (
    "agents_scaling",
    "agilerl_job",
    "array_environments",
    "array_parity",
    "convolutions",
    "costly",
    "environments",
    "evolution",
    "image_updates",
    "learning",
    "memory",
    "narrow_products",
    "recording_share",
    "soak",
    "suite",
)
"""Files in benchmarks/ that are none, or that take hours and have pages of their own."""


def machine() -> dict[str, Any]:
    """What the figures belong to."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return {
        "cpu": names[0].partition(":")[2].strip() if names else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
    }


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide what things cost."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}


def commit() -> str:
    """Of this checkout; with a plus where files differ from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    changed = git("status", "--porcelain", "--", "shared", "server", "actor_client", "benchmarks", "examples")
    return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")


PEERS = {"PEER": ("agilerl", "torch"), "PEER_SB3": ("stable-baselines3", "torch"), "PEER_JAX": ("jax", "optax")}
"""Packages whose versions are told, by the variable that names the peer's Python."""


def peer_versions(python: str, packages: Sequence[str]) -> str:
    """Return the versions of packages that another Python has installed, as text: "jax 0.10.2, optax 0.2.6"."""
    code = f"from importlib.metadata import version as v; print(', '.join(p + ' ' + v(p) for p in {list(packages)}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def run(
    command: list[str], limit_s: float, python: str = sys.executable, environ: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run one; what it printed, and what went wrong. `environ` are variables on top of this process's."""
    environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} | os.environ | dict(environ or {})
    began = time.monotonic()
    error = None
    with subprocess.Popen(
        [python, *command], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            printed, _ = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            error = f"took longer than {limit_s:g} s"
            end(process)
            printed, _ = process.communicate()  # what was measured until then
        finally:
            end(process)
    if error is None and process.returncode:
        error = f"exit status {process.returncode}"
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    return {"seconds": round(time.monotonic() - began, 1), "error": error, "lines": lines}


def end(process: subprocess.Popen[str]) -> None:
    """End a benchmark and whatever it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def entered(out: Path, sitting: dict[str, Any], entries: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The file's contents with these entries, in the order of the suite; none are kept that belong elsewhere."""
    kept = json.loads(out.read_text()) if out.exists() else {}
    entries = (kept["benchmarks"] if {**kept, "benchmarks": None} == {**sitting, "benchmarks": None} else {}) | entries
    return sitting | {"benchmarks": {name: entries[name] for name in SUITE if name in entries}}


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SUITE)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="only to see that they run")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks.json")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(SUITE):
        parser.error(f"unknown {', '.join(sorted(unknown))}, expected some of {', '.join(SUITE)}")
    pythons = {} if arguments.quick else {name: os.environ[name] for name in PEERS if os.environ.get(name)}
    sitting = {"machine": machine(), "versions": versions(), "quick": arguments.quick}
    about = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "commit": commit(),
        "load": round(os.getloadavg()[0], 2),  # before anything of ours ran
    }
    versions_of = {name: peer_versions(python, PEERS[name]) for name, python in pythons.items()}
    failed = False
    for name in arguments.names or SUITE:
        benchmark = SUITE[name]
        command = benchmark.command(quick=arguments.quick, pythons=pythons)
        print(f"{name}: {shlex.join(command)}", flush=True)
        result = run(command, 60 + 3 * benchmark.budget_s)
        # The peers' paths are this machine's alone.
        shown = shlex.join(benchmark.command(quick=arguments.quick, pythons={name: name for name in pythons}))
        peer = "; ".join(text for name, text in versions_of.items() if name in benchmark.peers) or None
        entry = {"command": shown, **about, "peer": peer, **result}
        arguments.out.write_text(json.dumps(entered(arguments.out, sitting, {name: entry}), indent=1) + "\n")
        failed |= result["error"] is not None
        print(f"  {result['seconds']:.0f} s{': ' + result['error'] if result['error'] else ''}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
