"""`covey.train`: trains as the command `covey train` does, in a process of its own, and returns the run."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from covey.cli.sources import live_learner
from covey.config import Config, load_config
from covey.config.config import config_of
from covey.errors import ConfigError, CoveyError, StorageError, UnreachableError
from covey.run.checkpoint_format import checkpoint_paths
from covey.run.files import read_json
from covey.run.frozen_opponents import with_absolute_opponents
from covey.run.init_from import with_absolute_source
from covey.run.new_run import new_run
from covey.run.own_environment import remember_environment, with_entry_point
from covey.scripting.run import Run

POLL_S = 0.25
"""Seconds between two looks at a run that is trained."""

LAST_BYTES = 4096
"""How much of what a process has said is searched for its error."""


def train(
    config: str | Path | Mapping[str, Any] | Config,
    *,
    runs: str | Path = "runs",
    progress: bool = True,
    **overrides: Any,
) -> Run:
    """Train a population on this machine until the run is complete, as `covey train` does; returns the run.

    Training happens in processes of its own, which find an environment of one's own in the current folder. Interrupting
    it (Ctrl-C, a notebook's stop button) ends the run with a checkpoint, from which `resume` goes on.

    Args:
        config: A YAML file, its contents as a nested mapping, or a `Config`.
        runs: Folder in which the run gets its directory.
        progress: Whether to show a progress bar, where tqdm is installed.
        overrides: Settings by dotted key, which replace those of `config`: `**{"training.seed": 3}`.

    Raises:
        ConfigError: a setting is not acceptable, or the learner is not installed here.
        CoveyError: the fault that ended the run.
        KeyboardInterrupt: it was interrupted; the run has a checkpoint.
    """
    if not any(entry.name == "learner" and _importable(entry) for entry in entry_points(group="covey.commands")):
        raise ConfigError("covey.train needs the learner extra: pip install 'covey-marl[learner]'")
    given = [f"{key}={json.dumps(value)}" for key, value in overrides.items()]
    if isinstance(config, str | Path):
        settings, folder = load_config(Path(config), given), Path(config).parent
    else:
        data = config.model_dump(mode="json") if isinstance(config, Config) else config
        settings, folder = config_of(data, given), Path.cwd()
    settings = with_absolute_opponents(with_absolute_source(with_entry_point(settings, folder, Path.cwd())))
    directory = new_run(settings, Path(runs))
    remember_environment(directory, settings)
    try:
        return resume(Run(directory.path), progress=progress)
    except CoveyError:
        if not checkpoint_paths(directory.checkpoints):  # refused before it began: nothing stays
            directory.discard()
        raise


def resume(run: Run | str | Path, *, progress: bool = True, **overrides: Any) -> Run:
    """Go on with a run that was stopped, or train a complete one further; returns the run.

    Args:
        run: The run, or its directory.
        progress: Whether to show a progress bar.
        overrides: Settings by dotted key that it goes on with, such as `**{"training.max_steps": 400_000}`.

    Raises:
        ConfigError: it may not go on with a setting.
        CoveyError: the fault that ended the run.
        KeyboardInterrupt: it was interrupted; the run has a checkpoint.
    """
    run = run if isinstance(run, Run) else Run(run)
    command = [sys.executable, "-m", "covey", "train", "--resume", str(run.path), "--json"]
    command += [f"--set={key}={json.dumps(value)}" for key, value in overrides.items()]
    said = run.path / "train.log"
    with said.open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    with _ended(process), _bar(run, shown=progress) as show:
        while process.poll() is None:
            show()
            time.sleep(POLL_S)
    if process.returncode == 0:
        return run
    kinds = [kind for kind in CoveyError.__subclasses__() if kind.exit_code == process.returncode]
    raise (kinds or [CoveyError])[0](_error_of(said))


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """A process that has ended behind the block: what interrupts this one interrupts it, with a checkpoint."""
    try:
        yield
    except BaseException:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait()
        raise


@contextlib.contextmanager
def _bar(run: Run, *, shown: bool) -> Iterator[Any]:
    """A progress bar of a run; yields a function that looks at the run and moves the bar."""
    tqdm = _tqdm() if shown else None
    if tqdm is None:
        yield lambda: None
        return
    training = run.config.training
    with tqdm(total=training.max_steps * training.pop_size, unit="step", unit_scale=True, desc=run.name) as bar:
        learner = None

        def show() -> None:
            nonlocal learner
            try:
                learner = learner or live_learner(run.path)
                status = learner.ask("status") if learner else read_json(run.path / "status.json")
            except (UnreachableError, StorageError):
                learner = None
                return
            bar.update(status["env_steps"] - bar.n)
            if status.get("best_fitness") is not None:
                bar.set_postfix({"generation": status["generation"], "best": f"{status['best_fitness']:.2f}"})

        yield show
        show()


def _tqdm() -> Any:
    """The progress bar of the place where this runs: a terminal or a notebook; None where tqdm is missing."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    return tqdm


def _importable(entry: Any) -> bool:
    """Whether a side of covey can be used here: the learner without its extra cannot."""
    try:
        entry.load()
    except ImportError:
        return False
    return True


def _error_of(said: Path) -> str:
    """The error that a `covey` process has ended with, by what it has said."""
    with said.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - LAST_BYTES))
        lines = file.read().decode(errors="replace").strip().splitlines()
    errors = [line for line in lines if line.startswith("covey: error: ")]
    return (errors or lines or ["it said nothing"])[-1].removeprefix("covey: error: ")
