"""Whether an environment keeps to its seed, and what is told if it does not."""

from __future__ import annotations

import pytest

from covey.envs import load_environment, read_spaces
from covey.envs.check import check_environment
from covey.envs.repeats import ignored_seed

WRITTEN = "tests.support.written_environments"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (f"{WRITTEN}:Unseeded", "the reward of agent 'a_0' differs after 1 env steps"),
        (f"{WRITTEN}:SeededOnce", "the observation of agent 'a_0' differs after reset"),
        (f"{WRITTEN}:EndsAnyhow", "the presence of agent 'a_0' differs after"),
    ],
)
def test_what_does_not_repeat_is_told(name: str, says: str) -> None:
    make = load_environment(name, {})
    sentence = ignored_seed(make, read_spaces(make()))
    assert sentence.startswith("seeds: with the same seed and actions twice") and says in sentence
    assert sum(line.startswith("seeds: ") for line in check_environment(make, 20).will) == 1


@pytest.mark.parametrize(
    "name",
    [
        f"{WRITTEN}:Plain",
        "tests.support.environments:counter",
        "tests.support.environments:batched_counter",
        "mpe2.simple_spread_v3",
        "pettingzoo.classic.tictactoe_v3",
        "pettingzoo.classic.rps_v2",
    ],
)
def test_what_repeats_is_not_blamed(name: str) -> None:
    make = load_environment(name, {})
    assert ignored_seed(make, read_spaces(make())) == ""


def test_an_environment_that_raises_is_not_blamed_for_its_seed() -> None:
    make = load_environment(f"{WRITTEN}:RaisesInSteps", {})
    assert ignored_seed(make, read_spaces(make())) == ""
