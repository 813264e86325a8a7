"""Small members, as the algorithms build them: two agents, an actor and twin critics each."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from covey.config import OffPolicyHyperparameters
from covey.networks import MLP, Input, NetworkSpec, NumpyOps, Params
from covey.networks.resize import get_subnetwork, subnetwork_names
from covey.run.checkpoint_format import read_newest
from covey_server.member import Member, Network
from covey_server.storage.checkpoint import load_members

AGENTS = {"speaker": (3, 2), "listener": (4, 3)}
"""Observation and action width by agent."""

ENCODER = MLP(hidden_size=(8, 6), min_mlp_nodes=4, max_mlp_nodes=48)
HEAD = MLP(hidden_size=(7,), min_mlp_nodes=4, max_mlp_nodes=40)


def actor_spec(width: int = 3, outputs: int = 2, *, encoder: MLP = ENCODER, head: MLP = HEAD) -> NetworkSpec:
    """One encoder over the agent's own observation."""
    return NetworkSpec(
        inputs=(Input("observation", width, encoder),),
        head=head,
        outputs=outputs,
        latent_dim=9,
        min_latent_dim=4,
        max_latent_dim=24,
    )


def critic_spec(*, encoder: MLP = ENCODER, head: MLP = HEAD) -> NetworkSpec:
    """One encoder per group, one group of two agents, and all actions as extra inputs."""
    return NetworkSpec(
        inputs=(Input("speaker", 3, encoder, copies=2), Input("listener", 4, encoder)),
        head=head,
        outputs=1,
        extra=7,
        latent_dim=5,
        min_latent_dim=4,
        max_latent_dim=20,
    )


def make_member(member_id: int = 0, *, seed: int = 0, encoder: MLP = ENCODER, head: MLP = HEAD) -> Member:
    """A member whose targets and moments are full of numbers that differ from its weights."""
    rng = np.random.default_rng([seed, member_id])
    networks: dict[str, Network] = {}
    for agent, (width, outputs) in AGENTS.items():
        specs = {
            f"actor/{agent}": actor_spec(width, outputs, encoder=encoder, head=head),
            f"critic_1/{agent}": critic_spec(encoder=encoder, head=head),
            f"critic_2/{agent}": critic_spec(encoder=encoder, head=head),
        }
        networks |= {name: lived(Network.fresh(spec, rng), rng) for name, spec in specs.items()}
    return Member(
        member_id=member_id,
        networks=networks,
        hyperparameters=OffPolicyHyperparameters(lr_actor=0.001, lr_critic=0.01, batch_size=64, learn_step=5),
        env_steps=1000,
        updates=200,
        unpaid_steps=13,
        fitness=-float(member_id),
        fitness_stderr=0.5,
    )


def lived(network: Network, rng: np.random.Generator) -> Network:
    """The network as after some updates."""

    def noise(params: Params) -> Params:
        return {name: rng.normal(size=p.shape).astype(np.float32) for name, p in params.items()}

    return replace(
        network,
        target=noise(network.params),
        first_moment=noise(network.params),
        second_moment={name: p**2 for name, p in noise(network.params).items()},
        adam_steps=200,
    )


def outputs(spec: NetworkSpec, params: Params, seed: int = 0, batch: int = 16) -> np.ndarray:
    """What the network says about fixed random inputs, (batch, outputs)."""
    rng = np.random.default_rng(seed)
    inputs = [rng.normal(size=(batch, i.copies * i.width)).astype(np.float32) for i in spec.inputs]
    extra = rng.normal(size=(batch, spec.extra)).astype(np.float32) if spec.extra else None
    result = spec.apply(NumpyOps(), params, inputs, extra)
    assert isinstance(result, np.ndarray)
    return result


def assert_same_networks(a: Member, b: Member) -> None:
    """Equal specs, and equal numbers in every dictionary."""
    assert a.networks.keys() == b.networks.keys()
    for name, one in a.networks.items():
        other = b.networks[name]
        assert one.spec == other.spec and one.adam_steps == other.adam_steps
        assert one.temperature == other.temperature
        for x, y in (
            (one.params, other.params),
            (one.target or {}, other.target or {}),
            (one.first_moment, other.first_moment),
            (one.second_moment, other.second_moment),
        ):
            assert x.keys() == y.keys() and all(np.array_equal(x[k], y[k]) for k in x)


def assert_sound(network: Network) -> None:
    """Shapes fit, everything is float32 and finite, bounds hold, the spec survives JSON, and the network runs."""
    spec = network.spec
    spec.check()
    assert NetworkSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    shapes = {p.name: p.shape for p in spec.parameters}
    assert network.target is not None
    for numbers in (network.params, network.target, network.first_moment, network.second_moment):
        assert {n: p.shape for n, p in numbers.items()} == shapes
        assert all(p.dtype == np.float32 and np.isfinite(p).all() for p in numbers.values())
    assert spec.min_latent_dim <= spec.latent_dim <= spec.max_latent_dim
    for part in subnetwork_names(spec):
        mlp = get_subnetwork(spec, part)
        assert mlp.min_hidden_layers <= len(mlp.hidden_size) <= mlp.max_hidden_layers
        assert all(mlp.min_mlp_nodes <= n <= mlp.max_mlp_nodes for n in mlp.hidden_size)
        assert all(i < len(mlp.hidden_size) for i in mlp.gated)
    assert np.isfinite(outputs(spec, network.params)).all()
    assert outputs(spec, network.params).shape == (16, spec.outputs)


def loaded(directory: Path) -> tuple[dict[str, Any], list[Member]]:
    """State and members of the newest sound checkpoint of members like `make_member`'s."""
    newest = read_newest(directory)
    return newest[1], load_members(*newest, OffPolicyHyperparameters())
