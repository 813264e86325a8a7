"""Seeds that follow from a run's seed."""

from __future__ import annotations

from covey_server.seeds import derive, episode_seeds

MANY = 100_000
"""Of so many draws of 30 bits, four or five are expected to be of a number that was drawn before."""


def test_no_episode_is_played_twice() -> None:
    seeds = episode_seeds(0, "fitness", 3, MANY)
    assert len(set(seeds)) == len(seeds) == MANY and max(seeds) < 1 << 30
    drawn = [derive(0, "fitness", 3, k) & 0x3FFFFFFF for k in range(MANY)]
    assert len(set(drawn)) < MANY, "else this test shows nothing"
    assert list(dict.fromkeys(drawn)) == seeds[: len(set(drawn))]


def test_fewer_are_the_first_of_many() -> None:
    assert episode_seeds(7, "confirm", 0, 20)[:8] == episode_seeds(7, "confirm", 0, 8)
    assert episode_seeds(7, "confirm", 0, 8) != episode_seeds(7, "confirm", 1, 8) != episode_seeds(7, "best", 0, 8)
    assert episode_seeds(7, "confirm", 0, 0) == []
