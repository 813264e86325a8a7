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
from covey.cli.players import PLAY, by
from covey.cli.run_names import RunName
from covey.cli.terminal import say, say_json
from covey.errors import ConfigError, StorageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from covey.run.trained import TrainedMember

MOST_OF_AN_ELITE = 100
"""Most episodes that each kept generation's fittest member plays: there may be twenty, for one curve."""

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
    keep: Annotated[
        bool,
        typer.Option(
            "--keep",
            help="Also play the fittest member of each generation that the run keeps, and keep all results in "
            "RUN/evaluations.json, which covey table reads.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Print a trained member's mean return (summed over agents) on fresh episodes, played without exploration."""
    with contextlib.redirect_stdout(sys.stderr):  # where the environment prints; the result goes to stdout
        if keep:
            for option, given in (("--member", member), ("--generation", generation), ("--play", play_)):
                if given is not None:
                    raise ConfigError(
                        f"--keep was given with {option}, expected it alone, as it plays all; leave one out"
                    )
            result = play_and_keep(read_chosen(run, None, None), episodes, seed)
        else:
            result = play(read_chosen(run, member, generation), episodes, seed, play_ or [])
    if as_json:
        say_json(result)
        return
    stderr = "" if result["stderr"] is None else f" ± {result['stderr']:.2f}"
    whose = f"member {result['member_id']} of generation {result['generation']}"
    say(f"{whose}: {result['mean_return']:.2f}{stderr} over {result['episodes']} episodes")
    if result["against"] and "play" not in result:
        for who, part in result["against"].items():
            say(f"  against {who}: {part['mean_return']:.2f} over {part['episodes']} episodes")
            _say_agents(part, "    ")
        return
    _say_agents(result, "  ")


def _say_agents(result: dict[str, Any], indent: str) -> None:
    """Print each agent's mean return, who plays it if it is not the member, and how often it won."""
    for agent, mean in result["per_agent"].items():
        who = by(result.get("play", {}).get(agent))
        shares = result.get("outcomes", {}).get(agent, {})
        say(f"{indent}{agent}{who}: {mean:.2f}" + "".join(f", {share:.1%} {word}" for word, share in shares.items()))


def play(trained: TrainedMember, episodes: int, seed: int, others: Sequence[str] = ()) -> dict[str, Any]:
    """Evaluate a member that a run has trained.

    Args:
        trained: The member.
        episodes: How many episodes to play, at least 1.
        seed: Seeds the sequence of episodes.
        others: Agents that somebody else plays, each "AGENT=random", "AGENT=elite", "AGENT=MEMBER" or "AGENT=PATH";
            without any the opponents of the run's own evaluations play.

    Returns:
        `mean_return` (over episodes, of the sum over agents; where a zero-sum game is played side by side, over the
        agents that the member plays), its `stderr` (None for a single episode), `per_agent` means (then over the
        episodes in which the member plays the agent), `episodes`, `member_id`, the `generation` that its policies are
        of, and `policy`, where in the run's directory they lie, such as best, elites/7 or checkpoints/00000012; with
        others who play the same agents in every episode also `play` (agent to "random", "elite", a member's id or a
        path).
        With others, and where the returns of every episode sum to zero, `outcomes`: for each agent its shares of
        `win`, `draw` and `loss`, by its return against the best of the other agents' returns in the episode. There are
        none if all agents got the same in every episode, as where they cooperate. `against` has these numbers for each
        opponent alone, by its name for people; empty where nobody plays against the member.

    Raises:
        StorageError: another member's policies cannot be read.
        ConfigError: no such agent, or no such other member.
        EnvironmentLoadError: the environment cannot be built, or raised.
        SpaceError: the environment is another than the run's.
    """
    import numpy as np

    from covey.cli.players import line_ups
    from covey.collect import evaluate as play_episodes

    spaces, chosen = trained.spaces, line_ups(trained, others)
    returns = np.zeros((episodes, len(spaces.agents)))
    own = np.ones((episodes, len(spaces.agents)), bool)  # whether the member plays the agent
    make_env, limit = trained.environment(), trained.config.eval_episode_steps
    for i, line_up in enumerate(chosen):
        numbers = range(i, episodes, len(chosen))
        if not numbers:
            continue
        seeds = [unseen_episode_seed(seed, k) for k in numbers]
        played = play_episodes(make_env, spaces, line_up.seats, seeds, limit, SLOTS)
        returns[numbers] = [list(e.returns) for e in played]
        if len(chosen) > 1:  # else everybody's returns are shown, whoever plays
            own[numbers] = [agent not in line_up.others for agent in spaces.agent_ids]
    result = {
        **_summary(returns, own, spaces.agent_ids, opposed=bool(chosen[0].others)),
        "member_id": trained.member_id,
        "generation": trained.generation,
        "policy": trained.folder.relative_to(trained.run.path).as_posix(),
        "against": {},
    }
    if len(chosen) == 1 and chosen[0].others:
        result["play"] = chosen[0].others
    for name in dict.fromkeys(line_up.against for line_up in chosen if line_up.against):
        rows = [k for k in range(episodes) if chosen[k % len(chosen)].against == name]
        if rows:
            result["against"][name] = _summary(returns[rows], own[rows], spaces.agent_ids, opposed=True)
    return result


def play_and_keep(best: TrainedMember, episodes: int, seed: int) -> dict[str, Any]:
    """Evaluate a run's best policy and its elites on the same episodes, and write the results into its directory.

    Args:
        best: The run's best policy.
        episodes: How many episodes it plays; each elite plays the first of them, `MOST_OF_AN_ELITE` at most.
        seed: Seeds the sequence of episodes.

    Returns:
        The result of the best policy, as `play` returns it.

    Raises:
        StorageError: the elites cannot be read, or the results not be written.
        CoveyError: as `play`.
    """
    from covey.run.directory import SCORE
    from covey.run.files import read_json, write_json
    from covey.run.trained import TrainedMember

    result, generations = play(best, episodes, seed), []
    for generation in best.run.elite_generations():
        elite = TrainedMember.elite(best.run, generation)
        played = play(elite, min(episodes, MOST_OF_AN_ELITE), seed)
        generations.append(
            {
                "generation": generation,
                "env_steps": read_json(elite.folder / SCORE).get("env_steps"),  # runs of before do not say
                "episodes": played["episodes"],
                "mean_return": played["mean_return"],
                "stderr": played["stderr"],
            }
        )
    env_steps = None  # of the whole population, by which it shows if the run was trained on since
    with contextlib.suppress(StorageError, KeyError, TypeError):
        env_steps = read_json(best.run.result)["env_steps"]
    kept = {"episodes": episodes, "seed": seed, "env_steps": env_steps, "best": result, "generations": generations}
    write_json(best.run.evaluations, kept)
    return result


def _summary(
    returns: NDArray[np.float64], own: NDArray[np.bool_], agent_ids: Sequence[str], *, opposed: bool
) -> dict[str, Any]:
    """Mean returns, and each agent's shares of wins, of episodes.

    Args:
        returns: (episodes, agents).
        own: (episodes, agents), whether an agent's return counts in an episode.
        agent_ids: The agents of the columns.
        opposed: Whether somebody else plays some of the agents.
    """
    import numpy as np

    from covey.envs.zero_sum import is_zero_sum

    totals = np.where(own, returns, 0.0).sum(axis=1)
    shown = [(i, agent, own[:, i]) for i, agent in enumerate(agent_ids) if own[:, i].any()]
    result: dict[str, Any] = {
        "mean_return": float(totals.mean()),
        "stderr": float(totals.std(ddof=1)) / math.sqrt(len(totals)) if len(totals) > 1 else None,
        "per_agent": {agent: float(returns[rows, i].mean()) for i, agent, rows in shown},
        "episodes": len(totals),
    }
    alike = bool((returns == returns[:, :1]).all())
    if not alike and (opposed or is_zero_sum(returns)):
        result["outcomes"] = {agent: outcomes(returns[rows], agent_ids)[agent] for _, agent, rows in shown}
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
