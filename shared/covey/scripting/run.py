"""A run, from Python: how far it is, who lives in it, its curves, its best policy."""

from __future__ import annotations

import html
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covey.cli.run_names import newest_run
from covey.cli.sources import RunFiles, live_learner
from covey.config import Config, load_config
from covey.errors import ConfigError
from covey.run.curves import Curves, read_curves
from covey.run.directory import SCORE, RunDirectory
from covey.run.exported import Policy, export, load_policy
from covey.run.files import read_json
from covey.run.summary import RunSummary, runs_in, summarise
from covey.run.trained import TrainedMember

if TYPE_CHECKING:
    from covey.cli.sources import Question

EPISODES = 100
"""Episodes that an evaluation plays unless it is told otherwise."""


@dataclass(frozen=True, slots=True, eq=False)
class Best:
    """The best policy that a run has had, as `covey evaluate RUN` plays it.

    Attributes:
        member_id: Whose policy it is.
        generation: Generation of that member at the time.
        score: Its fitness in fresh episodes; None where nobody confirmed it.
        stderr: The standard error of `score`.
    """

    member_id: int
    generation: int
    score: float | None
    stderr: float | None
    _trained: TrainedMember

    def policy(self) -> Policy:
        """Load the policy, ready to act: `policy.act(observations)`."""
        return _loaded(self._trained)

    def __repr__(self) -> str:
        score = "" if self.score is None else f", {_scored(self.score, self.stderr)}"
        return f"Best(member {self.member_id} of generation {self.generation}{score})"


class Run:
    """A run of covey, by its directory. Everything is read when it is asked for.

    Args:
        path: The run's directory; None for the newest under ./runs.

    Raises:
        StorageError: there is no such run.
    """

    def __init__(self, path: Path | str | None = None) -> None:
        self._directory = RunDirectory.open(newest_run() if path is None else Path(path))

    @property
    def path(self) -> Path:
        """The run's directory."""
        return self._directory.path

    @property
    def name(self) -> str:
        """Its name."""
        return self._directory.name

    @property
    def config(self) -> Config:
        """Its configuration."""
        return load_config(self._directory.config, stored=True)

    @property
    def summary(self) -> RunSummary:
        """What `covey runs` says of it: state, env steps, best score."""
        return summarise(self.path)

    @property
    def status(self) -> dict[str, Any]:
        """How far along it is, as `covey status --json` prints it.

        Raises:
            StorageError: it has not begun, or its files are damaged.
        """
        return self._ask("status")

    @property
    def members(self) -> list[dict[str, Any]]:
        """The living members, as `covey members --json` prints them."""
        found: list[dict[str, Any]] = self._ask("members")["members"]
        return found

    @property
    def lineage(self) -> list[dict[str, Any]]:
        """Every member that ever lived, as `covey lineage --json` prints them."""
        found: list[dict[str, Any]] = self._ask("lineage")["members"]
        return found

    @property
    def result(self) -> dict[str, Any] | None:
        """What came of it, as `covey train --json` prints it; None while it has not ended."""
        path = self._directory.result
        return read_json(path) if path.exists() else None

    def metrics(self) -> Curves:
        """Read its curves by name: `run.metrics()["fitness/best"].values`.

        Raises:
            StorageError: their file is damaged.
        """
        return read_curves(self._directory)

    @property
    def best(self) -> Best:
        """The best policy that it has had.

        Raises:
            StorageError: it has no best member yet.
        """
        trained = TrainedMember.read(self._directory)
        score: Mapping[str, Any] = {}
        if trained.folder == self._directory.best:
            score = read_json(trained.folder / SCORE)
        return Best(trained.member_id, trained.generation, score.get("fitness"), score.get("fitness_stderr"), trained)

    def policy(self, member: int | None = None, *, generation: int | None = None) -> Policy:
        """Load a policy, ready to act.

        Args:
            member: Id of a living member; None for the best policy that the run has had.
            generation: In place of it: the fittest member of this generation, as it was at its end.

        Raises:
            ConfigError: both were given, or the run does not have what they name.
        """
        return _loaded(self._trained(member, generation))

    def evaluate(
        self,
        episodes: int = EPISODES,
        *,
        seed: int = 0,
        member: int | None = None,
        generation: int | None = None,
        play: Mapping[str, str | int] | None = None,
    ) -> dict[str, Any]:
        """Play a policy without exploration, on episodes that no run was trained on.

        Args:
            episodes: How many.
            seed: Number from which the seeds of all episodes follow.
            member: Whose policy, as for `policy`.
            generation: Likewise.
            play: Who plays some of the agents instead, by agent: "random", "elite", a member's id, or a path of a run
                or of an exported folder. None: the run's opponents, where it has some.

        Returns:
            What `covey evaluate --json` prints: "mean_return" (summed over agents), "stderr", "per_agent" and more.

        Raises:
            CoveyError: the run, its environment or a player cannot be used.
        """
        from covey.cli.evaluate import play as play_out

        others = [f"{agent}={who}" for agent, who in (play or {}).items()]
        return play_out(self._trained(member, generation), episodes, seed, others)

    def render(
        self,
        out: Path | str,
        episodes: int = 1,
        *,
        seed: int = 0,
        member: int | None = None,
        generation: int | None = None,
    ) -> Path:
        """Play episodes as `evaluate` does and write them to an animated GIF; returns its path.

        Raises:
            ConfigError: Pillow is not installed, or `out` does not end in .gif.
            CoveyError: the environment does not draw, or the file cannot be written.
        """
        from covey.cli.render import render

        whose = None if member is None else str(member)
        render(Path(out), run=str(self.path), member=whose, generation=generation, episodes=episodes, seed=seed)
        return Path(out)

    def export(self, out: Path | str, *, member: int | None = None, generation: int | None = None) -> Path:
        """Write a policy for `covey.load_policy`, which needs neither covey's learner nor torch; returns its folder."""
        return export(self._trained(member, generation), Path(out))

    def _trained(self, member: int | None, generation: int | None) -> TrainedMember:
        if member is not None and generation is not None:
            raise ConfigError(
                f"member {member} and generation {generation}: expected one of them, as of a generation only its "
                "fittest member is kept; leave one out"
            )
        if generation is not None:
            return TrainedMember.elite(self._directory, generation)
        return TrainedMember.read(self._directory, member)

    def _ask(self, question: Question) -> dict[str, Any]:
        return (live_learner(self.path) or RunFiles(self.path, tells=False)).ask(question)

    def _told(self) -> dict[str, str]:
        """Return the run's state, task, progress and best score as texts by name, for `repr` and notebooks."""
        about = self.summary
        told = {"state": about.state, "trains": f"{about.algorithm} in {about.environment}"}
        if about.members is not None:
            told["members"] = str(about.members)
        if about.env_steps is not None:
            told["env steps each"] = f"{about.env_steps:,.0f} of {about.max_steps:,}"
        if about.best is not None:
            told["best"] = _scored(about.best, about.best_stderr)
        return told

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}: {', '.join(f'{name} {value}' for name, value in self._told().items())})"

    def _repr_html_(self) -> str:
        rows = {"run": str(self.path), **self._told()}
        cells = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in rows.items())
        return f"<table>{cells}</table>"


def runs(folder: Path | str = "runs") -> list[Run]:
    """List the runs in a folder and in its sweeps, by name, as `covey runs` does."""
    return [Run(path) for path in runs_in(Path(folder))]


def _loaded(trained: TrainedMember) -> Policy:
    """A policy as `covey export` and `covey.load_policy` give it."""
    from covey.config.architecture import modules_of

    with tempfile.TemporaryDirectory() as folder:
        return load_policy(export(trained, Path(folder) / "policy"), modules=modules_of(trained.config.network))


def _scored(score: float, stderr: float | None) -> str:
    return f"{score:.2f}" + ("" if stderr is None else f" ± {stderr:.2f}")
