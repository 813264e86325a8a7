"""Ways of running a gradient update: eagerly, from a recording, through torch.compile, as CUDA graphs; see README.md.

`backend_for` gives the backend that `learner.updates` asks for.
"""

from covey_server.packing.updates.backend import Step, UpdateBackend
from covey_server.packing.updates.choice import backend_for

__all__ = ["Step", "UpdateBackend", "backend_for"]
