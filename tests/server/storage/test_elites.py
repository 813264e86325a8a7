"""The elites of generations: how many are kept, which, and what a resumed run has of them."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.untrained_runs import speaker_listener

from covey.errors import StorageError
from covey.run.directory import RunDirectory
from covey.run.kept import write_kept
from covey.run.trained import TrainedMember
from covey_server.storage.elites import EliteFolders, stays


@given(newest=st.integers(0, 5000), most=st.integers(2, 60))
def test_what_is_kept_is_bounded_and_spread_over_the_whole_run(newest: int, most: int) -> None:
    kept = [g for g in range(newest + 1) if stays(g, newest, most)]
    assert 1 <= len(kept) <= most
    assert (kept[0], kept[-1]) == (0, newest)
    gaps = [b - a for a, b in itertools.pairwise(kept)]
    even = newest / (most - 1)  # with all places used, at equal distances
    assert len(set(gaps[:-1])) <= 1, "equal distances, but for the newest"
    assert all(gap < max(2 * even, 1.5) for gap in gaps), "twice as wide at most as they could be"
    assert newest < most or len(kept) > most / 2
    after = {g for g in range(newest + 2) if stays(g, newest + 1, most)}
    assert after <= {*kept, newest + 1}, "nothing is needed that was dropped"


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> TrainedMember:
    return TrainedMember.read(speaker_listener(tmp_path_factory.mktemp("runs") / "job-1"), 3)


class Life:
    """A learner's elites, from a start to its end: generations end, and a checkpoint follows each."""

    def __init__(self, run: RunDirectory, state: dict[str, Any] | None, most: int = 4) -> None:
        self.run, self.told = run, list[str]()
        self.folders = EliteFolders(run, most, self.told.append)
        if state is not None:
            self.folders.from_state(state)

    def enter(self, member: TrainedMember, generation: int, member_id: int = 3, fitness: float = 0.0) -> None:
        elite = replace(member, member_id=member_id, generation=generation)
        score = {"member_id": member_id, "generation": generation, "fitness": fitness}
        self.folders.enter(elite, score)

    def checkpoint(self, *, dies: bool = False) -> dict[str, Any]:
        """The checkpoint's state as it comes back; if the learner dies before it is durable, nothing is thinned out."""
        state: dict[str, Any] = json.loads(json.dumps(self.folders.to_state()))
        self.folders.write(self.folders.unwritten())
        if not dies:
            self.folders.thin_out()
        return state

    def generation(self, member: TrainedMember, number: int) -> dict[str, Any]:
        self.enter(member, number, member_id=number, fitness=float(-number))
        return self.checkpoint()

    def on_disk(self) -> dict[int, tuple[int, float]]:
        found = {}
        for path in self.run.elites.iterdir():
            score = json.loads((path / "score.json").read_text())
            found[int(path.name)] = (score["member_id"], score["fitness"])
            assert json.loads((path / "policy.json").read_text())["generation"] == int(path.name)
        return found


def whole(generations: list[int]) -> dict[int, tuple[int, float]]:
    return {g: (g, float(-g)) for g in generations}


def test_a_long_run_keeps_a_few_folders(member: TrainedMember, tmp_path: Path) -> None:
    life = Life(RunDirectory(tmp_path), None)
    expected = {0: [0], 3: [0, 1, 2, 3], 4: [0, 2, 4], 5: [0, 2, 4, 5], 7: [0, 4, 7], 12: [0, 4, 8, 12], 13: [0, 8, 13]}
    for number in range(14):
        state = life.generation(member, number)
        if number in expected:
            assert life.on_disk() == whole(expected[number])
            assert sorted(map(int, state)) == expected[number]
    assert not life.told


@pytest.mark.parametrize("back_to", [2, 5, 7, 8])
@pytest.mark.parametrize("dies", [False, True])
def test_a_resumed_run_has_none_of_lost_generations_and_ends_like_one_that_was_left_alone(
    member: TrainedMember, tmp_path: Path, back_to: int, dies: bool
) -> None:
    run = RunDirectory(tmp_path)
    life, states = Life(run, None), {}
    for number in range(8):
        states[number] = life.generation(member, number)
    life.enter(member, 8, member_id=99, fitness=5.0)
    states[8] = life.checkpoint(dies=dies)
    before = life.on_disk()
    known = states[back_to]
    life = Life(run, known)
    assert life.on_disk() == {g: e for g, e in before.items() if str(g) in known}, "the lost ones are gone, no other"
    assert max(life.on_disk()) == back_to or not (dies and back_to == 7), "the newest, if one checkpoint is lost"
    state = known
    for number in range(back_to + 1, 14):
        state = life.generation(member, number)
    assert life.on_disk().keys() == {0, 8, 13} == set(map(int, state))
    assert life.on_disk()[8] == ((99, 5.0) if back_to == 8 else (8, -8.0))


def test_a_checkpoint_of_before_there_were_elites_knows_none(member: TrainedMember, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    Life(run, None).generation(member, 0)
    assert Life(run, {}).on_disk() == {}


def test_the_fittest_that_ended_a_generation_is_its_elite(member: TrainedMember, tmp_path: Path) -> None:
    life = Life(RunDirectory(tmp_path), None)
    for member_id, fitness in ((5, -3.0), (6, float("nan")), (7, -1.0), (8, -1.0), (9, -2.0)):
        life.enter(member, 0, member_id, fitness)
        life.checkpoint()
    assert life.on_disk() == {0: (7, -1.0)}
    life.enter(member, 1, 9, float("inf"))
    resumed = Life(life.run, life.checkpoint())
    assert resumed.on_disk() == {0: (7, -1.0), 1: (9, float("inf"))}
    resumed.enter(member, 0, 10, -0.5)
    resumed.checkpoint()
    assert resumed.on_disk()[0] == (10, -0.5)


def test_what_a_crash_cut_short_is_undone(member: TrainedMember, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    life = Life(run, None)
    state = [life.generation(member, number) for number in range(3)][-1]
    run.elite(0).rename(run.elites / "0.old")  # while another took its place
    write_kept(run.elites / "0.tmp", member, {"member_id": 1})
    run.elite(1).rename(run.elites / "1.tmp")  # while it was deleted
    (run.elite(2) / "score.json").write_text("{")  # by somebody else
    assert Life(run, state).on_disk() == whole([0])


def test_a_disk_that_refuses_is_told_and_tried_again_with_the_next_checkpoint(
    member: TrainedMember, tmp_path: Path
) -> None:
    run = RunDirectory(tmp_path)
    life = Life(run, None)
    run.elites.write_text("a file is in the way")
    for number in range(9):
        life.generation(member, number)
    assert len(life.told) > 9 and all("cannot be" in sentence for sentence in life.told)
    assert any("the elite of generation 8 is written with the next checkpoint" in s for s in life.told)
    assert sorted(life.folders.unwritten()) == [0, 4, 8], "no more wait than would be kept"
    run.elites.unlink()
    life.generation(member, 9)
    assert life.on_disk() == whole([0, 4, 8, 9]) and not life.folders.unwritten()


def test_one_that_cannot_be_deleted_is_a_sentence(member: TrainedMember, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    Life(run, None).generation(member, 0)
    (run.elites / "0.tmp").write_text("a file is in the way")
    with pytest.raises(StorageError, match=r"elites/0 cannot be written"):
        Life(run, {})
