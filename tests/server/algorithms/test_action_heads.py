"""From outputs to actions: noise, masks, gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces, MultiBinary, MultiDiscrete, Space, choices
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
SEVERAL = EnvironmentSpaces.build(
    [
        AgentSpec("a_0", box(1), MultiDiscrete((3, 2))),
        AgentSpec("b_0", box(1), box(2)),
        AgentSpec("a_1", box(1), MultiDiscrete((3, 2))),
        AgentSpec("c_0", box(1), MultiBinary(3)),
        AgentSpec("d_0", box(1), Discrete(3)),
        AgentSpec("e_0", box(1), MultiBinary(1)),
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


@pytest.mark.parametrize("spaces", [KINDS, SEVERAL])
def test_draws_are_the_same_for_every_view_of_a_sample(spaces: EnvironmentSpaces) -> None:
    heads = ActionHeads(spaces, torch.device("cpu"))
    keys = counter_rng.keys(0, [3], [0])
    outputs = [torch.randn(1, 20, a.action.width) for a in spaces.agents]
    draws = heads.target_draws(keys, 20)
    alone = heads.smoothed(outputs, draws, 0.2, 0.5)
    views = heads.smoothed([torch.stack([x, x]) for x in outputs], draws, 0.2, 0.5)
    assert torch.equal(views[0], alone) and torch.equal(views[1], alone)


def plain_action(space: Space, z: Tensor, gumbel: Tensor, logistic: Tensor) -> Tensor:
    """One agent's action for the policy gradient, written out: what is drawn is exact, its gradient the softmax's."""
    if isinstance(space, Box):
        return torch.tanh(z / 2)
    if isinstance(space, MultiBinary):
        on = 1 / (1 + torch.exp(-(z + logistic)))
        return (z + logistic > 0).to(z.dtype) - on.detach() + on
    parts = []
    for logits, noise in zip(z.split(choices(space), -1), gumbel.split(choices(space), -1), strict=True):
        odds = torch.exp(logits + noise)
        soft = odds / odds.sum(-1, keepdim=True)
        parts.append(torch.eye(logits.shape[-1])[soft.argmax(-1)] - soft.detach() + soft)
    return torch.cat(parts, -1)


@pytest.mark.parametrize("agent", SEVERAL.agents, ids=lambda agent: f"{agent.agent_id}")
def test_the_gradient_through_each_head_is_that_of_plain_torch(agent: AgentSpec) -> None:
    """Among all agents' outputs, and as the only one's."""
    for spaces in (SEVERAL, EnvironmentSpaces.build([agent])):
        heads = ActionHeads(spaces, torch.device("cpu"))
        generator = torch.Generator().manual_seed(1)
        widths = [a.action.width for a in spaces.agents]
        z = torch.randn(2, 50, sum(widths), generator=generator, requires_grad=True)
        keys = counter_rng.keys(0, [4, 1], [7, 7])
        draws = heads.policy_draws(keys, 50)
        i = spaces.agents.index(agent)
        own = slice(sum(widths[:i]), sum(widths[: i + 1]))
        gumbel, logistic = (
            law(keys, f"policy_{name}", 50 * sum(widths)).view(2, 50, -1)[..., own]
            for name, law in (("gumbel", counter_rng.gumbel), ("logistic", counter_rng.logistic))
        )
        upstream = torch.randn(2, 50, widths[i], generator=generator)
        found = heads.differentiable(z, draws)[..., own]
        expected = plain_action(agent.action, z[..., own], gumbel, logistic)
        torch.testing.assert_close(found, expected)
        gradients = (torch.autograd.grad((y * upstream).sum(), z)[0] for y in (found, expected))
        mine, plain = gradients
        torch.testing.assert_close(mine, plain)
        assert mine[..., own].abs().max() > 0


def test_samples_of_switches_and_choices_are_as_likely_as_the_policy_says() -> None:
    heads = ActionHeads(SEVERAL, torch.device("cpu"))
    keys = counter_rng.keys(0, [0], [0])
    logits = [torch.linspace(-1.5, 2, a.action.width).expand(1, 20_000, -1) for a in SEVERAL.agents]
    drawn = heads.smoothed(logits, heads.target_draws(keys, 20_000), 0.2, 0.5)
    sampled = heads.differentiable(torch.cat(logits, -1), heads.policy_draws(keys, 20_000))
    for action in (drawn, sampled):
        for agent, z, did in zip(SEVERAL.agents, logits, action.split([x.shape[-1] for x in logits], -1), strict=True):
            share = did[0].mean(0)
            if isinstance(agent.action, MultiBinary):
                assert share.tolist() == pytest.approx(torch.sigmoid(z[0, 0]).tolist(), abs=0.02)
            elif not isinstance(agent.action, Box):
                parts = z[0, 0].split(choices(agent.action))
                assert share.tolist() == pytest.approx(torch.cat([p.softmax(-1) for p in parts]).tolist(), abs=0.02)
    greedy = heads.greedy(logits)[0, 0].tolist()
    assert greedy[:5] == [0, 0, 1, 0, 1] and greedy[12:15] == [0, 1, 1] and greedy[18] == 0


def test_each_choice_keeps_to_its_own_part_of_the_mask() -> None:
    spaces = EnvironmentSpaces.build(
        [AgentSpec("a_0", box(1), MultiDiscrete((3, 2, 3)), masked=True), AgentSpec("b_0", box(1), MultiBinary(2))]
    )
    heads = ActionHeads(spaces, torch.device("cpu"))
    keys = counter_rng.keys(0, [0], [0])
    legal = torch.tensor([1, 1, 0, 1, 0, 0, 0, 1, 1, 1]).bool().expand(1, 300, 10)
    z = torch.tensor([0.0, 0, 50, 0, 50, 50, 50, 0, -9, 9]).repeat(1, 300, 1).requires_grad_()
    outputs = z.detach().split([8, 2], -1)
    straight = heads.differentiable(z, heads.policy_draws(keys, 300), legal)
    sampled = heads.smoothed(outputs, heads.target_draws(keys, 300), 0.2, 0.5, legal)
    for action in (straight.detach(), sampled, heads.greedy(outputs, legal)):
        assert not action[~legal].any()
        assert (action[..., 3] == 1).all() and (action[..., 7] == 1).all()
        assert (action[..., :3].sum(-1) == 1).all()
    assert {0, 1} == set(sampled[0, :, :3].argmax(-1).tolist())
    (gradient,) = torch.autograd.grad((straight * torch.arange(10.0)).sum(), z)
    assert gradient[~legal].abs().max() == 0 and gradient[..., :2].abs().max() > 0
    assert gradient[..., [3, 7]].abs().max() == 0  # where one value is legal nothing is to be learned
