"""Actions that are dictionaries and tuples, where learners see them: sums over leaves, and each leaf's own gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Normal

from covey.spaces import (
    AgentSpec,
    Box,
    DictSpace,
    Discrete,
    EnvironmentSpaces,
    MultiBinary,
    MultiDiscrete,
    Space,
    TupleSpace,
    leaf_arrays,
    leaves,
)
from covey_server.algorithms.action_heads import ActionHeads
from covey_server.algorithms.distributions import LogProbs, distribution_of
from covey_server.packing import counter_rng

SEEN = Box("float32", (1,), (-1.0,), (1.0,))
ARM = DictSpace(
    (
        ("grip", MultiBinary(2)),
        ("move", Box("float32", (2,), (-1.0, -1.0), (1.0, 1.0))),
        ("tool", TupleSpace((Discrete(3, start=5), MultiDiscrete((2, 2), (1, 2), (0, 4))))),
    )
)
CHOICES_ALONE = TupleSpace((MultiDiscrete((2, 3)), Discrete(2)))
LEGAL = np.array([[1, 0, 1, 1, 1, 0, 1], [1, 1, 1, 0, 1, 1, 1], [0, 0, 0, 0, 0, 0, 0]], np.uint8)
"""Masks of an arm's tools: three values of the first, two each of the others; the last one of an agent that rests."""


def arms(n: int, rng: np.random.Generator) -> NDArray[np.void]:
    action = np.zeros(n, ARM.dtype)
    action["grip"] = rng.integers(0, 2, (n, 2))
    action["move"] = rng.normal(size=(n, 2))
    action["tool.0"] = 5 + rng.integers(0, 3, n)
    action["tool.1"] = rng.integers(0, 2, (n, 1, 2)) + np.array([0, 4])
    return action


def by_torch(z: Tensor, log_std: Tensor, action: NDArray[np.void]) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies of arms' actions, leaf by leaf, by torch's own distributions."""
    grip, move, tool, first, second = z.split([2, 2, 3, 2, 2], -1)
    given = [torch.from_numpy(np.ascontiguousarray(x)) for x in leaf_arrays(ARM, action)]
    laws = [Bernoulli(logits=grip), Normal(move, log_std[2:4].exp()), Categorical(logits=tool)]
    laws += [Categorical(logits=first), Categorical(logits=second)]
    did = [given[0].double(), given[1].double(), given[2] - 5, given[3][:, 0, 0], given[3][:, 0, 1] - 4]
    log_probs = [law.log_prob(x) for law, x in zip(laws, did, strict=True)]
    entropies = [law.entropy() for law in laws]
    return tuple(  # type: ignore[return-value]
        torch.stack([x.sum(-1) if x.dim() == 2 else x for x in xs]).sum(0) for xs in (log_probs, entropies)
    )


def joint(z: Tensor, log_std: Tensor, action: NDArray[np.void], mask: NDArray[np.uint8] | None = None) -> LogProbs:
    distribution = distribution_of(ARM)
    encoded = torch.from_numpy(distribution.encode(action)).double().unsqueeze(0)
    legal = None if mask is None else torch.from_numpy(distribution.legal(mask)).double().unsqueeze(0)
    return distribution.log_probs(z.unsqueeze(0), log_std.unsqueeze(0), encoded, legal)


def test_log_probabilities_and_entropies_add_over_leaves_with_the_gradients_of_each() -> None:
    rng = np.random.default_rng(0)
    z = torch.from_numpy(rng.normal(size=(8, ARM.width))).requires_grad_()
    log_std = torch.from_numpy(rng.normal(size=ARM.width)).requires_grad_()
    action = arms(8, rng)
    found = joint(z, log_std, action)
    log_prob, entropy = by_torch(z, log_std, action)
    torch.testing.assert_close(found.log_prob[0], log_prob)
    torch.testing.assert_close(found.entropy[0], entropy)
    upstream = torch.from_numpy(rng.normal(size=(2, 8)))
    expected = torch.autograd.grad((upstream[0] * log_prob + upstream[1] * entropy).sum(), [z, log_std])
    by_outputs, by_log_std = found.backward(upstream[:1], upstream[1:])
    assert by_log_std is not None
    torch.testing.assert_close(by_outputs[0].detach(), expected[0])
    torch.testing.assert_close(by_log_std[0].detach(), expected[1])
    assert not by_log_std[0, [0, 1, 4, 5, 6, 7, 8, 9, 10]].any()  # of leaves that are no Box


def test_a_tree_without_a_box_has_no_deviations() -> None:
    distribution = distribution_of(CHOICES_ALONE)
    action = np.zeros(1, CHOICES_ALONE.dtype)
    encoded = torch.from_numpy(distribution.encode(action)).unsqueeze(0)
    assert encoded.tolist() == [[[1, 0, 1, 0, 0, 1, 0]]]
    found = distribution.log_probs(torch.zeros(1, 1, 7), None, encoded, None)
    assert float(found.log_prob) == pytest.approx(-np.log(2 * 3 * 2))
    assert found.backward(torch.ones(1, 1), torch.zeros(1, 1))[1] is None


def test_masks_are_of_the_choices_alone() -> None:
    distribution = distribution_of(ARM)
    expected = [[1, 0, 1, 1, 1, 0, 1], [1, 1, 1, 0, 1, 1, 1], [1] * 7]
    assert distribution.legal(LEGAL).tolist() == [[1] * 4 + row for row in expected]
    action = arms(3, np.random.default_rng(1))
    action["tool.0"], action["tool.1"] = 5, [[1, 5]]
    found = joint(torch.zeros(3, 11, dtype=torch.float64), torch.zeros(11, dtype=torch.float64), action, LEGAL)
    free = joint(torch.zeros(3, 11, dtype=torch.float64), torch.zeros(11, dtype=torch.float64), action)
    # Two of three and one of two values are legal; two of two, one of two; all of them.
    gained = [np.log(3 / 2) + np.log(2), np.log(2), 0]
    assert (found.log_prob - free.log_prob)[0].tolist() == pytest.approx(gained)


@pytest.mark.parametrize("action", [ARM, CHOICES_ALONE, DictSpace((("only", Box("float32", (1,), (0.0,), (1.0,))),))])
def test_the_heads_of_a_tree_are_those_of_its_leaves(action: Space) -> None:
    """An agent with a tree of actions acts and learns as agents with a leaf each, side by side."""
    whole = ActionHeads(EnvironmentSpaces.build([AgentSpec("a_0", SEEN, action)]), torch.device("cpu"))
    apart = [AgentSpec(f"l{i}_0", SEEN, leaf.space) for i, leaf in enumerate(leaves(action))]
    each = ActionHeads(EnvironmentSpaces.build(apart), torch.device("cpu"))
    keys = counter_rng.keys(0, [1, 2], [0, 3])
    draw = torch.Generator().manual_seed(0)
    z = torch.randn(2, 40, action.width, generator=draw, requires_grad=True)
    upstream = torch.randn(2, 40, action.width, generator=draw)
    split = z.detach().split([a.action.width for a in apart], -1)
    assert torch.equal(whole.greedy([z.detach()]), each.greedy(split))
    smoothed = (
        heads.smoothed(outputs, heads.target_draws(keys, 40), 0.2, 0.5)
        for heads, outputs in ((whole, [z.detach()]), (each, split))
    )
    assert torch.equal(*smoothed)
    results = [heads.differentiable(z, heads.policy_draws(keys, 40)) for heads in (whole, each)]
    torch.testing.assert_close(*results, rtol=0, atol=0)
    gradients = [torch.autograd.grad((y * upstream).sum(), z)[0] for y in results]
    torch.testing.assert_close(*gradients, rtol=0, atol=0)
    assert gradients[0].abs().max() > 0
