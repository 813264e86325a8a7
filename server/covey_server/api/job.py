"""What a training function was asked for, and doing it: the learner's own trainer, with an actor in its process."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from covey.config import Config, parse_config
from covey.envs import Slots, SyncSlots
from covey.envs.vector import PettingZooVecEnv
from covey.errors import ConfigError
from covey.progress import default_progress_bar
from covey.v1.population_service_pb2 import Status
from covey_server.api.agents import Agent, Fit
from covey_server.api.evolution import Mutations, TournamentSelection
from covey_server.api.generations import Generations
from covey_server.api.in_process import InProcessActor
from covey_server.api.memory import MultiAgentReplayBuffer
from covey_server.app import LearnerProcess, new_run

logger = logging.getLogger("covey")


@dataclass(frozen=True, kw_only=True)
class Job:
    """The arguments of a training function, which documents them."""

    env: PettingZooVecEnv[Any]
    env_name: str
    algo: str
    pop: Sequence[Agent]
    memory: MultiAgentReplayBuffer | None
    sum_scores: bool
    max_steps: int
    evo_steps: int
    eval_steps: int | None
    eval_loop: int
    learning_delay: int
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

    def train(self) -> tuple[list[Agent], list[list[Fit]]]:
        """The population as it was trained, and its fitnesses by generation; `env` is closed.

        Raises:
            CoveyError: whatever ended the run.
        """
        self._check()
        if self.accelerator is not None:
            logger.warning("accelerator: not needed, all members are updated in one pass; it is left unused")
        done = max(agent.steps[-1] for agent in self.pop)
        config = self._config(max(1, self.max_steps - done))
        generations = self._generations(config)
        try:
            if done < self.max_steps:
                with self._directory() as parent:
                    self._run(config, parent, generations)
        finally:
            self.env.close()
        return generations.agents, generations.fitnesses

    def _run(self, config: Config, parent: Path, generations: Generations) -> None:
        process = LearnerProcess(config, new_run(config, parent), factory=generations)
        slots, train_slots = self._slots()
        actor = InProcessActor(
            process.learner,
            process.attendance,
            process.intake,
            slots,
            self.env.spaces,
            train_slots,
            generations.collected,
        )
        bar = default_progress_bar(config.training.max_steps) if self.verbose else None
        shown = 0
        sampled = time.monotonic()

        def watch(status: Status) -> None:
            nonlocal shown, sampled
            if time.monotonic() - sampled >= 1.0:
                sampled = time.monotonic()
                process.report.sample()
            lines, generations.lines = generations.lines, []
            if bar is not None:
                steps = status.env_steps // len(self.pop)
                bar.update(steps - shown)
                shown = steps
                for line in lines:
                    bar.write(line)

        try:
            actor.start()
            process.trainer.start()
            process.wait(watch)
            generations.close()
            watch(process.report.status())
        finally:
            process.trainer.request_stop()
            actor.leave()
            process.stop()
            if slots is not self.env.slots:
                slots.close()
            if bar is not None:
                bar.close()

    def _check(self) -> None:
        if not isinstance(self.env, PettingZooVecEnv):
            raise ConfigError(
                f"env: {type(self.env).__name__}, expected covey's vectorised environments; build them by "
                "make_multi_agent_vect_envs(make_env, num_envs)"
            )
        if not self.pop or self.pop[0].algo != self.algo:
            names = sorted({agent.algo for agent in self.pop})
            raise ConfigError(f"pop: {len(self.pop)} agents of {names}, expected at least one of {self.algo}")
        called = f"train_multi_agent_{'on' if self.memory is None else 'off'}_policy"
        expected = self.pop[0].kin.config.algorithm.training_function
        if called != expected:
            raise ConfigError(f"algo: {self.algo}, expected {expected} for it")
        if self.tournament is not None and self.tournament.population_size != len(self.pop):
            raise ConfigError(
                f"tournament: population_size {self.tournament.population_size}, expected the {len(self.pop)} of pop"
            )

    def _generations(self, config: Config) -> Generations:
        elite = Path(self.elite_path or f"{self.env_name}-elite_{self.algo}") if self.save_elite else None
        return Generations(config, self.pop, self.memory, self.tournament, self.mutation, self.sum_scores, elite)

    def _config(self, max_steps: int) -> Config:
        """That of the population, with what was asked for here and the env steps that are left."""
        base = self.pop[0].kin.config
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
        data["learner"]["torch_threads"] = torch.get_num_threads()
        data["checkpoint"]["keep"] = 1 if self.overwrite_checkpoints else 2
        data["logging"] |= {"wandb": self.wb, "tensorboard": self.tensorboard}
        return parse_config(data)

    def _slots(self) -> tuple[Slots, int]:
        """The environments, and how many of them train: the last quarter evaluates."""
        env = self.env
        env.interrupt()
        if env.num_envs == 1:
            return SyncSlots([*env.copies, *env.copies], env.spaces, 2), 1
        return env.slots, env.num_envs - max(1, env.num_envs // 4)

    @contextlib.contextmanager
    def _directory(self) -> Iterator[Path]:
        """Where the run directory is made: somewhere to stay, or for as long as the run lasts."""
        parent = self.checkpoint_path or self.tensorboard_log_dir
        if parent is not None or self.checkpoint is not None or self.tensorboard or self.wb:
            yield Path(parent or "runs")
            return
        with tempfile.TemporaryDirectory(prefix="covey-") as temporary:
            yield Path(temporary)
