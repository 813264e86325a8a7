"""Acting: packed forward passes, exploration, and the mapping to actions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support.walking_policies import GRIP, PIXELS, SAY, SEEN, SPACES, WALK, policy

from covey.acting import Decisions, LoadedPolicy, PolicyRows, SlotNoise
from covey.acting.actions import ActionLayout
from covey.networks import NumpyOps
from covey.observations import ObservationEncoding
from covey.v1 import order_pb2

Kind = order_pb2.Exploration
FREE = (None, None, None)


def member(seed: int, **mlp: object) -> list[LoadedPolicy | None]:
    return [
        policy(seed * 10, SEEN, WALK, **mlp),
        policy(seed * 10 + 1, SEEN, SAY),
        policy(seed * 10 + 2, SEEN, WALK),
        policy(seed * 10 + 3, PIXELS, GRIP),
    ]


def observations(slots: int, seed: int = 0) -> list[NDArray[Any]]:
    """Of the groups walker, caller, gripper."""
    rng = np.random.default_rng(seed)
    return [
        rng.normal(size=(slots, 2, 4)).astype(np.float32),
        rng.normal(size=(slots, 1, 4)).astype(np.float32),
        rng.integers(0, 255, size=(slots, 1, 2, 2), dtype=np.uint8),
    ]


def alone(who: LoadedPolicy | None, seen: NDArray[Any]) -> NDArray[np.float32]:
    """The policy's outputs, by itself."""
    assert who is not None
    x = ObservationEncoding.of(who.spec.observation).encode(seen.reshape(1, -1))
    outputs: NDArray[np.float32] = who.spec.network.apply(NumpyOps(), who.params, [x])[0]
    return outputs


def test_packed_rows_are_what_each_policy_gives_by_itself() -> None:
    # Members of several widths, depths and activations, of which two normalise, unequal numbers of slots, slot 2
    # pauses, and one policy plays both walkers of a slot.
    members = [member(0), member(1), member(2, layer_norm=True), member(3, layer_norm=True)]
    members += [member(4, activation="Tanh", hidden_size=(8, 3)), member(5, hidden_size=(4, 4, 5), gated=(0, 2))]
    members[1][2] = members[1][0]
    played = {0: 0, 1: 1, 3: 0, 4: 2, 5: 3, 6: 0, 7: 4, 8: 5}
    players = {slot: members[m] for slot, m in played.items()}
    rows = PolicyRows(SPACES, ActionLayout(SPACES, 9))
    rows.plan(players)
    assert len(rows._passes) == 2
    seen = observations(9)
    outputs = rows.forward(seen)
    for slot, who in players.items():
        expected = [
            alone(who[0], seen[0][slot, 0]),
            alone(who[2], seen[0][slot, 1]),
            alone(who[3], seen[2][slot, 0]),
            alone(who[1], seen[1][slot, 0]),
        ]
        np.testing.assert_allclose(outputs[slot], np.concatenate(expected), rtol=1e-5, atol=1e-6)
    assert not outputs[2].any()


def test_actions_without_exploration_are_squashed_means_in_the_spaces_units() -> None:
    decisions = Decisions(SPACES, 2)
    who = member(4)
    decisions.plan({0: who, 1: who})
    seen = observations(2)
    walk, say, grip = decisions.decide(seen, FREE, np.random.default_rng(0))[0]
    unit = np.tanh(alone(who[2], seen[0][1, 1]).astype(np.float64) / 2)
    # 1 to 3; and where a bound is infinite, -1 to 1.
    np.testing.assert_allclose(walk[1, 1], [2 + unit[0], unit[1]], rtol=1e-5)
    assert say.tolist() == [[5 + int(alone(who[1], seen[1][s, 0]).argmax())] for s in range(2)]
    unit = np.tanh(alone(who[3], seen[2][0, 0]).astype(np.float64) / 2)
    np.testing.assert_allclose(grip[0, 0, 0], [0.05 + 0.15 * unit[0], 0.15 + 0.15 * unit[1]], rtol=1e-5)
    assert [a.dtype.name for a in (walk, say, grip)] == ["float32", "int64", "float64"]
    assert walk.shape == (2, 2, 2) and say.shape == (2, 1) and grip.shape == (2, 1, 1, 2)


def test_actions_never_leave_their_bounds() -> None:
    decisions = Decisions(SPACES, 4)
    for slot in range(4):
        decisions.explore(slot, Kind(kind=Kind.KIND_GAUSSIAN, scale=50))
    decisions.plan({slot: member(1) for slot in range(4)})
    rng = np.random.default_rng(0)
    for _ in range(50):
        walk, say, grip = decisions.decide(observations(4), FREE, rng)[0]
        assert walk[..., 0].min() >= 1 and walk[..., 0].max() <= 3
        assert walk[..., 1].max() <= 1 and walk[..., 1].min() >= -1
        low, high = np.array(GRIP.low), np.array(GRIP.high)
        assert (grip >= low).all() and (grip <= high).all()
        assert set(np.unique(say)) <= {5, 6, 7}


def test_the_random_policy_draws_uniformly_from_the_space() -> None:
    decisions = Decisions(SPACES, 3)
    nobody: list[LoadedPolicy | None] = [None] * 4
    decisions.plan({0: nobody, 2: nobody})
    rng = np.random.default_rng(0)
    drawn = [decisions.decide(observations(3), FREE, rng)[0] for _ in range(4000)]
    walk = np.concatenate([d[0][[0, 2]].reshape(-1, 2) for d in drawn])
    assert walk[:, 0].min() == pytest.approx(1, abs=0.01) and walk[:, 0].max() == pytest.approx(3, abs=0.01)
    assert walk[:, 0].mean() == pytest.approx(2, abs=0.02)
    assert walk[:, 0].std() == pytest.approx(2 / math.sqrt(12), abs=0.02)
    say = np.concatenate([d[1][[0, 2]].ravel() for d in drawn])
    counts = np.bincount(say - 5, minlength=3) / len(say)
    assert counts == pytest.approx([1 / 3] * 3, abs=0.02)


def test_discrete_exploration_samples_the_softmax_and_is_uniform_with_its_chance() -> None:
    who = member(6)
    seen = observations(2)
    seen[1][1] = seen[1][0]
    logits = alone(who[1], seen[1][0, 0]).astype(np.float64)
    softmax = np.exp(logits) / np.exp(logits).sum()
    decisions = Decisions(SPACES, 2)
    decisions.explore(0, Kind(kind=Kind.KIND_ORNSTEIN_UHLENBECK, scale=0.0, theta=0.15, dt=0.01))
    decisions.explore(1, Kind(kind=Kind.KIND_GAUSSIAN, scale=0.4))
    decisions.plan({0: who, 1: who})
    rng = np.random.default_rng(1)
    say = np.array([decisions.decide(seen, FREE, rng)[0][1][:, 0] - 5 for _ in range(8000)])
    assert np.bincount(say[:, 0], minlength=3) / 8000 == pytest.approx(softmax, abs=0.02)
    assert np.bincount(say[:, 1], minlength=3) / 8000 == pytest.approx(0.6 * softmax + 0.4 / 3, abs=0.02)


def test_epsilon_greedy_takes_the_best_choice_and_is_uniform_over_legal_ones_with_its_chance() -> None:
    who = member(6)
    seen = observations(3)
    seen[1][1:] = seen[1][0]
    best = int(alone(who[1], seen[1][0, 0]).argmax())
    decisions = Decisions(SPACES, 3)
    for slot, epsilon in enumerate((0.0, 0.4, 1.0)):
        decisions.explore(slot, Kind(kind=Kind.KIND_EPSILON_GREEDY, scale=epsilon))
    decisions.plan(dict.fromkeys(range(3), who))
    rng = np.random.default_rng(1)
    drawn = [decisions.decide(seen, FREE, rng)[0] for _ in range(8000)]
    shares = [np.bincount(np.array([d[1][slot, 0] - 5 for d in drawn]), minlength=3) / 8000 for slot in range(3)]
    greedy = np.eye(3)[best]
    assert shares[0].tolist() == greedy.tolist()
    assert shares[1] == pytest.approx(0.6 * greedy + 0.4 / 3, abs=0.02)
    assert shares[2] == pytest.approx([1 / 3] * 3, abs=0.02)
    # A Box has no epsilon: its actions are those without exploration.
    assert all(np.array_equal(d[0], drawn[0][0]) for d in drawn)
    # Where the best is illegal, neither the greedy choice nor a uniform one takes it.
    allowed = np.ones((3, 1, 3), np.uint8)
    allowed[..., best] = 0
    legal: list[NDArray[np.uint8] | None] = [FREE[0], allowed, *FREE[2:]]
    masked = {int(x) - 5 for _ in range(300) for x in decisions.decide(seen, legal, rng)[0][1].ravel()}
    assert masked == {0, 1, 2} - {best}


def test_ornstein_uhlenbeck_noise_follows_its_formula() -> None:
    noise = SlotNoise(3, 2)
    noise.set(0, Kind(kind=Kind.KIND_ORNSTEIN_UHLENBECK, scale=0.3, mean=0.5, theta=0.15, dt=0.04))
    noise.set(1, Kind(kind=Kind.KIND_GAUSSIAN, scale=0.2, mean=-1.0))
    noise.move([0, 1])
    rng, twin = np.random.default_rng(3), np.random.default_rng(3)
    theta, mean, dt, scale = np.float32(0.15), np.float32(0.5), np.float32(0.04), np.float32(0.3)
    expected = np.zeros(2)
    for step in range(20):
        if step == 10:
            noise.reset([0])
            expected[:] = 0
        state = noise.step(rng).copy()
        drawn = twin.standard_normal((3, 2))
        expected += float(theta) * (float(mean) - expected) * float(dt) + float(scale) * math.sqrt(dt) * drawn[0]
        np.testing.assert_allclose(state[0], expected, rtol=1e-9)
        np.testing.assert_allclose(state[1], -1 + float(np.float32(0.2)) * drawn[1], rtol=1e-12)
        assert not state[2].any()


def test_noise_of_a_paused_slot_stands_still_and_draws_do_not_depend_on_who_moves() -> None:
    explore = Kind(kind=Kind.KIND_ORNSTEIN_UHLENBECK, scale=0.3, theta=0.15, dt=0.01)
    noise, other = SlotNoise(2, 2), SlotNoise(2, 2)
    for n in (noise, other):
        n.set(0, explore)
        n.set(1, explore)
    noise.move([0])
    other.move([0, 1])
    a, b = np.random.default_rng(0), np.random.default_rng(0)
    for _ in range(5):
        noise.step(a)
        other.step(b)
    assert not noise.state[1].any() and other.state[1].any()
    np.testing.assert_array_equal(noise.state[0], other.state[0])


def test_noise_worked_out_beforehand_is_the_same() -> None:
    ahead, apart = SlotNoise(2, 3), SlotNoise(2, 3)
    a, b = np.random.default_rng(0), np.random.default_rng(0)

    def advance(steps: int) -> None:
        for _ in range(steps):
            np.testing.assert_array_equal(ahead.step(a), apart.step(b))

    for n in (ahead, apart):
        n.set(0, Kind(kind=Kind.KIND_ORNSTEIN_UHLENBECK, scale=0.3, mean=0.2, theta=0.15, dt=0.01))
        n.set(1, Kind(kind=Kind.KIND_GAUSSIAN, scale=0.1))
        n.move([0, 1])
    ahead.prepare(a, 10)
    advance(4)
    # An episode ends, and a slot pauses, before all of it was used; then more is needed than there is.
    for n in (ahead, apart):
        n.reset([0])
        n.move([0])
    advance(2)
    ahead.prepare(a, 9)
    advance(12)
    # What was drawn from one generator is not mixed with another's.
    ahead.prepare(a, 5)
    a, b = np.random.default_rng(1), np.random.default_rng(1)
    advance(3)


def test_each_slot_has_noise_of_its_own() -> None:
    decisions = Decisions(SPACES, 3)
    for slot in (0, 1):
        decisions.explore(slot, Kind(kind=Kind.KIND_GAUSSIAN, scale=0.2))
    who = member(2)
    decisions.plan({0: who, 1: who, 2: who})
    seen = [np.repeat(o[:1], 3, axis=0) for o in observations(1)]
    walk, _, _ = decisions.decide(seen, FREE, np.random.default_rng(0))[0]
    quiet = decisions.decide(seen, FREE, np.random.default_rng(1))[0][0][2]
    assert not np.allclose(walk[0], walk[1])
    np.testing.assert_array_equal(walk[2], quiet)
