"""Real covey processes for tests: start them, ask them, kill them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
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


def covey(*arguments: object, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "covey", *map(str, arguments)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def covey_json(*arguments: object, timeout_s: float = 120.0) -> dict[str, Any]:
    """Run a command that must succeed; what it answers as JSON: all of its output, or the last line."""
    done = covey(*arguments, timeout_s=timeout_s)
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
        self._signal(signal.SIGKILL)
        self.popen.wait()

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

    def wait(self, timeout_s: float = 90.0) -> int:
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


def until(condition: Callable[[], Any], timeout_s: float = 60.0, what: str = "condition") -> Any:
    """Wait for something true, and return it."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.1)
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
    if sections.get("algorithm", {}).get("name") == "IPPO":
        config["algorithm"] = {"learn_step": 200, "lr": 0.003}
    for section, values in sections.items():
        config[section] = config.get(section, {}) | values
    path.write_text(yaml.safe_dump(config))
    return path


def newest_run(runs: Path) -> Path:
    """The run directory made last."""
    return max((p for p in runs.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime)
