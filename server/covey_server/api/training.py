"""The training functions of AgileRL, by name and arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from covey.envs.vector import PettingZooVecEnv
from covey_server.api.agents import Agent, Fit
from covey_server.api.evolution import Mutations, TournamentSelection
from covey_server.api.job import Job
from covey_server.api.memory import MultiAgentReplayBuffer

Trained = tuple[list[Agent], list[list[Fit]]]


def train_multi_agent_off_policy(
    env: PettingZooVecEnv[Any],
    env_name: str,
    algo: str,
    pop: Sequence[Agent],
    memory: MultiAgentReplayBuffer,
    sum_scores: bool = True,
    INIT_HP: Mapping[str, Any] | None = None,
    MUT_P: Mapping[str, Any] | None = None,
    max_steps: int = 50_000,
    evo_steps: int = 25,
    eval_steps: int | None = None,
    eval_loop: int = 1,
    learning_delay: int = 0,
    target: float | None = None,
    tournament: TournamentSelection | None = None,
    mutation: Mutations | None = None,
    checkpoint: int | None = None,
    checkpoint_path: str | Path | None = None,
    overwrite_checkpoints: bool = False,
    save_elite: bool = False,
    elite_path: str | Path | None = None,
    wb: bool = False,
    tensorboard: bool = False,
    tensorboard_log_dir: str | Path | None = None,
    verbose: bool = True,
    accelerator: Any = None,
    net_config: Mapping[str, Any] | None = None,
) -> Trained:
    """Train a population of MADDPG or MATD3 agents, and close the environments.

    The last quarter of the environments, at least one, evaluates; the others collect.

    Args:
        env: Vectorised environments of covey.
        env_name: For names of runs.
        algo: What the population was created for.
        pop: The population; its agents go on from where they are.
        memory: Its replay, which may hold steps already.
        sum_scores: Whether scores and fitnesses sum the agents' returns, or are kept by agent and ranked by their mean.
        INIT_HP: What the population was created from; not read again.
        MUT_P: Not read; `mutation` says all of it.
        max_steps: Env steps of each member, those in its record included.
        evo_steps: Env steps of each member in a generation.
        eval_steps: Env steps after which an evaluation episode is cut off; None: a cap of 10,000.
        eval_loop: Evaluation episodes per environment; in the last generation there are at least 100 in all.
        learning_delay: Env steps in replay before anybody learns.
        target: Training ends when the best member reaches this fitness in 100 fresh episodes.
        tournament: Selection between generations; None: everybody goes on.
        mutation: Mutation after it, and once before the first generation; None: none, and no selection.
        checkpoint: If given, the run directory is kept; it has a checkpoint of every generation.
        checkpoint_path: Where run directories are kept; None: under "runs", or nowhere.
        overwrite_checkpoints: Whether only the newest checkpoint is kept, not the newest two.
        save_elite: Whether the best agent of every generation is saved, as it was evaluated; see `Agent.load`.
        elite_path: Where; None: "ENV_NAME-elite_ALGO" in the working directory.
        wb: Whether metrics go to Weights & Biases, where it is installed; the run directory is kept then.
        tensorboard: Whether they go to TensorBoard files in the run directory, which is kept then.
        tensorboard_log_dir: Where run directories are kept, if `checkpoint_path` says nothing.
        verbose: Whether to show progress.
        accelerator: Not needed: all members are updated in one pass.
        net_config: As INIT_HP.

    Returns:
        The population, and the fitnesses of its members in every generation.

    Raises:
        ConfigError: an argument that is not acceptable.
        CoveyError: whatever ended the run.
    """
    del INIT_HP, MUT_P, net_config
    return Job(
        env=env,
        env_name=env_name,
        algo=algo,
        pop=pop,
        memory=memory,
        sum_scores=sum_scores,
        max_steps=max_steps,
        evo_steps=evo_steps,
        eval_steps=eval_steps,
        eval_loop=eval_loop,
        learning_delay=learning_delay,
        target=target,
        tournament=tournament,
        mutation=mutation,
        checkpoint=checkpoint,
        checkpoint_path=checkpoint_path,
        overwrite_checkpoints=overwrite_checkpoints,
        save_elite=save_elite,
        elite_path=elite_path,
        wb=wb,
        tensorboard=tensorboard,
        tensorboard_log_dir=tensorboard_log_dir,
        verbose=verbose,
        accelerator=accelerator,
    ).train()


def train_multi_agent_on_policy(
    env: PettingZooVecEnv[Any],
    env_name: str,
    algo: str,
    pop: Sequence[Agent],
    sum_scores: bool = True,
    INIT_HP: Mapping[str, Any] | None = None,
    MUT_P: Mapping[str, Any] | None = None,
    max_steps: int = 50_000,
    evo_steps: int = 25,
    eval_steps: int | None = None,
    eval_loop: int = 1,
    target: float | None = None,
    tournament: TournamentSelection | None = None,
    mutation: Mutations | None = None,
    checkpoint: int | None = None,
    checkpoint_path: str | Path | None = None,
    overwrite_checkpoints: bool = False,
    save_elite: bool = False,
    elite_path: str | Path | None = None,
    wb: bool = False,
    tensorboard: bool = False,
    tensorboard_log_dir: str | Path | None = None,
    verbose: bool = True,
    accelerator: Any = None,
    net_config: Mapping[str, Any] | None = None,
) -> Trained:
    """Train a population of IPPO agents, and close the environments.

    Arguments, result and errors are those of `train_multi_agent_off_policy`, without a memory and a delay.
    """
    del INIT_HP, MUT_P, net_config
    return Job(
        env=env,
        env_name=env_name,
        algo=algo,
        pop=pop,
        memory=None,
        sum_scores=sum_scores,
        max_steps=max_steps,
        evo_steps=evo_steps,
        eval_steps=eval_steps,
        eval_loop=eval_loop,
        learning_delay=0,
        target=target,
        tournament=tournament,
        mutation=mutation,
        checkpoint=checkpoint,
        checkpoint_path=checkpoint_path,
        overwrite_checkpoints=overwrite_checkpoints,
        save_elite=save_elite,
        elite_path=elite_path,
        wb=wb,
        tensorboard=tensorboard,
        tensorboard_log_dir=tensorboard_log_dir,
        verbose=verbose,
        accelerator=accelerator,
    ).train()
