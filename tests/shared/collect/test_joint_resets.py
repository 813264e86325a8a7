"""Training episodes that begin together are drawn together, where the environment can; all others by exact seeds."""

from __future__ import annotations

from tests.support.counter_play import POLICIES, SCHEMA, SPACES, STEP, order, read, seen
from tests.support.drawn_together import DrawnTogether
from tests.support.environments import BatchedCounter

from covey.collect import Collector, evaluate
from covey.collect.slot_state import joint_episodes_seed, training_episode_seed
from covey.envs import SlotArrays, load_environment
from covey.v1 import order_pb2


def attached(env: BatchedCounter) -> BatchedCounter:
    env.attach(SPACES, SlotArrays.zeros(SPACES, env.count))
    return env


def collector(env: BatchedCounter, train: int, *, joint_seeds: bool = True) -> Collector:
    return Collector(attached(env), SPACES, SCHEMA, train, compression_level=1, joint_seeds=joint_seeds)


def with_evaluations(made: order_pb2.Order, *seeds: int) -> order_pb2.Order:
    made.eval_steps = 10
    made.evaluations.add(task_id=1, agent_policies=[0, 1, 2], seeds=seeds)
    return made


def seed_of(slot: int, episode: int) -> int:
    """The seed that a slot's episode would take by itself."""
    return training_episode_seed(100 + slot, episode)


def joint(*seeds: int) -> int:
    return joint_episodes_seed(seeds)


def test_training_slots_are_drawn_together_and_evaluation_slots_by_their_seeds() -> None:
    env = DrawnTogether(4, 3)
    fragment = collector(env, 2).run(with_evaluations(order({0: 3, 1: 3}), 7, 8), POLICIES)
    together = joint(seed_of(0, 0), seed_of(1, 0))
    assert env.calls == [f"joint {together} 0 1", "exact 2=7 3=8"]
    assert sorted(e.seed for e in fragment.episodes if e.evaluation) == [7, 8]
    assert all(rows["kind"].tolist()[:3] == [STEP] * 3 for rows in read(fragment).values())


def test_the_seed_follows_from_those_of_the_slots_that_are_due() -> None:
    env = DrawnTogether(3, 3)
    c = collector(env, 3)
    c.run(order({2: 2}), POLICIES)
    c.run(order({0: 4, 1: 3}, order_id=2), POLICIES)
    c.run(order({2: 2}, order_id=3), POLICIES)
    assert env.calls == [
        f"joint {joint(seed_of(2, 0))} 2",
        f"joint {joint(seed_of(0, 0), seed_of(1, 0))} 0 1",
        f"joint {joint(seed_of(0, 1))} 0",
        f"joint {joint(seed_of(2, 1))} 2",
    ]
    again = DrawnTogether(3, 3)
    c = collector(again, 3)
    first = c.run(order({2: 2}), POLICIES)
    assert again.calls == env.calls[:1] and seen(read(first)[2])[1][1] == 1
    assert len({joint(1, 2), joint(2, 1), joint(1), joint(2), joint(1, 2, 0)}) == 5


def test_exact_seeds_where_runs_are_to_be_equal_and_where_there_is_no_batch() -> None:
    exact = [f"exact 0={seed_of(0, 0)} 1={seed_of(1, 0)}"]
    env = DrawnTogether(2, 3)
    rows = read(collector(env, 2, joint_seeds=False).run(order({0: 2, 1: 2}), POLICIES))
    assert env.calls == exact
    plain = BatchedCounter(2, 3, 0)
    without = read(collector(plain, 2).run(order({0: 2, 1: 2}), POLICIES))
    assert [seen(r) for r in rows.values()] == [seen(r) for r in without.values()]


def test_a_slot_that_raises_in_a_joint_reset_is_drawn_again() -> None:
    env = DrawnTogether(3, 4, failing=1)
    fragment = collector(env, 2).run(with_evaluations(order({0: 2, 1: 2}), 5), POLICIES)
    assert [(f.slot, f.message, f.evaluation) for f in fragment.faults] == [(1, "ValueError: no map", False)] * 3
    assert env.calls[0].startswith("joint") and env.calls[1] == "exact 2=5"
    seeds = [joint(seed_of(1, episode)) for episode in (1, 2)]
    assert env.calls[2:] == [f"joint {seed} 1" for seed in seeds]
    assert [e.seed for e in fragment.episodes if e.evaluation] == [5] and len(read(fragment)[0]["kind"]) == 3


def test_evaluating_without_a_learner_takes_exact_seeds() -> None:
    make = load_environment("tests.support.drawn_together:drawn_together", {"length": 3})
    seats = list(POLICIES.values())
    episodes = evaluate(make, SPACES, seats, [3, 9, 4], 0, 2)
    assert [(e.seed, e.length) for e in episodes] == [(3, 3), (9, 3), (4, 3)]
    counted = load_environment("tests.support.environments:counter", {"length": 3})
    assert episodes == evaluate(counted, SPACES, seats, [3, 9, 4], 0, 2)
