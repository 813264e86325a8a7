"""The best policy that a run has had is kept, however its members go on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.processes import covey, covey_json, write_config

import covey as library


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose generations are long enough for a few confirming episodes."""
    folder = tmp_path_factory.mktemp("kept")
    training = {"max_steps": 6000, "evo_steps": 2000, "pop_size": 4, "confirm_episodes": 16}
    config = write_config(folder / "job.yaml", training=training)
    return Path(covey_json("train", config, "--runs", folder / "runs", "--json")["run_dir"])


def test_the_best_is_kept_with_its_score_and_only_a_better_one_replaces_it(run: Path) -> None:
    score = json.loads((run / "best" / "score.json").read_text())
    assert score["episodes"] >= 10 and sum(score["per_agent"].values()) == pytest.approx(score["fitness"])
    result = json.loads((run / "result.json").read_text())
    assert score["fitness"] >= result["best_fitness"], "the run's result was confirmed too"
    events = covey_json("status", run, "--json")["events"]
    told = [float(e.partition("fitness ")[2].split()[0]) for e in events if e.startswith("best so far")]
    assert told == sorted(told) and told[-1] == pytest.approx(score["fitness"], abs=0.01)
    assert [p.name for p in run.glob("best*")] == ["best"]


def test_it_is_what_is_evaluated_and_exported(run: Path, tmp_path: Path) -> None:
    score = json.loads((run / "best" / "score.json").read_text())
    played = covey_json("evaluate", run, "--episodes", 200, "--json")
    assert (played["member_id"], played["generation"]) == (score["member_id"], score["generation"])
    assert played["policy"] == "best" and covey_json("evaluate", run, "--member", "best", "--json")["policy"] == "best"
    assert played["mean_return"] == pytest.approx(score["fitness"], abs=6 * (score["fitness_stderr"] + 1))
    assert covey("export", run, "--out", tmp_path / "policy").returncode == 0
    for folder in (run / "best", tmp_path / "policy"):
        policy = library.load_policy(folder)
        assert policy.spaces.agent_ids == ("speaker_0", "listener_0")
    assert (run / "best" / "policy.json").read_text() == (tmp_path / "policy" / "policy.json").read_text()


def test_a_damaged_one_is_a_sentence_and_members_can_be_named(run: Path, tmp_path: Path) -> None:
    index = run / "best" / "policy.json"
    text = index.read_text()
    try:
        index.write_text("{}")
        done = covey("evaluate", run, "--episodes", 1)
        assert done.returncode == 7 and "--member" in done.stderr and "Traceback" not in done.stderr
        living = covey_json("members", run, "--json")["members"][0]["member_id"]
        assert covey("evaluate", run, "--episodes", 1, "--member", living).returncode == 0
    finally:
        index.write_text(text)


@pytest.mark.parametrize("deterministic", [False, True])
def test_its_episodes_cost_a_twentieth_at_most(tmp_path: Path, deterministic: bool) -> None:
    training = {
        **{"max_steps": 3000, "evo_steps": 1000, "pop_size": 4, "confirm_episodes": 100, "eval_loop": 1},
        "deterministic": deterministic,
    }
    config = write_config(tmp_path / "job.yaml", training=training)
    result = covey_json("train", config, "--runs", tmp_path / "runs", "--json")
    assert result["state"] == "complete" and result["env_steps"] == 12_000
    fitness_episodes = 2 * 4 * 4 + 4 * 100 + 100  # two generations of four members, the last one and its best at length
    assert result["eval_env_steps"] <= 25 * fitness_episodes + 0.05 * 12_000 + 25 * 4
