"""MASAC against a second implementation, and against numbers by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests.support.double_precision import DoubleReplay, alone_in_double, learner_in_double
from tests.support.plain_masac import PlainMASAC
from tests.support.replays import BOX_CASES, BOXES, TEAM, box, config, filled, member, population
from torch import Tensor

from covey.errors import SpaceError
from covey.spaces import (
    AgentSpec,
    Box,
    DictSpace,
    Discrete,
    EnvironmentSpaces,
    MultiBinary,
    MultiDiscrete,
    Space,
)
from covey.v1.order_pb2 import Exploration
from covey_server.algorithms import ALGORITHMS
from covey_server.algorithms.losses import soft_policy_loss
from covey_server.algorithms.masac import MASAC
from covey_server.algorithms.squashed_gaussian import SquashedGaussians, log_slope
from covey_server.algorithms.temperatures import Temperatures
from covey_server.member import Member, Temperature

CASES = BOX_CASES | {
    "the others as in replay": (TEAM, {"actor_loss": "own", "target_entropy": -0.5}),
    "a fixed temperature": (TEAM, {"ent_coef": 0.2}),
}
FAST = ("boxes", "boxes in turns, shared with indicator")


@pytest.mark.parametrize("case", [pytest.param(c, marks=() if c in FAST else pytest.mark.slow) for c in CASES])
def test_a_packed_population_learns_what_each_member_learns_alone(case: str) -> None:
    spaces, settings = CASES[case]
    made = config("MASAC", **settings)
    members = population("MASAC", spaces, **settings)
    alone = [PlainMASAC(made, spaces, m) for m in members]
    replay = filled(spaces, kind=DoubleReplay)
    learner = MASAC(made, spaces, members)
    learner_in_double(learner)
    for single in alone:
        alone_in_double(single)
    for due in [(0, 1, 2, 3), (0, 2), (3, 1, 2), (1,)] + (96 if case in FAST else 6) * [(0, 1, 2, 3)]:
        learner.update(due, replay)
        for m in due:
            alone[m].update(replay)
    metrics = learner.metrics()
    learner.unpack()
    for mine, single in zip(members, alone, strict=True):
        assert mine.updates == single.updates
        losses = metrics[mine.member_id]
        assert losses["critic_loss"] == pytest.approx(np.mean(single.critic_losses), rel=1e-5)
        assert losses["actor_loss"] == pytest.approx(np.mean(single.actor_losses), rel=1e-5, abs=1e-5)
        alphas = {i: float(x.detach().exp()) for i, x in single.log_alpha.items()}
        assert losses["ent_coef"] == pytest.approx(np.mean(list(alphas.values())), rel=1e-6)
        for key, network in mine.networks.items():
            role, _, player = key.partition("/")
            for name, p in network.params.items():
                where = f"{mine.member_id} {key} {name}"
                np.testing.assert_allclose(p, single.nets[key][name].detach(), rtol=0, atol=1e-5, err_msg=where)
                if role != "actor":
                    assert network.target is not None
                    np.testing.assert_allclose(network.target[name], single.targets[key][name], rtol=0, atol=1e-5)
            if role == "actor" and "ent_coef" not in settings:
                assert network.temperature is not None and network.temperature.adam_steps == network.adam_steps
                assert network.temperature.log_alpha == pytest.approx(float(single.log_alpha[player].detach()))
                assert abs(network.temperature.log_alpha) > 1e-3
            else:
                assert network.temperature is None
            if role == "actor":
                assert network.target is None
    assert learner.metrics() == {m.member_id: {} for m in members}


def one_agent(numbers: int = 1) -> EnvironmentSpaces:
    return EnvironmentSpaces.build([AgentSpec("a_0", box(2), box(numbers))])


def test_a_samples_log_density_is_that_of_a_hand_computation() -> None:
    policies = SquashedGaussians(one_agent(2), [0], torch.device("cpu"))
    # Means 0.5 and 0, log deviations 0 and log 2, normals 1 and -1: z = 1.5 and -2.
    outputs = torch.tensor([[[0.5, 0.0, 0.0, math.log(2)]]], dtype=torch.float64)
    found = policies.sample([outputs], torch.tensor([[[1.0, -1.0]]], dtype=torch.float64))
    assert found.action.tolist() == [[pytest.approx([0.9051482536, -0.9640275801])]]
    # -1/2 - log(2 pi) / 2 - log(1 - tanh(1.5)^2), and with a deviation of 2 also - log 2
    first, second = -0.5 - 0.9189385332 + 1.7108803420, -0.5 - 0.9189385332 - 0.6931471806 + 2.6500054947
    assert found.log_prob.tolist() == [[[pytest.approx(first + second)]]]


@pytest.mark.parametrize("z", [-100.0, -20.0, -1.0, 0.0, 1e-3, 5.0, 20.0, 100.0])
def test_the_slope_of_tanh_has_a_logarithm_where_it_rounds_to_nothing(z: float) -> None:
    exact = 2 * (math.log(2) - abs(z) - math.log1p(math.exp(-2 * abs(z))))
    assert float(log_slope(torch.tensor(z))) == pytest.approx(exact, rel=1e-6, abs=1e-6)


def test_gradients_of_samples_are_those_of_autograd_and_none_beyond_the_limits_of_deviations() -> None:
    policies = SquashedGaussians(TEAM, [0, 2, 1, 3], torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    outputs = [3 * random(2, 5, 2 * a.action.width) for a in TEAM.agents]
    outputs[0][0, 0, 2:] = torch.tensor([2.5, -21.0])
    leaves = [y.clone().requires_grad_() for y in outputs]
    grad_action, grad_log_prob = random(2, 5, 10), random(4, 2, 5)
    found = policies.sample(leaves, random(2, 5, 10))
    loss = (found.action * grad_action).sum() + (found.log_prob * grad_log_prob).sum()
    expected = torch.autograd.grad(loss, leaves)
    for mine, theirs in zip(found.backward(grad_action, grad_log_prob), expected, strict=True):
        torch.testing.assert_close(mine, theirs)
    assert expected[0][0, 0, 2:].tolist() == [0, 0]


def test_the_loss_of_policies_is_that_of_a_hand_computation() -> None:
    # Two critics of one agent: the smaller values are 1 and 3, of one critic each.
    value = torch.tensor([[[[1.0, 4.0]]], [[[2.0, 3.0]]]], requires_grad=True)
    log_prob = torch.tensor([[[-0.5, 2.0]]], requires_grad=True)
    weight, alpha = torch.tensor([[[0.25, 0.75]]]), torch.tensor([[[0.1]]])
    losses, grad_value, grad_log_prob = soft_policy_loss(value, log_prob, alpha, weight)
    assert losses.tolist() == [pytest.approx(0.25 * (-0.05 - 1) + 0.75 * (0.2 - 3))]
    expected = torch.autograd.grad(losses.sum(), [log_prob])[0]
    assert torch.equal(grad_log_prob, expected)
    assert grad_value.tolist() == [[[[-0.25, 0]]], [[[0, -0.75]]]]


def test_temperatures_move_as_by_a_hand_computation() -> None:
    made = config("MASAC")
    spaces = one_agent(2)
    m = member(0, made, spaces)
    temperatures = Temperatures([m], {"a_0": (0,)}, "auto", [-2.0], torch.device("cpu"))
    temperatures.set_rates(np.array([0.1]))
    # Entropies of -0.5 and -2.5 weighted 1 to 3: the mean of log pi is 2, that of log pi + H is 0. Then -1 and 3.
    temperatures.learn(torch.tensor([[[0.5, 2.5]]]), torch.tensor([[[0.25, 0.75]]]), None)
    assert float(temperatures.of(None)) == 1.0
    temperatures.learn(torch.tensor([[[1.0, 1.0]]]), torch.tensor([[[0.5, 0.5]]]), None)
    # The gradients are 0 and 1: m = 0.1, v = 0.001, at t = 2 divided by 1 - 0.9^2 and 1 - 0.999^2.
    step = 0.1 * (0.1 / 0.19) / (math.sqrt(0.001 / 0.001999) + 1e-8)
    temperatures.unpack()
    found = m.networks["actor/a_0"].temperature
    assert found is not None and found.adam_steps == 2
    assert [found.log_alpha, found.first_moment, found.second_moment] == pytest.approx([-step, 0.1, 0.001])
    # More entropy than wanted makes it cheaper, less makes it dearer; without samples there is no gradient.
    for log_prob, sign in ((-3.0, -1), (7.0, 1)):
        fresh = Temperatures([member(0, made, spaces)], {"a_0": (0,)}, "auto", [-2.0], torch.device("cpu"))
        fresh.set_rates(np.array([0.1]))
        fresh.learn(torch.full((1, 1, 2), log_prob), torch.zeros(1, 1, 2), None)
        assert float(fresh.of(None)) == 1.0
        fresh.learn(torch.full((1, 1, 2), log_prob), torch.full((1, 1, 2), 0.5), None)
        assert math.copysign(1, float(fresh.of(None)) - 1) == sign


@pytest.mark.parametrize("ent_coef", [0, 0.0, 0.5, 1])
def test_a_fixed_temperature_stays_what_it_is(ent_coef: float) -> None:
    made = config("MASAC", batch_size=8, ent_coef=ent_coef)
    m = member(0, made, BOXES)
    learner = MASAC(made, BOXES, [m])
    for _ in range(3):
        learner.update([0], filled(BOXES))
    assert learner.metrics()[0]["ent_coef"] == pytest.approx(ent_coef)
    learner.unpack()
    assert all(n.temperature is None for n in m.networks.values())


def test_learned_temperatures_lead_policies_to_their_entropy() -> None:
    made = config("MASAC", batch_size=64, lr_actor=0.01, target_entropy=-1.5)
    m = member(0, made, BOXES)
    learner, replay = MASAC(made, BOXES, [m]), filled(BOXES)
    entropies: list[float] = []
    for update in range(800):
        chosen, batch, keys = learner.draw([0], replay)
        if update >= 700:
            outputs = learner._inputs.outputs(learner._actors.select((0,)), "frozen", batch.observation)
            sampled = learner._policies.sample(outputs, learner._policies.draws(keys, 64, "other"))
            entropies.append(-float(sampled.log_prob.mean()))
        learner.learn(chosen, batch, keys)
    assert np.mean(entropies) == pytest.approx(-1.5, abs=0.3)


def test_actors_sample_the_policies_and_policies_have_a_mean_and_a_deviation_a_number() -> None:
    made = config("MASAC")
    specs = MASAC.network_specs(made, TEAM)
    assert {k: s.outputs for k, s in specs.items() if k.startswith("actor/")} == {
        "actor/walker_0": 4,
        "actor/pointer_0": 6,
        "actor/walker_1": 4,
        "actor/speaker_0": 6,
    }
    assert MASAC.exploration(made, member(0, made, BOXES)) == Exploration(kind=Exploration.KIND_SAMPLE)


WHOLE = Box("int32", (2,), (0, 0), (3, 3))


@pytest.mark.parametrize(
    ("action", "says"),
    [
        (Discrete(3), "action of agent 'b_0': Discrete, expected a Box with MASAC; use MADDPG, MATD3 or IPPO"),
        (MultiDiscrete((2, 3)), "MultiDiscrete, expected a Box with MASAC"),
        (MultiBinary(2), "MultiBinary, expected a Box with MASAC"),
        (DictSpace((("move", box(2)), ("say", Discrete(3)))), "action 'say' of agent 'b_0': Discrete, expected a Box"),
        (WHOLE, "Box of int32, expected floating-point numbers with MASAC; use MADDPG or MATD3"),
    ],
)
def test_actions_that_are_no_floating_point_boxes_are_refused(action: Space, says: str) -> None:
    spaces = EnvironmentSpaces.build([AgentSpec("a_0", box(2), box(1)), AgentSpec("b_0", box(2), action)])
    with pytest.raises(SpaceError) as caught:
        member(0, config("MASAC"), spaces)
    assert says in str(caught.value)


def test_a_member_whose_temperature_is_no_number_has_diverged() -> None:
    m: Member = member(0, config("MASAC"), BOXES)
    assert not m.diverged
    for broken in (math.nan, math.inf, -math.inf):
        m.networks["actor/speaker_0"].temperature = Temperature(broken)
        assert m.diverged
    assert ALGORITHMS["MASAC"] is MASAC
