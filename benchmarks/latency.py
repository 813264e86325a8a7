"""From an update to an actor that acts on it: a real learner with its trainer, a real actor, on loopback.

    python benchmarks/latency.py [--seconds 20] [--learn-step 25]

For every version of a member's policies: the time from its being offered, right after the update, to the moment at
which an actor began to work on the first order that names it or a newer one. That moment is the arrival of the order's
fragment less the time that the actor says it worked on it, so that the way back is counted as well. An actor holds two
orders, so the two fragments before are inherent; `beyond_two_fragments_ms` is what comes on top. Prints a JSON object.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import threading
import time
from collections import deque
from pathlib import Path

from covey.config import Config
from covey.run.new_run import new_run
from covey.v1 import actor_service_pb2 as pb
from covey.v1.fragment_pb2 import Fragment
from covey_actor.workers import actor_arguments, start_worker
from covey_server.app import LearnerProcess
from covey_server.ingest.intake import Intake
from covey_server.learner import Learner
from covey_server.orders.session import Session
from covey_server.packing.policies import PolicyStore
from covey_server.packing.policy_snapshot import PolicySnapshot


class Watch:
    """Notes when versions were offered, and takes the times when an actor acted on them."""

    def __init__(self) -> None:
        self.offered: dict[int, deque[tuple[int, float]]] = {}  # by member: version, when
        self.latency_s: list[float] = []
        self.beyond_s: list[float] = []
        self.work_s: deque[float] = deque(maxlen=1000)

    def offer(self, snapshot: PolicySnapshot) -> None:
        """A trainer has updated."""
        now = time.monotonic()
        for member_id, version in snapshot.updates.items():
            versions = self.offered.setdefault(member_id, deque())
            if not versions or versions[-1][0] != version:
                versions.append((version, now))

    def fragment(self, learner: Learner, session: Session, fragment: Fragment) -> None:
        """An order's answer has come."""
        order = learner.scheduler.order(fragment.order_id, session.key)
        if order is None:
            return
        began = time.monotonic() - fragment.work_s
        before = sum(list(self.work_s)[-2:])
        self.work_s.append(fragment.work_s)
        for ref in order.policies:
            versions = self.offered.get(ref.member_id, deque())
            while versions and versions[0][0] <= ref.version:
                latency = began - versions.popleft()[1]
                self.latency_s.append(latency)
                self.beyond_s.append(latency - before)


def install(watch: Watch) -> None:
    """Have the learner of this process tell the watch."""
    offer, receive = PolicyStore.offer, Intake.receive

    def offering(self: PolicyStore, snapshot: PolicySnapshot) -> None:
        watch.offer(snapshot)
        offer(self, snapshot)

    def receiving(self: Intake, session: Session, fragment: Fragment) -> pb.Ack:
        watch.fragment(self._learner, session, fragment)
        return receive(self, session, fragment)

    PolicyStore.offer, Intake.receive = offering, receiving  # type: ignore[method-assign]


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Of times in seconds, in milliseconds."""
    ordered = sorted(seconds)
    return {f"p{p}": round(1e3 * ordered[int(len(ordered) * p / 100)], 1) for p in (50, 90, 99)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--learn-step", type=int, default=25)
    args = parser.parse_args()
    config = Config.model_validate(
        {
            "algorithm": {"name": "MADDPG", "batch_size": 256, "learn_step": args.learn_step},
            "environment": {
                "name": "mpe2.simple_speaker_listener_v4",
                "config": {"continuous_actions": True},
                "num_envs": 8,
            },
            "training": {"max_steps": 1 << 40, "evo_steps": 1 << 40, "pop_size": 4, "learning_delay": 1000},
            # Nobody is held back for owing updates: a member that gets no order has nobody who could act.
            "mutation": {"probabilities": {"no_mut": 1.0, "arch_mut": 0, "params_mut": 0, "rl_hp_mut": 0}},
            "learner": {"max_updates_owed": 1 << 40},
            "logging": {"tensorboard": False},
        }
    )
    watch = Watch()
    install(watch)
    with tempfile.TemporaryDirectory() as directory:
        process = LearnerProcess(config, new_run(config, Path(directory)))
        address = process.start()
        actor: subprocess.Popen[bytes] = start_worker(actor_arguments(address))
        stop = threading.Timer(args.seconds, process.trainer.request_stop)
        stop.start()
        process.wait()
        stop.cancel()
        status = process.report.status()
        process.stop()
        actor.wait(timeout=30)
    print(
        json.dumps(
            {
                "benchmark": "latency",
                "update_to_action_ms": percentiles(watch.latency_s),
                "beyond_two_fragments_ms": percentiles(watch.beyond_s),
                "fragment_ms": percentiles(list(watch.work_s)),
                "versions": len(watch.latency_s),
                "env_steps": status.env_steps,
            }
        )
    )


if __name__ == "__main__":
    main()
