"""What a crash leaves: images of a live run's directory, resumed. Learners in this process, a scripted actor."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
from tests.support.processes import PATIENCE_S, until, write_config
from tests.support.scripted_actor import ScriptedActor

from covey.config import load_config
from covey.errors import StorageError
from covey.run.directory import RunDirectory
from covey.run.new_run import new_run
from covey.v1 import actor_service_pb2 as pb
from covey.v1.fragment_pb2 import Fragment, IssuedOrder, ReceivedFragment
from covey.v1.order_pb2 import Order
from covey_server.app import LearnerProcess
from covey_server.experience.replay import Replay
from covey_server.ingest import row_checks
from covey_server.packing import policies
from covey_server.storage.journal import Journal, Kind

Start = Callable[..., tuple[LearnerProcess, ScriptedActor]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a learner, of a new run or of one to resume, and have an actor join it."""
    learners: list[LearnerProcess] = []
    actors: list[ScriptedActor] = []

    def go(
        resume: Path | None = None,
        incarnation: int = 0,
        first: Callable[[LearnerProcess], None] = lambda _: None,
        **sections: dict[str, Any],
    ) -> tuple[LearnerProcess, ScriptedActor]:
        if resume is None:
            sections["training"] = {"max_steps": 100_000, "evo_steps": 50_000} | sections.get("training", {})
            sections["learner"] = {"heartbeat_interval_s": 60.0}  # scripted actors have none
            config = load_config(write_config(tmp_path / "durable.yaml", **sections))
            run = new_run(config, tmp_path / "runs")
        else:
            run = RunDirectory.open(resume)
            config = load_config(run.config)
        process = LearnerProcess(config, run, resume=resume is not None)
        learners.append(process)
        first(process)
        process.start()
        actors.append(ScriptedActor(process.address, incarnation=incarnation))
        actors[-1].join()
        return process, actors[-1]

    yield go
    for actor in actors:
        actor.vanish()
    for process in learners:
        process.stop()


def crash(process: LearnerProcess, image: Path) -> Path:
    """What a crash of the learner at this moment would leave."""
    with process.learner.lock:
        return shutil.copytree(process.run.path, image)


def play(actor: ScriptedActor, fragments: int = 1) -> Fragment:
    fragment = Fragment()
    for _ in range(fragments):
        fragment = actor.play(actor.order())
        assert actor.ack(fragment).received_seq == fragment.seq
    return fragment


def orders(actor: ScriptedActor) -> Iterator[Order]:
    """An actor's orders, until it is told to leave."""
    for frame in actor.frames:
        if frame.HasField("drain"):
            return
        if frame.HasField("order"):
            yield actor.fetch(frame.order)


# -- sync ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "policy",
    [
        {"journal_sync_s": None, "journal_sync_bytes": 1},
        {"journal_sync_s": 0},
        {"journal_sync_s": 0.05, "journal_sync_bytes": None},
    ],
)
def test_what_was_received_becomes_durable_by_bytes_or_by_time(start: Start, policy: dict[str, Any]) -> None:
    process, actor = start(checkpoint=policy)
    fragment = play(actor)
    while actor.next("ack").ack.durable_seq < fragment.seq:
        pass
    assert process.learner.journal.sync() == process.learner.journal.position


def test_without_a_policy_a_checkpoint_makes_it_durable_and_actors_are_told(start: Start) -> None:
    process, actor = start(checkpoint={"journal_sync_s": None, "journal_sync_bytes": None})
    until(lambda: process.learner.scheduler.outstanding(), what="the first checkpoint is written")
    fragment = actor.play(actor.order())
    assert actor.ack(fragment).durable_seq == 0
    process.trainer.request_checkpoint()
    while actor.next("ack").ack.durable_seq < fragment.seq:
        pass


def test_actors_are_told_whether_to_keep_what_was_received(start: Start) -> None:
    for durability, forget in (("journal", False), ("received", True)):
        process, actor = start(checkpoint={"durability": durability})
        assert actor.stub.Join(actor.request(), timeout=PATIENCE_S).forget_received == forget
        del process


# -- segments --------------------------------------------------------------------------------------------------------


def test_segments_go_when_nothing_in_them_is_in_replay_and_the_rest_is_all_of_it(start: Start, tmp_path: Path) -> None:
    process, actor = start(
        replay_buffer={"max_size": 600},
        checkpoint={"journal_segment_bytes": 1 << 16, "keep": 2},
        training={"random_steps": 100_000},
    )
    most = 0
    for _ in range(12):
        play(actor, 6)
        process.trainer.request_checkpoint()
        process.trainer.request_checkpoint()  # old segments go after the one before has been answered
        most = max(most, len(list(process.run.journal.iterdir())))
    assert process.learner.journal.position.segment > 8 and most <= 5
    play(actor, 3)  # beyond the checkpoint
    image = crash(process, tmp_path / "image")
    resumed, _ = start(resume=image, incarnation=actor.incarnation)
    before, after = (p.learner.population.experience for p in (process, resumed) if p.learner.population)
    assert isinstance(before, Replay) and isinstance(after, Replay)
    assert 400 < len(before) == len(after)
    assert before.oldest_row == after.oldest_row
    kept = after.step_rows()
    assert all(torch.equal(rows, kept[dtype]) for dtype, rows in before.step_rows().items())
    session, again = (p.learner.sessions.current("scripted") for p in (process, resumed))
    assert session and again and session.received_seq == again.received_seq == again.durable_seq == actor.seq
    ledgers = [{w.member_id: w.accepted for w in p.learner.scheduler.ledgers} for p in (process, resumed)]
    assert ledgers[0] == ledgers[1] and sum(ledgers[0].values()) == process.learner.totals.env_steps


# -- who had orders -------------------------------------------------------------------------------------------------


def test_an_actor_that_its_checkpoint_knows_as_lost_but_has_orders_is_awaited(start: Start, tmp_path: Path) -> None:
    process, actor = start()
    play(actor)
    session = process.learner.sessions.current("scripted")
    assert session is not None
    process.attendance.lost(session, "silent for 9 s")
    process.trainer.request_checkpoint()
    actor.join()
    actor.order()
    assert process.learner.scheduler.outstanding()
    resumed, another = start(resume=crash(process, tmp_path / "image"), incarnation=actor.incarnation + 2)
    # The new process of its name gets the steps.
    owners = {key for key, _ in resumed.learner.scheduler.outstanding()}
    assert owners <= {("scripted", another.incarnation)}
    assert resumed.learner.totals.counters["revoked_orders"] > process.learner.totals.counters["revoked_orders"]
    play(another)


# -- on-policy -------------------------------------------------------------------------------------------------------


def test_rounds_of_a_policy_that_a_crash_took_are_counted_as_stale_and_played_again(
    start: Start, tmp_path: Path
) -> None:
    process, actor = start(
        algorithm={"name": "IPPO", "learn_step": 128, "batch_size": 64},
        training={"max_steps": 512, "evo_steps": 512, "pop_size": 2, "confirm_episodes": 4},
    )

    def of_learned(order: Order) -> int:
        return sum(w.steps for w in order.slots if order.policies[w.agent_policies[0]].version)

    stale, late = 0, Order()
    for late in orders(actor):
        if stale and of_learned(late):
            break
        stale += of_learned(late)
        actor.send(actor.play(late))
    session = process.learner.sessions.current("scripted")
    until(lambda: session and session.received_seq == actor.seq, what="all is received")
    image = crash(process, tmp_path / "image")
    answer = actor.play(late)

    def before_it_learns(resumed: LearnerProcess) -> None:
        learner = resumed.learner
        assert learner.totals.counters["stale_steps"] == stale
        assert any(f"{stale:,} env steps were played by policies that the crash took" in e for e in learner.events)
        session = learner.sessions.current("scripted")
        assert session and resumed.intake.receive(session, answer).received_seq == answer.seq
        assert learner.totals.counters["stale_steps"] == stale + of_learned(late)
        assert any("played by a policy that a crash took" in e for e in learner.events)

    resumed, again = start(resume=image, incarnation=actor.incarnation, first=before_it_learns)
    for order in orders(again):
        again.send(again.play(order))
    assert resumed.learner.state == "complete"
    assert resumed.learner.population is not None
    assert [m.env_steps for m in resumed.learner.population.members] == [512, 512]


# -- records that are not what is written here -----------------------------------------------------------------------


def forged() -> dict[str, tuple[Kind, bytes]]:
    """Records whose checksums are right."""
    mismatched = ReceivedFragment(actor_id="a", incarnation=1, fragment=Fragment(seq=1, order_id=7))
    mismatched.fragment.streams.add(slot=0, rows=3, steps=2)
    unknown = ReceivedFragment(actor_id="a", incarnation=1, fragment=Fragment(seq=1, order_id=7))
    return {
        "no message": (Kind.FRAGMENT, b"\xff\xff\xff"),
        "no order": (Kind.ORDER, b"\xff\xff\xff"),
        "no revocation": (Kind.REVOKED, b"\xff\xff\xff"),
        "streams of nobody": (Kind.FRAGMENT, mismatched.SerializeToString()),
        "an order that was not out": (Kind.FRAGMENT, unknown.SerializeToString()),
    }


def test_forged_records_behind_the_checkpoint_are_one_sentence(start: Start, tmp_path: Path) -> None:
    process, actor = start()
    play(actor, 2)
    image = crash(process, tmp_path / "image")
    for name, (kind, payload) in forged().items():
        copy = shutil.copytree(image, tmp_path / name)
        journal = Journal.open(copy / "journal", 1 << 25)
        journal.append(kind, payload)
        journal.close()
        run = RunDirectory.open(copy)
        with pytest.raises(StorageError, match=r"record at byte .* cannot be applied") as caught:
            LearnerProcess(load_config(run.config), run, resume=True)
        assert "\n" not in str(caught.value)


def test_what_is_refused_by_now_does_not_count_any_more_and_is_played_again(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, actor = start()
    play(actor)
    process.trainer.request_checkpoint()
    known = process.learner.totals.env_steps
    play(actor, 2)
    assert process.learner.totals.env_steps > known
    monkeypatch.setattr(row_checks, "MAX_REWARD", 1e-9)  # of a later covey that takes less
    monkeypatch.setattr(row_checks, "MAX_SUMMED_REWARDS", 1)
    resumed, _ = start(crash(process, tmp_path / "image"))
    assert resumed.learner.totals.env_steps == known
    assert sum(ledger.accepted for ledger in resumed.learner.scheduler.ledgers) == known
    assert sum("does not count any more" in event for event in resumed.learner.events) == 2


def test_a_forged_record_before_the_checkpoint_is_one_sentence(start: Start, tmp_path: Path) -> None:
    process, actor = start()
    play(actor)
    process.learner.journal.append(*forged()["streams of nobody"])
    play(actor)
    process.trainer.request_checkpoint()
    run = RunDirectory.open(crash(process, tmp_path / "image"))
    with pytest.raises(StorageError, match=r"record at byte .* cannot be applied"):
        LearnerProcess(load_config(run.config), run, resume=True)


def test_killed_before_its_first_checkpoint_was_whole_a_run_begins_anew(start: Start, tmp_path: Path) -> None:
    process, _ = start()
    until(lambda: process.learner.scheduler.outstanding(), what="the first checkpoint is written")
    image = crash(process, tmp_path / "image")
    shutil.rmtree(image / "checkpoints")
    (image / "checkpoints" / "tmp-00000001-99").mkdir(parents=True)
    resumed, again = start(resume=image)
    assert play(again).seq == 1 and resumed.learner.totals.env_steps > 0


# -- policies --------------------------------------------------------------------------------------------------------


def test_policies_stay_only_while_somebody_may_ask_for_them(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "MIN_SWEEP_BYTES", 0)
    process, actor = start(
        algorithm={"learn_step": 5}, training={"max_steps": 1500, "evo_steps": 1500, "random_steps": 0}
    )
    most = 0
    for order in orders(actor):  # each of whose policies is there
        actor.send(actor.play(order))
        assert process.learner.population is not None
        most = max(most, process.learner.population.policies.size)
    assert len(actor.policies) > 60
    one = process.learner.population.policies.size / 8 if process.learner.population else 0
    assert most < 40 * one, "four members' two policies, in two orders and the newest, twice that before a sweep"


def test_a_call_asks_for_few_policies(start: Start) -> None:
    _, actor = start()
    with pytest.raises(grpc.RpcError) as caught:
        request = pb.FetchPolicyRequest(sha256=bytes(32), then=[bytes(32)] * 129)
        list(actor.stub.FetchPolicy(request, timeout=PATIENCE_S))
    assert isinstance(caught.value, grpc.Call) and caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


# -- small files -----------------------------------------------------------------------------------------------------

DAMAGED = {
    "missing": None,
    "empty": b"",
    "half": b'{"next": ',
    "zeros": b"\0" * 64,
    "a list": b"[]",
    "no number": b'{"next": null, "address": null}',
    "negative": b'{"next": -1, "address": "127.0.0.1:-1"}',
    "far too large": b'{"next": 99999999999, "address": "127.0.0.1:99999999999"}',
    "a truth": b'{"next": true, "address": "\\u001b[2J"}',
}


@pytest.mark.parametrize("what", list(DAMAGED))
def test_small_files_that_are_damaged_stop_no_resume_and_repeat_no_order_id(
    start: Start, tmp_path: Path, what: str
) -> None:
    process, actor = start()
    play(actor, 2)
    image = crash(process, tmp_path / "image")
    for name in ("epoch.json", "address.json"):
        data = DAMAGED[what]
        (image / name).unlink() if data is None else (image / name).write_bytes(data)
    used = journalled(image)
    resumed, actor = start(resume=image)
    first = actor.order()
    assert len(used) >= 2 and first.order_id not in used and first.order_id >> 40 > max(used) >> 40
    play(actor)
    # From here on the number is stored again, and the next start has the next one.
    again = crash(resumed, tmp_path / "again")
    assert json.loads((again / "epoch.json").read_bytes()) == {"next": resumed.learner.epoch + 1}


def journalled(run: Path) -> set[int]:
    """Ids of all orders in a run's journal."""
    journal = Journal.open(run / "journal", 1 << 25)
    try:
        return {
            IssuedOrder.FromString(payload).order.order_id for _, kind, payload in journal.read() if kind == Kind.ORDER
        }
    finally:
        journal.close()


def test_a_lost_number_of_the_start_is_above_those_of_checkpoints_too(start: Start, tmp_path: Path) -> None:
    process, actor = start()
    play(actor)
    process.trainer.request_checkpoint()
    image = crash(process, tmp_path / "image")
    run = RunDirectory.open(image)
    for attempt in range(3):  # starts that issue no order leave checkpoints alone, or nothing
        resumed = LearnerProcess(load_config(run.config), run, resume=True)
        resumed.stop()
        assert resumed.learner.epoch == attempt + 1
    (image / "epoch.json").write_bytes(b"")
    lost = LearnerProcess(load_config(run.config), run, resume=True)
    lost.stop()
    assert lost.learner.epoch > 3


def test_a_new_run_begins_with_the_first_start(start: Start) -> None:
    process, _ = start()
    assert process.learner.epoch == 0
