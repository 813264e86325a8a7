from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.errors import RefusedError, SpaceError
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces
from covey.v1.actor_service_pb2 import JoinRequest
from covey.v1.fragment_pb2 import Fragment
from covey_server.orders.session import Session, SessionState
from covey_server.orders.sessions import Sessions, check_same_spaces


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(clock: Clock) -> Sessions:
    return Sessions(5.0, clock)


def request(actor_id: str = "a1", incarnation: int = 7, first_held_seq: int = 0, train_slots: int = 4) -> JoinRequest:
    return JoinRequest(
        protocol_version=1,
        actor_id=actor_id,
        incarnation=incarnation,
        train_slots=train_slots,
        eval_slots=2,
        hostname="box",
        software_version="0.1",
        first_held_seq=first_held_seq,
    )


def test_joining_again_is_the_same_session(sessions: Sessions) -> None:
    first = sessions.join(request())
    first.received(1)
    again = sessions.join(request())
    assert again is first
    assert (again.received_seq, again.state, len(sessions)) == (1, "active", 1)
    assert len(again.token) >= 32
    assert sessions.by_token(again.token) is again
    assert sessions.by_token("") is sessions.by_token("guess") is None


def test_tokens_differ(sessions: Sessions) -> None:
    assert len({sessions.join(request(f"a{i}", i + 1)).token for i in range(50)}) == 50


@given(st.lists(st.integers(0, 12), max_size=40))
def test_every_number_counts_once_and_in_order(seqs: list[int]) -> None:
    session = Session(actor_id="a", incarnation=1)
    taken: list[int] = []
    for seq in seqs:
        kind = session.classify(seq)
        assert kind == ("duplicate" if seq <= len(taken) else "new" if seq == len(taken) + 1 else "gap")
        if kind == "new":
            session.received(seq)
            taken.append(seq)
        else:
            with pytest.raises(ValueError, match="expected"):
                session.received(seq)
    assert taken == list(range(1, len(taken) + 1))
    assert session.received_seq == len(taken)


def test_durable_follows_what_was_received_before_the_sync(sessions: Sessions) -> None:
    a, b = sessions.join(request("a")), sessions.join(request("b"))
    a.received(1)
    marks = sessions.received_marks()
    a.received(2)
    assert sessions.durable(marks) == [a]
    assert (a.durable_seq, b.durable_seq) == (1, 0)
    assert sessions.durable(marks) == []
    assert sessions.durable(sessions.received_marks()) == [a]
    assert a.durable_seq == 2


def test_a_new_process_of_the_name_fences_the_old_one_for_ever(sessions: Sessions) -> None:
    old, other = sessions.join(request(incarnation=1)), sessions.join(request("a2", 1))
    old.received(1)
    new = sessions.join(request(incarnation=2))
    assert (old.state, new.state, other.state) == ("fenced", "active", "active")
    assert (new.received_seq, old.received_seq) == (0, 1)
    assert new.token != old.token
    assert sessions.current("a1") is new
    assert sessions.active() == [other, new]
    with pytest.raises(RefusedError, match="newer process"):
        sessions.join(request(incarnation=1))
    assert new.state == "active"


def test_what_an_actor_no_longer_holds_is_counted_and_passed(sessions: Sessions) -> None:
    session = sessions.join(request())
    for seq in (1, 2, 3):
        session.received(seq)
    for held, mark, lost in ((0, 3, 0), (2, 3, 0), (4, 3, 0), (8, 7, 4), (8, 7, 4), (9, 8, 5)):
        sessions.join(request(first_held_seq=held))
        assert (session.received_seq, session.lost_fragments) == (mark, lost)
    assert session.classify(9) == "new"


def test_silence_of_nearly_two_intervals(sessions: Sessions, clock: Clock) -> None:
    a, b, c = (sessions.join(request(f"a{i}")) for i in range(3))
    c.become(SessionState.FINISHED)
    clock.now += 8.5
    sessions.heard(b)
    clock.now += 0.2
    assert sessions.silent() == []
    clock.now += 0.1
    assert sessions.silent() == [a]
    assert sessions.silent(now=clock.now + 8.5) == [a, b]
    a.become(SessionState.LOST)
    assert sessions.silent() == []
    # It comes back, with its mark.
    back = sessions.join(request("a0"))
    assert back is a
    assert back.state == "active"
    assert sessions.silent() == []


def test_an_actor_that_drains_goes_on_draining_when_it_reconnects(sessions: Sessions) -> None:
    session = sessions.join(request())
    session.become(SessionState.DRAINING)
    assert sessions.join(request()).state == "draining"
    assert sessions.active() == [session]


def test_incarnations_are_forgotten_when_they_are_too_many(clock: Clock) -> None:
    sessions = Sessions(5.0, clock, retained=3)
    made = []
    for i in range(3):
        clock.now += 1
        made.append(sessions.join(request(f"a{i}")))
    with pytest.raises(RefusedError, match="3 actors are at work"):
        sessions.join(request("a3"))
    made[1].become(SessionState.LOST)
    made[2].become(SessionState.FINISHED)
    newest = sessions.join(request("a3"))
    assert list(sessions) == [made[0], made[2], newest]
    assert sessions.by_token(made[1].token) is None
    assert sessions.forgotten == 1


@pytest.mark.parametrize("actor_id", ["", "a" * 65, "a b", "a/b", "ä", "a\n", "../x"])
def test_names(sessions: Sessions, actor_id: str) -> None:
    with pytest.raises(RefusedError, match="expected 1 to 64 letters"):
        sessions.join(request(actor_id))
    assert len(sessions) == 0


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        (request(incarnation=0), "incarnation 0"),
        (request(train_slots=0), "0 training"),
        (request(train_slots=4097), "4097 training"),
        (JoinRequest(actor_id="a", incarnation=1, train_slots=1, eval_slots=2**32 - 1), "4294967295 evaluation"),
    ],
)
def test_refused_joins_leave_nothing_behind(sessions: Sessions, spoilt: JoinRequest, message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        sessions.join(spoilt)
    assert len(sessions) == 0


def test_a_process_cannot_change_its_slots(sessions: Sessions) -> None:
    sessions.join(request())
    with pytest.raises(RefusedError, match="came back with 5 training"):
        sessions.join(request(train_slots=5))


def test_what_a_peer_says_of_itself_is_one_printable_line(sessions: Sessions) -> None:
    spoilt = request()
    spoilt.hostname = "evil\x1b[31m\nhost" + "x" * 1000
    session = sessions.join(spoilt)
    assert session.hostname.startswith("evil[31mhostx")
    assert len(session.hostname) < 256


def test_counters(sessions: Sessions) -> None:
    session = sessions.join(request())
    fragment = Fragment(raw_bytes=50, eval_steps=6, wait_s=0.5)
    for _ in range(2):
        session.count(fragment, wire_bytes=5, rows=8, env_steps=5)
    assert (session.wire_bytes, session.raw_bytes, session.rows, session.env_steps) == (10, 100, 16, 10)
    assert (session.eval_env_steps, session.wait_s) == (12, 1.0)


def test_marks_survive_a_restart(sessions: Sessions, clock: Clock) -> None:
    a, b = sessions.join(request("a", 2**64 - 1)), sessions.join(request("b"))
    a.received(1)
    a.count(Fragment(), wire_bytes=3, rows=5, env_steps=4)
    b.become(SessionState.FINISHED)
    sessions.join(request("c", 1))
    sessions.join(request("c", 2))
    saved = json.loads(json.dumps(sessions.to_state()))

    clock.now = 5.0
    after = Sessions(5.0, clock)
    after.from_state(saved)
    assert after.to_state() == saved
    restored = after.current("a")
    assert restored is not None
    assert (restored.received_seq, restored.durable_seq, restored.env_steps) == (1, 1, 4)
    # Its token died with the learner; it has two intervals to come back.
    assert after.by_token(a.token) is None
    assert after.silent() == []
    assert {s.actor_id for s in after.silent(now=15.1)} == {"a", "c"}
    again = after.join(request("a", 2**64 - 1))
    assert again is restored
    assert again.classify(1) == "duplicate"
    assert again.token not in ("", a.token)
    with pytest.raises(RefusedError, match="newer process"):
        after.join(request("c", 1))


def test_marks_from_the_journal(clock: Clock) -> None:
    sessions = Sessions(5.0, clock)
    assert sessions.restore_mark(("a", 1), 3).received_seq == 3
    assert sessions.restore_mark(("a", 1), 2).durable_seq == 3
    # An actor that joined after the checkpoint, in the place of another.
    sessions.restore_mark(("a", 2), 1)
    old, new = sessions.get(("a", 1)), sessions.get(("a", 2))
    assert old and new
    assert (old.state, new.state) == ("fenced", "active")
    session = sessions.join(request("a", 2, first_held_seq=2))
    assert (session.received_seq, session.train_slots) == (1, 4)


def test_other_spaces_are_named_on_both_sides() -> None:
    box = Box("float32", (2,), (0.0, 0.0), (1.0, 1.0))
    agents = [AgentSpec("a_0", box, Discrete(3)), AgentSpec("b_0", box, box)]
    ours = EnvironmentSpaces.build(agents)
    check_same_spaces("x", ours, EnvironmentSpaces.build(agents))
    with pytest.raises(SpaceError, match=r"'x': agents \['a_0'\], expected \['a_0', 'b_0'\]"):
        check_same_spaces("x", ours, EnvironmentSpaces.build(agents[:1]))
    theirs = EnvironmentSpaces.build([replace(agents[0], action=Discrete(4)), agents[1]])
    with pytest.raises(SpaceError, match=r"'a_0' has action space Discrete\(n=4.*expected Discrete\(n=3"):
        check_same_spaces("x", ours, theirs)
