"""`make fuzz N=1000000`: so many hostile inputs over all decoders; prints one JSON object, exits 1 if any was a crash.

A crash is an error that is not documented, a broken contract, internals in a sentence, too much memory or time. It is
printed with the seed that repeats it: `python -m tests.fuzz --only NAME --seed SEED 1`. A tenth as many inputs again,
where atheris is installed (`pip install 'covey-marl[fuzz]'`), are found by coverage: see `tests.fuzz.guided`. Then a
learner gets a thousandth as many hostile calls: see `tests.fuzz.rpcs`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from random import Random

from tests.fuzz.guided import GUIDED
from tests.fuzz.target import Target, attempt, peak_bytes
from tests.fuzz.targets import TARGETS

ROOM_BYTES = 1 << 30
"""Address space on top of what the process has at its start: whoever wants more gets a MemoryError, a crash."""

SHOWN = 10


def main() -> int:
    """Run, and report."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("inputs", type=int, help="how many, over all decoders")
    parser.add_argument("--seed", type=int, default=0, help="of the first input")
    parser.add_argument("--only", default="", help="decoders with this in their name")
    arguments = parser.parse_args()
    warnings.simplefilter("error")
    logging.disable(logging.WARNING)
    targets = [t for t in TARGETS if arguments.only in t.name]
    started, peak = time.monotonic(), peak_bytes()
    _limit_memory()
    outcomes = {t.name: Counter[str]() for t in targets}
    crashes: dict[str, str] = {}
    tried = 0
    # The slow ones have a quarter of the turns of the fast ones.
    seconds = dict.fromkeys(outcomes, 0.0)
    while tried < arguments.inputs:
        target = min(targets, key=lambda t: (seconds[t.name] * sum(outcomes[t.name].values())) ** 0.5)
        for _ in range(min(50, arguments.inputs - tried)):
            began = time.process_time()
            seed = arguments.seed + sum(outcomes[target.name].values())
            outcomes[target.name][_try(target, seed, crashes)] += 1
            seconds[target.name] += time.process_time() - began
            tried += 1
    report: dict[str, object] = {
        "inputs": tried,
        "crashes": sum(o["crash"] for o in outcomes.values()),
        "decoders": {name: dict(sorted(o.items())) for name, o in outcomes.items()},
        "peak_rss_mib": peak_bytes() >> 20,
        "peak_rss_at_start_mib": peak >> 20,
        "wall_s": round(time.monotonic() - started, 1),
    }
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))  # others inherit it
    failed = bool(crashes)
    if not arguments.only:
        report["guided"] = guided = _guided(arguments.inputs // 10)
        report["calls"] = statuses = _calls(arguments.inputs // 1000)
        failed |= not statuses or any(r != "no crash" for r in guided.values())
    print(json.dumps(report))
    return 1 if failed else 0


def _guided(inputs: int) -> dict[str, str]:
    """What atheris found, by decoder, in processes of their own: it ends the process that it runs in."""
    if importlib.util.find_spec("atheris") is None:
        return {}
    results = {}
    for name in GUIDED:
        with tempfile.TemporaryDirectory() as corpus:
            command = [sys.executable, "-m", "tests.fuzz.guided", name, str(inputs // len(GUIDED)), corpus]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        results[name] = "no crash" if done.returncode == 0 else f"exit code {done.returncode}"
        if done.returncode:
            print(done.stderr[-5000:], file=sys.stderr)
    return results


def _calls(calls: int) -> dict[str, dict[str, int]]:
    """Statuses of hostile calls, by method; none if an answer was not what it may be."""
    command = [sys.executable, "-m", "tests.fuzz.rpcs", str(calls)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr[-5000:], file=sys.stderr)
        return {}
    statuses: dict[str, dict[str, int]] = json.loads(done.stdout.splitlines()[-1])
    return statuses


def _try(target: Target, seed: int, crashes: dict[str, str]) -> str:
    hostile = target.make(Random(f"{target.name} {seed}"))
    try:
        return attempt(target, hostile)
    except Exception as exc:
        where = traceback.extract_tb(exc.__traceback__)[-1]
        kind = f"{target.name}: {type(exc).__name__} at {where.filename}:{where.lineno}"
        if kind not in crashes and len(crashes) < SHOWN:
            crashes[kind] = str(seed)
            text = f"--only {target.name!r} --seed {seed}\n{traceback.format_exc()}input: {repr(hostile)[:1000]}\n"
            print(text, file=sys.stderr)
        return "crash"


def _limit_memory() -> None:
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + ROOM_BYTES, resource.RLIM_INFINITY))


if __name__ == "__main__":
    sys.exit(main())
