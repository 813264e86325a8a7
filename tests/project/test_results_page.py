"""The page of learning results says what the data say, and no more."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from benchmarks.learning import entry
from benchmarks.pages import results
from benchmarks.pages.learning_jobs import FIRST_SEED, JOBS, Job
from benchmarks.pages.levels import task
from tests.support.processes import ROOT, covey, write_config

from covey.config import load_config


def run(job: str, seed: int, score: float, config: str = "", **told: Any) -> dict[str, Any]:
    return {
        "job": job,
        "seed": seed,
        "config": f"examples/{config or job}.yaml",
        "settings": {"training.pop_size": 1},
        "read_at": [100_000],
        "members": 1,
        "wall_s": 100.0 + seed,
        "env_steps": 250_000,
        "episodes": 1000,
        "score": score,
        "stderr": 0.5,
        "curve": [[50_000, score - 20, 0.5, 20.0], [150_000, score - 10, 0.5, 60.0], [250_000, score, 0.5, 100.0]],
        "games": [],
    } | told


def game(seed: int, lost: tuple[float, float]) -> dict[str, Any]:
    games = [
        {"seat": f"player_{i + 1}", "against": "random", "games": 1000, "win": 1 - x, "draw": 0.0, "loss": x}
        for i, x in enumerate(lost)
    ]
    return run("tictactoe", seed, 0.0, games=games)


def test_a_job_is_told_by_its_median_and_what_lies_around_it() -> None:
    text = results.page([run("ippo_spread", seed, score) for seed, score in enumerate((-40.0, -36.8, -30.0))])
    assert "| [ippo_spread](#ippo_spread) | 3 | 250,000 | 101 s | **-36.8** | -35.6 (-40.0 to -30.0) |" in text
    assert "| 3 | 250,000 | 101 s | **-36.8** | -35.6 (-40.0 to -30.0) | -40.0 | -30.0 |" in text
    assert "| 3 | 100,000 | 20 s | **-56.8** |" in text, "after fewer env steps: the generation that had ended by then"
    assert "| 1 | 101 s | -36.8 ± 0.5 |" in text
    assert "covey train examples/ippo_spread.yaml --set training.seed=0 --set training.pop_size=1" in text
    assert "| QMIX (EPyMARL) | 2 M | -28.7 |" in text
    assert "speaker_listener" not in text, "nothing was run there"


def test_few_runs_have_no_interval() -> None:
    text = results.page([run("ippo_spread", 0, -40.0), run("ippo_spread", 1, -30.0)])
    assert "| 2 | 250,000 | 100 s | **-35.0** | -35.0 | -40.0 | -30.0 |" in text


def test_a_game_is_told_by_its_shares_in_each_seat() -> None:
    text = results.page([game(0, (0.01, 0.03)), game(1, (0.02, 0.01))])
    assert "| random, as player_1: lost, won, drawn | random, as player_2: lost, won, drawn |" in text
    assert "1.0%, 99.0%, 0.0% | 3.0%, 97.0%, 0.0%" in text
    assert "| loses 3.0% at worst |" in text
    assert "python -m benchmarks.games RUN --games 1000" in text


def test_the_command_writes_page_and_plots_and_notices_what_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "PAGE", tmp_path / "results.md")
    monkeypatch.setattr(results, "DATA", tmp_path / "results.json")
    results.DATA.write_text(json.dumps([run("ippo_spread", 0, -36.0), game(0, (0.0, 0.1))]))
    monkeypatch.setattr("sys.argv", ["results.py"])
    results.main()
    pictures = sorted(tmp_path.glob("*.png"))
    assert [p.name for p in pictures] == ["results_simple_spread_v3_discrete_actions.png"]
    assert all(f"]({p.name})" in results.PAGE.read_text() for p in pictures)
    assert [struct.unpack(">II", p.read_bytes()[16:24]) for p in pictures] == [(770, 418)]

    drawn = pictures[0].read_bytes()
    results.main()
    assert pictures[0].read_bytes() == drawn
    monkeypatch.setattr("sys.argv", ["results.py", "--check"])
    results.main()
    results.DATA.write_text(json.dumps([run("ippo_spread", 0, -37.0)]))
    with pytest.raises(SystemExit, match="make results"):
        results.main()


def test_a_run_of_a_sweep_becomes_an_entry(tmp_path: Path) -> None:
    """What `covey sweep` leaves behind has all that the page reads, for games as well."""
    config = write_config(tmp_path / "job.yaml", training={"max_steps": 120, "evo_steps": 60, "pop_size": 2})
    done = covey("sweep", config, "--seeds", "7", "--runs", tmp_path, "--episodes", "4")
    assert done.returncode == 0, done.stderr
    found = entry("job", Job("job.yaml"), tmp_path / "job" / "seed=7")
    assert (found["seed"], found["members"], found["env_steps"], found["episodes"]) == (7, 2, 120, 4)
    steps, _, _, seconds = zip(*found["curve"], strict=True)
    assert steps == (60, 120) and all(x > 0 for x in seconds)
    assert found.keys() == run("job", 0, 0.0).keys()


@pytest.mark.parametrize("name", JOBS)
def test_the_jobs_are_of_known_tasks_and_of_seeds_that_were_not_used(name: str) -> None:
    job = JOBS[name]
    settings = [f"{key}={value}" for key, value in job.settings.items()]
    environment = load_config(ROOT / "examples" / job.config, settings).environment
    assert task(environment.name, environment.config).levels
    assert min(job.seeds) >= FIRST_SEED > 99
