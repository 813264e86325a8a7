"""Spaces over the wire, and what is refused there."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.errors import SpaceError
from covey.spaces import (
    AgentSpec,
    Box,
    DictSpace,
    Discrete,
    EnvironmentSpaces,
    MultiBinary,
    MultiDiscrete,
    Space,
    TupleSpace,
)
from covey.v1 import environment_pb2
from covey.wire.limits import MAX_AGENTS, MAX_DEPTH
from covey.wire.messages import (
    groups_from_proto,
    groups_to_proto,
    space_from_proto,
    space_to_proto,
    spaces_from_proto,
    spaces_to_proto,
)
from covey.wire.spaces_json import space_from_json, space_to_json

FINITE = st.floats(-1e6, 1e6)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    shape = tuple(draw(st.lists(st.integers(1, 3), max_size=3)))
    size = math.prod(shape)
    low = tuple(draw(st.lists(FINITE, min_size=size, max_size=size)))
    high = tuple(draw(st.sampled_from((b, b + 1, math.inf))) for b in low)
    return Box(draw(st.sampled_from(("float32", "uint8", "int64"))), shape, low, high)


LEAVES = st.one_of(
    boxes(),
    st.builds(Discrete, st.integers(1, 1000), st.integers(-5, 5)),
    st.sampled_from((MultiDiscrete((2, 3)), MultiDiscrete((2, 3, 4, 5), (2, 2), (0, 1, 2, 3)), MultiBinary(4, (2, 2)))),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from(("a", "image", "x y")), inner, min_size=1).map(
            lambda entries: DictSpace(tuple(entries.items()))
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda entries: TupleSpace(tuple(entries))),
    ),
    max_leaves=6,
)


@given(TREES)
def test_spaces_survive_the_wire_and_files(space: Space) -> None:
    data = space_to_proto(space).SerializeToString()
    assert space_from_proto(environment_pb2.Space.FromString(data), "it") == space
    assert space_from_json(json.loads(json.dumps(space_to_json(space)))) == space


def named(name: str, space: environment_pb2.Space) -> environment_pb2.Space:
    return environment_pb2.Space(dict=environment_pb2.DictSpace(entries=[{"name": name, "space": space}]))  # type: ignore[list-item]


def test_trees_that_none_can_have_are_refused_by_the_name_of_the_part() -> None:
    leaf = box()
    deep = leaf
    for _ in range(MAX_DEPTH + 1):
        deep = named("a", deep)
    twice = environment_pb2.Space(
        dict=environment_pb2.DictSpace(
            entries=[
                environment_pb2.NamedSpace(name="a.b", space=leaf),
                environment_pb2.NamedSpace(name="a", space=named("b", leaf)),
            ]
        )
    )
    large = environment_pb2.Space(tuple=environment_pb2.TupleSpace(entries=[box(shape=[1 << 21])] * 3))
    many = environment_pb2.Space(tuple=environment_pb2.TupleSpace(entries=[leaf] * 257))
    for space, says in (
        (deep, "more than 8 levels"),
        (twice, "two entries have the dotted name 'a.b'"),
        (large, "more than 4194304 numbers"),
        (many, "256 arrays"),
        (named("", leaf), "expected a name"),
        (named("a\n", leaf), "expected a name"),
        (environment_pb2.Space(dict=environment_pb2.DictSpace()), "without entries"),
        (named("in", box(low=[2.0])), "agent 'a', in: a lower bound"),
        (named("in", environment_pb2.Space()), "no space is set"),
    ):
        with pytest.raises(SpaceError, match=says) as caught:
            space_from_proto(space, "action of agent 'a'")
        assert str(caught.value).startswith("action of agent 'a'")


@pytest.mark.parametrize(
    "space",
    [
        {"kind": "dict", "entries": {"a": 1}},
        {"kind": "dict", "entries": [["a"]]},
        {"kind": "tuple", "entries": [5]},
        {"kind": "multi_discrete", "nvec": [2, 3], "shape": [5]},
        {"kind": "multi_discrete", "nvec": [2, 3], "start": [5]},
        {"kind": "multi_discrete", "nvec": [2, 3], "start": [1 << 63, 0]},
        {"kind": "multi_binary", "n": 4, "shape": [-2, -2]},
    ],
)
def test_trees_in_files_that_are_none_are_refused(space: object) -> None:
    with pytest.raises(SpaceError):
        space_from_json(space)


def test_what_version_1_knows_is_written_as_version_1_writes_it() -> None:
    assert space_to_json(MultiDiscrete((2, 3))) == {"kind": "multi_discrete", "nvec": [2, 3]}
    assert space_to_json(MultiBinary(3)) == {"kind": "multi_binary", "n": 3}
    assert space_to_proto(MultiDiscrete((2, 3))).SerializeToString() == b"\x1a\x04\x0a\x02\x02\x03"


def test_equal_bounds_travel_as_one_number() -> None:
    image = Box("uint8", (84, 84, 3), (0.0,) * 21168, (255.0,) * 21168)
    assert len(space_to_proto(image).SerializeToString()) < 100
    assert space_from_proto(space_to_proto(image), "it") == image


def test_agents_and_groups_survive_the_wire() -> None:
    box = Box("float32", (2,), (-math.inf, 0.0), (math.inf, 1.0))
    groups = {"all": ["b", "a"]}
    spaces = EnvironmentSpaces.build([AgentSpec("a", box, Discrete(3)), AgentSpec("b", box, Discrete(3))], groups)
    assert spaces_from_proto(spaces_to_proto(spaces), groups_from_proto(groups_to_proto(groups))) == spaces
    assert groups_from_proto(groups_to_proto(None)) is None


def box(**changes: object) -> environment_pb2.Space:
    fields: dict[str, object] = {"dtype": "float32", "shape": [2], "low": [0.0], "high": [1.0]} | changes
    return environment_pb2.Space(box=environment_pb2.BoxSpace(**fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("space", "says"),
    [
        (environment_pb2.Space(), "no space is set"),
        (environment_pb2.Space(discrete=environment_pb2.DiscreteSpace(n=0)), "n=0"),
        (environment_pb2.Space(discrete=environment_pb2.DiscreteSpace(n=1 << 40)), "expected 1 to"),
        (box(dtype="object"), "dtype 'object'"),
        (box(dtype="float32, (999999999,)"), "dtype"),
        (box(shape=[1] * 9), "at most 8 dimensions"),
        (box(shape=[1 << 31, 1 << 31]), "shape"),
        (box(shape=[0]), "shape"),
        (box(low=[0.0, 0.0, 0.0]), "3 bounds, expected one or 2"),
        (box(low=[]), "0 bounds"),
        (box(low=[math.nan]), "not a number"),
        (box(low=[2.0]), "above its upper bound"),
    ],
)
def test_spaces_that_none_can_have_are_refused(space: environment_pb2.Space, says: str) -> None:
    with pytest.raises(SpaceError, match=says) as caught:
        space_from_proto(space, "action of agent 'a'")
    assert str(caught.value).startswith("action of agent 'a'")


def test_too_many_agents_and_long_names_are_refused() -> None:
    agent = environment_pb2.AgentSpace(agent_id="a", observation=box(), action=box())
    with pytest.raises(SpaceError, match="1025 agents"):
        spaces_from_proto(environment_pb2.EnvironmentSpaces(agents=[agent] * (MAX_AGENTS + 1)))
    with pytest.raises(SpaceError, match="0 agents"):
        spaces_from_proto(environment_pb2.EnvironmentSpaces())
    with pytest.raises(SpaceError, match="no id twice"):
        spaces_from_proto(environment_pb2.EnvironmentSpaces(agents=[agent, agent]))
    with pytest.raises(SpaceError, match="agent id"):
        spaces_from_proto(
            environment_pb2.EnvironmentSpaces(
                agents=[environment_pb2.AgentSpace(agent_id="a" * 200, observation=box(), action=box())]
            )
        )


def test_all_kinds_of_space_masks_and_rhythms_survive_the_wire() -> None:
    agents = [
        AgentSpec("a_0", Discrete(3, start=-1), MultiDiscrete((2, 3)), masked=True),
        AgentSpec("b_0", MultiBinary(4), MultiBinary(2)),
        AgentSpec("c_0", MultiDiscrete((5,)), Discrete(2), masked=True),
    ]
    spaces = EnvironmentSpaces.build(agents, asynchronous=True)
    assert spaces_from_proto(spaces_to_proto(spaces)) == spaces


@pytest.mark.parametrize(
    "space",
    [
        environment_pb2.Space(multi_discrete=environment_pb2.MultiDiscreteSpace()),
        environment_pb2.Space(multi_discrete=environment_pb2.MultiDiscreteSpace(nvec=[2, 0])),
        environment_pb2.Space(multi_discrete=environment_pb2.MultiDiscreteSpace(nvec=[1 << 20, 1])),
        environment_pb2.Space(multi_binary=environment_pb2.MultiBinarySpace()),
    ],
)
def test_choices_that_are_none_or_too_many_are_refused(space: environment_pb2.Space) -> None:
    with pytest.raises(SpaceError, match="expected"):
        space_from_proto(space, "action of agent 'a'")


def test_masks_of_actions_that_are_no_choices_are_refused() -> None:
    agent = environment_pb2.AgentSpace(agent_id="a", observation=box(), action=box(), masked=True)
    with pytest.raises(SpaceError, match="action mask"):
        spaces_from_proto(environment_pb2.EnvironmentSpaces(agents=[agent]))
