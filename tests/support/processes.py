"""Real processes for tests: start them, ask them, kill them. All of them are gone when their block is left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]

ENVIRONMENT = os.environ | {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # Tests' environments are importable where `tests` is.
    "PYTHONPATH": str(ROOT),
    "COLUMNS": "200",
}

PATIENCE_S = 300.0
"""How long a test waits for what must come. It ends what hangs and measures nothing: a busy machine takes long."""


@contextlib.contextmanager
def started(
    command: Sequence[object], *, environ: Mapping[str, str] = ENVIRONMENT, **pipes: Any
) -> Iterator[subprocess.Popen[str]]:
    """A process that is gone, with all that it has started, when the block is left; `pipes` are those of Popen."""
    process = subprocess.Popen(list(map(str, command)), env=environ, text=True, start_new_session=True, **pipes)
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[Any]) -> None:
    """Kill a process that leads a session, and all that it has started; close its pipes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):  # what was written and not flushed has no reader any more
                pipe.close()


def covey(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    command = [sys.executable, "-m", "covey", *arguments]
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def covey_json(*arguments: object) -> dict[str, Any]:
    """Run a command that must succeed; what it answers as JSON: all of its output, or the last line."""
    done = covey(*arguments)
    assert done.returncode == 0, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    text = done.stdout.strip()
    result = json.loads(text if text.startswith("{\n") else text.splitlines()[-1])
    assert isinstance(result, dict)
    return result


class Process:
    """A covey process in the background; its output goes to a file, to be shown when a test fails.

    Args:
        log: That file.
        arguments: Of its command line.
        module: What Python runs.
        program: What runs instead of Python.
        environ: Variables on top of this process's.
    """

    def __init__(
        self,
        log: Path,
        *arguments: object,
        module: str = "covey",
        program: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.log = log
        command = [sys.executable, "-m", module] if program is None else [program]
        with log.open("ab") as file:
            self.popen = subprocess.Popen(
                [*command, *map(str, arguments)],
                env=ENVIRONMENT | dict(environ or {}),
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """As the kernel would: no goodbye, children included."""
        end(self.popen)

    def terminate(self) -> None:
        """SIGTERM."""
        self.popen.terminate()

    def freeze(self) -> None:
        """SIGSTOP, children included."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT, children included."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, number)

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Its exit code."""
        try:
            return self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout_s} s:\n{self.output()}") from None

    def output(self) -> str:
        """What it printed so far."""
        return self.log.read_text()


@contextlib.contextmanager
def processes() -> Iterator[Callable[..., Process]]:
    """Start processes that are gone when the block is left."""
    started: list[Process] = []

    def start(log: Path, *arguments: object, **how: Any) -> Process:
        process = Process(log, *arguments, **how)
        started.append(process)
        return process

    try:
        yield start
    finally:
        for process in started:
            process.kill()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def until(condition: Callable[[], Any], timeout_s: float = PATIENCE_S, what: str = "condition") -> Any:
    """Wait for something true, and return it. Set a time only where it is what the test is about."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {timeout_s} s")


def write_config(path: Path, **sections: dict[str, Any]) -> Path:
    """A small, quick run; sections given are merged into it."""
    config: dict[str, Any] = {
        "name": path.stem,
        "algorithm": {"name": "MATD3", "learn_step": 20, "batch_size": 32, "lr_actor": 0.003, "lr_critic": 0.003},
        "environment": {
            "name": "mpe2.simple_speaker_listener_v4",
            "num_envs": 4,
            "config": {"continuous_actions": True},
        },
        "network": {"latent_dim": 16, "encoder_config": {"hidden_size": [16]}, "head_config": {"hidden_size": [16]}},
        "training": {"max_steps": 1200, "evo_steps": 600, "pop_size": 4, "confirm_episodes": 4},
        "learner": {"heartbeat_interval_s": 1.0},
        "actors": {"local": 1},
        "logging": {"tensorboard": False},
    }
    if sections.get("algorithm", {}).get("name") in ("IPPO", "MAPPO"):
        config["algorithm"] = {"learn_step": 200, "lr": 0.003}
    if sections.get("algorithm", {}).get("name") in ("QMIX", "VDN"):
        config["algorithm"] = {"learn_step": 20, "batch_size": 32, "lr": 0.003}
    if sections.get("algorithm", {}).get("name") == "PQN":
        config["algorithm"] = {"learn_step": 200, "batch_size": 50, "lr": 0.003}
    for section, values in sections.items():
        config[section] = config.get(section, {}) | values
    path.write_text(yaml.safe_dump(config))
    return path


def newest_run(runs: Path) -> Path:
    """The run directory made last."""
    return max((p for p in runs.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime)
