"""Spaces that are trees: their leaves, widths and arrays; and Gymnasium's spaces as covey's."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from covey.errors import SpaceError
from covey.spaces import (
    Box,
    DictSpace,
    Discrete,
    Leaf,
    MultiBinary,
    MultiDiscrete,
    TupleSpace,
    at_path,
    choices,
    from_gymnasium,
    leaf_arrays,
    leaves,
    mask_width,
    nested,
    observation_from_gymnasium,
)

LEAF = spaces.Box(0, 1, (2,), np.float32)
IMAGE = Box("uint8", (2, 3), (0.0,) * 6, (255.0,) * 6)
TREE = DictSpace(
    (
        ("image", IMAGE),
        ("inventory", TupleSpace((Discrete(4), MultiBinary(3)))),
        ("clock", DictSpace((("hand", MultiDiscrete((2, 5))),))),
    )
)


def test_leaves_have_dotted_names_and_come_in_order() -> None:
    assert leaves(TREE) == (
        Leaf("image", IMAGE, ("image",)),
        Leaf("inventory.0", Discrete(4), ("inventory", 0)),
        Leaf("inventory.1", MultiBinary(3), ("inventory", 1)),
        Leaf("clock.hand", MultiDiscrete((2, 5)), ("clock", "hand")),
    )
    assert leaves(IMAGE) == (Leaf("", IMAGE),)


def test_a_tree_is_as_wide_as_its_leaves() -> None:
    assert TREE.width == 6 + 4 + 3 + 7
    assert TREE.entries[1][1].width == 7


def test_values_of_a_tree_lie_in_one_array_with_a_field_a_leaf() -> None:
    values = np.zeros((5, 2), TREE.dtype)
    image, first, second, hand = leaf_arrays(TREE, values)
    assert image.shape == (5, 2, 2, 3)
    assert image.dtype == np.uint8
    assert (first.shape, second.shape, hand.shape) == ((5, 2), (5, 2, 3), (5, 2, 2))
    second[3, 1] = 1
    given = nested(TREE, values[3, 1])
    assert list(given) == ["image", "inventory", "clock"]
    assert given["inventory"][1].tolist() == [1, 1, 1]
    assert all(np.shares_memory(leaf, values) for leaf in leaf_arrays(TREE, values))
    assert at_path(given, ("inventory", 1)) is given["inventory"][1]
    plain = np.zeros((5, 2, 2, 3), np.uint8)
    assert leaf_arrays(IMAGE, plain) == (plain,)
    assert nested(IMAGE, plain) is plain


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (
            gymnasium.spaces.Tuple((gymnasium.spaces.Discrete(3, start=1), gymnasium.spaces.MultiBinary([2, 2]))),
            TupleSpace((Discrete(3, 1), MultiBinary(4, (2, 2)))),
        ),
        (
            gymnasium.spaces.MultiDiscrete(np.array([[2, 3], [4, 5]]), start=np.array([[0, 1], [2, 3]])),
            MultiDiscrete((2, 3, 4, 5), (2, 2), (0, 1, 2, 3)),
        ),
        (
            gymnasium.spaces.Dict({"a": gymnasium.spaces.Dict({"b": gymnasium.spaces.Discrete(2)})}),
            DictSpace((("a", DictSpace((("b", Discrete(2)),))),)),
        ),
    ],
)
def test_gymnasiums_spaces_of_any_form_are_taken(space: gymnasium.Space, expected: object) -> None:  # type: ignore[type-arg]
    converted = from_gymnasium(space, "observation of agent 'a_0'")
    assert converted == expected
    sample = space.sample()
    for leaf in leaves(converted):
        assert np.shape(at_path(sample, leaf.path)) == leaf.space.shape


def test_a_choice_of_one_dimension_is_written_as_before() -> None:
    assert MultiDiscrete((2, 3)) == MultiDiscrete((2, 3), (2,), (0, 0))
    assert repr(MultiDiscrete((2, 3))) == "MultiDiscrete(nvec=(2, 3))"
    assert repr(MultiBinary(3)) == "MultiBinary(n=3)"


@pytest.mark.parametrize("key", ["observation", "obs"])
def test_an_observation_beside_its_mask_is_the_observation_alone(key: str) -> None:
    mask = gymnasium.spaces.MultiBinary(2)
    seen: dict[str, gymnasium.Space[Any]] = {key: gymnasium.spaces.Discrete(3), "action_mask": mask}
    assert observation_from_gymnasium(gymnasium.spaces.Dict(seen), "it") == (Discrete(3), True)
    more = gymnasium.spaces.Dict(seen | {"time": gymnasium.spaces.Discrete(9)})
    assert observation_from_gymnasium(more, "it") == (
        DictSpace(tuple((k, Discrete(n)) for k, n in sorted({key: 3, "time": 9}.items()))),
        True,
    )
    alone = gymnasium.spaces.Dict({key: gymnasium.spaces.Discrete(3)})
    assert observation_from_gymnasium(alone, "it") == (DictSpace(((key, Discrete(3)),)), False)


def test_what_a_network_cannot_read_is_named_and_can_be_left_out() -> None:
    text = gymnasium.spaces.Text(10)
    space = gymnasium.spaces.Dict(
        {
            "a": gymnasium.spaces.Tuple((text, gymnasium.spaces.Discrete(2))),
            "b": gymnasium.spaces.Discrete(3),
            "c": text,
        }
    )
    what = "observation of agent 'a_0'"
    with pytest.raises(SpaceError, match=r"observation of agent 'a_0', a\.0: .*ignore_observations: \['a\.0'\]"):
        from_gymnasium(space, what)
    kept = from_gymnasium(space, what, ["a.0", "c"])
    assert [leaf.name for leaf in leaves(kept)] == ["a.1", "b"]  # the names stay those of the environment
    sample = space.sample()
    assert at_path(sample, leaves(kept)[0].path) == sample["a"][1]
    with pytest.raises(SpaceError, match="at least one entry that is not left out"):
        from_gymnasium(space, what, ["a", "b", "c"])
    with pytest.raises(SpaceError, match="key 3, expected texts"):
        from_gymnasium(gymnasium.spaces.Dict({3: gymnasium.spaces.Discrete(2)}), what)  # type: ignore[dict-item]


def test_choices_and_masks_of_a_tree_are_those_of_its_leaves() -> None:
    action = DictSpace(
        (("move", MultiDiscrete((3, 2))), ("aim", Box("float32", (1,), (-1.0,), (1.0,))), ("go", Discrete(2)))
    )
    assert choices(action) == (3, 2, 2)
    assert mask_width(action) == 7
    with pytest.raises(SpaceError, match="action mask"):
        mask_width(TupleSpace((MultiBinary(2),)))


@pytest.mark.parametrize(
    ("space", "name"),
    [
        (spaces.Dict({"a.b": LEAF, "a": spaces.Dict({"b": LEAF})}), "a.b"),
        (spaces.Dict({"bag.0": LEAF, "bag": spaces.Tuple([LEAF, LEAF])}), "bag.0"),
        (spaces.Dict({"x": spaces.Dict({"y.z": LEAF, "y": spaces.Dict({"z": spaces.Discrete(2)})})}), "x.y.z"),
    ],
)
def test_two_parts_of_one_name_are_one_sentence(space: spaces.Dict, name: str) -> None:
    for convert in (from_gymnasium, observation_from_gymnasium):
        with pytest.raises(SpaceError, match=f"^action of agent 'a': two entries have the dotted name '{name}'"):
            convert(space, "action of agent 'a'")
    assert from_gymnasium(space, "observation", {name.rpartition(".")[0]}), "those that are left out do not count"
