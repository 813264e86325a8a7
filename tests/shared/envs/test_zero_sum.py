"""How zero-sum games are told, and which agents win together in them."""

from __future__ import annotations

import numpy as np
import pytest

from covey.envs.zero_sum import is_zero_sum, sides_of


@pytest.mark.parametrize(
    ("returns", "sides"),
    [
        ([[1.0, -1.0], [-1.0, 1.0]], [[0], [1]]),
        ([[1.0, -1.0, 1.0, -1.0], [0.0, -0.0, 0.0, 0.0], [-2.0, 2.0, -2.0, 2.0]], [[0, 2], [1, 3]]),
        ([[2.0, -1.0, -1.0], [-1.0, 2.0, -1.0]], [[0], [1], [2]]),
        ([[2.0, -1.0, -1.0], [-2.0, 1.0, 1.0]], [[0], [1, 2]]),
        ([[3.0, -1.0, -2.0, 0.0], [-1.0, 3.0, -2.0, 0.0]], [[0], [1], [2], [3]]),
    ],
)
def test_agents_whose_returns_are_always_equal_are_a_side(returns: list[list[float]], sides: list[list[int]]) -> None:
    table = np.array(returns)
    assert is_zero_sum(table) and sides_of(table) == sides


def test_rounding_and_negative_zero_do_not_divide_a_side() -> None:
    assert sides_of(np.array([[0.0, -0.0], [1.0, 1.0]])) == [[0, 1]]
    assert is_zero_sum(np.array([[0.1 + 0.2, -0.3]]))
    assert not is_zero_sum(np.array([[1.0, -1.0], [1.0, -0.9]])) and not is_zero_sum(np.zeros((3, 2)))
