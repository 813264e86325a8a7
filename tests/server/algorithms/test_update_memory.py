"""What an update of convolutional networks takes of memory is what is said before it begins."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from covey.config import parse_config
from covey.resources import rss_bytes
from covey.rows import RowKind, RowSchema
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces
from covey.v1.fragment_pb2 import SlotStream
from covey_server.algorithms import ALGORITHMS
from covey_server.build import PopulationFactory
from covey_server.experience.replay import Replay

STEPS, UPDATES = 64, 6


def peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


@pytest.mark.parametrize(("side", "channels"), [(84, 4), (10, 5)], ids=["eager", "recorded"])
@pytest.mark.parametrize("name", ["MADDPG", "MATD3"])
def test_an_update_takes_about_what_is_computed(name: str, side: int, channels: int) -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("this system does not tell the peak of a process's memory")
    # In a process of its own, where nothing else takes memory meanwhile.
    measured = multiprocessing.get_context("spawn").Process(target=learn, args=(name, side, channels))
    measured.start()
    measured.join()
    assert measured.exitcode == 0


def learn(name: str, side: int, channels: int) -> None:
    """Update a population of two that sees images, and compare this process's memory with what is computed."""
    numbers = side * side * channels
    image = Box("uint8", (side, side, channels), (0,) * numbers, (255,) * numbers)
    spaces = EnvironmentSpaces.build([AgentSpec(f"a_{i}", image, Discrete(3)) for i in range(2)])
    config = parse_config(
        {
            "algorithm": {"name": name},
            "environment": {"name": "none"},
            "training": {"pop_size": 2},
            "replay_buffer": {"max_size": STEPS},
        }
    )
    made = PopulationFactory(config).fresh(spaces)
    columns = RowSchema.of(spaces).empty(STEPS + 1)
    columns["kind"][:] = [RowKind.STEP] * STEPS + [RowKind.TAIL]
    columns["a/active"][:] = 1
    assert isinstance(made.experience, Replay)
    made.experience.insert(columns, [SlotStream(rows=STEPS + 1, steps=STEPS)])
    before = rss_bytes()
    for _ in range(UPDATES):
        made.algorithm.update([0, 1], made.experience)
    plan = ALGORITHMS[name].planned_memory(config, spaces)
    taken = peak_bytes() - before
    assert 0.6 < taken / (plan.batch + plan.layers) < 1.6, (taken >> 20, plan.batch >> 20, plan.layers >> 20)
