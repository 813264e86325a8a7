"""JSON objects of what a learner reports."""

import json
import math

from covey.run.reports import actor_json, member_json, members_json, status_json
from covey.v1.population_service_pb2 import ActorInfo, MemberInfo, Status


def test_status_has_every_key_and_null_where_nothing_is_known() -> None:
    report = status_json(Status(state="training", env_steps=1 << 40, counters={"gap": 2}, events=["a", "b"]))
    assert list(report) == [f.name for f in Status.DESCRIPTOR.fields]
    assert report["env_steps"] == 1 << 40
    assert report["counters"] == {"gap": 2}
    assert report["events"] == ["a", "b"]
    assert (report["best_fitness"], report["best_member"]) == (None, None)
    assert json.loads(json.dumps(report)) == report


def test_a_member_shows_its_architecture_and_hyperparameters_as_objects() -> None:
    member = MemberInfo(member_id=3, parent_id=0, fitness=-1.5, hyperparameters_json='{"gamma": 0.9}')
    report = member_json(member)
    assert (report["member_id"], report["parent_id"], report["fitness"]) == (3, 0, -1.5)
    assert (report["hyperparameters"], report["architecture"]) == ({"gamma": 0.9}, {})
    assert report["fitness_stderr"] is None
    assert members_json([member]) == {"members": [report]}


def test_a_number_that_json_cannot_hold_is_null() -> None:
    assert member_json(MemberInfo(fitness=math.nan))["fitness"] is None
    assert actor_json(ActorInfo(env_steps_per_s=math.inf))["env_steps_per_s"] is None
