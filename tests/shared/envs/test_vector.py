"""Vectorised environments: PettingZoo's API over several copies, in one process and in several."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import AlreadyPendingCallError, ClosedEnvironmentError, NoAsyncCallError
from tests.support.environments import CounterEnv, counter
from tests.support.processes import PATIENCE_S

import covey
from covey import AsyncPettingZooVecEnv, PettingZooVecEnv, SyncPettingZooVecEnv, make_multi_agent_vect_envs
from covey.envs.mpe import simple_spread_v3
from covey.errors import EnvironmentLoadError

VecEnv = PettingZooVecEnv[Any]
Build = Callable[[list[Callable[[], Any]]], VecEnv]


@pytest.fixture(params=[SyncPettingZooVecEnv, AsyncPettingZooVecEnv], ids=["sync", "async"])
def build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Build]:
    monkeypatch.syspath_prepend(Path(__file__).parents[3])  # workers find the tests
    built: list[VecEnv] = []

    def build(env_fns: list[Callable[[], Any]]) -> VecEnv:
        built.append(request.param(env_fns))
        return built[-1]

    yield build
    for env in built:
        env.close()


class SquareEnv(CounterEnv):
    """Walker 0 alone, with an action of shape (1,); its observation says what came of it, its reward which option."""

    def __init__(self, act: Callable[[Any], object] = lambda env: None) -> None:
        super().__init__(length=3)
        self.possible_agents = ["walker_0"]
        self.act = act
        self.scale = 1.0

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        del agent
        return gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.option = (options or {}).get("bonus", 0.0)
        return super().reset(seed)

    def step(self, actions: dict[str, Any]) -> Any:
        self.act(self)
        seen, rewards, terminated, truncated, infos = super().step(actions)
        rewards["walker_0"] = self.option + self.scale * actions["walker_0"].ndim
        return seen, rewards, terminated, truncated, infos

    def render(self) -> Any:
        return np.full((2, 2, 3), self.count, np.uint8)


class ForcedEnv(CounterEnv):
    """Forces the caller to 13 in every second step; its reward is what it did."""

    def step(self, actions: dict[str, Any]) -> Any:
        seen, rewards, terminated, truncated, infos = super().step(actions)
        rewards["caller_0"] = float(actions["caller_0"])
        if self.count % 2:
            infos["caller_0"]["env_defined_actions"] = 13
        return seen, rewards, terminated, truncated, infos


def act(env: VecEnv, caller: int = 11) -> dict[str, Any]:
    """Legal actions of counters."""
    return {
        "walker_0": np.full((env.num_envs, 2), 2.0, np.float32),
        "caller_0": np.full(env.num_envs, caller),
        "walker_1": np.full((env.num_envs, 2), 2.0, np.float32),
    }


def test_the_environments_of_the_page(build: Build) -> None:
    from mpe2 import simple_speaker_listener_v4

    num_envs = 4
    env = build([lambda: simple_speaker_listener_v4.parallel_env(continuous_actions=True) for _ in range(num_envs)])
    obs, infos = env.reset()
    assert env.agents == env.possible_agents == ["speaker_0", "listener_0"] == list(obs)
    assert [env.single_observation_space(a).shape for a in env.agents] == [(3,), (11,)]
    assert env.single_action_space("listener_0") == gymnasium.spaces.Box(0.0, 1.0, (5,), np.float32)
    assert env.observation_space("speaker_0").contains(obs["speaker_0"])
    assert all(infos[a]["active"].tolist() == [1] * num_envs for a in env.agents)
    assert env.metadata["name"] == "simple_speaker_listener_v4" and env.render_mode is None
    over = 0
    for _ in range(30):
        obs, reward, termination, truncation, _ = env.step({a: env.action_space(a).sample() for a in env.agents})
        for agent in env.agents:
            assert obs[agent].shape[0] == num_envs and obs[agent].dtype == np.float32
            assert reward[agent].shape == termination[agent].shape == truncation[agent].shape == (num_envs,)
        over += int(np.all([termination[a] | truncation[a] for a in env.agents], axis=0).sum())
    assert over == num_envs, "25 steps an episode"


def test_one_process_and_several_agree() -> None:
    from mpe2 import simple_tag_v3

    fns = [lambda: simple_tag_v3.parallel_env(max_cycles=4)] * 3
    with SyncPettingZooVecEnv(fns) as one, AsyncPettingZooVecEnv(fns) as several:
        rng = np.random.default_rng(1)
        np.testing.assert_equal(several.reset(seed=5), one.reset(seed=5))
        for _ in range(10):
            actions = {a: rng.integers(0, 5, 3) for a in one.agents}
            expected, got = one.step(actions), several.step(actions)
            np.testing.assert_equal(got, expected)
            np.testing.assert_equal(got[0].final, expected[0].final)


def test_an_episode_that_is_over_is_followed_by_the_next_and_its_last_observation_kept(build: Build) -> None:
    env = build([partial(counter, length=2), partial(counter, length=3)])
    obs, _ = env.reset(seed=7)
    assert isinstance(obs, covey.Observations) and not obs.ended.any() and obs.spaces is env.spaces
    assert obs["walker_1"].tolist() == [[7, 0, 2], [8, 0, 2]]
    obs, *_ = env.step(act(env))
    np.testing.assert_equal(obs.final, dict(obs))
    before = obs
    obs, reward, termination, truncation, _ = env.step(act(env))
    assert obs.ended.tolist() == [True, False]
    assert obs.final["walker_1"].tolist() == [[7, 2, 2], [8, 2, 2]]
    assert obs["walker_1"][1].tolist() == [8, 2, 2] and obs["walker_1"][0, 1:].tolist() == [0, 2]
    assert truncation["caller_0"].tolist() == [True, False] and not termination["caller_0"].any()
    assert reward["walker_1"].tolist() == [2.02, 2.02] and before["walker_1"].tolist() == [[7, 1, 2], [8, 1, 2]]


def test_equal_seeds_give_equal_episodes_and_none_gives_others(build: Build) -> None:
    env = build([partial(counter, length=1)] * 2)

    def seeds(**given: Any) -> list[list[float]]:
        shown = [env.reset(**given)[0]["caller_0"][:, 0].tolist()]
        return shown + [env.step(act(env))[0]["caller_0"][:, 0].tolist() for _ in range(3)]

    first = seeds(seed=3)
    assert first[0] == [3, 4] and len({s for row in first for s in row}) == 8
    assert seeds(seed=3) == first and seeds(seed=[3, 4]) == first
    assert seeds(seed=[None, 9])[0][1] == 9
    assert seeds()[0] != seeds()[0]
    with pytest.raises(EnvironmentLoadError, match="3 seeds for 2 environments"):
        env.reset(seed=[1, 2, 3])


def test_an_agent_that_has_ended_stays_so_up_to_the_last_step() -> None:
    env = SyncPettingZooVecEnv([partial(counter, length=3, walker_dies_at=1)])
    env.reset(seed=1)
    flags = []
    for _ in range(4):
        obs, reward, termination, truncation, infos = env.step(act(env))
        flags.append([bool(x[0]) for x in (termination["walker_1"], truncation["walker_1"], truncation["walker_0"])])
        active = infos["walker_1"]["active"][0]
        assert active == obs.ended[0], "dead, until the next episode begins"
        assert not np.isnan(reward["walker_1"]).any()
    assert flags == [[True, False, False], [True, False, False], [True, False, True], [True, False, False]]


def test_actions_reach_the_environment_in_their_own_shape(build: Build) -> None:
    env = build([SquareEnv] * 2)
    env.reset(options={"bonus": 10.0})
    _, reward, *_ = env.step({"walker_0": np.array([[0.5], [0.25]], np.float32)})
    assert reward["walker_0"].tolist() == [11.0, 11.0]
    env.step({"walker_0": [0.5, 0.25]})
    env.step({"walker_0": [0.5, 0.25]})
    assert env.step({"walker_0": [0.5, 0.25]})[1]["walker_0"].tolist() == [1.0, 1.0], "options are for one reset"
    with pytest.raises(EnvironmentLoadError, match=r"actions of 'walker_0': shape \(2, 2\), expected \(2, 1\)"):
        env.step({"walker_0": np.zeros((2, 2))})
    with pytest.raises(EnvironmentLoadError, match="none for 'walker_0', which is to act in environment 0"):
        env.step({})


def test_environments_are_reached_into(build: Build) -> None:
    env = build([SquareEnv] * 2)
    with pytest.raises(EnvironmentLoadError, match="call reset first"):
        env.step({"walker_0": np.zeros((2, 1))})
    env.reset(seed=1)
    assert env.get_attr("length") == (3, 3) and env.call("length") == (3, 3)
    env.set_attr("scale", [2.0, 3.0])
    assert env.step({"walker_0": np.zeros((2, 1))})[1]["walker_0"].tolist() == [2.0, 3.0]
    env.set_attr("scale", 0.0)
    assert env.get_attr("scale") == (0.0, 0.0)
    assert [frame.mean() for frame in env.render()] == [1.0, 1.0]
    assert env.call("action_space", "walker_0") == (env.single_action_space("walker_0"),) * 2
    with pytest.raises(EnvironmentLoadError, match="environment 0: 'nothing': AttributeError"):
        env.get_attr("nothing")
    with pytest.raises(EnvironmentLoadError, match="3 values for 2 environments"):
        env.set_attr("scale", [1, 2, 3])


PARTS: dict[str, tuple[Any, ...]] = {
    "reset": (7,),
    "step": ({"walker_0": np.zeros((2, 1), np.float32)},),
    "call": ("action_space", "walker_0"),
}
"""The calls of vectorised environments that come in two halves, and arguments of their first half."""


@pytest.mark.parametrize("name", PARTS)
def test_calls_in_two_halves_are_the_whole_ones(build: Build, name: str) -> None:
    whole, halves = build([SquareEnv] * 2), build([SquareEnv] * 2)
    for env in (whole, halves):
        env.reset(seed=1)
    expected = getattr(whole, name)(*PARTS[name])
    assert getattr(halves, f"{name}_async")(*PARTS[name]) is None
    np.testing.assert_equal(getattr(halves, f"{name}_wait")(timeout=PATIENCE_S), expected)


@pytest.mark.parametrize("name", PARTS)
def test_calls_out_of_turn_raise_gymnasiums_errors(build: Build, name: str) -> None:
    env = build([SquareEnv] * 2)
    env.reset(seed=1)
    with pytest.raises(NoAsyncCallError, match=f"{name}_wait while no {name} is under way; call {name}_async first"):
        getattr(env, f"{name}_wait")()
    getattr(env, f"{name}_async")(*PARTS[name])
    for other in PARTS:
        with pytest.raises(AlreadyPendingCallError, match=f"{other}_async while a {name} .* call {name}_wait first"):
            getattr(env, f"{other}_async")(*PARTS[other])
        with pytest.raises(AlreadyPendingCallError):
            getattr(env, other)(*PARTS[other])
    with pytest.raises(AlreadyPendingCallError):
        env.set_attr("scale", 2.0)
    getattr(env, f"{name}_wait")()
    assert not env.closed
    env.close()
    env.close()
    assert env.closed
    for called in (f"{name}_async", name):
        with pytest.raises(ClosedEnvironmentError, match=f"{name}_async after close"):
            getattr(env, called)(*PARTS[name])
    with pytest.raises(ClosedEnvironmentError):
        getattr(env, f"{name}_wait")()


def test_a_call_that_could_not_begin_is_not_under_way(build: Build) -> None:
    env = build([SquareEnv] * 2)
    with pytest.raises(EnvironmentLoadError, match="3 seeds for 2 environments"):
        env.reset_async(seed=[1, 2, 3])
    env.reset(seed=1)
    with pytest.raises(EnvironmentLoadError, match="shape"):
        env.step_async({"walker_0": np.zeros((3, 3))})
    assert env.step(*PARTS["step"])[0]["walker_0"][:, 1].tolist() == [1, 1]


def test_names_that_gymnasiums_vectorised_environments_have() -> None:
    with SyncPettingZooVecEnv([SquareEnv] * 2) as env:
        assert (env.num_envs, env.num_agents, env.unwrapped) == (2, 1, env)


def raise_at_two(env: Any) -> None:
    if env.seed == 2 and env.count == 1:
        raise RuntimeError("broken")


def hang_at_two(env: Any) -> None:
    if env.seed == 2 and env.count == 1:
        time.sleep(600)


@pytest.mark.parametrize("close", [{"terminate": True}, {"timeout": 0.1}], ids=["terminate", "timeout"])
def test_processes_that_do_not_close_are_killed(close: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[3])
    env = AsyncPettingZooVecEnv([partial(SquareEnv, hang_at_two)] * 2)
    env.reset(seed=1)
    env.step(*PARTS["step"])
    env.step_async(*PARTS["step"])
    began = time.monotonic()
    env.close_extras(**close)
    assert time.monotonic() - began < 4.0 and env.closed


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (raise_at_two, "environment 1: RuntimeError: broken"),
        (hang_at_two, "environment 1: worker 1 (slot 1) gave no answer for 2 s"),
    ],
)
def test_an_environment_that_breaks_is_a_cut_episode_and_the_others_go_on(
    what: Callable[[Any], object], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[3])
    monkeypatch.setattr("covey.envs.processes._cores", lambda: 2)
    actions = {"walker_0": np.zeros((2, 1), np.float32)}
    with AsyncPettingZooVecEnv([partial(SquareEnv, what)] * 2) as env:
        env.reset(seed=1)
        before, *_ = env.step(actions)
        env.step_async(actions)
        obs, reward, termination, truncation, infos = env.step_wait(timeout=2.0)
        assert infos["_fault"] == [says]
        assert truncation["walker_0"].tolist() == [False, True] and not termination["walker_0"].any()
        assert obs.ended.tolist() == [False, True] and reward["walker_0"].tolist() == [1.0, 0.0]
        assert obs.final["walker_0"].tolist() == [[1, 2, 0], [2, 1, 0]]
        assert obs.final["walker_0"][1].tolist() == before["walker_0"][1].tolist()
        assert obs["walker_0"][1, 1] == 0 and infos["walker_0"]["active"].tolist() == [1, 1]
        assert "_fault" not in env.step(actions)[-1]


def test_an_environment_that_never_works_is_an_error_that_names_it() -> None:
    env = SyncPettingZooVecEnv([CounterEnv, partial(counter, raise_at=1)])
    env.reset()
    messages = [env.step(act(env))[-1]["_fault"] for _ in range(2)]
    assert messages == [["environment 1: RuntimeError: broken in step 1"]] * 2
    with pytest.raises(
        EnvironmentLoadError, match="environment 1: failed 3 times in a row, at last: RuntimeError: broken in step 1"
    ):
        env.step(act(env))
    with pytest.raises(EnvironmentLoadError, match=r"environment 0: failed 3 times .*no reset today"):
        SyncPettingZooVecEnv([partial(counter, raise_in_reset=True)]).reset()


def test_environments_with_other_spaces_are_named() -> None:
    with pytest.raises(EnvironmentLoadError, match=r"environment 1.*agents \['walker_0'\], expected .*environment 0"):
        SyncPettingZooVecEnv([CounterEnv, SquareEnv]).reset()
    with pytest.raises(EnvironmentLoadError, match="at least one function"):
        SyncPettingZooVecEnv([])


def test_turn_based_environments_say_who_acts_and_what_is_legal(build: Build) -> None:
    from pettingzoo.classic import tictactoe_v3

    env = build([tictactoe_v3.env] * 2)
    obs, infos = env.reset(seed=0)
    assert isinstance(env.single_observation_space("player_1"), gymnasium.spaces.Dict)
    assert env.observation_space("player_1").contains(obs["player_1"]) and env.spaces.asynchronous
    ends = 0
    for _ in range(30):
        active = {a: infos[a]["active"] for a in env.agents}
        assert (active["player_1"] + active["player_2"]).tolist() == [1, 1]
        actions = {a: infos[a]["action_mask"].argmax(-1) for a in env.agents if active[a].any()}
        obs, reward, termination, truncation, infos = env.step(actions)
        for e in np.flatnonzero(obs.ended):
            ends += 1
            assert sorted(reward[a][e] for a in env.agents) == [-1, 1]
            assert all(termination[a][e] | truncation[a][e] for a in env.agents)
            assert obs.final["player_1"][e].sum() == 7 and not obs["player_1"][e].any()
        assert not any(np.isnan(x).any() for by_agent in (obs, reward) for x in by_agent.values())
    assert ends == 8, "first free field wins after seven turns"
    assert env.call("observe", "player_1")[0]["observation"].shape == (3, 3, 2)


def test_forced_actions_are_shown_and_carried_out() -> None:
    env = SyncPettingZooVecEnv([ForcedEnv, CounterEnv])
    env.reset()
    *_, infos = env.step(act(env))
    assert infos["caller_0"]["active"].tolist() == [2, 1]
    assert infos["caller_0"]["env_defined_actions"][0] == 13 and "env_defined_actions" not in infos["walker_0"]
    assert env.step(act(env))[1]["caller_0"][0] == 13
    assert env.step(act(env))[1]["caller_0"][0] == 11


def test_copies_of_one_function_with_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[3])
    with make_multi_agent_vect_envs(counter, num_envs=3, length=4) as env:
        assert env.num_envs == 3 and env.get_attr("length") == (4, 4, 4)


def test_arrays_that_step_all_their_copies_are_refused_by_one_sentence(build: Build) -> None:
    sentence = "Spread steps all its copies itself, expected functions that each build one PettingZoo environment"
    with pytest.raises(EnvironmentLoadError, match=sentence):
        build([partial(simple_spread_v3.parallel_env, num_envs=1)] * 2)
    with pytest.raises(EnvironmentLoadError, match=sentence):
        make_multi_agent_vect_envs(simple_spread_v3.parallel_env, num_envs=4, N=2)


def test_the_package_loads_its_names_only_when_asked() -> None:
    code = "import sys, covey; assert not {'numpy', 'pettingzoo'} & set(sys.modules); print(covey.Observations)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "covey.envs.observed.Observations" in done.stdout
    with pytest.raises(AttributeError, match="module 'covey' has no attribute 'nothing'"):
        covey.nothing  # noqa: B018
