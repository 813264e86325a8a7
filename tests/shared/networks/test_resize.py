"""Growth changes no output, for every activation; weights, targets and moments stay aligned."""

from dataclasses import replace

import numpy as np
import pytest
from tests.support.members import actor_spec, critic_spec, outputs

from covey.networks import MLP, NetworkSpec, Params
from covey.networks.labels import axis_width
from covey.networks.ops import ACTIVATIONS, IDEMPOTENT
from covey.networks.resize import (
    Resize,
    contribution,
    get_subnetwork,
    grow,
    insert_layer,
    remove_layer,
    shrink,
    subnetwork_names,
    with_subnetwork,
)

SPECS = {"actor": actor_spec(), "critic": critic_spec()}
GROWABLE = [(role, label) for role, spec in SPECS.items() for label in spec.sizes]
PARTS = [(role, part) for role, spec in SPECS.items() for part in subnetwork_names(spec)]


def activated(spec: NetworkSpec, activation: str, *, layer_norm: bool = False) -> NetworkSpec:
    for part in subnetwork_names(spec):
        spec = with_subnetwork(
            spec, part, replace(get_subnetwork(spec, part), activation=activation, layer_norm=layer_norm)
        )
    return spec


def numbers(spec: NetworkSpec, start: int = 1) -> Params:
    """Every number of a network different from every other, and none zero."""
    result: Params = {}
    for p in spec.parameters:
        result[p.name] = np.arange(start, start + p.size, dtype=np.float32).reshape(p.shape)
        start += p.size
    return result


def assert_shapes(resize: Resize, *moved: Params) -> None:
    for params in moved:
        assert {n: p.shape for n, p in params.items()} == {p.name: p.shape for p in resize.spec.parameters}
        assert all(p.dtype == np.float32 for p in params.values())


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("role", "label"), GROWABLE)
def test_growth_changes_no_output(role: str, label: str, activation: str, rng: np.random.Generator) -> None:
    spec = activated(SPECS[role], activation)
    params = spec.init(rng)
    resize = grow(spec, label, 5, rng)
    assert resize.spec.sizes == {**spec.sizes, label: spec.sizes[label] + 5}
    grown = resize.weights(params)
    assert_shapes(resize, grown, resize.moments(params))
    np.testing.assert_allclose(outputs(resize.spec, grown), outputs(spec, params), atol=1e-6)


@pytest.mark.parametrize(("role", "label"), GROWABLE)
def test_new_units_have_fresh_incoming_and_zero_outgoing_weights(
    role: str, label: str, rng: np.random.Generator
) -> None:
    spec = SPECS[role]
    resize = grow(spec, label, 5, rng)
    grown = resize.weights(numbers(spec))
    added = np.arange(spec.sizes[label], spec.sizes[label] + 5)
    seen = {"in": 0, "out": 0}
    for p in resize.spec.parameters:
        for k, axis in enumerate(p.axes):
            offset = 0
            for s in axis:
                if s.label == label and p.inputs:
                    new = np.take(grown[p.name], offset + added, axis=k)
                    seen["out" if k < p.inputs else "in"] += 1
                    # Fresh weights lie in the uniform range of their layer, and no two of them are equal.
                    assert (new == 0).all() if k < p.inputs else len(np.unique(new)) == new.size
                    assert np.abs(new).max() <= 1 / np.sqrt(p.fan_in) + 1e-6
                offset += s.width
    assert all(seen.values())


@pytest.mark.parametrize(("role", "label"), GROWABLE)
def test_grown_moments_keep_every_position(role: str, label: str, rng: np.random.Generator) -> None:
    """Checked without the labels: sorted by position, what was there is there, and everything else is zero."""
    spec = SPECS[role]
    resize = grow(spec, label, 5, rng)
    before, weights = numbers(spec), resize.weights(numbers(spec))
    for name, moment in resize.moments(before).items():
        old = before[name]
        assert moment[moment != 0].tolist() == old.ravel().tolist()
        assert np.array_equal(moment != 0, np.isin(weights[name], old))
        if old.shape == moment.shape:
            assert np.array_equal(moment, old)


def test_growing_a_latent_moves_every_copy_and_the_extra_inputs(rng: np.random.Generator) -> None:
    spec = critic_spec()
    grown = grow(spec, "latent", 2, rng).moments(numbers(spec))["head.0.weight"]
    old = numbers(spec)["head.0.weight"]
    # Joint input of the head: latent (5) of two speakers, latent of the listener, 7 actions.
    for copy in range(3):
        assert np.array_equal(grown[copy * 7 : copy * 7 + 5], old[copy * 5 : copy * 5 + 5])
        assert (grown[copy * 7 + 5 : copy * 7 + 7] == 0).all()
    assert np.array_equal(grown[21:], old[15:])


def test_target_and_parameters_get_the_same_fresh_weights(rng: np.random.Generator) -> None:
    spec = actor_spec()
    params, target = spec.init(rng), spec.init(rng)
    resize = grow(spec, "encoder.observation.0.units", 3, rng)
    a, b = resize.weights(params), resize.weights(target)
    assert np.array_equal(a["encoder.observation.0.weight"][:, 8:], b["encoder.observation.0.weight"][:, 8:])
    assert np.array_equal(a["encoder.observation.0.weight"][:, :8], params["encoder.observation.0.weight"])
    assert np.array_equal(b["encoder.observation.0.weight"][:, :8], target["encoder.observation.0.weight"])
    # They must not be the same memory: the learner updates one and not the other.
    a["encoder.observation.0.bias"][:] = 9
    assert (b["encoder.observation.0.bias"] != 9).all()
    assert (resize.weights(params)["encoder.observation.0.bias"] != 9).all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("role", "part"), PARTS)
def test_an_inserted_layer_changes_no_output(role: str, part: str, activation: str, rng: np.random.Generator) -> None:
    spec = activated(SPECS[role], activation)
    params = spec.init(rng)
    once = insert_layer(spec, part)
    mlp = get_subnetwork(once.spec, part)
    before = get_subnetwork(spec, part).hidden_size
    assert mlp.hidden_size == (*before, before[-1])
    assert mlp.gated == (() if activation in IDEMPOTENT else (len(before),))
    twice = insert_layer(once.spec, part)
    deeper = twice.weights(once.weights(params))
    assert_shapes(twice, deeper)
    np.testing.assert_allclose(outputs(twice.spec, deeper), outputs(spec, params), atol=1e-6)


def test_an_inserted_layer_keeps_moments_and_starts_its_own_at_zero() -> None:
    spec = activated(actor_spec(), "Tanh")
    resize = insert_layer(spec, "head")
    before = numbers(spec)
    moments = resize.moments(before)
    for name, moment in moments.items():
        if name.startswith("head.1."):
            assert (moment == 0).all()
        else:
            assert np.array_equal(moment, before[name])
    assert {"head.1.weight", "head.1.bias", "head.1.gate"} <= moments.keys()


def test_an_inserted_layer_is_gated_behind_a_gated_one(rng: np.random.Generator) -> None:
    """A gate lets negative numbers through, which ReLU would then cut."""
    spec = activated(actor_spec(), "Tanh")
    once = insert_layer(spec, "head")
    params = once.weights(spec.init(rng))
    params["head.1.weight"] += rng.normal(size=(7, 7)).astype(np.float32)  # it has learnt to give negative numbers
    relu = activated(once.spec, "ReLU")
    twice = insert_layer(relu, "head")
    np.testing.assert_allclose(outputs(twice.spec, twice.weights(params)), outputs(relu, params), atol=1e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("role", "part"), PARTS)
def test_removing_an_inserted_gated_layer_gives_the_network_back(
    role: str, part: str, activation: str, rng: np.random.Generator
) -> None:
    spec = activated(SPECS[role], activation)
    params = spec.init(rng)
    inserted = insert_layer(spec, part)
    removed = remove_layer(inserted.spec, part)
    assert removed.spec == spec
    back = removed.weights(inserted.weights(params))
    for name, p in params.items():
        np.testing.assert_allclose(back[name], p, atol=1e-6)


def test_a_removed_layer_is_folded_as_if_it_were_linear(rng: np.random.Generator) -> None:
    spec = activated(actor_spec(head=MLP(hidden_size=(7, 6))), "Identity")
    params, moments = spec.init(rng), numbers(spec)
    resize = remove_layer(spec, "head")
    assert resize.spec.head.hidden_size == (7,)
    folded = resize.weights(params)
    assert_shapes(resize, folded, resize.moments(moments))
    np.testing.assert_allclose(outputs(resize.spec, folded), outputs(spec, params), atol=1e-6)
    after = resize.moments(moments)
    assert (after["head.out.weight"] == 0).all()
    assert all(np.array_equal(m, moments[n]) for n, m in after.items() if n != "head.out.weight")


@pytest.mark.parametrize(("role", "label"), GROWABLE)
def test_removal_drops_the_units_that_contribute_least(role: str, label: str, rng: np.random.Generator) -> None:
    """Units without outgoing weights go first, and then no output changes."""
    spec = SPECS[role]
    params = spec.init(rng)
    size = spec.sizes[label]
    silent = [1, size - 2]
    for p in spec.parameters:
        for k, axis in enumerate(p.axes[: p.inputs]):
            offset = 0
            for s in axis:
                if s.label == label:
                    params[p.name][(slice(None),) * k + ([offset + u for u in silent],)] = 0
                offset += s.width
    contributions = contribution(spec, params, label)
    assert contributions.shape == (size,) and np.flatnonzero(contributions == 0).tolist() == silent
    resize = shrink(spec, label, 2, params)
    assert resize.spec.sizes == {**spec.sizes, label: size - 2}
    np.testing.assert_allclose(outputs(resize.spec, resize.weights(params)), outputs(spec, params), atol=1e-6)
    assert_shapes(resize, resize.weights(params), resize.moments(params))


def test_contribution_is_incoming_norm_times_outgoing_norm(rng: np.random.Generator) -> None:
    spec = critic_spec()
    params = spec.init(rng)
    head, speaker, listener = (
        params[n] for n in ("head.0.weight", "encoder.speaker.out.weight", "encoder.listener.out.weight")
    )
    for unit in range(spec.latent_dim):
        into = np.sqrt((speaker[:, unit] ** 2).sum() + (listener[:, unit] ** 2).sum())
        out = np.sqrt(sum((head[copy * 5 + unit] ** 2).sum() for copy in range(3)))
        assert contribution(spec, params, "latent")[unit] == pytest.approx(into * out, rel=1e-5)


def test_removal_makes_one_choice_for_weights_target_and_moments(rng: np.random.Generator) -> None:
    spec = actor_spec()
    params = spec.init(rng)
    keep = np.sort(np.argsort(contribution(spec, params, "head.0.units"))[3:])
    resize = shrink(spec, "head.0.units", 3, params)
    for old, new in ((params, resize.weights(params)), *((m, resize.moments(m)) for m in (numbers(spec),))):
        assert np.array_equal(new["head.0.weight"], old["head.0.weight"][:, keep])
        assert np.array_equal(new["head.0.bias"], old["head.0.bias"][keep])
        assert np.array_equal(new["head.out.weight"], old["head.out.weight"][keep])
        assert np.array_equal(new["encoder.observation.0.weight"], old["encoder.observation.0.weight"])
    target = numbers(spec, start=1000)
    assert np.array_equal(resize.weights(target)["head.0.bias"], target["head.0.bias"][keep])


def test_growth_then_removal_gives_the_network_back(rng: np.random.Generator) -> None:
    """What grew and has not learnt contributes nothing, so it is what goes."""
    for spec in SPECS.values():
        params = spec.init(rng)
        for label in spec.sizes:
            grown = grow(spec, label, 4, rng)
            wide = grown.weights(params)
            back = shrink(grown.spec, label, 4, wide)
            assert back.spec == spec
            assert all(np.array_equal(back.weights(wide)[n], p) for n, p in params.items())


def test_layer_norm_preserves_latent_growth_but_not_node_growth(rng: np.random.Generator) -> None:
    spec = activated(actor_spec(), "ReLU", layer_norm=True)
    params = spec.init(rng)
    latent = grow(spec, "latent", 5, rng)
    np.testing.assert_allclose(outputs(latent.spec, latent.weights(params)), outputs(spec, params), atol=1e-6)
    nodes = grow(spec, "head.0.units", 5, rng)
    assert np.isfinite(outputs(nodes.spec, nodes.weights(params))).all()
    assert not np.allclose(outputs(nodes.spec, nodes.weights(params)), outputs(spec, params), atol=1e-3)
    deeper = insert_layer(spec, "head")
    carried = deeper.weights(params)
    assert (carried["head.1.norm.scale"] == 1).all() and (carried["head.1.norm.bias"] == 0).all()


def test_axis_widths_match_shapes_after_every_change(rng: np.random.Generator) -> None:
    spec = critic_spec()
    for resize in (grow(spec, "latent", 3, rng), shrink(spec, "latent", 1, spec.init(rng)), insert_layer(spec, "head")):
        for p in resize.spec.parameters:
            assert tuple(axis_width(axis) for axis in p.axes) == resize.weights(spec.init(rng))[p.name].shape


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)
