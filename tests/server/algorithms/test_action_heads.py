"""From outputs to actions: noise, masks, gradients."""

from __future__ import annotations

import pytest
import torch

from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces
from covey_server.algorithms.action_heads import ActionHeads
from covey_server.packing import counter_rng


def box(n: int) -> Box:
    return Box("float32", (n,), (-1.0,) * n, (1.0,) * n)


MOVERS = EnvironmentSpaces.build([AgentSpec("a_0", box(3), box(2)), AgentSpec("b_0", box(5), box(3))])
KINDS = EnvironmentSpaces.build(
    [
        AgentSpec("a_0", box(1), box(2)),
        AgentSpec("b_0", box(1), Discrete(3, start=2)),
        AgentSpec("b_1", box(1), Discrete(3, start=2)),
        AgentSpec("c_0", box(1), Discrete(4)),
    ]
)


def test_smoothed_actions_stay_near_the_policy_and_in_the_box() -> None:
    heads = ActionHeads(MOVERS, torch.device("cpu"))
    keys = counter_rng.keys(0, [0, 1], [0, 0])
    inside = heads.smoothed([torch.zeros(2, 500, 2), torch.zeros(2, 500, 3)], heads.target_draws(keys, 500), 0.2, 0.3)
    assert float(inside.abs().max()) == pytest.approx(0.3)
    assert float(inside.std()) == pytest.approx(0.2 * 0.93, rel=0.1)  # a normal law cut at 1.5 sigma
    far = [torch.full((2, 500, 2), 9.0), torch.full((2, 500, 3), -9.0)]
    edge = heads.smoothed(far, heads.target_draws(keys, 500), 0.2, 0.5)
    assert float(edge.max()) == 1 and float(edge.min()) == -1
    assert float((edge[..., :2] < 0.99).float().mean()) > 0.3


def test_forbidden_actions_are_never_chosen_and_have_no_probability() -> None:
    spaces = EnvironmentSpaces.build(
        [AgentSpec("a_0", box(1), box(1)), AgentSpec("b_0", box(1), Discrete(4)), AgentSpec("b_1", box(1), Discrete(4))]
    )
    heads = ActionHeads(spaces, torch.device("cpu"))
    keys = counter_rng.keys(0, [0, 1], [0, 0])
    rng = torch.Generator().manual_seed(0)
    legal = torch.ones(3, 2, 300, 9, dtype=torch.bool)
    legal[..., 1:] = torch.rand(3, 2, 300, 8, generator=rng) < 0.4
    legal[..., [2, 7]] |= ~legal[..., 1:].unflatten(-1, (2, 4)).any(-1)
    # The best choices are forbidden most of the time, by a margin that noise does not close.
    outputs = [torch.zeros(3, 2, 300, 1), *(torch.arange(4.0).mul(50).expand(3, 2, 300, 4) for _ in range(2))]
    draws = heads.target_draws(keys, 300)
    for action in (heads.greedy(outputs, legal), heads.smoothed(outputs, draws, 0.2, 0.5, legal)):
        assert not action[~legal].any()
        assert (action[..., 1:].unflatten(-1, (2, 4)).sum(-1) == 1).all()
    logits = torch.randn(2, 300, 8, generator=rng, requires_grad=True)
    joint = torch.cat([torch.zeros(2, 300, 1), logits], -1)
    chosen = heads.differentiable(joint, heads.policy_draws(keys, 300), legal[0])
    assert chosen[~legal[0]].abs().max() == 0
    (gradient,) = torch.autograd.grad((chosen * torch.randn(chosen.shape, generator=rng)).sum(), logits)
    assert gradient[~legal[0][..., 1:]].abs().max() == 0
    assert gradient[legal[0][..., 1:]].abs().max() > 0


def test_draws_are_the_same_for_every_view_of_a_sample() -> None:
    heads = ActionHeads(KINDS, torch.device("cpu"))
    keys = counter_rng.keys(0, [3], [0])
    outputs = [torch.randn(1, 20, a.action.width) for a in KINDS.agents]
    draws = heads.target_draws(keys, 20)
    alone = heads.smoothed(outputs, draws, 0.2, 0.5)
    views = heads.smoothed([torch.stack([x, x]) for x in outputs], draws, 0.2, 0.5)
    assert torch.equal(views[0], alone) and torch.equal(views[1], alone)
