"""`covey train` and `covey learner` at work: a learner process, its local actors, and what a person sees of them."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from covey.config import Config
from covey.errors import ConfigError, EnvironmentLoadError, RefusedError
from covey.run.directory import RunDirectory
from covey.v1.population_service_pb2 import MemberInfo, Status
from covey.wire.credentials import CA_VARIABLE, TOKEN_VARIABLE
from covey_server.app import LearnerProcess, stop_on_signals

logger = logging.getLogger("covey.learner")


class LocalActors:
    """Actor processes of this machine, as children.

    A child that dies is replaced: a run outlives its actors. Where they die as fast as they are started, the run ends.
    """

    MAX_QUICK_DEATHS = 3

    def __init__(self, config: Config, address: str, token: str | None) -> None:
        self._command = [
            *(sys.executable, "-m", "covey", "actor", "--learner", address),
            *("--allow-env", config.environment.name.partition(":")[0]),
            # A learner that is gone does not come back to this port: nobody is left behind.
            *("--max-reconnect-s", "20"),
        ]
        # An actor's matrices are tiny: more threads only wait for each other.
        self._environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        # What the surroundings have is for other learners.
        self._environment |= {CA_VARIABLE: "", TOKEN_VARIABLE: token or ""}
        self._children = [self._start(f"local-{i}") for i in range(config.actors.local)]
        self._deaths = 0  # since the run came on last
        self._env_steps = 0  # at the last death

    def _start(self, name: str) -> tuple[str, subprocess.Popen[bytes]]:
        # A group of its own: Ctrl-C is the learner's to handle, which then tells its actors.
        child = subprocess.Popen([*self._command, "--name", name], env=self._environment, start_new_session=True)
        return name, child

    def check(self, env_steps: int) -> None:
        """Replace children that died.

        Raises:
            CoveyError: they die again and again while the run does not come on.
        """
        for i, (name, child) in enumerate(self._children):
            code = child.poll()
            if code is None or code == 0:
                continue
            self._deaths = 1 if env_steps > self._env_steps else self._deaths + 1
            self._env_steps = env_steps
            if code == EnvironmentLoadError.exit_code:
                raise EnvironmentLoadError(f"actor {name} cannot use the environment; it says why above")
            if self._deaths >= self.MAX_QUICK_DEATHS:
                raise RefusedError(
                    f"actor {name} ended with code {code}, as local actors did {self._deaths} times without an env "
                    "step in between; it says why above"
                )
            logger.warning("local actor %s ended with code %d; starting another", name, code)
            self._children[i] = self._start(name)

    def stop(self, timeout_s: float) -> None:
        """Wait for children to leave by themselves, then end them."""
        for _, child in self._children:
            try:
                child.wait(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                child.terminate()
        for _, child in self._children:
            try:
                child.wait(timeout=2.0)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def run_training(config: Config, run: RunDirectory, *, resume: bool, quiet: bool) -> dict[str, Any]:
    """Learner and local actors until the run is complete or stopped; returns the result.

    Raises:
        CoveyError: whatever ended the run.
    """
    if config.learner.tls is not None:
        raise ConfigError(
            "learner.tls: is set, expected none for covey train, whose own actors reach it over loopback; to serve "
            "other machines run covey learner and covey actor"
        )
    console = Console(stderr=True, quiet=quiet)
    _log_to(console)
    process = LearnerProcess(config, run, resume=resume, local_actors=config.actors.local)
    actors: LocalActors | None = None
    with stop_on_signals(process.trainer.request_stop):
        try:
            token = process.tokens.grant("actor") if process.tokens else None
            actors = LocalActors(config, process.start(), token)
            with _progress(console) as progress:
                show = _watcher(config, progress)

                def watch(status: Status) -> None:
                    show(status)
                    if status.state == "training" and actors is not None:
                        actors.check(status.env_steps)

                process.wait(watch)
        finally:
            process.stop()
            if actors is not None:
                actors.stop(timeout_s=5.0)
    result = process.result()
    console.print(_members_table(process.report.members(), result))
    return result


def run_learner(config: Config, run: RunDirectory, *, resume: bool, insecure: bool) -> dict[str, Any]:
    """A learner alone until the run is complete or stopped; returns the result.

    Args:
        config: Of the run.
        run: Its directory.
        resume: Whether to go on from what the directory holds.
        insecure: Whether other machines may reach it without TLS or tokens.

    Raises:
        CoveyError: whatever ended the run.
    """
    console = Console(stderr=True)
    _log_to(console)
    process = LearnerProcess(config, run, resume=resume, insecure=insecure)
    with stop_on_signals(process.trainer.request_stop):
        try:
            address = process.start()
            attach = f"covey actor --learner {address}"
            attach += " --ca FILE" * (config.learner.tls is not None) + " --token-file FILE" * bool(process.tokens)
            console.print(f"learner of {run.path} listens on {address}; attach: {attach}")
            process.wait()
        finally:
            process.stop()
    return process.result()


def _log_to(console: Console) -> None:
    handler = RichHandler(console=console, show_path=False, markup=False)
    logging.basicConfig(level=logging.INFO, handlers=[handler], format="%(message)s", datefmt="[%X]", force=True)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("generation {task.fields[generation]}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]:,.0f} env steps/s"),
        TextColumn("best {task.fields[best]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def _watcher(config: Config, progress: Progress) -> Callable[[Status], None]:
    total = config.training.max_steps * config.training.pop_size
    task = progress.add_task("training", total=total, generation=0, rate=0.0, best="-")

    def show(status: Status) -> None:
        best = f"{status.best_fitness:.2f}" if status.HasField("best_fitness") else "-"
        progress.update(
            task,
            completed=status.env_steps,
            generation=status.generation,
            rate=status.env_steps_per_s,
            best=best,
        )

    return show


def _members_table(members: list[MemberInfo], result: dict[str, Any]) -> Table:
    table = Table(title=f"{result['env_steps']:,} env steps in {result['wall_s']:.1f} s: {result['run_dir']}")
    for column in ("member", "parent", "fitness", "env steps", "updates", "mutation", "change"):
        table.add_column(column)
    for m in members:
        fitness = f"{m.fitness:.2f} +- {m.fitness_stderr:.2f}" if m.HasField("fitness") else "-"
        star = " *" if m.member_id == result["best_member"] else ""
        parent = str(m.parent_id) if m.HasField("parent_id") else "-"
        table.add_row(
            f"{m.member_id}{star}", parent, fitness, f"{m.env_steps:,}", f"{m.updates:,}", m.mutation, m.change
        )
    return table
