"""Tests of `ObservationBounds`: observed numbers beyond the bounds of their space are found, and no others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from covey.envs.observation_bounds import ObservationBounds
from covey.rows import Active
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces, MultiBinary, MultiDiscrete, Space

INF = np.inf


def bounds(space: Space, agents: int = 2) -> ObservationBounds:
    return ObservationBounds(EnvironmentSpaces.build([AgentSpec(f"a_{i}", space, Discrete(2)) for i in range(agents)]))


def observed(space: Space, value: Any, rows: int = 5) -> NDArray[Any]:
    """Rows of two agents, of which the second one observes `value` in the fourth row, and both the least elsewhere."""
    low = np.reshape(space.low, space.shape) if isinstance(space, Box) else getattr(space, "start", 0)
    values = np.empty((rows, 2, *space.shape), space.dtype)
    values[...] = np.maximum(low, -1)
    values[3, 1] = value
    return values


@pytest.mark.parametrize(
    ("space", "value", "count", "sentence"),
    [
        (Box("float32", (3,), (-1, -INF, -1), (1, INF, INF)), (1.5, 1e9, -2), 2, "1.5 at [0], expected -1 to 1"),
        (Box("float32", (1, 2), (0, 0), (INF, 1)), [[-0.25, 1]], 1, "-0.25 at [0, 0], expected 0 to inf"),
        (Box("float64", (), (0.1,), (0.2,)), 0.3, 1, "0.3, expected 0.1 to 0.2"),
        (Box("int64", (2,), (0, 0), (3, 3)), (4, 3), 1, "4 at [0], expected 0 to 3"),
        (Box("uint8", (2,), (0, 0), (1, 1)), (2, 200), 2, "2 at [0], expected 0 to 1"),
        (Discrete(3, start=5), 8, 1, "8, expected 5 to 7"),
        (MultiDiscrete((2, 3)), (1, -1), 1, "-1 at [1], expected 0 to 2"),
        (MultiBinary(3), (0, 2, 1), 1, "2 at [1], expected 0 to 1"),
    ],
)
def test_every_kind_of_space(space: Space, value: Any, count: int, sentence: str) -> None:
    found = bounds(space).outside(0, observed(space, value), np.ones((5, 2), np.uint8))
    assert found is not None
    values, outside = found
    assert np.argwhere(outside)[:, :2].tolist() == [[3, 1]] * count
    number = int(np.argwhere(outside)[0, 2])
    said = bounds(space).sentence(0, 1, number, float(values[3, 1, number]))
    assert said == f"observation of agent 'a_1' is {sentence} as its observation space says"


@pytest.mark.parametrize(
    ("space", "value"),
    [
        (Box("float32", (2,), (-INF, -1), (INF, 1)), (1e30, 1)),
        (Box("float32", (2,), (-1, -1), (1, 1)), (1 + 2e-7, -1 - 2e-7)),
        (Box("float32", (1,), (0.1,), (0.7,)), (0.7,)),
        (Box("float32", (1,), (0,), (1e6,)), (1e6 + 1,)),
        (Box("int8", (2,), (-128, 0), (127, 3)), (127, 3)),
        (Discrete(3, start=5), 7),
        (MultiBinary(3), (1, 1, 1)),
    ],
)
def test_what_is_within_or_off_by_rounding_alone(space: Space, value: Any) -> None:
    assert bounds(space).outside(0, observed(space, value), np.ones((5, 2), np.uint8)) is None


@pytest.mark.parametrize(
    "space",
    [
        Box("uint8", (84, 84, 4), (0,) * 28224, (255,) * 28224),
        Box("float32", (18,), (-INF,) * 18, (INF,) * 18),
        Box("bool", (2,), (0, 0), (1, 1)),
        Box("int64", (1,), (float(np.iinfo(np.int64).min),), (float(np.iinfo(np.int64).max),)),
    ],
)
def test_spaces_that_nothing_can_be_outside_of_are_not_compared_at_all(space: Box) -> None:
    assert bounds(space).low == bounds(space).high == [None]


def test_agents_that_are_not_there_show_zeros_which_mean_nothing() -> None:
    space = Box("float32", (1,), (1.0,), (2.0,))
    values, active = np.ones((3, 2, 1), np.float32), np.full((3, 2), Active.CHOSE, np.uint8)
    values[1, 0], active[1, 0] = 0, Active.ABSENT
    assert bounds(space).outside(0, values, active) is None
    active[1, 0] = Active.FORCED
    assert bounds(space).outside(0, values, active) is not None


@given(rows=st.integers(1, 300), width=st.integers(1, 40), row=st.integers(0, 299), number=st.integers(0, 39))
def test_however_many_rows_there_are_the_one_outside_is_found(rows: int, width: int, row: int, number: int) -> None:
    space = Box("float32", (width,), (-1.0,) * width, (1.0,) * width)
    values = np.zeros((rows, 2, width), np.float32)
    at = row % rows, row % 2, number % width
    values[at] = 2 if row % 3 else -2
    found = bounds(space).outside(0, values, np.ones((rows, 2), np.uint8))
    assert found is not None and np.argwhere(found[1]).tolist() == [list(at)]
