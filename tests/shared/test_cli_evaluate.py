"""`covey evaluate` on a run directory as a learner leaves it, through the real environment."""

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import yaml

from covey.cli import run
from covey.cli.evaluate import episode_seed
from covey.envs import load_environment, read_spaces
from covey.networks import MLP, Input, NetworkSpec
from covey.run_directory import RunDirectory
from covey.spaces_json import spaces_to_json
from covey_server.checkpoint import save_checkpoint
from covey_server.member import Member, Network

CONFIG: dict[str, Any] = {
    "algorithm": {"name": "MATD3"},
    "environment": {"name": "mpe2.simple_speaker_listener_v4", "config": {"continuous_actions": True}},
    "training": {},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run with the untrained members 3 and 5, of which 5 is the best."""
    directory = RunDirectory(tmp_path_factory.mktemp("runs") / "job-1")
    directory.path.mkdir()
    directory.config.write_text(yaml.safe_dump(CONFIG))
    environment = CONFIG["environment"]
    spaces = read_spaces(load_environment(environment["name"], environment["config"])())
    members = []
    for member_id in (3, 5):
        rng = np.random.default_rng(member_id)
        networks = {}
        for agent in spaces.agents:
            spec = NetworkSpec(
                inputs=(Input("observation", agent.observation.width, MLP(hidden_size=(8,))),),
                head=MLP(hidden_size=(8,)),
                outputs=agent.action.width,
            )
            networks[f"actor/{agent.agent_id}"] = Network.fresh(spec, rng)
        members.append(Member(member_id=member_id, networks=networks, hyperparameters={"learn_step": 25}))
    state = {"best_member": 5, "config": CONFIG, "spaces": spaces_to_json(spaces)}
    save_checkpoint(directory.checkpoints, state, members, keep=1)
    return directory


def score(capsys: pytest.CaptureFixture[str], directory: RunDirectory, *arguments: str) -> dict[str, Any]:
    assert run(["evaluate", str(directory.path), "--json", *arguments]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_the_best_member_is_scored_summed_over_agents(
    finished: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    result = score(capsys, finished, "--episodes", "6")
    assert set(result) == {"mean_return", "stderr", "per_agent", "episodes", "member_id"}
    assert (result["member_id"], result["episodes"]) == (5, 6)
    assert list(result["per_agent"]) == ["speaker_0", "listener_0"]
    assert result["mean_return"] == pytest.approx(sum(result["per_agent"].values()))
    assert result["mean_return"] < 0 < result["stderr"]


def test_equal_seeds_give_equal_scores_and_others_do_not(
    finished: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    first = score(capsys, finished, "--episodes", "3", "--seed", "1")
    assert score(capsys, finished, "--episodes", "3", "--seed", "1") == first
    assert score(capsys, finished, "--episodes", "3", "--seed", "2")["mean_return"] != first["mean_return"]
    other = score(capsys, finished, "--episodes", "3", "--seed", "1", "--member", "3")
    assert other["member_id"] == 3
    assert other["mean_return"] != first["mean_return"]


def test_one_episode_has_no_standard_error(finished: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    assert score(capsys, finished, "--episodes", "1")["stderr"] is None


def test_a_member_that_does_not_live_is_one_sentence(
    finished: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", str(finished.path), "--member", "4"]) == 2
    assert "expected one of 3, 5" in capsys.readouterr().err


def test_seeds_are_their_own() -> None:
    seeds = {episode_seed(s, k) for s in range(4) for k in range(500)}
    assert len(seeds) == 2000
    assert all(1 << 31 <= seed < 1 << 32 for seed in seeds), "training and selection use seeds below 2^31"


def test_it_needs_no_torch(finished: RunDirectory) -> None:
    program = (
        "import sys; sys.modules['torch'] = None; from covey.cli import run; "
        f"sys.exit(run(['evaluate', {str(finished.path)!r}, '--episodes', '2']))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "member 5: -" in result.stdout
