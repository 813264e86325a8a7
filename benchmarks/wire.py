"""Bytes of a transition on the wire, against pickled dictionaries of the same steps.

    python benchmarks/wire.py [--orders 20] [--slots 8]

A real collector plays; its fragments (envelope and blob, as they go over the wire) are weighed, and the same steps,
read back from them, are pickled one by one as a Python actor would send them: for each agent {obs, action, reward,
terminated, truncated, next_obs}. A transition is one step of one environment, of all its agents; in games in turns, of
those that act. Who plays decides how well rows compress: the networks of the page with noise, and random play. Prints
one JSON object a line; ratio is pickled / wire.
"""

from __future__ import annotations

import argparse
import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.actor_loop import Orders

from covey.acting import LoadedPolicy
from covey.collect import Collector
from covey.envs import build_slots, load_environment, read_spaces
from covey.rows import Active, RowKind, RowSchema
from covey.spaces import EnvironmentSpaces
from covey.v1.fragment_pb2 import Fragment
from covey.v1.order_pb2 import Order

ENVIRONMENTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("mpe2.simple_speaker_listener_v4", {"continuous_actions": True}),
    ("mpe2.simple_spread_v3", {"continuous_actions": True}),
    ("mpe2.simple_spread_v3", {"continuous_actions": False}),
    ("pettingzoo.classic.connect_four_v3", {}),
)
STEPS = 32
MEMBERS = 4


def transitions(fragment: Fragment, schema: RowSchema, spaces: EnvironmentSpaces) -> Iterator[dict[str, Any]]:
    """The fragment's steps, each as dictionaries by agent."""
    rows = schema.decode(fragment.blob, sum(s.lead_in_rows + s.rows for s in fragment.streams), fragment.raw_bytes)
    kind = rows["kind"]
    for r in range(len(kind) - 1):
        if kind[r] != RowKind.STEP:
            continue
        step = {}
        for group in spaces.groups:
            for n, agent in enumerate(group.agents):
                its = {name: rows[f"{group.group_id}/{name}"] for name in ("active", "observation", "action")}
                if its["active"][r, n] == Active.ABSENT:
                    continue
                step[spaces.agents[agent].agent_id] = {
                    # Copies: what a view belongs to would be pickled with it, and an actor has no such array.
                    "obs": its["observation"][r, n].copy(),
                    "action": its["action"][r, n].copy(),
                    "reward": float(rows[f"{group.group_id}/reward"][r, n]),
                    "terminated": bool(rows[f"{group.group_id}/terminated"][r, n]),
                    "truncated": bool(rows[f"{group.group_id}/truncated"][r, n]),
                    "next_obs": its["observation"][r + 1, n].copy(),
                }
        yield step


def random_order(spaces: EnvironmentSpaces, slots: int, i: int) -> Order:
    """Everybody at random."""
    order = Order(order_id=i + 1, noise_seed=i)
    order.policies.add(builtin="random")
    for slot in range(slots):
        order.slots.add(slot=slot, seed=slot, steps=STEPS, agent_policies=[0] * len(spaces.agents))
    return order


def measure(name: str, config: dict[str, Any], slots: int, orders: int, *, policies: bool) -> dict[str, Any]:
    """So many orders of one environment."""
    make = load_environment(name, config)
    spaces = read_spaces(make())
    schema = RowSchema.of(spaces)
    collector = Collector(build_slots(make, spaces, slots), spaces, schema, slots, compression_level=1)
    ordered = Orders(spaces, slots, MEMBERS, 0, 1, sample=False)
    loaded = {sha256: LoadedPolicy.decode(data) for sha256, data in ordered.files.items()} if policies else {}
    its = ordered(orders, STEPS) if policies else (random_order(spaces, slots, i) for i in range(orders))
    wire = raw = steps = pickled = 0
    for order in its:
        fragment = collector.run(order, loaded)
        wire += len(fragment.SerializeToString())
        raw += fragment.raw_bytes
        for step in transitions(fragment, schema, spaces):
            pickled += len(pickle.dumps(step, protocol=pickle.HIGHEST_PROTOCOL))
            steps += 1
    collector.close()
    return {
        "environment": name,
        "config": config,
        "plays": "policies" if policies else "random",
        "transitions": steps,
        "wire_bytes_per_transition": round(wire / steps, 1),
        "raw_bytes_per_transition": round(raw / steps, 1),
        "pickled_bytes_per_transition": round(pickled / steps, 1),
        "ratio": round(pickled / wire, 2),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=20)
    parser.add_argument("--slots", type=int, default=8)
    args = parser.parse_args()
    for name, config in ENVIRONMENTS:
        for policies in (True, False):
            print(json.dumps(measure(name, config, args.slots, args.orders, policies=policies)), flush=True)


if __name__ == "__main__":
    main()
