"""The file of everybody who died: appended to, cut off at what a checkpoint counts on, read in spite of damage."""

import json
import logging
import resource
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.members import make_member

from covey.errors import DiskFullError
from covey_server.evolution.lineage import Lineage
from covey_server.member import LineageEntry
from covey_server.storage.lineage_file import LineageFile


def dead(*members: int) -> list[LineageEntry]:
    """Some who died in this order."""
    lineage = Lineage()
    for m in sorted(members):
        lineage.born(replace(make_member(m), fitness=-1.5 * m))
    for generation, m in enumerate(members):
        lineage.died(m, generation)
    return list(lineage.dead)


def written(path: Path, entries: list[LineageEntry]) -> LineageFile:
    file = LineageFile(path)
    file.append(entries)
    return file


def test_lines_are_added_and_read_in_order_of_death(tmp_path: Path) -> None:
    entries = dead(2, 0, 5, 1)
    file = written(tmp_path / "lineage.jsonl", entries[:3])
    file.append(entries[3:])
    assert file.lines == 4
    assert LineageFile(tmp_path / "lineage.jsonl").read(4) == entries
    lines = [json.loads(line) for line in (tmp_path / "lineage.jsonl").read_text().splitlines()]
    assert [m["member_id"] for m in lines] == [2, 0, 5, 1] and {m["state"] for m in lines} == {"dead"}


def test_a_run_begins_with_an_empty_file_whatever_there_was(tmp_path: Path) -> None:
    written(tmp_path / "lineage.jsonl", dead(0, 1))
    written(tmp_path / "lineage.jsonl", [])
    assert (tmp_path / "lineage.jsonl").read_text() == ""
    assert LineageFile(tmp_path / "none").read(0) == []


def test_what_no_checkpoint_counts_on_is_cut_off(tmp_path: Path) -> None:
    path, entries = tmp_path / "lineage.jsonl", dead(0, 1, 2, 3)
    written(path, entries[:3])
    with path.open("ab") as torn:
        torn.write(b'{"member_id": 7')
    resumed = LineageFile(path)
    assert resumed.read(2) == entries[:2]
    assert path.read_bytes().count(b"\n") == 2 and path.read_bytes().endswith(b"\n"), "for whoever reads it meanwhile"
    resumed.append(entries[3:])
    assert LineageFile(path).read(3) == [*entries[:2], entries[3]]


def test_damaged_lines_are_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, entries = tmp_path / "lineage.jsonl", dead(0, 1, 2, 3)
    written(path, entries)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace(b'"', b"\xff", 3) + lines[2] + lines[0])
    resumed = LineageFile(path)
    with caplog.at_level(logging.WARNING):
        assert resumed.read(4) == [entries[0], entries[2]]
    assert "2 of 4 members that died can be read" in caplog.text
    resumed.append(entries[3:])
    assert resumed.lines == 3 and LineageFile(path).read(3) == [entries[0], *entries[2:]]


def test_a_full_disk_takes_no_half_line_for_good(tmp_path: Path) -> None:
    path, entries = tmp_path / "lineage.jsonl", dead(0, 1, 2)
    file = written(path, entries[:1])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, before[1]))
    try:
        with pytest.raises(DiskFullError):
            file.append(entries[1:])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    file.append(entries[1:])
    assert LineageFile(path).read(3) == entries
