"""Acting by squashed Gaussians: samples and means within the bounds, beside policies of other kinds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support.asynchronous_play import policy

from covey.acting import Decisions, LoadedPolicy
from covey.networks import NumpyOps
from covey.spaces import AgentSpec, Box, DictSpace, Discrete, EnvironmentSpaces
from covey.v1 import order_pb2

SEEN = Box("float32", (3,), (-np.inf,) * 3, (np.inf,) * 3)
WALK = Box("float32", (2,), (1.0, -2.0), (3.0, 6.0))  # middles 2 and 2, halves 1 and 4
STEER = DictSpace((("gas", Box("float64", (1,), (0.0,), (1.0,))), ("wheel", Box("float32", (2,), (-1, -1), (1, 1)))))
SPACES = EnvironmentSpaces.build(
    [
        AgentSpec("walker_0", SEEN, WALK),
        AgentSpec("caller_0", SEEN, Discrete(4)),
        AgentSpec("walker_1", SEEN, WALK),
        AgentSpec("driver_0", SEEN, STEER),
    ]
)
WALKER, CALLER, DRIVER = range(3)  # groups
Explore = order_pb2.Exploration
SAMPLE = Explore(kind=Explore.KIND_SAMPLE)
SLOTS = 3

Players = list[LoadedPolicy | None]


def team(seed: int = 0, walkers: tuple[str, str] = ("squashed", "squashed"), indicator: int = 0) -> Players:
    heads = (walkers[0], "stochastic", walkers[1], "squashed")
    return [
        policy(agent, 10 * seed + i, head=head, indicator=indicator if agent.agent_id.startswith("walker") else 0)
        for i, (agent, head) in enumerate(zip(SPACES.agents, heads, strict=True))
    ]


def observations(slots: int = SLOTS) -> list[NDArray[Any]]:
    rng = np.random.default_rng(1)
    return [rng.normal(size=(slots, len(g), 3)).astype(np.float32) for g in SPACES.groups]


def halves(who: LoadedPolicy | None, seen: NDArray[Any], index: int = 0) -> tuple[NDArray[Any], NDArray[Any]]:
    """The means and deviations of a squashed policy, by itself."""
    assert who is not None
    told = np.eye(2)[index, : who.spec.indicator]
    x = np.concatenate([seen, told]).astype(np.float32)[None]
    mean, log_std = np.split(who.spec.network.apply(NumpyOps(), who.params, [x])[0].astype(np.float64), 2)
    return mean, np.exp(np.clip(log_std, -20, 2))


def unit(action: NDArray[Any]) -> NDArray[np.float64]:
    return (action.astype(np.float64) - [2, 2]) / [1, 4]


def decided(who: Players, explore: order_pb2.Exploration, slots: int = SLOTS) -> tuple[list[Any], list[Any]]:
    decisions = Decisions(SPACES, slots)
    for slot in range(slots):
        decisions.explore(slot, explore)
    decisions.plan(dict.fromkeys(range(slots), who))
    return decisions.decide(observations(slots), [None] * 3, np.random.default_rng(8))


@pytest.mark.parametrize("indicator", [0, 2])
def test_samples_are_tanh_of_means_plus_deviations_times_the_draws(indicator: int) -> None:
    who = team(3, indicator=indicator)
    given, stored = decided(who, SAMPLE)
    seen, normals = observations(), np.random.default_rng(8).standard_normal((SLOTS, 7))
    assert all(one is other for one, other in zip(given, stored, strict=True))  # what is stored is what is done
    for slot in range(SLOTS):
        for n, agent in ((0, 0), (1, 2)):
            mean, deviation = halves(who[agent], seen[WALKER][slot, n], n)
            expected = np.tanh(mean + deviation * normals[slot, 2 * n : 2 * n + 2])
            np.testing.assert_allclose(unit(given[WALKER][slot, n]), expected, atol=1e-5)
        mean, deviation = halves(who[3], seen[DRIVER][slot, 0])
        expected = np.tanh(mean + deviation * normals[slot, 4:])
        assert 2 * given[DRIVER][slot, 0]["gas"] - 1 == pytest.approx(expected[:1], abs=1e-5)
        assert given[DRIVER][slot, 0]["wheel"] == pytest.approx(expected[1:], abs=1e-5)


@pytest.mark.parametrize("explore", [Explore(), Explore(kind=Explore.KIND_EPSILON_GREEDY, scale=0.5)])
def test_without_sampling_actions_are_tanh_of_the_means(explore: order_pb2.Exploration) -> None:
    who = team(2)
    given, _ = decided(who, explore)
    for slot in range(SLOTS):
        for n, agent in ((0, 0), (1, 2)):
            mean, _ = halves(who[agent], observations()[WALKER][slot, n])
            np.testing.assert_allclose(unit(given[WALKER][slot, n]), np.tanh(mean), atol=1e-6)


@pytest.mark.parametrize("other", ["deterministic", "stochastic", "random"])
def test_policies_of_other_kinds_play_beside_it_as_they_do_alone(other: str) -> None:
    mixed = team(1, walkers=("squashed", "deterministic" if other == "random" else other))
    if other == "random":
        mixed[2] = None
    alone: Players = [None, None, mixed[2], None]
    given, stored = decided(mixed, SAMPLE)
    seen, normals = observations(), np.random.default_rng(8).standard_normal((SLOTS, 7))
    for slot in range(SLOTS):
        mean, deviation = halves(mixed[0], seen[WALKER][slot, 0])
        expected = np.tanh(mean + deviation * normals[slot, :2])
        for kept in (given, stored):
            np.testing.assert_allclose(unit(kept[WALKER][slot, 0]), expected, atol=1e-5)
    if other != "random":
        by_itself, its_stored = decided(alone, SAMPLE)
        np.testing.assert_allclose(given[WALKER][:, 1], by_itself[WALKER][:, 1], atol=1e-5)
        np.testing.assert_allclose(stored[WALKER][:, 1], its_stored[WALKER][:, 1], atol=1e-5)


@pytest.mark.parametrize("size", [30.0, 1e30])
def test_outputs_of_any_size_stay_within_the_bounds(size: float) -> None:
    (who, *others) = team(4)
    assert who is not None
    params = {k: v * np.float32(size) if k.startswith("head.out") else v for k, v in who.params.items()}
    wild = LoadedPolicy(b"w" * 32, who.spec, params)
    for explore in (SAMPLE, Explore()):
        with np.errstate(over="ignore"):
            given, _ = decided([wild, *others], explore, slots=50)
        assert np.isfinite(given[WALKER]).all()
        assert (np.abs(unit(given[WALKER])) <= 1).all()


def test_noise_of_other_kinds_is_added_to_the_action() -> None:
    who = team(5)
    given, _ = decided(who, Explore(kind=Explore.KIND_GAUSSIAN, scale=0.3))
    normals = np.random.default_rng(8).standard_normal((SLOTS, 7))
    for slot in range(SLOTS):
        mean, _ = halves(who[0], observations()[WALKER][slot, 0])
        expected = np.clip(np.tanh(mean) + 0.3 * normals[slot, :2], -1, 1)
        np.testing.assert_allclose(unit(given[WALKER][slot, 0]), expected, atol=1e-5)
