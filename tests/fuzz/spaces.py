"""Environments' spaces of every kind, to be spoilt, and what everybody relies on who gets spaces."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from covey.rows import RowSchema
from covey.spaces import (
    AgentSpec,
    Box,
    DictSpace,
    Discrete,
    EnvironmentSpaces,
    LeafSpace,
    MultiBinary,
    MultiDiscrete,
    Space,
    TupleSpace,
    choices,
    leaves,
    mask_width,
)
from covey.wire.limits import MAX_NUMBERS


def _box(dtype: str, shape: tuple[int, ...], low: float, high: float) -> Box:
    width = int(np.prod(shape, dtype=int))
    return Box(dtype, shape, (low,) * width, (high,) * width)


ENVIRONMENTS = (
    EnvironmentSpaces.build(
        [
            AgentSpec("walker_0", _box("float32", (4,), -np.inf, np.inf), _box("float32", (2,), 1.0, 2.0)),
            AgentSpec("walker_1", _box("float32", (4,), -np.inf, np.inf), _box("float32", (2,), 1.0, 2.0)),
            AgentSpec("speaker_0", _box("float16", (3,), 0.0, 1.0), Discrete(3, start=5), masked=True),
        ]
    ),
    EnvironmentSpaces.build(
        [
            AgentSpec("seer_0", _box("uint8", (3, 2), 0, 255), MultiDiscrete((2, 3)), masked=True),
            AgentSpec("switch_0", _box("bool", (2,), 0, 1), MultiBinary(3)),
            AgentSpec("pusher_0", Discrete(4), _box("float64", (), -1.0, 1.0)),
            AgentSpec("chooser_0", MultiBinary(3), _box("bool", (2,), 0, 1)),
        ],
        asynchronous=True,
    ),
    EnvironmentSpaces.build(
        [
            AgentSpec(
                "rover_0",
                DictSpace(
                    (
                        ("image", _box("uint8", (3, 2), 0, 255)),
                        ("bag", TupleSpace((Discrete(4), MultiBinary(4, shape=(2, 2))))),
                        (
                            "clock",
                            DictSpace((("hand", MultiDiscrete((2, 5))), ("off", _box("bool", (), 0, 1)))),
                        ),
                    )
                ),
                DictSpace(
                    (
                        ("go", _box("float32", (2,), 1.0, 2.0)),
                        ("say", TupleSpace((Discrete(3, start=5), MultiDiscrete((2, 3, 2, 2), (2, 2), (1, 0, 4, -1))))),
                        ("lights", MultiBinary(2)),
                    )
                ),
                masked=True,
            ),
            AgentSpec(
                "base_0",
                TupleSpace((_box("float32", (4,), -np.inf, np.inf), _box("float16", (3,), 0.0, 1.0))),
                TupleSpace((_box("bool", (2,), 0, 1), Discrete(2))),
            ),
        ]
    ),
)


def check_spaces(spaces: EnvironmentSpaces) -> None:
    """What everybody who gets spaces relies on."""
    assert sorted(i for g in spaces.groups for i in g.agents) == list(range(len(spaces.agents)))
    assert sum(a.observation.width + a.action.width for a in spaces.agents) <= 2 * MAX_NUMBERS
    schema = RowSchema.of(spaces)
    assert len({c.name for c in schema.columns}) == len(schema.columns)
    for agent in spaces.agents:
        assert agent.agent_id.isprintable()
        check_space(agent.observation)
        check_space(agent.action)
        if agent.masked:
            assert mask_width(agent.action) >= 1


def first_values(space: LeafSpace) -> NDArray[np.int64]:
    """The least value of each choice of a discrete space."""
    start = space.start if isinstance(space, Discrete | MultiDiscrete) else 0
    return np.resize(np.array(start, np.int64), len(choices(space)))


def check_space(space: Space) -> None:
    """A space of which arrays can be made, and in which every number has a place."""
    names = [leaf.name for leaf in leaves(space)]
    assert len(set(names)) == len(names)
    for leaf in leaves(space):
        _check_leaf(leaf.space)
    assert sum(leaf.space.width for leaf in leaves(space)) == space.width


def _check_leaf(space: LeafSpace) -> None:
    assert np.zeros((1, *space.shape), space.dtype).size >= 1
    if isinstance(space, Box):
        assert len(space.low) == len(space.high) == space.width
        assert all(a <= b for a, b in zip(space.low[:100], space.high[:100], strict=True))
    if isinstance(space, Discrete):
        assert -(2**63) <= space.start <= space.start + space.n - 1 < 2**63
