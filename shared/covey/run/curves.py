"""Reads the curves that a run's learner wrote into its directory."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.config.section import nearest
from covey.errors import ConfigError
from covey.run.directory import RunDirectory
from covey.run.files import cannot_read

NOBODY = -1
"""In place of a member's id, where a value is nobody's."""


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One curve of a run; all arrays are (n,), in the order in which the values came.

    Attributes:
        name: Such as "fitness/best".
        env_steps: Env steps of the whole population at each value.
        values: The values.
        wall_s: Seconds of training at each value.
        member_ids: Whose each value is; `NOBODY` where it is not one member's.
    """

    name: str
    env_steps: NDArray[np.int64]
    values: NDArray[np.float64]
    wall_s: NDArray[np.float64]
    member_ids: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        last = f", last {self.values[-1]:g} at {self.env_steps[-1]:,} env steps" if len(self) else ""
        return f"Curve({self.name!r}, {len(self)} values{last})"


class Curves(Mapping[str, Curve]):
    """All curves of a run by name, in the order in which they began."""

    def __init__(self, curves: Mapping[str, Curve]) -> None:
        self._curves = dict(curves)

    def __getitem__(self, name: str) -> Curve:
        if name not in self._curves:
            raise ConfigError(f"curve {name!r}: the run has none of this name{nearest(name, list(self._curves))}")
        return self._curves[name]

    def __contains__(self, name: object) -> bool:
        return name in self._curves

    def __iter__(self) -> Iterator[str]:
        return iter(self._curves)

    def __len__(self) -> int:
        return len(self._curves)

    def __repr__(self) -> str:
        return f"Curves({', '.join(self._curves)})"

    def to_pandas(self) -> Any:
        """Return all values as a pandas.DataFrame with columns name, env_steps, value, wall_s, member_id.

        Raises:
            ImportError: pandas is not installed.
        """
        columns = {"env_steps": "env_steps", "value": "values", "wall_s": "wall_s", "member_id": "member_ids"}
        parts: dict[str, Any] = {"name": np.repeat(list(self), [len(c) for c in self.values()])}
        for column, attribute in columns.items():
            parts[column] = np.concatenate([getattr(c, attribute) for c in self.values()] or [np.zeros(0)])
        return import_module("pandas").DataFrame(parts)


def read_curves(run: RunDirectory) -> Curves:
    """Read all curves of a run; a run that has written none has none.

    Raises:
        StorageError: the file is damaged.
    """
    rows: dict[str, list[tuple[float, float, float, float]]] = {}
    try:
        with run.metrics.open(newline="") as file:
            for row in csv.DictReader(file):
                if row["value"] is None:  # a line that is still being written
                    continue
                member = row.get("member_id") or NOBODY
                point = (int(row["env_steps"]), float(row["value"]), float(row["wall_s"]), int(member))
                rows.setdefault(row["name"], []).append(point)
    except FileNotFoundError:
        return Curves({})
    except (OSError, KeyError, TypeError, ValueError) as exc:
        raise cannot_read(run.metrics, exc if isinstance(exc, OSError) else OSError(str(exc))) from exc
    curves = {}
    for name, points in rows.items():
        steps, values, wall_s, members = np.array(points).T
        curves[name] = Curve(name, steps.astype(np.int64), values, wall_s, members.astype(np.int64))
    return Curves(curves)
