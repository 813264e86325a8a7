"""What is done with one environment: checked, trained, resumed, evaluated, exported, and its policy played."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from benchmarks.world.own_environment import ROOT, NotInstallableError, python_with, version_of
from benchmarks.world.table import Row

ALGORITHMS = ("IPPO", "MATD3")
STEPS = 200
"""Env steps of a member in a generation."""

PLAY = """
import json, sys
import covey
from covey.envs import load_environment
env = load_environment(sys.argv[2], json.loads(sys.argv[3]))()
policy = covey.load_policy(sys.argv[1])
if hasattr(env, "attach"):
    sys.exit("loaded, and not played here: the environment steps all its copies at once")
seen, infos = env.reset(seed=0)
for _ in range(5):
    masks = {a: infos[a]["action_mask"] for a in seen if a in env.agents and "action_mask" in infos.get(a, {})}
    seen, _, _, _, infos = env.step(policy.act({a: seen[a] for a in seen if a in env.agents}, masks))
    if not env.agents:
        break
"""


@dataclass
class Outcome:
    """What became of an environment; each text is "yes" or the sentence that says why not, "" if it was not tried.

    Attributes:
        steps_per_s: Of the environment alone, one copy at random actions.
        trained_steps_per_s: Env steps/s of the first run that was trained, updates and evaluations of one short
            generation included.
    """

    environment: str
    package: str
    version: str = ""
    installed: str = ""
    check: str = ""
    interface: str = ""
    encoders: list[str] = field(default_factory=list)
    row_bytes: int | None = None
    steps_per_s: float = 0.0
    trained_steps_per_s: float = 0.0
    trained: dict[str, str] = field(default_factory=dict)
    resumed: str = ""
    evaluated: str = ""
    exported: str = ""
    played: str = ""
    seconds: float = 0.0


class FailedError(Exception):
    """A stage failed; the message is what was said."""


def tried(row: Row, folder: Path, limit_s: float) -> Outcome:
    """Try an environment out.

    Args:
        row: The environment.
        folder: Where virtual environments and runs are kept.
        limit_s: Seconds that a stage may take.
    """
    began = time.monotonic()
    found = Outcome(row.label, row.package)
    try:
        python = python_with(folder / "environments", row.requires, beside_learner=row.beside_learner)
        found.installed, found.version = "yes", _version(row, python)
        found.check, report = _checked(row, python, limit_s)
        found.interface, found.steps_per_s = report.get("interface", ""), report.get("steps_per_s") or 0.0
        found.row_bytes = report.get("row_bytes")
        found.encoders = sorted({agent["encoder"]["kind"] for agent in report.get("agents", ()) if agent["encoder"]})
        if found.check == "yes":
            for algorithm in ALGORITHMS:
                _trained(row, python, folder / "runs", algorithm, limit_s, found)
    except NotInstallableError as exc:
        found.installed = str(exc)
    except subprocess.TimeoutExpired:
        found.check = found.check or f"took longer than {limit_s:g} s"
    found.seconds = round(time.monotonic() - began, 1)
    return found


def _version(row: Row, python: Path) -> str:
    return version_of(python, row.package) or version_of(python, row.requires[0])


def _checked(row: Row, python: Path, limit_s: float) -> tuple[str, dict[str, Any]]:
    config = [part for key, value in row.config.items() for part in ("--config", f"{key}={json.dumps(value)}")]
    done = _ran([python, "-m", "covey", "check-env", row.name, "--json", "--steps", 100, *config], limit_s)
    with contextlib.suppress(json.JSONDecodeError, IndexError):
        report = json.loads(done.stdout.splitlines()[-1])
        return "yes" if done.returncode == 0 else "; ".join(report["cannot"][:1]), report
    return _said(done), {}


def _trained(row: Row, python: Path, runs: Path, algorithm: str, limit_s: float, found: Outcome) -> None:
    """Train one generation and, by the first algorithm that does, go on with all that is done with a run."""
    kept = runs / f"{row.package}-{abs(hash(row.label))}-{algorithm}-{os.getpid()}-{time.monotonic_ns()}"
    kept.mkdir(parents=True)
    (kept / "job.yaml").write_text(yaml.safe_dump(_job(row, algorithm)))
    try:
        run = _learned(row, python, kept, [kept / "job.yaml", "--runs", kept / "runs"], limit_s)
        found.trained[algorithm] = "yes"
    except (FailedError, subprocess.TimeoutExpired) as exc:
        found.trained[algorithm] = _why(exc, limit_s)
        return
    if found.resumed == "yes":
        return
    found.trained_steps_per_s = json.loads((run / "result.json").read_text())["env_steps_per_s"]
    more = f"training.max_steps={2 * STEPS}"
    out = kept / "policy"
    arguments = json.dumps(dict(row.config))
    stages: dict[str, Callable[[], object]] = {
        "resumed": lambda: _learned(row, python, kept, ["--resume", run, "--set", more], limit_s),
        "evaluated": lambda: _well([python, "-m", "covey", "evaluate", run, "--episodes", 2], limit_s),
        "exported": lambda: _well([sys.executable, "-m", "covey", "export", run, "--out", out], limit_s),
        "played": lambda: _well([python, "-c", PLAY, out, row.name, arguments], limit_s),
    }
    for stage, act in stages.items():
        try:
            act()
            setattr(found, stage, "yes")
        except (FailedError, subprocess.TimeoutExpired) as exc:
            setattr(found, stage, _why(exc, limit_s))


def _job(row: Row, algorithm: str) -> dict[str, Any]:
    """A run of one generation with small settings."""
    small: dict[str, dict[str, Any]] = {
        "algorithm": {"name": algorithm, "learn_step": 50 if algorithm == "IPPO" else 25, "batch_size": 32},
        "environment": {"name": row.name, "config": dict(row.config), "num_envs": 2},
        "training": {
            **{"pop_size": 2, "max_steps": STEPS, "evo_steps": STEPS},
            **{"eval_steps": 50, "confirm_episodes": 1, "eval_loop": 1},
        },
        "replay_buffer": {"max_size": 1000},
    }
    if row.opponents:
        small["fitness"] = {"agents": list(row.opponents)}
    for section, settings in row.settings.items():
        small.setdefault(section, {}).update(settings)
    return small


def _learned(row: Row, python: Path, kept: Path, arguments: Sequence[object], limit_s: float) -> Path:
    """Run a learner here and an actor in the environment's own Python, to the end of the run; returns its folder.

    Raises:
        FailedError: one of them failed.
    """
    before = set(kept.glob("runs/*/address.json"))
    for file in before:
        file.unlink()  # of the run before, which is resumed
    module = row.name.partition(":")[0]
    with contextlib.ExitStack() as stack:
        command = [sys.executable, "-m", "covey", "learner", *arguments, "--bind", "127.0.0.1:0"]
        learner = stack.enter_context(_started(command, kept / "learner.log"))
        deadline = time.monotonic() + limit_s
        while not (files := list(kept.glob("runs/*/address.json"))):
            if learner.poll() is not None or time.monotonic() > deadline:
                raise FailedError(_last(kept / "learner.log"))
            time.sleep(0.2)
        address = json.loads(files[0].read_text())["address"]
        command = [python, "-m", "covey_actor", "--learner", address, "--allow-env", module, "--quiet"]
        actor = stack.enter_context(_started(command, kept / "actor.log"))
        while learner.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("covey learner", limit_s)
            if actor.poll() not in (None, 0):
                raise FailedError(_last(kept / "actor.log"))
            time.sleep(0.2)
        if learner.returncode:
            raise FailedError(_last(kept / "learner.log"))
    return files[0].parent


def _environ() -> dict[str, str]:
    """Variables of all processes: one thread each, no windows, and this checkout's benchmarks importable."""
    return os.environ | {"OMP_NUM_THREADS": "1", "SDL_VIDEODRIVER": "dummy", "PYTHONPATH": str(ROOT), "COLUMNS": "300"}


@contextlib.contextmanager
def _started(command: Sequence[object], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("w") as file:
        process = subprocess.Popen(list(map(str, command)), stdout=file, stderr=file, cwd=ROOT, env=_environ())
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _ran(command: Sequence[object], limit_s: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=limit_s, check=False, cwd=ROOT, env=_environ()
    )


def _well(command: Sequence[object], limit_s: float) -> None:
    done = _ran(command, limit_s)
    if done.returncode:
        raise FailedError(_said(done))


def _said(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return next((line for line in lines if "error:" in line), (lines or [f"exit {done.returncode}"])[-1])[:400]


def _last(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "error" in line.lower()), (lines or ["nothing"])[-1])[:400]


def _why(exc: Exception, limit_s: float) -> str:
    return f"took longer than {limit_s:g} s" if isinstance(exc, subprocess.TimeoutExpired) else str(exc)
