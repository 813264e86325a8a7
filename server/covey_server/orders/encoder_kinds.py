"""Which kinds of encoder a run's policies have, and whether an actor that joins can compute them."""

from __future__ import annotations

from collections.abc import Iterable

from covey.errors import RefusedError, one_line
from covey.networks.encoders import kinds_of
from covey.networks.torch_module import TorchModule
from covey.v1.actor_service_pb2 import JoinRequest
from covey_server.member import Member

_POLICY = "actor/"
"""Beginning of the keys of policy networks in `Member.networks`."""

UNSAID = ("mlp",)
"""What an actor that names no kinds can compute: those of before did not name any."""


def check_encoders(request: JoinRequest, members: Iterable[Member]) -> None:
    """Check that an actor which joins knows every kind of encoder that the run's policies have.

    Args:
        request: What the actor says of itself.
        members: The run's population.

    Raises:
        RefusedError: it lacks one; it would fail at its first policy.
    """
    known = set(request.encoder_kinds) or set(UNSAID)
    specs = (n.spec for m in members for key, n in m.networks.items() if key.startswith(_POLICY))
    lacking = sorted({kind for spec in specs for seen in spec.inputs for kind in kinds_of(seen.encoder)} - known)
    if lacking:
        own = TorchModule.kind in lacking
        remedy = "start it with --ops torch and --allow-module" if own else "install covey there as it is here"
        raise RefusedError(
            f"actor {request.actor_id!r} knows encoders {one_line(', '.join(sorted(known)), 200)}, expected "
            f"{', '.join(lacking)} too, as this run's policies have them; {remedy}"
            + ("" if own else ", with the packages that bring further kinds")
        )
