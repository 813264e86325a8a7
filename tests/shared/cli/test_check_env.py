"""`covey check-env` on environments as they are installed, and on broken ones."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from tests.support.environments import CounterEnv

from covey.cli import run


def answer(capfd: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    """The JSON that is printed, and nothing beside it."""
    assert run(["check-env", *arguments, "--json"]) == code
    out, err = capfd.readouterr()
    assert not err
    result: dict[str, Any] = json.loads(out)
    return result


MPE = [
    *("simple_v3", "simple_adversary_v3", "simple_crypto_v3", "simple_push_v3", "simple_reference_v3"),
    *("simple_speaker_listener_v4", "simple_spread_v3", "simple_tag_v3", "simple_world_comm_v3"),
]


@pytest.mark.parametrize("task", MPE)
def test_particle_tasks(task: str, capfd: pytest.CaptureFixture[str]) -> None:
    found = answer(capfd, f"mpe2.{task}", "--steps", "60", "--config", "continuous_actions=true")
    assert found["trainable"] and found["kind"] == "simultaneous" and found["interface"] == "parallel"
    assert found["api_test"] == "passed"
    assert found["episodes"] == 2 and found["episode_length"] == {"min": 25, "mean": 25.0, "max": 25}
    assert not found["agents_die"] and not found["agents_appear_later"] and not found["masks_forbid"]
    assert "algorithms: IPPO, MAPPO, MADDPG, MATD3, MASAC fit" in found["will"]
    assert found["steps"] == 60 and found["steps_per_s"] > 0
    assert any(f"an env step is {found['row_bytes']:,} bytes" in line for line in found["will"])
    assert all(a["action"].startswith("Box") for a in found["agents"])


def test_groups_are_told(capfd: pytest.CaptureFixture[str]) -> None:
    found = answer(capfd, "mpe2.simple_adversary_v3", "--steps", "30")
    assert [(a["agent_id"], a["group"]) for a in found["agents"]] == [
        ("adversary_0", "adversary"),
        ("agent_0", "agent"),
        ("agent_1", "agent"),
    ]
    assert "grouping: agent_0, agent_1 can share a policy, group 'agent'" in found["will"]
    crypto = answer(capfd, "mpe2.simple_crypto_v3", "--steps", "30")
    assert any(s.startswith("grouping: bob, alice have equal spaces but different names") for s in crypto["will"])


@pytest.mark.parametrize("game", ["tictactoe_v3", "connect_four_v3"])
def test_turn_based_games(game: str, capfd: pytest.CaptureFixture[str]) -> None:
    found = answer(capfd, f"pettingzoo.classic.{game}", "--steps", "300")
    assert found["interface"] == "aec" and found["kind"] == "turn-based" and found["trainable"]
    assert found["api_test"] == "passed"
    assert found["masks_forbid"] and all(a["masked"] for a in found["agents"])
    assert not found["agents_die"], "both end with the game"
    assert found["episodes"] > 5
    said = " ".join(found["will"])
    assert "lead-in rows" in said and "illegal actions are never chosen" in said


def test_rock_paper_scissors_both_ways(capfd: pytest.CaptureFixture[str]) -> None:
    at_once = answer(capfd, "pettingzoo.classic.rps_v2", "--steps", "100")
    assert (at_once["interface"], at_once["kind"], at_once["episode_length"]["max"]) == ("parallel", "simultaneous", 15)
    in_turns = answer(capfd, "pettingzoo.classic.rps_v2:env", "--steps", "100")
    assert (in_turns["interface"], in_turns["kind"], in_turns["episode_length"]["max"]) == ("aec", "turn-based", 30)


@pytest.mark.slow
def test_agents_that_die(capfd: pytest.CaptureFixture[str]) -> None:
    found = answer(
        capfd, "pettingzoo.butterfly.knights_archers_zombies_v11", "--steps", "400", "--config", "spawn_delay=4"
    )
    assert found["agents_die"] and found["kind"] == "simultaneous" and found["trainable"]
    assert {a["group"] for a in found["agents"]} == {"archer", "knight"}
    walkers = answer(capfd, "pettingzoo.sisl.multiwalker_v9", "--steps", "150")
    assert not walkers["agents_die"] and walkers["trainable"]
    assert walkers["agents"][0]["action"] == "Box(-1.0, 1.0, (4,), float32)"


def test_other_rhythms(capfd: pytest.CaptureFixture[str]) -> None:
    found = answer(capfd, "tests.support.environments:rhythms", "--steps", "30")
    assert found["kind"] == "asynchronous" and found["agents_die"] and found["agents_appear_later"]
    assert found["masks_forbid"] and found["forces_actions"]
    assert found["episode_length"] == {"min": 6, "mean": 6.0, "max": 6}
    assert found["api_test"].startswith("not run: ")
    assert any(s.startswith("forced actions:") for s in found["will"])


def test_batched(capfd: pytest.CaptureFixture[str]) -> None:
    found = answer(capfd, "tests.support.environments:batched_counter", "--config", "walker_dies_at=2", "--steps", "20")
    assert found["interface"] == "batched" and found["agents_die"] and found["episodes"] == 4
    assert found["steps"] == 20 and found["timed_copies"] == 64 and found["steps_per_s"] > 0
    assert run(["check-env", "tests.support.drawn_together:drawn_together", "--steps", "20"]) == 0
    shown = capfd.readouterr().out
    assert re.search(r"^20 env steps, [\d,]+ per s as 64 copies; 5 episodes", shown, re.MULTILINE)
    assert "\n+ reset_batch: training draws the episodes that begin together by it, all at once;" in shown
    assert run(["check-env", "tests.support.environments:counter", "--steps", "20"]) == 0
    one = capfd.readouterr().out
    assert "copies" not in one and "reset_batch" not in one


def test_spaces_that_are_not_served(capfd: pytest.CaptureFixture[str]) -> None:
    found = answer(capfd, "tests.support.environments:TextObservations", code=4)
    assert not found["trainable"] and found["kind"] == "unknown" and found["steps"] == 0
    assert len(found["cannot"]) == 3, "every agent that is in the way, not only the first"
    assert found["cannot"][0].startswith("observation of agent 'walker_0': space Text")
    assert found["cannot"][1].startswith("action of agent 'caller_0': space Sequence")
    assert run(["check-env", "tests.support.environments:TextObservations"]) == 4
    assert "- cannot train: observation of agent 'walker_0'" in capfd.readouterr().out


class Infinite(CounterEnv):
    """Its rewards overflow at the third step."""

    def step(self, actions: dict[str, Any]) -> Any:
        seen, rewards, *rest = super().step(actions)
        if self.count == 3:
            rewards["caller_0"] = float("inf")
        return seen, rewards, *rest


class Chatty(CounterEnv):
    """Prints, warns and logs, and makes new spaces at every call, which breaks PettingZoo's rule."""

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        print("hello")
        print("there", file=sys.stderr)
        warnings.warn("mind the gap", UserWarning, stacklevel=1)
        logging.getLogger("chatty").warning("really")
        return super().reset(seed, options)


class Choices(CounterEnv):
    """Several choices at once."""

    def action_space(self, agent: str) -> gymnasium.spaces.Space[Any]:
        del agent
        return gymnasium.spaces.MultiDiscrete([2, 3])


class OneChoice(CounterEnv):
    """One choice of three, in every step of all agents."""

    def action_space(self, agent: str) -> gymnasium.spaces.Space[Any]:
        del agent
        return gymnasium.spaces.Discrete(3)


class Duel(OneChoice):
    """An environment whose two agents' rewards sum to zero in every env step."""

    def step(self, actions: Any) -> Any:
        seen, rewards, *rest = super().step(actions)
        first, second, *others = self.possible_agents
        won = {first: 1.0, second: -1.0, **dict.fromkeys(others, 0.0)}
        return (seen, {agent: won[agent] for agent in rewards}, *rest)


class WholeNumbers(CounterEnv):
    """Integers in a Box."""

    def action_space(self, agent: str) -> gymnasium.spaces.Space[Any]:
        del agent
        return gymnasium.spaces.Box(-2, 2, (2,), np.int32)


class Large(CounterEnv):
    """Observations of which four rows do not fit into a fragment."""

    def observation_space(self, agent: str) -> gymnasium.spaces.Space[Any]:
        del agent
        return gymnasium.spaces.Box(0, np.inf, (300_000, 3), np.float32)


class Unbounded(CounterEnv):
    """Actions without bounds, no end."""

    def action_space(self, agent: str) -> gymnasium.spaces.Space[Any]:
        del agent
        return gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)


def test_environments_that_raise(capfd: pytest.CaptureFixture[str]) -> None:
    found = answer(capfd, "tests.support.environments:counter", "--config", "raise_at=2", code=4)
    assert found["faults"] == ["RuntimeError: broken in step 2"] * 3
    assert found["cannot"] == ["raised 3 times in 3 env steps: RuntimeError: broken in step 2; repair it"]
    assert found["api_test"].startswith("failed: ")


def test_numbers_that_are_none(capfd: pytest.CaptureFixture[str]) -> None:
    found = answer(capfd, "tests.shared.cli.test_check_env:Infinite", "--steps", "10", code=4)
    assert found["cannot"] == [
        "reward of agent 'caller_0' is infinite, no number, or too large to learn from; repair it"
    ]


def test_what_an_environment_prints_does_not_leak_and_what_breaks_the_rules_is_told(
    capfd: pytest.CaptureFixture[str],
) -> None:
    found = answer(capfd, "tests.shared.cli.test_check_env:Chatty", "--steps", "10")
    assert found["api_test"].startswith("failed: AssertionError: observation_space should return the exact same")
    assert found["trainable"], "our own part does not depend on it"
    assert "mind the gap" in found["api_warnings"]
    assert run(["check-env", "tests.shared.cli.test_check_env:Chatty", "--steps", "10"]) == 0
    out, err = capfd.readouterr()
    assert not err and "hello" not in out and "10 env steps" in out and "2 episodes, of 5 to 5 steps" in out


@pytest.mark.parametrize(
    ("name", "options", "offered"),
    [
        ("mpe2.simple_spread_v3", (), "covey.envs.mpe.simple_spread_v3"),
        ("pettingzoo.mpe.simple_tag_v3:parallel_env", ("--config", "num_good=2"), "covey.envs.mpe.simple_tag_v3"),
        ("mpe2.simple_v3", ("--config", "benchmark_data=true"), None),  # arrays have no infos
        ("mpe2.simple_v3:env", (), None),  # there agents act one after the other
        ("mpe2.simple_line_v1", (), None),
        ("covey.envs.mpe.simple_v3", (), None),
        ("pettingzoo.classic.rps_v2", (), None),
    ],
)
def test_the_same_environment_as_arrays_is_offered_where_there_is_one(
    name: str, options: tuple[str, ...], offered: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    told = [s for s in answer(capfd, name, "--steps", "10", *options)["will"] if s.startswith("speed:")]
    module = name.partition(":")[0].replace("pettingzoo.mpe", "mpe2")
    sentence = f"speed: {offered} is the same environment as arrays, many times as fast; name it in place of {module}"
    assert told == ([sentence] if offered else [])


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ("Choices", "algorithms: IPPO, MAPPO, MADDPG, MATD3 fit"),
        ("OneChoice", "algorithms: IPPO, MAPPO, MADDPG, MATD3, PQN, QMIX, VDN fit"),
        ("Duel", "algorithms: IPPO, MAPPO, MADDPG, MATD3 fit"),
        (
            "WholeNumbers",
            "algorithms: MADDPG, MATD3 fit; IPPO and MAPPO want floating-point numbers in a Box of actions, those of "
            "'walker_0' are int32",
        ),
    ],
)
def test_which_algorithms_fit(environment: str, sentence: str, capfd: pytest.CaptureFixture[str]) -> None:
    found = answer(capfd, f"tests.shared.cli.test_check_env:{environment}", "--steps", "10")
    assert found["will"][0] == sentence
    cancels = "algorithms: PQN, QMIX and VDN learn the sum of all agents' rewards, which is zero here"
    assert (cancels in found["will"]) == (environment == "Duel")


@pytest.mark.slow
def test_large_rows_are_refused(capfd: pytest.CaptureFixture[str]) -> None:
    found = answer(capfd, "tests.shared.cli.test_check_env:Large", "--steps", "4", code=4)
    assert any(s.startswith("environment: one env step is 1080") for s in found["cannot"])


def test_missing_bounds_and_missing_ends_are_told(capfd: pytest.CaptureFixture[str]) -> None:
    options = ("--steps", "4", "--config", "length=9")
    said = " ".join(answer(capfd, "tests.shared.cli.test_check_env:Unbounded", *options)["will"])
    assert "where actions of group 'walker' have no bound, policies stay within [-1, 1]" in said
    assert "none ended within 4 env steps" in said


def test_arguments_and_names_that_are_wrong(capfd: pytest.CaptureFixture[str]) -> None:
    for arguments, code, says in [
        (["tests.support.environments:counter", "--config", "length"], 2, "expected key=value"),
        (["tests.support.environments:counter", "--config", "length=[1"], 2, "is not YAML"),
        (["tests.support.environments:CounterEnv", "--config", "lenght=3"], 3, "did you mean 'length'?"),
        (["tests.support.environments:nothing"], 3, "gives object without possible_agents"),
    ]:
        assert run(["check-env", *arguments]) == code
        out, err = capfd.readouterr()
        assert says in err and err.count("\n") == 1 and not out


def test_the_command_does_not_slow_the_others_down() -> None:
    code = "import sys, covey.cli.check_env; sys.exit(bool({'numpy', 'pettingzoo', 'gymnasium'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "kind", "leaves", "line"),
    [
        (["mpe2.simple_spread_v3"], "mlp", {}, "mlp"),
        (["tests.support.catching:catching"], "cnn", {}, "cnn"),
        (
            ["tests.support.catching:catching", "--config", "features=true"],
            "multi_input",
            {"image": "cnn", "place": "mlp"},
            "multi_input: cnn for image, mlp for place",
        ),
    ],
)
def test_the_encoder_of_each_agent_is_named(
    arguments: list[str], kind: str, leaves: dict[str, str], line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    agents = answer(capfd, *arguments, "--steps", "5")["agents"]
    assert [a["encoder"] for a in agents] == [{"kind": kind, "leaves": leaves}] * len(agents)
    assert run(["check-env", *arguments, "--steps", "5"]) == 0
    assert f"    read by the encoder {line}\n" in capfd.readouterr().out
