"""Recorded updates are those that were recorded, to the bit."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence

import pytest
import torch
from tests.support import rounds
from tests.support.members import assert_same_networks
from tests.support.replays import CASES, EACH_ALGORITHM, case_of, config, filled, population
from torch import Tensor

from covey.config import Config
from covey.spaces import EnvironmentSpaces
from covey_server.algorithms import ALGORITHMS, Algorithm
from covey_server.algorithms.ippo import IPPO
from covey_server.member import Member
from covey_server.packing.updates import Step, replayed
from covey_server.packing.updates.capture import Capture
from covey_server.packing.updates.recorded import Memory, Recorded, recording_of
from covey_server.packing.updates.trace import Trace
from covey_server.packing.updates.verification import Verification


def recorded(function: Step, inputs: Sequence[Tensor], memory: Memory) -> tuple[Capture, Sequence[Tensor]]:
    trace, own = Trace(), [x.clone() for x in inputs]
    with trace:
        results = function(*own)
    return recording_of(function, trace, own, results, memory), results


def test_a_recording_computes_again_what_was_done_with_other_inputs() -> None:
    weights = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    total = torch.zeros(3)

    def function(x: Tensor, index: Tensor) -> Sequence[Tensor]:
        w = weights.detach().requires_grad_()
        with torch.enable_grad():
            y = torch.relu(torch.bmm(x, w)).index_select(1, index)
            loss = (y.square().mean((1, 2)) * torch.arange(1.0, 4.0)).sum()
        (gradient,) = torch.autograd.grad(loss, w)
        padded = gradient.new_zeros(3, 6, 5)
        padded[:, :4] = gradient  # a view of what begins as zeros every time
        weights.sub_(0.1 * gradient)
        total.add_(gradient.abs().sum((1, 2)))
        return [padded.transpose(1, 2), loss.detach()]

    draw = torch.Generator().manual_seed(1)
    calls = [(torch.randn(3, 6, 4, generator=draw), torch.randperm(6, generator=draw)[:3]) for _ in range(5)]
    start = weights.clone()
    expected = [[y.clone() for y in function(*call)] for call in calls]
    ended = weights.clone(), total.clone()
    weights.copy_(start)
    total.zero_()
    backend = Recorded(Verification())
    with torch.no_grad():
        for call, results in zip(calls, expected, strict=True):
            for y, z in zip(backend.run("key", function, call), results, strict=True):
                assert torch.equal(y, z)
    assert torch.equal(weights, ended[0]) and torch.equal(total, ended[1])


def test_memory_is_used_again_when_it_was_read_for_the_last_time() -> None:
    def chain(x: Tensor) -> Sequence[Tensor]:
        first = x + 1
        y = first
        for _ in range(20):
            y = torch.tanh(y * 2)
        return [y + first]

    x = torch.randn(1000)
    memory = Memory()
    recording, results = recorded(chain, [x], memory)
    assert torch.equal(recording([x])[0], results[0])
    assert memory.of(0, x.device).numel() <= 2 * 4096  # of 42 results


def test_nothing_is_written_over_what_is_read_elsewhere() -> None:
    def function(x: Tensor) -> Sequence[Tensor]:
        square = x * 2
        flipped = square + square.mT
        kept = flipped - 1
        row = flipped[0] * kept  # of which an operand is but a view
        wide = row.double() * 2
        return [torch.relu(kept) + torch.tanh(row), wide]

    draw = torch.Generator().manual_seed(0)
    recording, _ = recorded(function, [torch.randn(8, 8, generator=draw)], Memory())
    for _ in range(2):
        x = torch.randn(8, 8, generator=draw)
        for y, z in zip(recording([x]), function(x), strict=True):
            assert torch.equal(y, z)


def test_the_third_call_of_a_key_is_recorded_and_the_oldest_keys_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replayed, "KEPT", 2)
    calls: list[str] = []

    def noted(name: str) -> Sequence[Tensor]:
        def function(x: Tensor) -> Sequence[Tensor]:
            calls.append(name)
            return [x * 2]

        return backend.run(name, function, [torch.ones(2)])

    seen = Verification()
    monkeypatch.setattr(seen, "due", lambda capture: False)
    backend = Recorded(seen)
    for _ in range(4):
        assert noted("a")[0].tolist() == [2, 2]
    assert calls == ["a", "a"]
    for name in ("b", "c", "a"):
        noted(name)
    assert calls == ["a", "a", "b", "c", "a"]


def never_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A comparison gives what the step gives: what recordings give is what these tests are about."""
    monkeypatch.setattr(Verification, "due", lambda self, capture: False)


def with_updates(made: Config, updates: str) -> Config:
    return made.model_copy(update={"learner": made.learner.model_copy(update={"updates": updates})})


def updated(algorithm: str, case: str, updates: str) -> list[Member]:
    """A population after updates of all members and of some."""
    spaces, settings = case_of(case)
    members = population(algorithm, spaces, **settings)
    learner = ALGORITHMS[algorithm](with_updates(config(algorithm, **settings), updates), spaces, members)
    replay = filled(spaces)
    for due in ((0, 1, 2, 3), (1, 3), (0, 1, 2, 3), (0, 2), (1, 3), (0, 1, 2, 3), (0, 1, 2, 3), (1, 3), (0, 1, 2, 3)):
        learner.update(due, replay)
    learner.unpack()
    return members


@pytest.mark.parametrize(("algorithm", "case"), EACH_ALGORITHM)
def test_updates_from_replay_are_the_same_recorded(algorithm: str, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    never_compared(monkeypatch)
    both = [updated(algorithm, case, updates) for updates in ("recorded", "eager")]
    for one, other in zip(*both, strict=True):
        assert_same_networks(one, other)
        assert [n.adam_steps for n in one.networks.values()] == [n.adam_steps for n in other.networks.values()]


def test_members_that_learn_at_different_rates_are_recorded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    never_compared(monkeypatch)
    replays: list[None] = []
    replay = Capture.__call__

    def counted(self: Capture, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        replays.append(None)
        return replay(self, inputs)

    monkeypatch.setattr(Capture, "__call__", counted)
    spaces, settings = next(iter(CASES.values()))
    learner = ALGORITHMS["MADDPG"](config("MADDPG", **settings), spaces, population("MADDPG", spaces, **settings))
    experience = filled(spaces)
    for _ in range(6):
        learner.update((0, 1), experience)
        learner.update((1,), experience)
    assert len(replays) == 2 * 6 - (2 + 2)  # each twice, with and without policies


@pytest.mark.parametrize("batch_sizes", [(8, 8), (8, 5)])
@pytest.mark.parametrize("spaces", [rounds.SIMULTANEOUS, rounds.ASYNCHRONOUS], ids=["simultaneous", "asynchronous"])
def test_learning_phases_are_the_same_recorded(
    spaces: EnvironmentSpaces, batch_sizes: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    never_compared(monkeypatch)
    results = []
    for updates in ("recorded", "eager"):
        made = with_updates(rounds.config(update_epochs=4), updates)
        members = [rounds.member(m, made, spaces, batch_size=size) for m, size in enumerate(batch_sizes)]
        learner = IPPO(made, spaces, members)
        for seed in range(2):
            learner.update((0, 1), rounds.together(spaces, {0: 24, 1: 24}, seed))
        metrics = learner.metrics()
        learner.unpack()
        results.append((members, metrics))
    for one, other in zip(results[0][0], results[1][0], strict=True):
        assert_same_networks(one, other)
    for m, own in results[0][1].items():
        assert own == results[1][1][m]


@pytest.mark.parametrize("algorithm", ["MADDPG", "MATD3", "MASAC", "IPPO"])
def test_a_population_that_was_replaced_leaves_memory_at_once(algorithm: str) -> None:
    """Tensors do not count for when Python looks for garbage."""
    if algorithm == "IPPO":
        made, spaces = rounds.config(batch_size=8), rounds.SIMULTANEOUS
        learner: Algorithm = IPPO(made, spaces, [rounds.member(m, made, spaces) for m in range(2)])
        for seed in range(2):
            learner.update((0, 1), rounds.together(spaces, {0: 24, 1: 24}, seed))
    else:
        spaces, settings = CASES["boxes"]
        learner = ALGORITHMS[algorithm](
            config(algorithm, **settings), spaces, population(algorithm, spaces, **settings)
        )
        for _ in range(6):
            learner.update((0, 1, 2, 3), filled(spaces))
    seen = weakref.ref(learner)
    gc.collect()
    gc.disable()
    try:
        del learner
        assert seen() is None
    finally:
        gc.enable()
