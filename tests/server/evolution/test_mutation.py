"""Kinds of mutation: their odds, and what each may touch."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.examples import examples
from tests.support.members import assert_same_networks, assert_sound, make_member, outputs

from covey.config import Mutation, RLParameter
from covey.networks import MLP
from covey.networks.resize import insert_layer
from covey_server.evolution.generation import copied
from covey_server.evolution.mutation import (
    Mutations,
    activations,
    disturbed,
    mutate_activation,
    mutate_parameters,
)
from covey_server.evolution.resized import resized

RANGES = {
    "lr_actor": RLParameter(min=1e-4, max=1e-2, grow_factor=1.2, shrink_factor=0.8, dtype="float"),
    "batch_size": RLParameter(min=8, max=512, grow_factor=1.2, shrink_factor=0.8, dtype="int"),
    "learn_step": RLParameter(min=1, max=20, grow_factor=1.5, shrink_factor=0.75, dtype="int"),
}
OFF = {"no_mut": 0.0, "arch_mut": 0.0, "params_mut": 0.0, "act_mut": 0.0, "rl_hp_mut": 0.0}


def mutations(**odds: float) -> Mutations:
    settings_ = Mutation.model_validate({"probabilities": {**OFF, **odds}})
    return Mutations(settings_, RANGES, np.random.default_rng(0))


def test_kinds_come_as_often_as_their_relative_weights_say() -> None:
    weights = {"no_mut": 2.0, "arch_mut": 1.0, "params_mut": 1.0, "act_mut": 3.0, "rl_hp_mut": 1.0}
    kinds = ("none", "architecture", "parameters", "activation", "rl_hp")
    mutate, n = mutations(**weights), 2000
    member = make_member()
    # Wide ranges and three activations: no draw ends as "none" for want of room.
    member.networks = {"actor/a": make_member().networks["actor/speaker"]}
    drawn = []
    for _ in range(n):
        child = copied(member)
        mutate.mutate(child)
        drawn.append(child.mutation)
    for kind, weight in zip(kinds, weights.values(), strict=True):
        p = weight / 8
        assert abs(drawn.count(kind) - n * p) < 5 * np.sqrt(n * p * (1 - p)), kind


def test_no_mutation_changes_nothing() -> None:
    member, before = make_member(), make_member()
    mutations(no_mut=1).mutate(member)
    assert (member.mutation, member.change) == ("none", "")
    assert_same_networks(member, before)
    assert member.hyperparameters == before.hyperparameters


def test_before_training_every_member_mutates() -> None:
    mutate = mutations(no_mut=1000, rl_hp_mut=1)
    for member_id in range(20):
        member = make_member(member_id)
        mutate.pre_train(member)
        assert member.mutation == "rl_hp"


def test_before_training_nothing_happens_where_no_kind_has_weight() -> None:
    member, before = make_member(), make_member()
    mutations(no_mut=1).pre_train(member)
    assert member.mutation == "initial"
    assert_same_networks(member, before)


def test_parameters_mutate_in_policies_only_and_targets_take_them_over() -> None:
    for seed in range(10):
        member, before = make_member(), make_member()
        kind, change = mutate_parameters(member, 0.1, np.random.default_rng(seed))
        total = 0
        for name, network in member.networks.items():
            old = before.networks[name]
            assert network.target is not None and old.target is not None
            moved_in_network = 0
            for p in network.spec.parameters:
                moved = network.params[p.name] != old.params[p.name]
                moved_in_network += int(moved.sum())
                assert np.array_equal(network.first_moment[p.name], old.first_moment[p.name])
                assert np.array_equal(network.second_moment[p.name], old.second_moment[p.name])
                assert np.array_equal(network.target[p.name][moved], network.params[p.name][moved])
                assert np.array_equal(network.target[p.name][~moved], old.target[p.name][~moved])
                if moved.any():
                    assert p.inputs and len(p.axes) == 2
                    assert moved.sum() <= np.ceil(0.1 * p.size)
            assert bool(moved_in_network) == name.startswith("actor/")
            total += moved_in_network
        assert kind == "parameters" and change == f"noise added to {total} policy weights"


def test_the_number_of_disturbed_matrices_is_uniform() -> None:
    counts, n = np.zeros(6, int), 3000
    rng = np.random.default_rng(0)
    fresh = make_member()
    fresh.networks = {"actor/a": fresh.networks["actor/speaker"]}
    for _ in range(n):
        member = copied(fresh)
        mutate_parameters(member, 0.1, rng)
        old, new = (m.networks["actor/a"].params for m in (fresh, member))
        counts[sum(not np.array_equal(old[k], new[k]) for k in old)] += 1
    # Two hidden layers and an output in the encoder, one and an output in the head: one to five matrices.
    assert counts[0] == 0
    assert (np.abs(counts[1:] - n / 5) < 5 * np.sqrt(n * 0.16)).all()


def test_five_percent_are_reset_and_the_rest_gets_noise_in_proportion() -> None:
    n = 200_000
    new = disturbed(np.full(n, 100, np.float32), 0.1, np.random.default_rng(0))
    reset = np.abs(new) < 20  # eight standard deviations of the noise away from 100, twenty of the reset from 0
    assert abs(reset.sum() - 0.05 * n) < 5 * np.sqrt(n * 0.05 * 0.95)
    assert new[reset].std() == pytest.approx(1, abs=0.05) and new[reset].mean() == pytest.approx(0, abs=0.05)
    assert new[~reset].std() == pytest.approx(10, rel=0.02) and new[~reset].mean() == pytest.approx(100, rel=0.01)
    assert new.dtype == np.float32
    assert np.abs(disturbed(np.full(1000, 1e6, np.float32), 0.5, np.random.default_rng(0))).max() <= 1e6


def test_noise_of_zero_leaves_only_resets() -> None:
    weights = np.random.default_rng(1).normal(size=10_000).astype(np.float32)
    new = disturbed(weights, 0.0, np.random.default_rng(0))
    assert 0.03 < (new != weights).mean() < 0.07


def test_an_activation_changes_everywhere_and_weights_stay() -> None:
    seen = set()
    for seed in range(20):
        member, before = make_member(), make_member()
        kind, change = mutate_activation(member, ["ReLU", "ELU", "GELU"], np.random.default_rng(seed))
        in_use = {a for network in member.networks.values() for a in activations(network.spec)}
        assert kind == "activation" and len(in_use) == 1 and change == f"ReLU -> {min(in_use)}"
        seen |= in_use
        for name, network in member.networks.items():
            old = before.networks[name]
            assert all(np.array_equal(p, old.params[n]) for n, p in network.params.items())
            assert_sound(network)
    assert seen == {"ELU", "GELU"}
    member = make_member()
    assert mutate_activation(member, ["ReLU"], np.random.default_rng(0))[0] == "none"
    assert_same_networks(member, make_member())


def test_gated_layers_keep_their_gates_under_another_activation() -> None:
    tanh = MLP(hidden_size=(7,), activation="Tanh", min_mlp_nodes=4, max_mlp_nodes=40)
    member = make_member(encoder=tanh, head=tanh)
    for name, network in member.networks.items():
        member.networks[name] = resized(network, insert_layer(network.spec, "head"))
    gates = {n: network.params["head.1.gate"].copy() for n, network in member.networks.items()}
    mutate_activation(member, ["ReLU"], np.random.default_rng(0))
    for name, network in member.networks.items():
        assert network.spec.head.gated == (1,) and network.spec.head.activation == "ReLU"
        assert np.array_equal(network.params["head.1.gate"], gates[name])
        assert_sound(network)


@examples(0.6)
@given(st.integers(0, 2**32), st.integers(1, 10), st.sampled_from(["ReLU", "ELU", "Tanh", "Sigmoid"]))
def test_a_member_stays_sound_through_any_mutations(seed: int, length: int, activation: str) -> None:
    layers: dict[str, Any] = {"activation": activation, "min_mlp_nodes": 4, "max_mlp_nodes": 40}
    member = make_member(encoder=MLP(hidden_size=(8, 6), **layers), head=MLP(hidden_size=(7,), **layers))
    before = {name: outputs(n.spec, n.params) for name, n in member.networks.items()}
    settings_ = Mutation.model_validate(
        {"probabilities": {"no_mut": 0, "arch_mut": 2, "new_layer": 0.5, "params_mut": 1, "act_mut": 1, "rl_hp_mut": 1}}
    )
    mutate = Mutations(settings_, RANGES, np.random.default_rng(seed))
    for _ in range(length):
        mutate.mutate(member)
        for network in member.networks.values():
            assert_sound(network)
        for name, limits in RANGES.items():
            assert limits.min <= member.hyperparameters.numbers()[name] <= limits.max
            assert type(member.hyperparameters.numbers()[name]) is (int if limits.dtype == "int" else float)
        if "add_" in member.change and "remove" not in member.change:
            for name, network in member.networks.items():
                after = outputs(network.spec, network.params)
                np.testing.assert_allclose(after, before[name], rtol=1e-4, atol=1e-5)
        before = {name: outputs(n.spec, n.params) for name, n in member.networks.items()}
