"""The training functions: the learner's own trainer in one process, by the caller's environments and objects."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError
from mpe2 import simple_speaker_listener_v4
from tests.support import recorded_wandb
from tests.support.environments import CounterEnv
from tests.support.members import assert_same_networks
from tests.support.written_environments import RaisesInStepThree

from covey.collect.fragment import most_repeated_rows
from covey.envs.vector import AsyncPettingZooVecEnv, SyncPettingZooVecEnv, make_multi_agent_vect_envs
from covey.errors import ConfigError, EnvironmentLoadError, SpaceError
from covey.progress import default_progress_bar
from covey.rows import RowSchema
from covey.run.directory import RunDirectory
from covey_server import (
    Agent,
    MultiAgentReplayBuffer,
    Mutations,
    TournamentSelection,
    create_population,
    train_multi_agent_off_policy,
    train_multi_agent_on_policy,
)
from covey_server.algorithms.loss_means import LossMeans

NET = {"latent_dim": 8, "encoder_config": {"hidden_size": [16]}, "head_config": {"hidden_size": [16]}}
NO_CHANGE = Mutations(1, 0, 0, 0, 0, 0)
RETURNS = [0.15, 5.15, 10.15]
"""Of an episode of `CounterEnv` to its agents, in the environment's order."""


def vectorised(count: int = 4, **config: Any) -> SyncPettingZooVecEnv:
    return SyncPettingZooVecEnv([lambda: CounterEnv(**config)] * count)


def population(algo: str, env: Any, size: int = 2, **hyperparameters: Any) -> list[Agent]:
    return create_population(
        algo,
        [env.single_observation_space(a) for a in env.agents],
        [env.single_action_space(a) for a in env.agents],
        NET,
        {"AGENT_IDS": env.agents, "BATCH_SIZE": 16, "LEARN_STEP": 10, **hyperparameters},
        population_size=size,
        num_envs=env.num_envs,
    )


def off_policy(env: Any, pop: list[Agent], memory: MultiAgentReplayBuffer | None = None, **arguments: Any) -> Any:
    job: Mapping[str, Any] = {"max_steps": 120, "evo_steps": 60, "verbose": False} | arguments
    memory = MultiAgentReplayBuffer(1000) if memory is None else memory
    return train_multi_agent_off_policy(env, "counter", "MADDPG", pop, memory, **job)


def test_every_member_gets_its_steps_and_its_updates() -> None:
    env = vectorised()
    memory = MultiAgentReplayBuffer(1000)
    pop, fitnesses = off_policy(
        env,
        population("MADDPG", env, 3),
        memory,
        tournament=TournamentSelection(2, True, 3),
        mutation=NO_CHANGE,
    )
    assert [a.steps for a in pop] == [[60, 120]] * 3
    assert len(memory) == 360
    assert [a.mut for a in pop] == ["elite", "none", "none"]
    # Those of the first steps, while there was no batch in replay, are not owed.
    assert all(7 <= a.member.updates <= 12 for a in pop)
    assert len(fitnesses) == 2 and all(f == pytest.approx(sum(RETURNS)) for row in fitnesses for f in row)
    assert all(a.fitness == [fitnesses[0][i], fitnesses[1][i]] for i, a in enumerate(pop))
    assert all(s == pytest.approx(sum(RETURNS)) for a in pop for s in a.scores) and pop[0].scores


def test_only_the_thread_that_updates_reads_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    readers: list[str] = []
    take = LossMeans.take

    def noted(self: LossMeans) -> list[dict[str, float]]:
        readers.append(threading.current_thread().name)
        return take(self)

    monkeypatch.setattr(LossMeans, "take", noted)
    env = vectorised()
    off_policy(env, population("MADDPG", env), MultiAgentReplayBuffer(1000))
    assert set(readers) == {"trainer"}


def test_training_goes_on_where_it_stopped_and_closes_the_environments() -> None:
    def vectorised() -> AsyncPettingZooVecEnv:
        return make_multi_agent_vect_envs(simple_speaker_listener_v4.parallel_env, 2, continuous_actions=True)

    env = vectorised()
    pop = population("MADDPG", env)
    memory = MultiAgentReplayBuffer(1000)
    pop, _ = off_policy(env, pop, memory, max_steps=40, evo_steps=40, eval_steps=2)
    with pytest.raises(ClosedEnvironmentError):
        env.reset()
    updates = [a.member.updates for a in pop]
    pop, fitnesses = off_policy(vectorised(), pop, memory, max_steps=100, evo_steps=40, eval_steps=2)
    assert [a.steps for a in pop] == [[80, 100]] * 2 and len(fitnesses) == 2
    assert [a.index for a in pop] == [0, 1], "nobody selects without a tournament"
    assert all(a.member.updates >= n + 6 for a, n in zip(pop, updates, strict=True))
    assert len(memory) == 200
    assert off_policy(vectorised(), pop, memory, max_steps=100) == (pop, [])


def test_a_single_environment_trains_and_scores_are_kept_by_agent() -> None:
    pop, fitnesses = off_policy(vectorised(1), population("MADDPG", vectorised(1), 1), sum_scores=False)
    shares = dict(zip(["walker_0", "caller_0", "walker_1"], RETURNS, strict=True))
    assert all(f == pytest.approx(shares) for (f,) in fitnesses)
    assert pop[0].scores[0] == pytest.approx(RETURNS) and len(pop[0].scores) == 24


@pytest.mark.slow
def test_ippo_trains_whole_rounds() -> None:
    env = vectorised()
    pop, fitnesses = train_multi_agent_on_policy(
        env,
        "counter",
        "IPPO",
        population("IPPO", env, LEARN_STEP=25),
        max_steps=100,
        evo_steps=50,
        tournament=TournamentSelection(2, True, 2),
        mutation=NO_CHANGE,
        verbose=False,
    )
    assert [a.steps for a in pop] == [[50, 100]] * 2 and len(fitnesses) == 2
    assert all(a.member.updates == 4 for a in pop)


def test_the_target_ends_training(capfd: pytest.CaptureFixture[str]) -> None:
    env = vectorised()
    pop, fitnesses = off_policy(env, population("MADDPG", env), target=15.0, verbose=True)
    assert len(fitnesses) == 1 and pop[0].steps == [60]
    assert "--- Generation 1 ---" in capfd.readouterr().out


@pytest.mark.slow
def test_what_is_kept_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", recorded_wandb)
    env = vectorised()
    elite_path = tmp_path / "elite"
    pop, _ = off_policy(
        env,
        population("MADDPG", env),
        checkpoint_path=tmp_path / "runs",
        overwrite_checkpoints=True,
        save_elite=True,
        elite_path=elite_path,
        wb=True,
    )
    (run,) = (tmp_path / "runs").iterdir()
    assert RunDirectory.open(run).result.exists() and len(list((run / "checkpoints").iterdir())) == 1
    calls = [c["call"] for c in recorded_wandb.calls(run)]
    assert calls[0] == "init" and "log" in calls and calls[-1] == "finish"
    elite = Agent.load(elite_path)
    assert_same_networks(elite.unpacked(), next(a for a in pop if a.index == elite.index).unpacked())


@pytest.mark.slow
def test_nothing_stays_without_being_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    env = vectorised()
    off_policy(env, population("MADDPG", env))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("fitting", "train"), [(0.5, None), (1.5, 1), (2.0, 2), (9.0, 3)])
def test_as_many_environments_train_as_fit_into_a_fragment(
    fitting: float, train: int | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    env = vectorised()
    row_bytes = (4 + most_repeated_rows(env.spaces)) * RowSchema.of(env.spaces).row_bytes
    monkeypatch.setattr("covey.collect.collector.MAX_RAW_BYTES", int(fitting * row_bytes))
    pop = population("MADDPG", env)
    if train is None:
        with pytest.raises(SpaceError, match=r"for 1 slots, expected at most 0, .*; shrink the observations"):
            off_policy(env, pop, max_steps=10, evo_steps=10, eval_steps=4)
        return
    with caplog.at_level(logging.INFO):
        off_policy(env, pop, max_steps=10, evo_steps=10, eval_steps=4)
    assert [a.steps for a in pop] == [[10]] * 2
    assert (f"env: {train} of its 4 environments train, as the rows of more do not fit" in caplog.text) == (train < 3)
    assert f"actor local joined with {train} slots from " in caplog.text and "asked for" not in caplog.text


def test_what_cannot_be_trained() -> None:
    env = vectorised()
    pop = population("MADDPG", env)
    with pytest.raises(ConfigError, match="make_multi_agent_vect_envs"):
        off_policy(CounterEnv(), pop)
    with pytest.raises(ConfigError, match="expected the 2 of pop"):
        off_policy(env, pop, tournament=TournamentSelection(2, True, 3), mutation=NO_CHANGE)
    with pytest.raises(ConfigError, match="expected at least one of MADDPG"):
        off_policy(env, population("MATD3", env))
    with pytest.raises(ConfigError, match="expected train_multi_agent_off_policy"):
        train_multi_agent_on_policy(env, "counter", "MADDPG", pop)
    with pytest.raises(ConfigError, match=r"training\.evo_steps"):
        off_policy(env, pop, evo_steps=0)
    with pytest.raises(ConfigError, match="swap_channels: True, expected False"):
        off_policy(env, pop, swap_channels=True)
    with pytest.raises(ConfigError, match="wandb_api_key: given, expected None; set the environment variable"):
        off_policy(env, pop, wandb_api_key="secret")


ONE, TWO = SimpleNamespace(num_processes=1, device="cpu"), SimpleNamespace(num_processes=2, device="cpu")
"""What covey reads of an `accelerate.Accelerator`, which needs a package of its own."""


def test_an_accelerator_of_one_process_gives_its_device_and_more_are_refused(tmp_path: Path) -> None:
    env = vectorised()
    observed = {a: env.single_observation_space(a) for a in env.agents}
    done = {a: env.single_action_space(a) for a in env.agents}

    def created(accelerator: Any, device: str = "cpu") -> list[Agent]:
        return create_population(
            algo="MADDPG",
            net_config=NET,
            INIT_HP={},
            observation_space=observed,
            action_space=done,
            device=device,
            accelerator=accelerator,
        )

    (agent,) = created(ONE, device="cuda")
    assert agent.context.config.learner.device == "cpu"
    saved = tmp_path / "member"
    agent.save_checkpoint(saved)
    assert Agent.load(saved, device="cuda", accelerator=ONE).context.config.learner.device == "cpu"
    for refused in (
        lambda: created(TWO),
        lambda: off_policy(env, [agent], accelerator=TWO),
        lambda: default_progress_bar(5, accelerator=TWO),
        lambda: Mutations(1, 0, 0, 0, 0, 0, accelerator=TWO),
        lambda: Agent.load(saved, accelerator=TWO),
    ):
        with pytest.raises(ConfigError, match="accelerator: 2 processes, expected 1"):
            refused()
    with pytest.raises(ConfigError, match=r"accelerator: object, expected an accelerate\.Accelerator"):
        created(object())
    elsewhere = SimpleNamespace(num_processes=1, device="cuda:0")
    with pytest.raises(ConfigError, match="accelerator: device cuda:0, expected cpu, on which the population learns"):
        off_policy(env, [agent], accelerator=elsewhere)
    default_progress_bar(5, accelerator=ONE).close()
    memory = MultiAgentReplayBuffer(memory_size=100, field_names=["state"], agent_ids=env.agents, device=None)
    trained, _ = off_policy(
        env, [agent], memory=memory, accelerator=ONE, swap_channels=False, max_steps=10, evo_steps=10
    )
    assert trained[0].steps == [10] and memory.counter
    with pytest.raises(ConfigError, match="memory_size 0, expected at least 1"):
        MultiAgentReplayBuffer(memory_size=0)


def test_what_the_population_was_not_made_of_is_refused() -> None:
    env = vectorised()
    pop = population("MADDPG", env, LR=0.002, MEMORY_SIZE=1000)
    mutation = Mutations(1, 0, 0, 0, 0, 0, mutation_sd=0.2, rand_seed=3)
    for arguments, says in (
        (
            {"INIT_HP": {"BATCH_SIZE": 32, "LEARN_STEP": 10, "GAMMA": 0.5}},
            r"^INIT_HP: BATCH_SIZE 32, expected 16; GAMMA",
        ),
        ({"INIT_HP": {"LR": 0.1}}, r"^INIT_HP: LR_ACTOR 0.1, expected 0.002; LR_CRITIC 0.1, expected 0.002"),
        ({"INIT_HP": {"POP_SIZE": 5}}, "^INIT_HP: POP_SIZE 5, expected 2"),
        ({"MUT_P": {"NO_MUT": 0.5, "MUT_SD": 0.2}, "mutation": mutation}, r"^MUT_P: NO_MUT 0.5, expected 1.0, which"),
        ({"MUT_P": {"RAND_SEED": 4}, "mutation": mutation}, "^MUT_P: RAND_SEED 4, expected 3"),
        ({"MUT_P": {"NO_MUT": 1}}, "^MUT_P: given without mutation"),
        (
            {"net_config": {**NET, "latent_dim": 9}},
            r"^net_config: describes other networks for .*walker_0.* than the pop",
        ),
        ({"net_config": {"walker_0": NET}}, r"^net_config: describes other networks for caller_0"),
    ):
        given: dict[str, Any] = dict(arguments)
        with pytest.raises(ConfigError, match=says):
            off_policy(env, pop, **given)
    same = {"AGENT_IDS": env.agents, "BATCH_SIZE": 16, "LR": 0.002, "POP_SIZE": 2, "MAX_STEPS": 10, "GAMMA": None}
    made_of: dict[str, Any] = {"INIT_HP": same, "net_config": NET, "MUT_P": {"NO_MUT": 1, "MUT_SD": 0.2}}
    trained, _ = off_policy(env, pop, mutation=mutation, max_steps=10, evo_steps=10, **made_of)
    assert len(trained) == 2


def test_what_goes_wrong_in_the_actor_ends_the_run() -> None:
    env = vectorised()
    pop = population("MADDPG", env)

    def fail(*_: object) -> None:
        raise RuntimeError("no step today")

    env.slots.step = fail  # type: ignore[assignment, method-assign]
    with pytest.raises(RuntimeError, match="no step today"):
        off_policy(env, pop)
    with pytest.raises(EnvironmentLoadError, match="no environment can make a step: RuntimeError: broken in step 1"):
        off_policy(vectorised(raise_at=1), population("MADDPG", env))


@pytest.mark.parametrize("vectorised_by", [SyncPettingZooVecEnv, AsyncPettingZooVecEnv])
@pytest.mark.parametrize("algo", ["IPPO", "MADDPG"])
def test_an_environment_that_raises_in_every_episode_is_told(
    algo: str, vectorised_by: Any, caplog: pytest.LogCaptureFixture
) -> None:
    env = vectorised_by([RaisesInStepThree] * 4)
    pop = population(algo, env)
    with pytest.raises(EnvironmentLoadError, match=r"raised in every evaluation episode.*the wheel came off"):
        if algo == "IPPO":
            train_multi_agent_on_policy(env, "wheel", "IPPO", pop, max_steps=120, evo_steps=60, verbose=False)
        else:
            off_policy(env, pop)
    assert "raised RuntimeError: the wheel came off; it was built again (1 such faults)" in caplog.text


def test_a_loop_of_ones_own_is_told_of_environments_that_raise(caplog: pytest.LogCaptureFixture) -> None:
    with SyncPettingZooVecEnv([RaisesInStepThree] * 2) as env:
        env.reset(seed=0)
        for _ in range(7):
            env.step({agent: np.zeros(2, np.int64) for agent in env.agents})
    assert caplog.text.count("environment 1 raised RuntimeError: the wheel came off") == 2, "its first and second"


def test_an_evaluation_of_an_environment_that_raises_is_an_error() -> None:
    with SyncPettingZooVecEnv([RaisesInStepThree] * 2) as env:
        [agent] = population("IPPO", env, 1)
        with pytest.raises(EnvironmentLoadError, match=r"raised in the episode of seed .* the wheel came off"):
            agent.test(env)
