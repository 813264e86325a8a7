"""Environments: loading them, reading their spaces, and stepping copies of them as batched slots."""

from covey.envs.loading import EnvironmentFactory, allowed, load_environment, read_spaces
from covey.envs.slots import Fault, Slots, SyncSlots

__all__ = ["EnvironmentFactory", "Fault", "Slots", "SyncSlots", "allowed", "load_environment", "read_spaces"]
