from __future__ import annotations

import errno
import json
import math
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.members import make_member

from covey.config import Config, parse_config
from covey.errors import ConfigError, CoveyError, SpaceError, StorageError
from covey.run.directory import RunDirectory, read_policies
from covey.run.files import cannot_write, read_json, write_json
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces
from covey.wire.spaces_json import space_from_json, space_to_json, spaces_from_json, spaces_to_json
from covey_server.storage.checkpoint import save_checkpoint

REPOSITORY = Path(__file__).parents[3]
SEEN = Box("float32", (3,), (-math.inf, -1e-45, 0.1), (math.inf, 2.0, 0.30000000000000004))
SPACES = EnvironmentSpaces.build(
    [AgentSpec("speaker", SEEN, Discrete(2)), AgentSpec("listener", SEEN, Box("float64", (), (-1.0,), (1.0,)))]
)


def config() -> Config:
    return parse_config(
        {
            "algorithm": {"name": "MATD3"},
            "environment": {"name": "mpe2.simple_speaker_listener_v4", "config": {"continuous_actions": True}},
            "mutation": {"rl_hp_selection": {"gamma": {"min": 0.9, "max": 0.99}}},
            "tournament_selection": {"tournament_size": 2},
            "training": {"max_steps": 100},
        }
    )


def make_run(parent: Path, best_member: int | None = 2, **state: Any) -> RunDirectory:
    run = RunDirectory.create(parent, "run")
    run.config.write_text("name: run\n")
    kept = {
        "config": config().model_dump(mode="json"),
        "spaces": spaces_to_json(SPACES),
        "best_member": best_member,
    } | state
    ledgers = {str(i): {"generation": 10 + i} for i in (1, 2, 5)}
    members = [make_member(1), make_member(2), make_member(5)]
    save_checkpoint(run.checkpoints, {"run": kept, "scheduler": {"ledgers": ledgers}}, members)
    return run


def test_policies_of_the_best_member_and_of_a_named_one(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    for wanted, member_id in ((None, 2), (5, 5)):
        member = make_member(member_id)
        found = read_policies(run, wanted)
        assert (found.member_id, found.generation) == (member_id, 10 + member_id)
        assert (found.spaces, found.config) == (SPACES, config())
        assert set(found.policies) == {"speaker", "listener"}
        for network_id, (spec, params) in found.policies.items():
            network = member.networks[f"actor/{network_id}"]
            assert spec == network.spec
            assert all(np.array_equal(params[k], network.params[k]) for k in network.params)
            assert list(params) == [p.name for p in spec.parameters]


def test_members_that_do_not_live_and_no_best_one(tmp_path: Path) -> None:
    run = make_run(tmp_path, best_member=None)
    with pytest.raises(StorageError, match="no member has been evaluated yet; name one of 1, 2, 5 with --member"):
        read_policies(run)
    assert read_policies(run, 1).member_id == 1
    with pytest.raises(ConfigError, match=r"member 3 is not alive; alive: 1, 2, 5$"):
        read_policies(run, 3)
    run.lineage.write_text('{"member_id": 0, "died_generation": 1}\n{"member_id": 3, "died_generation": 4}\n')
    with pytest.raises(ConfigError, match=r"member 3 died in generation 4; alive: 1, 2, 5$"):
        read_policies(run, 3)


@pytest.mark.parametrize("state", [{"config": 3}, {"config": {}}, {"spaces": {}}, {"spaces": {"agents": 3}}])
def test_state_of_another_version_is_a_sentence(tmp_path: Path, state: dict[str, Any]) -> None:
    with pytest.raises(CoveyError) as caught:
        read_policies(make_run(tmp_path, **state))
    assert "\n" not in str(caught.value)


def test_reading_policies_needs_neither_torch_nor_the_learner(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    script = (
        "import sys; from pathlib import Path; from covey.run.directory import RunDirectory, read_policies; "
        "print(read_policies(RunDirectory.open(Path(sys.argv[1]))).member_id); "
        "assert not {'torch', 'covey_server'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, run.path], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "2\n"


def test_runs_of_one_second_get_directories_of_their_own(tmp_path: Path) -> None:
    runs = [RunDirectory.create(tmp_path / "runs", "job") for _ in range(4)]
    assert len({run.path for run in runs}) == 4
    assert all(run.name.startswith("job-2") and run.path.is_dir() for run in runs)


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"holds no config\.yaml; give the directory of a covey run"):
        RunDirectory.open(tmp_path)
    with pytest.raises(StorageError, match="does not exist"):
        RunDirectory.open(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"--runs .*file is a file, expected a directory for new runs"):
        RunDirectory.create(tmp_path / "file", "run")


# -- JSON files ------------------------------------------------------------------------------------------------------


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    write_json(path, {"i": 0, "text": ""})
    ended = threading.Event()
    seen: list[int] = []

    def read() -> None:
        while not ended.is_set():
            data = read_json(path)
            assert len(data["text"]) == data["i"] * 1000
            seen.append(data["i"])

    thread = threading.Thread(target=read)
    thread.start()
    for i in range(300):
        write_json(path, {"i": i, "text": "x" * (i * 1000)})
    ended.set()
    thread.join()
    assert seen and seen == sorted(seen)
    assert [p.name for p in tmp_path.iterdir()] == ["status.json"]


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"status\.json cannot be read"):
        read_json(tmp_path / "status.json")
    (tmp_path / "status.json").write_text('{"a":')
    with pytest.raises(StorageError, match=r"status\.json is not JSON"):
        read_json(tmp_path / "status.json")
    (tmp_path / "status.json").write_text("[" * 100_000)
    with pytest.raises(StorageError, match=r"status\.json is not JSON"):
        read_json(tmp_path / "status.json")
    with pytest.raises(
        StorageError, match=r"status\.json cannot be written \(No such file or directory\); make it writable"
    ):
        write_json(tmp_path / "nowhere" / "status.json", {})


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    write_json(path, {"old": 1})
    script = (
        "import resource, sys; from pathlib import Path; from covey.run.files import write_json\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_json(Path(sys.argv[1]), ['x' * 5000])\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", script, path], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.startswith(f"DiskFullError {path} cannot be written")
    assert read_json(path) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["status.json"]


# -- spaces ----------------------------------------------------------------------------------------------------------

bounds = st.floats(allow_nan=False, width=64)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    shape = tuple(draw(st.lists(st.integers(1, 3), max_size=3)))
    width = math.prod(shape)
    one = st.builds(lambda v: (v,) * width, bounds)
    many = st.lists(bounds, min_size=width, max_size=width).map(tuple)
    pairs = list(zip(draw(one | many), draw(one | many), strict=True))
    low, high = (tuple(f(pair) for pair in pairs) for f in (min, max))
    return Box(draw(st.sampled_from(["float32", "float64", "uint8"])), shape, low, high)


spaces = boxes() | st.builds(Discrete, st.integers(1, 9), st.integers(-5, 5))


@given(spaces)
def test_spaces_come_back_to_the_bit(space: Box | Discrete) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    back = space_from_json(json.loads(json.dumps(space_to_json(space)), parse_constant=refuse))
    assert back == space
    if isinstance(space, Box) and isinstance(back, Box):
        assert str((back.low, back.high)) == str((space.low, space.high)), "0.0 and -0.0 are equal"


def test_environments_come_back_with_their_groups() -> None:
    agents = [AgentSpec(f"{n}_{i}", SEEN, Discrete(3)) for i in range(2) for n in ("b", "a")]
    for groups in (None, {"all": ["a_1", "b_0"], "rest": ["b_1", "a_0"]}):
        environment = EnvironmentSpaces.build(agents, groups)
        assert spaces_from_json(json.loads(json.dumps(spaces_to_json(environment)))) == environment


def test_equal_bounds_take_no_room() -> None:
    image = Box("uint8", (84, 84, 3), (0.0,) * 21168, (255.0,) * 21168)
    text = json.dumps(space_to_json(image))
    assert len(text) < 120
    assert space_from_json(json.loads(text)) == image


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"kind": "tuple"},
        {"kind": "discrete", "n": 0, "start": 0},
        {"kind": "discrete", "n": "x", "start": 0},
        {"kind": "box", "dtype": "float32", "shape": [2], "low": [0, 0, 0], "high": [1]},
        {"kind": "box", "dtype": "object", "shape": [2], "low": [0], "high": [1]},
        {"kind": "box", "dtype": "nonsense", "shape": [2], "low": [0], "high": [1]},
        {"kind": "box", "dtype": "float32", "shape": [2, 0], "low": [0], "high": [1]},
        {"kind": "box", "dtype": "float32", "shape": [1 << 20, 1 << 20], "low": [0], "high": [1]},
        {"kind": "box", "dtype": "float32", "shape": [2], "low": ["low"], "high": [1]},
        {"kind": "box", "dtype": "float32", "shape": [math.inf], "low": [0], "high": [1]},
    ],
)
def test_what_is_no_space(data: Any) -> None:
    with pytest.raises(SpaceError, match=r"^space: .*, expected "):
        space_from_json(data)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOENT])
def test_room_is_asked_for_only_where_it_is_what_lacks(number: int) -> None:
    assert "make room" not in str(cannot_write(Path("runs/x"), OSError(number, "")))
    assert "make room" in str(cannot_write(Path("runs/x"), OSError(errno.ENOSPC, "")))
