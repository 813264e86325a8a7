"""An update asks the device for nothing: on the device "meta", whose numbers nobody can have, it runs to its end.

Whatever would make the host wait for a GPU (`item`, `tolist`, `cpu`, `numpy`, a branch on a tensor, sizes that depend
on numbers) is an error there. Copies to the device that wait, and operations that mix its tensors with the host's, are
watched for. IPPO waits once an epoch with `target_kl` or where the environment forces actions, and once a phase with
`normalize_values`.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.support import rounds
from tests.support.host_copies import HostCopies
from tests.support.replays import CASES, EACH_ALGORITHM, case_of, config, filled, population

from covey.config import Config
from covey_server.algorithms import ALGORITHMS
from covey_server.algorithms.ippo import IPPO
from covey_server.algorithms.off_policy import OffPolicy
from covey_server.experience.replay import Replay
from covey_server.packing.networks_by_role import MOST_NUMBERS, PASS_COST
from covey_server.packing.updates import UpdateBackend
from covey_server.packing.updates.capture import Capture
from covey_server.packing.updates.replayed import Replayed
from covey_server.packing.updates.verification import Verification


@pytest.fixture(autouse=True)
def _packs_as_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PASS_COST, "meta", PASS_COST["cpu"])
    monkeypatch.setitem(MOST_NUMBERS, "meta", MOST_NUMBERS["cpu"])


NO_NUMBERS = (NotImplementedError, RuntimeError, ValueError)
"""What torch raises on the device "meta" when the host asks for a tensor's numbers; which one depends on the way."""


@pytest.mark.parametrize(("algorithm", "case"), EACH_ALGORITHM)
def test_an_update_from_replay_waits_for_nothing(algorithm: str, case: str) -> None:
    spaces, settings = case_of(case)
    replay = filled(spaces, device="meta")
    members = population(algorithm, spaces, **settings)
    learner = ALGORITHMS[algorithm](config(algorithm, **settings), spaces, members, "meta")
    for due in ((0, 1, 2, 3), (0, 1, 2, 3), (1, 3)):
        learner.update(due, replay)
    assert members[1].updates == 3
    with pytest.raises(NO_NUMBERS):
        learner.metrics()


def test_a_learning_phase_waits_for_nothing() -> None:
    spaces = rounds.SIMULTANEOUS
    made = rounds.config(update_epochs=2, batch_size=16)
    members = [rounds.member(m, made, spaces) for m in range(3)]
    learner = IPPO(made, spaces, members, "meta")
    learner.update(range(3), rounds.together(spaces, {0: 24, 1: 16, 2: 24}, seed=0))
    assert [m.updates for m in members] == [1, 2, 3]
    with pytest.raises(NO_NUMBERS):
        learner.metrics()


@pytest.mark.parametrize(("algorithm", "case"), EACH_ALGORITHM)
def test_copies_to_the_device_for_an_update_from_replay_do_not_wait(algorithm: str, case: str) -> None:
    spaces, settings = case_of(case)
    members = population(algorithm, spaces, **settings)
    learner = ALGORITHMS[algorithm](config(algorithm, **settings), spaces, members, "meta")
    replay = filled(spaces, device="meta")
    with HostCopies() as copies:
        for due in ((0, 1, 2, 3), (0, 2), (1, 2, 3)):
            learner.update(due, replay)
            learner.snapshot()
    assert copies.waits == copies.mixed == []


@pytest.mark.parametrize("case", ["boxes", "turns, shared with indicator"])
def test_experience_is_stored_without_waiting(case: str) -> None:
    """The thread that takes it in holds the memory's lock meanwhile, which updates need."""
    noted: list[str] = []
    inserted: list[int] = []

    class Watched(Replay):
        def insert(self, *args: Any, **kwargs: Any) -> None:
            with HostCopies() as copies:
                super().insert(*args, **kwargs)
            noted.extend(copies.waits + copies.mixed)
            inserted.append(len(self))

    spaces, _ = CASES[case]
    filled(spaces, device="meta", kind=Watched)
    assert noted == [] and len(inserted) > 3


@pytest.mark.parametrize("shared", [False, True])
def test_copies_to_the_device_for_a_learning_phase_do_not_wait(shared: bool) -> None:
    spaces = rounds.SIMULTANEOUS
    made = rounds.config(shared, update_epochs=2, batch_size=16)
    members = [rounds.member(m, made, spaces, batch_size=16 - m) for m in range(3)]
    learner = IPPO(made, spaces, members, "meta")
    experience = rounds.together(spaces, {0: 24, 1: 16, 2: 24}, seed=0)
    with HostCopies() as copies:
        learner.update(range(3), experience)
        learner.snapshot()
    assert copies.waits == copies.mixed == []


def recorded(config: Config) -> Config:
    return config.model_copy(update={"learner": config.learner.model_copy(update={"updates": "recorded"})})


def assert_captures_read_the_device_alone(backend: UpdateBackend) -> None:
    """A CUDA graph would copy from where the host's numbers once were."""
    assert isinstance(backend, Replayed)
    captures = [c for c in backend._captures.values() if isinstance(c, Capture)]
    assert len(captures) > 1
    for capture in captures:
        assert {x.device.type for x in capture.outside if x.dim()} == {"meta"}


@pytest.fixture
def _never_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparisons of a capture with its step wait for the device; they are few."""
    monkeypatch.setattr(Verification, "due", lambda self, capture: False)


@pytest.mark.usefixtures("_never_compared")
@pytest.mark.parametrize(
    ("algorithm", "case"),
    [
        pytest.param("MADDPG", "mixed kinds", marks=pytest.mark.slow),
        pytest.param("MADDPG", "turns", marks=pytest.mark.slow),
        pytest.param("MATD3", "mixed kinds", marks=pytest.mark.slow),
        ("MATD3", "turns"),
        ("MASAC", "boxes in turns, shared with indicator"),
    ],
)
def test_a_captured_update_from_replay_copies_nothing_from_the_host(algorithm: str, case: str) -> None:
    spaces, settings = case_of(case)
    made = recorded(config(algorithm, **settings))
    learner = ALGORITHMS[algorithm](made, spaces, population(algorithm, spaces, **settings), "meta")
    assert isinstance(learner, OffPolicy)
    replay = filled(spaces, device="meta")
    for _ in range(6):
        learner.update((0, 1, 2, 3), replay)
        learner.update((0, 2), replay)
    assert_captures_read_the_device_alone(learner._updates)


@pytest.mark.usefixtures("_never_compared")
def test_a_captured_learning_phase_copies_nothing_from_the_host() -> None:
    spaces = rounds.SIMULTANEOUS
    made = recorded(rounds.config(update_epochs=3, batch_size=8))
    learner = IPPO(made, spaces, [rounds.member(m, made, spaces, batch_size=8 - m) for m in range(2)], "meta")
    learner.update((0, 1), rounds.together(spaces, {0: 24, 1: 16}, seed=0))
    for group in learner._groups:
        assert_captures_read_the_device_alone(group._updates)


@pytest.mark.parametrize(
    "reading",
    [
        lambda x: x.item(),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x.numpy(),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: 1 if x > 0 else 0,
    ],
)
def test_the_device_notices_every_way_to_wait(reading: Any) -> None:
    with pytest.raises((*NO_NUMBERS, TypeError)):
        reading(torch.ones((), device="meta"))


@pytest.mark.parametrize(
    "copying",
    [
        lambda x: torch.ones(4).to(x.device),
        lambda x: torch.tensor([1, 2], device=x.device),
        lambda x: x.copy_(torch.ones(4)),
        lambda x: x.__setitem__(slice(2), torch.ones(2)),
        lambda x: x[[1, 2]],
        lambda x: x.__setitem__([1, 2], 0.0),
    ],
)
def test_copies_that_wait_are_noticed(copying: Any) -> None:
    with HostCopies() as copies:
        copying(torch.ones(4, device="meta"))
    assert len(copies.waits) == 1 and copies.mixed == []


def test_copies_that_do_not_wait_and_numbers_are_allowed_and_mixed_operations_noticed() -> None:
    x = torch.ones(4, device="meta")
    with HostCopies() as copies:
        x.copy_(torch.ones(4).to("meta", non_blocking=True) * torch.ones(()))
        x[1:] = 2.0
    assert copies.waits == copies.mixed == []
    with HostCopies() as copies:
        x.index_select(0, torch.tensor([1]))
        x[torch.tensor([1])]
    assert len(copies.mixed) == 2
