"""Memory stays bounded while nobody trains: what 64 actors could send, the learner does not ask for."""

from __future__ import annotations

import asyncio
import importlib.util
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import pytest
from tests.support.processes import ROOT, until, write_config

from covey.config import load_config
from covey.run.new_run import new_run
from covey.v1.actor_service_pb2 import DescribeRequest
from covey.v1.actor_service_pb2_grpc import ActorServiceStub
from covey_server.app import LearnerProcess

ACTORS, SLOTS, FRAGMENT_STEPS = 64, 4, 8
OWED, LEARN_STEP, POPULATION = 4, 8, 4


@pytest.fixture
def process(tmp_path: Path) -> Iterator[LearnerProcess]:
    config = load_config(
        write_config(
            tmp_path / "stalled.yaml",
            algorithm={"learn_step": LEARN_STEP, "batch_size": 8},
            training={"max_steps": 10**7, "evo_steps": 10**7, "pop_size": POPULATION},
            learner={"max_updates_owed": OWED, "heartbeat_interval_s": 20.0},
            actors={"fragment_steps": FRAGMENT_STEPS},
        )
    )
    process = LearnerProcess(config, new_run(config, tmp_path / "runs"))
    process.start()
    yield process
    process.stop()


class Crowd(threading.Thread):
    """The actors of the benchmarks, whose environments cost nothing: they send as much as they may."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()

    def run(self) -> None:
        self._loop.run_until_complete(self._work())
        self._loop.close()

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self.join()

    async def _work(self) -> None:
        synthetic = _synthetic()
        async with grpc.aio.insecure_channel(self._address) as channel:
            stub: Any = ActorServiceStub(channel)
            spec = (await stub.Describe(DescribeRequest(protocol_version=1))).environment
        recording = synthetic.Recording(spec)
        actors = [synthetic.Actor(self._address, f"s{i}", None, 0.0) for i in range(ACTORS)]
        works = []
        for actor in actors:  # not more a second than the learner lets in
            works.append(asyncio.create_task(actor.work(recording, spec)))
            await actor.joined.wait()
        await self._over.wait()
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)


def _synthetic() -> ModuleType:
    spec = importlib.util.spec_from_file_location("synthetic", ROOT / "benchmarks" / "synthetic" / "actors.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nothing_grows_while_the_trainer_stands_still(process: LearnerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = Crowd(process.address)
    crowd.start()
    goes_on = threading.Event()
    try:
        population = until(lambda: process.learner.population, what="the first actor joins")
        update = population.algorithm.update

        def stalled(*arguments: Any) -> None:
            goes_on.wait()
            update(*arguments)

        monkeypatch.setattr(population.algorithm, "update", stalled)
        until(lambda: process.report.status().gauges["streams"] == ACTORS, what="all are connected")
        gauges = until(lambda: (g := process.report.status().gauges)["orders_out"] == 0 and g, what="no order is out")
        status = process.report.status()
        # What was out, with all actors, when the last member was held back.
        most_steps = ACTORS * 2 * SLOTS * FRAGMENT_STEPS
        assert OWED < gauges["updates_owed"] <= OWED + 1 + most_steps / LEARN_STEP
        time.sleep(1.5)
        later = process.report.status()
        assert later.env_steps == status.env_steps and later.state == "training"
        assert later.gauges["orders_out"] == 0 and later.gauges["streams"] == later.actors == ACTORS
        assert later.gauges["frames_to_send"] <= ACTORS and not later.gauges["actor_outbox_fragments"]
        assert later.gauges["open_files"] == gauges["open_files"]
        assert later.gauges["rss_bytes"] < gauges["rss_bytes"] + (4 << 20)
        goes_on.set()
        until(lambda: process.report.status().env_steps > later.env_steps, what="it goes on")
    finally:
        goes_on.set()
        crowd.end()
