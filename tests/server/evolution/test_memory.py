"""Mutations of memory: policy and value network alike, within bounds; growth changes nothing over whole episodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from covey.config import parse_config
from covey.networks import MLP, Input, NetworkSpec, NumpyOps, Params, Recurrent
from covey.networks.recurrent import MEMORY
from covey_server.evolution.architecture import draw_change, mutate_architecture
from covey_server.evolution.memory import MEMORY_METHODS, change_memory
from covey_server.member import Member, Network, zeros_like


def network(spec: NetworkSpec, seed: int) -> Network:
    made = Network.fresh(spec, np.random.default_rng(seed), with_target=False)
    made.first_moment = {k: np.ones_like(v) for k, v in made.params.items()}
    return made


def member(state: int = 20, most: int = 40) -> Member:
    """Two policies, of which one has memory, and their value networks."""
    gru = Recurrent(
        encoder=MLP(hidden_size=(8,)), hidden_state_size=state, min_hidden_state_size=12, max_hidden_state_size=most
    )
    sizes: dict[str, Any] = {"head": MLP(hidden_size=(16,)), "latent_dim": 8}
    own = NetworkSpec(inputs=(Input("observation", 3, gru),), outputs=2, **sizes)
    value = NetworkSpec(
        inputs=(Input("observation", 3, MLP(hidden_size=(8,))),), outputs=1, reads_memory=state, **sizes
    )
    plain = NetworkSpec(inputs=(Input("observation", 3, MLP(hidden_size=(8,))),), outputs=1, **sizes)
    specs = {"actor/a": own, "actor/b": plain, "critic/a": value, "critic/b": plain}
    settings = parse_config({"algorithm": {"name": "IPPO"}, "environment": {"name": "none"}, "training": {}}).algorithm
    return Member(
        member_id=0,
        networks={key: network(spec, i) for i, (key, spec) in enumerate(specs.items())},
        hyperparameters=settings.initial_hyperparameters(),
    )


def play(networks: dict[str, Network], steps: int = 7) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Outputs and values over an episode."""
    rng = np.random.default_rng(9)
    actor, critic, ops = networks["actor/a"], networks["critic/a"], NumpyOps()
    state = np.zeros((4, actor.spec.state_size), np.float32)
    found = []
    for _ in range(steps):
        x = rng.normal(size=(4, 3)).astype(np.float32)
        value = critic.spec.apply(ops, critic.params, [x.copy()], memory=state)
        outputs, state = actor.spec.step(ops, actor.params, x.copy(), state)
        found.append((outputs, value))
    return found


def sizes(networks: dict[str, Network]) -> dict[str, int]:
    return {key: n.spec.sizes.get(MEMORY, 0) for key, n in networks.items()}


def test_growth_changes_neither_outputs_nor_values() -> None:
    before = member().networks
    changed = change_memory(before, True, 16, np.random.default_rng(0))
    after = {key: n for key, (n, _) in changed.items()}
    assert sizes(after) == {"actor/a": 36, "actor/b": 0, "critic/a": 36, "critic/b": 0}
    assert [words for _, words in changed.values()] == ["memory.add_node +16", "", "memory.add_node +16", ""]
    for (y, v), (new_y, new_v) in zip(play(before), play(after), strict=True):
        np.testing.assert_allclose(new_y, y, atol=1e-6)
        np.testing.assert_allclose(new_v, v, atol=1e-6)
    moments = after["actor/a"].first_moment["encoder.observation.memory.state.weight"]
    assert moments.shape == (36, 3 * 36) and moments.sum() == 20 * 3 * 20, "kept, and 0 for what is new"


def test_the_same_units_go_from_the_policy_and_from_what_reads_its_state() -> None:
    own = member()
    gone = [1, 4, 19, 7]
    for name in ("memory.state.weight", "out.weight"):
        own.networks["actor/a"].params[f"encoder.observation.{name}"][gone] = 1e-6
    head: Params = own.networks["critic/a"].params
    head["head.0.weight"][[8 + unit for unit in gone]] = 0  # behind the latents
    # What nobody reads may go: nothing changes but by rounding.
    after = {key: n for key, (n, _) in change_memory(own.networks, False, 4, np.random.default_rng(0)).items()}
    assert sizes(after) == {"actor/a": 16, "actor/b": 0, "critic/a": 16, "critic/b": 0}
    for (y, v), (new_y, new_v) in zip(play(own.networks), play(after), strict=True):
        np.testing.assert_allclose(new_y, y, atol=1e-4)
        np.testing.assert_allclose(new_v, v, atol=1e-4)


@pytest.mark.parametrize(("adds", "units", "left"), [(True, 64, 40), (False, 64, 12)])
def test_bounds_hold_and_where_they_allow_nothing_nothing_changes(adds: bool, units: int, left: int) -> None:
    own, rng = member(), np.random.default_rng(0)
    once = {key: n for key, (n, _) in change_memory(own.networks, adds, units, rng).items()}
    assert sizes(once)["actor/a"] == sizes(once)["critic/a"] == left
    assert all(not words for _, words in change_memory(once, adds, units, rng).values())


def test_memory_is_among_the_mutations_of_members_that_have_some() -> None:
    rng = np.random.default_rng(0)
    drawn = {draw_change(member(), 0.0, rng).method for _ in range(300)}
    assert set(MEMORY_METHODS) <= drawn
    plain = member()
    del plain.networks["actor/a"], plain.networks["critic/a"]
    assert not set(MEMORY_METHODS) & {draw_change(plain, 0.0, rng).method for _ in range(100)}
    own = member()
    for _ in range(40):
        mutate_architecture(own, 0.3, rng)
        found = sizes(own.networks)
        assert found["actor/a"] == found["critic/a"] and 12 <= found["actor/a"] <= 40
        for n in own.networks.values():
            assert {p.name: p.shape for p in n.spec.parameters} == {k: v.shape for k, v in n.params.items()}
            assert zeros_like(n.params).keys() == n.first_moment.keys()
            n.spec.check()
    play(own.networks)
