"""The share of the returns' variance that value networks explain."""

import numpy as np
import pytest
import torch

from covey_server.algorithms.estimates import explained_variance


def test_it_is_one_for_perfect_predictions_and_zero_for_the_mean() -> None:
    returns = torch.tensor([1.0, 2.0, 3.0])
    # Four pairs: right, off by a constant, the mean, and half of the way there.
    values = torch.cat([returns, returns + 5, torch.full((3,), 2.0), 1 + returns / 2])
    found = explained_variance(values, returns.repeat(4), np.array([3, 3, 3, 3]))
    assert found.tolist() == pytest.approx([1.0, 1.0, 0.0, 0.75])


def test_where_nothing_varies_or_nobody_decided_nothing_is_explained() -> None:
    found = explained_variance(torch.tensor([3.0, 4.0]), torch.tensor([7.0, 7.0]), np.array([2, 0]))
    assert found.tolist() == [0.0, 0.0]
