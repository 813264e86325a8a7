"""Joint critics that read their inputs part by part say, and learn, what each says of all inputs side by side."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.support.members import make_member
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from covey.config import parse_config
from covey.networks import MLP, Input, NetworkSpec, Params
from covey.spaces import AgentSpec, Box, EnvironmentSpaces
from covey_server.algorithms.joint_action import JointAction
from covey_server.algorithms.roles import critic_spec, networks_by_id
from covey_server.member import Member, Network
from covey_server.packing import row_inputs
from covey_server.packing.joint_inputs import ByMember
from covey_server.packing.networks_by_role import PackedNetworks, Pass
from covey_server.packing.row_inputs import RowInputs, runs_of_members
from covey_server.packing.torch_ops import TorchOps

CPU = torch.device("cpu")
B = 6
WALKERS, GUARD = 3, 1
"""Agents 0, 2, 3 are walkers with actions of 2 numbers, agent 1 is a guard with one of 3."""

OWN = [[0, 1, 0], [2, 3, 4], [5, 6, 0], [7, 8, 0]]
"""Where each agent's action is among the extra inputs; walkers' are filled up."""

IDS: dict[str, dict[str, tuple[int, ...]]] = {
    "shared": {"walker": (0, 2, 3), "guard": (1,)},
    "own": {f"a_{i}": (i,) for i in range(4)},
}


def box(n: int) -> Box:
    return Box("float32", (n,), (-1.0,) * n, (1.0,) * n)


def close(got: Tensor, expected: Tensor | None) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def critic(agents: int, head: tuple[int, ...], rng: np.random.Generator, latent: int = 5) -> Network:
    spec = NetworkSpec(
        inputs=(
            Input("walker", 4, MLP(hidden_size=(6,)), WALKERS),
            Input("guard", 3, MLP(hidden_size=(6,)), GUARD),
        ),
        head=MLP(hidden_size=head),
        outputs=1,
        extra=9 + (agents if agents > 1 else 0),
        latent_dim=latent,
    )
    return Network.fresh(spec, rng, with_target=True)


def packed(ids: dict[str, tuple[int, ...]], head: tuple[int, ...]) -> tuple[list[Member], PackedNetworks]:
    """Three members with twin critics; those of the last one are wider."""
    members = [make_member(m) for m in range(3)]
    for m, member in enumerate(members):
        rng = np.random.default_rng(m)
        for role in ("critic_1", "critic_2"):
            for i, agents in ids.items():
                member.networks[f"{role}/{i}"] = critic(len(agents), head, rng, latent=5 + 2 * (m == 2))
    keys = {f"{role}/{i}": agents for role in ("critic_1", "critic_2") for i, agents in ids.items()}
    return members, PackedNetworks(members, keys, CPU, own_extra=OWN)


def alone(
    network: Network, params: Params | dict[str, Tensor], x: list[Tensor], extra: Tensor, one_hot: Tensor
) -> Tensor:
    """The value of one agent by its critic, from all inputs side by side."""
    tensors = {name: torch.as_tensor(p) for name, p in params.items()}
    value: Tensor = network.spec.apply(TorchOps(), tensors, x, torch.cat([extra, one_hot], -1))
    return value.squeeze(-1)


@pytest.mark.parametrize("in_place", [0, 1 << 30])
@pytest.mark.parametrize("chosen", [(0, 1, 2), (0, 2), (1,)])
@pytest.mark.parametrize("head", [(7,), (16, 7), ()])
@pytest.mark.parametrize("whose", IDS)
def test_parts_are_the_whole(
    whose: str, head: tuple[int, ...], chosen: tuple[int, ...], in_place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_inputs, "IN_PLACE", in_place)
    members, networks = packed(IDS[whose], head)
    draw = torch.Generator().manual_seed(0)
    m = len(chosen)
    x = [torch.randn(m, B, width, generator=draw) for width in (WALKERS * 4, 3)]
    extra = torch.randn(m, B, 9, generator=draw)
    # Where each agent has a row of its own, all of that differs by agent.
    x_each = [torch.randn(4, m, B, width, generator=draw) for width in (WALKERS * 4, 3)]
    extra_each = torch.randn(4, m, B, 9, generator=draw)
    own = torch.randn(4, m, B, 3, generator=draw)
    own[[0, 2, 3], ..., 2] = 0
    whom = dict(zip(networks.keys, networks.agents, strict=True))
    scored = [(key, agent, j) for key in networks.keys for j, agent in enumerate(whom[key])]
    grad_out = torch.randn(len(scored), m, B, generator=draw)
    their: Pass = networks.select(chosen)
    learned = their.values("learn", x, extra)
    gradients = [g.clone() for g in their.value_gradients(grad_out)]
    target = their.values("target", x_each, extra_each)
    frozen = their.values("frozen", x, extra, own)
    own_grads = their.own_grads(grad_out)
    found: dict[tuple[int, int], Params] = {}
    for rows, gradient in zip(their.rows, gradients, strict=True):
        if rows.mask is not None:
            gradient.mul_(rows.mask)
        each = zip(rows.index.numbers, rows.owners.pairs, gradient.numpy(), strict=True)
        found |= {(k, at): rows.pack.layout.unpack_row(row, g) for row, (k, at), g in each}
    for i, at in enumerate(chosen):
        leaves = {
            key: {name: torch.tensor(p, requires_grad=True) for name, p in members[at].networks[key].params.items()}
            for key in networks.keys
        }
        for s, (key, agent, j) in enumerate(scored):
            network, sharing = members[at].networks[key], len(whom[key])
            one_hot = torch.eye(sharing)[j, : sharing if sharing > 1 else 0].expand(B, -1)
            value = alone(network, leaves[key], [part[i] for part in x], extra[i], one_hot)
            close(learned[s, i], value.detach())
            (value * grad_out[s, i]).sum().backward()
            assert network.target is not None
            its = alone(network, network.target, [part[agent, i] for part in x_each], extra_each[agent, i], one_hot)
            close(target[s, i], its)
            seen = extra[i].clone()
            width = 3 if agent == 1 else 2
            seen[:, OWN[agent][:width]] += own[agent, i, :, :width]
            seen.requires_grad_()
            value = alone(network, network.params, [part[i] for part in x], seen, one_hot)
            close(frozen[s, i], value.detach())
            (grad,) = torch.autograd.grad((value * grad_out[s, i]).sum(), seen)
            close(own_grads[s, i, :, :width], grad[:, OWN[agent][:width]])
        for k, key in enumerate(networks.keys):
            for name, p in leaves[key].items():
                close(torch.from_numpy(found[k, at][name]), p.grad)


def test_an_agents_own_difference_and_its_way_back() -> None:
    widths = [2, 3, 2, 2]
    spaces = EnvironmentSpaces.build([AgentSpec(f"{'abcd'[i]}_0", box(1), box(n)) for i, n in enumerate(widths)])
    joint = JointAction(spaces, [0, 2, 3, 1], CPU)
    assert joint.own_columns == OWN
    action, others = torch.arange(9.0).view(1, 1, 9), torch.zeros(1, 1, 9)
    own = joint.own_difference(action, others)
    assert own[:, 0, 0].tolist() == [[0, 1, 0], [2, 3, 4], [5, 6, 0], [7, 8, 0]]
    scores = own[[0, 2, 3, 1]]  # as critics score them
    assert torch.equal(joint.side_by_side(scores), action)


def test_rows_that_read_neighbouring_members_are_runs() -> None:
    assert runs_of_members([0, 1, 2, 0, 1, 2]) == ((0, 3, 0), (3, 6, 0))
    assert runs_of_members([1, 2, 0, 0]) == ((0, 2, 1), (2, 3, 0), (3, 4, 0))


def test_large_data_of_a_member_is_read_in_its_place_and_small_data_is_copied() -> None:
    def inputs(samples: int) -> Tensor | ByMember:
        rows = RowInputs([(0, 0), (0, 1), (1, 0), (1, 1)], 1, agents=2, members=2, width=4, samples=None, device=CPU)
        return rows.joint(torch.zeros(2, samples, 8))

    large = inputs(row_inputs.IN_PLACE // 16)
    assert isinstance(large, ByMember) and large.shape == (4, row_inputs.IN_PLACE // 16, 8)
    assert isinstance(inputs(row_inputs.IN_PLACE // 16 - 1), Tensor)


@pytest.mark.parametrize("agents", [2, 5, 10])
def test_a_critic_that_agents_share_encodes_what_they_see_once(agents: int) -> None:
    """Products of a forward pass, counted: 2 x samples x inputs x outputs each, of 16 outputs and more."""
    spaces = EnvironmentSpaces.build([AgentSpec(f"a_{i}", box(7), box(2)) for i in range(agents)])
    network = {"latent_dim": 16, "encoder_config": {"hidden_size": [16]}, "head_config": {"hidden_size": [32, 48]}}
    config = parse_config(
        {
            "algorithm": {"name": "MADDPG", "share_parameters": True},
            "environment": {"name": "none"},
            "network": network,
            "training": {},
        }
    )
    ids, configs = networks_by_id(config, spaces)
    spec = critic_spec(configs, spaces, ids, "a")
    member = replace(make_member(0), networks={"critic/a": Network.fresh(spec, np.random.default_rng(0))})
    critics = PackedNetworks([member], {"critic/a": ids["a"]}, CPU)
    with FlopCounterMode(display=False) as counter:
        critics.select((0,)).values("target", [torch.zeros(1, B, 7 * agents)], torch.zeros(1, B, 2 * agents))
    once = agents * (7 * 16 + 16 * 16) + (16 + 2) * agents * 32
    each = agents * 32 * 48
    assert counter.get_total_flops() == 2 * B * (once + each)
