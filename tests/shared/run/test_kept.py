"""Policies beside the checkpoints: wherever a crash or a full disk comes, a whole one is there."""

from __future__ import annotations

import json
import os
import resource
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.untrained_runs import speaker_listener

import covey
from covey.errors import DiskFullError, StorageError
from covey.run.kept import drop_kept, put_back, write_kept
from covey.run.trained import TrainedMember


class Crashed(BaseException):
    """Nothing in covey catches this: what was done up to here is what a killed process leaves."""


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainedMember, TrainedMember]:
    run = speaker_listener(tmp_path_factory.mktemp("runs") / "job-1")
    return TrainedMember.read(run, 3), TrainedMember.read(run, 5)


def crash_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Crash at the given one of the calls that change what is on the disk."""
    calls = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == step:
                raise Crashed
            return real(*arguments, **options)

        return call

    for owner, name in ((os, "fsync"), (os, "mkdir"), (Path, "rename"), (Path, "write_bytes"), (shutil, "rmtree")):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))


def whose(folder: Path) -> int | None:
    """The member in a folder, whose files must be whole; None if there is no folder."""
    if not folder.exists():
        return None
    covey.load_policy(folder)
    member_id = json.loads((folder / "score.json").read_text())["member_id"]
    assert json.loads((folder / "policy.json").read_text())["member_id"] == member_id
    return int(member_id)


@pytest.mark.parametrize("deleted", [False, True])
def test_a_crash_at_any_moment_leaves_the_one_before_or_the_new_one(
    members: tuple[TrainedMember, TrainedMember], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deleted: bool
) -> None:
    old, new = members
    folder = tmp_path / "elites" / "7"
    found, step = [], 0
    while True:
        step += 1
        shutil.rmtree(folder.parent, ignore_errors=True)
        write_kept(folder, old, {"member_id": old.member_id})
        with monkeypatch.context() as patched:
            crash_at(patched, step)
            try:
                if deleted:
                    drop_kept(folder)
                else:
                    write_kept(folder, new, {"member_id": new.member_id})
            except Crashed:
                pass
            else:
                break
        put_back(folder)
        found.append(whose(folder))
        assert [p.name for p in folder.parent.iterdir()] == ([] if found[-1] is None else ["7"])
        write_kept(folder, new, {"member_id": new.member_id})
        assert whose(folder) == new.member_id, "it can be written again"
    end = None if deleted else new.member_id
    turn = found.index(end)
    assert turn > 1 and set(found[:turn]) == {old.member_id} and set(found[turn:]) == {end}


@pytest.mark.parametrize("before", [False, True])
def test_a_full_disk_leaves_the_one_before_and_no_half(
    members: tuple[TrainedMember, TrainedMember], tmp_path: Path, before: bool
) -> None:
    old, new = members
    folder = tmp_path / "best"
    if before:
        write_kept(folder, old, {"member_id": old.member_id})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700, limits[1]))
    try:
        with pytest.raises(DiskFullError) as refused:
            write_kept(folder, new, {"member_id": new.member_id})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "make room" in str(refused.value) and "--out" not in str(refused.value)
    assert whose(folder) == (old.member_id if before else None)
    assert [p.name for p in tmp_path.iterdir()] == (["best"] if before else [])


def test_a_place_that_is_taken_is_one_sentence(members: tuple[TrainedMember, TrainedMember], tmp_path: Path) -> None:
    (tmp_path / "elites").write_text("")
    with pytest.raises(StorageError, match=r"elites/7 cannot be written"):
        write_kept(tmp_path / "elites" / "7", members[0], {"member_id": 3})
    (tmp_path / "best.tmp").write_text("")
    with pytest.raises(StorageError, match=r"best cannot be written"):
        write_kept(tmp_path / "best", members[0], {"member_id": 3})


def test_an_export_says_which_policy_it_is(members: tuple[TrainedMember, TrainedMember], tmp_path: Path) -> None:
    write_kept(tmp_path / "best", replace(members[1], generation=12), {"member_id": 5})
    index = json.loads((tmp_path / "best" / "policy.json").read_text())
    assert (index["member_id"], index["generation"]) == (5, 12)
