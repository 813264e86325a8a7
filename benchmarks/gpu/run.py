"""Ask an NVIDIA GPU: the tests marked `cuda`, times of updates, and the page's jobs with the learner on it.

    python3 -m benchmarks.gpu.run --wheels wheels --out gpu.json

Run by a Python that has torch; nothing is fetched, all else comes from wheels (`make gpu-wheels`). Each part has its
time limit, all together under 8 minutes, and is in the JSON file as soon as it is done: {"about": ..., "parts": {name:
{"command", "limit_s", "seconds", "error", "lines"}}}. A part that took too long has the lines that it printed until
then. The exit status is 1 if anything failed. With --dry-run all of it runs on the CPU, in tiny sizes, by the Python
that runs this, without wheels: to see that it works.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu.installation import install, refusal
from benchmarks.suite import machine, run

ROOT = Path(__file__).resolve().parents[2]
ALL_S = 450.0
"""Of all parts together: what is left of 8 minutes after installing."""


@dataclass(frozen=True)
class Part:
    """One command that prints lines of JSON.

    Attributes:
        command: What Python runs.
        limit_s: How long it may take.
        environ: Variables on top of this process's.
    """

    command: list[str]
    limit_s: float
    environ: dict[str, str] = field(default_factory=dict)


def tests() -> Part:
    """The tests marked `cuda`, from the files that have any."""
    files = [p for p in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.cuda" in p.read_text()]
    command = ["-m", "pytest", "-m", "cuda", "-o", "timeout=100", "-p", "no:terminal", "-p", "no:cacheprovider"]
    # Plugins that the Python outside has are left alone, and what its torch warns of is no failure.
    command += ["-p", "pytest_timeout", "-p", "benchmarks.gpu.outcomes", "-W", "default"]
    command += [str(file.relative_to(ROOT)) for file in files]
    return Part(command, 170, {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})


def updates(device: str, kinds: list[str], cell_s: int, limit_s: float, *, dry: bool) -> Part:
    """Times of updates."""
    command = ["-m", "benchmarks.gpu.updates", "--device", device, "--updates", *kinds, "--cell-s", str(cell_s)]
    if device == "cpu":
        command += ["--threads", *map(str, sorted({1, min(8, os.cpu_count() or 1)}))]
    tiny = ["--settings", "page", "--sizes", "1", "2", "--algo", "MADDPG", "IPPO"]
    tiny += ["--spend-s", "0", "--cell-s", "60", "--threads", "1"]
    return Part(command + (tiny if dry else []), limit_s)  # of an option given twice the last counts


def job(algorithm: str, device: str, *, dry: bool) -> Part:
    """One of the page's jobs, with actors on half of the cores."""
    steps = 200 if dry else {"MADDPG": 15_000, "IPPO": 16_384}[algorithm]
    actors = 1 if dry else max(2, min(8, (os.cpu_count() or 2) // 2))
    command = ["benchmarks/job.py", "--algo", algorithm, "--max-steps", str(steps)]
    return Part([*command, "--set", f"learner.device={device}", "--set", f"actors.local={actors}"], 40)


def parts(*, dry: bool) -> dict[str, Part]:
    """All parts, in order: what only a GPU can say comes first."""
    found = {"tests": tests()}
    for device, kinds, cell_s, limit_s in (
        ("cuda", ["eager", "graph", "recorded"], 5, 150),
        ("cpu", ["auto"], 3, 60),
    ):
        if dry and device != "cpu":
            continue
        found[f"updates_{device}"] = updates(device, kinds, cell_s, limit_s, dry=dry)
        for algorithm in ("MADDPG", "IPPO"):
            found[f"job_{algorithm.lower()}_{device}"] = job(algorithm, device, dry=dry)
    return found


def gpu() -> dict[str, Any] | str:
    """What the GPU is, or a sentence that says why none can be asked."""
    needs = "expected an NVIDIA GPU and a torch that can use it; run make gpu on a machine that has both"
    try:
        import torch
    except ImportError:
        return f"no GPU can be asked: {sys.executable} has no torch, {needs}, or name its Python: make gpu PYTHON=..."
    if not torch.cuda.is_available():
        return f"no GPU can be asked: torch {torch.__version__} finds none, {needs}"
    about = torch.cuda.get_device_properties(0)
    return {
        "name": about.name,
        "memory_gib": round(about.total_memory / 2**30, 1),
        "multiprocessors": about.multi_processor_count,
        "capability": f"{about.major}.{about.minor}",
        "cuda": torch.version.cuda,
    }


def failures(lines: list[dict[str, Any]]) -> list[str]:
    """Tests that failed."""
    return [line["test"] for line in lines if line.get("outcome") == "failed"]


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheels", type=Path, default=ROOT / "wheels", help="the folder that make gpu-wheels filled")
    parser.add_argument("--out", type=Path, default=ROOT / "gpu.json")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, tiny, to see that it works")
    args = parser.parse_args()
    began = time.monotonic()
    found = None if args.dry_run else gpu()
    if isinstance(found, str):
        sys.exit(found)
    if not args.dry_run and (why := refusal(args.wheels)):
        sys.exit(why)
    args.out = args.out.absolute()
    with tempfile.TemporaryDirectory(prefix="covey-gpu-") as folder:
        python = sys.executable if args.dry_run else install(args.wheels, Path(folder))
        import importlib.metadata

        about = {
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "dry_run": args.dry_run,
            "gpu": found,
            "machine": machine(),
            "python": sys.version.split()[0],
            "torch": importlib.metadata.version("torch"),
            "numpy": importlib.metadata.version("numpy"),
            "install_s": round(time.monotonic() - began, 1),
        }
        results: dict[str, Any] = {}
        failed = False
        for name, part in parts(dry=args.dry_run).items():
            left_s = ALL_S - (time.monotonic() - began)
            if left_s < 5:
                results[name] = {"command": part.command, "error": "not run: no time was left", "lines": []}
            else:
                limit_s = min(part.limit_s, left_s)
                done = run(part.command, limit_s, python, part.environ)
                results[name] = {"command": part.command, "limit_s": round(limit_s, 1), **done}
            args.out.write_text(json.dumps({"about": about, "parts": results}, indent=1) + "\n")
            wrong = failures(results[name]["lines"])
            failed |= results[name]["error"] is not None or bool(wrong)
            said = results[name]["error"] or f"{len(results[name]['lines'])} lines"
            print(f"{name}: {said}{''.join(f'{chr(10)}  failed: {test}' for test in wrong)}", flush=True)
    print(f"{args.out}: {time.monotonic() - began:.0f} s in all")
    sys.exit(failed)


if __name__ == "__main__":
    main()
