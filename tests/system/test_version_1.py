"""An actor of protocol version 1, frozen as it was before there were ranges of versions, works for today's learner."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from tests.support.processes import PATIENCE_S, covey_json, free_port, newest_run, processes, until, write_config
from tests.support.running_learners import status
from tests.support.version_1.client import Client
from tests.support.version_1.messages import MESSAGES
from tests.support.version_1.play import COLUMNS
from tests.support.version_1.recorder import Recorder

RECORDED = json.loads((Path(__file__).parents[1] / "support" / "version_1" / "recorded_session.json").read_text())
"""What an actor of that version said in one session, byte by byte, and the orders and policies that it was given."""


def of(kind: str, said: str, messages: list[bytes]) -> list[Any]:
    """Messages of a method, decoded; heartbeats, which come when they come, are left out."""
    decoded = [MESSAGES[kind].FromString(data) for data in messages]
    return [m for m in decoded if said != "Work" or m.WhichOneof("kind") != "heartbeat"]


def rows(fragment: Any) -> dict[str, np.ndarray[Any, Any]]:
    raw = zstandard.ZstdDecompressor().decompress(fragment.blob) if fragment.blob else b""
    count = sum(s.lead_in_rows + s.rows for s in fragment.streams)
    columns, at = {}, 0
    for name, dtype, shape in COLUMNS:
        columns[name] = np.ndarray((count, *shape), dtype, raw, at)
        at += columns[name].nbytes
    assert at == len(raw) == fragment.raw_bytes
    return columns


@pytest.fixture(scope="module")
def said() -> dict[str, list[bytes]]:
    """Requests and frames that the frozen client sends when the learner's side of the recorded session is replayed."""
    policies = [bytes.fromhex(data) for data in RECORDED["policies"]]
    files = {hashlib.sha256(data).digest(): data for data in policies}
    recorder = Recorder([bytes.fromhex(data) for data in RECORDED["orders"]], files)
    try:
        Client(recorder.address, "recorded").run()
        assert recorder.over.wait(PATIENCE_S)
    finally:
        recorder.stop()
    return recorder.said


def test_the_frozen_client_introduces_itself_as_actors_of_that_version_did(said: dict[str, list[bytes]]) -> None:
    assert [data.hex() for data in said["Describe"]] == RECORDED["said"]["Describe"] == ["0801"]
    [mine], [theirs] = said["Join"], RECORDED["said"]["Join"]
    joins = [MESSAGES["JoinRequest"].FromString(data) for data in (mine, bytes.fromhex(theirs))]
    for join in joins:
        assert join.incarnation
        join.ClearField("incarnation")
        join.ClearField("hostname")
        join.ClearField("software_version")
    assert joins[0].SerializeToString(deterministic=True) == joins[1].SerializeToString(deterministic=True)


def test_its_fragments_have_the_layout_of_that_version(said: dict[str, list[bytes]]) -> None:
    mine = of("ActorFrame", "Work", said["Work"])
    theirs = of("ActorFrame", "Work", [bytes.fromhex(data) for data in RECORDED["said"]["Work"]])
    kinds = [frame.WhichOneof("kind") for frame in theirs]
    assert kinds == [frame.WhichOneof("kind") for frame in mine] == ["hello", *["fragment"] * 4, "finish"]
    assert mine[0] == theirs[0] and mine[-1].finish.last_seq == theirs[-1].finish.last_seq == 4
    for ours, recorded in zip(mine[1:-1], theirs[1:-1], strict=True):
        a, b = ours.fragment, recorded.fragment
        for name, values in rows(a).items():
            np.testing.assert_allclose(values, rows(b)[name], atol=1e-5, err_msg=f"order {a.order_id}, {name}")
        for fragment in (a, b):
            for field in ("blob", "wait_s", "work_s"):
                fragment.ClearField(field)
            for episode in fragment.episodes:
                episode.returns[:] = [round(value, 4) for value in episode.returns]
        assert a == b


def test_it_trains_with_todays_learner_to_the_end(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    config = write_config(
        tmp_path / "job.yaml",
        environment={"name": "tests.support.environments:counter", "config": {"length": 5}, "num_envs": 2},
        algorithm={"name": "MADDPG", "O_U_noise": False},
        network={"encoder_config": {"hidden_size": [16], "activation": "ReLU"}},
        training={"max_steps": 400, "evo_steps": 200, "pop_size": 2},
        mutation={"probabilities": {"no_mut": 1.0, "arch_mut": 0, "new_layer": 0, "act_mut": 0, "rl_hp_mut": 0}},
    )
    module = "tests.support.version_1.client"
    with processes() as start:
        learner = start(tmp_path / "learner.log", "learner", config, "--bind", address, "--runs", tmp_path / "runs")
        until(lambda: status(address), what="the learner answers")
        actor = start(tmp_path / "actor.log", address, module=module)
        assert learner.wait() == 0, learner.output() + actor.output()
        assert actor.wait() == 0, actor.output()
    answered = covey_json("status", newest_run(tmp_path / "runs"), "--json")
    assert answered["state"] == "complete" and answered["env_steps"] == 2 * 400
    assert answered["generation"] == 1 and answered["updates"] > 0
    assert not answered["counters"].get("refused") and not answered["counters"].get("evaluation_void")
