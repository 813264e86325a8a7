"""Carries out the training functions: runs the learner's trainer with an actor thread in the same process."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from covey.collect.collector import most_train_slots
from covey.config import Config, parse_config
from covey.config.accelerators import device_of
from covey.config.sections import FRAGMENT_STEPS
from covey.envs import Slots, SyncSlots
from covey.envs.vector import PettingZooVecEnv
from covey.errors import ConfigError
from covey.progress import default_progress_bar
from covey.rows import RowSchema
from covey.run.new_run import new_run
from covey.v1.population_service_pb2 import Status
from covey_server.api.agents import Agent, FitnessValue
from covey_server.api.evolution import Mutations, TournamentSelection
from covey_server.api.generations import Generations
from covey_server.api.in_process import InProcessActor
from covey_server.api.made_of import check_init_hp, check_mut_p, check_net_config
from covey_server.api.memory import MultiAgentReplayBuffer
from covey_server.app import LearnerProcess

logger = logging.getLogger("covey")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A call of a training function; fields are its arguments, as `train_multi_agent_off_policy` documents them."""

    env: PettingZooVecEnv[Any]
    env_name: str
    algo: str
    pop: Sequence[Agent]
    memory: MultiAgentReplayBuffer | None = None
    sum_scores: bool
    max_steps: int
    evo_steps: int
    eval_steps: int | None
    eval_loop: int
    learning_delay: int = 0
    target: float | None
    tournament: TournamentSelection | None
    mutation: Mutations | None
    checkpoint: int | None
    checkpoint_path: str | Path | None
    overwrite_checkpoints: bool
    save_elite: bool
    elite_path: str | Path | None
    wb: bool
    tensorboard: bool
    tensorboard_log_dir: str | Path | None
    verbose: bool
    accelerator: Any
    init_hp: Mapping[str, Any] | None = None
    mut_p: Mapping[str, Any] | None = None
    net_config: Mapping[str, Any] | None = None

    def train(self) -> tuple[list[Agent], list[list[FitnessValue]]]:
        """Train the population, and close the environments.

        Returns:
            The last population, and the fitnesses of the members of each generation.

        Raises:
            ConfigError: an argument is not allowed.
            CoveyError: the fault that ended the run.
        """
        self._check()
        # `max_steps` includes env steps of earlier calls. A population that has made them all is returned as it is, for
        # which the configuration still needs a positive number.
        steps_made = max(agent.steps[-1] for agent in self.pop)
        config = self._config(max(1, self.max_steps - steps_made))
        generations = self._generations(config)
        try:
            if steps_made < self.max_steps:
                with self._directory() as parent:
                    self._run(config, parent, generations)
        finally:
            self.env.close()
        return generations.agents, generations.fitnesses

    def _run(self, config: Config, parent: Path, generations: Generations) -> None:
        """Run a learner that listens on no port, and an actor thread in this process, until training is complete.

        Args:
            config: The run's configuration.
            parent: Folder in which the run's directory is created.
            generations: Creates the run's populations, and keeps their records.
        """
        process = LearnerProcess(config, new_run(config, parent), factory=generations)
        slots = self._slots()  # the caller's environments, or copies of them
        actor = InProcessActor(
            process.learner,
            process.attendance,
            process.intake,
            slots,
            self.env.spaces,
            config.train_slots,
            generations.record_episodes,
        )
        bar = default_progress_bar(config.training.max_steps) if self.verbose else None
        steps_shown = 0
        sampled_at_s = time.monotonic()

        def watch(status: Status) -> None:
            """Update the progress bar from the run's status, and print summaries of generations."""
            nonlocal steps_shown, sampled_at_s
            # Once a second, as the gRPC thread of a learner does, which is not running here.
            if time.monotonic() - sampled_at_s >= 1.0:
                sampled_at_s = time.monotonic()
                process.report.sample()
            lines, generations.lines = generations.lines, []
            if bar is not None:
                steps = status.env_steps // len(self.pop)
                bar.update(steps - steps_shown)
                steps_shown = steps
                for line in lines:
                    bar.write(line)

        try:
            actor.start()
            process.trainer.start()
            process.wait(watch)
            # All earlier generations were recorded when the next one was selected.
            generations.record_generation()
            watch(process.report.status())
        finally:
            # The actor ends before the learner's parts, to which it hands fragments.
            process.trainer.request_stop()
            actor.leave()
            process.stop()
            if slots is not self.env.slots:
                slots.close()
            if bar is not None:
                bar.close()

    def _check(self) -> None:
        """Raise a `ConfigError` for arguments that do not fit each other."""
        if not isinstance(self.env, PettingZooVecEnv):
            raise ConfigError(
                f"env: {type(self.env).__name__}, expected covey's vectorised environments; build them by "
                "make_multi_agent_vect_envs(make_env, num_envs)"
            )
        if not self.pop or self.pop[0].algo != self.algo:
            names = sorted({agent.algo for agent in self.pop})
            raise ConfigError(f"pop: {len(self.pop)} agents of {names}, expected at least one of {self.algo}")
        device = torch.device(self.pop[0].context.config.learner.device)
        asked = torch.device(device_of(self.accelerator, device))
        if (asked.type, asked.index or 0) != (device.type, device.index or 0):
            raise ConfigError(
                f"accelerator: device {asked}, expected {device}, on which the population learns; pass the accelerator "
                "to create_population too"
            )
        called = f"train_multi_agent_{'on' if self.memory is None else 'off'}_policy"
        expected = self.pop[0].context.config.algorithm.training_function
        if called != expected:
            raise ConfigError(f"algo: {self.algo} cannot be trained by {called}, expected {expected}; call that")
        config = self.pop[0].context.config
        if self.init_hp:
            check_init_hp(
                self.init_hp,
                config,
                len(self.pop),
                self.pop[0].spaces,
                self.env.num_envs,
                self.memory,
                self.tournament,
                self._arguments(),
            )
        if self.mut_p:
            check_mut_p(self.mut_p, self.mutation, config)
        if self.net_config:
            check_net_config(self.net_config, config, self.env.spaces)
        if self.tournament is not None and self.tournament.population_size != len(self.pop):
            raise ConfigError(
                f"tournament: population_size {self.tournament.population_size}, expected the {len(self.pop)} of pop"
            )

    def _arguments(self) -> dict[str, Any]:
        """This call's arguments that `INIT_HP` may hold too, by their names there."""
        delay = {} if self.memory is None else {"LEARNING_DELAY": self.learning_delay}
        return {
            "MAX_STEPS": self.max_steps,
            "EVO_STEPS": self.evo_steps,
            "EVAL_STEPS": self.eval_steps,
            "EVAL_LOOP": self.eval_loop,
            "TARGET_SCORE": self.target,
            "SUM_SCORES": self.sum_scores,
            "WANDB": self.wb,
            **delay,
        }

    def _generations(self, config: Config) -> Generations:
        """Make what creates the run's populations from the caller's agents, memory, selection and mutation."""
        elite = Path(self.elite_path or f"{self.env_name}-elite_{self.algo}") if self.save_elite else None
        return Generations(config, self.pop, self.memory, self.tournament, self.mutation, self.sum_scores, elite)

    def _config(self, max_steps: int) -> Config:
        """Make the run's configuration from the population's and this call.

        `max_steps` are the env steps that remain.
        """
        base = self.pop[0].context.config
        data = base.model_dump()
        data["name"] = self.env_name
        data["environment"] |= {"name": self.env_name, "num_envs": self.env.num_envs}
        data["training"] |= {
            "max_steps": max_steps,
            "evo_steps": self.evo_steps,
            "pop_size": len(self.pop),
            "eval_steps": self.eval_steps,
            "eval_loop": self.eval_loop,
            "learning_delay": self.learning_delay,
            "target_score": self.target,
        }
        data["fitness"]["reduce"] = "sum" if self.sum_scores else "mean"
        data["actors"]["max_slots"] = self._train_slots()
        if data["actors"]["fragment_steps"] is None:
            data["actors"]["fragment_steps"] = FRAGMENT_STEPS  # no network, so nothing is won by longer orders
        # The caller's own setting of torch stays.
        data["learner"]["torch_threads"] = torch.get_num_threads()
        data["checkpoint"]["keep"] = 1 if self.overwrite_checkpoints else 2
        data["logging"] |= {"wandb": self.wb, "tensorboard": self.tensorboard}
        return parse_config(data)

    def _slots(self) -> Slots:
        """Return the environments, those that train first, and then those that evaluate."""
        env = self.env
        env.interrupt()
        # A single environment cannot do both: two copies of it are built.
        return SyncSlots([*env.copies, *env.copies], env.spaces, 2) if env.num_envs == 1 else env.slots

    def _train_slots(self) -> int:
        """How many environments train: all but the last quarter (at least one), as far as their rows fit a fragment."""
        env = self.env
        wanted = max(1, env.num_envs - max(1, env.num_envs // 4))
        most = max(1, most_train_slots(env.spaces, RowSchema.of(env.spaces)))
        if most < wanted:
            logger.warning(
                "env: %d of its %d environments train, as the rows of more do not fit into a fragment; the others "
                "evaluate",
                *(most, env.num_envs),
            )
        return min(wanted, most)

    @contextlib.contextmanager
    def _directory(self) -> Iterator[Path]:
        """Provide the folder of the run's directory: a temporary one unless the caller asks to keep it."""
        parent = self.checkpoint_path or self.tensorboard_log_dir
        if parent is not None or self.checkpoint is not None or self.tensorboard or self.wb:
            yield Path(parent or "runs")
            return
        with tempfile.TemporaryDirectory(prefix="covey-") as temporary:
            yield Path(temporary)
