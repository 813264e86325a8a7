"""What `covey train` and `covey learner` do: run a learner, and show progress in the terminal.

Importing this module imports torch.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from covey.cli.tables import WIDTH, plain_console
from covey.cli.terminal import PrintableFormatter, printable
from covey.config import Config
from covey.errors import CoveyError
from covey.resources import usable_cores
from covey.run.checkpoint_format import checkpoint_paths
from covey.run.directory import RunDirectory
from covey.v1.population_service_pb2 import MemberInfo, Status
from covey_server.app import LearnerProcess
from covey_server.coordination.run_state import RunState
from covey_server.coordination.signals import Interruption, stop_on_signals
from covey_server.processes.local_actors import LocalActors
from covey_server.processes.local_count import LocalCount, Measured
from covey_server.security.attach import attach_command


@dataclass(frozen=True, slots=True)
class End:
    """How a run ended.

    Attributes:
        result: The run's result as JSON, as `LearnerProcess.result` returns it.
        interruption: Whether a signal ended it.
    """

    result: dict[str, Any]
    interruption: Interruption

    @property
    def exit_code(self) -> int:
        """0 for a run that is complete or was stopped by `covey stop`, 128 plus the signal's number otherwise."""
        return 0 if self.result["state"] == RunState.COMPLETE else self.interruption.exit_code


def run_training(config: Config, run: RunDirectory, actors: LocalActors, *, resume: bool, quiet: bool) -> End:
    """Run a learner and its local actors until the run is complete or stopped (`covey train`).

    Args:
        config: The run's configuration.
        run: The run's directory.
        actors: The local actors, which were started already and wait for the learner's address.
        resume: Whether to continue from the checkpoint and the journal in the run's directory.
        quiet: Whether to show neither progress nor log messages.

    Returns:
        How the run ended.

    Raises:
        CoveyError: the fault that ended the run, or why it cannot begin.
    """
    console = plain_console(stderr=True, quiet=quiet)
    if not console.is_terminal:
        console.width = WIDTH  # in a file or a pipe nothing is cut off
    _log_to(console)
    with _kept_if_begun(console, run, "train", new=not resume):
        return _train(config, run, actors, console, resume=resume)


def _train(config: Config, run: RunDirectory, actors: LocalActors, console: Console, *, resume: bool) -> End:
    """Run a learner and its local actors to the end."""
    process = LearnerProcess(config, run, resume=resume)
    with stop_on_signals(process.trainer.request_stop) as interruption:
        try:
            token = process.tokens.grant("actor") if process.tokens else None
            actors.attach(process.start(), token, _teller(console))
            with _progress(console) as progress:
                show = _watcher(config, progress)
                count = LocalCount(usable_cores(), process.learner.event) if config.actors.local is None else None

                def watch(status: Status) -> None:
                    show(status)
                    # Actors that end when the run is complete or stopped are not to be started again.
                    if status.state == "training":
                        actors.check(status.env_steps)
                        if count is not None:
                            actors.keep(count.look(_measured(process, status, actors.running)))
                    elif count is not None:
                        count.interrupted()

                process.wait(watch)
        finally:
            process.stop()
            actors.stop(timeout_s=5.0)
    result = process.result()
    _show_members(console, process.report.members(), result)
    _say_what_next(console, result, "train")
    return End(result, interruption)


def _measured(process: LearnerProcess, status: Status, running: int) -> Measured:
    """Read how long learner and actors have waited and worked, by which the number of local actors is chosen."""
    learner = process.learner
    return Measured(
        clock_s=time.monotonic(),
        generation=status.generation,
        env_steps=status.env_steps + status.eval_env_steps,
        learner_wait_s=learner.totals.learner_wait_s,
        core_s=learner.at_work.core_s,
        actor_s=learner.at_work.actor_s,
        running=running,
        joined=status.actors,
    )


def run_learner(config: Config, run: RunDirectory, *, resume: bool, insecure: bool) -> End:
    """Run a learner without actors of its own until the run is complete or stopped (`covey learner`).

    Args:
        config: The run's configuration.
        run: The run's directory.
        resume: Whether to continue from the checkpoint and the journal in the run's directory.
        insecure: Whether other machines may connect without TLS or tokens.

    Returns:
        How the run ended.

    Raises:
        CoveyError: the fault that ended the run.
    """
    console = plain_console(stderr=True)
    _log_to(console)
    with _kept_if_begun(console, run, "learner", new=not resume):
        return _learn(config, run, console, resume=resume, insecure=insecure)


def _learn(config: Config, run: RunDirectory, console: Console, *, resume: bool, insecure: bool) -> End:
    """Run a learner alone to the end."""
    process = LearnerProcess(config, run, resume=resume, insecure=insecure)
    with stop_on_signals(process.trainer.request_stop) as interruption:
        try:
            address = process.start()
            attach = attach_command(address, config.learner, asks_token=process.tokens is not None)
            line = f"learner of {run.path} listens on {address}; attach: {attach}"
            console.print(line, soft_wrap=True, highlight=False)
            process.wait()
        finally:
            process.stop()
    result = process.result()
    _say_what_next(console, result, "learner")
    return End(result, interruption)


@contextmanager
def _kept_if_begun(console: Console, run: RunDirectory, command: str, *, new: bool) -> Iterator[None]:
    """Say how a run that failed is resumed; of one that was refused before it began nothing stays."""
    try:
        yield
    except CoveyError:
        if checkpoint_paths(run.checkpoints):
            console.print(f"failed; next:\n  covey {command} --resume {run.path}", soft_wrap=True, highlight=False)
        elif new:
            run.discard()
        raise


def _say_what_next(console: Console, result: dict[str, Any], command: str) -> None:
    """Print the commands that come next after a run has ended."""
    run = result["run_dir"]
    lines = [f"covey {command} --resume {run}"]
    if result["state"] == RunState.COMPLETE:
        lines = [f"covey evaluate {run}", f"covey render {run} --out best.gif", f"covey export {run} --out policies"]
    console.print("\n  ".join([f"{result['state']}; next:", *lines]), soft_wrap=True, highlight=False)


class _ConsoleHandler(logging.Handler):
    """Shows log messages on a console, one line each, above a progress bar that it may show."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self.setFormatter(PrintableFormatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))

    def emit(self, record: logging.LogRecord) -> None:
        """Show one message; a warning is coloured where the console is a terminal."""
        try:
            style = "yellow" if record.levelno >= logging.WARNING else None
            self._console.print(self.format(record), style=style, soft_wrap=True, highlight=False)
        except Exception:
            self.handleError(record)


def _log_to(console: Console) -> None:
    """Show log messages on the console."""
    logging.basicConfig(level=logging.INFO, handlers=[_ConsoleHandler(console)], force=True)


def _teller(console: Console) -> Callable[[str], None]:
    """A function that shows a line of another process on standard error, as what goes wrong is shown always."""
    if console.quiet:
        console = plain_console(stderr=True)
    return lambda line: console.print(printable(line), soft_wrap=True, highlight=False)


def _progress(console: Console) -> Progress:
    """An empty progress bar with columns for generation, env steps per second, best fitness and time."""
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
    """Add the run to a progress bar; returns a function that updates it from the run's status."""
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


def _show_members(console: Console, members: list[MemberInfo], result: dict[str, Any]) -> None:
    """Print what a run has reached: a line, and a table of the final population."""
    summary = f"{result['env_steps']:,} env steps in {result['wall_s']:.1f} s: {result['run_dir']}"
    console.print(summary, soft_wrap=True, highlight=False)
    console.print(_members_table(members, result))


def _members_table(members: list[MemberInfo], result: dict[str, Any]) -> Table:
    """A table of the final population, shown when a run ends; "*" marks the best member."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in ("member", "parent", "fitness", "env steps", "updates"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("how", overflow="fold")
    for m in members:
        fitness = f"{m.fitness:.2f} ±{m.fitness_stderr:.2f}" if m.HasField("fitness") else "-"
        star = "* " if m.member_id == result["best_member"] else ""
        parent = str(m.parent_id) if m.HasField("parent_id") else "-"
        how = f"{m.mutation}: {m.change}" if m.change else m.mutation
        table.add_row(f"{star}{m.member_id}", parent, fitness, f"{m.env_steps:,}", f"{m.updates:,}", how)
    return table
