"""A round of images is not held several times: it stays where it came, and is encoded by the minibatch."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from tests.support import rounds

from covey.config import parse_config
from covey.resources import rss_bytes
from covey.rows import RowKind, RowSchema
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces
from covey_server.algorithms import ALGORITHMS, build_networks
from covey_server.experience.rollouts import Rollouts
from covey_server.experience.stream import Stream
from covey_server.member import Member

IMAGE = Box("uint8", (84, 84, 4), (0,) * 28224, (255,) * 28224)
STEPS, FRAGMENTS = 128, 12


def peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def test_a_round_of_images_takes_little_more_than_its_pixels() -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("this system does not tell the peak of a process's memory")
    # In a process of its own, where nothing else takes memory meanwhile.
    measured = multiprocessing.get_context("spawn").Process(target=learn)
    measured.start()
    measured.join()
    assert measured.exitcode == 0


def learn() -> None:
    """Learn from a round of two agents that see images, and look at this process's memory."""
    spaces = EnvironmentSpaces.build([AgentSpec(f"a_{i}", IMAGE, Discrete(3)) for i in range(2)])
    small = {"hidden_size": [8]}
    config = parse_config(
        {
            "algorithm": {"name": "IPPO", "update_epochs": 1},
            "environment": {"name": "none"},
            "network": {"latent_dim": 8, "encoder_config": small, "head_config": small},
            "training": {},
        }
    )
    schema, experience = RowSchema.of(spaces), Rollouts(spaces)
    networks = build_networks(config, spaces, np.random.default_rng(0))
    member = Member(member_id=0, networks=networks, hyperparameters=config.algorithm.initial_hyperparameters())
    algorithm = ALGORITHMS["IPPO"](config, spaces, [member])

    def insert(fragments: int, steps: int) -> None:
        for i in range(fragments):
            columns = schema.empty(steps + 1)
            columns["kind"][:] = [RowKind.STEP] * steps + [RowKind.TAIL]
            columns["a/active"][:] = 1
            columns["a/observation"][:] = 7
            stream = Stream(
                slot=0, member_id=0, first_row=0, rows=steps + 1, steps=steps, lead_in_rows=0, cut_before=False
            )
            experience.insert(0, columns, [stream], "actor", i)

    insert(1, 8)
    algorithm.update([0], experience)  # whatever comes with the first update of all
    before = rss_bytes()
    insert(FRAGMENTS, STEPS)
    Path("/proc/self/clear_refs").write_text("5")
    algorithm.update([0], experience)
    pixels = FRAGMENTS * STEPS * 2 * 28224
    assert peak_bytes() - before < 2 * pixels, (peak_bytes() - before) / pixels


@pytest.mark.parametrize("spaces", [rounds.SIMULTANEOUS, rounds.ASYNCHRONOUS], ids=["all at once", "in turns"])
@pytest.mark.parametrize("indicator", [False, True])
def test_what_is_learned_is_the_same(
    spaces: EnvironmentSpaces, indicator: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = rounds.config(agent_indicator=indicator)
    learned = []
    for at_once in (True, False):
        if not at_once:
            monkeypatch.setattr("covey_server.algorithms.round_inputs.ENCODED_BYTES", 0)
            monkeypatch.setattr("covey_server.algorithms.round_inputs.PIECE_BYTES", 100)
            monkeypatch.setattr("covey_server.experience.rollouts.JOINED_BYTES", 0)
        members = [rounds.member(i, config, spaces) for i in range(2)]
        experience = rounds.together(spaces, {0: 20, 1: 13}, seed=3)
        algorithm = ALGORITHMS["IPPO"](config, spaces, members)
        algorithm.update([0, 1], experience)
        algorithm.unpack()
        learned.append([p for m in members for n in m.networks.values() for p in n.params.values()])
    assert all(np.array_equal(one, other) for one, other in zip(*learned, strict=True))
