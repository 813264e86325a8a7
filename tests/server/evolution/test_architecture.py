"""Architecture mutation: one method for all networks, inside every spec's bounds, outputs kept where it adds."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.examples import examples
from tests.support.members import actor_spec, assert_same_networks, assert_sound, critic_spec, make_member, outputs

from covey.networks import MLP
from covey.networks.normalisation import Moments
from covey.networks.resize import get_subnetwork, subnetwork_names
from covey_server.evolution.architecture import (
    LATENT_NODES,
    LAYER_METHODS,
    MLP_NODES,
    NODE_METHODS,
    ArchitectureChange,
    apply_change,
    draw_change,
    mutate_architecture,
)
from covey_server.member import Member, Network, Temperature

METHODS = (*LAYER_METHODS, *NODE_METHODS)


def drawn(member: Member, method: str) -> ArchitectureChange:
    """A mutation of this method, layer and size as they fall."""
    rng = np.random.default_rng(0)
    while (change := draw_change(member, float(method in LAYER_METHODS), rng)).method != method:
        pass
    return change


def apply_to_all(member: Member, change: ArchitectureChange, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    done = []
    for name, network in member.networks.items():
        member.networks[name], words = apply_change(network, change, rng)
        done.append(words)
    return done


@pytest.mark.parametrize("activation", ["ReLU", "ELU", "GELU", "Tanh", "Sigmoid", "Softplus"])
@pytest.mark.parametrize("method", [m for m in METHODS if "add" in m])
def test_adding_changes_every_network_and_no_output(method: str, activation: str) -> None:
    encoder = MLP(hidden_size=(8, 6), activation=activation, min_mlp_nodes=4, max_mlp_nodes=100)
    member = make_member(encoder=encoder, head=replace(encoder, hidden_size=(7,)))
    before = make_member(encoder=encoder, head=replace(encoder, hidden_size=(7,)))
    draw = drawn(member, method)
    assert all(apply_to_all(member, draw))
    for name, network in member.networks.items():
        old = before.networks[name]
        assert_sound(network)
        assert network.spec != old.spec and network.adam_steps == old.adam_steps
        expected, seen = outputs(old.spec, old.params), outputs(network.spec, network.params)
        np.testing.assert_allclose(seen, expected, atol=1e-6, rtol=1e-5)
        assert old.target is not None and network.target is not None
        expected, seen = outputs(old.spec, old.target), outputs(network.spec, network.target)
        np.testing.assert_allclose(seen, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_statistics_of_what_was_observed_and_earned_stay(method: str) -> None:
    member = make_member()
    kept = {}
    for i, (name, network) in enumerate(member.networks.items()):
        network.observed, network.earned = kept[name] = Moments.none(i + 1), Moments.none(1)
    assert any(apply_to_all(member, drawn(member, method)))
    for network, (observed, earned) in ((n, kept[name]) for name, n in member.networks.items()):
        assert network.observed is network.clone().observed is observed
        assert network.earned is network.clone().earned is earned


@pytest.mark.parametrize("method", METHODS)
def test_temperatures_stay_and_go_into_clones(method: str) -> None:
    member = make_member()
    member.networks["actor/speaker"].temperature = known = Temperature(-0.5, 0.25, 0.125, 7)
    assert any(apply_to_all(member, drawn(member, method)))
    assert member.networks["actor/speaker"].temperature == known
    assert member.networks["actor/speaker"].clone().temperature == known
    assert member.networks["actor/listener"].temperature is None


def test_moments_go_with_their_weights() -> None:
    """Moments equal to the weights stay equal to them, except on what is new."""
    for method in METHODS:
        member = make_member()
        for network in member.networks.values():
            network.first_moment = {n: p.copy() for n, p in network.params.items()}
            network.second_moment = {n: p.copy() for n, p in network.params.items()}
        apply_to_all(member, drawn(member, method))
        for network in member.networks.values():
            for name, moment in network.first_moment.items():
                assert np.array_equal(moment, network.second_moment[name])
                assert np.array_equal(moment[moment != 0], network.params[name][moment != 0])
            if "remove_node" in method:
                assert all(np.array_equal(m, network.params[n]) for n, m in network.first_moment.items())


@pytest.mark.parametrize("method", METHODS)
def test_a_method_touches_only_its_part(method: str) -> None:
    member, before = make_member(), make_member()
    words = apply_to_all(member, drawn(member, method))
    where = method.split(".")[0]
    for network, old in zip(member.networks.values(), before.networks.values(), strict=True):
        for part in subnetwork_names(network.spec):
            if not part.startswith(where):
                assert get_subnetwork(network.spec, part) == get_subnetwork(old.spec, part)
        assert (network.spec.latent_dim != old.spec.latent_dim) == (where == "latent")
    assert all(w.startswith(f"{where}.") for w in words if w)


def test_encoder_methods_reach_every_encoder_of_a_critic() -> None:
    member = make_member()
    apply_to_all(member, ArchitectureChange("encoder.add_node", 0, 16))
    critic, actor = (member.networks[key].spec for key in ("critic_1/speaker", "actor/speaker"))
    encoders = [get_subnetwork(critic, f"encoder.{i.name}").hidden_size for i in critic.inputs]
    assert encoders == [(24, 6), (24, 6)]
    assert get_subnetwork(actor, "encoder.observation").hidden_size == (24, 6)


def test_a_layer_that_a_network_lacks_means_its_last() -> None:
    member = make_member()
    short = member.networks["actor/speaker"]
    member.networks["actor/speaker"] = Network.fresh(
        replace(short.spec, head=MLP(hidden_size=(7,), min_mlp_nodes=4, max_mlp_nodes=40)), np.random.default_rng(0)
    )
    tall = replace(short.spec, head=MLP(hidden_size=(7, 7, 7), min_mlp_nodes=4, max_mlp_nodes=40))
    member.networks["actor/listener"] = Network.fresh(tall, np.random.default_rng(0))
    assert {
        draw.layer
        for k in range(300)
        if (draw := draw_change(member, 0.0, np.random.default_rng(k))).method == "head.add_node"
    } == {0, 1, 2}
    apply_to_all(member, ArchitectureChange("head.add_node", 2, 16))
    assert member.networks["actor/speaker"].spec.head.hidden_size == (23,)
    assert member.networks["actor/listener"].spec.head.hidden_size == (7, 7, 23)


def test_a_step_is_shortened_to_the_bounds() -> None:
    member = make_member()
    done = apply_to_all(member, ArchitectureChange("head.add_node", 0, 64))
    assert set(done) == {"head.add_node +33 at layer 0"}
    assert all(n.spec.head.hidden_size == (40,) for n in member.networks.values())
    assert set(apply_to_all(member, ArchitectureChange("head.remove_node", 0, 64))) == {
        "head.remove_node -36 at layer 0"
    }
    assert set(apply_to_all(member, ArchitectureChange("latent.add_node", 0, 32))) == {"latent.add_node +15"}


def test_layers_fall_back_to_nodes_at_their_limits() -> None:
    member = make_member(head=MLP(hidden_size=(7, 7), max_hidden_layers=2, min_mlp_nodes=4, max_mlp_nodes=40))
    assert set(apply_to_all(member, ArchitectureChange("head.add_layer", 1, 16))) == {"head.add_node +16 at layer 1"}
    member = make_member(head=MLP(hidden_size=(7,), min_mlp_nodes=4, max_mlp_nodes=40))
    assert set(apply_to_all(member, ArchitectureChange("head.remove_layer", 0, 16))) == {"head.add_node +16 at layer 0"}


def test_the_last_hidden_layer_stays() -> None:
    member = make_member(head=MLP(hidden_size=(7,), min_hidden_layers=0, min_mlp_nodes=4, max_mlp_nodes=40))
    apply_to_all(member, ArchitectureChange("head.remove_layer", 0, 16))
    assert all(len(n.spec.head.hidden_size) == 1 for n in member.networks.values())


def test_a_head_without_hidden_layers_stays_as_it_is() -> None:
    for method in METHODS:
        member = make_member(head=MLP(hidden_size=(), min_hidden_layers=0))
        done = apply_to_all(member, drawn(member, method))
        assert any(done) == (not method.startswith("head"))


def test_what_can_change_nothing_says_so_and_changes_nothing() -> None:
    tight = MLP(hidden_size=(8,), min_mlp_nodes=8, max_mlp_nodes=8, max_hidden_layers=1)
    member, before = make_member(encoder=tight, head=tight), make_member(encoder=tight, head=tight)
    for seed in range(30):
        kind, change = mutate_architecture(member, 1.0, np.random.default_rng(seed))
        assert kind == "none" and "no network has room" in change
    assert_same_networks(member, before)


def test_networks_with_room_change_while_the_others_stay() -> None:
    member = make_member()
    full = replace(actor_spec(), head=MLP(hidden_size=(40,), min_mlp_nodes=40, max_mlp_nodes=40))
    member.networks["actor/speaker"] = full_network = Network.fresh(full, np.random.default_rng(0))
    rng = np.random.default_rng(0)
    while not (done := mutate_architecture(member, 0.0, rng))[1].startswith("head."):
        full_network = member.networks["actor/speaker"]
    assert done[0] == "architecture" and "in 5 of 6 networks" in done[1]
    assert member.networks["actor/speaker"] is full_network


def test_a_network_too_large_for_actors_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = critic_spec()
    monkeypatch.setattr("covey_server.evolution.resized.MAX_PARAMETERS", sum(p.size for p in spec.parameters) + 100)
    network = Network.fresh(spec, np.random.default_rng(0))
    rng = np.random.default_rng(0)
    assert apply_change(network, ArchitectureChange("latent.add_node", 0, 8), rng) == (network, "")
    assert apply_change(network, ArchitectureChange("latent.remove_node", 0, 8), rng)[1] == "latent.remove_node -1"


def test_layer_methods_have_their_share_and_all_methods_of_a_kind_are_equally_likely() -> None:
    member, rng, n = make_member(), np.random.default_rng(0), 20_000
    draws = [draw_change(member, 0.3, rng) for _ in range(n)]
    counts = {m: sum(d.method == m for d in draws) for m in METHODS}
    for methods, share in ((LAYER_METHODS, 0.3), (NODE_METHODS, 0.7)):
        for m in methods:
            p = share / len(methods)
            # five standard deviations of a binomial
            assert abs(counts[m] - n * p) < 5 * np.sqrt(n * p * (1 - p)), m
    for d in draws[:500]:
        assert d.units in (LATENT_NODES if d.method.startswith("latent") else MLP_NODES)
    assert {draw_change(member, 1.0, rng).method for _ in range(50)} == set(LAYER_METHODS)
    assert {draw_change(member, 0.0, rng).method for _ in range(300)} == set(NODE_METHODS)


@examples(0.4)
@given(st.integers(0, 2**32), st.floats(0, 1), st.integers(1, 12), st.sampled_from(["ReLU", "GELU", "Tanh"]))
def test_no_sequence_of_mutations_leaves_the_bounds(seed: int, layers: float, length: int, activation: str) -> None:
    head = MLP(hidden_size=(7,), activation=activation, min_mlp_nodes=4, max_mlp_nodes=40)
    member = make_member(head=head, encoder=replace(head, hidden_size=(8, 6)))
    rng = np.random.default_rng(seed)
    for _ in range(length):
        kind, change = mutate_architecture(member, layers, rng)
        assert kind in ("architecture", "none") and change
    for network in member.networks.values():
        assert_sound(network)
