"""Convolutions and residual blocks learn in packs what each learns alone, through many generations of mutation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from covey.config import OffPolicyHyperparameters
from covey.networks import CNN, MLP, Encoder, ImagePart, Input, MultiInput, NetworkSpec, ResNet, SimBa
from covey.networks.resize import get_subnetwork, subnetwork_names
from covey.networks.torch_module import TorchModule
from covey.networks.trusted_modules import trust
from covey_server.evolution.architecture import mutate_architecture
from covey_server.member import Member, Network
from covey_server.packing import row_inputs
from covey_server.packing.networks_by_role import PackedNetworks, Pass
from covey_server.packing.torch_ops import TorchOps
from covey_server.packing.updates.recorded import Recorded
from covey_server.packing.updates.verification import Verification

CPU = torch.device("cpu")
SAMPLES = 6
GENERATIONS = 20

SMALL = MLP(hidden_size=(6,), min_mlp_nodes=4, max_mlp_nodes=12)
LIMITS: dict[str, Any] = {"min_channel_size": 2, "max_channel_size": 12, "max_hidden_layers": 3}
PIXELS = CNN(image=(7, 6, 2), channel_size=(4, 5), kernel_size=(3, 2), stride_size=(2, 1), **LIMITS)
PLANES = CNN(image=(7, 6, 2), channels_first=True, channel_size=(4, 3), kernel_size=(3, 3), activation="Tanh", **LIMITS)
BLOCKS: dict[str, Any] = {"min_block_size": 4, "max_block_size": 40, "max_hidden_layers": 3}
STREAM = SimBa(hidden_size=6, block_size=(9, 7), **BLOCKS)
BLURRED = ResNet(image=(7, 6, 2), channel_size=4, stride_size=2, block_size=(5, 8), activation="Tanh", **BLOCKS)
SEVERAL = MultiInput(images=(ImagePart("camera", 3, PIXELS),), vector=SMALL)


def own(function: str) -> TorchModule:
    """A torch module that reads ten numbers."""
    module = f"tests.support.own_networks:{function}"
    trust(module)
    return TorchOps().describe_module(module, "{}", (("", (10,)),), "ReLU", "here")


KINDS: dict[str, tuple[Encoder, Encoder, int]] = {
    "cnn": (PIXELS, PIXELS, 84),
    "cnn, channels first, Tanh": (PLANES, PLANES, 84),
    "multi_input": (SEVERAL, SEVERAL, 90),
    "mixed": (PIXELS, SMALL, 84),
    "simba": (STREAM, STREAM, 10),
    "simba, Tanh, beside others": (replace(STREAM, activation="Tanh"), SMALL, 10),
    "resnet": (BLURRED, replace(BLURRED, channels_first=True), 84),
    "torch": (own("scaled"), own("scaled"), 10),
    "torch, one by one, beside others": (own("recurrent"), SMALL, 10),
    "mlp": (SMALL, SMALL, 10),
}


def network(inputs: Sequence[Input], outputs: int, extra: int) -> NetworkSpec:
    return NetworkSpec(
        inputs=tuple(inputs),
        head=SMALL,
        outputs=outputs,
        extra=extra,
        latent_dim=7,
        min_latent_dim=4,
        max_latent_dim=12,
    )


def member(kind: str, member_id: int) -> Member:
    one, other, width = KINDS[kind]
    rng = np.random.default_rng([5, member_id])
    specs = {
        "actor/a": network([Input("observation", width, one)], 3, 0),
        "actor/b": network([Input("observation", width, other)], 3, 0),
        **{
            f"critic/{agent}": network([Input("a", width, one), Input("b", width, other)], 1, 6) for agent in ("a", "b")
        },
    }
    return Member(
        member_id=member_id,
        networks={name: Network.fresh(spec, rng) for name, spec in specs.items()},
        hyperparameters=OffPolicyHyperparameters(),
    )


def updated(members: Sequence[Member], draws: np.random.Generator, width: int, whose: Sequence[int]) -> list[Any]:
    """One Adam step of all actors and critics of members, from data drawn for many; their outputs before it."""
    n = len(members)
    drawn = [draws.normal(size=(3, SAMPLES, w)).astype(np.float32) for w in (width, width, 6, 3, 3, 1, 1)]
    a, b, actions, *upstream = (torch.from_numpy(x[list(whose)]) for x in drawn)
    told: list[Any] = []

    def step(one: Pass, gradients: list[torch.Tensor]) -> None:
        one.count_steps(np.full(n, 0.003))
        one.move(gradients, None)

    everybody = tuple(range(n))
    actors = PackedNetworks(members, {"actor/a": (0,), "actor/b": (1,)}, CPU)
    acting = actors.select(everybody)
    told += [y.numpy() for y in acting.outputs_by_agent("learn", [[a, b]])]
    step(acting, acting.agent_gradients(upstream[:2]))
    critics = PackedNetworks(members, {"critic/a": (0,), "critic/b": (1,)}, CPU)
    scoring = critics.select(everybody)
    told.append(scoring.values("learn", [a, b], actions).numpy().swapaxes(0, 1))
    step(scoring, scoring.value_gradients(torch.stack([x.squeeze(-1) for x in upstream[2:]])))
    for packed in (actors, critics):
        packed.unpack()
    return told


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("in_place", [False, True], ids=["copies", "in place"])
def test_packed_networks_learn_what_each_learns_alone_after_generations_of_mutation(
    kind: str, in_place: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place: critics read the data of their members without a copy for each, as they do large data."""
    monkeypatch.setattr(row_inputs, "IN_PLACE", 1 if in_place else 1 << 40)
    together = [member(kind, i) for i in range(3)]
    seen: set[str] = set()
    for generation in range(GENERATIONS):
        for mutant in together:
            rng = np.random.default_rng([generation, mutant.member_id])
            seen.add(mutate_architecture(mutant, 0.5, rng)[1].split(" ")[0])
        alone = [_copied(m) for m in together]
        packed = updated(together, np.random.default_rng(generation), KINDS[kind][2], range(3))
        for i, single in enumerate(alone):
            own = updated([single], np.random.default_rng(generation), KINDS[kind][2], [i])
            for mine, its in zip(packed[:2], own[:2], strict=True):
                np.testing.assert_allclose(mine[i], its[0], atol=2e-4, rtol=1e-3)
            np.testing.assert_allclose(packed[2][i], own[2][0], atol=2e-4, rtol=1e-3)
            for name, network in together[i].networks.items():
                other = single.networks[name]
                for key, moment in network.first_moment.items():
                    scale = max(1e-3, float(np.abs(other.first_moment[key]).max()))
                    np.testing.assert_allclose(moment, other.first_moment[key], atol=2e-4 * scale, err_msg=key)
                    assert np.isfinite(network.params[key]).all()
    for mutant in together:
        for network in mutant.networks.values():
            network.spec.check()
            assert NetworkSpec.from_json(network.spec.to_json()) == network.spec
            for part in subnetwork_names(network.spec):
                encoder = get_subnetwork(network.spec, part)
                assert encoder.layers <= max(3, encoder.max_hidden_layers)
    if kind.startswith("torch"):
        assert any("latent" in word for word in seen) and any("head" in word for word in seen), seen
    elif kind != "mlp":
        words = " ".join(seen)
        units = "encoder.add_node" if kind.startswith("simba") else "channel"
        changed = ["encoder.add_layer", units, "latent", *["change_kernel"] * (kind[:3] not in ("sim", "res"))]
        assert all(word in words for word in changed), seen


@pytest.mark.parametrize("kind", ["cnn", "cnn, channels first, Tanh", "multi_input", "simba", "resnet"])
def test_a_recorded_pass_with_convolutions_is_what_was_recorded_to_the_bit(kind: str) -> None:
    width = KINDS[kind][2]
    spec = network([Input("observation", width, KINDS[kind][0])], 3, 0)
    draw = np.random.default_rng(0)
    natural = [spec.init(draw) for _ in range(2)]
    params = {name: torch.from_numpy(np.stack([its[name] for its in natural])) for name in natural[0]}

    def step(x: torch.Tensor) -> Sequence[torch.Tensor]:
        leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
        with torch.enable_grad():
            y = spec.apply(TorchOps(), leaves, [x])
            loss = y.square().mean()
        return [y.detach(), *torch.autograd.grad(loss, list(leaves.values()))]

    backend = Recorded(Verification())
    with torch.no_grad():
        for _ in range(6):
            x = torch.from_numpy(draw.normal(size=(2, SAMPLES, width)).astype(np.float32))
            for one, other in zip(backend.run("key", step, [x]), step(x), strict=True):
                assert torch.equal(one, other)


def _copied(one: Member) -> Member:
    networks = {
        name: Network(
            spec=n.spec,
            params={k: v.copy() for k, v in n.params.items()},
            target=None if n.target is None else {k: v.copy() for k, v in n.target.items()},
            first_moment={k: v.copy() for k, v in n.first_moment.items()},
            second_moment={k: v.copy() for k, v in n.second_moment.items()},
            adam_steps=n.adam_steps,
            scale=n.scale,
        )
        for name, n in one.networks.items()
    }
    return Member(member_id=one.member_id, networks=networks, hyperparameters=one.hyperparameters)
