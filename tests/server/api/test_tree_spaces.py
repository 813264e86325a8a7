"""AgileRL's custom loop in environments whose observations are a Dict or Tuple, and one environment without vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.support.tree_environments import MaskedTrees, ReadableTrees

from covey import SyncPettingZooVecEnv
from covey.errors import SpaceError
from covey_server import MultiAgentReplayBuffer, create_population

INIT_HP = {"BATCH_SIZE": 16, "LEARN_STEP": 8, "POP_SIZE": 1}


class Without(MaskedTrees):
    """The masked environment without its text."""

    seen = tree = ReadableTrees.tree

    def observation(self, agent: Any) -> Any:
        seen = super().observation(agent)
        del seen["mission"]
        return seen


@pytest.mark.parametrize("make", [ReadableTrees, Without])
def test_a_custom_loop(make: type[ReadableTrees]) -> None:
    env = SyncPettingZooVecEnv([make, make])
    observation_spaces = [env.single_observation_space(a) for a in env.agents]
    action_spaces = [env.single_action_space(a) for a in env.agents]
    hp = INIT_HP | {"AGENT_IDS": env.agents}
    [agent] = create_population("MATD3", observation_spaces, action_spaces, None, hp, population_size=1, num_envs=2)
    memory = MultiAgentReplayBuffer(1000, agent_ids=env.agents)
    seen, infos = env.reset(seed=0)
    for _ in range(25):
        actions, raw = agent.get_action(obs=seen, infos=infos)
        assert {a: x.shape for a, x in actions.items()} == {"a_0": (2,), "a_1": (2,)}
        following, rewards, terminated, _, infos = env.step(actions)
        memory.save_to_memory(seen, raw, rewards, following, terminated, is_vectorised=True)
        seen = following
    assert len(memory) == 50
    assert np.isfinite(list(agent.learn(memory.sample(16)).values())).all()
    assert agent.test(env, max_steps=10, loop=1) == pytest.approx(20.0)
    env.close()


def test_one_environment_by_itself() -> None:
    env = ReadableTrees()
    ids = list(map(str, env.possible_agents))
    spaces = [env.observation_space(a) for a in ids], [env.action_space(a) for a in ids]
    [agent] = create_population("MADDPG", *spaces, None, INIT_HP | {"AGENT_IDS": ids}, population_size=1)
    seen, _ = env.reset()
    actions, _ = agent.get_action(obs=seen)
    env.step({a: actions[a] if np.ndim(actions[a]) == 0 else actions[a][0] for a in ids})
    with pytest.raises(SpaceError, match=r"agent 'a_0': dict without inventory\.0"):
        agent.get_action(obs={"a_0": {"image": np.zeros((4, 3))}, "a_1": seen["a_1"]})
