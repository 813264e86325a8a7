"""What the decompressed rows of a fragment hold: every check of their numbers.

Dims: R rows of the fragment, N agents of a group.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from covey.errors import FragmentError
from covey.rows import MAX_SAMPLE_UNITS, Active, Columns, RowKind
from covey.spaces import Box, Discrete, EnvironmentSpaces, Group, Space, action_bounds, choices
from covey_server.experience.stream import Stream

_DECIDED = np.zeros(256, bool)
_DECIDED[[RowKind.STEP, RowKind.LEAD_IN]] = True
"""Row kinds whose actions were made."""


def check_values(columns: Columns, spaces: EnvironmentSpaces, unclipped: bool) -> None:
    """Flags, finite numbers, actions within their spaces, and none that was not legal.

    Args:
        columns: Of a fragment whose row kinds have been checked.
        spaces: Of the run.
        unclipped: Whether Box actions may lie outside of their bounds.

    Raises:
        FragmentError: ("flags", "not_finite", "action_range", "mask").
    """
    kind = np.asarray(columns["kind"], np.uint8)
    for group in spaces.groups:
        name = group.group_id
        for flag, most in (("active", 2), ("terminated", 1), ("truncated", 1)):
            if (worst := int(columns[f"{name}/{flag}"].max())) > most:
                raise FragmentError("flags", f"{name}/{flag}: {worst}, expected 0 to {most}")
        for column in ("observation", "reward"):
            values = columns[f"{name}/{column}"]
            if values.dtype.kind == "f" and values.size:
                _finite_extent(f"{name}/{column}", values)
        for column in ("observation", "action"):
            # Of other bytes than 0 and 1 nobody knows what they count as.
            values = columns[f"{name}/{column}"]
            if values.dtype == bool and (worst := int(values.view(np.uint8).max())) > 1:
                raise FragmentError("flags", f"{name}/{column}: truth value {worst}, expected 0 or 1")
        action = columns[f"{name}/action"]
        limits = _action_limits(group.action, unclipped)
        lowest, highest = _finite_extent(f"{name}/action", action)
        if not (lowest >= limits.safe_low and highest <= limits.safe_high):
            # Rows without an action, and agents that are not there, hold zeros, which may lie outside.
            acted = (np.asarray(columns[f"{name}/active"], np.uint8) > 0) & _DECIDED[kind][:, None]
            chosen: NDArray[Any] = action[acted]
            if not ((chosen >= limits.low) & (chosen <= limits.high)).all():
                raise FragmentError(
                    "action_range",
                    f"{name}/action: {chosen.min()} to {chosen.max()}, expected within {group.action}"[:300],
                )
        if group.masked:
            _check_masks(columns, group, kind)


def _check_masks(columns: Columns, group: Group, kind: NDArray[np.uint8]) -> None:
    """Masks are 0 or 1, leave every choice something, and were kept to; where the environment forces, they say nothing.

    Actions are within their space here.
    """
    name = group.group_id
    mask = np.asarray(columns[f"{name}/action_mask"], np.uint8)
    if (worst := int(mask.max())) > 1:
        raise FragmentError("mask", f"{name}/action_mask: {worst}, expected 0 or 1")
    values = choices(group.action)
    starts = np.cumsum((0, *values[:-1]))
    acts = columns[f"{name}/active"] == Active.CHOSE
    legal = np.logical_or.reduceat(mask[acts], starts, axis=-1)
    if not legal.all():
        raise FragmentError("mask", f"{name}/action_mask: none of {values} values is legal for an agent that acts")
    acts &= _DECIDED[kind][:, None]
    # (decisions, choices): where each choice that was made stands in the mask.
    chosen = np.asarray(columns[f"{name}/action"], np.int64)[acts].reshape(-1, len(values))
    first = group.action.start if isinstance(group.action, Discrete) else 0
    if not np.take_along_axis(mask[acts], chosen - first + starts, 1).all():
        raise FragmentError("mask", f"{name}/action: a choice that its action_mask does not allow")


def check_lead_in(columns: Columns, streams: Sequence[Stream], spaces: EnvironmentSpaces) -> None:
    """Ages: of decisions in lead-in rows alone, of equal age in one row, younger from row to row, one of an agent.

    Raises:
        FragmentError: ("flags").
    """
    ages_by_group = [columns[f"{g.group_id}/age"] for g in spaces.groups]
    carried = any(s.lead_in_rows for s in streams)
    if not carried and not any(a.any() for a in ages_by_group):
        return
    age = np.concatenate(ages_by_group, axis=1).astype(np.int64)
    if age[columns["kind"] != RowKind.LEAD_IN].any():
        raise FragmentError("flags", "age: set outside of lead-in rows, expected 0")
    active = np.concatenate([columns[f"{g.group_id}/active"] for g in spaces.groups], axis=1)
    for s in streams:
        if not s.lead_in_rows:
            continue
        rows = slice(s.first_row, s.first_row + s.lead_in_rows)
        ages = age[rows]
        own = ages.max(axis=1, keepdims=True)
        if (
            not own.all()
            or (np.diff(own[:, 0]) >= 0).any()
            or ((ages > 0) & (ages != own)).any()
            or ((ages > 0).sum(axis=0) > 1).any()
            or ((ages > 0) & (active[rows] == 0)).any()
        ):
            raise FragmentError(
                "flags",
                f"slot {s.slot}: lead-in rows with ages {ages.tolist()}"[:400] + ", expected one age of at least 1 in "
                "each row, decreasing from row to row, and only for agents that acted in it, each once",
            )


def _finite_extent(name: str, values: NDArray[np.generic]) -> tuple[float, float]:
    """Lowest and highest number; they are finite only if all numbers are.

    Raises:
        FragmentError: ("not_finite").
    """
    lowest, highest = float(values.min()), float(values.max())
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        count = np.count_nonzero(~np.isfinite(values))
        raise FragmentError("not_finite", f"{name}: {count} of {values.size} numbers are not")
    return lowest, highest


class _Limits(NamedTuple):
    """Lowest and highest legal action, arrays of the space's shape; and what lies within all of them."""

    low: NDArray[Any]
    high: NDArray[Any]
    safe_low: float
    safe_high: float


@lru_cache
def _action_limits(space: Space, unclipped: bool) -> _Limits:
    """What actions are legal; a Box has room for the rounding of its bounds in the actor's arithmetic."""
    if isinstance(space, Box):
        if unclipped:
            low, high = action_bounds(space)
            middle, reach = (high + low) / 2, (high - low) / 2 * MAX_SAMPLE_UNITS
            bounds = middle - reach, middle + reach
        else:
            bounds = np.asarray(space.low), np.asarray(space.high)
        low, high = (b.reshape(space.shape) for b in bounds)
        room = [1e-5 * np.where(np.isfinite(b), np.maximum(np.abs(b), 1), 0) for b in (low, high)]
        low, high = low - room[0], high + room[1]
    else:
        values = np.asarray(choices(space)).reshape(space.shape)
        low = np.full_like(values, space.start if isinstance(space, Discrete) else 0)
        high = low + values - 1
    return _Limits(low, high, float(low.max()), float(high.min()))
