"""Episodes drawn for many seeds at once are those that Gymnasium's generators of the seeds give."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.utils import seeding

from covey.envs.mpe.draws import FEW, draw_exactly, draw_together

EDGES = [0, 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**63, 2**64 - 1]


@pytest.mark.parametrize("choices", [(), (1,), (2,), (3,), (2, 2), (3, 3), (1, 5), (7, 9, 3), (1000003, 6)])
@pytest.mark.parametrize("largest", [2**16, 2**32, 2**63])
def test_what_is_drawn_is_what_gymnasium_draws(choices: tuple[int, ...], largest: int) -> None:
    seeds = [*EDGES, *(int(s) for s in np.random.default_rng(0).integers(largest, size=200))]
    integers, numbers = draw_exactly(seeds, choices, 13)
    for r, seed in enumerate(seeds):
        rng, _ = seeding.np_random(seed)
        assert integers[:, r].tolist() == [int(rng.integers(c)) for c in choices], seed
        assert (numbers[:, r] == rng.random(13)).all(), seed


def test_an_integer_that_numpy_draws_again_is_drawn_again() -> None:
    """For some choices that is so for one seed in three."""
    choice = 3 * 2**30
    seeds = range(100)
    integers, numbers = draw_exactly(seeds, (choice, choice), 2)
    generators = [seeding.np_random(seed)[0] for seed in seeds]
    assert integers.T.tolist() == [[int(rng.integers(choice)) for _ in range(2)] for rng in generators]
    assert numbers.T.tolist() == [rng.random(2).tolist() for rng in generators]


@pytest.mark.parametrize("seeds", [[7], list(range(FEW)), [2**64, 2**130 + 3, *range(40)]])
def test_few_seeds_and_large_ones_are_no_exception(seeds: list[int]) -> None:
    integers, numbers = draw_exactly(seeds, (3,), 4)
    for r, seed in enumerate(seeds):
        rng, _ = seeding.np_random(seed)
        assert integers[0, r] == rng.integers(3) and (numbers[:, r] == rng.random(4)).all()


def test_episodes_of_one_generator_follow_from_its_seed_and_differ() -> None:
    first, again, other = (draw_together(seed, 500, (3, 2), 6) for seed in (1, 1, 2))
    assert (first[0] == again[0]).all() and (first[1] == again[1]).all() and (first[1] != other[1]).any()
    assert len(np.unique(first[1])) == 3000
    assert np.bincount(first[0][0]).min() > 120 and np.bincount(first[0][1]).min() > 200
    assert abs(first[1].mean() - 0.5) < 0.03
