"""Tests of adapters with the packages that they are for, which are not installed for development.

`tests/project/test_adapted_packages.py` runs them in an environment that has these packages.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from covey.envs import build_slots, load_environment, read_spaces
from covey.envs.slots import Slots
from covey.spaces import Box, EnvironmentSpaces

pytestmark = pytest.mark.filterwarnings("ignore")

BATCHED = [
    pytest.param("vmas:make_env", {"scenario": "balance", "max_steps": 12}, id="vmas-balance"),
    pytest.param("vmas:make_env", {"scenario": "transport", "max_steps": 12}, id="vmas-transport"),
    pytest.param("vmas:make_env", {"scenario": "wheel", "max_steps": 12}, id="vmas-wheel"),  # rewards are a column
    pytest.param("jaxmarl:make", {"env_id": "MPE_simple_spread_v3"}, id="jaxmarl-spread"),
]


def slots_of(name: str, config: dict[str, Any]) -> tuple[Slots, EnvironmentSpaces]:
    factory = load_environment(name, config)
    assert factory.batched
    spaces = read_spaces(factory())
    return build_slots(factory, spaces, 4), spaces


def actions(spaces: EnvironmentSpaces, value: float) -> list[NDArray[Any]]:
    """The same action for everybody, for four copies."""
    return [
        np.full((4, len(g), *g.action.shape), value if isinstance(g.action, Box) else 1, g.action.dtype)
        for g in spaces.groups
    ]


@pytest.mark.parametrize(("name", "config"), BATCHED)
def test_copies_that_are_not_stepped_keep_their_state(name: str, config: dict[str, Any]) -> None:
    shown = []
    for others_first in (True, False):
        slots, spaces = slots_of(name, config)
        assert slots.reset([0, 1, 2, 3], [5, 6, 7, 8]) == []
        if others_first:
            for _ in range(3):
                assert slots.step([0, 2], actions(spaces, 0.9)) == []
        for _ in range(2):
            assert slots.step([3, 1], actions(spaces, -0.4)) == []
        shown.append([slots.arrays.observation[0][[1, 3]].copy(), slots.arrays.reward[[1, 3]].copy()])
        slots.close()
    for with_others, alone in zip(*shown, strict=True):
        np.testing.assert_allclose(with_others, alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("name", "config"), BATCHED)
def test_an_episode_follows_from_its_seed_in_whatever_slot(name: str, config: dict[str, Any]) -> None:
    slots, _ = slots_of(name, config)
    slots.reset([0, 1, 2], [11, 12, 11])
    seen = slots.arrays.observation[0]
    assert np.array_equal(seen[0], seen[2]) and not np.array_equal(seen[0], seen[1])


@pytest.mark.parametrize(
    ("name", "config", "agents"),
    [
        ("lbforaging:Foraging-8x8-2p-3f-v3", {}, 2),
        ("rware:rware-tiny-2ag-v2", {}, 2),
        ("overcooked:Overcooked.from_layout", {"layout": "coordination_ring", "horizon": 20}, 2),
        ("lle:level", {"level": 3}, 2),
    ],
)
def test_an_episode_is_played_with_all_its_agents(name: str, config: dict[str, Any], agents: int) -> None:
    factory = load_environment(name, config)
    spaces = read_spaces(factory())
    assert spaces.agent_ids == tuple(f"agent_{i}" for i in range(agents)) and len(spaces.groups) == 1
