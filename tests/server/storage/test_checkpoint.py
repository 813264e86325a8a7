from __future__ import annotations

import hashlib
import json
import logging
import math
import re
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from tests.support.members import loaded, make_member

from covey.config import OffPolicyHyperparameters
from covey.errors import StorageError
from covey.networks import MLP
from covey.run.checkpoint_format import MANIFEST, STATE, TENSORS, checkpoint_paths, read_checkpoint
from covey.run.state_upgrades import FORMAT
from covey_server.member import Member, Temperature
from covey_server.storage.checkpoint import drop_checkpoints, save_checkpoint, set_aside_damaged

REPOSITORY = Path(__file__).parents[3]
STATE_OF_RUN = {"generation": 3, "journal": [1, 99], "nested": {"a": [1, 2.5, None, True, "ü"]}}


def population() -> list[Member]:
    gated = MLP(hidden_size=(5, 5), activation="ELU", layer_norm=True, gated=(1,))
    members = [make_member(0), make_member(7, encoder=gated), make_member(2**40, head=gated)]
    members[0].fitness, members[0].fitness_stderr = math.nan, None
    members[1].fitness, members[1].parent_id, members[1].mutation = -1 / 3, 0, "architecture"
    members[1].hyperparameters = OffPolicyHyperparameters(lr_actor=1e-4 / 3, batch_size=32, gamma=1.0)
    members[2].fitness, members[2].change = -math.inf, "head.add_node +32 → ü"
    for network in members[2].networks.values():
        network.adam_steps = 12345
        network.target = None
    numbers = ((0.0, 0.0, 0.0, 0), (-1 / 3, 1e-300, math.pi, 17), (math.inf, -0.1, 1e300, 2**40))
    for network, own in zip(members[1].networks.values(), numbers, strict=False):
        network.temperature = Temperature(*own)
    return members


def same(a: Any, b: Any) -> bool:
    """Equal to the bit and the type, NaN included."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if hasattr(type(a), "__slots__") and hasattr(a, "params"):
        return all(same(getattr(a, f), getattr(b, f)) for f in type(a).__slots__)
    return type(a) is type(b) and (a == b or (a != a and b != b))


def all_same(a: list[Member], b: list[Member]) -> bool:
    return len(a) == len(b) and all(
        same(getattr(x, f), getattr(y, f)) for x, y in zip(a, b, strict=True) for f in Member.__slots__
    )


def test_what_was_saved_is_loaded_to_the_bit(tmp_path: Path) -> None:
    members = population()
    path = save_checkpoint(tmp_path / "checkpoints", STATE_OF_RUN, members)
    assert path.parent == tmp_path / "checkpoints"
    state, found = loaded(tmp_path / "checkpoints")
    assert {k: v for k, v in state.items() if k != "members"} == STATE_OF_RUN
    assert all_same(members, found)
    assert not all_same(members[:-1], found)
    # Loaded members are trained on: writable, and their own memory.
    array = next(iter(found[0].networks.values())).params["head.out.bias"]
    array += 1
    assert not all_same(members, found)


def test_saved_arrays_need_not_be_contiguous(tmp_path: Path) -> None:
    members = [make_member(1)]
    for network in members[0].networks.values():
        network.params = {k: np.asfortranarray(v) for k, v in network.params.items()}
        network.first_moment = {k: np.repeat(v, 2, axis=-1)[..., ::2] for k, v in network.first_moment.items()}
    save_checkpoint(tmp_path, {}, members)
    assert all_same(members, loaded(tmp_path)[1])


def test_state_is_json_for_everybody(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, {}, population())

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    json.loads((path / STATE).read_text(), parse_constant=refuse)


def test_the_newest_are_kept(tmp_path: Path) -> None:
    for i in range(5):
        save_checkpoint(tmp_path, {"i": i}, [make_member(i)])
        drop_checkpoints(tmp_path, keep=3)
    assert [p.name for p in checkpoint_paths(tmp_path)] == ["00000003", "00000004", "00000005"]
    assert [read_checkpoint(p)[0]["i"] for p in checkpoint_paths(tmp_path)] == [2, 3, 4]
    assert loaded(tmp_path)[0]["i"] == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00000003", "00000004", "00000005"]


def spoil(path: Path, how: str) -> None:
    state, tensors, manifest = path / STATE, path / TENSORS, path / MANIFEST
    match how.split():
        case ["missing", name]:
            (path / name).unlink()
        case ["short", name]:
            (path / name).write_bytes((path / name).read_bytes()[:-1])
        case ["flipped", name]:
            data = bytearray((path / name).read_bytes())
            data[len(data) // 2] ^= 0x01
            (path / name).write_bytes(data)
        case ["empty", name]:
            (path / name).write_bytes(b"")
        case ["manifest", "lists", "nothing"]:
            manifest.write_text(json.dumps({"format": FORMAT, "files": {}}))
        case ["manifest", "is", "newer"]:
            manifest.write_text(manifest.read_text().replace(f'"format": {FORMAT}', f'"format": {FORMAT + 1}'))
        case ["bare"]:
            for file in (state, tensors, manifest):
                file.unlink()


DAMAGE = [
    *(f"{how} {name}" for how in ("missing", "short", "flipped", "empty") for name in (STATE, TENSORS, MANIFEST)),
    "manifest lists nothing",
    "manifest is newer",
    "bare",
]


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    save_checkpoint(tmp_path, {"i": 1}, [make_member(1)])
    newest = save_checkpoint(tmp_path, {"i": 2}, [make_member(2)])
    spoil(newest, how)
    with caplog.at_level(logging.WARNING):
        state, members = loaded(tmp_path)
    assert (state["i"], members[0].member_id) == (1, 1)
    assert "00000002" in caplog.text
    assert "taken instead" in caplog.text
    # The next one gets a number of its own, and is the newest.
    assert save_checkpoint(tmp_path, {"i": 3}, [make_member(3)]).name == "00000003"
    assert loaded(tmp_path)[0]["i"] == 3


def test_damaged_ones_are_set_aside_and_take_no_place_among_those_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for i in range(1, 5):
        path = save_checkpoint(tmp_path, {"i": i}, [make_member(i)])
        if i >= 3:
            spoil(path, DAMAGE[0])
    with caplog.at_level(logging.WARNING):
        set_aside_damaged(tmp_path)
    there = ["00000001", "00000002", "damaged-00000003", "damaged-00000004"]
    assert sorted(p.name for p in tmp_path.iterdir()) == there
    assert "set aside as damaged-00000004" in caplog.text
    save_checkpoint(tmp_path, {"i": 5}, [make_member(5)])
    drop_checkpoints(tmp_path, 2)
    assert [read_checkpoint(p)[0]["i"] for p in checkpoint_paths(tmp_path)] == [2, 5]
    for path in checkpoint_paths(tmp_path):
        spoil(path, DAMAGE[0])
    set_aside_damaged(tmp_path)  # nothing to go on from: what there is stays as it is
    assert len(checkpoint_paths(tmp_path)) == 2


def test_one_number_may_be_set_aside_again_and_again(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, {"i": 1}, [make_member(1)])
    for _ in range(3):
        spoil(save_checkpoint(tmp_path, {"i": 2}, [make_member(1)]), DAMAGE[0])
        set_aside_damaged(tmp_path)
    there = ["00000001", "damaged-00000002", "damaged-00000002-2", "damaged-00000002-3"]
    assert sorted(p.name for p in tmp_path.iterdir()) == there


def test_none_left(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"no checkpoint that can be read.*before its first one"):
        loaded(tmp_path / "nowhere")
    for i in range(2):
        spoil(save_checkpoint(tmp_path, {"i": i}, [make_member(i)]), f"flipped {TENSORS}")
    with pytest.raises(StorageError, match=r"00000002.*SHA-256.*00000001.*SHA-256"):
        loaded(tmp_path)


def forge(path: Path, tensors: bytes | None = None, state: dict[str, Any] | None = None) -> None:
    """Other content, under a manifest that fits it."""
    if tensors is not None:
        (path / TENSORS).write_bytes(tensors)
    if state is not None:
        (path / STATE).write_text(json.dumps(state))
    files = {
        name: {
            "bytes": len((path / name).read_bytes()),
            "sha256": hashlib.sha256((path / name).read_bytes()).hexdigest(),
        }
        for name in (STATE, TENSORS)
    }
    (path / MANIFEST).write_text(json.dumps({"format": FORMAT, "files": files}))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (struct.pack("<Q", 1 << 40) + b"{}", "header of 1099511627776 bytes"),
        (struct.pack("<Q", 64 << 20) + b"{" + b" " * 100, "header of 67108864 bytes"),
        (b"short", "is no safetensors file"),
        (b"\x80\x04\x95" + b"pickle" * 20, "header of"),
        (struct.pack("<Q", 2) + b"{}", "is nothing, expected float32"),
    ],
)
def test_tensor_files_are_not_trusted(tmp_path: Path, tensors: bytes, message: str) -> None:
    path = save_checkpoint(tmp_path, {}, [make_member(1)])
    forge(path, tensors)
    with pytest.raises(StorageError, match=re.escape(message)):
        loaded(tmp_path)


def test_tensors_of_another_shape_or_dtype(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, {}, [make_member(1)])
    name = "1/actor/speaker/params/head.out.bias"
    tensors = read_checkpoint(path)[1]
    for other in (tensors[name][:1], tensors[name].astype(np.float64)):
        forge(path, safetensors.numpy.save(tensors | {name: other}))
        with pytest.raises(StorageError, match=f"{name} is .*, expected float32"):
            loaded(tmp_path)


def test_the_tensors_are_a_file_that_others_read(tmp_path: Path) -> None:
    member = make_member(1)
    read = safetensors.numpy.load_file(save_checkpoint(tmp_path, {}, [member]) / TENSORS)
    network = member.networks["actor/speaker"]
    assert network.target is not None
    parts = {"params": network.params, "target": network.target, "second_moment": network.second_moment}
    for part, arrays in parts.items():
        for name, array in arrays.items():
            assert np.array_equal(read[f"1/actor/speaker/{part}/{name}"], array)


@pytest.mark.parametrize("members", [None, 3, [None], [{}], [{"member_id": 1}]])
def test_metadata_of_another_version(tmp_path: Path, members: Any) -> None:
    path = save_checkpoint(tmp_path, {}, [make_member(1)])
    forge(path, state={"members": members})
    with pytest.raises(StorageError, match="another version of covey"):
        loaded(tmp_path)


# -- crashes and full disks --------------------------------------------------------------------------------------------

SAVING = """
import sys
from pathlib import Path
import numpy as np
from tests.support.members import make_member
from covey_server.storage.checkpoint import drop_checkpoints, save_checkpoint
i = int(sys.argv[2])
while True:
    i += 1
    members = [make_member(m, seed=i) for m in range(3)]
    for member in members:
        member.env_steps = i
        for network in member.networks.values():
            network.params = {k: np.full_like(v, i) for k, v in network.params.items()}
    save_checkpoint(Path(sys.argv[1]), {"i": i}, members)
    drop_checkpoints(Path(sys.argv[1]), 2)
    print(i, flush=True)
"""


def test_killed_while_writing_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, {"i": 0}, [])
    saved, interrupted = 0, set[str]()
    for attempt in range(60):
        # Killed as soon as this file is seen half made; sometimes the process is faster, then once more.
        awaited = (STATE, TENSORS, MANIFEST)[attempt % 3]
        command = [sys.executable, "-c", SAVING, str(tmp_path), str(saved)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
            while not list(tmp_path.glob(f"tmp-*-{process.pid}/{awaited}")):
                assert process.poll() is None
            process.send_signal(signal.SIGKILL)
            assert process.stdout is not None
            reported = [int(line) for line in process.stdout if line.strip().isdigit()]
        saved = max([saved, *reported])
        if list(tmp_path.glob(f"tmp-*-{process.pid}")):
            interrupted.add(awaited)
        state, members = loaded(tmp_path)
        # Killed between the rename and the report, it is the one after.
        assert state["i"] in (saved, saved + 1)
        assert [m.env_steps for m in members] == [state["i"]] * (3 if state["i"] else 0)
        assert all((p == state["i"]).all() for m in members for n in m.networks.values() for p in n.params.values())
        saved = state["i"]
        if len(interrupted) == 3:
            break
    assert len(interrupted) == 3
    save_checkpoint(tmp_path, {"i": 0}, [])
    assert not list(tmp_path.glob("tmp-*"))


FULL = """
import resource, sys
from pathlib import Path
from tests.support.members import make_member
from covey.errors import StorageError
from covey_server.storage.checkpoint import save_checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, resource.RLIM_INFINITY))
try:
    save_checkpoint(Path(sys.argv[1]), {"i": 2}, [make_member(2)])
except StorageError as error:
    print(error)
"""


def test_a_full_disk_is_a_sentence_and_the_checkpoint_before_stays(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, {"i": 1}, [make_member(1)])
    done = subprocess.run(
        [sys.executable, "-c", FULL, tmp_path], stdout=subprocess.PIPE, text=True, check=True, cwd=REPOSITORY
    )
    assert re.search(r"00000002 cannot be written \(.+\); make room on that disk", done.stdout)
    assert [p.name for p in tmp_path.iterdir()] == ["00000001"]
    assert loaded(tmp_path)[0]["i"] == 1
