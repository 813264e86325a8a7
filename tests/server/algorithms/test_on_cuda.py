"""Updates on a GPU: as on a CPU, packed as alone, captured as eager, without waiting, while other threads use it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from tests.support import rounds
from tests.support.double_precision import DoubleReplay, learner_in_double
from tests.support.random_play import fragments, play
from tests.support.replays import CASES, config, filled, population

from covey.config import Config, Updates
from covey.spaces import EnvironmentSpaces
from covey_server.algorithms import ALGORITHMS, Algorithm
from covey_server.algorithms.ippo import IPPO
from covey_server.algorithms.off_policy import OffPolicy
from covey_server.experience.replay import Replay
from covey_server.member import Member
from covey_server.packing.updates import verification
from covey_server.packing.updates.capture import Capture
from covey_server.packing.updates.replayed import Replayed
from covey_server.packing.updates.verification import Verification

pytestmark = pytest.mark.cuda

DEVICE = "cuda"
DUE = [(0, 1, 2, 3), (0, 2), (3, 1, 2), (1,), *[(0, 1, 2, 3)] * 6]
ROUND_STEPS = {0: 24, 1: 16, 2: 24}


@pytest.fixture(autouse=True)
def _trust_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "PROCESS", Verification())


def with_updates(made: Config, updates: Updates) -> Config:
    return made.model_copy(update={"learner": made.learner.model_copy(update={"updates": updates})})


def off_policy(
    algorithm: str, case: str, members: Sequence[Member], device: str, updates: Updates, *, double: bool = True
) -> OffPolicy:
    spaces, settings = CASES[case]
    made = with_updates(config(algorithm, **settings), updates)
    learner = ALGORITHMS[algorithm](made, spaces, members, device)
    assert isinstance(learner, OffPolicy)
    if double:
        learner_in_double(learner)
    return learner


def members_of(algorithm: str, case: str) -> list[Member]:
    spaces, settings = CASES[case]
    return population(algorithm, spaces, **settings)


def assert_alike(learned: Sequence[Member], others: Sequence[Member], atol: float, rtol: float = 0.0) -> None:
    for mine, other in zip(learned, others, strict=True):
        assert mine.updates == other.updates
        for key, network in mine.networks.items():
            assert network.adam_steps == other.networks[key].adam_steps
            for name, p in network.params.items():
                np.testing.assert_allclose(p, other.networks[key].params[name], rtol, atol, err_msg=f"{key} {name}")


def backends(learner: Algorithm) -> list[Any]:
    return [learner._updates] if isinstance(learner, OffPolicy) else [g._updates for g in learner._groups]  # type: ignore[attr-defined]


def assert_captured_and_trusted(learner: Algorithm) -> None:
    for backend in backends(learner):
        assert isinstance(backend, Replayed)
        assert backend._seen.trusted and not backend._seen._unsteady
        assert any(isinstance(c, Capture) for c in backend._captures.values())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("algorithm", ["MADDPG", "MATD3"])
def test_a_population_on_a_gpu_learns_what_it_learns_on_a_cpu_and_what_each_member_learns_alone(
    algorithm: str, case: str
) -> None:
    spaces, _ = CASES[case]
    on_cpu, on_gpu, alone = (members_of(algorithm, case) for _ in range(3))
    reference = off_policy(algorithm, case, on_cpu, "cpu", "eager")
    packed = off_policy(algorithm, case, on_gpu, DEVICE, "eager")
    singles = [off_policy(algorithm, case, [m], DEVICE, "eager") for m in alone]
    there, here = (filled(spaces, device=device, kind=DoubleReplay) for device in ("cpu", DEVICE))
    for due in DUE[:6]:
        reference.update(due, there)
        packed.update(due, here)
        for m in due:
            singles[m].update([0], here)
    for learner in (reference, packed, *singles):
        learner.unpack()
    # In double precision; normal and Gumbel draws are in single, where logarithms of both devices differ by rounding.
    assert_alike(on_gpu, alone, 1e-6)
    assert_alike(on_gpu, on_cpu, 1e-4)
    losses = packed.metrics()
    for member_id, means in reference.metrics().items():
        assert losses[member_id] == pytest.approx(means, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("updates", ["graph", "recorded"])
@pytest.mark.parametrize("case", ["mixed kinds", "turns"])
@pytest.mark.parametrize("algorithm", ["MADDPG", "MATD3"])
def test_captured_updates_from_replay_are_the_eager_ones(algorithm: str, case: str, updates: Updates) -> None:
    spaces, _ = CASES[case]
    eager, captured = members_of(algorithm, case), members_of(algorithm, case)
    learners = [
        off_policy(algorithm, case, eager, DEVICE, "eager"),
        off_policy(algorithm, case, captured, DEVICE, updates),
    ]
    replay = filled(spaces, device=DEVICE, kind=DoubleReplay)
    for due in DUE * 3:
        for learner in learners:
            learner.update(due, replay)
    for learner in learners:
        learner.unpack()
    assert_captured_and_trusted(learners[1])
    assert_alike(captured, eager, 1e-6)


def learning_phase(updates: Updates, device: str, **settings: Any) -> tuple[IPPO, list[Member]]:
    spaces = rounds.SIMULTANEOUS
    made = with_updates(rounds.config(update_epochs=3, batch_size=8, **settings), updates)
    members = [rounds.member(m, made, spaces, batch_size=8 - m) for m in range(3)]
    learner = IPPO(made, spaces, members, device)
    for seed in range(3):
        learner.update(range(3), rounds.together(spaces, ROUND_STEPS, seed))
    return learner, members


@pytest.mark.parametrize(("updates", "device"), [("eager", "cpu"), ("graph", DEVICE), ("recorded", DEVICE)])
def test_learning_phases_on_a_gpu_are_those_of_a_cpu_and_captured_ones_the_eager_ones(
    updates: Updates, device: str
) -> None:
    reference, expected = learning_phase("eager", DEVICE)
    learner, members = learning_phase(updates, device)
    reference.unpack()
    learner.unpack()
    assert_alike(members, expected, 1e-4, 1e-3)
    if updates != "eager":
        assert_captured_and_trusted(learner)


def test_a_member_alone_learns_in_its_phase_what_it_learns_in_a_population() -> None:
    spaces, made = rounds.SIMULTANEOUS, rounds.config(update_epochs=3, batch_size=8)
    together, alone = ([rounds.member(m, made, spaces, batch_size=8 - m) for m in range(3)] for _ in range(2))
    packed = IPPO(made, spaces, together, DEVICE)
    packed.update(range(3), rounds.together(spaces, ROUND_STEPS, 0))
    packed.unpack()
    for m, member in enumerate(alone):
        single = IPPO(made, spaces, [member], DEVICE)
        single.update([0], rounds.together(spaces, {m: ROUND_STEPS[m]}, 0))
        single.unpack()
    assert_alike(together, alone, 1e-4, 1e-3)


@pytest.fixture
def waiting_is_an_error() -> Iterator[Any]:
    """A function after whose call torch raises where the host waits for the GPU."""
    before = torch.cuda.get_sync_debug_mode()
    try:
        yield lambda: torch.cuda.set_sync_debug_mode("error")
    finally:
        torch.cuda.set_sync_debug_mode(before)


@pytest.mark.parametrize("updates", ["eager", "graph"])
@pytest.mark.parametrize("algorithm", ["MADDPG", "MATD3"])
def test_updates_from_replay_and_new_experience_wait_for_nothing(
    algorithm: str, updates: Updates, waiting_is_an_error: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = "turns"
    spaces, _ = CASES[case]
    monkeypatch.setattr(Verification, "due", lambda self, capture: False)  # comparisons read both results
    learner = off_policy(algorithm, case, members_of(algorithm, case), DEVICE, updates, double=False)
    replay = filled(spaces, device=DEVICE)
    cut = fragments(play(spaces, 2, 1, forced=0.3), spaces, [5, 8])
    for due in [(0, 1, 2, 3), (0, 2)] * 6:
        learner.update(due, replay)
    waiting_is_an_error()
    for due in [(0, 1, 2, 3), (0, 2), (1, 3), (0, 1, 2, 3)]:
        learner.update(due, replay)
        learner.snapshot()
    for fragment in cut:
        replay.insert(fragment.columns, fragment.streams)
    with pytest.raises(RuntimeError, match="synchroniz"):
        learner.metrics()


def test_a_learning_phase_waits_for_nothing(waiting_is_an_error: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Verification, "due", lambda self, capture: False)
    learner, _ = learning_phase("eager", DEVICE)
    waiting_is_an_error()
    learner.update(range(3), rounds.together(rounds.SIMULTANEOUS, ROUND_STEPS, 7))


def test_steps_are_captured_while_another_thread_stores_experience_and_reads_policies() -> None:
    case = "turns"
    spaces: EnvironmentSpaces = CASES[case][0]
    learner = off_policy("MATD3", case, members_of("MATD3", case), DEVICE, "graph", double=False)
    replay: Replay = filled(spaces, device=DEVICE)
    more = fragments(play(spaces, 2, 1, forced=0.3), spaces, [5, 8])
    ends, failed, done = threading.Event(), list[BaseException](), [0]

    def beside() -> None:
        try:
            while not ends.is_set():
                for fragment in more:
                    replay.insert(fragment.columns, fragment.streams)
                # Memory of a size that was not asked for before, and a copy to the host that waits.
                torch.ones(1 << 12, 8 + done[0] % 64, device=DEVICE).sum().cpu()
                learner.snapshot().policies(5)
                done[0] += 1
        except BaseException as exc:
            failed.append(exc)

    thread = threading.Thread(target=beside)
    thread.start()
    try:
        subsets = list(itertools.chain.from_iterable(itertools.combinations(range(4), n) for n in range(1, 5)))
        for due in subsets * 8:
            learner.update(due, replay)
    finally:
        ends.set()
        thread.join()
    assert failed == [] and done[0] > 1
    assert_captured_and_trusted(learner)
