"""Captures are held against their steps: a number that Python decides, and a torch that computes another, are found."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from tests.server.algorithms.test_algorithms import CASES, config, filled, population
from torch import Tensor

from covey_server.algorithms import ALGORITHMS
from covey_server.packing.updates import operators, recorded, verification
from covey_server.packing.updates.comparison import same
from covey_server.packing.updates.recorded import Recorded
from covey_server.packing.updates.trace import Operation
from covey_server.packing.updates.verification import Verification


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests have seen of captures is not known here, and the other way round."""
    monkeypatch.setattr(verification, "PROCESS", Verification())


class Scheduled:
    """A step that multiplies by a number that Python decides, anew every time from the call `since` on."""

    def __init__(self, since: int = 0) -> None:
        self.calls, self.since = 0, since

    def __call__(self, x: Tensor) -> Sequence[Tensor]:
        self.calls += 1
        return [x * float(max(1, self.calls - self.since))]


def test_a_number_that_python_decides_is_not_frozen(caplog: pytest.LogCaptureFixture) -> None:
    backend, step = Recorded(), Scheduled()
    found = [backend.run("key", step, [torch.ones(2)])[0].tolist() for _ in range(6)]
    assert found == [[n, n] for n in range(1, 7)]
    (text,) = caplog.messages
    assert "aten.mul.Tensor with 2.0, then with 3.0" in text and "key" in text


def test_a_number_that_changes_later_is_found_when_it_is_next_compared(caplog: pytest.LogCaptureFixture) -> None:
    backend, step = Recorded(), Scheduled(since=3)
    found = []
    for i in range(12):
        step.calls = i  # a recording does not count calls
        found.append(backend.run("key", step, [torch.ones(1)])[0].item())
    # Recorded as 1, and compared at its 1st run, the third call, and at its 4th, the sixth: one number came too late.
    assert found == [1, 1, 1, 1, 1, 3, 4, 5, 6, 7, 8, 9]
    assert len(caplog.messages) == 1


def test_the_next_population_does_not_record_what_was_found_unsteady(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        backend, step = Recorded(), Scheduled()
        assert [backend.run("key", step, [torch.ones(1)])[0].item() for _ in range(5)] == [1, 2, 3, 4, 5]
    assert len(caplog.messages) == 1


def test_a_step_that_branches_on_a_number_of_pythons_is_run_eagerly(caplog: pytest.LogCaptureFixture) -> None:
    calls = [0]

    def step(x: Tensor) -> Sequence[Tensor]:
        calls[0] += 1
        return [x.exp() if calls[0] % 2 else x.log()]

    backend = Recorded()
    found = [backend.run("key", step, [torch.ones(1)])[0].item() for _ in range(6)]
    assert found == pytest.approx([torch.e, 0] * 3)
    assert "aten.log.default was run, then aten.exp.default" in caplog.messages[0]


def test_a_tensor_that_python_makes_of_a_number_is_found_too(caplog: pytest.LogCaptureFixture) -> None:
    calls = [0]

    def step(x: Tensor) -> Sequence[Tensor]:
        calls[0] += 1
        return [x + torch.tensor([float(calls[0])])]

    backend = Recorded()
    assert [backend.run("key", step, [torch.zeros(1)])[0].item() for _ in range(5)] == [1, 2, 3, 4, 5]
    assert torch.__version__ in caplog.messages[0]


def wrong(operation: Operation, place: object) -> object:
    """A torch in which a recorded product is a sum."""
    if operation.function is torch.ops.aten.mul.Tensor:
        a, b = (place(x) for x in operation.args)  # type: ignore[operator]
        return lambda: torch.add(a, b, out=place(operation.results[0]))  # type: ignore[operator]
    return CALL_OF(operation, place)  # type: ignore[arg-type]


def gone(operation: Operation, place: object) -> object:
    """A torch whose operators do not take what they took before."""

    def call() -> None:
        raise TypeError(f"{operation.function}: unexpected keyword argument 'out'")

    return call


def undescribed(operation: Operation, place: object) -> object:
    """A torch that describes its operators in another way."""
    raise AttributeError("'OpOverload' object has no attribute '_schema'")


CALL_OF = operators.call_of


@pytest.mark.parametrize("call_of", [wrong, gone, undescribed])
def test_a_torch_that_cannot_record_is_named_and_updates_go_on_eagerly(
    call_of: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spaces, settings = CASES["boxes"]
    results = []
    for broken in (True, False):
        monkeypatch.setattr(recorded, "call_of", call_of if broken else CALL_OF)
        monkeypatch.setattr(verification, "PROCESS", Verification())
        made = config("MADDPG", **settings)
        members = population("MADDPG", spaces, **settings)
        if not broken:
            made = made.model_copy(update={"learner": made.learner.model_copy(update={"updates": "eager"})})
        for _ in range(2):  # a generation, and the next one
            learner = ALGORITHMS["MADDPG"](made, spaces, members)
            for _ in range(6):
                learner.update((0, 1, 2, 3), filled(spaces))
            learner.unpack()
        results.append(members)
    for one, other in zip(*results, strict=True):
        for key, network in one.networks.items():
            for name, p in network.params.items():
                assert (p == other.networks[key].params[name]).all()
    (text,) = caplog.messages
    assert f"torch {torch.__version__}" in text and "learner.updates: eager" in text


def test_a_comparison_leaves_everything_as_one_run_of_the_step_does() -> None:
    total, calls = torch.zeros(3), [0]

    def step(x: Tensor) -> Sequence[Tensor]:
        calls[0] += 1
        total[1:].add_(x)
        return [total * 2]

    backend = Recorded()
    for i in range(1, 20):
        assert backend.run("key", step, [torch.ones(2)])[0].tolist() == [0, 2 * i, 2 * i]
    assert calls[0] == 2 + 3  # eagerly, traced; and compared at the 1st, 4th and 16th run of 17


def test_comparisons_grow_rare_over_all_populations_of_a_process() -> None:
    calls = [0]

    def step(x: Tensor) -> Sequence[Tensor]:
        calls[0] += 1
        return [x + 1]

    for _ in range(8):
        backend = Recorded()
        for _ in range(34):
            backend.run("key", step, [torch.ones(1)])
    assert calls[0] == 8 * 2 + 5  # 256 runs: the 1st, 4th, 16th, 64th and 256th


def test_same_is_by_the_bit_or_within_rounding() -> None:
    x = torch.tensor([1.0, torch.nan, 1000.0])
    assert same([x], [x.clone()], exact=True)
    y = x + torch.tensor([0.5, 0.0, 0.0])
    assert not same([x], [y], exact=True) and same([x], [y], exact=False)
    assert not same([x], [y * 1.01], exact=False)
    assert not same([x], [x.double()], exact=False)
