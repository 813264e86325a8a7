"""Exported policies with memory: what `act` remembers, and what `reset` forgets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tests.support.cue_environment import CueEnv
from tests.support.remembering import remembered, remembering

from covey.envs import read_spaces
from covey.run.exported import Policy

SPACES = read_spaces(CueEnv())
PLAYERS = [remembering(agent, seed=i) for i, agent in enumerate(SPACES.agents)]
NOTHING = np.zeros(5, np.float32)


def seen(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(-1, 1, (*shape, 2)).astype(np.float32)


def states(policy: Policy, size: int) -> list[NDArray[np.float32]]:
    """By row, what both agents remember."""
    return [np.array(policy._states[size].of(row)) for row in range(size)]


def test_each_row_of_a_batch_remembers_by_itself_until_it_is_reset() -> None:
    policy = Policy(SPACES, PLAYERS)
    xs = seen(4, 2, 3)  # steps, agents, rows
    for x in xs:
        policy.act({"agent_0": x[0], "agent_1": x[1]})
    for row, found in enumerate(states(policy, 3)):
        expected = [remembered(p, xs[:, i, row], NOTHING) for i, p in enumerate(PLAYERS)]
        np.testing.assert_allclose(found, expected, atol=1e-6)
    before = states(policy, 3)
    policy.reset([1])
    after = states(policy, 3)
    assert not after[1].any()
    np.testing.assert_array_equal([after[0], after[2]], [before[0], before[2]])
    policy.reset()
    assert not np.any(states(policy, 3))


def test_agents_that_are_left_out_wait() -> None:
    policy = Policy(SPACES, PLAYERS)
    xs = seen(5)
    for step, x in enumerate(xs):
        policy.act({"agent_0": x} if step % 2 else {"agent_0": x, "agent_1": x})
    (found,) = states(policy, 1)
    np.testing.assert_allclose(found[0], remembered(PLAYERS[0], xs, NOTHING), atol=1e-6)
    np.testing.assert_allclose(found[1], remembered(PLAYERS[1], xs[::2], NOTHING), atol=1e-6)


def test_sampling_remembers_what_the_best_choice_does_and_other_sizes_have_their_own() -> None:
    policy = Policy(SPACES, PLAYERS)
    xs = seen(3)
    for step, x in enumerate(xs):
        policy.act({"agent_0": x, "agent_1": x}, deterministic=step != 1)
    np.testing.assert_allclose(states(policy, 1)[0][0], remembered(PLAYERS[0], xs, NOTHING), atol=1e-6)
    for size in range(2, 8):
        policy.act({"agent_0": seen(size), "agent_1": seen(size)})
    assert 7 in policy._states and len(policy._states) <= 4, "the sizes used last are kept"
