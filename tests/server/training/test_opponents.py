"""Who plays against members: named opponents, and those that a zero-sum game gets when its returns are seen."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.support.processes import write_config

from covey.config import load_config, parse_config
from covey.envs import load_environment, read_spaces
from covey.run.new_run import new_run
from covey.run.trained import TrainedMember
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces
from covey.v1.actor_service_pb2 import JoinRequest
from covey_server.app import LearnerProcess
from covey_server.training.opponents import FEWEST_EPISODES, Opponents, zero_sum_event

GAME = [(1.0, -1.0), (-1.0, 1.0), (0.0, 0.0), (1.0, -1.0)]
TEAM = [(1.0, 1.0), (-1.0, -1.0), (2.0, 2.0)]


class Run:
    """A learner of a game of two with a population, which does not train."""

    def __init__(self, process: LearnerProcess) -> None:
        self._process: LearnerProcess | None = process
        self.learner = process.learner
        assert self.learner.population is not None
        self.population = self.learner.population
        self.checkpointer = process.trainer._checkpointer
        self.opponents = Opponents(self.learner, self.checkpointer)

    def stop(self) -> None:
        """End its learner, at the first call."""
        if self._process is not None:
            self._process.stop()
        self._process = None

    def against(self, member_id: int = 0) -> list[tuple[str, list[int]]]:
        """Against whom a member is evaluated, and which agents count, by line-up."""
        self.opponents.prepare(self.population, member_id)
        with self.learner.lock:
            line_ups = self.opponents.line_ups(self.population, member_id)
        assert len(line_ups) == self.opponents.count(self.population, member_id)
        return [(line_up.against, sorted(line_up.counted)) for line_up in line_ups]

    def trained(self, returns: Sequence[tuple[float, ...]], actor: str = "a0") -> None:
        """Training episodes with these returns, reported by one actor."""
        self.population.returns.extend((actor, r) for r in returns if any(r))

    def saw(self, returns: Sequence[tuple[float, ...]], actor: str = "a0") -> bool:
        """An evaluation with these returns, played by one actor."""
        return self.opponents.saw(self.population, [(actor, r) for r in returns])

    def joined(self, *actors: str) -> None:
        """Let actors join."""
        for actor in actors:
            request = JoinRequest(protocol_version=1, actor_id=actor, incarnation=1, train_slots=2, eval_slots=2)
            with self.learner.lock:
                self.learner.sessions.join(request)

    def generation(self, number: int) -> None:
        """Let all members begin this generation."""
        with self.learner.lock:
            self.learner.enter_generation(self.population.members, self.population.algorithm, number)

    def elite(self, generation: int) -> None:
        """Enter member 0 as it is now as this generation's elite."""
        files = self.population.policies.files(0)
        spaces, config, run = self.population.spaces, self.learner.config, self.learner.run
        member = TrainedMember(run, run.elite(generation), 0, generation, config, spaces, files)
        score = {"member_id": 0, "generation": generation, "fitness": 0.5}
        self.checkpointer.elites.enter(member, score)


@contextlib.contextmanager
def started(folder: Path, **sections: Any) -> Iterator[Run]:
    environment = {"name": "pettingzoo.classic.tictactoe_v3", "config": {}}
    folder.mkdir(exist_ok=True)
    training = {"pop_size": 2}
    path = folder / "job.yaml"
    written = write_config(path, algorithm={"name": "IPPO"}, environment=environment, training=training, **sections)
    config = load_config(written)
    process = LearnerProcess(config, new_run(config, folder / "runs"))
    env = load_environment(config.environment.name, config.environment.config)()
    with process.learner.lock:
        process.learner.create_population(read_spaces(env, None))
    env.close()
    run = Run(process)
    yield run
    run.stop()


@contextlib.contextmanager
def resumed(run: Run) -> Iterator[Run]:
    """The same run by another learner, from a checkpoint that is written now."""
    with run.learner.lock:
        captured = run.checkpointer.capture()
    run.checkpointer.write(captured)
    run.stop()
    after = Run(LearnerProcess(run.learner.config, run.learner.run, resume=True))
    yield after
    after.stop()


BY_SIDES = [("random", [0]), ("random", [1])]


def test_a_zero_sum_game_is_evaluated_by_sides_and_then_against_the_elite_too(tmp_path: Path) -> None:
    with started(tmp_path) as run:
        run.trained(GAME)
        assert run.against() == BY_SIDES == run.against(1)
        (event,) = [e for e in run.learner.events if e.startswith("zero-sum")]
        assert "player_1 and player_2" in event and "one policy plays several sides" in event
        assert run.checkpointer.sides == [["player_1"], ["player_2"]]
        run.elite(0)
        assert run.against() == BY_SIDES, "an elite of the same generation is not the one before"
        run.generation(1)
        elite = "the elite of generation 0"
        assert run.against() == [*BY_SIDES, (elite, [0]), (elite, [1])] and run.opponents.elite_plays
        with run.learner.lock:
            line_up = run.opponents.line_ups(run.population, 1)[2]
        fetched = [run.learner.policy(ref.sha256) for ref in line_up.policies]
        assert None not in fetched, "actors can fetch what plays"


def test_an_elite_that_is_written_plays_as_it_was(tmp_path: Path) -> None:
    with started(tmp_path) as run:
        run.elite(0)
        before = run.checkpointer.elites.before(1)
        assert before is not None
        run.checkpointer.elites.write(run.checkpointer.elites.unwritten())
        run.checkpointer.elites._opened = None
        read = run.checkpointer.elites.before(3)
        assert read is not None and read.files == before.files and read.generation == 0
        assert run.checkpointer.elites.before(0) is None


@pytest.mark.parametrize("returns", [TEAM, GAME[: FEWEST_EPISODES - 1], [(0.0, 0.0)] * 9, [*GAME, (1.0, 0.0)], []])
def test_other_games_are_played_by_the_member_alone(tmp_path: Path, returns: list[tuple[float, ...]]) -> None:
    with started(tmp_path) as run:
        run.trained(returns)
        assert run.against() == [("", [0, 1])]
        assert not run.checkpointer.sides and not run.opponents.elite_plays


def test_all_members_of_a_generation_are_evaluated_alike(tmp_path: Path) -> None:
    with started(tmp_path) as run:
        assert run.against() == [("", [0, 1])]
        run.trained(GAME)
        assert run.against(1) == [("", [0, 1])], "its generation is being evaluated already"
        run.generation(1)
        assert run.against() == BY_SIDES


def test_evaluation_episodes_tell_where_no_training_episode_ended(tmp_path: Path) -> None:
    with started(tmp_path) as run:
        assert run.against() == [("", [0, 1])]
        assert not run.saw(GAME[:1])
        assert run.saw(GAME)
        assert run.against(1) == [("", [0, 1])]
        run.generation(1)
        assert run.against() == BY_SIDES


@pytest.mark.parametrize("first", [TEAM, [(1e30, 1e30)], [(0.0, 1e-30)]])
def test_one_lying_actor_makes_no_game_of_what_is_none(tmp_path: Path, first: list[tuple[float, ...]]) -> None:
    with started(tmp_path) as run:
        run.joined("honest", "liar")
        run.against()
        run.trained(first, "honest")
        assert not run.saw([*GAME, (1e30, -1e30)], "liar")
        run.generation(1)
        assert run.against() == [("", [0, 1])]


def test_where_several_train_two_must_have_seen_returns_that_cancel(tmp_path: Path) -> None:
    with started(tmp_path) as run:
        run.joined("a", "b", "c")
        run.trained(GAME * 100, "a")
        assert run.against() == [("", [0, 1])] and not run.saw(GAME, "a")
        assert run.saw(GAME, "b")
        run.generation(1)
        assert run.against() == BY_SIDES


@pytest.mark.parametrize("lie", [(5.0, 0.0), (1e30, 1.0), (-1e30, 0.0), (1e-300, 0.0)])
def test_one_lying_actor_ends_no_game(tmp_path: Path, lie: tuple[float, float]) -> None:
    with started(tmp_path) as run:
        run.joined("honest", "liar", "other")
        run.trained(GAME, "honest")
        run.trained(GAME, "liar")
        assert run.against() == BY_SIDES
        for generation in (1, 2, 3):
            run.generation(generation)
            run.trained([lie] * 50, "liar")
            run.trained(GAME, "honest")
            assert run.against() == BY_SIDES
        run.generation(4)
        run.trained([lie], "liar")
        run.trained([(2.0, 3.0)], "other")
        assert run.against() == [("", [0, 1])], "two say so"


def test_a_game_that_turns_out_not_to_be_zero_sum_is_played_alone_again(tmp_path: Path) -> None:
    with started(tmp_path) as run:
        run.trained(GAME)
        assert run.against() == BY_SIDES
        run.generation(1)
        run.trained([*GAME, (5.0, 0.0)])
        assert run.against() == [("", [0, 1])] and not run.checkpointer.sides


def test_what_the_configuration_says_comes_first(tmp_path: Path) -> None:
    with started(tmp_path / "a", fitness={"opponents": {}}) as run:
        run.trained(GAME)
        assert run.against() == [("", [0, 1])] and not run.saw(GAME)
    with started(tmp_path / "b", fitness={"opponents": {"player_1": "random"}}) as run:
        run.trained(GAME)
        assert run.against() == [("random as player_1", [1])]
    with started(tmp_path / "c", fitness={"opponents": {"player_2": "elite"}}) as run:
        assert run.against() == [("itself as player_2", [0])]
        run.elite(0)
        run.generation(1)
        assert run.against() == [("the elite of generation 0 as player_2", [0])]
    with started(tmp_path / "d", fitness={"agents": ["player_2"]}) as run:
        run.trained(GAME)
        assert run.against() == [("random", [1])], "only the side whose return counts"


def test_a_resumed_run_remembers_the_returns_that_it_has_seen(tmp_path: Path) -> None:
    for others, expected in (([(1.0, -1.0)], BY_SIDES), ([(2.0, 1.0)], [("", [0, 1])])):
        with started(tmp_path / str(len(expected))) as run:
            assert run.against() == [("", [0, 1])]
            run.trained([(0.1 + 0.2, -0.3), (-1e-17, 1e-17)])
            run.trained(others, "another")
            with resumed(run) as after:
                assert list(after.population.returns) == list(run.population.returns) != []
                assert after.against(1) == [("", [0, 1])], "as its generation's other member"
                after.generation(1)
                assert after.against() == expected


def test_a_resumed_run_goes_on_by_sides_with_the_generation_that_begins_with_them(tmp_path: Path) -> None:
    with started(tmp_path) as run:
        assert run.against() == [("", [0, 1])]
        assert run.saw(GAME)
        with resumed(run) as after:
            assert after.against(1) == [("", [0, 1])], "as its generation's other member"
            after.generation(1)
            assert after.against() == BY_SIDES
            with resumed(after) as again:
                again.generation(2)
                assert again.against() == BY_SIDES


@pytest.mark.parametrize("algorithm", ["IPPO", "PQN", "QMIX", "VDN"])
def test_a_team_is_told_that_rewards_which_cancel_teach_it_nothing(algorithm: str) -> None:
    agents = [AgentSpec(f"player_{i}", Box("float32", (1,), (0.0,), (1.0,)), Discrete(2)) for i in (1, 2)]
    made = parse_config({"algorithm": {"name": algorithm}, "environment": {"name": "none"}, "training": {}})
    told = zero_sum_event([["player_1"], ["player_2"]], EnvironmentSpaces.build(agents), made)
    nothing = (
        f"{algorithm} learns the sum of all agents' rewards, which is zero, and so nothing: choose algorithm.name: "
        "IPPO or MAPPO"
    )
    assert told.endswith(nothing) == (algorithm != "IPPO")
