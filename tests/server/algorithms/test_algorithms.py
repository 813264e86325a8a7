"""MADDPG and MATD3 against a second implementation, and against numbers by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.support.double_precision import DoubleReplay, alone_in_double, learner_in_double
from tests.support.plain_off_policy import Alone, forward
from tests.support.replays import BOXES, CASES, EACH_CASE, MIXED, box, config, filled, if_matd3, member, population
from torch import Tensor

from covey.rows import RowKind, RowSchema
from covey.spaces import AgentSpec, Discrete, EnvironmentSpaces
from covey.v1.fragment_pb2 import SlotStream
from covey_server.algorithms import ALGORITHMS
from covey_server.algorithms.losses import critic_loss, policy_loss, td_target
from covey_server.algorithms.off_policy import OffPolicy
from covey_server.experience.replay import Replay
from covey_server.packing.networks_by_role import PASS_COST


@pytest.mark.parametrize("case", EACH_CASE)
@pytest.mark.parametrize(
    ("actor_loss", "pass_cost"), [("joint", 25_000), pytest.param("own", 1, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("algorithm", ["MADDPG", "MATD3"])
def test_a_packed_population_learns_what_each_member_learns_alone(
    algorithm: str, actor_loss: str, pass_cost: int, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PASS_COST, "cpu", pass_cost)
    spaces, own = CASES[case]
    settings: dict[str, Any] = {"actor_loss": actor_loss, "output_penalty": 0.01 * (actor_loss == "joint"), **own}
    made = config(algorithm, **settings)
    members = population(algorithm, spaces, **settings)
    alone = [Alone(made, spaces, m) for m in members]
    replay = filled(spaces, kind=DoubleReplay)
    learner = ALGORITHMS[algorithm](made, spaces, members)
    assert isinstance(learner, OffPolicy)
    learner_in_double(learner)
    for single in alone:
        alone_in_double(single)
    for due in [(0, 1, 2, 3), (0, 2), (3, 1, 2), (1,), (0, 1, 2, 3), (0, 1, 2, 3)]:
        learner.update(due, replay)
        for m in due:
            alone[m].update(replay)
    metrics = learner.metrics()
    learner.unpack()
    for mine, single in zip(members, alone, strict=True):
        assert mine.updates == single.updates
        losses = metrics[mine.member_id]
        assert losses["critic_loss"] == pytest.approx(np.mean(single.critic_losses), rel=1e-4)
        assert losses["actor_loss"] == pytest.approx(np.mean(single.actor_losses), rel=1e-4, abs=1e-5)
        for key, network in mine.networks.items():
            for name, p in network.params.items():
                np.testing.assert_allclose(
                    p, single.nets[key][name].detach(), rtol=0, atol=1e-7, err_msg=f"{mine.member_id} {key} {name}"
                )
                assert network.target is not None
                np.testing.assert_allclose(network.target[name], single.targets[key][name], rtol=0, atol=1e-7)
            steps = [s["step"] for s in single.adam[key].state.values()]
            assert network.adam_steps == (int(steps[0]) if steps else 0)
    assert learner.metrics() == {m.member_id: {} for m in members}


def one_step(terminated: bool, algorithm: str) -> tuple[Replay, EnvironmentSpaces]:
    """A memory of one decision, reward 2, after which the episode ended."""
    spaces = EnvironmentSpaces.build([AgentSpec("a_0", box(2), box(1))])
    columns = RowSchema.of(spaces).empty(2)
    columns["kind"][:] = [RowKind.STEP, RowKind.FINAL]
    columns["a/observation"][:, 0] = [[0.5, -1.0], [3.0, 2.0]]
    columns["a/action"][0] = 0.25
    columns["a/active"][:] = 1
    columns["a/reward"][0] = 2
    columns["a/terminated" if terminated else "a/truncated"][0] = 1
    replay = Replay(spaces, 4, 1 << 20)
    replay.insert(columns, [SlotStream(rows=2, steps=1)])
    return replay, spaces


@pytest.mark.parametrize("algorithm", ["MADDPG", "MATD3"])
@pytest.mark.parametrize("terminated", [True, False])
def test_truncation_bootstraps_from_the_final_observation_and_termination_does_not(
    algorithm: str, terminated: bool
) -> None:
    replay, spaces = one_step(terminated, algorithm)
    made = config(algorithm, gamma=0.9, batch_size=3, **if_matd3(algorithm, target_noise=0.0))
    m = member(0, made, spaces)
    ids = [k for k in m.networks if k.startswith("critic")]

    def tensors(key: str) -> dict[str, Tensor]:
        return {name: torch.from_numpy(p.copy()) for name, p in m.networks[key].params.items()}

    now, after = torch.tensor([[0.5, -1.0]]), torch.tensor([[3.0, 2.0]])
    following = forward(m.networks["actor/a_0"].spec, tensors("actor/a_0"), [after]).div(2).tanh()
    bootstrap = min(float(forward(m.networks[k].spec, tensors(k), [after], following)) for k in ids)
    y = 2 + (0 if terminated else 0.9 * bootstrap)
    expected = np.mean(
        [(float(forward(m.networks[k].spec, tensors(k), [now], torch.tensor([[0.25]]))) - y) ** 2 for k in ids]
    )
    learner = ALGORITHMS[algorithm](made, spaces, [m])
    learner.update([0], replay)
    assert abs(bootstrap) > 1e-3
    assert learner.metrics()[0]["critic_loss"] == pytest.approx(expected, rel=1e-5)


def test_losses_give_the_numbers_of_a_hand_computation() -> None:
    y = td_target(
        torch.tensor([[[1.0, 2.0]]]),
        torch.tensor([[[0.0, 1.0]]]),
        torch.tensor([[0.5]]),
        torch.tensor([[[10.0, 10.0]]]),
    )
    assert y.tolist() == [[[6.0, 2.0]]]
    k = torch.tensor([[[1, 3]]])
    later = td_target(torch.ones(1, 1, 2), torch.zeros(1, 1, 2), torch.tensor([[0.5]]) ** k, torch.full((1, 1, 2), 8.0))
    assert later.tolist() == [[[5.0, 2.0]]]
    weight = torch.tensor([[[0.25, 0.75]]])
    value = torch.tensor([[[[5.0, 4.0]]], [[[6.0, 0.0]]]], requires_grad=True)
    losses, pull = critic_loss(value, y, weight)
    assert losses.tolist() == [0.25 * 1 + 0.75 * 4 + 0.75 * 4]
    assert torch.equal(pull, torch.autograd.grad(losses.sum(), value)[0])
    losses, pull = policy_loss(value[0], weight)
    assert losses.tolist() == [-(0.25 * 5 + 0.75 * 4)]
    assert torch.equal(pull, torch.autograd.grad(losses.sum(), value)[0][0])


def test_learning_a_policy_leaves_the_critics_as_they_are() -> None:
    made = config("MADDPG", batch_size=8)
    m = member(0, made, BOXES)
    # Not a configuration's values: here they show which gradients reach what.
    m.hyperparameters = m.hyperparameters.model_copy(update={"lr_critic": 0.0, "tau": 0.0})
    before = m.networks["critic/speaker_0"].clone(), m.networks["actor/speaker_0"].clone()
    learner = ALGORITHMS["MADDPG"](made, BOXES, [m])
    learner.update([0], filled(BOXES))
    learner.unpack()
    critic, actor = m.networks["critic/speaker_0"], m.networks["actor/speaker_0"]
    assert all(np.array_equal(critic.params[k], p) for k, p in before[0].params.items())
    assert not all(np.array_equal(actor.params[k], p) for k, p in before[1].params.items())


def test_draws_of_a_member_do_not_depend_on_its_pack_mates_or_their_batch_sizes() -> None:
    replay = filled(MIXED)
    made = config("MATD3")
    together = population("MATD3", MIXED)
    alone = population("MATD3", MIXED)
    ALGORITHMS["MATD3"](made, MIXED, together).update(range(4), replay)
    for m in range(4):
        ALGORITHMS["MATD3"](made, MIXED, [alone[m]]).update([0], replay)
    assert [m.updates for m in together] == [m.updates for m in alone] == [1, 1, 2, 1]


@pytest.mark.parametrize(("pass_cost", "counts"), [(25_000, [(1, 3), (2, 7)]), (1, [(1, 3), (3, 7)])])
def test_members_per_pass_counts_members_in_packs_of_their_own_apart(
    pass_cost: int, counts: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PASS_COST, "cpu", pass_cost)
    made = config("MADDPG")
    members = population("MADDPG", BOXES)
    learner = ALGORITHMS["MADDPG"](made, BOXES, members)
    replay = filled(BOXES)
    learner.update([0, 1, 2], replay)
    assert (learner.passes, learner.member_updates) == counts[0]
    learner.update([0, 1, 2, 3], replay)
    assert (learner.passes, learner.member_updates) == counts[1]


def test_a_snapshot_is_the_policies_of_its_moment() -> None:
    made = config("MATD3", policy_freq=1)
    members = population("MATD3", BOXES)
    learner = ALGORITHMS["MATD3"](made, BOXES, members)
    replay = filled(BOXES)
    learner.update(range(4), replay)
    snapshot = learner.snapshot()
    learner.unpack()
    kept = {m.member_id: {k: n.clone() for k, n in m.networks.items()} for m in members}
    updates = {m.member_id: m.updates for m in members}
    learner.update(range(4), replay)
    assert snapshot.updates == updates
    for member_id in snapshot.updates:
        policies = snapshot.policies(member_id)
        assert set(policies) == {"speaker_0", "listener_0"}
        for network_id, (spec, params) in policies.items():
            network = kept[member_id][f"actor/{network_id}"]
            assert spec == network.spec
            assert all(np.array_equal(p, network.params[name]) for name, p in params.items())


@pytest.mark.parametrize("algorithm", ["MADDPG", "MATD3", "MASAC"])
def test_an_agent_that_took_no_part_in_a_batch_leaves_its_networks_finite(algorithm: str) -> None:
    replay, spaces = one_step(True, algorithm)
    columns = RowSchema.of(spaces).empty(2)
    columns["kind"][:] = [RowKind.STEP, RowKind.FINAL]
    replay = Replay(spaces, 1, 1 << 20)
    replay.insert(columns, [SlotStream(rows=2, steps=1)])
    m = member(0, config(algorithm, batch_size=2), spaces, **if_matd3(algorithm, policy_freq=1))
    learner = ALGORITHMS[algorithm](config(algorithm), spaces, [m])
    learner.update([0], replay)
    learner.unpack()
    assert all(np.isfinite(p).all() for n in m.networks.values() for p in n.params.values())


@pytest.mark.parametrize("algorithm", ["MADDPG", "MATD3", "MASAC"])
def test_forced_actions_teach_critics_but_no_policy(algorithm: str) -> None:
    spaces = EnvironmentSpaces.build([AgentSpec("a_0", box(2), box(1))])
    columns = RowSchema.of(spaces).empty(4)
    columns["kind"][:] = [RowKind.STEP] * 3 + [RowKind.FINAL]
    columns["a/observation"][:] = 0.5
    columns["a/active"][:] = 2
    columns["a/reward"][:3] = 1
    replay = Replay(spaces, 8, 1 << 20)
    replay.insert(columns, [SlotStream(rows=4, steps=3)])
    made = config(algorithm, batch_size=4)
    m = member(0, made, spaces, **if_matd3(algorithm, policy_freq=1))
    before = {key: n.clone() for key, n in m.networks.items()}
    learner = ALGORITHMS[algorithm](made, spaces, [m])
    learner.update([0], replay)
    learner.unpack()
    for key, network in m.networks.items():
        same = all(np.array_equal(p, before[key].params[name]) for name, p in network.params.items())
        assert same == key.startswith("actor")
        assert network.temperature is None or network.temperature.log_alpha == 0


def two_turns(truncated: bool) -> tuple[Replay, EnvironmentSpaces]:
    """The decision of a_0: action 1, reward 1 and, while b_0 acts, 2 and 4; then it acts again, or is cut off.

    b_0 acts in the three steps in between, is to act at the end, and waits where a_0 acts.
    """
    spaces = EnvironmentSpaces.build(
        [AgentSpec("a_0", box(1), Discrete(2), masked=True), AgentSpec("b_0", box(1), box(1))], asynchronous=True
    )
    columns = RowSchema.of(spaces).empty(4)
    columns["kind"][:] = [RowKind.STEP] * 3 + [RowKind.FINAL if truncated else RowKind.TAIL]
    columns["a/active"][:, 0] = [1, 0, 0, 0 if truncated else 1]
    columns["b/active"][:, 0] = [1, 1, 1, 0]
    columns["a/observation"][:, 0, 0] = [0.5, 0.5, 0.5, -1]
    columns["b/observation"][:, 0, 0] = [0.1, 0.2, 0.3, 0.3]
    columns["a/action"][:3, 0] = 1
    columns["b/action"][:, 0, 0] = [0.4, 0.5, 0.6, 0 if truncated else 0.6]
    columns["a/action_mask"][:, 0] = [[1, 1]] * 3 + [[0, 0] if truncated else [1, 0]]
    columns["a/reward"][:3, 0] = [1, 2, 4]
    if truncated:
        columns["a/truncated"][2] = columns["b/terminated"][2] = 1
        columns["b/observation"][3] = 0.9
    replay = Replay(spaces, 8, 1 << 20)
    replay.insert(columns, [SlotStream(rows=4, steps=3)])
    return replay, spaces


@pytest.mark.parametrize("truncated", [False, True])
def test_a_decision_is_worth_its_rewards_and_what_follows_discounted_by_every_step_in_between(truncated: bool) -> None:
    replay, spaces = two_turns(truncated)
    made = config("MADDPG", gamma=0.5, batch_size=64)
    m = member(0, made, spaces)

    def value(key: str, *numbers: Any) -> float:
        network = m.networks[key]
        params = {name: torch.from_numpy(p.copy()) for name, p in network.params.items()}
        *inputs, extra = (torch.tensor([x], dtype=torch.float32) for x in numbers)
        return float(forward(network.spec, params, inputs, extra)[0, 0])

    # a_0 would choose 1; b_0's critic says 0 to everything, as is right: its loss is 0.
    m.networks["actor/a_0"].params["head.out.bias"][:] = [-50, 50]
    for p in m.networks["critic/b_0"].params.values():
        p[:] = 0
    for key in ("actor/a_0", "critic/b_0"):
        m.networks[key].target = {k: p.copy() for k, p in m.networks[key].params.items()}
    if truncated:  # nothing is masked where nobody acts any more; b_0 has ended: only what it saw last is there
        following = value("critic/a_0", [-1.0], [0.9], [0, 1, 0, 1, 0])
    else:  # the mask leaves a_0 what it would not choose; b_0 waits, bound by its action
        following = value("critic/a_0", [-1.0], [0.3], [1, 0, 0.6, 1, 0])
    y = 1 + 2 + 4 + 0.5**3 * following
    expected = (value("critic/a_0", [0.5], [0.1], [0, 1, 0.4, 1, 1]) - y) ** 2
    learner = ALGORITHMS["MADDPG"](made, spaces, [m])
    learner.update([0], replay)
    assert abs(following) > 1e-3
    assert learner.metrics()[0]["critic_loss"] == pytest.approx(expected / 2, rel=1e-4)
