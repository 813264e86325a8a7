"""Loads environments, reads their spaces, and steps many copies of them ("slots") as batched arrays.

An environment of one's own that steps its copies as arrays is a `BatchedEnvironment`; it writes `SlotArrays`, which
`agent_arrays` splits by agent.

Not imported here, as most users need neither: slots in worker processes (`processes`), and the vectorised
environments of the library (`vector`).
"""

from covey.envs.agent_arrays import AgentArrays, agent_arrays
from covey.envs.allow_list import allowed
from covey.envs.arrays import SlotArrays
from covey.envs.building import build_slots
from covey.envs.loading import EnvironmentFactory, load_environment
from covey.envs.reading import read_spaces
from covey.envs.slots import BatchedEnvironment, Fault, Slots
from covey.envs.sync_slots import SyncSlots
from covey.envs.turns import TurnsEnv
from covey.rows import Active

__all__ = [
    "Active",
    "AgentArrays",
    "BatchedEnvironment",
    "EnvironmentFactory",
    "Fault",
    "SlotArrays",
    "Slots",
    "SyncSlots",
    "TurnsEnv",
    "agent_arrays",
    "allowed",
    "build_slots",
    "load_environment",
    "read_spaces",
]
