"""Acting by distributions: samples, means, masks, several choices at once, and what networks read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support.asynchronous_play import policy

from covey.acting import Decisions, LoadedPolicy, PolicyRows
from covey.acting.actions import ActionLayout
from covey.networks import NumpyOps
from covey.observations import ObservationEncoding
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces, MultiBinary, MultiDiscrete, choices
from covey.v1 import order_pb2

SEEN = Box("float32", (4,), (-np.inf,) * 4, (np.inf,) * 4)
BOARD = Box("int8", (2, 2), (-1.0,) * 4, (3.0,) * 4)
WALK = Box("float32", (2,), (1.0, -np.inf), (3.0, 5.0))

SPACES = EnvironmentSpaces.build(
    [
        AgentSpec("walker_0", SEEN, WALK),
        AgentSpec("pointer_0", Discrete(6, start=2), MultiDiscrete((3, 4)), masked=True),
        AgentSpec("walker_1", SEEN, WALK),
        AgentSpec("switch_0", MultiDiscrete((2, 5)), MultiBinary(3)),
        AgentSpec("caller_0", BOARD, Discrete(5, start=-2), masked=True),
        AgentSpec("caller_1", BOARD, Discrete(5, start=-2), masked=True),
    ]
)
WALKER, POINTER, SWITCH, CALLER = range(4)  # groups
Explore = order_pb2.Exploration
SAMPLE = Explore(kind=Explore.KIND_SAMPLE)
ALL_LEGAL = [None, np.ones((1, 1, 7), np.uint8), None, np.ones((1, 2, 5), np.uint8)]

Players = list[LoadedPolicy | None]


def member(seed: int = 0, head: str = "stochastic", indicator: bool = False) -> Players:
    peers = {i: len(g) for g in SPACES.groups for i in g.agents}
    return [
        policy(agent, 10 * seed + i, head=head, indicator=peers[i] if indicator and peers[i] > 1 else 0)
        for i, agent in enumerate(SPACES.agents)
    ]


def observations(slots: int = 1, seed: int = 0) -> list[NDArray[Any]]:
    rng = np.random.default_rng(seed)
    return [
        rng.normal(size=(slots, 2, 4)).astype(np.float32),
        rng.integers(2, 8, size=(slots, 1)),
        np.stack([rng.integers(0, 2, (slots, 1)), rng.integers(0, 5, (slots, 1))], -1),
        rng.integers(-1, 4, size=(slots, 2, 2, 2), dtype=np.int8),
    ]


def outputs(who: LoadedPolicy | None, seen: NDArray[Any], index: int = 0) -> NDArray[np.float64]:
    """The policy's outputs, by itself."""
    assert who is not None
    x = ObservationEncoding.of(who.spec.observation).encode(seen.reshape(1, -1))
    told = np.eye(2, dtype=np.float32)[[index], : who.spec.indicator]
    y: NDArray[np.float32] = who.spec.network.apply(NumpyOps(), who.params, [np.concatenate([x, told], 1)])
    z: NDArray[np.float64] = y[0].astype(np.float64)
    return z


def softmax(z: NDArray[np.float64]) -> NDArray[np.float64]:
    e: NDArray[np.float64] = np.exp(z - z.max())
    e /= e.sum()
    return e


def drawn(
    who: Players, explore: order_pb2.Exploration, mask: list[Any], times: int = 4000
) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """What one observation makes slots give and store, so many times: per group (times, N, *shape)."""
    slots = min(times, 500)
    decisions = Decisions(SPACES, slots)
    for slot in range(slots):
        decisions.explore(slot, explore)
    decisions.plan(dict.fromkeys(range(slots), who))
    rng = np.random.default_rng(0)
    seen, legal = ([None if a is None else np.repeat(a, slots, 0) for a in arrays] for arrays in (observations(), mask))
    pairs = [decisions.decide(seen, legal, rng) for _ in range(times // slots)]  # type: ignore[arg-type]
    given, stored = zip(*pairs, strict=True)
    return [np.concatenate(g) for g in zip(*given, strict=True)], [np.concatenate(g) for g in zip(*stored, strict=True)]


def unit(action: NDArray[Any]) -> NDArray[np.float64]:
    """Walkers' actions in the units of the distribution: 1 to 3, and where a bound is infinite, -1 to 1."""
    return (action.astype(np.float64) - [2, 0]) / [1, 1]


def test_gaussian_samples_are_stored_before_they_are_clipped() -> None:
    who = member()
    given, stored = drawn(who, SAMPLE, ALL_LEGAL)
    seen = observations()[WALKER][0]
    assert who[0] is not None
    deviation = np.exp(-0.5)
    for n, agent in ((0, 0), (1, 2)):
        mean = outputs(who[agent], seen[n])
        x = unit(stored[WALKER][:, n])
        assert x.mean(axis=0) == pytest.approx(mean, abs=0.04)
        assert x.std(axis=0) == pytest.approx([deviation] * 2, abs=0.03)
        np.testing.assert_allclose(unit(given[WALKER][:, n]), np.clip(x, -1, 1), atol=1e-6)
        assert (np.abs(x) > 1).mean() > 0.02
        # The log-probabilities of what is stored, on the average minus the distribution's entropy.
        log_prob = (-0.5 * ((x - mean) / deviation) ** 2 - np.log(deviation) - 0.5 * np.log(2 * np.pi)).sum(axis=1)
        assert log_prob.mean() == pytest.approx(-(1 + np.log(2 * np.pi * deviation**2)), abs=0.06)
    assert given[WALKER].dtype == stored[WALKER].dtype == np.float32
    for group in (POINTER, SWITCH, CALLER):
        np.testing.assert_array_equal(given[group], stored[group])


def test_samples_are_means_plus_deviations_times_the_draws() -> None:
    decisions = Decisions(SPACES, 3)
    who = member(3)
    for slot in (0, 2):
        decisions.explore(slot, SAMPLE)
    decisions.plan({0: who, 1: who, 2: who})
    seen = observations(3)
    masks = [None if m is None else np.repeat(m, 3, 0) for m in ALL_LEGAL]
    _, stored = decisions.decide(seen, masks, np.random.default_rng(8))
    normals = np.random.default_rng(8).standard_normal((3, 4))
    for slot, std in ((0, np.exp(-0.5)), (2, np.exp(-0.5)), (1, 0.0)):
        for n, agent in ((0, 0), (1, 2)):
            x = outputs(who[agent], seen[WALKER][slot, n]) + std * normals[slot, 2 * n : 2 * n + 2]
            expected = x if std else np.clip(x, -1, 1)
            np.testing.assert_allclose(unit(stored[WALKER][slot, n]), expected, atol=1e-5)


def test_a_sample_from_far_away_stays_a_number() -> None:
    who = member()
    assert who[0] is not None
    wild = LoadedPolicy(b"w" * 32, who[0].spec, {**who[0].params, "log_std": np.array([100, 100], np.float32)})
    given, stored = drawn([wild, *who[1:]], SAMPLE, ALL_LEGAL, times=4)
    assert (np.abs(unit(stored[WALKER][:, 0])) == 1e6).all()
    assert (np.abs(unit(given[WALKER][:, 0])) == 1).all()


def test_choices_are_sampled_from_their_own_distributions() -> None:
    who = member(1)
    given, _ = drawn(who, SAMPLE, ALL_LEGAL)
    seen = observations()
    z = outputs(who[1], seen[POINTER][0, 0])
    for k, part in enumerate((z[:3], z[3:])):
        counts = np.bincount(given[POINTER][:, 0, k], minlength=len(part)) / 4000
        assert counts == pytest.approx(softmax(part), abs=0.03)
    z = outputs(who[3], seen[SWITCH][0, 0])
    assert given[SWITCH].dtype == np.int8
    assert given[SWITCH][:, 0].mean(axis=0) == pytest.approx(1 / (1 + np.exp(-z)), abs=0.03)
    z = outputs(who[5], seen[CALLER][0, 1])
    assert np.bincount(given[CALLER][:, 1] + 2, minlength=5) / 4000 == pytest.approx(softmax(z), abs=0.03)


def test_with_its_chance_a_choice_is_uniform_whatever_the_kind_of_action() -> None:
    given, _ = drawn(member(1), Explore(kind=Explore.KIND_GAUSSIAN, scale=1.0), ALL_LEGAL)
    for k, n in enumerate((3, 4)):
        assert np.bincount(given[POINTER][:, 0, k], minlength=n) / 4000 == pytest.approx([1 / n] * n, abs=0.03)
    assert given[SWITCH][:, 0].mean(axis=0) == pytest.approx([0.5] * 3, abs=0.03)
    random, _ = drawn([None] * 6, Explore(), ALL_LEGAL)
    assert random[SWITCH][:, 0].mean(axis=0) == pytest.approx([0.5] * 3, abs=0.03)
    assert np.bincount(random[POINTER][:, 0, 1], minlength=4) / 4000 == pytest.approx([0.25] * 4, abs=0.03)


@pytest.mark.parametrize("group", [POINTER, SWITCH])
def test_each_choice_explores_by_itself(group: int) -> None:
    # Policies so sure of themselves that all that differs from the best is explored.
    who: Players = [
        LoadedPolicy(bytes([i]) * 32, p.spec, {k: v * 1000 if "head.out" in k else v for k, v in p.params.items()})
        for i, p in enumerate(member(1, "deterministic"))
        if p is not None
    ]
    best, _ = drawn(who, Explore(), ALL_LEGAL, times=1)
    given, _ = drawn(who, Explore(kind=Explore.KIND_GAUSSIAN, scale=0.5), ALL_LEGAL)
    other = given[group][:, 0] != best[group][:, 0]
    values = np.array(choices(SPACES.groups[group].action))
    chance = 0.5 * (1 - 1 / values)  # a uniform draw may be the best one
    assert other.mean(axis=0) == pytest.approx(chance, abs=0.03)
    assert (other[:, 0] & other[:, 1]).mean() == pytest.approx(chance[0] * chance[1], abs=0.03)


def test_without_exploration_stochastic_policies_take_means_and_best_choices() -> None:
    who = member(2)
    seen = observations(2)
    decisions = Decisions(SPACES, 2)
    decisions.plan({0: who, 1: who})
    masks = [None if m is None else np.repeat(m, 2, 0) for m in ALL_LEGAL]
    given, stored = decisions.decide(seen, masks, np.random.default_rng(0))
    assert given is stored
    for s in range(2):
        mean = np.clip(outputs(who[2], seen[WALKER][s, 1]), -1, 1)
        np.testing.assert_allclose(unit(given[WALKER][s, 1]), mean, atol=1e-6)
        z = outputs(who[1], seen[POINTER][s, 0])
        assert given[POINTER][s, 0].tolist() == [z[:3].argmax(), z[3:].argmax()]
        assert given[SWITCH][s, 0].tolist() == (outputs(who[3], seen[SWITCH][s, 0]) > 0).tolist()
        assert given[CALLER][s, 0] == outputs(who[4], seen[CALLER][s, 0]).argmax() - 2


LEGAL_POINTS = [0, 1, 1, 0, 1, 0, 1]
LEGAL_CALLS = [0, 1, 0, 1, 1]


@pytest.mark.parametrize(
    ("explore", "plays"),
    [
        (Explore(), member(4)),
        (SAMPLE, member(4)),
        (SAMPLE, member(4, "deterministic")),
        (Explore(kind=Explore.KIND_ORNSTEIN_UHLENBECK, scale=0.5, theta=0.15, dt=0.01), member(4)),
        (Explore(), [None] * 6),
    ],
)
def test_what_is_not_legal_is_never_chosen(explore: order_pb2.Exploration, plays: Players) -> None:
    seen = observations()
    for first in (LEGAL_CALLS, [1, 0, 0, 0, 0], [0, 0, 0, 0, 1]):
        mask = [None, np.array([[LEGAL_POINTS]], np.uint8), None, np.array([[first, LEGAL_CALLS]], np.uint8)]
        given, _ = drawn(plays, explore, mask, times=3000)
        for k, legal in enumerate((LEGAL_POINTS[:3], LEGAL_POINTS[3:])):
            assert set(given[POINTER][:, 0, k]) <= set(np.flatnonzero(legal))
        assert set(given[CALLER][:, 0] + 2) <= set(np.flatnonzero(first))
        frequencies = np.bincount(given[CALLER][:, 1] + 2, minlength=5) / 3000
        if plays[5] is None:
            expected = np.array(LEGAL_CALLS) / 3
        else:
            z = np.where(LEGAL_CALLS, outputs(plays[5], seen[CALLER][0, 1]), -np.inf)
            expected = softmax(z) if explore.kind else np.eye(5)[z.argmax()]
            if explore.scale:
                expected = 0.5 * expected + 0.5 * np.array(LEGAL_CALLS) / 3
        assert frequencies == pytest.approx(expected, abs=0.03)


def test_a_network_that_has_overflowed_keeps_to_the_mask() -> None:
    who = member(4)
    assert who[4] is not None
    params = {k: np.full_like(v, -3e38) if k.startswith("head.out") else v for k, v in who[4].params.items()}
    broken = LoadedPolicy(b"b" * 32, who[4].spec, params)
    mask = [None, ALL_LEGAL[1], None, np.array([[[0, 0, 1, 0, 0], LEGAL_CALLS]], np.uint8)]
    with np.errstate(over="ignore"):
        given, _ = drawn([*who[:4], broken, who[5]], SAMPLE, mask, times=3)
    assert (given[CALLER][:, 0] == 0).all()


def test_encodings_indicators_and_both_heads_meet_in_a_step() -> None:
    players = {
        0: member(0),
        1: member(1, "deterministic"),
        2: member(2, indicator=True),
        3: [member(3)[0], None, member(4, "deterministic")[2], None, *member(5, "deterministic", indicator=True)[4:]],
    }
    rows = PolicyRows(SPACES, ActionLayout(SPACES, 4))
    rows.plan(players)
    layout = ActionLayout(SPACES, 4)
    for seed in (0, 1):  # the inputs of one step leave nothing in the next
        seen = observations(4, seed)
        found = rows.forward(seen)
        for slot, who in players.items():
            for g, (group, out) in enumerate(zip(SPACES.groups, layout.leaves, strict=True)):
                own = found[slot, out.columns].reshape(len(out.agents), out.width)
                for n, agent in enumerate(group.agents):
                    if who[agent] is not None:
                        np.testing.assert_allclose(
                            own[n], outputs(who[agent], seen[g][slot, n], n), rtol=1e-5, atol=1e-6
                        )


def test_both_heads_and_chance_play_in_one_slot() -> None:
    who: Players = [member(0)[0], member(0)[1], member(1, "deterministic")[2], None, *member(2, "deterministic")[4:]]
    given, stored = drawn(who, SAMPLE, ALL_LEGAL, times=50)
    squashed = np.tanh(outputs(who[2], observations()[WALKER][0, 1]) / 2)
    np.testing.assert_allclose(unit(given[WALKER][:, 1]), np.tile(squashed, (50, 1)), atol=1e-6)
    np.testing.assert_array_equal(given[WALKER][:, 1], stored[WALKER][:, 1])
    assert len(np.unique(stored[WALKER][:, 0], axis=0)) == 50
    noisy, kept = drawn(who, Explore(kind=Explore.KIND_GAUSSIAN, scale=0.3), ALL_LEGAL, times=3000)
    np.testing.assert_array_equal(noisy[WALKER], kept[WALKER])
    assert (np.abs(unit(noisy[WALKER])) <= 1 + 1e-6).all()
    assert unit(noisy[WALKER][:, 1]).std(axis=0) == pytest.approx([0.3] * 2, abs=0.06)


def test_draws_do_not_depend_on_who_moves() -> None:
    def decide(moving: list[int]) -> list[NDArray[Any]]:
        decisions = Decisions(SPACES, 3)
        for slot in range(3):
            decisions.explore(slot, SAMPLE)
        decisions.plan({slot: member() for slot in moving})
        rng = np.random.default_rng(5)
        masks = [None if m is None else np.repeat(m, 3, 0) for m in ALL_LEGAL]
        return [s[1] for _ in range(3) for s in decisions.decide(observations(3), masks, rng)[1]]

    for one, other in zip(decide([0, 1, 2]), decide([1]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
