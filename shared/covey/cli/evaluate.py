"""`covey evaluate`: play a trained member's policies, without a learner and without torch.

Numpy and the environment's packages are imported where they are needed: every `covey` command loads this module.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from covey.errors import SpaceError

if TYPE_CHECKING:
    from covey.run_directory import RunDirectory

SLOTS = 32
"""Environments stepped together: beyond this a forward pass is no longer what takes the time."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(evaluate)


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    member: Annotated[int | None, typer.Option("--member", metavar="ID", help="The best one if unset.")] = None,
    episodes: Annotated[int, typer.Option("--episodes", min=1, max=1_000_000, help="How many to play.")] = 100,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the episodes; never those of a training.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Mean return of a member (summed over agents) on fresh episodes, played without exploration."""
    from covey.run_directory import RunDirectory

    result = play(RunDirectory.open(run), member, episodes, seed)
    if as_json:
        typer.echo(json.dumps(result))
        return
    stderr = "" if result["stderr"] is None else f" ± {result['stderr']:.2f}"
    typer.echo(f"member {result['member_id']}: {result['mean_return']:.2f}{stderr} over {result['episodes']} episodes")
    for agent, mean in result["per_agent"].items():
        typer.echo(f"  {agent}: {mean:.2f}")


def play(run: RunDirectory, member: int | None, episodes: int, seed: int) -> dict[str, Any]:
    """Evaluate a member of a run's newest checkpoint.

    Args:
        run: The run.
        member: Of its living population; None for the best.
        episodes: How many, at least 1.
        seed: Of their seeds.

    Returns:
        `mean_return` (over episodes, of the sum over agents), its `stderr` (None for a single episode), `per_agent`
        means, `episodes`, `member_id`.

    Raises:
        StorageError: the run cannot be read.
        ConfigError: no such member.
        EnvironmentLoadError: the environment cannot be built, or raised.
        SpaceError: the environment is another than the run's.
    """
    import numpy as np

    from covey.acting import LoadedPolicy
    from covey.collect import evaluate as play_episodes
    from covey.envs import load_environment, read_spaces
    from covey.networks.resolve import network_ids
    from covey.policy_file import PolicySpec, encode_policy
    from covey.run_directory import read_policies

    member_id, networks, spaces, config = read_policies(run, member)
    make_env = load_environment(config.environment.name, config.environment.config)
    found = read_spaces(make_env(), config.environment.groups)
    if found != spaces:
        raise SpaceError(
            f"environment {config.environment.name}: has {found.agents} here, expected {spaces.agents} as in "
            f"{run.path}; install the version that the run was trained with"
        )
    policies: list[LoadedPolicy | None] = [None] * len(spaces.agents)
    for network_id, agents in network_ids(spaces, config.algorithm.share_parameters).items():
        network, params = networks[network_id]
        first = spaces.agents[agents[0]]
        file = encode_policy(PolicySpec(network, first.observation, first.action), params)
        policy = LoadedPolicy.decode(file)
        for agent in agents:
            policies[agent] = policy
    seeds = [episode_seed(seed, k) for k in range(episodes)]
    played = play_episodes(make_env, spaces, policies, seeds, config.eval_episode_steps, SLOTS)
    returns = np.array([list(e.returns) for e in played])  # (episodes, agents)
    totals = returns.sum(axis=1)
    stderr = float(totals.std(ddof=1)) / math.sqrt(episodes) if episodes > 1 else None
    return {
        "mean_return": float(totals.mean()),
        "stderr": stderr,
        "per_agent": dict(zip(spaces.agent_ids, returns.mean(axis=0).tolist(), strict=True)),
        "episodes": episodes,
        "member_id": member_id,
    }


def episode_seed(seed: int, episode: int) -> int:
    """31 bits of the SHA-256 of ("evaluate", seed, episode), plus 2^31: training and selection use seeds below that."""
    digest = hashlib.sha256(f"evaluate/{seed}/{episode}".encode()).digest()
    return (1 << 31) + (int.from_bytes(digest[:4], "little") >> 1)
