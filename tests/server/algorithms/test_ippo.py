"""IPPO and MAPPO against a second implementation, and what they must not do."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.plain_ippo import Alone
from tests.support.rounds import ASYNCHRONOUS, SIMULTANEOUS, config, gathered, member, stated, stream_rows, together
from torch import Tensor

from covey.config import Config
from covey.rows import RowKind
from covey.spaces import EnvironmentSpaces
from covey_server.algorithms import build_networks
from covey_server.algorithms.clipped_losses import policy_loss, value_loss
from covey_server.algorithms.ippo import IPPO
from covey_server.algorithms.learning_group import METRICS
from covey_server.algorithms.mappo import MAPPO
from covey_server.experience.rollouts import Rollouts
from covey_server.experience.stream import Stream
from covey_server.member import Member, ReturnScale
from covey_server.packing.networks_by_role import PASS_COST


def population(spaces: EnvironmentSpaces, shared: bool, **settings: Any) -> list[Member]:
    """Widths, rates, batches, epochs and all coefficients differ; member 7, and 2's values, are deeper."""

    def made(hidden: Sequence[int], latent: int) -> Config:
        return config(shared, hidden, latent, **settings)

    bounds: list[dict[str, float]] = [{"max_grad_norm": b} for b in (0.5, 5.0, 0.1, 1.0)]
    if settings.get("max_grad_norm", 0.5) is None:
        bounds = [{}] * 4
    members = [
        member(
            5, made((6,), 5), spaces, lr=3e-3, batch_size=16, update_epochs=3, gamma=0.9, gae_lambda=0.8, **bounds[0]
        ),
        member(2, made((4,), 9), spaces, lr=1e-3, batch_size=7, update_epochs=1, clip_coef=0.05, **bounds[1]),
        member(9, made((6,), 5), spaces, lr=5e-3, batch_size=16, update_epochs=4, ent_coef=0.1, **bounds[2]),
        member(7, made((6, 3), 4), spaces, lr=2e-3, batch_size=40, update_epochs=2, vf_coef=1.5, **bounds[3]),
    ]
    deeper = build_networks(made((6, 3), 4), spaces, np.random.default_rng(1))
    members[1].networks |= {key: n for key, n in deeper.items() if key.startswith("critic")}
    return members


CASES: dict[str, tuple[EnvironmentSpaces, bool, dict[str, Any]]] = {
    "simultaneous": (SIMULTANEOUS, True, {"max_grad_norm": None}),
    "asynchronous, shared": (ASYNCHRONOUS, True, {}),
    "asynchronous, apart": (ASYNCHRONOUS, False, {}),
    "indicator": (ASYNCHRONOUS, True, {"agent_indicator": True}),
    "values in units": (ASYNCHRONOUS, True, {"normalize_values": True}),
    "early stop": (ASYNCHRONOUS, False, {"target_kl": 1e-4}),
    "values unclipped": (ASYNCHRONOUS, True, {"clip_values": False, "orthogonal_init": True}),
    "MAPPO": (SIMULTANEOUS, True, {"name": "MAPPO"}),
    "MAPPO, asynchronous, shared": (ASYNCHRONOUS, True, {"name": "MAPPO", "agent_indicator": True}),
    "HAPPO": (SIMULTANEOUS, False, {"name": "MAPPO", "sequential": True}),
    "HAPPO, asynchronous, shared": (ASYNCHRONOUS, True, {"name": "MAPPO", "sequential": True}),
    "HAPPO, asynchronous, apart": (ASYNCHRONOUS, False, {"name": "MAPPO", "sequential": True}),
    "MAPPO, asynchronous, apart": (ASYNCHRONOUS, False, {"name": "MAPPO", "normalize_values": False}),
    "MAPPO, state": (stated(SIMULTANEOUS, "float32"), True, {"name": "MAPPO"}),
    "MAPPO, state, asynchronous, shared": (stated(ASYNCHRONOUS), True, {"name": "MAPPO", "agent_indicator": True}),
    "HAPPO, state, asynchronous, apart": (stated(ASYNCHRONOUS), False, {"name": "MAPPO", "sequential": True}),
}


FAST = ("simultaneous", "MAPPO", "HAPPO", "MAPPO, state", "MAPPO, state, asynchronous, shared")


# In one pack, or in packs without padding.
@pytest.mark.parametrize(
    ("case", "pass_cost"),
    [
        pytest.param(case, pass_cost, marks=() if case in FAST else pytest.mark.slow)
        for case, pass_cost in zip(CASES, itertools.cycle((25_000, 1)))
    ],
)
def test_a_packed_population_learns_what_each_member_learns_alone(
    case: str, pass_cost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PASS_COST, "cpu", pass_cost)
    spaces, shared, settings = CASES[case]
    made = config(shared, **settings)
    members = population(spaces, shared, **settings)
    alone = [Alone(made, spaces, m) for m in members]
    learner = (MAPPO if made.algorithm.name == "MAPPO" else IPPO)(made, spaces, members)
    steps = {5: 22, 2: 13, 9: 17, 7: 22}
    for i, due in enumerate([(0, 1, 2, 3), (0, 2), (3, 1)]):
        rollouts = together(spaces, {members[m].member_id: steps[members[m].member_id] for m in due}, i)
        same = together(spaces, {members[m].member_id: steps[members[m].member_id] for m in due}, i)
        learner.update(due, rollouts)
        for m in due:
            alone[m].update(same.take(members[m].member_id))
        assert len(rollouts) == 0
    metrics = learner.metrics()
    learner.unpack()
    stops = 0
    for mine, single in zip(members, alone, strict=True):
        assert mine.updates == single.updates == mine.member_id + 2
        assert set(metrics[mine.member_id]) == set(METRICS)
        for name, value in metrics[mine.member_id].items():
            assert value == pytest.approx(np.mean(single.metrics[name]), rel=2e-3, abs=1e-5), name
        for key, network in mine.networks.items():
            steps_made = [int(s["step"]) for s in single.adam[key].state.values()]
            assert network.adam_steps == steps_made[0]
            for name, p in network.params.items():
                np.testing.assert_allclose(
                    p, single.nets[key][name].detach(), rtol=1e-3, atol=1e-4, err_msg=f"{mine.member_id} {key} {name}"
                )
            if key.startswith("critic"):
                assert (network.scale.mean, network.scale.std) == pytest.approx(single.scales[key], rel=1e-4)
                assert network.target is None
            stops += key.startswith("actor")
    assert learner.metrics() == {m.member_id: {} for m in members}


def test_the_rounds_of_these_tests_hold_what_they_should() -> None:
    rollout = gathered(ASYNCHRONOUS, 5, 22, 0).take(5)
    for d in rollout.agents:
        assert d.forced.any() and not d.forced.all()
        assert (d.steps > 1).any() and d.terminated.any() and d.continues.any()
        assert (~d.terminated & ~d.continues).any()
    assert [d.mask is not None for d in rollout.agents] == [False, True, False, True, True, False]


def test_a_divergence_above_the_target_ends_a_networks_learning_in_this_round() -> None:
    steps = {}
    for target in (None, 1e-4, 1e9):
        members = population(ASYNCHRONOUS, False, target_kl=target)
        learner = IPPO(config(False, target_kl=target), ASYNCHRONOUS, members)
        learner.update(range(4), together(ASYNCHRONOUS, {m.member_id: 22 for m in members}, 0))
        learner.unpack()
        steps[target] = [n.adam_steps for n in members[2].networks.values()]
    assert steps[None] == steps[1e9]
    assert all(a <= b for a, b in zip(steps[1e-4], steps[None], strict=True)) and steps[1e-4] != steps[None]


def test_networks_that_have_done_their_minibatches_keep_weights_and_moments_bit_for_bit() -> None:
    """The members' rounds differ in length: what the shorter one's networks are does not depend on its pack-mate."""

    def after(companions: int) -> Member:
        made = config(lr=3e-3, batch_size=8, update_epochs=2)
        members = [member(m, made, SIMULTANEOUS, update_epochs=2 + m) for m in range(1 + companions)]
        learner = IPPO(made, SIMULTANEOUS, members)
        learner.update(range(len(members)), together(SIMULTANEOUS, {0: 8, 1: 40}, 0))
        learner.unpack()
        return members[0]

    alone, accompanied = after(0), after(1)
    for key, network in alone.networks.items():
        other = accompanied.networks[key]
        assert network.adam_steps == other.adam_steps == 2 * 3
        for a, b in (
            (network.params, other.params),
            (network.first_moment, other.first_moment),
            (network.second_moment, other.second_moment),
        ):
            for name in a:
                np.testing.assert_allclose(a[name], b[name], rtol=1e-5, atol=1e-7)


def test_what_the_environment_chose_teaches_values_and_no_policy() -> None:
    columns = stream_rows(SIMULTANEOUS, np.random.default_rng(0), 20)
    for g in SIMULTANEOUS.groups:
        columns[f"{g.group_id}/active"][:] = 2 * (columns["kind"] == RowKind.STEP)[:, None]
    rollouts = Rollouts(SIMULTANEOUS)
    rollouts.insert(0, columns, [Stream(0, 0, 0, len(columns["kind"]), 0, 20, False)], "actor")
    made = config(batch_size=8)
    m, before = member(0, made, SIMULTANEOUS), member(0, made, SIMULTANEOUS)
    learner = IPPO(made, SIMULTANEOUS, [m])
    learner.update([0], rollouts)
    assert set(learner.metrics()[0]) == {"value_loss", "explained_variance"}
    learner.unpack()
    for key, network in m.networks.items():
        same = all(np.array_equal(p, before.networks[key].params[name]) for name, p in network.params.items())
        assert same == key.startswith("actor") and (network.adam_steps == 0) == same


@pytest.mark.parametrize("apart", [False, True])
def test_an_agent_without_decisions_leaves_its_networks_alone(apart: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = stream_rows(ASYNCHRONOUS, np.random.default_rng(0), 10)
    columns["switch/active"][:] = 0
    rollouts = Rollouts(ASYNCHRONOUS)
    rollouts.insert(0, columns, [Stream(0, 0, 0, len(columns["kind"]), 0, 10, False)], "actor")
    made = config(normalize_values=True)
    m = member(0, made, ASYNCHRONOUS)
    if apart:  # in a pack of their own
        monkeypatch.setitem(PASS_COST, "cpu", 1)
        deeper = build_networks(config(hidden=(6, 3)), ASYNCHRONOUS, np.random.default_rng(0))
        m.networks |= {key: n for key, n in deeper.items() if key.endswith("switch")}
    learner = IPPO(made, ASYNCHRONOUS, [m])
    learner.update([0], rollouts)
    learner.unpack()
    assert {key for key, n in m.networks.items() if not n.adam_steps} == {"actor/switch", "critic/switch"}
    assert m.networks["critic/switch"].scale == ReturnScale()
    assert all(np.isfinite(p).all() for n in m.networks.values() for p in n.params.values())


def test_losses_give_the_numbers_of_a_hand_computation() -> None:
    log_ratio = torch.tensor([[2.0, 2.0, 0.5, 0.5]]).log()
    advantage = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    weight = torch.full((1, 4), 0.25)
    clip = torch.tensor([[0.2]])
    # min(2, 1.2), min(-2, -1.2), min(0.5, 0.8), min(-0.5, -0.8)
    loss, pull = policy_loss(log_ratio, advantage, clip, weight)
    assert loss.tolist() == pytest.approx([-(1.2 - 2 + 0.5 - 0.8) / 4])
    assert pull[0].tolist() == pytest.approx([0, 2 / 4, -0.5 / 4, 0])
    value, before = torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 0.9]])
    target = torch.tensor([[1.0, 3.0]])
    # near is 0.2 and 1: errors 0 and 0.8^2, then 2^2 twice
    loss, pull = value_loss(value, before, target, clip, torch.tensor([[0.5, 0.5]]))
    assert loss.tolist() == pytest.approx([0.5 * (0.5 * 0.64 + 0.5 * 4)])
    assert pull[0].tolist() == pytest.approx([0, 0.5 * -2])


@pytest.mark.parametrize("loss", [policy_loss, value_loss])
def test_gradients_of_losses_are_those_of_autograd(loss: Callable[..., tuple[Tensor, Tensor]]) -> None:
    draw = torch.Generator().manual_seed(0)
    numbers = 4 if loss is value_loss else 3
    moves, *others, weight = (0.2 * torch.randn(1, 100_000, generator=draw) for _ in range(numbers))
    total, pull = loss(moves.requires_grad_(), *others, torch.tensor([[0.2]]), weight)
    (expected,) = torch.autograd.grad(total.sum(), moves)
    torch.testing.assert_close(pull.detach(), expected, rtol=1e-4, atol=1e-7)


def test_errors_beyond_the_bound_of_hubers_loss_count_by_their_size() -> None:
    draw = torch.Generator().manual_seed(0)
    value, before, target = torch.randn(3, 2, 1000, generator=draw)
    value.requires_grad_()
    weight, clip = torch.full((2, 1000), 1 / 1000), torch.tensor([[0.2], [torch.inf]])
    loss, pull = value_loss(value, before, target, clip, weight, 0.5)
    near = before + (value - before).clamp(-clip, clip)
    each = [torch.nn.functional.huber_loss(v, target, delta=0.5, reduction="none") for v in (value, near)]
    expected = torch.maximum(*each).mean(1)
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(expected.sum(), value)
    torch.testing.assert_close(pull.detach(), gradient, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("pass_cost", "passes"), [(25_000, 1), (1, 2)])
def test_members_per_pass_counts_members_in_packs_of_their_own_apart(
    pass_cost: int, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PASS_COST, "cpu", pass_cost)
    made = config(batch_size=64, update_epochs=1)
    members = [member(m, made, SIMULTANEOUS) for m in range(3)]
    members.append(member(3, config(hidden=(6, 3)), SIMULTANEOUS, batch_size=64, update_epochs=1))
    learner = IPPO(made, SIMULTANEOUS, members)
    learner.update([0, 2], together(SIMULTANEOUS, {0: 8, 2: 8}, 0))
    assert (learner.passes, learner.member_updates) == (1, 2)
    learner.update(range(4), together(SIMULTANEOUS, dict.fromkeys(range(4), 8), 1))
    assert (learner.passes, learner.member_updates) == (1 + passes, 2 + 4)
