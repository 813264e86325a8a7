"""A real actor process, and its collector alone, against the raw environment loop, alternately in one sitting.

    python benchmarks/actor_loop.py [--seconds 20] [--slots 8] [--members 4] [--evaluate 0] [--renew 1] [--sample]

The raw loop steps, as PettingZoo made them, the same number of copies with actions drawn beforehand and resets them
at episode ends: no policy, no rows. The direct loop does so without PettingZoo's layers, as collecting does
(`covey.envs.direct`). The other two act with the networks of the page (hidden 32, 32, latent 64, head 32), explore
with OU noise (where actions are choices: one in ten is uniform; with --sample all are drawn from stochastic
policies), build and compress fragments; the process also streams them to a learner that only hands out orders, and
fetches policies whose weights are new in every `--renew`th order. With --evaluate so many slots more play evaluation
episodes all the time; the loops then step as many copies more. Prints one line of JSON. All figures are of CPU time,
the process's of all its threads, in medians over blocks and in the lowest tenth (which other processes on the machine
disturb least); ratios are raw / process, raw / collector and direct / process: what share of a core is left for the
environment.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from covey_actor.workers import actor_arguments, limit_threads, start_worker

limit_threads()  # before numpy is imported, as in an actor process
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np  # noqa: E402
from benchmarks.synthetic.learner import OrderingLearner  # noqa: E402

from covey.acting import LoadedPolicy  # noqa: E402
from covey.collect import Collector  # noqa: E402
from covey.envs import SyncSlots, load_environment, read_spaces  # noqa: E402
from covey.envs.direct import Direct  # noqa: E402
from covey.envs.loading import MakeEnv  # noqa: E402
from covey.networks import MLP, Input, NetworkSpec  # noqa: E402
from covey.rows import RowSchema  # noqa: E402
from covey.spaces import AgentSpec, Box, EnvironmentSpaces  # noqa: E402
from covey.v1.environment_pb2 import EnvironmentSpec  # noqa: E402
from covey.v1.fragment_pb2 import Fragment  # noqa: E402
from covey.v1.order_pb2 import Exploration, Order  # noqa: E402
from covey.wire.policy_file import encode_policy, spec_of  # noqa: E402

STEPS = 32  # of one slot in one order: as long as orders are where env steps are not cheap
ORDERS_A_BLOCK = 8
VERSIONS = 20  # of each policy: more than an actor keeps


class RawLoop:
    """The environment, and nothing else."""

    def __init__(self, make: MakeEnv, slots: int) -> None:
        self._envs = [make() for _ in range(slots)]
        for i, env in enumerate(self._envs):
            env.reset(seed=i)
        env = self._envs[0]
        self._actions = [{a: env.action_space(a).sample() for a in env.possible_agents} for _ in range(512)]
        self._count = 0

    def run(self, steps: int) -> None:
        """So many steps of each copy."""
        actions = self._actions
        for _ in range(steps):
            for env in self._envs:
                self._count += 1
                if not env.agents:
                    env.reset(seed=self._count)
                env.step(actions[self._count % 512])


class Orders:
    """What a learner repeats: each member's slots, then the next fragment, with new weights now and then.

    Args:
        spaces: Of the environment.
        slots: Training slots; members take turns in them.
        members: How many.
        evaluate: Evaluation slots.
        renew: Orders until the weights change.
        sample: Whether policies are stochastic and sampled.
    """

    def __init__(
        self, spaces: EnvironmentSpaces, slots: int, members: int, evaluate: int, renew: int, sample: bool
    ) -> None:
        self._slots, self._members, self._evaluate, self._renew = slots, members, evaluate, renew
        self._agents = len(spaces.agents)
        self._count = 0
        self.files: dict[bytes, bytes] = {}
        self._versions: list[list[bytes]] = []
        for version, m in itertools.product(range(VERSIONS), range(members)):
            hashes = []
            for i, agent in enumerate(spaces.agents):
                data = page_policy(agent, 1000 * version + 100 * m + i, sample)
                hashes.append(LoadedPolicy.decode(data).sha256)
                self.files[hashes[-1]] = data
            if m == 0:
                self._versions.append([])
            self._versions[-1] += hashes
        kind = Exploration.KIND_SAMPLE if sample else Exploration.KIND_ORNSTEIN_UHLENBECK
        self._explore = Exploration(kind=kind, scale=0.1, theta=0.15, dt=0.01)

    def __call__(self, count: int, steps: int = STEPS) -> Iterator[Order]:
        """So many orders of so many steps a slot."""
        for _ in range(count):
            order = Order(order_id=self._count + 1, noise_seed=self._count, eval_steps=steps)
            hashes = self._versions[self._count // self._renew % VERSIONS]
            self._count += 1
            for i, sha256 in enumerate(hashes):
                order.policies.add(sha256=sha256, member_id=i // self._agents)
            for slot in range(self._slots):
                m = slot % self._members
                plays = range(m * self._agents, (m + 1) * self._agents)
                order.slots.add(
                    slot=slot, agent_policies=plays, seed=slot, member_id=m, steps=steps, exploration=self._explore
                )
            for e in range(self._evaluate):
                m = e % self._members
                plays = range(m * self._agents, (m + 1) * self._agents)
                # An episode or two in each order, as long as the order's steps or longer; what is left over waits.
                seeds = [self._count * self._evaluate + e]
                order.evaluations.add(task_id=self._count * self._evaluate + e, seeds=seeds, agent_policies=plays)
            yield order


def page_policy(agent: AgentSpec, seed: int, sample: bool = False) -> bytes:
    """The file of a fresh policy of the page's size."""
    net = NetworkSpec(
        inputs=(Input("observation", agent.observation.width, MLP(hidden_size=(32, 32))),),
        head=MLP(hidden_size=(32,)),
        outputs=agent.action.width,
        latent_dim=64,
        log_std=0.0 if sample and isinstance(agent.action, Box) else None,
    )
    return encode_policy(
        spec_of(net, agent, "stochastic" if sample else "deterministic"), net.init(np.random.default_rng(seed))
    )


class ActorProcess:
    """A real one, and the CPU time that it has used."""

    def __init__(self, address: str) -> None:
        self._process = start_worker(actor_arguments(address))
        self._tasks = Path(f"/proc/{self._process.pid}/task")

    def cpu_s(self) -> float:
        """Of all its threads, to the nanosecond; those that have ended do not count."""
        return sum(int((t / "schedstat").read_text().split()[0]) for t in self._tasks.iterdir()) / 1e9

    def end(self) -> None:
        """Tell it to leave."""
        self._process.terminate()
        self._process.wait(timeout=30)


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Microseconds an env step: the median, and the lowest tenth."""
    return {"median": float(np.median(values)), "lowest_tenth": float(np.quantile(values, 0.1))}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--evaluate", type=int, default=0)
    parser.add_argument("--renew", type=int, default=1)
    parser.add_argument("--sample", action="store_true")
    parser.add_argument("--environment", default="mpe2.simple_speaker_listener_v4")
    parser.add_argument("--config", type=json.loads, default={"continuous_actions": True})
    args = parser.parse_args()
    make = load_environment(args.environment, args.config)
    spaces = read_spaces(make())
    schema = RowSchema.of(spaces)
    copies = args.slots + args.evaluate
    orders = Orders(spaces, args.slots, args.members, args.evaluate, args.renew, args.sample)
    loaded = {sha256: LoadedPolicy.decode(data) for sha256, data in orders.files.items()}
    raw, direct = RawLoop(make, copies), RawLoop(Direct(make), copies)
    collector = Collector(SyncSlots(Direct(make), spaces, copies), spaces, schema, args.slots, compression_level=1)
    learner = OrderingLearner(
        EnvironmentSpec(
            entry_point=args.environment,
            config_json=json.dumps(args.config),
            train_slots=args.slots,
            eval_slots=args.evaluate,
        ),
        schema,
        orders.files,
    )
    actor = ActorProcess(learner.address)
    raw.run(STEPS)
    direct.run(STEPS)
    collector.run(next(orders(1)), loaded)
    learner.run(orders(4))
    us: dict[str, list[float]] = {"raw": [], "direct": [], "collector": [], "process": []}
    end = time.monotonic() + args.seconds
    while time.monotonic() < end:
        for name, loop in (("raw", raw), ("direct", direct)):
            began = time.thread_time()
            loop.run(STEPS * ORDERS_A_BLOCK)
            us[name].append((time.thread_time() - began) / (STEPS * ORDERS_A_BLOCK * copies) * 1e6)

        block = list(orders(ORDERS_A_BLOCK))
        began = time.thread_time()
        fragments = [collector.run(order, loaded) for order in block]
        us["collector"].append((time.thread_time() - began) / env_steps(fragments) * 1e6)

        block = list(orders(ORDERS_A_BLOCK))
        began = actor.cpu_s()
        fragments = learner.run(block)
        us["process"].append((actor.cpu_s() - began) / env_steps(fragments) * 1e6)
    actor.end()
    learner.stop()
    cost = {name: quantiles(values) for name, values in us.items()}
    print(
        json.dumps(
            {
                "environment": args.environment,
                "config": args.config,
                "slots": args.slots,
                "members": args.members,
                "evaluation_slots": args.evaluate,
                "sampled": args.sample,
                "orders_until_new_weights": args.renew,
                "us_per_env_step": {name: {k: round(v, 1) for k, v in q.items()} for name, q in cost.items()},
                "env_steps_per_cpu_s": round(1e6 / cost["process"]["median"]),
                **{
                    f"{prefix}ratio{suffix}": round(cost[whole][quantile] / cost[part][quantile], 4)
                    for prefix, whole, part in (
                        ("", "raw", "process"),
                        ("collector_", "raw", "collector"),
                        ("direct_", "direct", "process"),
                    )
                    for suffix, quantile in (("", "median"), ("_lowest_tenth", "lowest_tenth"))
                },
                "blocks": len(us["raw"]),
            }
        )
    )


def env_steps(fragments: Sequence[Fragment]) -> int:
    """Of training and evaluation."""
    return sum(sum(s.steps for s in f.streams) + f.eval_steps for f in fragments)


if __name__ == "__main__":
    main()
