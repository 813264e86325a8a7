"""An update asks the device for nothing: on the device "meta", whose numbers nobody can have, it runs to its end.

Whatever would make the host wait for a GPU (`item`, `tolist`, `cpu`, `numpy`, a branch on a tensor, sizes that depend
on numbers) is an error there. IPPO waits once an epoch with `target_kl` or where the environment forces actions, and
once a phase with `normalize_values`.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.support import rounds
from tests.support.replays import CASES, EACH_CASE, config, filled, population

from covey_server.algorithms import ALGORITHMS
from covey_server.algorithms.ippo import IPPO
from covey_server.packing.networks_by_role import PASS_COST


@pytest.fixture(autouse=True)
def _packs_as_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PASS_COST, "meta", PASS_COST["cpu"])


NO_NUMBERS = (NotImplementedError, RuntimeError, ValueError)


@pytest.mark.parametrize("case", EACH_CASE)
@pytest.mark.parametrize("algorithm", ["MADDPG", "MATD3"])
def test_an_update_from_replay_waits_for_nothing(algorithm: str, case: str) -> None:
    spaces, settings = CASES[case]
    replay = filled(spaces, device="meta")
    members = population(algorithm, spaces, **settings)
    learner = ALGORITHMS[algorithm](config(algorithm, **settings), spaces, members, "meta")
    for due in ((0, 1, 2, 3), (0, 1, 2, 3), (1, 3)):
        learner.update(due, replay)
    assert members[1].updates == 3
    with pytest.raises(NO_NUMBERS):
        learner.metrics()


def test_a_learning_phase_waits_for_nothing() -> None:
    spaces = rounds.SIMULTANEOUS
    made = rounds.config(update_epochs=2, batch_size=16)
    members = [rounds.member(m, made, spaces) for m in range(3)]
    learner = IPPO(made, spaces, members, "meta")
    learner.update(range(3), rounds.together(spaces, {0: 24, 1: 16, 2: 24}, seed=0))
    assert [m.updates for m in members] == [1, 2, 3]
    with pytest.raises(NO_NUMBERS):
        learner.metrics()


@pytest.mark.parametrize(
    "reading",
    [
        lambda x: x.item(),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x.numpy(),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: 1 if x > 0 else 0,
    ],
)
def test_the_device_notices_every_way_to_wait(reading: Any) -> None:
    with pytest.raises((*NO_NUMBERS, TypeError)):
        reading(torch.ones((), device="meta"))
