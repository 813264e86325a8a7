"""Which version of the protocol an actor and a learner speak: each knows a range, and the newest of both is taken."""

from __future__ import annotations

from dataclasses import dataclass

from covey.errors import RefusedError
from covey.spaces import EnvironmentSpaces, MultiBinary, MultiDiscrete, leaves
from covey.v1.actor_service_pb2 import DescribeRequest
from covey.wire.limits import NEWEST_PROTOCOL_VERSION, OLDEST_PROTOCOL_VERSION


@dataclass(frozen=True, slots=True)
class Versions:
    """The protocol versions that one side speaks: all from `oldest` to `newest`."""

    oldest: int
    newest: int

    @staticmethod
    def of(request: DescribeRequest) -> Versions:
        """The versions that an actor says it speaks; one from before there were ranges says a single one."""
        newest = request.protocol_version
        return Versions(
            request.oldest_protocol_version if request.HasField("oldest_protocol_version") else newest, newest
        )

    def __contains__(self, version: int) -> bool:
        return self.oldest <= version <= self.newest

    def __str__(self) -> str:
        return f"version {self.newest}" if self.oldest == self.newest else f"versions {self.oldest} to {self.newest}"


SPOKEN = Versions(OLDEST_PROTOCOL_VERSION, NEWEST_PROTOCOL_VERSION)
"""The protocol versions that this covey speaks, as an actor and as a learner."""

EVALUATION_SINCE = 2
"""The first version whose actors evaluate with other arguments of the environment's function than they train with."""


MEMORY_SINCE = 2
"""The first version whose actors play policies with memory, and send what these remember."""


def needed_version(spaces: EnvironmentSpaces) -> int:
    """The oldest protocol version in which these spaces can be said.

    Trees, several dimensions of choices, stacks of frames and states of whole environments need 2.
    """
    if spaces.frame_stack > 1 or spaces.state is not None:
        return 2
    for agent in spaces.agents:
        for leaf in (*leaves(agent.observation), *leaves(agent.action)):
            space = leaf.space
            several = isinstance(space, MultiDiscrete | MultiBinary) and len(space.shape) > 1
            if leaf.path or several or (isinstance(space, MultiDiscrete) and any(space.start)):
                return 2
    return 1


def agreed_version(who: str, actor: Versions, learner: Versions) -> int:
    """The protocol version that an actor and a learner speak with each other: the newest that both know.

    Args:
        who: Begins the error, such as "learner 10.0.0.1:50051".
        actor: What the actor speaks.
        learner: What the learner speaks.

    Raises:
        RefusedError: there is none; the error names both ranges and the side that is too old.
    """
    if actor.oldest > actor.newest:
        raise RefusedError(
            f"{who}: the actor gives protocol versions from {actor.oldest} to {actor.newest}, expected the oldest "
            "first; correct oldest_protocol_version there"
        )
    version = min(actor.newest, learner.newest)
    if version in actor and version in learner:
        return version
    behind = "actor" if actor.newest < learner.oldest else "learner"
    raise RefusedError(
        f"{who}: the actor speaks protocol {actor}, the learner {learner}, expected one that both speak; install a "
        f"newer covey on the {behind}'s side"
    )
