"""`covey export`, and acting by what it wrote."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.untrained_runs import speaker_listener, tictactoe

import covey
from covey.cli import run
from covey.cli.evaluate import play, unseen_episode_seed
from covey.envs import load_environment
from covey.errors import SpaceError, StorageError
from covey.run.directory import RunDirectory
from covey.run.trained import TrainedMember


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return speaker_listener(tmp_path_factory.mktemp("runs") / "job-1")


@pytest.fixture(scope="module")
def gaussian(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return speaker_listener(tmp_path_factory.mktemp("runs") / "job-2", "IPPO", action_std_init=-1.0)


@pytest.fixture(scope="module")
def game(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return tictactoe(tmp_path_factory.mktemp("runs") / "game-1")


def exported(directory: RunDirectory, *arguments: str) -> covey.Policy:
    assert run(["export", str(directory.path), *arguments]) == 0
    out = Path(arguments[arguments.index("--out") + 1]) if "--out" in arguments else directory.path / "policy-5"
    return covey.load_policy(out)


def test_files_and_index(finished: RunDirectory, tmp_path: Path) -> None:
    exported(finished, "--out", str(tmp_path / "out"), "--member", "3")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        *("policy.json", "speaker_0.safetensors", "speaker_0.json", "listener_0.safetensors", "listener_0.json")
    }
    index = json.loads((tmp_path / "out" / "policy.json").read_text())
    assert index["agents"] == {"speaker_0": "speaker_0.safetensors", "listener_0": "listener_0.safetensors"}
    assert (index["member_id"], index["environment"]["name"]) == (3, "mpe2.simple_speaker_listener_v4")
    spec = json.loads((tmp_path / "out" / "listener_0.json").read_text())
    assert spec["head"] == "deterministic" and spec["action"]["shape"] == [5]


@pytest.mark.parametrize("name", ["finished", "gaussian"])
def test_the_policy_plays_as_evaluation_does(name: str, request: pytest.FixtureRequest) -> None:
    directory: RunDirectory = request.getfixturevalue(name)
    policy = exported(directory)
    env = load_environment("mpe2.simple_speaker_listener_v4", {"continuous_actions": True})()
    totals = dict.fromkeys(env.possible_agents, 0.0)
    for episode in range(2):
        seen, _ = env.reset(seed=unseen_episode_seed(4, episode))
        while env.agents:
            seen, rewards, _, _, _ = env.step(policy.act(seen))
            totals = {agent: totals[agent] + rewards[agent] for agent in totals}
    env.close()
    expected = play(TrainedMember.read(directory), 2, 4)["per_agent"]
    assert {agent: total / 2 for agent, total in totals.items()} == pytest.approx(expected, rel=1e-5)


def test_a_masked_game_is_played_with_its_masks(game: RunDirectory) -> None:
    from pettingzoo.classic import tictactoe_v3

    policy = exported(game)
    env = tictactoe_v3.env()
    env.reset(seed=0)
    moves = []
    totals = {"player_1": 0.0, "player_2": 0.0}
    for agent in env.agent_iter():
        observation, _, terminated, truncated, _ = env.last()
        if terminated or truncated:
            env.step(None)
            continue
        assert observation is not None
        # Both ways to say what is legal, and the same answer.
        action = policy.act({agent: observation})[agent]
        plain = policy.act({agent: observation["observation"]}, masks={agent: observation["action_mask"]})[agent]
        assert action == plain and observation["action_mask"][action] == 1
        moves.append(int(action))
        env.step(action)
        totals = {a: totals[a] + reward for a, reward in env.rewards.items()}
    assert len(moves) >= 5 and len(set(moves)) == len(moves)
    # Nothing in the game is random: every episode is this one.
    assert play(TrainedMember.read(game), 1, 0)["per_agent"] == totals


def test_batches_are_what_single_observations_give(finished: RunDirectory) -> None:
    policy = exported(finished)
    rng = np.random.default_rng(0)
    batch = {"speaker_0": rng.normal(size=(4, 3)), "listener_0": rng.normal(size=(4, 11))}
    together = policy.act(batch)
    assert {a: (v.shape, v.dtype) for a, v in together.items()} == {
        "speaker_0": ((4, 3), np.float32),
        "listener_0": ((4, 5), np.float32),
    }
    for i in range(4):
        alone = policy.act({agent: rows[i] for agent, rows in batch.items()})
        for agent in batch:
            np.testing.assert_allclose(together[agent][i], alone[agent], rtol=1e-5)
    only = policy.act({"listener_0": batch["listener_0"]})
    assert list(only) == ["listener_0"]
    np.testing.assert_allclose(only["listener_0"], together["listener_0"], rtol=1e-5)


def test_samples_repeat_with_a_generator_and_scatter_around_the_mean(gaussian: RunDirectory) -> None:
    policy = exported(gaussian)
    seen = {"listener_0": np.zeros((2000, 11), np.float32)}
    mean = policy.act({"listener_0": np.zeros(11)})["listener_0"]

    def sampled(seed: int) -> Any:
        return policy.act(seen, deterministic=False, rng=np.random.default_rng(seed))["listener_0"]

    np.testing.assert_array_equal(sampled(1), sampled(1))
    assert (sampled(1) != sampled(2)).any()
    inside = sampled(1)
    # exp(-1) in units of [-1, 1] is half of that in those of [0, 1]; clipping takes a little.
    assert inside.std(0) == pytest.approx(np.full(5, np.exp(-1) / 2), rel=0.1)
    assert inside.mean(0) == pytest.approx(mean, abs=0.03)


def test_sampled_choices_are_legal(game: RunDirectory) -> None:
    policy = exported(game)
    mask = np.tile(np.array([0, 1, 0, 0, 1, 0, 0, 0, 1], np.int8), (300, 1))
    seen = {"player_2": {"observation": np.zeros((300, 3, 3, 2), np.int8), "action_mask": mask}}
    drawn = policy.act(seen, deterministic=False, rng=np.random.default_rng(0))["player_2"]
    assert set(drawn.tolist()) == {1, 4, 8}


@pytest.mark.parametrize(
    ("seen", "match"),
    [
        ({"nobody": np.zeros(3)}, "agent 'nobody': unknown, expected some of speaker_0, listener_0"),
        ({"speaker_0": np.zeros(4)}, r"agent 'speaker_0': observation of shape \(4,\), expected \(3,\) or a batch"),
        ({"speaker_0": np.zeros((2, 3)), "listener_0": np.zeros((3, 11))}, "expected the same for all agents"),
    ],
)
def test_observations_that_do_not_fit_are_one_sentence(
    finished: RunDirectory, seen: dict[str, Any], match: str
) -> None:
    with pytest.raises(SpaceError, match=match):
        exported(finished).act(seen)


def test_it_acts_without_torch(finished: RunDirectory) -> None:
    exported(finished)
    program = (
        "import sys; sys.modules['torch'] = None; import covey; "
        f"policy = covey.load_policy({str(finished.path / 'policy-5')!r}); "
        "print(policy.act({'speaker_0': [1.0, 0.0, 0.0]})['speaker_0'].shape)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout == "(3,)\n", result.stderr


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"format": 9}, "format 9, expected 1"),
        ({"agents": dict.fromkeys(("speaker_0", "listener_0"), "../x.safetensors")}, "expected a plain name"),
        ({"agents": {"speaker_0": "listener_0.safetensors", "listener_0": "listener_0.safetensors"}}, "is made for"),
        ({"spaces": 3}, "is no export of covey"),
    ],
)
def test_an_index_that_was_changed_is_refused(
    finished: RunDirectory, tmp_path: Path, change: dict[str, Any], match: str
) -> None:
    exported(finished, "--out", str(tmp_path))
    index = tmp_path / "policy.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | change))
    with pytest.raises(StorageError, match=match):
        covey.load_policy(index)


def test_a_file_that_is_damaged_or_missing_is_refused(finished: RunDirectory, tmp_path: Path) -> None:
    exported(finished, "--out", str(tmp_path))
    file = tmp_path / "listener_0.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(StorageError, match="safetensors"):
        covey.load_policy(tmp_path)
    file.unlink()
    with pytest.raises(StorageError, match="cannot be read"):
        covey.load_policy(tmp_path)
    with pytest.raises(StorageError, match="cannot be read"):
        covey.load_policy(tmp_path / "nowhere")


def test_a_directory_that_cannot_be_written_is_one_sentence(
    finished: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("")
    assert run(["export", str(finished.path), "--out", str(tmp_path / "taken")]) == 7
    assert "--out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("observation", "says"),
    [
        (np.zeros((3, 3, 2), np.int8), "agent 'player_1': no mask, expected 1 or 0 for each of 9 values of its action"),
        (np.zeros((4, 3, 3, 2), np.int8), "agent 'player_1': no mask, expected 1 or 0"),
        ({"observation": np.zeros((3, 3, 2), np.int8)}, "agent 'player_1': no mask, expected 1 or 0"),
        ({"action_mask": np.ones(9, np.int8)}, "a dictionary of action_mask, expected observation and action_mask"),
    ],
)
def test_an_agent_that_is_restricted_needs_its_mask(game: RunDirectory, observation: Any, says: str) -> None:
    with pytest.raises(SpaceError, match=says):
        exported(game).act({"player_1": observation})
