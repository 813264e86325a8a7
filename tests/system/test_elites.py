"""The elite of each generation is kept, can be played, and belongs to the checkpoints of its run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.support.processes import covey, covey_json, write_config

from covey.run.checkpoint_format import checkpoint_paths
from covey.run.directory import RunDirectory

GENERATIONS = 6


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A complete deterministic run, all of whose checkpoints stay."""
    folder = tmp_path_factory.mktemp("elites")
    config = write_config(
        folder / "job.yaml",
        training={
            **{"max_steps": 60 * GENERATIONS, "evo_steps": 60, "pop_size": 2},
            **{"confirm_episodes": 2, "eval_loop": 1, "deterministic": True},
        },
        checkpoint={"keep": 99, "keep_elites": 4},
    )
    return RunDirectory.open(Path(covey_json("train", config, "--runs", folder / "runs", "--json")["run_dir"]))


def files(run: RunDirectory) -> dict[str, bytes]:
    """Every file of the elites by its path."""
    return {p.relative_to(run.elites).as_posix(): p.read_bytes() for p in run.elites.rglob("*") if p.is_file()}


def scores(run: RunDirectory) -> dict[int, Any]:
    return {g: json.loads((run.elite(g) / "score.json").read_text()) for g in run.elite_generations()}


def test_elites_of_the_whole_run_are_kept(run: RunDirectory) -> None:
    kept = scores(run)
    assert list(kept) == [0, 2, 4, 5], "four of six: the first, the newest, and others at equal distances"
    assert sorted(p.name for p in run.elites.iterdir()) == ["0", "2", "4", "5"]
    told = {m["member_id"]: m for m in covey_json("lineage", run.path, "--json")["members"]}
    for generation, score in kept.items():
        member = told[score["member_id"]]
        died = GENERATIONS if member["died_generation"] is None else member["died_generation"]
        assert score["generation"] == generation and member["generation"] <= generation < died
    # In the last generation the result is of fresh episodes, by which the winner is confirmed.
    assert kept[5]["member_id"] == json.loads(run.result.read_text())["best_member"]


def test_the_elite_of_a_generation_is_played_as_it_was_then(run: RunDirectory) -> None:
    kept = scores(run)
    for generation in (0, 5):
        played = covey_json("evaluate", run.path, "--generation", generation, "--episodes", 200, "--json")
        assert (played["member_id"], played["generation"]) == (kept[generation]["member_id"], generation)
        error = played["stderr"] + kept[generation]["fitness_stderr"] + 1
        assert played["mean_return"] == pytest.approx(kept[generation]["fitness"], abs=8 * error)
    done = covey("evaluate", run.path, "--generation", 3)
    assert done.returncode == 2 and "expected one of 0, 2, 4, 5" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("damaged", [False, True])
def test_a_run_that_falls_back_loses_elites_of_lost_generations_and_makes_them_again(
    run: RunDirectory, tmp_path: Path, damaged: bool
) -> None:
    back = RunDirectory(tmp_path / run.name)
    shutil.copytree(run.path, back.path)
    back.result.unlink()  # as if it had been killed before its end
    # The checkpoints of the beginnings of generations 0 to 5, and the one of the end: the fourth begins generation 3.
    for path in checkpoint_paths(back.checkpoints)[4:]:
        if damaged:
            (path / "state.json").write_text("{}")
        else:
            shutil.rmtree(path)
    for generation in back.elite_generations():
        (back.elite(generation) / "mark").write_text("of the first time")
    resumed = covey_json("train", "--resume", back.path, "--json")
    assert resumed["state"] == "complete"
    marked = {g for g in back.elite_generations() if (back.elite(g) / "mark").exists()}
    assert marked == {0, 2}, "those of generations that were not lost"
    for generation in marked:
        (back.elite(generation) / "mark").unlink()
    assert files(back) == files(run)


def test_fewer_are_kept_where_a_resumed_run_says_so(run: RunDirectory, tmp_path: Path) -> None:
    more = RunDirectory(tmp_path / run.name)
    shutil.copytree(run.path, more.path)
    changes = ["--set", f"training.max_steps={60 * GENERATIONS + 60}", "--set", "checkpoint.keep_elites=2"]
    covey_json("train", "--resume", more.path, *changes, "--json")
    assert more.elite_generations() == [0, GENERATIONS]
