"""Play a run's best policy against scripted players, in either seat: `python -m benchmarks.games RUN [--games 1000]`.

Prints a JSON line for each seat and player: the shares of games that the policy won, drew and lost. It takes its best
actions; of players who have a choice each game has its own seed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.games.players import SCRIPTED, Player

import covey


def played(environment: str, policy: Any, seat: str, player: Player, games: int, seed: int = 0) -> dict[str, float]:
    """Shares of games that a policy won, drew and lost.

    Args:
        environment: An AEC environment's module.
        policy: What `covey.load_policy` returns.
        seat: The agent that it plays.
        player: Who plays the others.
        games: How many.
        seed: Of the first; the others follow it.
    """
    env = import_module(environment).env()
    results = {"win": 0, "draw": 0, "loss": 0}
    for game in range(seed, seed + games):
        env.reset(seed=game)
        policy.reset()
        rng, total = np.random.default_rng(game), 0.0
        for agent in env.agent_iter():
            seen, reward, terminated, truncated, _ = env.last()
            if agent == seat:
                total += reward
            if terminated or truncated:
                action = None
            elif agent == seat:
                action = int(policy.act({agent: seen})[agent])
            else:
                action = player(seen, rng)
            env.step(action)
        results["win" if total > 0 else "loss" if total < 0 else "draw"] += 1
    return {name: count / games for name, count in results.items()}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.games", description=__doc__)
    parser.add_argument("run", type=Path, help="a run in one of these: " + ", ".join(SCRIPTED))
    parser.add_argument("--games", type=int, default=1000, help="games of each seat and player")
    args = parser.parse_args()
    environment = json.loads((args.run / "status.json").read_text())["environment"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "covey", "export", str(args.run), "--out", f"{folder}/policy"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        policy = covey.load_policy(f"{folder}/policy")
        env = import_module(environment).env()
        env.reset()
        for seat in env.possible_agents:
            for name, player in SCRIPTED[environment].items():
                shares = played(environment, policy, seat, player, args.games)
                print(json.dumps({"seat": seat, "against": name, "games": args.games, **shares}), flush=True)


if __name__ == "__main__":
    main()
