"""Updates through torch.compile are those without it; mutations that keep to a multiple compile nothing again."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tests.support import rounds
from tests.support.replays import CASES, case_of, filled, member
from tests.support.replays import config as off_policy_config

from covey.config import Config
from covey_server.algorithms import ALGORITHMS
from covey_server.algorithms.ippo import IPPO
from covey_server.member import Member
from covey_server.packing.updates import compiled as compiled_updates

if TYPE_CHECKING:
    from torch._dynamo.testing import CompileCounterWithBackend

pytestmark = pytest.mark.slow


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> CompileCounterWithBackend:
    """All of torch.compile but the C++ compiler, which takes a minute; counts what it compiles."""
    from torch._dynamo.testing import CompileCounterWithBackend  # takes seconds

    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    monkeypatch.setattr(compiled_updates, "BACKEND", counter)
    return counter


def compiled(config: Config) -> Config:
    return config.model_copy(update={"learner": config.learner.model_copy(update={"updates": "compiled"})})


def assert_close(one: Member, other: Member) -> None:
    for key, network in one.networks.items():
        for name, values in network.params.items():
            torch.testing.assert_close(values, other.networks[key].params[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("algorithm", "case"),
    [
        *itertools.product(["MADDPG", "MATD3"], ["mixed kinds", "several choices", "turns"]),
        ("MASAC", "boxes in turns, shared with indicator"),
    ],
)
def test_updates_from_replay_are_the_same_compiled(
    algorithm: str, case: str, backend: CompileCounterWithBackend
) -> None:
    spaces, settings = case_of(case)
    made = off_policy_config(algorithm, **settings)
    results = []
    for config in (made, compiled(made)):
        members = [member(m, made, spaces, batch_size=5 + m) for m in range(2)]
        learner = ALGORITHMS[algorithm](config, spaces, members)
        replay = filled(spaces)
        for _ in range(4):
            learner.update((0, 1), replay)
        learner.unpack()
        results.append(members)
    for one, other in zip(*results, strict=True):
        assert_close(one, other)
    assert backend.frame_count >= 2


def test_learning_phases_are_the_same_compiled(backend: CompileCounterWithBackend) -> None:
    made = rounds.config(batch_size=16, update_epochs=2)
    results = []
    for config in (made, compiled(made)):
        members = [rounds.member(m, made, rounds.SIMULTANEOUS) for m in range(2)]
        learner = IPPO(config, rounds.SIMULTANEOUS, members)
        for seed in range(2):
            learner.update((0, 1), rounds.together(rounds.SIMULTANEOUS, {0: 24, 1: 24}, seed))
        learner.unpack()
        results.append(members)
    for one, other in zip(*results, strict=True):
        assert_close(one, other)
    assert backend.frame_count >= 1


def test_other_widths_below_the_multiple_compile_nothing_again(backend: CompileCounterWithBackend) -> None:
    spaces, _ = CASES["boxes"]
    counts: list[Any] = []
    for hidden, latent, batch in (((6,), 5, 8), ((20,), 31, 32), ((9,), 8, 5), ((40,), 8, 5)):
        config = compiled(off_policy_config("MADDPG", hidden=hidden, latent=latent))
        members = [member(m, config, spaces, batch_size=batch) for m in range(2)]
        ALGORITHMS["MADDPG"](config, spaces, members).update((0, 1), filled(spaces))
        counts.append(backend.frame_count)
    assert counts[0] == counts[1] == counts[2] < counts[3]
