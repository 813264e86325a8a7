"""The page of learning results says what the data say, and no more."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from benchmarks.pages import results


def run(job: str, seed: int, score: float, config: str = "") -> dict[str, Any]:
    return {
        "job": job,
        "seed": seed,
        "config": f"examples/{config or job}.yaml",
        "wall_s": 100.0 + seed,
        "env_steps_per_member": 250_000.0,
        "env_steps_per_s": 5000.0,
        "evaluations": [{"options": [], "mean_return": score, "stderr": 0.5}],
        "curve": [[50_000, -60.0], [250_000, score]],
    }


def game(seed: int, lost: tuple[float, float]) -> dict[str, Any]:
    me, other = "player_1", "player_2"
    evaluations = []
    for share in lost:
        outcomes = {me: {"win": 1 - share, "draw": 0.0, "loss": share}, other: {"win": share, "draw": 0.0, "loss": 0.5}}
        judged = {"options": ["--play", f"{other}=random"], "mean_return": 0.0, "stderr": 0.0, "outcomes": outcomes}
        evaluations.append(judged)
        me, other = other, me
    return run("tictactoe", seed, 0.0) | {"evaluations": evaluations}


def test_a_job_is_told_by_its_median_and_where_it_lies_between_random_play_and_the_bound() -> None:
    text = results.page([run("ippo_spread", seed, score) for seed, score in enumerate((-40.0, -36.85, -30.0))])
    assert "Median of 3 seeds: **-36.9** (from -40.0 to -30.0). 75% of the way" in text
    assert "| 1 | 250,000 | 101 s | 5,000 | -36.9 ± 0.5 |" in text
    assert "covey train examples/ippo_spread.yaml --set training.seed=0" in text
    assert "speaker_listener" not in text, "nothing was run there"


def test_whether_agents_communicate_is_judged_by_the_level_that_needs_no_communication() -> None:
    stuck = results.page([run("ippo_speaker_listener", 0, -29.0)])
    assert "no notice of what it is told" in stuck
    assert "Learners that are independent stop there" in stuck
    assert "Learners that are independent" not in results.page([run("maddpg_speaker_listener", 0, -29.0)])
    talking = results.page([run("ippo_speaker_listener", 0, -20.0)])
    assert "the message is used" in talking
    assert "no notice" not in talking


def test_a_game_is_told_by_its_shares_in_each_seat() -> None:
    text = results.page([game(0, (0.01, 0.03)), game(1, (0.02, 0.01))])
    assert "as player_1: lost, won, drawn | as player_2: lost, won, drawn" in text
    assert "1.0%, 99.0%, 0.0% | 3.0%, 97.0%, 0.0%" in text
    assert "worst of 2 seeds loses 2.0% as player_1 and 3.0% as player_2" in text
    assert "covey evaluate RUN --episodes 400 --seed 1 --play player_1=random" in text


def test_the_command_writes_page_and_plots_and_notices_what_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "PAGE", tmp_path / "results.md")
    monkeypatch.setattr(results, "DATA", tmp_path / "results.json")
    results.DATA.write_text(json.dumps([run("ippo_spread", 0, -36.0), game(0, (0.0, 0.1))]))
    monkeypatch.setattr("sys.argv", ["results.py"])
    results.main()
    pictures = sorted(tmp_path.glob("*.png"))
    assert [p.name for p in pictures] == ["results_simple_spread_v3.png", "results_tictactoe_v3.png"]
    assert all(f"]({p.name})" in results.PAGE.read_text() for p in pictures)
    assert [struct.unpack(">II", p.read_bytes()[16:24]) for p in pictures] == [(770, 418)] * 2

    drawn = pictures[0].read_bytes()
    results.main()
    assert pictures[0].read_bytes() == drawn
    monkeypatch.setattr("sys.argv", ["results.py", "--check"])
    results.main()
    results.DATA.write_text(json.dumps([run("ippo_spread", 0, -37.0)]))
    with pytest.raises(SystemExit, match="make results"):
        results.main()
