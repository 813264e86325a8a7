"""Runs whose evaluation would cost more than a tenth of their env steps: what is played, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.processes import covey_json, write_config

MEMBERS, EPISODES, LENGTH = 8, 16, 25
HALVED = 8 * 4 + 4 * 4 + 2 * 8
"""Episodes of eight members of which half stop after 4, half of those left after 8."""


@pytest.mark.parametrize(
    ("mode", "pop_size", "evo_steps", "played"),
    [
        ("generational", MEMBERS, 200, 2 * HALVED),
        # Two generations: a tenth of one pays for one halving, a tenth of both for none.
        ("generational", MEMBERS, 3200, (8 * 8 + 4 * 8) + MEMBERS * EPISODES),
        ("generational", 1, 200, 2 * EPISODES),
        ("steady_state", 3, 200, 2 * 3 * EPISODES),
    ],
)
def test_a_run_plays_what_is_planned_and_confirms_the_best_by_fresh_episodes(
    tmp_path: Path, mode: str, pop_size: int, evo_steps: int, played: int
) -> None:
    training = {
        **{"max_steps": 2 * evo_steps, "evo_steps": evo_steps, "pop_size": pop_size},
        **{"eval_loop": EPISODES // 4, "confirm_episodes": 9},  # fewer than the best so far is confirmed by
    }
    config = write_config(tmp_path / "job.yaml", training=training, evolution={"mode": mode})
    result = covey_json("train", config, "--runs", tmp_path / "runs", "--json")
    assert result["state"] == "complete" and result["env_steps"] == 2 * evo_steps * pop_size
    assert result["eval_env_steps"] == LENGTH * (played + 9)
    assert result["best_fitness_episodes"] == 9 and result["best_confirmed"]
    members = json.loads((Path(result["run_dir"]) / "members.json").read_text())["members"]
    assert len(members) == pop_size and all("fitness" in m and m["fitness_stderr"] > 0 for m in members)
