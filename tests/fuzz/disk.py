"""What lies on a disk: journals, checkpoints, runs to resume, exported policies; damaged, or made by somebody else."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save
from tests.fuzz.mutate import TEXTS, hostile_json, spoil_bytes
from tests.fuzz.spaces import ENVIRONMENTS, check_spaces
from tests.fuzz.target import Target, scratch
from tests.fuzz.text import policy_of
from tests.fuzz.wire import honest
from tests.support.members import loaded

from covey.cli.sources import RunFiles
from covey.config import parse_config
from covey.errors import ConfigError, SpaceError, StorageError
from covey.run.checkpoint_format import MANIFEST, STATE, TENSORS, read_checkpoint
from covey.run.directory import RunDirectory, read_policies
from covey.run.exported import load_policy
from covey.run.reports import member_json
from covey.run.state_upgrades import FORMAT
from covey.run.trained import TrainedMember
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces, mask_width
from covey.v1.fragment_pb2 import ReceivedFragment
from covey.wire.policy_file import encode_policy
from covey.wire.spaces_json import spaces_to_json
from covey_server.evolution.lineage import Lineage, entry_info
from covey_server.storage.journal import Journal, Kind
from covey_server.storage.journal_segment import SEGMENT_START, pack_header
from covey_server.storage.lineage_file import LineageFile

Files = dict[str, bytes]
"""Contents by name."""


def written(files: Files) -> Path:
    """A fresh directory that holds these files."""
    path = scratch() / "it"
    shutil.rmtree(path, ignore_errors=True)
    for name, data in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return path


@functools.cache
def _honest_journal(seed: int) -> tuple[tuple[Kind, bytes], ...]:
    rng = Random(seed)
    records: list[tuple[Kind, bytes]] = []
    for i in range(rng.randrange(1, 7)):
        _, order, fragment, _ = honest(rng)
        received = ReceivedFragment(actor_id="a", incarnation=i + 1, fragment=fragment, stream_members=[0, 1])
        records.append((Kind.FRAGMENT, received.SerializeToString()))
        records.append((rng.choice((Kind.ORDER, Kind.REVOKED, Kind.NOTE)), order.SerializeToString()))
    return tuple(records)


def _hostile_journal(rng: Random) -> Files:
    records = list(_honest_journal(rng.randrange(16)))
    cut = rng.randrange(len(records) + 1)
    files: Files = {}
    for number, part in enumerate((records[:cut], records[cut:]), 1):
        packed = [pack_header(kind, payload) + payload for kind, payload in part]
        if packed and rng.random() < 0.3:  # with checksums that are right
            i = rng.randrange(len(packed))
            payload = spoil_bytes(rng, part[i][1])
            packed[i] = pack_header(part[i][0], payload) + payload
        files[f"{number:010d}.journal"] = SEGMENT_START + b"".join(packed)
    name = rng.choice(list(files))
    draw = rng.random()
    if draw < 0.5:
        files[name] = spoil_bytes(rng, files[name])
    elif draw < 0.6:
        files[rng.choice(("0000000009.journal", "0000000003.journal", "x"))] = files.pop(name)
    elif draw < 0.7:
        files[name] = files[name][: rng.randrange(len(files[name]) + 1)] + bytes(rng.choice((0, 5, 16, 4096)))
    return files


def _decode_journal(hostile: Files) -> None:
    journal = Journal.open(written(hostile), 1 << 20)
    try:
        before = list(journal.read())
        assert [position for position, _, _ in before] == sorted({position for position, _, _ in before})
        position = journal.append(Kind.NOTE, b"after")
        assert list(journal.read()) == [*before, (position, Kind.NOTE, b"after")]
    finally:
        journal.close()


SPACES = EnvironmentSpaces.build(
    [
        AgentSpec("speaker", Box("float32", (3,), (-np.inf,) * 3, (np.inf,) * 3), Discrete(2)),
        AgentSpec("listener", Box("float32", (4,), (-np.inf,) * 4, (np.inf,) * 4), Discrete(3)),
    ]
)


class _Checkpoint(NamedTuple):
    state: dict[str, Any]
    tensors: bytes


@functools.cache
def _honest_checkpoint() -> _Checkpoint:
    from tests.support.members import make_member

    from covey_server.storage.checkpoint import save_checkpoint

    config = {"algorithm": {"name": "MATD3"}, "environment": {"name": "x.y"}, "training": {"pop_size": 2}}
    state = {
        "run": {
            "config": parse_config(config).model_dump(mode="json"),
            "spaces": spaces_to_json(SPACES),
            "best_member": 2,
            "generation": 3,
        },
        "scheduler": {"ledgers": {"1": {"generation": 3}, "2": {"generation": 3}}},
    }
    with tempfile.TemporaryDirectory() as directory:
        path = save_checkpoint(Path(directory), state, [make_member(1), make_member(2)])
        saved, _ = read_checkpoint(path)
        return _Checkpoint(saved, (path / TENSORS).read_bytes())


def _hostile_checkpoint(rng: Random) -> Files:
    honest_one = _honest_checkpoint()
    state, tensors = json.dumps(honest_one.state).encode(), honest_one.tensors
    draw = rng.random()
    if draw < 0.55:
        # A part of the state that is not too deep down: most of the text is numbers of networks.
        text = dict(honest_one.state)
        part = rng.choice(("run", "members", "all"))
        if part == "members":
            text["members"] = [json.loads(json.dumps(m)) for m in text["members"]]
            member = rng.choice(text["members"])
            key = rng.choice(list(member))
            member[key] = rng.choice((member[key], None, 3, "x", [], {}))
        state = hostile_json(rng, text).encode(errors="replace")
    elif draw < 0.8:
        size = int.from_bytes(tensors[:8], "little")
        if rng.random() < 0.5:
            header = hostile_json(rng, json.loads(tensors[8 : 8 + size])).encode(errors="replace")
            tensors = len(header).to_bytes(8, "little") + header + tensors[8 + size :]
        else:
            tensors = spoil_bytes(rng, tensors[: 8 + size]) + tensors[8 + size :]
    elif draw < 0.9:
        tensors = bytes(save({rng.choice(TEXTS): np.zeros(3, rng.choice(("float32", "int8")))}))
    files = {STATE: state, TENSORS: tensors}
    listed = {n: {"bytes": len(d), "sha256": hashlib.sha256(d).hexdigest()} for n, d in files.items()}
    manifest: Any = {"format": FORMAT, "files": listed}
    files[MANIFEST] = (hostile_json(rng, manifest) if rng.random() < 0.1 else json.dumps(manifest)).encode(
        errors="replace"
    )
    if rng.random() < 0.1:
        name = rng.choice(list(files))
        files[name] = spoil_bytes(rng, files[name])
    return {f"checkpoints/00000001/{name}": data for name, data in files.items()}


def _decode_checkpoint(hostile: Files) -> None:
    path = written(hostile)
    found = read_policies(RunDirectory(path))
    check_spaces(found.spaces)
    for spec, params in found.policies.values():
        assert {p.name: p.shape for p in spec.parameters} == {n: a.shape for n, a in params.items()}


def _decode_members(hostile: Files) -> None:
    state, members = loaded(written(hostile) / "checkpoints")
    assert isinstance(state, dict)
    for member in members:
        for network in member.networks.values():
            assert set(network.params) == {p.name for p in network.spec.parameters}


@functools.cache
def _honest_lineage() -> list[Any]:
    from tests.support.members import make_member

    lineage = Lineage()
    for member_id in range(4):
        lineage.born(make_member(member_id))
        lineage.died(member_id, member_id + 1)
    return [member_json(entry_info(entry)) for entry in lineage.dead]


def _hostile_lineage(rng: Random) -> Files:
    lines = []
    for entry in _honest_lineage():
        item = dict(entry)
        if rng.random() < 0.5:
            item[rng.choice(list(item))] = rng.choice((None, 3, -1, 1e30, 10**30, "x", [], {}))
        lines.append(hostile_json(rng, item) if rng.random() < 0.3 else json.dumps(item))
    data = "\n".join(lines).encode(errors="replace")
    others = {"members.json": b'{"members": []}', "status.json": b'{"state": "complete"}'}
    return others | {"lineage.jsonl": spoil_bytes(rng, data) if rng.random() < 0.3 else data}


def _decode_lineage(hostile: Files) -> None:
    run = written(hostile)
    try:
        RunFiles(run).ask("lineage")
    finally:  # a learner goes on with what can be read
        file = LineageFile(run / "lineage.jsonl")
        found = file.read(4)
        assert file.lines == len(found) == len(Lineage(found).dead)
        assert [e.member_id for e in LineageFile(run / "lineage.jsonl").read(len(found))] == [
            e.member_id for e in found
        ]


def _hostile_export(rng: Random) -> Files:
    spaces = ENVIRONMENTS[0]
    files: Files = {f"p{i}.safetensors": encode_policy(*policy_of(i)) for i in range(len(spaces.agents))}
    index = {
        "format": 1,
        "member_id": 3,
        "agents": {agent: f"p{i}.safetensors" for i, agent in enumerate(spaces.agent_ids)},
        "spaces": spaces_to_json(spaces),
    }
    if rng.random() < 0.3:
        name = rng.choice(list(files))
        files[name] = spoil_bytes(rng, files[name])
    if rng.random() < 0.1:
        del files[rng.choice(list(files))]
    files["policy.json"] = (hostile_json(rng, index) if rng.random() < 0.8 else json.dumps(index)).encode(
        errors="replace"
    )
    return files


def _decode_export(hostile: Files) -> None:
    policy = load_policy(written(hostile))
    seen = {a.agent_id: np.zeros(a.observation.shape, a.observation.dtype) for a in policy.spaces.agents}
    masks = {a.agent_id: np.ones(mask_width(a.action), np.uint8) for a in policy.spaces.agents if a.masked}
    with np.errstate(all="ignore"):
        assert set(policy.act(seen, masks)) == set(seen)


def _hostile_elite(rng: Random) -> Files:
    files = {f"elites/4/{name}": data for name, data in _hostile_export(rng).items()}
    score = {"member_id": 3, "generation": 4, "fitness": -1.5}
    files["elites/4/score.json"] = (hostile_json(rng, score) if rng.random() < 0.3 else json.dumps(score)).encode(
        errors="replace"
    )
    return files | {"config.yaml": b"algorithm: {name: MATD3}\nenvironment: {name: x.y}\ntraining: {}\n"}


def _decode_elite(hostile: Files) -> None:
    member = TrainedMember.elite(RunDirectory.open(written(hostile)), 4)
    for policy, agent in zip(member.policies(), member.spaces.agents, strict=True):
        assert (policy.spec.observation, policy.spec.action) == (agent.observation, agent.action)


DISK = (
    Target("journal", _hostile_journal, _decode_journal, (StorageError,)),
    Target("checkpoint's policies", _hostile_checkpoint, _decode_checkpoint, (StorageError, ConfigError, SpaceError)),
    Target("checkpoint's members", _hostile_checkpoint, _decode_members, (StorageError,)),
    Target("lineage", _hostile_lineage, _decode_lineage, (StorageError,)),
    Target("exported policies", _hostile_export, _decode_export, (StorageError,)),
    Target("an elite's policies", _hostile_elite, _decode_elite, (StorageError,)),
)
