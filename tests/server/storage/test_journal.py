from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.examples import examples

from covey.errors import StorageError
from covey_server.storage.journal import Journal, Kind, Position
from covey_server.storage.journal_segment import SEGMENT_START

MEBIBYTE = 1 << 20
RECORDS = [(Kind.ORDER, b"first"), (Kind.FRAGMENT, bytes(range(256)) * 3), (Kind.REVOKED, b""), (Kind.NOTE, b'{"a":1}')]


def written(
    directory: Path, records: list[tuple[Kind, bytes]] = RECORDS, segment_bytes: int = MEBIBYTE
) -> list[Position]:
    journal = Journal.open(directory, segment_bytes)
    positions = [journal.append(kind, payload) for kind, payload in records]
    journal.close()
    return positions


def content(directory: Path, start: Position | None = None) -> list[tuple[Kind, bytes]]:
    journal = Journal.open(directory, MEBIBYTE)
    try:
        return [(kind, payload) for _, kind, payload in journal.read(start)]
    finally:
        journal.close()


def newest(directory: Path) -> Path:
    return max(directory.glob("*.journal"))


def test_what_was_appended_is_read_in_order_from_any_record_on(tmp_path: Path) -> None:
    positions = written(tmp_path)
    assert content(tmp_path) == RECORDS
    for i, position in enumerate(positions):
        assert content(tmp_path, position) == RECORDS[i:]
    journal = Journal.open(tmp_path, MEBIBYTE)
    assert [p for p, _, _ in journal.read()] == positions == sorted(positions)
    assert list(journal.read(journal.position)) == []
    journal.close()


@examples(0.3)
@given(
    st.lists(st.tuples(st.sampled_from(Kind), st.binary(max_size=300)), max_size=30),
    st.integers(17, 900),
    st.sets(st.integers(0, 30)),
)
def test_segments_and_restarts_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, records: list[tuple[Kind, bytes]], segment_bytes: int, restarts: set[int]
) -> None:
    directory = tmp_path_factory.mktemp("journal")
    journal = Journal.open(directory, segment_bytes)
    positions = []
    for i, (kind, payload) in enumerate(records):
        if i in restarts:
            journal.close()
            journal = Journal.open(directory, segment_bytes)
        positions.append(journal.append(kind, payload))
    assert [(p, k, data) for p, k, data in journal.read()] == [
        (p, k, data) for p, (k, data) in zip(positions, records, strict=True)
    ]
    assert all(path.stat().st_size < segment_bytes + 316 for path in directory.iterdir())
    journal.close()


def test_a_record_is_durable_when_a_sync_has_passed_it(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, 64)
    first = journal.append(Kind.NOTE, b"x" * 80)
    durable = journal.sync()
    second = journal.append(Kind.NOTE, b"y")
    assert first < durable <= second < journal.sync()
    journal.close()


def test_appending_goes_on_while_another_thread_syncs(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, 2000)
    ended = threading.Event()
    durable: list[Position] = []

    def sync() -> None:
        while not ended.is_set():
            durable.append(journal.sync())

    thread = threading.Thread(target=sync)
    thread.start()
    records = [(Kind.NOTE, str(i).encode() * 20) for i in range(3000)]
    for kind, payload in records:
        journal.append(kind, payload)
    ended.set()
    thread.join()
    assert durable == sorted(durable)
    assert [(k, p) for _, k, p in journal.read()] == records
    journal.close()


# -- crashes --------------------------------------------------------------


def test_a_torn_tail_is_cut_off_at_every_byte(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    positions = written(tmp_path)
    whole = newest(tmp_path).read_bytes()
    last = positions[-1].offset
    for size in range(last, len(whole)):
        newest(tmp_path).write_bytes(whole[:size])
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert content(tmp_path) == RECORDS[:-1]
        assert bool(caplog.records) == (size > last)
        if size > last:
            assert f"cut off {size - last} bytes" in caplog.text
            assert newest(tmp_path).name in caplog.text
    # And it goes on from there.
    written(tmp_path, [(Kind.NOTE, b"again")])
    assert content(tmp_path) == [*RECORDS[:-1], (Kind.NOTE, b"again")]


def test_a_crash_before_the_first_record(tmp_path: Path) -> None:
    for size in range(len(SEGMENT_START) + 1):
        (tmp_path / "0000000001.journal").write_bytes(SEGMENT_START[:size])
        written(tmp_path, RECORDS)
        assert content(tmp_path) == RECORDS


def test_zeros_that_a_file_system_left_are_cut_off(tmp_path: Path) -> None:
    written(tmp_path)
    for zeros in (1, 16, 5000):
        with newest(tmp_path).open("ab") as file:
            file.write(b"\0" * zeros)
        assert content(tmp_path) == RECORDS


def test_no_flipped_byte_passes_unseen(tmp_path: Path) -> None:
    positions = written(tmp_path)
    path = newest(tmp_path)
    whole = path.read_bytes()
    for i in range(len(whole)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :])
        try:
            got = content(tmp_path)
        except StorageError as error:
            assert path.name in str(error)
            hit = [p.offset for p in positions if p.offset <= i]
            if hit:
                assert f"at byte {hit[-1]} " in str(error)
                assert "truncate -s" in str(error)
        else:
            # Content of the last record alone cannot be told from a crash.
            assert i >= positions[-1].offset + 16
            assert got == RECORDS[:-1]


def test_the_advice_works(tmp_path: Path) -> None:
    positions = written(tmp_path)
    path = newest(tmp_path)
    whole = bytearray(path.read_bytes())
    whole[positions[1].offset + 20] ^= 1
    path.write_bytes(whole)
    with pytest.raises(StorageError, match="damaged record") as caught:
        content(tmp_path)
    command = re.search(r"truncate -s \d+ \S+", str(caught.value))
    assert command
    subprocess.run(command[0].split(), check=True)
    assert content(tmp_path) == RECORDS[:1]


def test_damage_in_an_older_segment_is_found_when_it_is_read(tmp_path: Path) -> None:
    written(tmp_path, RECORDS * 3, segment_bytes=800)
    oldest = min(tmp_path.glob("*.journal"))
    whole = oldest.read_bytes()
    for spoilt in (whole[:-1], whole[:-20], whole + b"x", whole[:40] + b"?" + whole[41:], b"other" + whole[5:]):
        oldest.write_bytes(spoilt)
        with pytest.raises(StorageError, match=oldest.name):
            content(tmp_path)
    oldest.write_bytes(whole)
    assert content(tmp_path) == RECORDS * 3


def test_missing_segments_are_named(tmp_path: Path) -> None:
    written(tmp_path, RECORDS * 3, segment_bytes=400)
    (tmp_path / "0000000002.journal").unlink()
    with pytest.raises(StorageError, match="0000000002"):
        Journal.open(tmp_path, 400)


def test_a_killed_process_loses_nothing_it_has_appended(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from covey_server.storage.journal import Journal, Kind
journal = Journal.open(Path(sys.argv[1]), 5000)
for i in range(1_000_000):
    journal.append(Kind.NOTE, str(i).encode() * 9)
    print(i, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    seen = [int(process.stdout.readline()) for _ in range(500)][-1]
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read().split()
    process.stdout.close()
    process.wait()
    seen = int(rest[-1]) if rest and rest[-1].isdigit() else seen
    got = [payload for _, payload in content(tmp_path)]
    assert len(got) >= seen
    assert got == [str(i).encode() * 9 for i in range(len(got))]


def unsynced(directory: Path, *, synced: bool) -> tuple[Path, list[tuple[Kind, bytes]]]:
    """What a crash of the machine finds: several segments, of which it may take what no sync has passed."""
    journal = Journal.open(directory / "live", 300)
    records = [(Kind.NOTE, bytes([65 + i]) * 100) for i in range(11)]
    for kind, payload in records:
        journal.append(kind, payload)
    if synced:
        journal.sync()
    image = shutil.copytree(directory / "live", directory / "image")
    journal.close()
    return image, records


@pytest.mark.parametrize("zeros", [False, True])
def test_a_tear_in_a_segment_that_was_not_synced_takes_what_lies_behind_it(tmp_path: Path, zeros: bool) -> None:
    image, records = unsynced(tmp_path, synced=False)
    segments = sorted(image.iterdir())
    assert len(segments) == 4
    boundary = len(SEGMENT_START) + 116
    before = 0
    for number, segment in enumerate(segments):
        size = segment.stat().st_size
        for left in {*range(0, size, 13), boundary - 1, boundary, boundary + 1, size}:
            if zeros and 0 < left < len(SEGMENT_START):
                continue  # a disk writes these bytes at once
            torn = tmp_path / f"{number}-{left}"
            shutil.copytree(image, torn)
            whole = segment.read_bytes()
            (torn / segment.name).write_bytes(whole[:left] + b"\0" * ((size - left) * zeros))
            got = content(torn)
            if left == size:
                assert got == records
            else:
                here = max(0, left - len(SEGMENT_START)) // 116
                assert got == records[: before + here]
            written(torn, [(Kind.NOTE, b"on")], 300)
            assert content(torn) == [*got, (Kind.NOTE, b"on")]
        before += (size - len(SEGMENT_START)) // 116


def test_a_tear_in_a_segment_that_was_synced_is_damage(tmp_path: Path) -> None:
    image, records = unsynced(tmp_path, synced=True)
    segments = sorted(image.iterdir())
    for segment in segments[:-1]:
        whole = segment.read_bytes()
        segment.write_bytes(whole[:-1])
        with pytest.raises(StorageError, match=segment.name):
            content(image)
        segment.write_bytes(whole)
    assert content(image) == records


def test_filling_a_segment_does_not_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal.open(tmp_path, 300)
    synced: list[int] = []
    fsync = os.fsync

    def noted(fd: int) -> None:
        synced.append(fd)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    for i in range(20):
        journal.append(Kind.NOTE, bytes([i]) * 100)
    assert not synced and len(list(tmp_path.iterdir())) > 5
    assert journal.sync() == journal.position and len(synced) > 5
    synced.clear()
    journal.sync()
    assert not synced, "nothing came since"
    journal.close()


def test_it_is_due_when_so_many_bytes_came(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, MEBIBYTE, sync_bytes=500)
    for _ in range(2):
        for due in (False, False, False, False, True, True):
            journal.append(Kind.NOTE, b"x" * 100)
            assert journal.due.is_set() == due
        journal.sync()
        assert not journal.due.is_set()
    journal.close()


# -- full disks --------------------------------------------------------------

FULL = """
import json, resource, sys
from pathlib import Path
from covey.errors import StorageError
from covey_server.storage.journal import Journal, Kind
directory, segment_bytes = Path(sys.argv[1]), int(sys.argv[2])
journal = Journal.open(directory, segment_bytes)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
kept, errors = [], []
for i in range(60):
    payload = bytes([i]) * (700 + 13 * i)
    try:
        journal.append(Kind.FRAGMENT, payload)
        kept.append(i)
    except StorageError as error:
        errors.append(str(error))
journal.sync()
whole = [p[0] for _, _, p in journal.read()] == kept
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.append(Kind.NOTE, b"room again")
journal.close()
print(json.dumps([kept, errors, whole]))
"""


def test_a_write_that_the_system_cuts_short_leaves_whole_records(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path, str(MEBIBYTE)], stdout=subprocess.PIPE, check=True)
    kept, errors, whole = json.loads(done.stdout)
    assert whole
    assert 10 < len(kept) < 30
    assert len(errors) == 60 - len(kept)
    assert re.search(r"0000000001\.journal cannot be written \(.+\); make room", errors[0])
    got = content(tmp_path)
    assert got[-1] == (Kind.NOTE, b"room again")
    assert [p for _, p in got[:-1]] == [bytes([i]) * (700 + 13 * i) for i in kept]


# -- the rest --------------------------------------------------------------


def test_only_what_is_wholly_before_the_position_is_dropped(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, 300)
    positions = [journal.append(Kind.NOTE, b"x" * 100) for _ in range(12)]
    keep = positions[7]
    journal.drop_before(keep)
    left = [p for p, _, _ in journal.read()]
    assert keep in left
    assert {p.segment for p in left} == {p.segment for p in positions if p.segment >= keep.segment}
    assert min(int(p.stem) for p in tmp_path.iterdir()) == keep.segment
    with pytest.raises(StorageError, match="put back what was removed"):
        list(journal.read(positions[0]))
    journal.drop_before(Position(10_000, 0))
    assert journal.append(Kind.NOTE, b"on") >= positions[-1]
    journal.close()
    assert content(tmp_path)[-1] == (Kind.NOTE, b"on")


def test_a_position_beyond_the_end_is_an_error(tmp_path: Path) -> None:
    written(tmp_path)
    journal = Journal.open(tmp_path, MEBIBYTE)
    with pytest.raises(StorageError, match="reaches from"):
        list(journal.read(Position(1, journal.position.offset + 1)))
    journal.close()


def test_two_learners_cannot_write_one_run(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, MEBIBYTE)
    with pytest.raises(StorageError, match="another learner"):
        Journal.open(tmp_path, MEBIBYTE)
    journal.close()
    Journal.open(tmp_path, MEBIBYTE).close()


def test_a_place_where_no_directory_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        Journal.open(tmp_path / "file" / "journal", MEBIBYTE)


def test_nothing_stays_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    written(tmp_path, RECORDS * 5, segment_bytes=300)
    newest(tmp_path).write_bytes(b"no journal at all, longer than its magic")
    with pytest.raises(StorageError):
        Journal.open(tmp_path, 300)
    assert len(os.listdir("/proc/self/fd")) == before
