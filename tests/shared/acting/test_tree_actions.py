"""Actions that are dictionaries and tuples: each leaf is what it would be as an action of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from covey.acting import Decisions, LoadedPolicy
from covey.networks import MLP, Input, NetworkSpec, NumpyOps
from covey.spaces import (
    AgentSpec,
    Box,
    DictSpace,
    Discrete,
    EnvironmentSpaces,
    MultiBinary,
    MultiDiscrete,
    TupleSpace,
    mask_width,
)
from covey.v1 import order_pb2
from covey.wire.policy_file import PolicySpec

SEEN = Box("float32", (2,), (-1.0,) * 2, (1.0,) * 2)
ARM = DictSpace(
    (
        ("grip", MultiBinary(2)),
        ("move", Box("float32", (2,), (0.0, -4.0), (2.0, 4.0))),
        ("tool", TupleSpace((Discrete(3, start=5), MultiDiscrete((2, 2, 3, 2), (2, 2), (0, 1, 0, 4))))),
    )
)
SPACES = EnvironmentSpaces.build(
    [
        AgentSpec("arm_0", SEEN, ARM, masked=True),
        AgentSpec("wheel_0", SEEN, Box("float32", (1,), (-1.0,), (1.0,))),
        AgentSpec("arm_1", SEEN, ARM, masked=True),
    ]
)
NAMES = ["grip", "move", "tool.0", "tool.1"]
OUTPUTS = {"grip": slice(0, 2), "move": slice(2, 4), "tool.0": slice(4, 7), "tool.1": slice(7, 16)}
Explore = order_pb2.Exploration
SAMPLE = Explore(kind=Explore.KIND_SAMPLE)
ALL_LEGAL = np.ones(mask_width(ARM), np.uint8)


def policies(head: str, sure: bool = False) -> list[LoadedPolicy]:
    """One policy an agent; that of an arm has standard deviations beside numbers that mean nothing."""
    made = []
    for i, agent in enumerate(SPACES.agents):
        network = NetworkSpec(
            inputs=(Input("observation", 2, MLP(hidden_size=(4,), min_mlp_nodes=1)),),
            head=MLP(hidden_size=(4,)),
            outputs=agent.action.width,
            latent_dim=4,
            log_std=-0.5 if head == "stochastic" else None,
        )
        params = network.init(np.random.default_rng(i))
        if sure:
            params = {name: p * 1000 if "head.out" in name else p for name, p in params.items()}
        made.append(LoadedPolicy(bytes([i]) * 32, PolicySpec(network, SEEN, agent.action, head), params))
    return made


def observations() -> list[NDArray[Any]]:
    return [np.array([[[0.3, -0.7], [0.9, 0.1]]], np.float32), np.array([[[0.5, 0.5]]], np.float32)]


def outputs(policy: LoadedPolicy, seen: NDArray[Any]) -> NDArray[np.float64]:
    y: NDArray[np.float32] = policy.spec.network.apply(NumpyOps(), policy.params, [seen[None]])
    z: NDArray[np.float64] = y[0].astype(np.float64)
    return z


def act(
    who: list[LoadedPolicy] | list[None],
    explore: order_pb2.Exploration,
    legal: NDArray[Any] = ALL_LEGAL,
    times: int = 1,
) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """What one observation makes that many environments get and store, per group (times, N, *shape)."""
    decisions = Decisions(SPACES, times)
    for slot in range(times):
        decisions.explore(slot, explore)
    decisions.plan(dict.fromkeys(range(times), who))
    masks = [np.tile(legal, (times, 2, 1)), None]
    seen = [np.repeat(x, times, 0) for x in observations()]
    return decisions.decide(seen, masks, np.random.default_rng(0))


def test_without_exploration_each_leaf_is_the_best_of_its_own_outputs() -> None:
    who = policies("deterministic")
    (arms, wheels), _ = act(who, Explore())
    assert arms.dtype == ARM.dtype and arms.shape == (1, 2)
    for n, agent in enumerate((0, 2)):
        z = outputs(who[agent], observations()[0][0, n])
        done = arms[0, n]
        assert done["grip"].tolist() == (z[OUTPUTS["grip"]] > 0).tolist()
        np.testing.assert_allclose(done["move"], [1, 0] + np.tanh(z[2:4] / 2) * [1, 4], rtol=1e-5)
        assert done["tool.0"] == 5 + z[4:7].argmax()
        best = [part.argmax() for part in np.split(z[7:], [2, 4, 7])]
        assert done["tool.1"].tolist() == (np.reshape(best, (2, 2)) + np.array([[0, 1], [0, 4]])).tolist()
    np.testing.assert_allclose(wheels[0, 0], np.tanh(outputs(who[1], observations()[1][0, 0]) / 2), rtol=1e-5)


def test_sampled_leaves_are_drawn_from_their_own_distributions() -> None:
    who = policies("stochastic")
    given, stored = act(who, SAMPLE, times=4000)
    z = outputs(who[2], observations()[0][0, 1])
    unit = (stored[0]["move"][:, 1].astype(np.float64) - [1, 0]) / [1, 4]
    assert unit.mean(axis=0) == pytest.approx(z[OUTPUTS["move"]], abs=0.04)
    assert unit.std(axis=0) == pytest.approx([np.exp(-0.5)] * 2, abs=0.03)
    np.testing.assert_allclose(given[0]["move"][:, 1], [1, 0] + np.clip(unit, -1, 1) * [1, 4], atol=1e-5)
    assert (np.abs(unit) > 1).any()
    for name in ("grip", "tool.0", "tool.1"):
        np.testing.assert_array_equal(given[0][name], stored[0][name])
    assert given[0]["grip"][:, 1].mean(axis=0) == pytest.approx(1 / (1 + np.exp(-z[:2])), abs=0.03)
    odds = np.exp(z[4:7])
    assert np.bincount(given[0]["tool.0"][:, 1] - 5, minlength=3) / 4000 == pytest.approx(odds / odds.sum(), abs=0.03)
    third = np.exp(z[11:14])
    shares = np.bincount(given[0]["tool.1"][:, 1, 1, 0], minlength=3) / 4000
    assert shares == pytest.approx(third / third.sum(), abs=0.03)


@pytest.mark.parametrize(
    ("explore", "who"),
    [
        (SAMPLE, policies("stochastic")),
        (Explore(kind=Explore.KIND_GAUSSIAN, scale=0.5), policies("deterministic")),
        (Explore(), [None] * 3),
        (Explore(), policies("deterministic")),
    ],
)
def test_in_each_leaf_only_what_its_part_of_the_mask_allows_is_done(
    explore: order_pb2.Exploration, who: list[LoadedPolicy]
) -> None:
    # Three values of tool.0, then 2, 2, 3 and 2 of tool.1: switches and numbers have no mask.
    legal = np.array([0, 1, 1, 1, 0, 0, 1, 1, 0, 1, 1, 1], np.uint8)
    (arms, _), _ = act(who, explore, legal, times=500)
    assert set(arms["tool.0"].flat) <= {6, 7}
    assert set(arms["tool.1"][..., 0, 0].flat) == {0} and set(arms["tool.1"][..., 0, 1].flat) == {2}
    assert set(arms["tool.1"][..., 1, 0].flat) <= {0, 2} and set(arms["tool.1"][..., 1, 1].flat) <= {4, 5}
    if explore.kind or who[0] is None:
        assert set(arms["tool.0"].flat) == {6, 7} and set(arms["tool.1"][..., 1, 0].flat) == {0, 2}


def test_each_choice_of_each_leaf_explores_by_itself_and_numbers_have_noise() -> None:
    who = policies("deterministic", sure=True)
    (best, _), _ = act(who, Explore())
    (arms, _), _ = act(who, Explore(kind=Explore.KIND_GAUSSIAN, scale=0.4), times=4000)
    other = {name: (arms[name][:, 0] != best[name][0, 0]).reshape(4000, -1) for name in ("grip", "tool.0", "tool.1")}
    for name, values in (("grip", [2, 2]), ("tool.0", [3]), ("tool.1", [2, 2, 3, 2])):
        assert other[name].mean(axis=0) == pytest.approx(0.4 * (1 - 1 / np.array(values)), abs=0.03)
    both = (other["tool.0"][:, 0] & other["tool.1"][:, 0] & other["grip"][:, 0]).mean()
    assert both == pytest.approx(0.4 * 2 / 3 * 0.2 * 0.2, abs=0.01)
    assert len(np.unique(arms["move"][:, 0, 0])) > 1000


def test_what_plays_at_random_is_uniform_in_every_leaf() -> None:
    (arms, _), _ = act([None] * 3, Explore(), times=4000)
    assert arms["grip"].mean(axis=(0, 1)) == pytest.approx([0.5, 0.5], abs=0.03)
    assert arms["move"].mean(axis=(0, 1)) == pytest.approx([1, 0], abs=0.1)
    assert arms["move"].min() >= -4 and arms["move"][..., 1].std() == pytest.approx(8 / np.sqrt(12), abs=0.1)
    assert np.bincount(arms["tool.0"].ravel() - 5) / 8000 == pytest.approx([1 / 3] * 3, abs=0.03)
    assert np.bincount(arms["tool.1"][..., 1, 1].ravel() - 4) / 8000 == pytest.approx([0.5] * 2, abs=0.03)
