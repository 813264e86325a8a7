"""Running statistics of observations, and which numbers they are of."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covey.networks.normalisation import CLIP, MEAN, SCALE, Moments, normalised_ranges
from covey.spaces import Box, DictSpace, Discrete, MultiBinary, Space, TupleSpace

TABLE = Box("float32", (2, 2), (-np.inf,) * 4, (np.inf,) * 4)
COUNTS = Box("int32", (3,), (0.0,) * 3, (9.0,) * 3)
PIXELS = Box("uint8", (8, 8, 3), (0.0,) * 192, (255.0,) * 192)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=6), st.integers(0, 99), st.sampled_from([1e-3, 1.0, 1e3]))
def test_joined_moments_are_those_of_all_samples(sizes: list[int], seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    parts = [(5 * size + size * rng.normal(size=(n, 3))).astype(np.float32) for n in sizes]
    together = np.concatenate([np.zeros((0, 3), np.float32), *parts])
    found, expected = Moments.none(3), Moments.of(together)
    for part in parts:
        found = found.joined(Moments.of(part))
    assert found.count == expected.count == len(together)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-12)
    np.testing.assert_allclose(found.squares, expected.squares, rtol=1e-9, atol=1e-18)
    if len(together) > 1:
        np.testing.assert_allclose(1 / found.scale, together.astype(np.float64).std(0), rtol=1e-9)


def test_numbers_that_never_vary_are_only_moved_to_zero() -> None:
    constant = np.array([[0.0, 0.1, 1e6, -3.0]] * 7, np.float32)
    once = Moments.of(constant)
    again = once.joined(Moments.of(constant[:3])).joined(Moments.of(constant[:1]))
    for moments in (once, again, Moments.of(constant[:1])):
        tensors = moments.tensors()
        assert (tensors[SCALE] == 1).all() and (constant[0] - tensors[MEAN] == 0).all()
    nothing = Moments.none(2).tensors()
    assert (nothing[MEAN] == 0).all() and (nothing[SCALE] == 1).all()


def test_scales_are_finite_float32_for_all_that_is_observed() -> None:
    largest = float(np.finfo(np.float32).max)
    for numbers in ([-largest, largest], [0.0, 1e-38], [largest, largest], [1e-30, -1e-30], [1e3, 1e3 + 1e-3]):
        tensors = Moments.of(np.array(numbers, np.float32)[:, None]).tensors()
        assert all(np.isfinite(x).all() for x in tensors.values()) and (tensors[SCALE] > 0).all(), numbers


@pytest.mark.parametrize(
    ("space", "ranges"),
    [
        (COUNTS, ((0, 3),)),
        (TABLE, ((0, 4),)),
        (PIXELS, ()),
        (Discrete(4), ()),
        (MultiBinary(4), ()),
        (DictSpace((("at", COUNTS), ("kind", Discrete(4)), ("to", TABLE), ("more", COUNTS))), ((0, 3), (7, 14))),
        (
            DictSpace((("view", PIXELS), ("inner", TupleSpace((COUNTS, MultiBinary(2), TABLE))))),
            ((192, 195), (197, 201)),
        ),
    ],
)
def test_boxes_are_normalised_and_images_and_choices_are_not(space: Space, ranges: tuple[tuple[int, int], ...]) -> None:
    assert normalised_ranges(space) == ranges
    assert not ranges or ranges[-1][1] <= space.width


def test_json_holds_moments_exactly() -> None:
    moments = Moments.of(np.random.default_rng(0).normal(size=(7, 5)) / 3)
    again = Moments.from_json(json.loads(json.dumps(moments.to_json())))
    assert again.count == 7
    assert np.array_equal(again.mean, moments.mean) and np.array_equal(again.squares, moments.squares)
    good = moments.to_json()
    for bad in ({"mean": [1.0]}, {"squares": [float("nan")] * 5}, {"mean": "x"}, {"count": None}):
        with pytest.raises((ValueError, TypeError)):
            Moments.from_json(good | bad)
    assert CLIP == 10
