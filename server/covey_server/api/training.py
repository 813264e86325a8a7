"""Training functions with the names and arguments of AgileRL's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from covey.envs.vector import PettingZooVecEnv
from covey.errors import ConfigError
from covey_server.api.agents import Agent, FitnessValue
from covey_server.api.evolution import Mutations, TournamentSelection
from covey_server.api.job import Job
from covey_server.api.memory import MultiAgentReplayBuffer

Trained = tuple[list[Agent], list[list[FitnessValue]]]
"""A trained population, and for each generation the fitnesses of its members in the population's order."""


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
    swap_channels: bool = False,
    wandb_api_key: str | None = None,
) -> Trained:
    """Train a population of MADDPG, MATD3, MASAC, QMIX or VDN members, and close the environments.

    The last quarter of the environments, at least one, is used for evaluation, the others for training. Where
    observations are so large that fewer of them fit into a fragment, the message of experience, fewer train.

    Args:
        env: Vectorised environments of covey.
        env_name: Name of the environment, which names the run.
        algo: Name of the algorithm that the population was created for.
        pop: The population, whose members continue from their records; from `create_population` or an earlier call.
        memory: Replay memory of the population; it may hold experience already.
        sum_scores: Whether to sum the agents' returns in scores and fitnesses; otherwise they are kept by agent, and
            members are ranked by the mean over agents.
        INIT_HP: Hyperparameters and settings that the population, `memory` and `tournament` were created with and that
            the other arguments say, or None; other values are refused, and keys without a counterpart are warned of.
        MUT_P: Settings that `mutation` was created with, and ranges that the population's `hp_config` has, or None;
            other values are refused likewise.
        max_steps: Total number of env steps of each member, those of earlier calls included.
        evo_steps: Env steps of each member in a generation.
        eval_steps: Env steps after which an evaluation episode is cut off; None: 10,000.
        eval_loop: Most evaluation episodes for each environment; in the last generation 100 episodes a member, if these
            are more. Where they would cost more than a tenth of the env steps trained with, worse members play fewer.
        learning_delay: Env steps that the memory must hold before updates begin.
        target: Fitness at which training ends, once the best member reaches it in 100 additional episodes; None: never.
        tournament: Selection between generations; None: all members stay.
        mutation: Mutation after selection, and once before the first generation; None: neither mutation nor selection.
        checkpoint: Any number: keep the run's directory, with checkpoints; None: keep it only if other arguments ask.
        checkpoint_path: Folder in which the run's directory is created and kept; None: `tensorboard_log_dir`, else
            "runs" if the directory is kept.
        overwrite_checkpoints: Whether to keep only the newest checkpoint instead of the newest two.
        save_elite: Whether to save the best member of each generation, for `Agent.load`.
        elite_path: Folder for the best member; None: "ENV_NAME-elite_ALGO" in the working directory.
        wb: Whether to log metrics to Weights & Biases, if it is installed; the run's directory is kept.
        tensorboard: Whether to write TensorBoard files into the run's directory, which is kept.
        tensorboard_log_dir: Folder in which the run's directory is created and kept, unless `checkpoint_path` is given.
        verbose: Whether to show progress.
        accelerator: An `accelerate.Accelerator` of one process, on the population's device, or None.
        net_config: Architecture that the population was created with, or None; another one is refused.
        swap_channels: False. True is refused: images are read with their axes as they come.
        wandb_api_key: None. A key is refused: Weights & Biases finds it in the environment variable WANDB_API_KEY.

    Returns:
        The trained population, and for each generation the fitnesses of its members.

    Raises:
        ConfigError: an argument is not allowed.
        CoveyError: the fault that ended the run.
    """
    _check_unused(swap_channels, wandb_api_key)
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
        init_hp=INIT_HP,
        mut_p=MUT_P,
        net_config=net_config,
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
    swap_channels: bool = False,
    wandb_api_key: str | None = None,
) -> Trained:
    """Train a population of IPPO, MAPPO or PQN members, and close the environments.

    Takes the arguments of `train_multi_agent_off_policy` except `memory` and `learning_delay`, which on-policy learning
    does without; returns and raises the same.
    """
    _check_unused(swap_channels, wandb_api_key)
    return Job(
        env=env,
        env_name=env_name,
        algo=algo,
        pop=pop,
        sum_scores=sum_scores,
        max_steps=max_steps,
        evo_steps=evo_steps,
        eval_steps=eval_steps,
        eval_loop=eval_loop,
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
        init_hp=INIT_HP,
        mut_p=MUT_P,
        net_config=net_config,
    ).train()


def _check_unused(swap_channels: bool, wandb_api_key: str | None) -> None:
    """Refuse values of AgileRL's arguments that ask for what covey does not do."""
    if swap_channels:
        raise ConfigError(
            "swap_channels: True, expected False: images are flattened, in whatever order their axes come; pass False"
        )
    if wandb_api_key is not None:
        raise ConfigError("wandb_api_key: given, expected None; set the environment variable WANDB_API_KEY instead")
