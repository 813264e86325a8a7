"""Checks every number in the decompressed timesteps that an actor sent.

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
from covey.rows import MAX_FLOAT32, MAX_SAMPLE_UNITS, STATE, Active, Columns, RowKind, leaf_columns
from covey.spaces import (
    Box,
    Discrete,
    EnvironmentSpaces,
    Group,
    LeafSpace,
    MultiDiscrete,
    action_bounds,
    choices,
    masked_choices,
)
from covey.wire.limits import MAX_REWARD, MAX_SUMMED_REWARDS
from covey_server.experience.stream import Stream

_HAS_ACTION = np.zeros(256, bool)
"""Kinds of rows, by value, that hold actions which agents took; other rows hold zeros for agents that are to act."""
_HAS_ACTION[[RowKind.STEP, RowKind.LEAD_IN]] = True
"""Row kinds whose actions were made."""


def check_values(columns: Columns, spaces: EnvironmentSpaces, unclipped: bool) -> None:
    """Check that an actor's flags are in range, numbers finite, and actions within their spaces and legal.

    Args:
        columns: Columns of a fragment whose row kinds were checked.
        spaces: The run's spaces.
        unclipped: Whether Box actions may lie outside of their bounds, as samples of a Gaussian do before they are
            clipped.

    Raises:
        FragmentError: with reason "flags", "not_finite", "action_range" or "mask".
    """
    kind = np.asarray(columns["kind"], np.uint8)
    if spaces.state is not None:
        _check_observed(STATE, columns[STATE])
    for group in spaces.groups:
        name = group.group_id
        for flag, most in (("active", 2), ("terminated", 1), ("truncated", 1)):
            if (worst := int(columns[f"{name}/{flag}"].max())) > most:
                raise FragmentError("flags", f"{name}/{flag}: {worst}, expected 0 to {most}")
        observed = leaf_columns(name, "observation", group.observation)
        acted = leaf_columns(name, "action", group.action)
        for column, _ in observed:
            _check_observed(column, columns[column])
        _check_rewards(f"{name}/reward", columns[f"{name}/reward"], columns[f"{name}/age"])
        for column, _ in acted:
            _check_truth(column, columns[column])
        for column, space in acted:
            # The quick test holds all numbers at once against a range that is legal for each of them.
            action = columns[column]
            limits = _action_limits(space, unclipped)
            lowest, highest = _finite_range(column, action)
            if not (lowest >= limits.safe_low and highest <= limits.safe_high):
                # Zeros of rows and agents without an action may lie outside of the space: look only at actions taken.
                taken = (np.asarray(columns[f"{name}/active"], np.uint8) > 0) & _HAS_ACTION[kind][:, None]
                chosen: NDArray[Any] = action[taken]
                if not ((chosen >= limits.low) & (chosen <= limits.high)).all():
                    raise FragmentError(
                        "action_range", f"{column}: {chosen.min()} to {chosen.max()}, expected within {space}"[:300]
                    )
        if group.masked:
            _check_masks(columns, group, kind)


def _check_observed(name: str, values: NDArray[Any]) -> None:
    """Check that what networks may read are numbers that float32 holds, or truth values.

    Raises:
        FragmentError: with reason "not_finite" or "flags".
    """
    if values.dtype.kind == "f" and values.size:
        lowest, highest = _finite_range(name, values)
        if max(-lowest, highest) > MAX_FLOAT32:  # which networks would read as infinite
            raise FragmentError("not_finite", f"{name}: {lowest:g} to {highest:g}, expected numbers that float32 holds")
    _check_truth(name, values)


def _check_truth(name: str, values: NDArray[Any]) -> None:
    """Check that truth values are 0 or 1.

    Raises:
        FragmentError: with reason "flags".
    """
    # numpy reads truth values as raw bytes, and what a byte other than 0 or 1 counts as is undefined.
    if values.dtype == bool and values.size and (worst := int(values.view(np.uint8).max())) > 1:
        raise FragmentError("flags", f"{name}: truth value {worst}, expected 0 or 1")


def _check_rewards(name: str, rewards: NDArray[Any], ages: NDArray[Any]) -> None:
    """Check that rewards are finite and not too large to learn from; in a lead-in row they are sums over its age.

    Raises:
        FragmentError: with reason "not_finite".
    """
    largest = max(map(abs, _finite_range(name, rewards)))
    if largest <= MAX_REWARD:
        return
    # Sums of 32-bit numbers are rounded up to the next one.
    limits = MAX_REWARD * np.clip(ages, 1, MAX_SUMMED_REWARDS).astype(np.float64) * (1 + 1e-6)
    if (np.abs(rewards.astype(np.float64)) > limits).any():
        raise FragmentError("not_finite", f"{name}: {largest:g}, expected at most {MAX_REWARD:g} an env step")


def _check_masks(columns: Columns, group: Group, kind: NDArray[np.uint8]) -> None:
    """Check that action masks are 0 or 1, leave each choice a legal value, and allow the actions taken.

    Where the environment forces an action, masks are not looked at. Actions were checked to be within their space
    before.

    Raises:
        FragmentError: with reason "mask".
    """
    name = group.group_id
    mask = np.asarray(columns[f"{name}/action_mask"], np.uint8)
    if (worst := int(mask.max())) > 1:
        raise FragmentError("mask", f"{name}/action_mask: {worst}, expected 0 or 1")
    # A MultiDiscrete action has one mask, in which its choices lie side by side; `starts` is where each begins.
    masked = masked_choices(group.action)
    values = tuple(n for n, _ in masked)
    starts = np.cumsum((0, *values[:-1]))
    choosers = columns[f"{name}/active"] == Active.CHOSE
    legal = np.logical_or.reduceat(mask[choosers], starts, axis=-1)
    if not legal.all():
        raise FragmentError("mask", f"{name}/action_mask: none of {values} values is legal for an agent that acts")
    choosers &= _HAS_ACTION[kind][:, None]
    # (decisions, choices), each choice that was made; with its start added, its place in the mask.
    chosen = [
        np.asarray(columns[column], np.int64)[choosers].reshape(-1, len(choices(space)))
        for column, space in leaf_columns(name, "action", group.action)
        if isinstance(space, Discrete | MultiDiscrete)
    ]
    places = np.concatenate(chosen, axis=1) - np.array([first for _, first in masked]) + starts
    if not np.take_along_axis(mask[choosers], places, 1).all():
        raise FragmentError("mask", f"{name}/action: a choice that its action_mask does not allow")


def check_lead_in(columns: Columns, streams: Sequence[Stream], spaces: EnvironmentSpaces) -> None:
    """Check the ages in lead-in rows, which repeat earlier rows because an agent has not acted again since.

    An age is the number of env steps since the agent acted in that row.

    Each lead-in row has one age of at least 1, shared by the agents whose decision is open; ages decrease from row to
    row; an agent has at most one open decision; all other rows have age 0.

    Raises:
        FragmentError: with reason "flags".
    """
    ages_by_group = [columns[f"{g.group_id}/age"] for g in spaces.groups]
    has_lead_in = any(s.lead_in_rows for s in streams)
    if not has_lead_in and not any(a.any() for a in ages_by_group):
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
        row_age = ages.max(axis=1, keepdims=True)
        if (
            not row_age.all()
            or (np.diff(row_age[:, 0]) >= 0).any()
            or ((ages > 0) & (ages != row_age)).any()
            or ((ages > 0).sum(axis=0) > 1).any()
            or ((ages > 0) & (active[rows] == 0)).any()
        ):
            raise FragmentError(
                "flags",
                f"slot {s.slot}: lead-in rows with ages {ages.tolist()}"[:400] + ", expected one age of at least 1 in "
                "each row, decreasing from row to row, and only for agents that acted in it, each once",
            )


def _finite_range(name: str, values: NDArray[np.generic]) -> tuple[float, float]:
    """Return the lowest and highest of an array's numbers, after checking that all of them are finite.

    Raises:
        FragmentError: with reason "not_finite".
    """
    lowest, highest = float(values.min()), float(values.max())
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        count = np.count_nonzero(~np.isfinite(values))
        raise FragmentError("not_finite", f"{name}: {count} of {values.size} numbers are not finite")
    return lowest, highest


class _Limits(NamedTuple):
    """Lowest and highest legal action, arrays of the space's shape, and a range that is legal in all their numbers."""

    low: NDArray[Any]
    high: NDArray[Any]
    safe_low: float
    safe_high: float


@lru_cache
def _action_limits(space: LeafSpace, unclipped: bool) -> _Limits:
    """Return the limits of legal actions of a space, those of a Box widened by a tolerance for rounding."""
    if isinstance(space, Box):
        if unclipped:
            # Samples are limited to MAX_SAMPLE_UNITS in units of the range mapped to [-1, 1].
            low, high = action_bounds(space)
            middle, half_range = (high + low) / 2, (high - low) / 2 * MAX_SAMPLE_UNITS
            bounds = middle - half_range, middle + half_range
        else:
            bounds = np.asarray(space.low), np.asarray(space.high)
        low, high = (b.reshape(space.shape) for b in bounds)
        tolerance = [1e-5 * np.where(np.isfinite(b), np.maximum(np.abs(b), 1), 0) for b in (low, high)]
        low, high = low - tolerance[0], high + tolerance[1]
    else:
        values = np.asarray(choices(space)).reshape(space.shape)
        first = space.start if isinstance(space, Discrete | MultiDiscrete) else 0
        low = np.broadcast_to(np.reshape(first, np.shape(first) and space.shape), values.shape)
        high = low + values - 1
    return _Limits(low, high, float(low.max()), float(high.min()))
