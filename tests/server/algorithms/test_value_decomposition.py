"""VDN and QMIX against a second implementation, and against numbers by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.double_precision import DoubleReplay, double, pack_in_double
from tests.support.plain_value_decomposition import ALIKE, UNLIKE, Alone, made_for, team_replay
from tests.support.replays import box, member
from tests.support.rounds import stated
from torch import Tensor

from covey.config import parse_config
from covey.errors import SpaceError
from covey.rows import RowKind, RowSchema
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces, MultiBinary, MultiDiscrete, Space
from covey.v1.fragment_pb2 import SlotStream
from covey.v1.order_pb2 import Exploration
from covey_server.algorithms import ALGORITHMS
from covey_server.algorithms.qmix import QMIX
from covey_server.algorithms.value_decomposition import AgentColumns, ValueDecomposition
from covey_server.experience.replay import Replay
from covey_server.member import Member

BOTH = ["VDN", "QMIX"]
CASES: dict[str, tuple[EnvironmentSpaces, bool, dict[str, Any]]] = {
    "alike": (ALIKE, False, {}),
    "alike, some lost": (ALIKE, True, {"max_grad_norm": 0.05, "reward_scale": 0.5}),
    "unlike, masks, some lost": (UNLIKE, True, {}),
    "unlike, masks, some lost, apart": (UNLIKE, True, {"shared": False}),
    "unlike, masks, without indicator": (UNLIKE, False, {"agent_indicator": False}),
    "alike, state": (stated(ALIKE), False, {}),
    "unlike, masks, some lost, state": (stated(UNLIKE), True, {}),
}


def population(algorithm: str, spaces: EnvironmentSpaces, **settings: Any) -> list[Member]:
    """Four members whose widths, batch sizes, rates, gammas and (the last one's) depth differ."""

    def made(hidden: tuple[int, ...], latent: int) -> Any:
        return made_for(algorithm, hidden=hidden, latent=latent, **settings)

    return [
        member(5, made((6,), 5), spaces, batch_size=8, lr=3e-3, gamma=0.9, tau=0.1),
        member(2, made((4,), 9), spaces, batch_size=5, lr=1e-3, gamma=0.95, tau=0.05),
        member(9, made((6,), 5), spaces, batch_size=8, already=1, lr=1e-2, gamma=0.5, tau=0.02),
        member(7, made((6, 3), 8), spaces, batch_size=3, lr=2e-3, gamma=0.99, tau=0.3),
    ]


def in_double(learner: ValueDecomposition) -> None:
    for pack in (pack for networks in learner.packed() for pack in networks.packs):
        pack_in_double(pack)
    learner._vectors.vectors = {name: double(x) for name, x in learner._vectors.vectors.items()}
    learner._losses.sums = double(learner._losses.sums)


FAST = ("unlike, masks, some lost", "unlike, masks, some lost, state")


@pytest.mark.parametrize("case", [pytest.param(c, marks=() if c in FAST else pytest.mark.slow) for c in CASES])
@pytest.mark.parametrize("algorithm", BOTH)
def test_a_packed_population_learns_what_each_member_learns_alone(algorithm: str, case: str) -> None:
    spaces, losses, settings = CASES[case]
    made = made_for(algorithm, **settings)
    members = population(algorithm, spaces, **settings)
    alone = [Alone(made, spaces, m) for m in members]
    replay = team_replay(spaces, losses, kind=DoubleReplay)
    learner = ALGORITHMS[algorithm](made, spaces, members)
    assert isinstance(learner, ValueDecomposition)
    in_double(learner)
    for single in alone:
        for plain in (*single.nets.values(), *single.targets.values()):
            plain.double()
    dues = [(0, 1, 2, 3), (0, 2), (3, 1, 2), (1,)] + 96 * [(0, 1, 2, 3)]
    for due in dues:
        learner.update(due, replay)
        for m in due:
            alone[m].update(replay)
    metrics = learner.metrics()
    learner.unpack()
    for mine, single in zip(members, alone, strict=True):
        assert mine.updates == single.updates
        assert metrics[mine.member_id]["critic_loss"] == pytest.approx(np.mean(single.losses), rel=1e-5)
        assert mine.networks.keys() == single.nets.keys()
        for key, network in mine.networks.items():
            assert network.target is not None
            for name, p in network.params.items():
                where = f"{mine.member_id} {key} {name}"
                np.testing.assert_allclose(p, single.nets[key][name].detach(), rtol=0, atol=1e-5, err_msg=where)
                target = single.targets[key][name]
                np.testing.assert_allclose(network.target[name], target, rtol=0, atol=1e-5, err_msg=where)


PAIR = EnvironmentSpaces.build([AgentSpec(f"a_{i}", box(1), Discrete(2)) for i in range(2)])
MASKED = EnvironmentSpaces.build([AgentSpec(f"a_{i}", box(1), Discrete(2), masked=True) for i in range(2)])


def one_step(spaces: EnvironmentSpaces = PAIR, kind: RowKind = RowKind.FINAL, **columns: Any) -> Replay:
    """A memory of one env step of two agents; `columns` say what differs from two agents that act and go on."""
    rows = RowSchema.of(spaces).empty(2)
    rows["kind"][:] = [RowKind.STEP, kind]
    rows["a/active"][:] = [[1, 1], [0, 0] if kind == RowKind.FINAL else [1, 1]]
    rows["a/observation"][..., 0] = [[0.5, -1.0], [0.25, 2.0]]
    rows["a/action"][0] = [1, 0]
    rows["a/reward"][0] = [2.0, 3.0]
    for name, values in columns.items():
        rows[f"a/{name}"][:] = values
    replay = Replay(spaces, 4, 1 << 20)
    replay.insert(rows, [SlotStream(rows=2, steps=1)])
    return replay


def known(algorithm: str, spaces: EnvironmentSpaces = PAIR, **settings: Any) -> tuple[Member, ValueDecomposition]:
    """A member whose utilities are w o + b for each action, and whose mixer is elu(2 q_1 + q_2 + 1) 3 - 1.

    In targets b is 1 higher: 1 and 0.5 at o = 0 in networks, 2 and 1.5 in targets.
    """
    made = made_for(algorithm, shared=True, hidden=(), latent=8, agent_indicator=False, gamma=0.5, **settings)
    m = member(0, made, spaces, batch_size=2)
    for key, network in m.networks.items():
        for p in network.params.values():
            p[:] = 0
        if key == "mixer/team":
            # W_1 of 4 units and 2 agents, only the first unit; b_1; w_2; b_2.
            network.params["head.out.bias"][:] = [-2, 1, *[0] * 6, 1, 0, 0, 0, -3, 0, 0, 0, -1]
        else:
            network.params["head.out.bias"][:] = [1.0, 0.5]
        network.target = {name: p.copy() for name, p in network.params.items()}
        if key != "mixer/team":
            network.target["head.out.bias"] += 1
    learner = ALGORITHMS[algorithm](made, spaces, [m])
    assert isinstance(learner, ValueDecomposition)
    return m, learner


def elu(x: float) -> float:
    return x if x > 0 else float(np.exp(x) - 1)


def mixed(algorithm: str, q_1: float, q_2: float) -> float:
    return q_1 + q_2 if algorithm == "VDN" else 3 * elu(2 * q_1 + q_2 + 1) - 1


# Agent 1 does action 1, worth 0.5, and agent 2 action 0, worth 1. What is best next is action 0, worth 2 by targets.
ENDS: dict[str, tuple[dict[str, Any], float, float, tuple[float, float] | None, tuple[float, float]]] = {
    # What differs; the reward; what q_1 and q_2 enter with now; what they enter with next, None: nothing follows.
    "cut off": ({"truncated": [[1, 1], [0, 0]]}, 5.0, 0, (2.0, 2.0), (0.5, 1.0)),
    "all terminated": ({"terminated": [[1, 1], [0, 0]]}, 5.0, 0, None, (0.5, 1.0)),
    "one terminated, one cut off": (
        {"terminated": [[1, 0], [0, 0]], "truncated": [[0, 1], [0, 0]]},
        5.0,
        0,
        (0.0, 2.0),
        (0.5, 1.0),
    ),
    "one dead": (
        {"active": [[0, 1], [0, 0]], "truncated": [[0, 1], [0, 0]], "reward": [[0, 3], [0, 0]], "action": 0},
        3.0,
        0,
        (0.0, 2.0),
        (0.0, 1.0),
    ),
    "one dead, the last terminated": (
        {"active": [[1, 0], [0, 0]], "terminated": [[1, 0], [0, 0]], "reward": [[2, 0], [0, 0]]},
        2.0,
        0,
        None,
        (0.5, 0.0),
    ),
}


@pytest.mark.parametrize("case", ENDS)
@pytest.mark.parametrize("algorithm", BOTH)
def test_the_loss_is_that_of_a_hand_computation(algorithm: str, case: str) -> None:
    columns, reward, _, following, now = ENDS[case]
    _, learner = known(algorithm, reward_scale=0.5)
    learner.update([0], one_step(**columns))
    y = 0.5 * reward + (0.5 * mixed(algorithm, *following) if following is not None else 0)
    expected = (mixed(algorithm, *now) - y) ** 2
    assert learner.metrics()[0]["critic_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("algorithm", BOTH)
@pytest.mark.parametrize(
    ("allowed", "first", "second"),
    [([[1, 1], [1, 1]], 2.0, 2.0), ([[0, 1], [1, 1]], 1.5, 2.0), ([[0, 1], [0, 1]], 1.5, 1.5)],
)
def test_what_a_mask_forbids_is_not_the_best_that_follows(
    algorithm: str, allowed: list[list[int]], first: float, second: float
) -> None:
    _, learner = known(algorithm, MASKED)
    learner.update([0], one_step(MASKED, RowKind.TAIL, action_mask=[[[1, 1], [1, 1]], allowed]))
    expected = (mixed(algorithm, 0.5, 1.0) - (5 + 0.5 * mixed(algorithm, first, second))) ** 2
    assert learner.metrics()[0]["critic_loss"] == pytest.approx(expected, rel=1e-5)


def test_networks_choose_and_targets_value_what_follows() -> None:
    m, learner = known("VDN")
    network = m.networks["actor/a"]
    assert network.target is not None
    network.target["head.out.bias"][:] = [2.0, 9.0]  # targets would choose action 1
    learner = type(learner)(made_for("VDN", hidden=(), latent=8, agent_indicator=False), PAIR, [m])
    learner.update([0], one_step(PAIR, RowKind.TAIL))
    gamma = m.hyperparameters.numbers()["gamma"]
    assert learner.metrics()[0]["critic_loss"] == pytest.approx((1.5 - (5 + gamma * 4.0)) ** 2, rel=1e-5)


def test_the_team_value_rises_with_every_utility_whatever_the_hypernetwork_says() -> None:
    made = made_for("QMIX")
    learner = ALGORITHMS["QMIX"](made, ALIKE, [member(0, made, ALIKE)])
    assert isinstance(learner, QMIX)
    weights: Tensor = torch.randn(4, 50, 3 * 4 + 4 + 4 + 1, generator=torch.Generator().manual_seed(0))
    utilities = torch.randn(4, 50, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    (slope,) = torch.autograd.grad(learner._mix(utilities, weights).sum(), utilities)
    assert slope.shape == utilities.shape and bool((slope >= 0).all()) and bool((slope > 0.01).any())


@pytest.mark.parametrize("algorithm", BOTH)
def test_a_batch_in_which_nobody_acts_leaves_networks_finite(algorithm: str) -> None:
    m, learner = known(algorithm)
    learner.update([0], one_step(active=0, action=0, reward=0))
    learner.unpack()
    assert all(np.isfinite(p).all() for n in m.networks.values() for p in n.params.values())


def test_columns_of_agents_with_fewer_values_are_filled_up() -> None:
    columns = AgentColumns([1, 3], torch.device("cpu"))
    assert columns.by_agent(torch.tensor([[[5.0, 1, 2, 3]]]), -9).tolist() == [[[[5, -9, -9], [1, 2, 3]]]]
    columns = AgentColumns([2, 2], torch.device("cpu"))
    assert columns.by_agent(torch.tensor([[[5.0, 1, 2, 3]]]), -9).tolist() == [[[[5, 1], [2, 3]]]]


@pytest.mark.parametrize("algorithm", BOTH)
@pytest.mark.parametrize(
    ("action", "kind"),
    [
        (Box("float32", (1,), (0.0,), (1.0,)), "Box"),
        (MultiDiscrete((2, 3)), "MultiDiscrete"),
        (MultiBinary(2), "M"),
    ],
)
def test_other_actions_are_refused_by_name(algorithm: str, action: Space, kind: str) -> None:
    spaces = EnvironmentSpaces.build([AgentSpec("a_0", box(1), Discrete(2)), AgentSpec("b_0", box(1), action)])
    with pytest.raises(SpaceError, match=f"^action of agent 'b_0': {kind}.*, expected Discrete with {algorithm}; use "):
        member(0, made_for(algorithm), spaces)


@pytest.mark.parametrize("algorithm", BOTH)
def test_agents_that_act_at_different_times_are_refused(algorithm: str) -> None:
    spaces = EnvironmentSpaces.build([AgentSpec(f"a_{i}", box(1), Discrete(2)) for i in range(2)], asynchronous=True)
    with pytest.raises(SpaceError, match=f"act at different times, expected all of them .* {algorithm}; use IPPO"):
        member(0, made_for(algorithm), spaces)


def test_epsilon_changes_linearly_with_the_members_env_steps() -> None:
    made = made_for("QMIX", epsilon_start=0.9, epsilon_end=0.1, epsilon_steps=100)
    m = member(0, made, PAIR)
    for steps, epsilon in ((0, 0.9), (25, 0.7), (100, 0.1), (1000, 0.1)):
        told = QMIX.exploration(made, dataclasses.replace(m, env_steps=steps))
        assert told.kind == Exploration.KIND_EPSILON_GREEDY and told.scale == pytest.approx(epsilon)


def test_names_and_defaults() -> None:
    for name in BOTH:
        made = parse_config({"algorithm": {"name": name}, "environment": {"name": "none"}, "training": {}})
        assert made.algorithm.share_parameters and made.algorithm.agent_indicator
        assert made.algorithm.evolvable == ("batch_size", "learn_step", "lr", "gamma", "tau")
