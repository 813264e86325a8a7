"""PQN against a second implementation, and against numbers by hand."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.double_precision import double, pack_in_double
from tests.support.plain_pqn import Alone, played, together
from tests.support.plain_value_decomposition import ALIKE, UNLIKE, made_for
from tests.support.replays import box, member

from covey.config import parse_config
from covey.errors import ConfigError, SpaceError
from covey.rows import RowKind, RowSchema
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces, MultiBinary, MultiDiscrete, Space
from covey.v1.order_pb2 import Exploration
from covey_server.algorithms import ALGORITHMS, build_networks
from covey_server.algorithms.pqn import PQN
from covey_server.algorithms.team_rounds import TeamRound, TeamRounds
from covey_server.experience.rollouts import Rollouts
from covey_server.experience.stream import Stream
from covey_server.member import Member
from covey_server.packing.networks_by_role import PASS_COST

CASES: dict[str, tuple[EnvironmentSpaces, bool, dict[str, Any]]] = {
    "alike": (ALIKE, False, {}),
    "alike, some lost": (ALIKE, True, {"max_grad_norm": 0.05, "reward_scale": 0.5}),
    "unlike, masks, some lost": (UNLIKE, True, {}),
    "unlike, masks, some lost, apart": (UNLIKE, True, {"shared": False, "max_grad_norm": None}),
    "unlike, masks, without indicator": (UNLIKE, False, {"agent_indicator": False}),
}
FAST = "unlike, masks, some lost"
REST: dict[str, Any] = {"environment": {"name": "none"}, "training": {}}


def population(spaces: EnvironmentSpaces, **settings: Any) -> list[Member]:
    """Four members whose widths, batches, rates, epochs, lambdas, rounds and (the last one's) depth differ."""

    def made(hidden: tuple[int, ...], latent: int) -> Any:
        return made_for("PQN", hidden=hidden, latent=latent, **settings)

    return [
        member(5, made((6,), 5), spaces, batch_size=8, lr=3e-3, gamma=0.9, q_lambda=0.5, update_epochs=2),
        member(2, made((4,), 9), spaces, batch_size=5, lr=1e-3, gamma=0.95, q_lambda=0.0, update_epochs=1),
        member(9, made((6,), 5), spaces, batch_size=8, already=1, lr=2e-3, gamma=0.5, q_lambda=1.0, learn_step=20),
        member(7, made((6, 3), 8), spaces, batch_size=17, lr=1e-3, gamma=0.99, q_lambda=0.9, learn_step=18),
    ]


def in_double(learner: PQN) -> None:
    """Let a learner compute in double precision."""
    for pack in (pack for networks in learner.packed() for pack in networks.packs):
        pack_in_double(pack)
    learner._vectors.vectors = {name: double(x) for name, x in learner._vectors.vectors.items()}
    learner._losses.sums = double(learner._losses.sums)
    pool: Any = learner._pool

    def pooled(rounds: Any) -> TeamRounds:
        found: TeamRounds = pool(rounds)
        for inputs in found.inputs:
            inputs.change(lambda views, x: x.double())
        return replace(found, **{f.name: double(getattr(found, f.name)) for f in fields(found) if f.name != "inputs"})

    learner._pool = pooled  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("case", "pass_cost"),
    [
        pytest.param(case, cost, marks=() if case == FAST else pytest.mark.slow)
        for case, cost in zip(CASES, (25_000, 1, 25_000, 1, 25_000), strict=True)
    ],
)
def test_a_packed_population_learns_what_each_member_learns_alone(
    case: str, pass_cost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PASS_COST, "cpu", pass_cost)
    spaces, losses, settings = CASES[case]
    made = made_for("PQN", **settings)
    members = population(spaces, **settings)
    alone = [Alone(made, spaces, m) for m in members]
    learner = PQN(made, spaces, members)
    in_double(learner)
    steps = {5: 10, 2: 13, 9: 10, 7: 9}
    dues = [(0, 1, 2, 3), (0, 2), (3, 1, 2), (1,)] + 22 * [(0, 1, 2, 3)]
    for i, due in enumerate(dues):
        ids = [members[m].member_id for m in due]
        all_played = {own: played(spaces, own, steps[own], i, losses) for own in ids}
        learner.update(due, together(all_played))
        for m in due:
            alone[m].update(all_played[members[m].member_id].trajectories)
    metrics = learner.metrics()
    learner.unpack()
    for mine, single in zip(members, alone, strict=True):
        assert mine.updates == single.updates
        assert metrics[mine.member_id]["critic_loss"] == pytest.approx(np.mean(single.losses), rel=1e-5)
        assert mine.networks.keys() == single.nets.keys()
        for key, network in mine.networks.items():
            assert network.target is None and network.adam_steps >= 100
            for name, p in network.params.items():
                where = f"{mine.member_id} {key} {name}"
                expected = single.nets[key][name].detach()
                np.testing.assert_allclose(p, expected, rtol=0, atol=1e-5, err_msg=where)


PAIR = EnvironmentSpaces.build([AgentSpec(f"a_{i}", box(1), Discrete(2)) for i in range(2)])
MASKED = EnvironmentSpaces.build([AgentSpec(f"a_{i}", box(1), Discrete(2), masked=True) for i in range(2)])


def rollout(spaces: EnvironmentSpaces, kinds: list[RowKind], **columns: Any) -> Rollouts:
    """A rollout of member 0, one slot's; each agent observes the number of the row, and earns 1 in each env step."""
    rows = RowSchema.of(spaces).empty(len(kinds))
    rows["kind"][:] = kinds
    for r, kind in enumerate(kinds):
        rows["a/active"][r] = kind != RowKind.FINAL
        rows["a/observation"][r] = r
        rows["a/reward"][r] = kind == RowKind.STEP
    for name, values in columns.items():
        rows[f"a/{name}"][:] = values
    rollouts = Rollouts(spaces)
    steps = sum(kind == RowKind.STEP for kind in kinds)
    rollouts.insert(0, rows, [Stream(0, 0, 0, len(kinds), 0, steps, False)], "actor")
    return rollouts


def known(spaces: EnvironmentSpaces = PAIR, **settings: Any) -> PQN:
    """A member of which every agent's action 0 is worth 2 and action 1 is worth 1, wherever it is."""
    made = made_for("PQN", hidden=(), latent=8, agent_indicator=False, gamma=0.5, q_lambda=0.5, **settings)
    m = member(0, made, spaces)
    (network,) = m.networks.values()
    for p in network.params.values():
        p[:] = 0
    network.params["head.out.bias"][:] = [2.0, 1.0]
    return PQN(made, spaces, [m])


def returns(learner: PQN, rollouts: Rollouts, spaces: EnvironmentSpaces = PAIR) -> list[float]:
    its = TeamRound.of(rollouts.take(0), spaces)
    found: list[float] = learner._returns((0,), learner._pool([its])).tolist()
    return found


STEP, FINAL, TAIL, CUT = RowKind.STEP, RowKind.FINAL, RowKind.TAIL, RowKind.CUT
# With gamma = lambda = 1/2, 2 a step for the team, and V = 4: G_t = 2 + 4/4 + G_{t+1}/4.
HAND: dict[str, tuple[list[RowKind], dict[str, Any], list[float]]] = {
    "the rollout ends": ([STEP, STEP, STEP, TAIL], {}, [4.0, 4.0, 4.0]),
    "the episode terminates": (
        [STEP, STEP, STEP, FINAL],
        {"terminated": [[0, 0], [0, 0], [1, 1], [0, 0]]},
        [3 + 3.5 / 4, 3.5, 2.0],
    ),
    "a time limit": ([STEP, STEP, FINAL], {"truncated": [[0, 0], [1, 1], [0, 0]]}, [4.0, 4.0]),
    "a cut": ([STEP, STEP, CUT], {}, [4.0, 4.0]),
    "two episodes": (
        [STEP, STEP, FINAL, STEP, TAIL],
        {"terminated": [[0, 0], [1, 1], [0, 0], [0, 0], [0, 0]]},
        [3.5, 2.0, 4.0],
    ),
    # Agent 1 earns 1 and terminates; from then on the team is agent 0, whose value is 2.
    "one terminates": (
        [STEP, STEP, STEP, TAIL],
        {
            "terminated": [[0, 0], [0, 1], [0, 0], [0, 0]],
            "active": [[1, 1], [1, 1], [1, 0], [1, 0]],
            "reward": [[1, 1], [1, 1], [1, 0], [0, 0]],
        },
        # 1 + 2/2 = 2; then 2 + 2/4 + 2/4 = 3; then 2 + 4/4 + 3/4.
        [3.75, 3.0, 2.0],
    ),
    # Agent 1 is cut off, and counts with what it saw last, 2, of which later returns know nothing.
    "one is cut off": (
        [STEP, STEP, STEP, TAIL],
        {
            "truncated": [[0, 0], [0, 1], [0, 0], [0, 0]],
            "active": [[1, 1], [1, 1], [1, 0], [1, 0]],
            "reward": [[1, 1], [1, 1], [1, 0], [0, 0]],
        },
        # 1 + 2/2 = 2; then 2 + 2/4 + 2/4 + 2/2 = 4; then 2 + 4/4 + 4/4.
        [4.0, 4.0, 2.0],
    ),
}


@pytest.mark.parametrize("case", HAND)
def test_lambda_returns_are_those_of_a_hand_computation(case: str) -> None:
    kinds, columns, expected = HAND[case]
    assert returns(known(), rollout(PAIR, kinds, **columns)) == pytest.approx(expected)


def test_rewards_are_scaled_and_values_are_not() -> None:
    assert returns(known(reward_scale=0.5), rollout(PAIR, [STEP, TAIL])) == pytest.approx([1 + 4 / 2])


@pytest.mark.parametrize(
    ("allowed", "value"), [([[1, 1], [1, 1]], 4.0), ([[0, 1], [1, 1]], 3.0), ([[0, 1], [0, 1]], 2.0)]
)
def test_what_a_mask_forbids_is_not_the_best_that_follows(allowed: list[list[int]], value: float) -> None:
    its = rollout(MASKED, [STEP, TAIL], action_mask=[[[1, 1], [1, 1]], allowed])
    assert returns(known(MASKED), its, MASKED) == pytest.approx([2 + value / 2])


@pytest.mark.parametrize(("last", "expected"), [(FINAL, 4.0), (TAIL, 4.0)])
def test_a_mask_of_zeros_forbids_nothing(last: RowKind, expected: float) -> None:
    ends = {"truncated": [[1, 1], [0, 0]]} if last == FINAL else {}
    its = rollout(MASKED, [STEP, last], action_mask=[[[1, 1], [1, 1]], [[0, 0], [0, 0]]], **ends)
    assert returns(known(MASKED), its, MASKED) == pytest.approx([expected])


def test_the_loss_is_that_of_a_hand_computation() -> None:
    # Agents that do 0 are worth 2, those that do 1 are worth 1; the dead one is worth nothing.
    its = rollout(PAIR, [STEP, TAIL], action=[[0, 1], [0, 0]])
    learner = known(update_epochs=1)
    learner.update([0], its)
    assert learner.metrics()[0]["critic_loss"] == pytest.approx((3 - 4) ** 2)
    alone = {"action": [[1, 0], [0, 0]], "active": [[1, 0], [1, 0]], "reward": [[1, 0], [0, 0]]}
    learner = known(update_epochs=1)
    learner.update([0], rollout(PAIR, [STEP, TAIL], **alone))
    assert learner.metrics()[0]["critic_loss"] == pytest.approx((1 - (1 + 2 / 2)) ** 2)


def test_a_rollout_in_which_nobody_acts_teaches_nothing() -> None:
    learner = known()
    learner.update([0], rollout(PAIR, [STEP, FINAL], active=0, reward=0))
    assert learner.metrics() == {0: {}} and learner._members[0].updates == 1


def test_fragments_of_an_episode_are_one_trajectory() -> None:
    own = played(ALIKE, 3, 20, 0, losses=False)
    its = TeamRound.of(own.rollouts.take(3), ALIKE)
    assert len(its) == 40 and (~its.continues).sum() == len(own.trajectories)
    assert any(len({id(columns) for columns, _ in steps}) > 1 for steps in own.trajectories)


def test_rollouts_of_these_tests_lose_agents_in_every_way() -> None:
    its = TeamRound.of(played(UNLIKE, 5, 20, 0).rollouts.take(5), UNLIKE)
    acted = np.stack([part.any(1) for part in np.split(its.taken, np.cumsum([2, 3, 2, 3]), 1)], 1)
    assert (~acted).any() and (its.next_present & ~its.kept)[its.continues].any(), "some are cut off alone"
    assert not its.next_legal.all() and (its.next_present.any(1) & ~its.continues).any()


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        (Box("float32", (1,), (0.0,), (1.0,)), "Box"),
        (MultiDiscrete((2, 3)), "MultiDiscrete"),
        (MultiBinary(2), "MultiBinary"),
    ],
)
def test_other_actions_are_refused_by_name(action: Space, kind: str) -> None:
    spaces = EnvironmentSpaces.build([AgentSpec("a_0", box(1), Discrete(2)), AgentSpec("b_0", box(1), action)])
    with pytest.raises(SpaceError, match=f"^action of agent 'b_0': {kind}, expected Discrete with PQN; use MATD3"):
        member(0, made_for("PQN"), spaces)


def test_agents_that_act_at_different_times_are_refused() -> None:
    spaces = EnvironmentSpaces.build([AgentSpec(f"a_{i}", box(1), Discrete(2)) for i in range(2)], asynchronous=True)
    with pytest.raises(SpaceError, match=r"act at different times, expected all of them .* PQN; use IPPO"):
        member(0, made_for("PQN"), spaces)


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        ({"encoder_config": {"layer_norm": False}}, "network.encoder_config.layer_norm: false, expected true of 'a'"),
        ({"head_config": {"layer_norm": False}}, "network.head_config.layer_norm: false, expected true of 'a'"),
        ({"head_config": {"hidden_size": []}}, r"network.head_config.hidden_size: \[\], expected a hidden layer"),
        ({"head_config": {"min_hidden_layers": 0}}, "network.head_config.min_hidden_layers: 0, expected at least 1"),
        ({"encoder_config": {"recurrent": True}}, "network.encoder_config.recurrent: true, but PQN trains policies"),
    ],
)
def test_networks_that_would_not_be_normalised_are_refused(network: dict[str, Any], sentence: str) -> None:
    made = parse_config({"algorithm": {"name": "PQN"}, **REST, "network": network})
    with pytest.raises(ConfigError, match=f"^{sentence}"):
        build_networks(made, PAIR, np.random.default_rng(0))


@pytest.mark.parametrize("layer_norm", [{}, {"layer_norm": True}])
def test_hidden_layers_are_normalised_whether_one_says_so_or_not(layer_norm: dict[str, bool]) -> None:
    parts = {key: {"hidden_size": [4, 3], **layer_norm} for key in ("encoder_config", "head_config")}
    made = parse_config({"algorithm": {"name": "PQN"}, **REST, "network": parts})
    (network,) = build_networks(made, PAIR, np.random.default_rng(0)).values()
    assert {n for n in network.params if "norm.scale" in n} == {
        f"{part}.{layer}.norm.scale" for part in ("encoder.observation", "head") for layer in range(2)
    }


def test_random_steps_are_refused() -> None:
    data = {"algorithm": {"name": "PQN"}, "environment": {"name": "none"}, "training": {"random_steps": 5}}
    with pytest.raises(ConfigError, match=r"^training.random_steps: 5, expected 0 with PQN; set algorithm.eps"):
        parse_config(data)


def test_names_exploration_and_defaults() -> None:
    made = parse_config({"algorithm": {"name": "PQN"}, **REST})
    assert made.algorithm.share_parameters and made.algorithm.agent_indicator
    evolvable = ("batch_size", "learn_step", "lr", "gamma", "q_lambda", "update_epochs")
    assert made.algorithm.evolvable == evolvable
    m = replace(member(0, made, PAIR), env_steps=25_000)
    told = ALGORITHMS["PQN"].exploration(made, m)
    assert told.kind == Exploration.KIND_EPSILON_GREEDY and told.scale == pytest.approx(0.525)


def test_rates_follow_their_schedule() -> None:
    learner = known(lr={"from": 0.01, "to": 0.0})
    learner._members[0].env_steps = learner._config.training.max_steps
    learner.update([0], rollout(PAIR, [STEP, TAIL], action=[[0, 1], [0, 0]]))
    learner.unpack()
    assert learner._members[0].networks["actor/a"].params["head.out.bias"].tolist() == [2.0, 1.0]


def test_images_are_encoded_by_the_minibatch(monkeypatch: pytest.MonkeyPatch) -> None:
    own = played(ALIKE, 5, 20, 0)
    members = [population(ALIKE)[0] for _ in range(2)]
    for m, most in zip(members, (1 << 26, 0), strict=True):
        monkeypatch.setattr("covey_server.algorithms.round_inputs.ENCODED_BYTES", most)
        learner = PQN(made_for("PQN"), ALIKE, [m])
        learner.update([0], together({5: own}))
        learner.unpack()
    one, other = (m.networks["actor/a"].params for m in members)
    assert all(torch.equal(torch.from_numpy(p), torch.from_numpy(other[name])) for name, p in one.items())
