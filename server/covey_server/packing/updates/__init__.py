"""Ways of running a gradient update: eagerly, from a recording, through torch.compile, as CUDA graphs; see README.md.

`backend_of` gives the backend that a configuration asks for, `backend_for` that of a setting alone.
"""

from covey_server.packing.updates.backend import Step, UpdateBackend
from covey_server.packing.updates.choice import backend_for, backend_of, is_recorded

__all__ = ["Step", "UpdateBackend", "backend_for", "backend_of", "is_recorded"]
