"""Whose policies `covey evaluate`, `render` and `export` take: the best one's, a living member's, an elite's."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.untrained_runs import speaker_listener

import covey
from covey.cli import run
from covey.run.directory import RunDirectory
from covey.run.kept import write_kept
from covey.run.trained import TrainedMember


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run that keeps nothing beside its checkpoint; of the members 3 and 5 the latter is the best."""
    return speaker_listener(tmp_path_factory.mktemp("runs") / "job-1")


@pytest.fixture(scope="module")
def kept(plain: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """The same, whose best policy so far is member 3's, and which keeps the elites of generations 0, 4 and 9."""
    directory = RunDirectory(tmp_path_factory.mktemp("runs") / "job-2")
    shutil.copytree(plain.path, directory.path)
    of = {member_id: TrainedMember.read(directory, member_id) for member_id in (3, 5)}
    write_kept(directory.best, replace(of[3], generation=7), {"member_id": 3, "generation": 7, "fitness": 1.0})
    for generation, member_id in ((0, 3), (4, 5), (9, 3)):
        elite = replace(of[member_id], generation=generation)
        score = {"member_id": member_id, "generation": generation, "fitness": float(generation)}
        write_kept(directory.elite(generation), elite, score)
    return directory


def evaluated(capsys: pytest.CaptureFixture[str], directory: RunDirectory, *options: str) -> dict[str, Any]:
    assert run(["evaluate", str(directory.path), "--episodes", "2", "--json", *options]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


@pytest.mark.parametrize(
    ("options", "whose"),
    [
        ((), (3, 7, "best")),
        (("--member", "best"), (3, 7, "best")),
        (("--member", "3"), (3, 2, "checkpoints/00000001")),
        (("--member", "5"), (5, 2, "checkpoints/00000001")),
        (("--generation", "0"), (3, 0, "elites/0")),
        (("--generation", "4"), (5, 4, "elites/4")),
        (("--generation", "9"), (3, 9, "elites/9")),
    ],
)
def test_it_is_said_whose_policies_were_played(
    kept: RunDirectory, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], whose: tuple[int, int, str]
) -> None:
    result = evaluated(capsys, kept, *options)
    assert (result["member_id"], result["generation"], result["policy"]) == whose
    living = evaluated(capsys, kept, "--member", str(whose[0]))
    assert result["per_agent"] == living["per_agent"], "the policies of that member"
    assert run(["evaluate", str(kept.path), "--episodes", "2", *options]) == 0
    assert f"member {whose[0]} of generation {whose[1]}: " in capsys.readouterr().out


def test_the_best_of_a_run_that_keeps_none_is_its_checkpoints(
    plain: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    for options in ((), ("--member", "best")):
        assert evaluated(capsys, plain, *options)["policy"] == "checkpoints/00000001"


def test_exports_of_generations_have_names_of_their_own(kept: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    for options, name in (
        (["--generation", "0"], "policy-generation-0"),
        (["--generation", "9"], "policy-generation-9"),
        (["--member", "best"], "policy-3"),
    ):
        assert run(["export", str(kept.path), *options]) == 0
        assert capsys.readouterr().out.strip() == str(kept.path / name / "policy.json")
        assert covey.load_policy(kept.path / name).spaces.agent_ids == ("speaker_0", "listener_0")
        shutil.rmtree(kept.path / name)
    assert covey.load_policy(kept.elite(4)).spaces.agent_ids == ("speaker_0", "listener_0")


def test_a_generation_is_drawn(kept: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x.gif"
    assert run(["render", str(kept.path), "--out", str(out), "--steps", "2", "--generation", "4"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{out}: 3 frames of member 5 of generation 4"


@pytest.mark.parametrize("command", ["evaluate", "render", "export"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--generation", "4", "--member", "3"], ["--member 3", "--generation 4", "leave one out"]),
        (["--generation", "4", "--member", "best"], ["--member best", "--generation 4", "leave one out"]),
        (["--generation", "5"], ["generation 5: its elite is not kept", "expected one of 0, 4, 9"]),
        (["--generation", "1" * 30], ["its elite is not kept", "expected one of 0, 4, 9"]),
        (["--member", "Best"], ["--member Best: expected the id of a living member, or best"]),
        (["--member", "-1"], ["--member -1: expected the id of a living member, or best"]),
        (["--member", "1" * 5000], ["expected the id of a living member, or best"]),
        (["--member", "4"], ["member 4 is not alive; alive: 3, 5"]),
    ],
)
def test_what_a_run_does_not_have_is_one_sentence(
    kept: RunDirectory,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    options: list[str],
    words: list[str],
) -> None:
    out = [] if command == "evaluate" else ["--out", str(tmp_path / "x.gif")]
    assert run([command, str(kept.path), *out, *options]) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert len(said.strip().splitlines()) == 1


def test_a_run_that_keeps_no_elites_says_so(plain: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(plain.path), "--generation", "0"]) == 2
    assert "keeps no elites of generations; leave --generation out" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["policy.json", "score.json", "speaker_0.safetensors"])
def test_a_damaged_elite_is_one_sentence(
    kept: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    directory = RunDirectory(tmp_path / "copy")
    shutil.copytree(kept.path, directory.path)
    (directory.elite(4) / damage).write_text("{}")
    assert run(["evaluate", str(directory.path), "--episodes", "1", "--generation", "4"]) == 7
    said = capsys.readouterr().err
    assert str(directory.elite(4)) in said and "--member" in said and len(said.strip().splitlines()) == 1
    (directory.elite(4) / damage).unlink()
    assert run(["evaluate", str(directory.path), "--episodes", "1", "--generation", "4"]) == 7
