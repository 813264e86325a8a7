"""The policies that an actor fetches: many, gone, damaged, of members that have diverged."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.running_actors import Running
from tests.support.scripted_learner import ScriptedLearner
from tests.support.scripted_orders import POLICIES, SHAS, order

from covey.errors import RefusedError
from covey.v1 import fragment_pb2
from covey.wire.policy_file import policy_sha256
from covey_actor.connection import Connection
from covey_actor.outbox import Outbox


def test_more_policies_than_a_call_may_ask_for_take_several(learner: ScriptedLearner) -> None:
    files = [bytes([i % 256, i // 256]) for i in range(300)]
    learner.policies = {policy_sha256(data): data for data in files}
    connection = Connection(learner.address, Outbox())
    assert list(connection.fetch(list(learner.policies))) == files
    assert learner.fetches == 3
    connection.close()


def test_an_order_whose_policy_is_gone_is_answered_empty(learner: ScriptedLearner) -> None:
    running = Running(learner.address)
    work = learner.stream()
    work.order(order(1, shas=[SHAS[0], b"g" * 32, SHAS[2]]))
    work.order(order(2))
    gone, good = work.fragment(), work.fragment()
    assert (gone.seq, gone.order_id, gone.shortfall) == (1, 1, fragment_pb2.SHORTFALL_POLICY_UNAVAILABLE)
    assert not gone.streams and not gone.blob and len(gone.schema_hash) == 16
    assert good.order_id == 2 and good.streams[0].steps == 3
    work.ack(2)
    work.drain()
    work.finish()
    assert running.ended() is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_policy_of_a_diverged_member_is_refused_and_not_the_run(learner: ScriptedLearner, value: float) -> None:
    data = POLICIES[SHAS[1]][:-4] + np.float32(value).tobytes()  # its last weight
    learner.policies[policy_sha256(data)] = data
    running = Running(learner.address)
    work = learner.stream()
    work.order(order(1, shas=[SHAS[0], policy_sha256(data), SHAS[2]]))
    work.order(order(2))
    refused, good = work.fragment(), work.fragment()
    assert (refused.order_id, refused.shortfall) == (1, fragment_pb2.SHORTFALL_POLICY_UNAVAILABLE)
    assert good.order_id == 2 and good.streams[0].steps == 3
    work.ack(2)
    work.drain()
    work.finish()
    assert running.ended() is None


def test_a_policy_that_is_not_what_its_hash_says_is_refused(learner: ScriptedLearner) -> None:
    learner.policies[SHAS[1]] = POLICIES[SHAS[0]]
    running = Running(learner.address)
    learner.stream().order(order(1))
    assert isinstance(error := running.ended(), RefusedError)
    assert SHAS[1].hex()[:12] in str(error)
