"""Reads a run into the JSON object that the browser page draws: summary, members, lineage, curves, configuration."""

from __future__ import annotations

import base64
import contextlib
import io
import math
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from covey.errors import CoveyError
from covey.experiments.levels import read_levels
from covey.run.curves import Curve, Curves, read_curves
from covey.run.directory import RunDirectory
from covey.run.files import read_json
from covey.run.reports import ENDED
from covey.run.summary import RunSummary, summarise
from covey.scripting.run import Run

MOST_POINTS = 400
"""Points of a curve that are shown; of more, some are left out evenly, the last never."""

SHOWN = (
    "train/",
    "fitness/",
    "evolution/",
    "learn/",
    "hp/",
    "size/",
    "system/env_steps_per_s",
    "system/gauge/rss_bytes",
)
"""Beginnings of the curves that are shown, besides the fitness of each place."""

MOST_GIF_BYTES = 1_000_000


def content(path: Path, *, picture: bool) -> dict[str, Any]:
    """Read what is shown of a run; what cannot be read is named under "missing".

    Args:
        path: The run's directory.
        picture: Whether an episode of its best policy is played and filmed, where the environment draws.

    Returns:
        "name", "summary", "members", "lineage", "actors", "curves" (by name "x", "y"), "axis_members" (by how many
        the env steps of an axis are divided), "config" by dotted key, "levels", "result", "picture", "missing".
    """
    run, summary, missing = Run(path), summarise(path), list[str]()
    if summary.fault is not None:
        missing.append(summary.fault)

    def read(what: str, get: Any, otherwise: Any) -> Any:
        try:
            return get()
        except (CoveyError, OSError, ValueError, KeyError, TypeError) as exc:
            missing.append(f"{what}: {exc}")
            return otherwise

    curves: Curves = read("curves", lambda: read_curves(RunDirectory(path)), Curves({}))
    return {
        "name": run.name,
        "path": str(path),
        "summary": _finite(summary.to_json()),
        "ended": summary.state in ENDED,
        "members": _finite(read("members", lambda: run.members, [])),
        "lineage": _finite(read("lineage", lambda: run.lineage, [])),
        "actors": _finite(read("actors", lambda: read_json(path / "actors.json")["actors"], [])),
        "curves": {name: shown(curve) for name, curve in curves.items() if _is_shown(name)},
        "axis_members": max(1, summary.members or 1),
        "config": _finite(dict(summary.settings)),
        "levels": read("levels", lambda: levels_of(run), []),
        "result": _finite(read("result", lambda: run.result, None)),
        "picture": read("picture", lambda: film(run), None) if picture else None,
        "missing": missing,
    }


def shown(curve: Curve) -> dict[str, list[Any]]:
    """A curve's env steps and values, thinned; a value that is no number is a gap."""
    keep = np.unique(np.linspace(0, len(curve) - 1, min(len(curve), MOST_POINTS)).round().astype(int))
    values = [float(f"{v:.6g}") if math.isfinite(v) else None for v in curve.values[keep]]
    return {"x": curve.env_steps[keep].tolist(), "y": values}


def levels_of(run: Run) -> list[dict[str, Any]]:
    """What policies that were not learned score in the run's task, where it is known."""
    environment = run.config.environment
    for task in read_levels():
        if task.is_of(environment.name, environment.evaluation_config):
            return [{"name": level.name, "score": level.score, "how": level.how} for level in task.levels]
    return []


def film(run: Run) -> str | None:
    """An episode of the best policy as a picture in a data URI; None where the environment does not draw."""
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(CoveyError, ImportError):
        with contextlib.redirect_stdout(io.StringIO()):  # the line about the file, which nobody will see
            data = run.render(Path(folder) / "best.gif").read_bytes()
        if len(data) <= MOST_GIF_BYTES:
            return "data:image/gif;base64," + base64.b64encode(data).decode()
    return None


def differing(summaries: Iterable[RunSummary]) -> list[str]:
    """Keys of the configuration in which runs differ."""
    several = [s.settings for s in summaries]
    keys = sorted({key for settings in several for key in settings})
    return [key for key in keys if len({repr(settings.get(key)) for settings in several}) > 1]


def _is_shown(name: str) -> bool:
    return name.startswith(SHOWN) or (name.startswith("place_") and name.endswith("/fitness"))


def _finite(value: Any) -> Any:
    """A JSON value in which what no browser reads, NaN and infinities, is null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value
