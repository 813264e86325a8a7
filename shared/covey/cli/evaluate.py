"""`covey evaluate` plays a trained member's policies and prints their returns, without a learner and without torch.

Numpy and the environment's packages are imported where they are needed: every `covey` command loads this module.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from covey.cli.chosen import GENERATION, MEMBER, read_chosen
from covey.cli.players import PLAY
from covey.cli.run_names import RunName
from covey.cli.terminal import say, say_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from covey.run.trained import TrainedMember

SLOTS = 32
"""Most environments stepped together: with more, a forward pass is no longer what takes the time."""


def register(app: typer.Typer) -> None:
    """Add `covey evaluate` to the command line."""
    app.command()(evaluate)


def evaluate(
    run: RunName = None,
    member: Annotated[str | None, MEMBER] = None,
    generation: Annotated[int | None, GENERATION] = None,
    episodes: Annotated[
        int, typer.Option("--episodes", min=1, max=1_000_000, help="Number of episodes to play.")
    ] = 100,
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            min=0,
            help="Number from which the seeds of all episodes follow. No run was ever trained on those seeds.",
        ),
    ] = 0,
    play_: Annotated[list[str] | None, PLAY] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Print a trained member's mean return (summed over agents) on fresh episodes, played without exploration."""
    with contextlib.redirect_stdout(sys.stderr):  # where the environment prints; the result goes to stdout
        result = play(read_chosen(run, member, generation), episodes, seed, play_ or [])
    if as_json:
        say_json(result)
        return
    stderr = "" if result["stderr"] is None else f" ± {result['stderr']:.2f}"
    whose = f"member {result['member_id']} of generation {result['generation']}"
    say(f"{whose}: {result['mean_return']:.2f}{stderr} over {result['episodes']} episodes")
    for agent, mean in result["per_agent"].items():
        who = result.get("play", {}).get(agent)
        by = "" if who is None else " (played at random)" if who == "random" else f" (played by member {who})"
        shares = result.get("outcomes", {}).get(agent, {})
        say(f"  {agent}{by}: {mean:.2f}" + "".join(f", {share:.1%} {word}" for word, share in shares.items()))


def play(trained: TrainedMember, episodes: int, seed: int, others: Sequence[str] = ()) -> dict[str, Any]:
    """Evaluate a member that a run has trained.

    Args:
        trained: The member.
        episodes: How many episodes to play, at least 1.
        seed: Seeds the sequence of episodes.
        others: Agents that somebody else plays, each "AGENT=random" or "AGENT=MEMBER"; for agents that are not named
            the run's `fitness.opponents` hold.

    Returns:
        `mean_return` (over episodes, of the sum over agents), its `stderr` (None for a single episode), `per_agent`
        means, `episodes`, `member_id`, the `generation` that its policies are of, and `policy`, where in the run's
        directory they lie, such as best, elites/7 or checkpoints/00000012; with others who play also `play` (agent to
        "random" or a member's id). With others, and where the returns of every episode sum to zero, `outcomes`: for
        each agent its shares of `win`, `draw` and `loss`, by its return against the best of the other agents' returns
        in the episode. There are none if all agents got the same in every episode, as where they cooperate.

    Raises:
        StorageError: another member's policies cannot be read.
        ConfigError: no such agent, or no such other member.
        EnvironmentLoadError: the environment cannot be built, or raised.
        SpaceError: the environment is another than the run's.
    """
    import numpy as np

    from covey.cli.players import parse_play, players, run_opponents
    from covey.collect import evaluate as play_episodes
    from covey.envs.zero_sum import is_zero_sum

    spaces = trained.spaces
    chosen = run_opponents(trained) | parse_play(others, spaces.agent_ids)
    seats = players(trained, chosen)
    seeds = [unseen_episode_seed(seed, k) for k in range(episodes)]
    played = play_episodes(trained.environment(), spaces, seats, seeds, trained.config.eval_episode_steps, SLOTS)
    returns = np.array([list(e.returns) for e in played])  # (episodes, agents)
    totals = returns.sum(axis=1)
    result: dict[str, Any] = {
        "mean_return": float(totals.mean()),
        "stderr": float(totals.std(ddof=1)) / math.sqrt(episodes) if episodes > 1 else None,
        "per_agent": dict(zip(spaces.agent_ids, returns.mean(axis=0).tolist(), strict=True)),
        "episodes": episodes,
        "member_id": trained.member_id,
        "generation": trained.generation,
        "policy": trained.folder.relative_to(trained.run.path).as_posix(),
    }
    if chosen:
        result["play"] = chosen
    alike = bool((returns == returns[:, :1]).all())
    if not alike and (chosen or is_zero_sum(returns)):
        result["outcomes"] = outcomes(returns, spaces.agent_ids)
    return result


def outcomes(returns: NDArray[np.float64], agent_ids: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return each agent's shares of `win`, `draw` and `loss`: its return against the best of the other agents'.

    Args:
        returns: (episodes, agents), two agents or more.
        agent_ids: The agents of the columns.
    """
    import numpy as np

    shares = {}
    for i, agent in enumerate(agent_ids):
        lead = returns[:, i] - np.delete(returns, i, axis=1).max(axis=1)
        shares[agent] = {
            "win": float((lead > 0).mean()),
            "draw": float((lead == 0).mean()),
            "loss": float((lead < 0).mean()),
        }
    return shares


def unseen_episode_seed(seed: int, episode: int) -> int:
    """The seed of an episode that no run has seen: at least 2^30, where training and selection use seeds below.

    It is 2^30 plus 30 bits of the SHA-256 of ("evaluate", seed, episode), so below 2^31: some environments pass their
    seed to libraries that take no more.
    """
    digest = hashlib.sha256(f"evaluate/{seed}/{episode}".encode()).digest()
    return (1 << 30) + (int.from_bytes(digest[:4], "little") >> 2)
