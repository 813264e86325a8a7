"""Advantages against a loop over decisions, and policies' probabilities against numbers by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests.support.plain_ippo import advantages_one_by_one

from covey.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Space
from covey_server.algorithms.advantages import advantages, discounted_sums
from covey_server.algorithms.distributions import distribution_of
from covey_server.algorithms.return_scale import updated
from covey_server.experience.rollouts import AgentDecisions
from covey_server.member import ReturnScale


def decisions(rng: np.random.Generator, lengths: list[int]) -> AgentDecisions:
    """Trajectories of these lengths; decisions take one to four env steps, a third of the last ones terminate."""
    n = sum(lengths)
    continues = np.ones(n, bool)
    continues[np.cumsum(lengths) - 1] = False
    first = np.arange(n) + np.repeat(np.arange(len(lengths)), lengths)  # a view more than decisions, each trajectory
    return AgentDecisions(
        observation=Box("float32", (1,), (0.0,), (0.0,)),
        source=(np.zeros((n + len(lengths), 1), np.float32),),
        rows=np.arange(n + len(lengths)),
        here=first,
        after=first + 1,
        action=np.zeros((n, 1), np.float32),
        mask=None,
        forced=np.zeros(n, bool),
        steps=rng.integers(1, 5, n),
        reward=rng.normal(size=n).astype(np.float32),
        terminated=~continues & (rng.random(n) < 0.33),
        continues=continues,
    )


@pytest.mark.parametrize("lengths", [[1], [1, 1, 1], [7], [3, 8, 1, 16, 17, 5]])
def test_advantages_are_those_of_a_loop_over_decisions(lengths: list[int]) -> None:
    rng = np.random.default_rng(len(lengths))
    d = decisions(rng, lengths)
    value = rng.normal(size=len(d.view)).astype(np.float32)
    found = advantages(
        reward=torch.from_numpy(d.reward),
        steps=torch.from_numpy(d.steps),
        terminated=torch.from_numpy(d.terminated).float(),
        continues=torch.from_numpy(d.continues).float(),
        value=torch.from_numpy(value[d.here]),
        next_value=torch.from_numpy(value[d.after]),
        gamma=torch.full((len(d.here),), 0.9),
        gae_lambda=torch.tensor(0.8),
        longest=max(lengths),
    )
    np.testing.assert_allclose(found, advantages_one_by_one(d, value, 0.9, 0.8), rtol=1e-5, atol=1e-5)


def test_gamma_counts_env_steps_lambda_counts_decisions_and_only_termination_ends_the_future() -> None:
    """Two decisions of 3 and 2 env steps, values 10 and 20, then 40."""
    for terminated, last in ((0.0, 2 + 0.5**2 * 40 - 20), (1.0, 2 - 20)):
        found = advantages(
            reward=torch.tensor([1.0, 2.0]),
            steps=torch.tensor([3, 2]),
            terminated=torch.tensor([0.0, terminated]),
            continues=torch.tensor([1.0, 0.0]),
            value=torch.tensor([10.0, 20.0]),
            next_value=torch.tensor([20.0, 40.0]),
            gamma=torch.tensor(0.5),
            gae_lambda=torch.tensor(0.25),
            longest=2,
        )
        assert found.tolist() == [1 + 0.5**3 * 20 - 10 + 0.5**3 * 0.25 * last, last]


def test_discounted_sums_leave_their_arguments_alone() -> None:
    terms, factor = torch.ones(5), torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0])
    assert discounted_sums(terms, factor, 3).tolist() == [3, 2, 1, 2, 1]
    assert terms.tolist() == [1] * 5 and factor.tolist() == [1, 1, 0, 1, 0]


def test_a_gaussian_lives_in_units_of_the_range() -> None:
    gaussian = distribution_of(Box("float32", (2,), (0.0, -np.inf), (4.0, np.inf)))
    action = torch.from_numpy(gaussian.encode(np.array([[5.0, 0.5]], np.float32)))
    assert action.tolist() == [[1.5, 0.5]]
    log_std = torch.tensor([[0.0, math.log(0.5)]])
    found = gaussian.log_probs(torch.tensor([[[0.5, 0.0]]]), log_std, action.unsqueeze(0), None)
    expected = -0.5 * 1 - 0.5 * 1 - math.log(0.5) - math.log(2 * math.pi)
    assert float(found.log_prob) == pytest.approx(expected)
    assert float(found.entropy) == pytest.approx(1 + math.log(2 * math.pi) + math.log(0.5))


def test_a_bound_without_room_is_no_reason_for_a_nan() -> None:
    gaussian = distribution_of(Box("float32", (1,), (3.0,), (3.0,)))
    assert gaussian.encode(np.array([[3.0]], np.float32)).tolist() == [[0]]


def test_illegal_choices_have_no_probability_entropy_or_gradient() -> None:
    choice = distribution_of(Discrete(3, start=5))
    logits = torch.tensor([[[0.0, 90.0, 0.0]]])
    action = torch.from_numpy(choice.encode(np.array([7]))).unsqueeze(0)
    mask = torch.from_numpy(choice.legal(np.array([[1, 0, 1]], np.uint8))).unsqueeze(0)
    found = choice.log_probs(logits, None, action, mask)
    assert found.log_prob.tolist() == [[pytest.approx(-math.log(2))]]
    assert found.entropy.tolist() == [[pytest.approx(math.log(2))]]
    gradient, _ = found.backward(torch.ones(1, 1), torch.ones(1, 1))
    assert gradient[0, 0].tolist() == pytest.approx([-0.5, 0, 0.5])


def test_where_nothing_of_a_choice_is_legal_everything_is() -> None:
    choices = distribution_of(MultiDiscrete((2, 3)))
    mask = choices.legal(np.array([[0, 0, 0, 1, 0], [1, 0, 0, 0, 0]], np.uint8))
    assert mask.tolist() == [[1, 1, 0, 1, 0], [1, 0, 1, 1, 1]]
    found = choices.log_probs(
        torch.zeros(1, 2, 5),
        None,
        torch.from_numpy(choices.encode(np.array([[1, 1], [0, 2]]))).unsqueeze(0),
        torch.from_numpy(mask).unsqueeze(0),
    )
    assert found.log_prob[0].tolist() == pytest.approx([-math.log(2), -math.log(3)])


def test_switches_are_independent() -> None:
    switches = distribution_of(MultiBinary(2))
    action = torch.from_numpy(switches.encode(np.array([[1, 0]], np.int8))).unsqueeze(0)
    found = switches.log_probs(torch.tensor([[[math.log(3), 0.0]]]), None, action, None)
    assert float(found.log_prob) == pytest.approx(math.log(0.75 * 0.5))
    own = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert float(found.entropy) == pytest.approx(own + math.log(2))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "space",
    [Box("float32", (3,), (-1.0,) * 3, (1.0,) * 3), Discrete(4), MultiDiscrete((2, 3)), MultiBinary(3)],
    ids=repr,
)
def test_gradients_of_log_probabilities_and_entropies_are_those_of_autograd(space: Space, masked: bool) -> None:
    rng = np.random.default_rng(0)
    distribution = distribution_of(space)
    k, b, o = 2, 6, space.width
    outputs = torch.from_numpy(rng.normal(size=(k, b, o))).requires_grad_()
    log_std = torch.from_numpy(rng.normal(size=(k, o))).requires_grad_() if isinstance(space, Box) else None
    choices = space.nvec if isinstance(space, MultiDiscrete) else o
    drawn = [rng.integers(0, choices) for _ in range(k * b)]
    stored = rng.normal(size=(k * b, o)) if isinstance(space, Box) else np.array(drawn)
    if isinstance(space, MultiBinary):
        stored = rng.integers(0, 2, (k * b, o))
    action = torch.from_numpy(distribution.encode(stored)).view(k, b, o).double()
    mask = None
    if masked and isinstance(space, Discrete | MultiDiscrete):
        # Some actions are illegal, as those that the environment chose may be.
        legal = distribution.legal(rng.integers(0, 2, (k * b, o)).astype(np.uint8))
        mask = torch.from_numpy(legal).view(k, b, o).double()
    grad_log_prob, grad_entropy = (torch.from_numpy(rng.normal(size=(k, b))) for _ in range(2))
    found = distribution.log_probs(outputs, log_std, action, mask)
    total = (grad_log_prob * found.log_prob + grad_entropy * found.entropy).sum()
    leaves = [outputs] if log_std is None else [outputs, log_std]
    expected = torch.autograd.grad(total, leaves)
    gradients = [gradient for gradient in found.backward(grad_log_prob, grad_entropy) if gradient is not None]
    for mine, its in zip(gradients, expected, strict=True):
        torch.testing.assert_close(mine.detach(), its)


def test_units_of_returns_begin_with_the_first_round_and_reach_ten_rounds_back() -> None:
    first = updated(ReturnScale(), np.array([2.0, 4.0], np.float32))
    assert first == ReturnScale(3.0, 1.0, 1)
    second = updated(first, np.array([5.0, 5.0], np.float32))
    assert second.mean == 4 and second.std == pytest.approx(np.std([2, 4, 5, 5])) and second.rounds == 2
    late = updated(ReturnScale(0.0, 1.0, 50), np.array([10.0, 10.0], np.float32))
    assert late.mean == pytest.approx(1.0) and late.std == pytest.approx(math.sqrt(0.9 + 0.1 * 0.9 * 100))
    assert updated(ReturnScale(), np.array([1.0], np.float32)).std == 1e-2
