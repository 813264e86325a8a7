"""How long AgileRL's `learn` takes one member, in milliseconds, whenever it is asked: the other side of a ratio.

Run by `benchmarks/population_update.py --peer PYTHON`, in the environment of that Python: agilerl==2.58.0 and
peft==0.21.0, which it needs. For each line on its input, a number of calls, it makes that many and prints their mean,
in time of the process.
Sizes are those of simple_speaker_listener; numbers are random. Sampling from replay is not counted.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping

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
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--hidden", type=int, nargs="+", required=True)
    parser.add_argument("--head", type=int, nargs="+", required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    network = {
        "latent_dim": 64,
        "encoder_config": {"hidden_size": args.hidden, "activation": "ReLU"},
        "head_config": {"hidden_size": args.head},
    }
    algorithm = {"MADDPG": MADDPG, "MATD3": MATD3, "IPPO": IPPO}[args.algo]
    extra = {"learn_step": ROUND_STEPS, "update_epochs": 4} if args.algo == "IPPO" else {}
    agent = algorithm(
        observation_spaces=[Box(-np.inf, np.inf, (seen,), np.float32) for seen, _ in AGENTS.values()],
        action_spaces=[Box(0.0, 1.0, (done,), np.float32) for _, done in AGENTS.values()],
        agent_ids=list(AGENTS),
        net_config=network,
        batch_size=args.batch,
        device="cpu",
        **extra,
    )
    experience = rounds() if args.algo == "IPPO" else transitions(args.batch)
    agent.learn(experience)
    print("ready", flush=True)
    for line in sys.stdin:
        calls = int(line)
        start = time.process_time()
        for _ in range(calls):
            agent.learn(experience)
        print((time.process_time() - start) / calls * 1e3, flush=True)


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
