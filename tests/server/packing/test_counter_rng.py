"""Counter-based draws: uniform, independent, and a function of what they are for alone."""

from __future__ import annotations

import math

import torch

from covey_server.packing import counter_rng

N = 1 << 16


def keys(members: list[int], updates: list[int], seed: int = 7) -> torch.Tensor:
    return counter_rng.keys(seed, members, updates)


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.double(), b.double()]))[0, 1])


def chi_square_z(cells: torch.Tensor, count: int) -> float:
    """Standardised chi-square statistic of cell numbers against a uniform distribution over `count` cells."""
    seen = torch.bincount(cells, minlength=count).double()
    expected = len(cells) / count
    statistic = float(((seen - expected) ** 2 / expected).sum())
    return (statistic - (count - 1)) / math.sqrt(2 * (count - 1))


def test_uniform_draws_fill_the_unit_interval_evenly() -> None:
    for member, update in [(0, 0), (1, 0), (0, 1), (123_456, 99_999)]:
        (u,) = counter_rng.uniform(keys([member], [update]), "s", N)
        assert float(u.min()) > 0 and float(u.max()) < 1
        assert abs(chi_square_z((u * 256).long(), 256)) < 5
        # The low digits too: they decide between neighbours in a large memory.
        assert abs(chi_square_z(((u * 2**23) % 256).long(), 256)) < 5


def test_successive_elements_are_independent() -> None:
    (u,) = counter_rng.uniform(keys([3], [14]), "s", N)
    for lag in (1, 2, 8, 32):
        pairs = (u[:-lag] * 16).long() * 16 + (u[lag:] * 16).long()
        assert abs(chi_square_z(pairs, 256)) < 5


def test_one_element_is_uniform_over_updates_members_and_seeds() -> None:
    # The first number of each key: what goes wrong when keys that follow each other give numbers that do.
    sweeps = [
        keys([0] * N, list(range(N))),
        keys(list(range(N)), [0] * N),
        torch.cat([keys([0], [0], seed) for seed in range(4096)]),
    ]
    for sweep in sweeps:
        u = counter_rng.uniform(sweep, "s", 1)[:, 0]
        assert abs(chi_square_z((u * 64).long(), 64)) < 5
        assert abs(correlation(u[:-1], u[1:])) < 5 / math.sqrt(len(u))


def test_members_updates_streams_and_seeds_draw_different_numbers() -> None:
    base = counter_rng.uniform(keys([5], [9]), "s", N)[0]
    others = [
        counter_rng.uniform(keys([6], [9]), "s", N)[0],
        counter_rng.uniform(keys([5], [10]), "s", N)[0],
        counter_rng.uniform(keys([9], [5]), "s", N)[0],
        counter_rng.uniform(keys([5], [9]), "t", N)[0],
        counter_rng.uniform(keys([5], [9], seed=8), "s", N)[0],
        counter_rng.uniform(keys([5], [9], seed=7 + (1 << 40)), "s", N)[0],
    ]
    for other in others:
        assert abs(correlation(base, other)) < 5 / math.sqrt(N)
        assert float((base == other).double().mean()) < 1e-3


def test_keys_do_not_repeat_over_a_long_run() -> None:
    drawn = keys([m for m in range(64) for _ in range(4096)], list(range(4096)) * 64)
    assert len(set(drawn.tolist())) == len(drawn)


def test_a_draw_depends_neither_on_pack_mates_nor_on_how_many_are_drawn() -> None:
    together = keys([4, 5, 6], [10, 20, 30])
    for draw in (counter_rng.uniform, counter_rng.normal, counter_rng.gumbel):
        many = draw(together, "s", 100)
        alone = draw(keys([5], [20]), "s", 60)
        assert torch.equal(many[1, :60], alone[0])
    many = counter_rng.integers(together, "s", 100, 1000)
    assert torch.equal(many[2, :10], counter_rng.integers(keys([6], [30]), "s", 10, 1000)[0])


def test_integers_cover_their_range_evenly() -> None:
    (i,) = counter_rng.integers(keys([0], [0]), "s", N, 37)
    assert int(i.min()) == 0 and int(i.max()) == 36
    assert abs(chi_square_z(i, 37)) < 5
    (large,) = counter_rng.integers(keys([0], [0]), "s", N, 1_000_000)
    assert abs(chi_square_z(large // 10_000, 100)) < 5
    assert abs(chi_square_z(large % 100, 100)) < 5


def test_normal_and_gumbel_have_their_moments() -> None:
    (x,) = counter_rng.normal(keys([1], [2]), "s", N)
    x = x.double()
    assert abs(float(x.mean())) < 0.02 and abs(float(x.var()) - 1) < 0.03
    assert abs(float((x**4).mean()) - 3) < 0.2
    (g,) = counter_rng.gumbel(keys([1], [2]), "s", N)
    g = g.double()
    assert abs(float(g.mean()) - 0.5772) < 0.03 and abs(float(g.var()) - math.pi**2 / 6) < 0.08
    assert bool(g.isfinite().all())
