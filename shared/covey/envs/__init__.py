"""Environments: loading them, reading their spaces, and stepping copies of them as batched slots."""

from covey.envs.arrays import SlotArrays
from covey.envs.batched import BatchedEnvironment
from covey.envs.loading import EnvironmentFactory, allowed, load_environment
from covey.envs.processes import AsyncSlots
from covey.envs.reading import read_spaces
from covey.envs.slots import Fault, Slots, SyncSlots, build_slots
from covey.envs.turns import TurnsEnv
from covey.envs.vector import (
    AsyncPettingZooVecEnv,
    Observations,
    PettingZooVecEnv,
    SyncPettingZooVecEnv,
    make_multi_agent_vect_envs,
)

__all__ = [
    "AsyncPettingZooVecEnv",
    "AsyncSlots",
    "BatchedEnvironment",
    "EnvironmentFactory",
    "Fault",
    "Observations",
    "PettingZooVecEnv",
    "SlotArrays",
    "Slots",
    "SyncPettingZooVecEnv",
    "SyncSlots",
    "TurnsEnv",
    "allowed",
    "build_slots",
    "load_environment",
    "make_multi_agent_vect_envs",
    "read_spaces",
]
