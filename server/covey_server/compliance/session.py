"""The session through which an actor is taken: one act after another, in each of which something happens to it."""

from __future__ import annotations

import queue
import subprocess
import time
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from covey.networks.normalisation import normalised_ranges
from covey.v1 import actor_service_pb2 as pb
from covey.v1.fragment_pb2 import SHORTFALL_POLICY_UNAVAILABLE, Fragment
from covey.v1.order_pb2 import Exploration
from covey.wire.limits import EPSILON_GREEDY_SINCE, MAX_ORDER_STEPS
from covey.wire.versions import MEMORY_SINCE
from covey_server.compliance.asked import Players, Task, Work
from covey_server.compliance.attached import Attached, StuckError
from covey_server.compliance.examination import Seen
from covey_server.compliance.line import HEARTBEAT_S, LearnerSide
from covey_server.compliance.policies import sample_policies
from covey_server.compliance.rules import Verdicts

TRAIN_SLOTS, EVAL_SLOTS = 3, 2
"""Slots that Describe asks for."""

STEPS = 6
"""Env steps of most orders, and of evaluation slots in one order."""

LONGEST = 15
"""Env steps after which evaluation episodes are cut off."""

MOST_ORDERS = 60
"""Orders within which evaluations must have ended."""

MOST_ORDERS_OF_EPISODE = 8
"""Orders within which one episode is to end; observations may be so large that few steps fit into each."""

ON_THE_WAY_S = 1.0
"""Seconds by which a heartbeat may be late on a busy machine."""

GONE = bytes(range(32))
"""The hash of a policy that nobody has."""


@dataclass(frozen=True, slots=True)
class Cast:
    """Who plays: random, plain networks, networks with all kinds of layers, and networks with memory."""

    random: Players
    plain: Players
    layered: Players
    remembering: Players


def try_actor(side: LearnerSide, verdicts: Verdicts, wait_s: float, process: subprocess.Popen[bytes] | None) -> None:
    """Take one actor through the session; returns when it has left, or does not go on.

    Args:
        side: Where it attaches.
        verdicts: Where is noted what it does right and wrong.
        wait_s: Seconds that it has for each answer.
        process: Its process, if it was started here.
    """
    actor = Attached(side, verdicts, wait_s, process)
    try:
        actor.attach()
    except StuckError:
        return
    plain, layered = (sample_policies(actor.spaces, plain=kind, seed=i) for i, kind in enumerate((True, False)))
    remembering = sample_policies(actor.spaces, plain=True, seed=2, memory=True)
    side.policies |= {policy.sha256: policy.file for policy in (*plain, *layered, *remembering)}
    cast = Cast([None] * len(actor.spaces.agents), plain, layered, remembering)
    if side.version < MEMORY_SINCE:
        verdicts.leave_out("memory", "states", "normalized", "epsilon")
    elif not any(normalised_ranges(group.stacked) for group in actor.spaces.groups):
        verdicts.leave_out("normalized")  # images and choices are not
    stuck = False
    for act in (
        *(
            begin,
            play_policies,
            normalize,
            explore,
            remember,
            stand_still,
            restart,
            stop_with_episode,
            lack_a_policy,
            evaluate,
        ),
        *(break_the_line, lose_a_fragment, refuse_a_fragment, restart_the_learner, wait_for_heartbeats, leave),
    ):
        try:
            act(actor, cast)
        except StuckError:
            if stuck or actor.gone:  # an actor that does not answer is waited for twice, not in every act
                return
            stuck = True


def begin(actor: Attached, cast: Cast) -> None:
    """All slots play at random, each its own number of steps."""
    slots = range(actor.session.train_slots)
    actor.run(*(Work(i, cast.random, STEPS + i, restart=True, seed=i) for i in slots))
    if drawn := min(map(len, actor.slots.drawn.values())):  # 0 where the fragment was none to look at
        actor.verdicts.check(
            "random", drawn > 1, "different actions of every group", f"always the same in {STEPS} steps"
        )


def play_policies(actor: Attached, cast: Cast) -> None:
    """Two orders are out at once, of plain policies and of those with all kinds of layers."""
    orders = [actor.order(Work(0, players, STEPS)) for players in (cast.plain, cast.layered)]
    for order in orders:
        actor.ack(actor.receive(order))
    asked = {policy.sha256 for policy in (*cast.plain, *cast.layered) if policy}
    missing = asked - actor.side.fetched
    actor.verdicts.check(
        "fetch", not missing, f"{len(asked)} policies fetched by their hash", len(asked) - len(missing)
    )


def normalize(actor: Attached, cast: Cast) -> None:
    """Policies play that read normalised observations, each by the statistics in its own file: of what was seen."""
    shown = {group: np.concatenate(seen) for group, seen in actor.slots.shown.items() if seen}
    if actor.side.version >= MEMORY_SINCE and shown:
        players = sample_policies(actor.spaces, plain=True, seed=3, normalized_by=shown)
        actor.side.policies |= {policy.sha256: policy.file for policy in players}
        actor.run(Work(0, players, STEPS, restart=True, seed=8))


def explore(actor: Attached, cast: Cast) -> None:
    """Policies play epsilon-greedily, never at random and then always."""
    if actor.side.version < EPSILON_GREEDY_SINCE:
        return
    players = sample_policies(actor.spaces, plain=True, seed=4, weights=0.0)
    actor.side.policies |= {policy.sha256: policy.file for policy in players}
    for scale in (0.0, 1.0):
        exploration = Exploration(kind=Exploration.KIND_EPSILON_GREEDY, scale=scale)
        for _ in range(MOST_ORDERS_OF_EPISODE // 2):
            actor.run(Work(0, players, STEPS, exploration=exploration))
    decisions, others = actor.slots.explored
    if decisions:
        what = f"with scale 1 some of {decisions} decisions that are not the largest output"
        actor.verdicts.check("epsilon", others > 0, what, "the largest each time")


def remember(actor: Attached, cast: Cast) -> None:
    """Policies with memory play three orders in one slot, which go on where the one before ended."""
    if actor.side.version >= MEMORY_SINCE:
        for i in range(3):
            actor.run(Work(0, cast.remembering, STEPS, restart=not i, seed=9))


def stand_still(actor: Attached, cast: Cast) -> None:
    """The last slot, which has stood still for two orders, goes on, with exploration."""
    noise = Exploration(kind=Exploration.KIND_GAUSSIAN, scale=0.2)
    actor.run(Work(actor.session.train_slots - 1, cast.plain, STEPS, exploration=noise))


def restart(actor: Attached, cast: Cast) -> None:
    """A slot is restarted twice with one seed, and shows the same both times."""
    shown: list[Seen] = []
    for _ in range(2):
        actor.slots.first.clear()
        actor.run(Work(0, cast.plain, 3, restart=True, seed=77))
        shown += actor.slots.first.values()
    if len(shown) == 2:  # fewer where a fragment was none to look at
        same = all(np.array_equal(shown[0][group], shown[1][group]) for group in shown[0])
        actor.verdicts.check("seeds", same, "the same first observation after two restarts with one seed", "two others")


def stop_with_episode(actor: Attached, cast: Cast) -> None:
    """A slot stops where its episode ends, though it has steps left."""
    for i in range(MOST_ORDERS_OF_EPISODE):
        actor.run(Work(0, cast.random, 512, restart=not i, seed=5, until_episode_end=True))
        if actor.verdicts.reached("until"):
            break
    actor.run(Work(0, cast.random, 2))


def lack_a_policy(actor: Attached, cast: Cast) -> None:
    """A policy that the learner does not have any more."""
    fragment = actor.receive(actor.order(Work(0, cast.random, STEPS), also_named=GONE))
    empty = fragment.shortfall == SHORTFALL_POLICY_UNAVAILABLE and not fragment.streams and not fragment.blob
    got = f"shortfall {fragment.shortfall}, {len(fragment.streams)} streams"
    actor.verdicts.check("gone", empty, f"shortfall {SHORTFALL_POLICY_UNAVAILABLE} and no streams", got)
    actor.ack(fragment)


def evaluate(actor: Attached, cast: Cast) -> None:
    """Evaluations go on over orders that say nothing of them, and one seed gives the same returns twice."""
    tasks = [
        Task(cast.plain, [11, 12, 13], LONGEST),
        Task(cast.random, [11], LONGEST),
        Task(cast.plain, [12], LONGEST),
    ]
    actor.run(tasks=tasks, eval_steps=STEPS)
    for _ in range(MOST_ORDERS):
        if not any(task.open for task in tasks):
            break
        # The order names other policies, which are not those of the evaluations.
        actor.run(Work(0, cast.layered, 1), eval_steps=STEPS)
    check = actor.verdicts.check
    left = {i: sorted(task.open) for i, task in actor.tasks.items() if task.open}
    check("queue", not left, f"all evaluation episodes within {MOST_ORDERS} orders", f"none of these, by task: {left}")
    if not left:
        first, again = tasks[0].returns[12], tasks[2].returns[12]
        check(
            "evaluation",
            np.array_equal(first, again, equal_nan=True),
            f"returns {first} once more of seed 12 and the same policies",
            again,
        )


def break_the_line(actor: Attached, cast: Cast) -> None:
    """The connection breaks before a fragment is acknowledged, and once more with nothing outstanding."""
    order = actor.order(Work(0, cast.plain, STEPS))
    fragment = actor.receive(order)
    actor.line.cut()
    actor.rejoin(held=[order.order_id], first_held_seq=fragment.seq)
    _expect_again(actor, fragment, "resend")
    actor.run(Work(0, cast.plain, STEPS))
    actor.line.cut()
    actor.rejoin()
    actor.run(Work(0, cast.plain, STEPS))


def lose_a_fragment(actor: Attached, cast: Cast) -> None:
    """A fragment is asked for again."""
    fragment = actor.receive(actor.order(Work(0, cast.plain, STEPS)))
    mark = actor.session.received_seq
    actor.line.send(ack=pb.Ack(received_seq=mark, durable_seq=mark, resend_from_seq=fragment.seq))
    _expect_again(actor, fragment, "gap")


def _expect_again(actor: Attached, fragment: Fragment, rule: str) -> None:
    """Wait for the same fragment once more, and acknowledge it."""
    try:
        again = actor.next(f"fragment {fragment.seq} once more", rule)
    finally:
        actor.ack(fragment)  # so that the session can go on, whatever came
    same = again.SerializeToString(deterministic=True) == fragment.SerializeToString(deterministic=True)
    got = f"another one of seq {again.seq}, order {again.order_id}"
    actor.verdicts.check(rule, same, f"fragment {fragment.seq} of order {fragment.order_id} as it was", got)


def refuse_a_fragment(actor: Attached, cast: Cast) -> None:
    """A fragment is refused, and the mark passes it."""
    fragment = actor.receive(actor.order(Work(0, cast.plain, STEPS)))
    refusal = pb.Refusal(seq=fragment.seq, reason="order", detail="refused by check-actor, on purpose")
    actor.ack(fragment, refusals=[refusal])
    for _ in range(2):
        actor.run(Work(0, cast.plain, STEPS))
    actor.verdicts.check("refused", True, "", "")


def restart_the_learner(actor: Attached, cast: Cast) -> None:
    """The learner restarts while evaluations are unfinished."""
    task = Task(cast.plain, [21, 22, 23, 24, 25, 26, 27, 28], LONGEST)
    actor.run(tasks=[task], eval_steps=1)
    task.void = True
    actor.side.restart()
    error = pb.StreamError(code=pb.StreamError.CODE_UNKNOWN_SESSION, message="the learner has restarted; Join again")
    actor.line.send(error=error)
    actor.line.end()
    actor.rejoin()
    steps = sum(actor.run(eval_steps=STEPS).eval_steps for _ in range(2))
    steps += actor.run(Work(0, cast.plain, STEPS, restart=True, seed=9), eval_steps=STEPS).eval_steps
    actor.verdicts.check(
        "epoch", not steps, "no step of evaluations from before the learner's restart", f"{steps} steps"
    )


def wait_for_heartbeats(actor: Attached, cast: Cast) -> None:
    """Nothing happens, and the actor shows that it lives."""
    line, limit_s = actor.line, 2 * HEARTBEAT_S + ON_THE_WAY_S
    began, known = time.monotonic(), len(line.beats)
    while time.monotonic() < began + 2 * limit_s and len(line.beats) < known + 2:
        time.sleep(0.1)
    beats = [began, *line.beats[known:]]
    gaps = [b - a for a, b in pairwise(beats)]
    longest = max(gaps, default=2 * limit_s)
    came = len(gaps) == 2 and longest <= limit_s
    got = f"{len(gaps)} in {time.monotonic() - began:.1f} s"
    actor.verdicts.check(
        "heartbeat", came, f"2 heartbeats, each within {limit_s:g} s, as {HEARTBEAT_S:g} s are asked", got
    )


def leave(actor: Attached, cast: Cast) -> None:
    """The actor is drained in the middle of an order, and told so more than once."""
    check = actor.verdicts.check
    order = actor.order(Work(0, cast.random, MAX_ORDER_STEPS, restart=True, seed=1))
    for _ in range(3):
        actor.line.send(drain=pb.Drain(run_complete=True, reason="the actor was checked"))
    actor.ack(actor.receive(order))
    finish = actor.finish()
    last = actor.session.received_seq
    check("drain", finish.last_seq == last, f"Finish with last_seq {last}", finish.last_seq)
    try:
        more = actor.line.up.get(timeout=HEARTBEAT_S)
    except queue.Empty:
        more = None
    check("drains", more is None, "nothing after Finish", type(more).__name__)
    actor.line.end()
    if actor.process is not None:
        actor.wait_for_exit()
