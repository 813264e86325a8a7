"""One actor's collector against the raw environment loop, alternately in one sitting.

    python benchmarks/actor_loop.py [--seconds 20] [--slots 8] [--members 4]

The raw loop steps the same number of copies with actions drawn beforehand and resets them at episode ends: no policy,
no rows. The collector acts with the networks of the page (hidden 32, 32, latent 64, head 32), explores with OU noise,
builds and compresses fragments. Prints one line of JSON; ratio is collector / raw, of the medians and of the fastest
tenth (which other processes on the machine disturb least).
"""

from __future__ import annotations

import argparse
import json
import time

from covey_actor.workers import limit_threads

limit_threads()  # before numpy is imported, as in an actor process

import numpy as np  # noqa: E402

from covey.acting import LoadedPolicy  # noqa: E402
from covey.collect import Collector  # noqa: E402
from covey.envs import EnvironmentFactory, SyncSlots, load_environment, read_spaces  # noqa: E402
from covey.networks import MLP, Input, NetworkSpec  # noqa: E402
from covey.policy_file import PolicySpec, encode_policy  # noqa: E402
from covey.rows import RowSchema  # noqa: E402
from covey.spaces import AgentSpec, EnvironmentSpaces  # noqa: E402
from covey.v1 import order_pb2  # noqa: E402

STEPS = 32  # of one slot in one order: the default of actors.fragment_steps


class RawLoop:
    """The environment, and nothing else."""

    def __init__(self, make: EnvironmentFactory, slots: int) -> None:
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


class CollectorLoop:
    """The collector at the order that a learner repeats: each member's slots, then the next fragment."""

    def __init__(self, make: EnvironmentFactory, spaces: EnvironmentSpaces, slots: int, members: int) -> None:
        self._collector = Collector(
            SyncSlots(make, spaces, slots), spaces, RowSchema.of(spaces), slots, compression_level=1
        )
        self._order = order_pb2.Order()
        self._policies: dict[bytes, LoadedPolicy] = {}
        for m in range(members):
            for i, agent in enumerate(spaces.agents):
                policy = page_policy(agent, seed=100 * m + i)
                self._policies[policy.sha256] = policy
                self._order.policies.add(sha256=policy.sha256, member_id=m)
        explore = order_pb2.Exploration(
            kind=order_pb2.Exploration.KIND_ORNSTEIN_UHLENBECK, scale=0.1, theta=0.15, dt=0.01
        )
        agents = len(spaces.agents)
        for slot in range(slots):
            m = slot % members
            plays = range(m * agents, (m + 1) * agents)
            self._order.slots.add(slot=slot, agent_policies=plays, seed=slot, member_id=m, exploration=explore)
        self.wire_bytes = self.rows = 0

    def run(self, steps: int) -> None:
        """One order of so many steps of each slot."""
        self._order.order_id += 1
        self._order.noise_seed += 1
        for work in self._order.slots:
            work.steps = steps
        fragment = self._collector.run(self._order, self._policies)
        self.wire_bytes += len(fragment.SerializeToString())
        self.rows += sum(s.rows for s in fragment.streams)


def page_policy(agent: AgentSpec, seed: int) -> LoadedPolicy:
    """A fresh policy of the page's size."""
    net = NetworkSpec(
        inputs=(Input("observation", agent.observation.width, MLP(hidden_size=(32, 32))),),
        head=MLP(hidden_size=(32,)),
        outputs=agent.action.width,
        latent_dim=64,
    )
    spec = PolicySpec(net, agent.observation, agent.action)
    return LoadedPolicy.decode(encode_policy(spec, net.init(np.random.default_rng(seed))))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--environment", default="mpe2.simple_speaker_listener_v4")
    parser.add_argument("--config", type=json.loads, default={"continuous_actions": True})
    args = parser.parse_args()
    make = load_environment(args.environment, args.config)
    spaces = read_spaces(make())
    raw = RawLoop(make, args.slots)
    ours = CollectorLoop(make, spaces, args.slots, args.members)
    seconds: dict[str, list[float]] = {"raw": [], "collector": []}
    raw.run(STEPS)
    ours.run(STEPS)
    end = time.monotonic() + args.seconds
    while time.monotonic() < end:
        for name, loop in (("raw", raw), ("collector", ours)):
            began = time.perf_counter()
            loop.run(STEPS)
            seconds[name].append(time.perf_counter() - began)

    def rate(name: str, quantile: float) -> float:
        steps: int = args.slots * STEPS
        return steps / float(np.quantile(seconds[name], quantile))

    print(
        json.dumps(
            {
                "environment": args.environment,
                "slots": args.slots,
                "members": args.members,
                "raw_env_steps_per_s": round(rate("raw", 0.5)),
                "collector_env_steps_per_s": round(rate("collector", 0.5)),
                "ratio": round(rate("collector", 0.5) / rate("raw", 0.5), 4),
                "raw_fastest": round(rate("raw", 0.1)),
                "collector_fastest": round(rate("collector", 0.1)),
                "ratio_fastest": round(rate("collector", 0.1) / rate("raw", 0.1), 4),
                "wire_bytes_per_row": round(ours.wire_bytes / ours.rows, 1),
                "rounds": len(seconds["raw"]),
            }
        )
    )


if __name__ == "__main__":
    main()
