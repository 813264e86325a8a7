"""Environments as people write them: each plays, or is refused by one sentence that check-env and train share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.support import written_environments as written

from covey.acting import Decisions
from covey.collect import evaluate
from covey.envs import load_environment, read_spaces
from covey.envs.check import check_environment
from covey.envs.random_actions import random_action
from covey.envs.vector import SyncPettingZooVecEnv
from covey.errors import EnvironmentLoadError, SpaceError
from covey.spaces import Box, action_bounds

PLAYS = [
    "Plain",
    "Ints",
    "Tuples",
    "Half",
    "OneElementRewards",
    "Columns",
    "SmallSeeds",
    "Unseeded",
    "SeededOnce",
    "Whole",
]

REFUSED = {
    "Short": r"observation of agent 'a_0' is an array of shape \(1,\), expected an array of shape \(3,\)",
    "Long": r"observation of agent 'a_0' is an array of shape \(4,\), expected an array of shape \(3,\)",
    "Scaled": r"observation of agent 'a_0' holds 0\.4, which uint8 of its observation space does not; give it",
    "BeyondBytes": "observation of agent 'a_0' holds 300, which uint8 of its observation space does not",
    "HalfChoice": r"observation of agent 'a_0' holds 1\.5, which int64 of its observation space does not",
    "Ragged": r"observation of agent 'a_0' is of type list, expected an array of shape \(3,\)",
    "TeamReward": "step gave rewards as float, expected a dictionary by agent",
    "VectorReward": r"reward of agent 'a_0' is an array of shape \(2,\), expected one number",
    "NoReward": "reward of agent 'a_0' is of type NoneType, expected one number",
    "OldReset": "reset gave one dict, expected 2 dictionaries by agent: observations, infos",
    "OldStep": "step gave 4 values, expected 5 dictionaries by agent",
    "OtherNames": r"observations have 'agent_a_0', expected names from possible_agents \('a_0', 'a_1'\)",
    "OtherRewards": "rewards have 'A_0', expected names from possible_agents",
    "OtherAgents": "agents has 'a_2', expected names from possible_agents",
    "NobodySees": "agent 'a_0' was in agents for 100 env steps and got no observation",
    "OneNeverSees": "agent 'a_1' was in agents for 100 env steps and got no observation",
    "NobodyThere": "agents is empty after reset",
    "NothingToSee": r"observation of agent 'a_0': shape \(0,\), expected .* one number that never changes",
    "EmptyName": "agent id '', expected 1 to 128 printable characters",
    "TwoLines": r"agent id 'new\\nline', expected 1 to 128 printable characters",
    "LongName": "agent id 'xxx.*', expected 1 to 128 printable characters",
    "SameNames": r"possible_agents are \['0', '0'\] as texts, expected no name twice",
}


def factory(name: str) -> Any:
    return load_environment(f"tests.support.written_environments:{name}", {})


@pytest.mark.parametrize("name", PLAYS)
def test_it_plays(name: str) -> None:
    report = check_environment(factory(name), 50)
    assert report.trainable, report.cannot
    assert report.behaviour is not None and not report.behaviour.faults and report.behaviour.steps == 50


@pytest.mark.parametrize(("name", "sentence"), REFUSED.items())
def test_it_is_refused_by_one_sentence_everywhere(name: str, sentence: str) -> None:
    make = factory(name)
    with pytest.raises((EnvironmentLoadError, SpaceError), match=sentence) as read:
        read_spaces(make())  # what train, actors, evaluate and render do first
    if name != "SameNames":  # which check-env refuses at once, as the report has a line for each name
        assert str(read.value) in check_environment(make, 50).cannot
    with pytest.raises((EnvironmentLoadError, SpaceError), match=sentence):
        SyncPettingZooVecEnv([getattr(written, name)])


@pytest.mark.parametrize("name", ["Ints", "Tuples"])
def test_ids_that_are_no_texts_play_under_their_texts(name: str) -> None:
    make = factory(name)
    ids = getattr(written, name).names
    spaces = read_spaces(make())
    assert spaces.agent_ids == tuple(map(str, ids))
    [episode] = evaluate(make, spaces, [None] * len(ids), [3], 0, 1)
    assert list(episode.returns) == [10.0] * len(ids) and episode.length == 10
    with SyncPettingZooVecEnv([getattr(written, name)]) as envs:
        envs.reset(seed=1)
        _, rewards, _, _, _ = envs.step({str(a): np.array([1]) for a in ids})
        assert {a: r.tolist() for a, r in rewards.items()} == {str(a): [1.0] for a in ids}
        assert envs.call("names") == (ids,) and list(envs.get_attr("given")[0][0]) == list(ids), "it got its own ids"


def test_rewards_of_one_number_and_columns_count_as_what_they_hold() -> None:
    for name, returns in (("OneElementRewards", 10.0), ("Columns", 10.0)):
        make = factory(name)
        [episode] = evaluate(make, read_spaces(make()), [None, None], [3], 0, 1)
        assert list(episode.returns) == [returns] * 2


BOUNDS = [
    ((0.0, np.inf), (0.0, 2.0)),
    ((-0.5, np.inf), (-0.5, 1.5)),
    ((-5.0, np.inf), (-1.0, 1.0)),
    ((7.0, np.inf), (7.0, 9.0)),
    ((-np.inf, 0.0), (-2.0, 0.0)),
    ((-np.inf, 5.0), (-1.0, 1.0)),
    ((-np.inf, -3.0), (-5.0, -3.0)),
    ((-np.inf, np.inf), (-1.0, 1.0)),
    ((-4.0, 3.0), (-4.0, 3.0)),
]


def test_each_number_of_a_box_has_bounds_of_its_own() -> None:
    own = np.array([own for own, _ in BOUNDS])
    space = Box("float32", (len(BOUNDS),), tuple(own[:, 0]), tuple(own[:, 1]))
    low, high = action_bounds(space)
    assert list(zip(low.tolist(), high.tolist(), strict=True)) == [ends for _, ends in BOUNDS]
    rng = np.random.default_rng(0)
    drawn = np.array([random_action(space, rng) for _ in range(200)])
    assert (drawn >= own[:, 0]).all() and (drawn <= own[:, 1]).all()
    assert np.ptp(drawn, axis=0).min() > 1.5, "the whole interval is drawn from"


@pytest.mark.parametrize(
    ("name", "zero_sum"),
    [("tests.support.written_environments:ZeroSum", True), ("pettingzoo.classic.rps_v2", True)]
    + [(f"tests.support.written_environments:{name}", False) for name in ("Plain", "Unrewarded")],
)
def test_a_zero_sum_game_is_told_to_need_opponents(name: str, zero_sum: bool) -> None:
    make = load_environment(name, {})
    told = [line for line in check_environment(make, 200).will if line.startswith("opponents: ")]
    assert len(told) == zero_sum
    assert not told or "each side is evaluated against random and the elite" in told[0]


def test_random_play_stays_within_half_open_bounds() -> None:
    make = factory("Half")
    spaces = read_spaces(make())
    decisions = Decisions(spaces, 1)
    decisions.plan({0: [None, None]})
    given, _ = decisions.decide([np.zeros((1, 2, 3), np.float32)], [None], np.random.default_rng(0))
    assert all(written.Half.acts.contains(action) for action in given[0][0])
    report = check_environment(make, 50)
    [bounds] = [sentence for sentence in report.will if sentence.startswith("bounds")]
    assert bounds.endswith("policies stay within [-5, -3] and [-1, 1] and [0, 2]")
