"""Stands in for the package `wandb` in tests: takes the calls that covey's metrics make, and writes them to a file.

The real package is optional and brings others that have no final release, so no environment of covey's has it. This one
has the few functions that `covey_server.metrics` calls, with those keywords and no others. It refuses what wandb 0.31.0
refuses, with which it was compared: an identifier with one of `: ; , # ? / '` in it, and calls after `finish`.
Put it in place with `monkeypatch.setitem(sys.modules, "wandb", recorded_wandb)`.
"""

import json
from pathlib import Path
from typing import Any

FORBIDDEN_IN_ID = ":;,#?/'"


class Settings:
    """What a run prints; `console="off"` leaves the standard streams of the process alone."""

    def __init__(self, *, console: str) -> None:
        if console not in ("off", "auto", "redirect", "wrap"):
            raise ValueError(f"console: expected off, auto, redirect or wrap, got {console!r}")
        self.console = console


class Run:
    """One start of a run; every call becomes a line of `DIR/wandb/ID.jsonl`, behind those of earlier starts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._finished = False

    def define_metric(self, name: str, *, step_metric: str) -> None:
        """Draw the metrics of this name over another one."""
        self._record("define_metric", {"name": name, "step_metric": step_metric})

    def log(self, data: dict[str, float]) -> None:
        """Take some metrics of one moment."""
        self._record("log", data)

    def finish(self) -> None:
        """End the run; nothing may be logged after it."""
        self._record("finish", {})
        self._finished = True

    def _record(self, call: str, data: dict[str, Any]) -> None:
        if self._finished:
            raise RuntimeError(f"run is finished: {call} came after it")
        with self._path.open("a") as file:
            file.write(json.dumps({"call": call, **data}) + "\n")


def init(*, project: str, name: str, id: str, resume: str, dir: Path, settings: Settings) -> Run:
    """Start a run, or go on with the one of this `id`."""
    if any(character in id for character in FORBIDDEN_IN_ID):
        raise ValueError(f"Run ID cannot contain\nthe characters: {FORBIDDEN_IN_ID}")
    folder = Path(dir) / "wandb"
    folder.mkdir(exist_ok=True)
    run = Run(folder / f"{id}.jsonl")
    run._record("init", {"project": project, "name": name, "resume": resume, "console": settings.console})
    return run


def calls(run: Path) -> list[dict[str, Any]]:
    """All calls for the run of this directory, in order: the name of the function is under `call`."""
    (path,) = (run / "wandb").glob("*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]
