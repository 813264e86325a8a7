"""Where processes begin to pay: the page's MADDPG job in one process, and over gRPC with 1, 2 and 4 local actors.

    .venv/bin/python benchmarks/break_even.py [--max-steps 20000] [--cost-ms 0 2] [--actors 1 2 4] [--rounds 1]

Population 4, 8 environments in the one process or in every actor, simple_speaker_listener with continuous actions, of
which every step costs `--cost-ms` of computation besides. `one process` is `train_multi_agent_off_policy` over
environments in the same process, `worker processes` the same over environments in processes of their own. One
generation, evaluated in episodes cut after one step: this is about collecting and learning. A costly environment gets
fewer steps, so that every run takes about as long. Prints one JSON object for each cost.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# Of every process that is started from here: where it finds costly.py, and how many threads it takes.
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

import torch  # noqa: E402

from covey.envs import load_environment  # noqa: E402
from covey.envs.vector import AsyncPettingZooVecEnv, SyncPettingZooVecEnv  # noqa: E402
from covey_server import MultiAgentReplayBuffer, create_population, train_multi_agent_off_policy  # noqa: E402

POPULATION, ENVIRONMENTS = 4, 8
CHEAP_STEP_S = 0.25e-3
"""What a step takes without further cost, acting and learning included, on one core; sizes the costly runs."""

PAGE = {"BATCH_SIZE": 32, "O_U_NOISE": True, "EXPL_NOISE": 0.1, "THETA": 0.15, "DT": 0.01, "LR_ACTOR": 0.001}
PAGE |= {"LR_CRITIC": 0.001, "GAMMA": 0.95, "LEARN_STEP": 100, "TAU": 0.01}
NETWORK = {"encoder_config": {"hidden_size": [32, 32], "activation": "ReLU"}, "head_config": {"hidden_size": [32]}}


def environment(cost_ms: float) -> tuple[str, dict[str, Any]]:
    """Name and arguments."""
    continuous = {"continuous_actions": True}
    if not cost_ms:
        return "mpe2.simple_speaker_listener_v4", continuous
    return "costly", {"cost_s": cost_ms / 1000, **continuous}


def in_process(cost_ms: float, max_steps: int, kind: type[Any]) -> float:
    """Env steps a second of the library's loop."""
    name, arguments = environment(cost_ms)
    env = kind([load_environment(name, arguments)] * ENVIRONMENTS)
    agents = env.agents
    population = create_population(
        "MADDPG",
        [env.single_observation_space(a) for a in agents],
        [env.single_action_space(a) for a in agents],
        dict.fromkeys(agents, NETWORK),
        PAGE | {"POP_SIZE": POPULATION, "AGENT_IDS": agents},
        population_size=POPULATION,
        num_envs=ENVIRONMENTS,
    )
    memory = MultiAgentReplayBuffer(100_000, agent_ids=agents)
    began = time.perf_counter()
    train_multi_agent_off_policy(
        env,
        name,
        "MADDPG",
        population,
        memory,
        max_steps=max_steps,
        evo_steps=max_steps,
        eval_steps=1,
        learning_delay=1000,
        verbose=False,
    )
    return POPULATION * max_steps / (time.perf_counter() - began)


def over_grpc(cost_ms: float, max_steps: int, actors: int) -> float:
    """Env steps a second of `covey train`."""
    name, arguments = environment(cost_ms)
    settings = {
        "environment.name": name,
        "environment.config": json.dumps(arguments),
        "training.max_steps": max_steps,
        "training.evo_steps": max_steps,
        "training.eval_steps": 1,
        "training.target_score": "null",
        "actors.local": actors,
    }
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "covey", "train", str(HERE.parent / "examples" / "page_maddpg.yaml")]
        command += ["--runs", folder, "--json"]
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    return float(json.loads(done.stdout.strip().splitlines()[-1])["env_steps_per_s"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-steps", type=int, default=20_000, help="env steps per member at no further cost")
    parser.add_argument("--cost-ms", type=float, nargs="+", default=[0.0, 2.0])
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for cost_ms in arguments.cost_ms:
        steps = round(arguments.max_steps / (1 + cost_ms / 1000 / CHEAP_STEP_S))
        rates: dict[str, list[float]] = {}
        for _ in range(arguments.rounds):
            rates.setdefault("one process", []).append(in_process(cost_ms, steps, SyncPettingZooVecEnv))
            rates.setdefault("worker processes", []).append(in_process(cost_ms, steps, AsyncPettingZooVecEnv))
            for actors in arguments.actors:
                name = f"gRPC, {actors} actor{'s' if actors > 1 else ''}"
                rates.setdefault(name, []).append(over_grpc(cost_ms, steps, actors))
        medians = {name: statistics.median(values) for name, values in rates.items()}
        result = {
            "benchmark": "break_even",
            "cost_ms": cost_ms,
            "env_steps": POPULATION * steps,
            "env_steps_per_s": {name: round(value, 1) for name, value in medians.items()},
            "against_one_process": {name: round(v / medians["one process"], 2) for name, v in medians.items()},
        }
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
