"""Train in every environment that covey is tested with, by IPPO and MADDPG; prints a JSON object for each run.

    .venv/bin/python benchmarks/environments.py [NAME ...] [--algo IPPO MADDPG] [--steps 20000]

NAME picks environments by a part of their name. `ok` says that the run was complete and no environment raised.
`best_fitness` is the best member's return, summed over agents (in games, where that is 0, of the one that is judged);
MPE's actions are Discrete for IPPO and Box for MADDPG.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

MEMBERS = 2
ALGORITHMS = ("IPPO", "MADDPG")


@dataclass(frozen=True)
class Task:
    """An environment.

    Attributes:
        name: Entry point.
        kind: What `covey check-env` is to call it.
        rivals: Who is judged, and who plays at random meanwhile, where all returns sum to 0.
        dies: Whether agents end before their episode.
        continuous: Arguments with which actions are Box.
    """

    name: str
    kind: str = "simultaneous"
    rivals: tuple[str, str] | None = None
    dies: bool = False
    continuous: dict[str, Any] = field(default_factory=dict)

    def config(self, algorithm: str, steps: int) -> dict[str, Any]:
        """A run of two members that evolve once."""
        off_policy = {"learn_step": 50, "batch_size": 128, "lr_actor": 0.001, "lr_critic": 0.001, "expl_noise": 0.2}
        on_policy = {"learn_step": 512, "batch_size": 256, "lr": 0.001}
        config: dict[str, Any] = {
            "algorithm": {"name": algorithm, **(on_policy if algorithm == "IPPO" else off_policy)},
            "environment": {"name": self.name, "num_envs": 4},
            "network": {"encoder_config": {"hidden_size": [64]}, "head_config": {"hidden_size": [64]}},
            "training": {
                "max_steps": steps // MEMBERS,
                "evo_steps": -(-steps // MEMBERS // 2),
                "pop_size": MEMBERS,
                "confirm_episodes": 8,
            },
            "actors": {"local": 1},
            "logging": {"tensorboard": False},
        }
        if algorithm != "IPPO":
            config["environment"]["config"] = self.continuous
        if self.rivals:
            judged, opponent = self.rivals
            config["fitness"] = {"agents": [judged], "opponents": {opponent: "random"}}
        return config


CONTINUOUS = {"continuous_actions": True}
MPE = ("adversary_v3", "crypto_v3", "push_v3", "reference_v3", "speaker_listener_v4", "spread_v3", "tag_v3")
TASKS = (
    *(Task(f"mpe2.simple_{task}", continuous=CONTINUOUS) for task in ("world_comm_v3", *MPE)),
    Task("mpe2.simple_v3", continuous=CONTINUOUS),
    Task("pettingzoo.butterfly.knights_archers_zombies_v11", dies=True),
    Task("pettingzoo.sisl.multiwalker_v9"),
    Task("pettingzoo.classic.connect_four_v3", "turn-based", rivals=("player_0", "player_1")),
    Task("pettingzoo.classic.tictactoe_v3", "turn-based", rivals=("player_1", "player_2")),
    Task("pettingzoo.classic.rps_v2", rivals=("player_0", "player_1")),
)


def train(task: Task, algorithm: str, steps: int, folder: Path) -> dict[str, Any]:
    """One run, and what came of it."""
    config = folder / "environment.yaml"
    config.write_text(yaml.safe_dump(task.config(algorithm, steps)))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "covey", "train", str(config), "--runs", str(folder), "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    told: dict[str, Any] = {"benchmark": "environments", "environment": task.name, "algorithm": algorithm}
    if done.returncode:
        return told | {"ok": False, "error": done.stderr.strip().splitlines()[-1:]}
    result = json.loads(done.stdout.strip().splitlines()[-1])
    status = json.loads((Path(result["run_dir"]) / "status.json").read_text())
    faults = status["counters"].get("environment_fault", 0)
    complete = result["state"] == "complete" and result["env_steps"] == steps // MEMBERS * MEMBERS
    told |= {"ok": complete and not faults, "environment_faults": faults}
    keys = ("env_steps", "env_steps_per_s", "wall_s", "updates", "generations", "best_fitness", "best_fitness_stderr")
    return told | {k: result[k] for k in keys} | {"best_per_agent": result["best_per_agent"]}


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", default=[""])
    parser.add_argument("--algo", nargs="+", choices=ALGORITHMS, default=ALGORITHMS)
    parser.add_argument("--steps", type=int, default=20_000, help="env steps of each run")
    arguments = parser.parse_args()
    for task in TASKS:
        if any(name in task.name for name in arguments.names):
            for algorithm in arguments.algo:
                with tempfile.TemporaryDirectory() as folder:
                    print(json.dumps(train(task, algorithm, arguments.steps, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
