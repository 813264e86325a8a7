"""Packs do to every network what would be done to it alone."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.support.double_precision import pack_in_double
from tests.support.members import AGENTS, actor_spec, assert_same_networks, make_member

from covey.networks import MLP, NetworkSpec, NumpyOps, Params
from covey.networks.pack import grouped
from covey_server.evolution.architecture import mutate_architecture
from covey_server.evolution.mutation import mutate_activation
from covey_server.member import Member
from covey_server.packing import networks_by_role
from covey_server.packing.networks_by_role import PASS_COST, PackedNetworks
from covey_server.packing.pack_rows import Mode
from covey_server.packing.torch_ops import TorchOps

CPU = torch.device("cpu")
ACTORS = {f"actor/{agent}": (i,) for i, agent in enumerate(AGENTS)}
CRITICS = {f"{role}/{agent}": (i,) for role in ("critic_1", "critic_2") for i, agent in enumerate(AGENTS)}
B = 5


def mlp(
    hidden: tuple[int, ...], activation: str = "ReLU", layer_norm: bool = False, gated: tuple[int, ...] = ()
) -> MLP:
    return MLP(hidden_size=hidden, activation=activation, layer_norm=layer_norm, gated=gated)


def population(activation: str = "ReLU", layer_norm: bool = False) -> list[Member]:
    """Widths differ; and from member 3 on depths, activations and gates, in encoders and heads."""
    return [
        make_member(0, encoder=mlp((8, 6), activation, layer_norm), head=mlp((7,), activation, layer_norm)),
        make_member(1, encoder=mlp((5, 9), activation, layer_norm), head=mlp((4,), activation, layer_norm)),
        make_member(2, encoder=mlp((8, 6), activation, layer_norm), head=mlp((9,), activation, layer_norm)),
        make_member(3, encoder=mlp((8,), activation, layer_norm), head=mlp((7,), activation, layer_norm)),
        make_member(4, encoder=mlp((8, 6), "Tanh", layer_norm), head=mlp((5,), activation, layer_norm)),
        make_member(5, encoder=mlp((4, 7), "ELU", layer_norm, (1,)), head=mlp((6, 9, 3), "ReLU", layer_norm, (0, 2))),
        make_member(6, encoder=mlp((5,), "ReLU", layer_norm, (0,)), head=mlp((8, 4), "GELU", layer_norm)),
    ]


APART = 1
"""A cost of passes at which only networks of equal sizes share a pack."""


@pytest.fixture(params=[PASS_COST["cpu"], APART])
def pass_cost(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Every network of one structure in one pack, or none with padding."""
    monkeypatch.setitem(PASS_COST, "cpu", request.param)
    cost: int = request.param
    return cost


def critic_batch(members: int, batch: int = B) -> tuple[list[torch.Tensor], torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    inputs = [torch.randn(members, batch, width, generator=draw) for width in (6, 4)]
    return inputs, torch.randn(members, batch, 7, generator=draw)


def moved(members: Sequence[Member], chosen: tuple[int, ...], steps: int, max_norm: float | None) -> None:
    """Some Adam steps and soft updates of critics on losses that differ between members; written back."""
    packed = PackedNetworks(members, CRITICS, CPU)
    for pack in packed.packs:
        pack_in_double(pack)
    inputs, extra = critic_batch(7)
    at = torch.tensor([members[m].member_id for m in chosen])
    goal = torch.randn(4, 7, B, generator=torch.Generator().manual_seed(1))[:, at]
    selection = packed.select(chosen)
    for _ in range(steps):
        values = selection.values("learn", [x[at].double() for x in inputs], extra[at].double())
        grad_out = 2 * (values - goal) / B
        gradients = selection.value_gradients(grad_out)
        selection.count_steps(0.01 * (1 + at.double().numpy()))
        selection.move(gradients, max_norm)
        selection.soften(0.1 / (1 + at.double()))
    for pack in packed.packs:
        if pack.mask is not None:
            padding = pack.mask == 0
            constants = torch.from_numpy(pack.layout.constants).double()[padding]
            for weights, moments in ((pack.params, pack.first_moment), (pack.target, pack.second_moment)):
                assert weights is not None and torch.equal(weights[padding], constants)
                assert not moments[padding].any()
    packed.unpack()


def test_networks_share_a_pack_across_members_agents_twins_depths_and_activations() -> None:
    critics = PackedNetworks(population(), CRITICS, CPU)
    assert [len(pack.rows) for pack in critics.packs] == [28]
    assert critics.select((0, 1, 2, 3, 4, 5, 6)).rows_members == [7]
    assert critics.select((0, 2)).rows_members == [2]


def test_rows_are_in_the_order_of_roles_and_in_each_of_activations() -> None:
    critics = PackedNetworks(population(), CRITICS, CPU)
    (pack,) = critics.packs
    assert [k >= 2 for k, _ in pack.rows] == [False] * 14 + [True] * 14
    runs = pack.layout.activations(range(14))["encoder.speaker.0"]
    assert runs == (("ELU", 2), ("ReLU", 10), ("Tanh", 2))
    assert isinstance(critics.select((0, 3, 4, 5, 6), 2).rows[0].index.at, torch.Tensor)
    assert isinstance(critics.select(tuple(range(7)), 2).rows[0].index.at, slice)


def test_normalised_networks_of_other_depth_stay_apart() -> None:
    critics = PackedNetworks(population(layer_norm=True), CRITICS, CPU)
    assert sorted(len(pack.rows) for pack in critics.packs) == [4, 4, 4, 16]


def test_the_example_of_the_readme_is_a_step_of_the_members_chosen() -> None:
    readme = Path(networks_by_role.__file__).with_name("README.md").read_text()
    members, before = population()[:3], population()[:3]
    observations, action = critic_batch(2)
    given = {"PackedNetworks": PackedNetworks, "members": members, "device": CPU, "observations": observations}
    given |= {"action": action, "target": torch.zeros(2, 2, B), "B": B, "lr": np.full(2, 0.01), "tau": torch.ones(2)}
    exec(readme.split("```python")[1].split("```")[0], given)
    for m, (member, same) in enumerate(zip(members, before, strict=True)):
        for key in ("critic_1/speaker", "critic_1/listener"):
            mine, its = member.networks[key], same.networks[key]
            moved = [not np.array_equal(p, its.params[name]) for name, p in mine.params.items()]
            assert all(moved) if m != 1 else not any(moved)
            assert mine.target is not None and its.target is not None
            for name, p in mine.target.items():
                np.testing.assert_allclose(p, (mine.params if m != 1 else its.target)[name], rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("pass_cost")
def test_unpack_gives_back_what_was_packed() -> None:
    members, before = population(), population()
    for agents in (ACTORS, CRITICS):
        PackedNetworks(members, agents, CPU).unpack()
    for member, same in zip(members, before, strict=True):
        assert_same_networks(member, same)


@pytest.mark.usefixtures("pass_cost")
@pytest.mark.parametrize("chosen", [(0, 1, 2, 3, 4, 5, 6), (0, 1), (1, 2), (0, 2), (0, 3, 5), (4, 6), (4,)])
@pytest.mark.parametrize("mode", ["learn", "frozen", "target"])
def test_critics_say_what_each_would_say_alone(chosen: tuple[int, ...], mode: Mode) -> None:
    members = population("Sigmoid")
    packed = PackedNetworks(members, CRITICS, CPU)
    inputs, extra = critic_batch(len(chosen))
    for keys in (4, 2):
        values = packed.select(chosen, keys).values(mode, inputs, extra)
        assert values.shape == (keys, len(chosen), B)
        for k, key in enumerate(list(CRITICS)[:keys]):
            for i, m in enumerate(chosen):
                network = members[m].networks[key]
                params = network.target if mode == "target" else network.params
                assert params is not None
                alone = network.spec.apply(NumpyOps(), params, [x[i].numpy() for x in inputs], extra[i].numpy())
                np.testing.assert_allclose(values[k, i].detach().numpy(), alone[:, 0], rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("pass_cost")
@pytest.mark.parametrize("chosen", [(0, 1, 2, 3, 4, 5, 6), (0, 2), (1, 3, 6)])
def test_actors_of_differing_widths_read_their_own_observations(chosen: tuple[int, ...]) -> None:
    members = population()
    packed = PackedNetworks(members, ACTORS, CPU)
    draw = torch.Generator().manual_seed(0)
    seen = [torch.randn(len(chosen), B, width, generator=draw) for width, _ in AGENTS.values()]
    outputs = packed.select(chosen).outputs_by_agent("frozen", [seen])
    for agent, (name, (_, width)) in enumerate(AGENTS.items()):
        assert outputs[agent].shape == (len(chosen), B, width)
        for i, m in enumerate(chosen):
            network = members[m].networks[f"actor/{name}"]
            alone = network.spec.apply(NumpyOps(), network.params, [seen[agent][i].numpy()])
            np.testing.assert_allclose(outputs[agent][i].numpy(), alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shared_rows", [False, True])
def test_a_network_shared_by_agents_judges_each_by_its_index(shared_rows: bool) -> None:
    """One critic for agents 0 and 2, one for 1: extra inputs per agent, and the one-hot index after them."""
    members = population()[:2]
    for member in members:
        spec = member.networks["critic_1/speaker"].spec
        wider = replace(spec, extra=9)
        network = member.networks["critic_1/speaker"]
        rng = np.random.default_rng(member.member_id)
        network.spec, network.params = wider, wider.init(rng)
        network.target = network.first_moment = network.second_moment = wider.init(rng)
    agents = {"critic_1/speaker": (0, 2), "critic_1/listener": (1,)}
    packed = PackedNetworks(members, agents, CPU)
    inputs, extra = critic_batch(2)
    each = extra.expand(3, 2, B, 7) if shared_rows else torch.randn(3, 2, B, 7)
    values = packed.select((0, 1)).values("frozen", inputs, extra if shared_rows else each)
    assert values.shape == (3, 2, B)
    for j, (key, agent, index) in enumerate(
        [("critic_1/speaker", 0, [1, 0]), ("critic_1/speaker", 2, [0, 1]), ("critic_1/listener", 1, [])]
    ):
        for m, member in enumerate(members):
            one_hot = np.broadcast_to(np.array(index, np.float32), (B, len(index)))
            joined = np.concatenate([each[agent, m].numpy(), one_hot], -1)
            network = member.networks[key]
            alone = network.spec.apply(NumpyOps(), network.params, [x[m].numpy() for x in inputs], joined)
            np.testing.assert_allclose(values[j, m].numpy(), alone[:, 0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "activation", ["ReLU", *(pytest.param(a, marks=pytest.mark.slow) for a in ("Sigmoid", "Softplus"))]
)
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("max_norm", [None, 0.5])
def test_learning_together_is_learning_alone(activation: str, layer_norm: bool, max_norm: float | None) -> None:
    together, alone = population(activation, layer_norm), population(activation, layer_norm)
    chosen = (0, 1, 2, 3, 5, 6)
    moved(together, chosen, 5, max_norm)
    for m in chosen:
        moved([alone[m]], (0,), 5, max_norm)
    start = population(activation, layer_norm)
    for m, member in enumerate(together):
        if m not in chosen:
            assert_same_networks(member, start[m])
            continue
        for key in CRITICS:
            mine, other, before = (p[m].networks[key] for p in (together, alone, start))
            assert mine.adam_steps == other.adam_steps == 205
            for a, b in (
                (mine.params, other.params),
                (mine.target, other.target),
                (mine.first_moment, other.first_moment),
                (mine.second_moment, other.second_moment),
            ):
                assert a is not None and b is not None
                for name in a:
                    np.testing.assert_allclose(a[name], b[name], rtol=1e-9, atol=1e-10, err_msg=f"{key} {name}")
            assert any(not np.array_equal(mine.params[name], before.params[name]) for name in mine.params)


def test_rows_of_members_that_are_not_chosen_stay_bit_for_bit() -> None:
    members, before = population(), population()
    moved(members, (0, 2), 3, None)
    for m in (1, 3, 4, 5, 6):
        assert_same_networks(members[m], before[m])


@pytest.mark.parametrize("seed", range(4))
def test_what_evolution_makes_fits_into_one_pack_and_comes_out_of_it_bit_for_bit(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PASS_COST, "cpu", 1 << 30)
    rng = np.random.default_rng(seed)
    members = [make_member(m) for m in range(5)]
    for member in members:
        for _ in range(8):
            mutate_architecture(member, 0.5, rng)
            mutate_activation(member, ["ReLU", "ELU", "GELU"], rng)
    before = [deepcopy(member) for member in members]
    chosen = tuple(range(5))
    critics = PackedNetworks(members, CRITICS, CPU)
    assert critics.select(chosen).rows_members == [5]
    assert len({member.networks["critic_1/speaker"].spec.head.hidden_size for member in members}) > 2
    inputs, extra = critic_batch(5)
    values = critics.select(chosen).values("frozen", inputs, extra)
    for k, key in enumerate(CRITICS):
        for m, member in enumerate(members):
            network = member.networks[key]
            alone = network.spec.apply(NumpyOps(), network.params, [x[m].numpy() for x in inputs], extra[m].numpy())
            np.testing.assert_allclose(values[k, m].numpy(), alone[:, 0], rtol=1e-3, atol=1e-3)
    critics.unpack()
    for member, same in zip(members, before, strict=True):
        assert_same_networks(member, same)


def test_packs_are_joined_while_padding_costs_less_than_a_pass() -> None:
    def network(*head: int, layer_norm: bool = False) -> NetworkSpec:
        return actor_spec(encoder=mlp((4,)), head=mlp(head, layer_norm=layer_norm))

    small, deep, wide = network(4), network(4, 4), network(40)
    specs = [small, wide, small, deep, wide]
    layer = deep.numbers - small.numbers
    assert grouped(specs, 2 * layer) == [[0, 2], [1, 4], [3]]
    assert sorted(grouped(specs, 2 * layer + 1)) == [[0, 2, 3], [1, 4]]
    assert grouped(specs, 10**9) == [[0, 1, 2, 3, 4]]
    assert sorted(grouped([*specs, network(4, layer_norm=True)], 10**9)) == [[0, 1, 2, 3, 4], [5]]


def test_members_that_share_nothing_with_the_pack_learn_at_their_own_rate() -> None:
    """A pack's rows are (key, member): rates and tau follow the member."""
    members = [make_member(0), make_member(1)]
    packed = PackedNetworks(members, CRITICS, CPU)
    inputs, extra = critic_batch(2)
    before = packed.packs[0].params.clone()
    selection = packed.select((0, 1))
    grad_out = torch.ones_like(selection.values("learn", inputs, extra))
    selection.count_steps(np.array([0.0, 0.01]))
    selection.move(selection.value_gradients(grad_out), None)
    changed = (packed.packs[0].params != before).any(1)
    assert changed.tolist() == [m == 1 for _, m in packed.packs[0].rows]
    target = packed.packs[0].target
    assert target is not None
    before = target.clone()
    selection.soften(torch.tensor([1.0, 0.0]))
    for row, (_, m) in enumerate(packed.packs[0].rows):
        torch.testing.assert_close(target[row], (packed.packs[0].params if m == 0 else before)[row])


@pytest.mark.parametrize("chosen", [(0, 1, 2, 3, 4, 5, 6), (1, 3, 4, 6)])
@pytest.mark.parametrize("layer_norm", [False, True])
def test_gradients_of_own_inputs_and_parameters_are_those_of_each_alone(
    chosen: tuple[int, ...], layer_norm: bool
) -> None:
    members = population(layer_norm=layer_norm)
    everything = [list(range(7))] * 2  # all extra inputs, as if they were the agent's own
    packed = PackedNetworks(members, CRITICS, CPU, own_extra=everything)
    inputs, extra = critic_batch(len(members))
    at = torch.tensor(chosen)
    own = torch.randn(2, len(chosen), B, 7, generator=torch.Generator().manual_seed(2))
    grad_out = torch.randn(4, len(chosen), B, generator=torch.Generator().manual_seed(1))
    for _ in range(2):  # what a pass has left behind is in no other
        selection = packed.select(chosen)
        selection.values("frozen", [x[at] for x in inputs], extra[at] - 0.5, own)
        own_grads = selection.own_grads(grad_out)
        selection.values("learn", [x[at] for x in inputs], extra[at])
        gradients = [g.clone() for g in selection.value_gradients(grad_out)]
        found: dict[tuple[int, int], Params] = {}
        for rows, gradient in zip(selection.rows, gradients, strict=True):
            if rows.mask is not None:
                gradient.mul_(rows.mask)
            each = zip(rows.index.numbers, rows.owners.pairs, gradient.numpy(), strict=True)
            found |= {owner: rows.pack.layout.unpack_row(row, g) for row, owner, g in each}
        for k, key in enumerate(CRITICS):
            for i, m in enumerate(chosen):
                network = members[m].networks[key]
                params = {name: torch.tensor(p, requires_grad=True) for name, p in network.params.items()}
                value = network.spec.apply(TorchOps(), params, [x[m] for x in inputs], extra[m]).squeeze(-1)
                ((value * grad_out[k, i]).sum()).backward()
                seen = (extra[m] - 0.5 + own[k % 2, i]).requires_grad_()
                value = network.spec.apply(TorchOps(), params, [x[m] for x in inputs], seen).squeeze(-1)
                (grad,) = torch.autograd.grad((value * grad_out[k, i]).sum(), seen)
                torch.testing.assert_close(own_grads[k, i], grad, rtol=1e-4, atol=1e-5)
                for name, p in params.items():
                    assert p.grad is not None
                    torch.testing.assert_close(torch.from_numpy(found[k, m][name]), p.grad, rtol=1e-4, atol=1e-5)


def test_networks_that_differ_in_inputs_and_outputs_share_a_wide_pack() -> None:
    members, before = population()[:3], population()[:3]
    apart, wide = (PackedNetworks(members, ACTORS, CPU, widen=widen) for widen in (False, True))
    assert [len(pack.rows) for pack in apart.packs] == [3, 3]
    (pack,) = wide.packs
    assert pack.mask is not None and not pack.params[pack.mask == 0].any()
    (own,) = wide.select((0, 1, 2)).rows
    x = torch.randn(6, B, 4, generator=torch.Generator().manual_seed(0))
    outputs = own.outputs("frozen", x)
    for row, (k, m) in enumerate(own.owners.pairs):
        width, given = list(AGENTS.values())[k]
        network = members[m].networks[list(ACTORS)[k]]
        alone = network.spec.apply(NumpyOps(), network.params, [x[row, :, :width].numpy()])
        np.testing.assert_allclose(outputs[row, :, :given].numpy(), alone, rtol=1e-4, atol=1e-4)
        assert not outputs[row, :, given:].any()
    wide.unpack()
    for member, same in zip(members, before, strict=True):
        assert_same_networks(member, same)


@pytest.mark.parametrize("chosen", [(0, 1, 2), (0, 2)])
def test_rows_that_are_not_active_keep_weights_moments_and_counts_bit_for_bit(chosen: tuple[int, ...]) -> None:
    packs = []
    for active in (None, np.arange(2 * len(chosen)) % 2 == 0):
        packed = PackedNetworks(population()[:3], ACTORS, CPU, widen=True)
        (own,) = packed.select(chosen).rows
        start = [matrix.clone() for matrix in (packed.packs[0].params, packed.packs[0].first_moment)]
        for _ in range(3):
            outputs = own.outputs("learn", torch.ones(len(own), B, 4))
            gradient = own.gradient(2 * outputs)
            own.set_rates(np.full(len(chosen), 0.01))
            own.count_steps(active)
            own.move(gradient, torch.linspace(0.1, 0.3, len(chosen)), active)
        packs.append((packed.packs[0], own, start))
    (every, own, _), (some, _, start) = packs
    for k, row in enumerate(own.index.numbers):
        for matrix, other, before in zip(
            (some.params, some.first_moment), (every.params, every.first_moment), start, strict=True
        ):
            if k % 2 == 0:
                torch.testing.assert_close(matrix[row], other[row], rtol=1e-6, atol=1e-7)
            else:
                assert torch.equal(matrix[row], before[row])
        assert some.adam_steps[row] == every.adam_steps[row] - 3 * (k % 2)
