"""Updates in double precision, so that rounding hides nothing and Adam makes no steps out of it."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from tests.support.plain_off_policy import Alone
from torch import Tensor

from covey_server.algorithms.off_policy import OffPolicy
from covey_server.experience.batch import Batch
from covey_server.experience.replay import Replay
from covey_server.packing.pack import Pack


def double(x: Any) -> Any:
    """Floating-point tensors in double precision, alone or in a tuple; anything else as it is."""
    if isinstance(x, tuple):
        return tuple(double(y) for y in x)
    return x.double() if isinstance(x, Tensor) and x.is_floating_point() else x


class DoubleReplay(Replay):
    """A memory whose samples are in double precision."""

    def sample(self, *args: Any, **kwargs: Any) -> Batch:
        """As the memory's."""
        batch = super().sample(*args, **kwargs)
        return replace(batch, **{f.name: double(getattr(batch, f.name)) for f in fields(batch)})


def pack_in_double(pack: Pack) -> None:
    """Computes in double precision from now on."""
    for name in ("params", "target", "first_moment", "second_moment", "mask"):
        setattr(pack, name, double(getattr(pack, name)))
    pack.valid = {label: v.double() for label, v in pack.valid.items()}


def learner_in_double(learner: OffPolicy) -> None:
    """All of a population's networks, hyperparameters and sums of losses."""
    for pack in (*learner._actors.packs, *learner._critics.packs):
        pack_in_double(pack)
    learner._vectors.vectors = {name: double(x) for name, x in learner._vectors.vectors.items()}
    learner._losses.sums, learner._order.sharing = double(learner._losses.sums), double(learner._order.sharing)


def alone_in_double(member: Alone) -> None:
    """One member's networks, and so what their optimisers begin."""
    for network in (*member.nets.values(), *member.targets.values()):
        network.double()
