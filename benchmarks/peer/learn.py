"""How long AgileRL's `learn` takes one member, in milliseconds, whenever it is asked: the other side of a ratio.

Run by `benchmarks/population_update.py --peer PYTHON`, in the environment of that Python: agilerl==2.58.0 and
peft==0.21.0, which it needs. For each line on its input, a number of calls, every member makes that many; their mean is
printed, in time of the process if that has one thread.
Sizes are those of simple_speaker_listener; numbers are random. Sampling from replay is not counted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from agilerl.algorithms import IPPO, MADDPG, MATD3
from gymnasium.spaces import Box
from tensordict import TensorDict

AGENTS = {"speaker_0": (3, 3), "listener_0": (11, 5)}
ROUND_STEPS, SLOTS = 2048, 8


def main() -> None:
    """Answer until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algo", choices=["MADDPG", "MATD3", "IPPO"], required=True)
    parser.add_argument("--members", type=json.loads, required=True, help="JSON: hidden, latent, head, batch of each")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    clock = time.process_time if args.threads == 1 else time.perf_counter
    members = [member(args.algo, **sizes) for sizes in args.members]
    for agent, experience in members:
        agent.learn(experience)
    print("ready", flush=True)
    for line in sys.stdin:
        calls = int(line)
        start = clock()
        for agent, experience in members:
            for _ in range(calls):
                agent.learn(experience)
        print((clock() - start) / (calls * len(members)) * 1e3, flush=True)


def member(algorithm: str, hidden: list[int], latent: int, head: list[int], batch: int) -> tuple[Any, Any]:
    """An agent, and what it learns from."""
    extra = {"learn_step": ROUND_STEPS, "update_epochs": 4} if algorithm == "IPPO" else {}
    agent = {"MADDPG": MADDPG, "MATD3": MATD3, "IPPO": IPPO}[algorithm](
        observation_spaces=[Box(-np.inf, np.inf, (seen,), np.float32) for seen, _ in AGENTS.values()],
        action_spaces=[Box(0.0, 1.0, (done,), np.float32) for _, done in AGENTS.values()],
        agent_ids=list(AGENTS),
        net_config={
            "latent_dim": latent,
            "encoder_config": {"hidden_size": hidden, "activation": "ReLU"},
            "head_config": {"hidden_size": head},
        },
        batch_size=batch,
        device="cpu",
        **extra,
    )
    return agent, rounds() if algorithm == "IPPO" else transitions(batch)


def transitions(batch: int) -> TensorDict:
    """What its replay memory gives."""

    def of(width: int) -> dict[str, torch.Tensor]:
        return {a: torch.rand(batch, AGENTS[a][width] if width >= 0 else 1) for a in AGENTS}

    done = {a: torch.zeros(batch, 1) for a in AGENTS}
    fields = {"obs": of(0), "action": of(1), "reward": of(-1), "next_obs": of(0), "done": done}
    return TensorDict({k: TensorDict(v, [batch]) for k, v in fields.items()}, [batch])


def rounds() -> tuple[Mapping[str, object], ...]:
    """What it collects in a round: states, actions, log-probabilities, rewards, dones, values, what follows."""
    rng, steps = np.random.default_rng(0), ROUND_STEPS // SLOTS

    def numbers(*shape: int) -> list[np.ndarray]:
        return list(rng.random((steps, SLOTS, *shape), np.float32))

    per_step: dict[str, Mapping[str, object]] = {
        "states": {a: numbers(seen) for a, (seen, _) in AGENTS.items()},
        "actions": {a: numbers(done) for a, (_, done) in AGENTS.items()},
        "log_probs": {a: [-x for x in numbers()] for a in AGENTS},
        "rewards": {a: numbers() for a in AGENTS},
        "dones": {a: [np.zeros(SLOTS, np.int8)] * steps for a in AGENTS},
        "values": {a: numbers() for a in AGENTS},
    }
    after = {a: rng.random((SLOTS, seen), np.float32) for a, (seen, _) in AGENTS.items()}
    return (*per_step.values(), after, {a: np.zeros(SLOTS, np.int8) for a in AGENTS})


if __name__ == "__main__":
    main()
