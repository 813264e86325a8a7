"""Stands in for the package `wandb` in tests: takes the calls that covey's curves make, and writes them to a file.

The real package is optional and brings others that have no final release, so no environment of covey's has it. This one
has the few functions that `covey_server.curves.services` calls, with those keywords and no others. It refuses what
wandb 0.31.0 refuses, with which it was compared: an identifier with one of `: ; , # ? / '` in it, and calls after
`finish`.
Put it in place with `monkeypatch.setitem(sys.modules, "wandb", recorded_wandb)`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FORBIDDEN_IN_ID = ":;,#?/'"


class Settings:
    """What a run prints; `console="off"` leaves the standard streams of the process alone."""

    def __init__(self, *, console: str) -> None:
        if console not in ("off", "auto", "redirect", "wrap"):
            raise ValueError(f"console: expected off, auto, redirect or wrap, got {console!r}")
        self.console = console


class Artifact:
    """Files that a run leaves."""

    def __init__(self, name: str, *, type: str, metadata: Mapping[str, Any]) -> None:
        self.told = {"name": name, "type": type, "metadata": dict(metadata)}
        self.files: list[str] = []

    def add_dir(self, path: str) -> None:
        """Add the files of a folder."""
        self.files += sorted(p.name for p in Path(path).iterdir())


class Summary:
    """The summary of a W&B run: single values that stand for the whole run."""

    def __init__(self, run: "Run") -> None:
        self._run = run

    def update(self, values: Mapping[str, Any]) -> None:
        """Set some of it."""
        self._run.record("summary", dict(values))


class Run:
    """One start of a run; every call becomes a line of `DIR/wandb/ID.jsonl`, behind those of earlier starts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._finished = False
        self.id = path.stem
        self.summary = Summary(self)

    def define_metric(self, name: str, *, step_metric: str) -> None:
        """Draw the metrics of this name over another one."""
        self.record("define_metric", {"name": name, "step_metric": step_metric})

    def log(self, data: dict[str, float]) -> None:
        """Take some metrics of one moment."""
        self.record("log", data)

    def log_artifact(self, artifact: Artifact) -> None:
        """Keep files with the run."""
        self.record("log_artifact", {**artifact.told, "files": artifact.files})

    def finish(self) -> None:
        """End the run; nothing may be logged after it."""
        self.record("finish", {})
        self._finished = True

    def record(self, call: str, data: dict[str, Any]) -> None:
        """Write a call down."""
        if self._finished:
            raise RuntimeError(f"run is finished: {call} came after it")
        with self._path.open("a") as file:
            file.write(json.dumps({"call": call, **data}) + "\n")


def init(
    *,
    project: str,
    entity: str | None,
    group: str | None,
    name: str,
    id: str,
    tags: Sequence[str],
    config: dict[str, Any],
    resume: str,
    dir: Path,
    settings: Settings,
) -> Run:
    """Start a run, or go on with the one of this `id`."""
    if any(character in id for character in FORBIDDEN_IN_ID):
        raise ValueError(f"Run ID cannot contain\nthe characters: {FORBIDDEN_IN_ID}")
    folder = Path(dir) / "wandb"
    folder.mkdir(exist_ok=True)
    run = Run(folder / f"{id}.jsonl")
    about = {"project": project, "entity": entity, "group": group, "name": name, "tags": list(tags), "config": config}
    run.record("init", {**about, "resume": resume, "console": settings.console})
    return run


def calls(run: Path) -> list[dict[str, Any]]:
    """All calls for the run of this directory, in order: the name of the function is under `call`."""
    (path,) = (run / "wandb").glob("*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]
