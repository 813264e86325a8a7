"""The order of PPO's minibatches."""

from __future__ import annotations

import pytest
import torch

from covey_server.algorithms.shuffles import ascending


def test_places_are_in_ascending_order_of_their_numbers() -> None:
    assert ascending(torch.tensor([[30, 10, 20, 10], [0, 1 << 32, 3, 1 << 32]])).tolist() == [
        [1, 3, 2, 0],
        [0, 2, 1, 3],
    ]


@pytest.mark.parametrize(("width", "highest"), [(1, 1 << 33), (7, 2), (1000, 1 << 33), (1024, 5), (40_001, 1 << 20)])
def test_equal_numbers_keep_their_order(width: int, highest: int) -> None:
    numbers = torch.randint(0, highest, (3, width), generator=torch.Generator().manual_seed(width))
    assert torch.equal(ascending(numbers), numbers.argsort(stable=True, dim=1))
