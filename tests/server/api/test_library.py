"""Training loops in Python: agents act, learn and are judged as members of a run are."""

from __future__ import annotations

import itertools
import logging
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pettingzoo.classic import tictactoe_v3
from tests.support.asynchronous_play import PARTS, Recorder, RhythmsEnv
from tests.support.environments import CounterEnv
from tests.support.host_copies import HostCopies
from tests.support.members import assert_same_networks
from tests.support.small_populations import NET, population

from covey.collect.evaluate import evaluate
from covey.config.hyperparameters import HyperparameterConfig, RLParameter
from covey.envs.vector import PettingZooVecEnv, SyncPettingZooVecEnv
from covey.errors import ConfigError, EnvironmentLoadError, SpaceError
from covey.rows import Columns
from covey_server import (
    Agent,
    AsyncAgentsWrapper,
    MultiAgentReplayBuffer,
    Mutations,
    TournamentSelection,
    create_population,
)
from covey_server.algorithms import ALGORITHMS
from covey_server.api.memory import Experiences
from covey_server.evolution.generation import copied
from covey_server.experience.decisions import close_decisions
from covey_server.experience.parts import Part
from covey_server.packing import counter_rng
from covey_server.packing.networks_by_role import MOST_NUMBERS, PASS_COST


def vectorised(make: Callable[[], Any] = CounterEnv, count: int = 3) -> SyncPettingZooVecEnv:
    return SyncPettingZooVecEnv([make] * count)


def collect(agent: Agent, env: PettingZooVecEnv[Any], memory: MultiAgentReplayBuffer, steps: int) -> None:
    """The core of a custom loop."""
    obs, info = env.reset(seed=0)
    for _ in range(steps):
        action, raw_action = agent.get_action(obs=obs, infos=info)
        next_obs, reward, termination, _, info = env.step(action)
        memory.save_to_memory(obs, raw_action, reward, next_obs, termination, is_vectorised=True)
        obs = next_obs


def test_importing_the_learner_stays_cheap() -> None:
    code = "import covey_server, sys; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- replay -------------------------------------------------------------------------------------------------------


def test_the_memory_holds_true_last_observations_and_no_false_ends() -> None:
    env = vectorised()
    (agent,) = population("MADDPG", env, 1)
    memory = MultiAgentReplayBuffer(1000, agent_ids=env.agents)
    collect(agent, env, memory, 23)
    assert len(memory) == memory.counter == 69
    batch = memory.sample(512).batch
    # Groups: walkers (two agents of three numbers), the caller; an observation is (seed, step, agent).
    walkers, callers = (x[0].numpy() for x in batch.observation)
    after = batch.next_observation[0][0].numpy()
    assert set(np.unique(walkers[:, 1])) == {0, 1, 2, 3, 4} and set(np.unique(after[:, 1])) == {1, 2, 3, 4, 5}
    assert (after[:, 0] == walkers[:, 0]).all() and (after[:, 1] == walkers[:, 1] + 1).all()
    assert (callers[:, 2] == 1).all()
    reward = batch.reward[0].numpy()
    assert np.allclose(reward, np.arange(3) + (walkers[:, 1:2] + 1) / 100)
    assert not batch.terminated.any() and batch.weight.all()
    env.close()


def test_an_agent_that_dies_terminates_once_and_learns_nothing_after() -> None:
    env = vectorised(lambda: CounterEnv(walker_dies_at=2))
    (agent,) = population("MADDPG", env, 1)
    memory = MultiAgentReplayBuffer(1000)
    collect(agent, env, memory, 20)
    batch = memory.sample(512).batch
    step = batch.observation[1][0][:, 1].numpy()
    dead = step >= 2
    assert (batch.weight[0, :, 2].numpy() == ~dead).all() and batch.weight[0, :, :2].all()
    assert (batch.terminated[0, :, 2].numpy()[~dead] == (step == 1)[~dead]).all()
    env.close()


@pytest.mark.parametrize("algorithm", ["MADDPG", "MATD3"])
def test_a_sample_of_a_memory_elsewhere_is_copied_to_where_the_member_learns(
    algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PASS_COST, "meta", PASS_COST["cpu"])
    monkeypatch.setitem(MOST_NUMBERS, "meta", MOST_NUMBERS["cpu"])
    env = vectorised()
    memory = MultiAgentReplayBuffer(1000)
    (played,), (agent,) = population(algorithm, env, 1), population(algorithm, env, 1, device="meta")
    collect(played, env, memory, 20)
    agent._pack()
    with HostCopies() as copies, pytest.raises((RuntimeError, NotImplementedError), match=r"(?i)meta"):
        agent.learn(memory.sample(16))  # to its end, where losses are read, which that device has not
    assert copies.waits == copies.mixed == [] and agent.member.updates == 1
    env.close()


@pytest.mark.cuda
def test_a_member_learns_the_same_wherever_it_and_its_memory_are() -> None:
    losses = []
    for learns, remembers in itertools.product(("cpu", "cuda"), repeat=2):
        env = vectorised()
        memory = MultiAgentReplayBuffer(1000, device=remembers)
        (agent,) = population("MATD3", env, 1, device=learns)
        collect(agent, env, memory, 20)
        losses.append([agent.learn(memory.sample(16))["critic_loss"] for _ in range(5)])
        env.close()
    assert losses[1:] == [pytest.approx(losses[0], rel=1e-3)] * 3


class Recorded(Recorder):
    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)


def test_decisions_of_agents_that_wait_close_where_they_act_again() -> None:
    recorders: list[Recorded] = []

    def make() -> Recorded:
        recorders.append(Recorded(RhythmsEnv(parts={a: p for a, p in PARTS.items() if a != "sleeper_0"})))
        return recorders[-1]

    env = SyncPettingZooVecEnv([make] * 2)
    (agent,) = population("MADDPG", env, 1)
    memory = MultiAgentReplayBuffer(1000)
    replay = memory.bind(env.spaces)
    insert, closed = replay.insert, Counter[tuple[Any, ...]]()

    def insert_and_read(columns: Columns, streams: Any, tag: object = None) -> None:
        found = close_decisions(columns, streams, env.spaces)
        for row, i in np.argwhere(found.closes):
            numbers = found.reward[row, i], found.steps[row, i], bool(found.terminated[row, i])
            closed[(env.spaces.agent_ids[i], *map(float, numbers))] += 1
        insert(columns, streams, tag)

    replay.insert = insert_and_read  # type: ignore[method-assign]
    before = len(recorders)  # the first ones were asked for their spaces
    wrapped = AsyncAgentsWrapper(agent)
    collect(wrapped, env, memory, 40)
    truth = Counter(
        (d.agent, d.reward, float(d.steps), float(d.terminated)) for r in recorders[before:] for d in r.decisions
    )
    assert truth and closed == truth
    losses = wrapped.learn(memory.sample(64))
    assert math.isfinite(losses["critic_loss"])
    env.close()


def test_a_loop_without_vectorised_environments() -> None:
    env = CounterEnv()
    (agent,) = population("MADDPG", vectorised(), 1)
    memory = MultiAgentReplayBuffer(100)
    obs, info = env.reset(seed=3)
    for _ in range(5):
        action, raw = agent.get_action(obs, info)
        next_obs, reward, termination, truncation, info = env.step(action)
        memory.save_to_memory(obs, raw, reward, next_obs, termination, truncation=truncation)
        obs = next_obs
    batch = memory.sample(64).batch
    assert len(memory) == 5 and batch.next_observation[0][0, :, 1].max() == 5 and not batch.terminated.any()


def test_the_memory_says_what_it_cannot_take(caplog: pytest.LogCaptureFixture) -> None:
    env = vectorised()
    with caplog.at_level(logging.WARNING):
        memory = MultiAgentReplayBuffer(10, field_names=["state", "hidden"], agent_ids=["nobody_0"])
    assert "['hidden']" in caplog.text
    with pytest.raises(ConfigError, match="memory is empty"):
        memory.sample(4)
    with pytest.raises(ConfigError, match="what get_action returned"):
        memory.save_to_memory({}, {}, {}, {}, {})
    with pytest.raises(SpaceError, match="nobody_0"):
        memory.bind(env.spaces)
    env.close()


# -- agents ---------------------------------------------------------------------------------------------------------


def test_learning_from_a_sample_is_the_learners_update() -> None:
    env = vectorised()
    (agent,) = population("MATD3", env, 1)
    memory = MultiAgentReplayBuffer(1000)
    collect(agent, env, memory, 20)
    twin = copied(agent.unpacked())
    config, replay = agent.context.config, memory.bind(env.spaces)
    algorithm = ALGORITHMS["MATD3"](config, env.spaces, [twin])
    for count in range(3):
        keys = counter_rng.keys(0, [agent.index], [count])
        agent.learn(Experiences(replay.sample(keys, torch.tensor([agent.batch_size]), agent.batch_size), env.spaces))
        algorithm.update([0], replay)
    algorithm.unpack()
    assert_same_networks(agent.unpacked(), twin)
    assert agent.member.updates == 3
    env.close()


def test_exploration_and_what_replay_stores() -> None:
    env = vectorised(count=16)
    obs, info = env.reset(seed=1)
    (agent,) = population("MADDPG", env, 1, EXPL_NOISE=0.5)
    noisy = agent.get_action(obs, info)[0]["walker_0"]
    agent.set_training_mode(False)
    first, again = (agent.get_action(obs, info)[0]["walker_0"] for _ in range(2))
    assert (first == again).all() and not np.allclose(noisy, first)
    agent.set_training_mode(True)
    for _ in range(50):
        agent.get_action(obs, info)
    agent.reset_action_noise(range(8))
    after = np.abs(agent.get_action(obs, info)[0]["walker_0"] - first)
    assert 2 * after[:8].mean() < after[8:].mean()  # Ornstein-Uhlenbeck noise has wandered off but where it began anew

    (gaussian,) = population("IPPO", env, 1)
    drawn = [gaussian.get_action(obs, info) for _ in range(20)]
    given = np.stack([action["walker_0"] for action, _ in drawn])
    stored = np.stack([raw["walker_0"] for _, raw in drawn])
    assert given.min() >= 1 and given.max() <= 3 and (stored.min() < 1 or stored.max() > 3)
    assert np.array_equal(given, np.clip(stored, 1, 3))
    memory = MultiAgentReplayBuffer(1000)
    collect(gaussian, env, memory, 1)
    with pytest.raises(ConfigError, match="train_multi_agent_on_policy"):
        gaussian.learn(memory.sample(1))
    env.close()


def test_masks_hold_in_turns() -> None:
    env = SyncPettingZooVecEnv([tictactoe_v3.env] * 3)
    (agent,) = population("MADDPG", env, 1)
    memory = MultiAgentReplayBuffer(500)
    collect(AsyncAgentsWrapper(agent), env, memory, 60)  # an illegal move would end the game
    batch = memory.sample(256).batch
    assert batch.legal is not None and batch.part is not None
    chosen = (batch.part == Part.CHOSE).repeat_interleave(9, dim=2)
    assert batch.action[chosen].sum() > 100 and not batch.action[chosen & ~batch.legal].any()
    assert math.isfinite(agent.learn(memory.sample(32))["critic_loss"])
    env.close()


def test_a_test_is_an_evaluation() -> None:
    env = vectorised(lambda: CounterEnv(length=4))
    agent, other = population("MADDPG", env)
    fitness = agent.test(env, loop=2)
    seeds = [agent._test_seed(k) for k in range(2)]
    episodes = evaluate(CounterEnv, env.spaces, agent.policies(), seeds, 4, 2)
    assert fitness == pytest.approx(sum(episodes[0].returns)) and agent.fitness == [fitness]
    assert agent.member.fitness == fitness
    with pytest.raises(EnvironmentLoadError, match="reset"):
        env.step({})
    env.reset()
    shares = other.test(env, sum_scores=False)
    assert isinstance(shares, dict) and sum(shares.values()) == pytest.approx(fitness)
    assert other.test(env, max_steps=1) == pytest.approx(3.03)
    env.close()


def test_hyperparameters_are_attributes() -> None:
    env = vectorised()
    (agent,) = population("MADDPG", env, 1)
    agent.policies()
    agent.batch_size = 99
    assert agent.member.hyperparameters.batch_size == agent.batch_size == 99 and agent.learn_step == 4
    with pytest.raises(AttributeError, match="MADDPG has no such hyperparameter"):
        _ = agent.lr
    with pytest.raises(AttributeError, match="MADDPG has no such hyperparameter"):
        agent.policy_freq = 3
    with pytest.raises(ConfigError, match=r"^batch_size: 0: expected greater than or equal to 1"):
        agent.batch_size = 0
    assert agent.batch_size == 99
    env.close()


def test_every_hyperparameter_is_an_attribute() -> None:
    env = vectorised()
    for algorithm in ("MADDPG", "MATD3", "IPPO"):
        (agent,) = population(algorithm, env, 1)
        for name, value in agent.member.hyperparameters.numbers().items():
            new = value + 1 if isinstance(value, int) else value / 2
            setattr(agent, name, new)
            assert getattr(agent, name) == agent.member.hyperparameters.numbers()[name] == new
    env.close()


def test_an_agent_is_saved_and_read_back(tmp_path: Path) -> None:
    env = vectorised()
    (agent,) = population("MATD3", env, 1)
    memory = MultiAgentReplayBuffer(100)
    collect(agent, env, memory, 10)
    agent.learn(memory.sample(8))
    agent.test(env)
    agent.save_checkpoint(tmp_path / "agent")
    back = Agent.load(tmp_path / "agent")
    assert_same_networks(agent.unpacked(), back.unpacked())
    assert (back.fitness, back.steps, back.algo, back.agent_ids) == (agent.fitness, [0], "MATD3", env.agents)
    env.reset()
    assert back.test(env) != math.nan
    env.close()


def test_an_agent_learns_of_masks_and_waiting_from_the_environment() -> None:
    env = SyncPettingZooVecEnv([tictactoe_v3.env] * 2)
    spaces = [env.single_observation_space(a)["observation"] for a in env.agents]  # type: ignore[index]
    (agent,) = create_population(
        "MADDPG", spaces, [env.single_action_space(a) for a in env.agents], NET, {"AGENT_IDS": env.agents}
    )
    narrow = agent.member.networks["critic/player_1"].spec.extra
    policies = {name: deepcopy(n.params) for name, n in agent.member.networks.items() if name.startswith("actor")}
    obs, info = env.reset()
    agent.get_action(obs, info)
    assert agent.member.networks["critic/player_1"].spec.extra == narrow + 2  # who of the two acts
    for name, params in policies.items():
        assert all((params[k] == agent.member.networks[name].params[k]).all() for k in params)
    with pytest.raises(SpaceError, match="walker_0"):
        agent.adopt_spaces(vectorised().spaces)
    env.close()


# -- evolution ------------------------------------------------------------------------------------------------------


def test_selection_keeps_the_best_and_counts_nan_as_worst() -> None:
    env = vectorised()
    pop = population("MADDPG", env, 4)
    for agent, fitness in zip(pop, ([0.0, 5.0], [9.0, 1.0], [math.nan, math.nan], [2.0, 4.0]), strict=True):
        agent.fitness = list(fitness)
        agent.steps = [10, 20]
    newest = TournamentSelection(2, True, 4).select(pop)[0]
    elite, chosen = TournamentSelection(tournament_size=4, elitism=True, population_size=6, eval_loop=2).select(pop)
    assert newest is pop[0] and elite is pop[1]
    assert [a.index for a in chosen] == [1, *range(7, 12)]  # three children of the selection before
    assert {a.member.parent_id for a in chosen[1:]} <= {0, 1, 3}
    assert all(a.member.generation == 2 and a.steps == [10, 20] for a in chosen[1:])
    assert_same_networks(chosen[0].unpacked(), elite.unpacked())
    name, network = next(iter(chosen[0].member.networks.items()))
    assert network.params is not elite.member.networks[name].params
    with pytest.raises(ConfigError, match="eval_loop 0"):
        TournamentSelection(2, True, 4, eval_loop=0)
    env.close()


def test_mutations_spare_the_elite_and_stay_within_the_ranges() -> None:
    env = vectorised()
    pop = create_population(
        "MADDPG",
        [env.single_observation_space(a) for a in env.agents],
        [env.single_action_space(a) for a in env.agents],
        NET,
        {"AGENT_IDS": env.agents, "LEARN_STEP": 100},
        HyperparameterConfig(learn_step=RLParameter(min=90, max=110, grow_factor=1.5, shrink_factor=0.75)),
        population_size=4,
    )
    for i, agent in enumerate(pop):
        agent.fitness = [float(i)]
    _, selected = TournamentSelection(2, True, 4).select(pop)
    mutated = Mutations(0, 0, 0, 0, 0, 1, rand_seed=1).mutation(selected)
    assert [a.mut for a in mutated] == ["elite", "rl_hp", "rl_hp", "rl_hp"]
    assert {a.learn_step for a in mutated[1:]} <= {90, 110} and mutated[0].learn_step == 100
    again = Mutations(0, 0, 0, 0, 0, 1, rand_seed=1, mutate_elite=True).mutation(selected[:1])
    assert again[0].mut == "rl_hp" and again[0].member.parent_id == mutated[0].index
    with pytest.raises(ConfigError, match=r"Mutations: probabilities\.arch_mut"):
        Mutations(0.5, -1, 0, 0, 0, 0)
    assert len({a.index for a in itertools.chain(pop, mutated, again)}) == 8
    env.close()
