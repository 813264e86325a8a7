"""Evolution without generations: the real learner and an actor in its process; nobody waits for anybody."""

from __future__ import annotations

import json
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.processes import PATIENCE_S, until, write_config
from tests.support.schedulers import begun, ledger_of, ledgers, make_scheduler, play

from covey.config import load_config, parse_config
from covey.envs import SyncSlots, load_environment, read_spaces
from covey.errors import ConfigError
from covey.run.checkpoint_format import checkpoint_paths, read_checkpoint
from covey.run.new_run import new_run
from covey.v1.fragment_pb2 import IssuedOrder
from covey.v1.order_pb2 import Order
from covey_server.api.in_process import InProcessActor
from covey_server.app import LearnerProcess
from covey_server.storage.checkpoint import save_checkpoint
from covey_server.storage.journal import Journal, Kind


@contextmanager
def running(folder: Path, **sections: dict[str, Any]) -> Iterator[LearnerProcess]:
    """A learner in steady state with an actor in this process, at work."""
    sections["training"] = {"max_steps": 700, "evo_steps": 200} | sections.get("training", {})
    sections["evolution"] = {"mode": "steady_state"}
    sections["checkpoint"] = {"keep": 1000}
    config = load_config(write_config(folder / "steady.yaml", **sections))
    process = LearnerProcess(config, new_run(config, folder / "runs"))
    make = load_environment(config.environment.name, config.environment.config)
    env = make()
    spaces = read_spaces(env, None)
    env.close()
    slots = SyncSlots(make, spaces, config.train_slots + config.eval_slots)
    actor = InProcessActor(
        process.learner,
        process.attendance,
        process.intake,
        slots,
        spaces,
        config.train_slots,
        lambda order, answer: None,
    )
    actor.start()
    process.trainer.start()
    try:
        yield process
    finally:
        process.trainer.request_stop()
        actor.leave()
        process.stop()
        slots.close()


def orders(folder: Path) -> list[tuple[tuple[int, int], Order]]:
    """Every order of the run, and where it is in the journal."""
    journal = Journal.open(next((folder / "runs").iterdir()) / "journal", 1 << 25)
    try:
        return [(at, IssuedOrder.FromString(p).order) for at, kind, p in journal.read() if kind == Kind.ORDER]
    finally:
        journal.close()


@pytest.mark.parametrize("algorithm", ["MATD3", "IPPO"])
def test_every_place_gets_exactly_its_steps_in_every_generation(tmp_path: Path, algorithm: str) -> None:
    with running(tmp_path, algorithm={"name": algorithm}) as process:
        result = process.wait()
        population = process.learner.population
    assert population is not None
    assert result["state"] == "complete" and result["generations"] == 4 and result["env_steps"] == 4 * 700
    assert [m.env_steps for m in population.members] == [700] * 4
    assert all(m.fitness is not None for m in population.members)
    assert result["best_member"] in {m.member_id for m in population.members}
    entries = {e.member_id: e for e in population.lineage.entries}
    dead = [e for e in entries.values() if e.died_generation is not None]
    assert dead, "somebody lost a tournament"
    for entry in dead:
        # It had its steps and its evaluation, and its place went to a child of that generation at once.
        assert entry.fitness is not None and entry.env_steps == 200 * (entry.died_generation or 0)
    assert Counter(e.died_generation for e in dead) == Counter(
        e.generation for e in entries.values() if e.parent_id is not None
    )
    # Of each generation the fittest of all that have ended it is kept, whoever ended it first.
    run = process.run
    assert run.elite_generations() == [0, 1, 2, 3]
    elites = [json.loads((run.elite(g) / "score.json").read_text()) for g in run.elite_generations()]
    assert [elite["generation"] for elite in elites] == [0, 1, 2, 3]
    for entry in dead:
        assert elites[(entry.died_generation or 0) - 1]["fitness"] >= (entry.fitness or 0.0)
    assert elites[3]["member_id"] == result["best_member"]


def test_orders_wait_for_the_disk_and_nobody_else_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk is busy with one member's turn the others collect, learn and are evaluated."""
    gate, writing = threading.Event(), threading.Event()

    def slow(directory: Path, state: Any, members: Any) -> Path:
        if max(
            ledger["generation"] for ledger in state["scheduler"]["ledgers"].values()
        ):  # somebody is in the second generation
            writing.set()
            assert gate.wait(PATIENCE_S)
        return save_checkpoint(directory, state, members)

    monkeypatch.setattr("covey_server.durability.checkpointer.save_checkpoint", slow)
    with running(tmp_path, training={"max_steps": 400, "evo_steps": 200}) as process:
        assert writing.wait(PATIENCE_S)
        learner, population = process.learner, process.learner.population
        assert population is not None
        # All others collect, learn and are evaluated meanwhile, and have their turns.
        until(lambda: learner.scheduler.generation == 1, what="everybody has been compared")
        with learner.lock:
            assert all(e.fitness is not None for e in population.lineage.entries if e.parent_id is None)
            early = [w for w in learner.scheduler.ledgers if w.accepted or w.ordered]
            assert not early, "an order left before its member was durable"
        gate.set()
        assert process.wait()["state"] == "complete"
    first: dict[tuple[int, int], tuple[int, int]] = {}  # member and generation -> journal when a checkpoint had it
    for path in checkpoint_paths(next((tmp_path / "runs").iterdir()) / "checkpoints"):
        state = read_checkpoint(path)[0]
        for member_id, ledger in state["scheduler"]["ledgers"].items():
            first.setdefault((int(member_id), ledger["generation"]), tuple(state["run"]["journal"]))
    asked: dict[int, int] = defaultdict(int)
    for at, order in orders(tmp_path):
        for slot in order.slots:
            born = min(g for m, g in first if m == slot.member_id)
            generation = born + asked[slot.member_id] // 200
            asked[slot.member_id] += slot.steps
            assert at >= first[slot.member_id, generation]


def test_a_target_that_is_confirmed_ends_the_run_whatever_the_others_are_at(tmp_path: Path) -> None:
    with running(tmp_path, training={"max_steps": 20_000, "evo_steps": 200, "target_score": -1000.0}) as process:
        result = process.wait()
    assert result["state"] == "complete" and result["target_reached"] and result["best_fitness_episodes"] == 4
    assert result["env_steps"] < 4 * 2000


def test_it_cannot_be_deterministic() -> None:
    with pytest.raises(ConfigError, match=r"^evolution\.mode: 'steady_state', expected 'generational' with .*$"):
        parse_config(
            {
                "algorithm": {"name": "MATD3"},
                "environment": {"name": "mpe2.simple_v3"},
                "training": {"deterministic": True},
                "evolution": {"mode": "steady_state"},
            }
        )


def test_a_member_that_is_being_compared_keeps_its_slots_unless_another_has_none() -> None:
    scheduler = make_scheduler(0, turn_steps=50)
    scheduler.begin_generation(ledgers({0: 64, 1: 640}, later_steps=640))
    scheduler.add_actor(("a", 1), 4, 1)
    slots: dict[int, set[int]] = defaultdict(set)
    for _ in range(4):
        order = scheduler.next_order(("a", 1))
        assert order is not None
        for slot in order.slots:
            slots[slot.member_id].add(slot.slot)
        play(order, scheduler)
    assert ledger_of(scheduler, 0).collected and slots[0].isdisjoint(slots[1])
    scheduler.begin_member(0, begun(2, 640, generation=1))
    order = scheduler.next_order(("a", 1))
    assert order is not None
    assert {s.slot for s in order.slots if s.member_id == 2} == slots[0]
    assert {s.slot for s in order.slots if s.restart} == slots[0], "the others go on"
    # One that has had its last generation passes its slots on.
    last = ledger_of(scheduler, 2)
    last.quota = last.limit = last.ordered
    play(order, scheduler)
    order = scheduler.next_order(("a", 1))
    assert order is not None and {s.member_id for s in order.slots} == {1} and len(order.slots) == 4


@given(data=st.data())
def test_members_take_turns_without_a_step_lost_or_a_slot_idle(data: st.DataObject) -> None:
    members, generations = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 4))
    quota, rounds = data.draw(st.integers(1, 150)), data.draw(st.sampled_from([None, 40]))
    scheduler = make_scheduler(0, turn_steps=data.draw(st.integers(1, 120)))
    lengths = None if rounds is None else dict.fromkeys(range(members), rounds)
    scheduler.begin_generation(
        ledgers(dict.fromkeys(range(members), quota), lengths, later_steps=(generations - 1) * quota)
    )
    keys = [(f"a{i}", 1) for i in range(data.draw(st.integers(1, 3)))]
    for key in keys:
        scheduler.add_actor(key, data.draw(st.integers(1, 6)), 1)
    out: dict[tuple[str, int], list[Order]] = {key: [] for key in keys}
    collected: Counter[int] = Counter()  # by place
    place = {m: m for m in range(members)}  # of every member
    done: set[int] = set()
    next_id = members
    while len(done) < members:
        moved = False
        for key in keys:
            if (order := scheduler.next_order(key)) is not None:
                assert all(ledger_of(scheduler, s.member_id).durable for s in order.slots)
                out[key].append(order)
                moved = True
            elif out[key]:
                play(out[key].pop(0), scheduler, data.draw(st.sampled_from([1.0, 1.0, 0.5])))
                moved = True
        for work in list(scheduler.ledgers):
            assert work.accepted + work.ordered <= work.limit <= quota
            if not work.durable:
                work.durable, moved = True, True
            elif work.round_complete and rounds is not None:
                work.next_round()
                moved = True
            elif work.collected and work.member_id not in done:
                collected[place[work.member_id]] += work.accepted
                moved = True
                if work.generation + 1 == generations:
                    done.add(work.member_id)
                    continue
                after = work.member_id if data.draw(st.booleans()) else next_id
                next_id += 1
                place[after] = place[work.member_id]
                generation = work.generation + 1
                left = (generations - generation - 1) * quota
                successor = begun(after, quota, rounds, generation=generation, later_steps=left, durable=False)
                scheduler.begin_member(work.member_id, successor)
                assert scheduler.generation == min(w.generation for w in scheduler.ledgers)
        assert moved, "nobody can move and members lack steps"
    assert collected == dict.fromkeys(range(members), generations * quota)
