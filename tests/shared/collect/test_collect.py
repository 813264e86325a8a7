"""Running orders: rows, episodes, seeds, faults, evaluations; exactly, on an environment that counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.counter_play import (
    CUT,
    FINAL,
    MEMBER,
    POLICIES,
    SCHEMA,
    SPACES,
    STEP,
    TAIL,
    order,
    read,
    seed_of,
    seen,
)
from tests.support.examples import examples

from covey.collect import Collector, evaluate
from covey.envs import SyncSlots, load_environment
from covey.errors import EnvironmentLoadError, RefusedError, SpaceError
from covey.rows import RowSchema
from covey.spaces import EnvironmentSpaces
from covey.v1 import fragment_pb2, order_pb2


def collector(train: int = 2, evaluation: int = 0, **config: Any) -> Collector:
    make = load_environment("tests.support.environments:counter", config)
    return Collector(SyncSlots(make, SPACES, train + evaluation), SPACES, SCHEMA, train, compression_level=1)


def test_rows_of_an_episode_and_the_next() -> None:
    c = collector(length=3)
    fragment = c.run(order({0: 4, 1: 2}), POLICIES)
    assert fragment.order_id == 1 and fragment.seq == 0 and fragment.schema_hash == SCHEMA.hash
    assert fragment.work_s > 0 and fragment.wait_s >= 0 and fragment.shortfall == 0
    streams = read(fragment)
    first = streams[0]
    assert first["kind"].tolist() == [STEP, STEP, STEP, FINAL, STEP, TAIL]
    e0, e1 = seed_of(0, 0), seed_of(0, 1)
    assert seen(first) == [(e0, 0), (e0, 1), (e0, 2), (e0, 3), (e1, 0), (e1, 1)]
    assert first["walker/observation"][1].tolist() == [[e0, 1, 0], [e0, 1, 2]]
    reward = [[0.01, 2.01], [0.02, 2.02], [0.03, 2.03], [0, 0], [0.01, 2.01], [0, 0]]
    np.testing.assert_array_equal(first["walker/reward"], np.array(reward, np.float32))
    assert first["caller/truncated"][:, 0].tolist() == [0, 0, 1, 0, 0, 0]
    assert not first["caller/terminated"].any() and not first["walker/age"].any()
    assert first["walker/active"].tolist() == [[1, 1]] * 3 + [[0, 0]] + [[1, 1]] * 2
    acted = first["kind"] == STEP
    assert np.isin(first["caller/action"][acted], (10, 11, 12, 13)).all()
    assert not first["caller/action"][~acted].any() and not first["walker/action"][~acted].any()
    assert streams[1]["kind"].tolist() == [STEP, STEP, TAIL]
    (episode,) = fragment.episodes
    assert (episode.slot, episode.member_id, episode.length, episode.evaluation) == (0, 40, 3, False)
    assert episode.returns == pytest.approx([0.06, 3.06, 6.06], abs=1e-12)


def test_a_slot_goes_on_where_it_stood_and_its_tail_comes_again() -> None:
    c = collector(length=5)
    a = read(c.run(order({0: 3}), POLICIES))[0]
    b = read(c.run(order({1: 1, 0: 2}, order_id=2), POLICIES))
    assert seen(a)[-1] == seen(b[0])[0] == (seed_of(0, 0), 3)
    assert b[0]["kind"].tolist() == [STEP, STEP, FINAL]
    d = c.run(order({0: 1}, order_id=3), POLICIES)
    assert seen(read(d)[0]) == [(seed_of(0, 1), 0), (seed_of(0, 1), 1)]
    assert not d.streams[0].cut_before


def test_restart_abandons_the_episode_and_counts_seeds_anew() -> None:
    c = collector(length=5)
    c.run(order({0: 3}), POLICIES)
    fragment = c.run(order({0: 2}, order_id=2, restart=True, seed=777), POLICIES)
    assert fragment.streams[0].cut_before
    assert seen(read(fragment)[0])[0] == (seed_of(0, 0, 777), 0)
    c.run(order({0: 3}, order_id=3), POLICIES)
    fragment = c.run(order({0: 1}, order_id=4, restart=True, seed=777), POLICIES)
    assert not fragment.streams[0].cut_before, "the slot stood at an episode's end"
    assert seen(read(fragment)[0])[0] == (seed_of(0, 0, 777), 0)


def test_until_episode_end_stops_there() -> None:
    c = collector(length=3)
    c.run(order({0: 1}), POLICIES)
    fragment = c.run(order({0: 10, 1: 2}, order_id=2, until_episode_end=True), POLICIES)
    streams = read(fragment)
    assert streams[0]["kind"].tolist() == [STEP, STEP, FINAL]
    assert streams[1]["kind"].tolist() == [STEP, STEP, TAIL]


def test_an_agent_that_ended_shows_its_last_observation_inactive_and_then_nothing() -> None:
    fragment = collector(length=5, walker_dies_at=2).run(order({0: 5}), POLICIES)
    rows = read(fragment)[0]
    e = seed_of(0, 0)
    assert rows["walker/active"][:, 1].tolist() == [1, 1, 0, 0, 0, 0]
    assert rows["walker/terminated"][:, 1].tolist() == [0, 1, 0, 0, 0, 0]
    assert rows["walker/observation"][:, 1].tolist() == [[e, 0, 2], [e, 1, 2], [e, 2, 2], *[[0, 0, 0]] * 3]
    assert not rows["walker/action"][2:, 1].any() and rows["walker/action"][2:5, 0].all()
    assert rows["walker/reward"][2:, 1].tolist() == [0] * 4
    assert rows["caller/truncated"][:, 0].tolist() == [0, 0, 0, 0, 1, 0]
    assert fragment.episodes[0].returns == pytest.approx([0.15, 5.15, 4.03])


def test_an_environment_that_raises_is_cut_reported_and_rebuilt() -> None:
    c = collector(length=10, raise_at=3)
    fragment = c.run(order({0: 5, 1: 2}), POLICIES)
    rows = read(fragment)[0]
    assert rows["kind"].tolist() == [STEP, STEP, CUT, STEP, STEP, CUT, STEP, TAIL]
    assert seen(rows)[2] == (seed_of(0, 0), 2) and seen(rows)[3] == (seed_of(0, 1), 0)
    assert rows["walker/active"][2].tolist() == [1, 1] and not rows["walker/action"][2].any()
    assert not rows["walker/reward"][2].any()
    assert [(f.slot, f.message, f.evaluation) for f in fragment.faults] == [
        (0, "RuntimeError: broken in step 3", False)
    ] * 2
    assert read(fragment)[1]["kind"].tolist() == [STEP, STEP, TAIL], "its neighbour notices nothing"
    assert not fragment.episodes and fragment.shortfall == 0
    # It breaks in the first step of the next fragment: no row needs a cut, the tail closed the last decision.
    c.run(order({0: 1}, order_id=2), POLICIES)
    fragment = c.run(order({0: 1}, order_id=3), POLICIES)
    assert fragment.streams[0].cut_before and len(fragment.faults) == 1
    assert read(fragment)[0]["kind"].tolist() == [STEP, TAIL]


def test_an_environment_that_cannot_be_used_gives_up_for_the_order_and_says_so() -> None:
    for config in ({"raise_in_reset": True}, {"raise_at": 1}):
        c = collector(**config)
        fragment = c.run(order({0: 5}), POLICIES)
        assert fragment.shortfall == fragment_pb2.SHORTFALL_ENVIRONMENT
        assert len(fragment.faults) == 3 and not fragment.streams and not fragment.blob


def test_stop_ends_the_order_at_the_next_step() -> None:
    asked = iter([False, False, True])
    fragment = collector().run(order({0: 5, 1: 5}), POLICIES, lambda: next(asked))
    assert fragment.shortfall == fragment_pb2.SHORTFALL_DRAIN
    assert [s.steps for s in fragment.streams] == [2, 2]
    read(fragment)


def test_equal_orders_give_equal_bytes() -> None:
    def play() -> list[bytes]:
        c = collector(length=4)
        fragments = [c.run(order({0: 5, 1: 3}, order_id=i), POLICIES) for i in range(1, 4)]
        return [f.blob for f in fragments]

    assert play() == play()


def test_noise_depends_on_the_orders_seed() -> None:
    one, two = order({0: 3}), order({0: 3})
    two.noise_seed = 99
    a, b = (read(collector().run(o, POLICIES))[0]["walker/action"] for o in (one, two))
    assert not np.allclose(a[:3], b[:3])


def test_policies_of_several_members_and_the_random_one_play_in_their_slots() -> None:
    o = order({0: 3, 1: 3}, exploration=order_pb2.Exploration())
    o.slots[1].agent_policies[:] = [3, 3, 3]
    a = read(collector().run(o, POLICIES))
    o.slots[1].agent_policies[:] = [2, 1, 0]
    o.slots[1].seed = o.slots[0].seed
    b = read(collector().run(o, POLICIES))
    np.testing.assert_array_equal(a[0]["walker/action"], b[0]["walker/action"])
    assert not np.allclose(a[1]["walker/action"][:3], b[1]["walker/action"][:3])


def with_task(seeds: list[int], steps: dict[int, int] | None = None, *, cap: int = 0, eval_steps: int = 4) -> Any:
    made = order(steps or {})
    made.eval_steps = eval_steps
    made.evaluations.add(task_id=55, agent_policies=[0, 1, 2], seeds=seeds, max_episode_steps=cap, member_id=7)
    return made


def test_evaluations_queue_over_slots_and_go_on_in_the_next_order() -> None:
    c = collector(train=1, evaluation=2, length=3)
    fragments = [c.run(with_task([11, 12, 13], {0: 2}), POLICIES)]
    assert fragments[0].eval_steps == 7 and [s.steps for s in fragments[0].streams] == [2]
    assert [(e.seed, e.slot) for e in fragments[0].episodes if e.evaluation] == [(11, 0), (12, 1)]
    while c.evaluating:
        # Later orders do not name the policies: the task has pinned them.
        fragments.append(c.run(order_pb2.Order(order_id=9, eval_steps=4), {}))
    episodes = [e for f in fragments for e in f.episodes if e.evaluation]
    assert sorted(e.seed for e in episodes) == [11, 12, 13]
    assert sum(f.eval_steps for f in fragments) == 9 == sum(e.length for e in episodes)
    for e in episodes:
        assert e.task_id == 55 and e.member_id == 0
        assert e.policies == b"".join(p.sha256[:16] for p in MEMBER)
        assert e.returns == pytest.approx([0.06, 3.06, 6.06])


def test_evaluation_episodes_are_cut_off() -> None:
    fragment = collector(train=0, evaluation=1, length=100).run(with_task([5, 6], cap=2), POLICIES)
    assert [(e.seed, e.length) for e in fragment.episodes] == [(5, 2), (6, 2)]
    assert fragment.episodes[0].returns == pytest.approx([0.03, 2.03, 4.03])


def test_a_fault_in_an_evaluation_names_the_task_and_seed() -> None:
    c = collector(train=0, evaluation=1, length=5, raise_at=2)
    fragment = c.run(with_task([5, 6], eval_steps=50), POLICIES)
    assert [(f.task_id, f.seed, f.evaluation) for f in fragment.faults] == [(55, 5, True), (55, 6, True)]
    assert not c.evaluating and not fragment.episodes


def test_forgotten_evaluations_do_not_go_on() -> None:
    c = collector(train=0, evaluation=1, length=5)
    c.run(with_task([5, 6]), POLICIES)
    c.forget_evaluations()
    assert c.run(order_pb2.Order(eval_steps=9), {}).eval_steps == 0
    fragment = c.run(with_task([8], eval_steps=5), POLICIES)
    assert [(e.seed, e.length) for e in fragment.episodes] == [(8, 5)]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda o: setattr(o.slots[0], "slot", 2), "expected distinct slots below 2"),
        (lambda o: setattr(o.slots[0], "slot", 1), "distinct slots"),
        (lambda o: setattr(o.slots[0], "steps", 0), "1 to 4096 steps"),
        (lambda o: setattr(o.slots[0], "steps", 5000), "1 to 4096 steps"),
        (lambda o: o.slots[0].agent_policies.append(0), "expected 3 indices"),
        (lambda o: o.slots[0].agent_policies.__setitem__(0, 9), "below 4"),
        (
            lambda o: o.policies[0].MergeFrom(order_pb2.PolicyRef(builtin="genius")),
            "built-in policy 'genius'",
        ),
        (lambda o: o.slots[0].agent_policies.__setitem__(0, 1), "expected those of agent 'walker_0'"),
    ],
)
def test_orders_that_break_the_protocol_are_refused(spoil: Callable[[order_pb2.Order], object], says: str) -> None:
    spoiled = order({0: 2, 1: 2})
    spoil(spoiled)
    with pytest.raises(RefusedError, match=says):
        collector().run(spoiled, POLICIES)


def test_agents_that_take_turns_against_what_was_said_end_the_actor() -> None:
    with pytest.raises(EnvironmentLoadError, match="got no observation"):
        collector(blind_at=2).run(order({0: 3}), POLICIES)


def test_slots_whose_rows_cannot_fit_a_fragment_are_refused() -> None:
    with pytest.raises(SpaceError, match=r"lower actors\.max_slots"):
        collector(train=200_000)


def test_evaluate_plays_each_seed_once_and_gives_them_in_order() -> None:
    make = load_environment("tests.support.environments:counter", {"length": 4})
    seeds = [9, 3, 5, 1, 7]
    episodes = evaluate(make, SPACES, MEMBER, seeds, max_episode_steps=0, slots=2)
    assert [e.seed for e in episodes] == seeds
    assert all(e.length == 4 and e.returns == pytest.approx([0.1, 4.1, 8.1]) for e in episodes)
    episodes = evaluate(make, SPACES, [None, None, None], [1], max_episode_steps=2, slots=4)
    assert [(e.length, e.policies) for e in episodes] == [(2, bytes(48))]
    broken = load_environment("tests.support.environments:counter", {"raise_at": 2})
    with pytest.raises(EnvironmentLoadError, match="seed 1: RuntimeError: broken in step 2"):
        evaluate(broken, SPACES, MEMBER, [1], max_episode_steps=0, slots=1)


WORK = st.dictionaries(
    st.integers(0, 2), st.tuples(st.integers(1, 9), st.booleans(), st.booleans()), min_size=0, max_size=3
)


@examples(0.4)
@given(
    st.lists(st.tuples(WORK, st.lists(st.integers(0, 99), max_size=3, unique=True), st.integers(0, 5)), max_size=5),
    st.integers(1, 6),
    st.sampled_from([0, 2, 4]),
    st.sampled_from([0, 3]),
)
def test_any_orders_give_fragments_that_tell_one_story(
    works: list[tuple[dict[int, tuple[int, bool, bool]], list[int], int]], length: int, raise_at: int, dies_at: int
) -> None:
    """Decoded streams, laid end to end, are each slot's episodes without a gap, and every ordered step was made."""
    c = collector(train=3, evaluation=2, length=length, raise_at=raise_at, walker_dies_at=dies_at)
    stand: dict[int, tuple[int, int]] = {}  # where the slot's last tail stood
    for i, (work, seeds, eval_steps) in enumerate(works):
        o = order({s: n for s, (n, _, _) in work.items()}, order_id=i + 1)
        for w in o.slots:
            _, w.restart, w.until_episode_end = work[w.slot]
        o.eval_steps = eval_steps
        o.evaluations.add(task_id=i, agent_policies=[0, 1, 2], seeds=seeds)
        fragment = fragment_pb2.Fragment.FromString(c.run(o, POLICIES).SerializeToString())
        streams = read(fragment)
        assert fragment.eval_steps <= 2 * eval_steps
        assert [s.slot for s in fragment.streams] == [w.slot for w in o.slots]
        for w, s in zip(o.slots, fragment.streams, strict=True):
            rows = streams[w.slot]
            kinds, where = rows["kind"].tolist(), seen(rows)
            assert s.steps == w.steps or (w.until_episode_end and kinds[-1] == FINAL and s.steps < w.steps)
            at = stand.pop(w.slot, None)
            # A running episode goes on or was cut; it is cut too where it raised before it came to a row.
            assert at is None or s.cut_before or where[0] == at
            assert not s.cut_before or at is not None
            for (kind, (seed, step)), following in zip(zip(kinds, where, strict=True), where[1:], strict=False):
                assert following == (seed, step + 1) if kind == STEP else following[1] == 0
            for kind, (_, step), active in zip(kinds, where, rows["walker/active"][:, 1].tolist(), strict=True):
                assert (kind == FINAL) == (step == length)
                assert kind != CUT or step == raise_at - 1
                assert active == (kind != FINAL and (not dies_at or step < dies_at))
            if kinds[-1] == TAIL:
                stand[w.slot] = where[-1]
        ended = [e for e in fragment.episodes if not e.evaluation]
        assert len(ended) == sum(int((r["kind"] == FINAL).sum()) for r in streams.values())
        for stream in streams.values():
            again, _ = SCHEMA.encode(stream, 1)
            assert again


def test_one_actor_serves_groups_in_the_schemas_sequence() -> None:
    """The columns agree with the schema whatever order the environment lists its agents in."""
    groups = EnvironmentSpaces.build(SPACES.agents, {"z": ["walker_1"], "a": ["caller_0"], "m": ["walker_0"]})
    schema = RowSchema.of(groups)
    c = Collector(
        SyncSlots(load_environment("tests.support.environments:counter", {}), groups, 1), groups, schema, 1, 1
    )
    fragment = c.run(order({0: 2}), POLICIES)
    columns = schema.decode(fragment.blob, 3, fragment.raw_bytes)
    assert [columns[f"{g}/observation"][1, 0, 2] for g in ("z", "a", "m")] == [2, 1, 0]
