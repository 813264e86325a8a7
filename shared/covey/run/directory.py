"""A run's directory: the paths in it, and reading trained policies from it without the learner.

config.yaml      the configuration, overrides applied      journal/      what the learner must not forget
status.json      the newest status                         checkpoints/  see `covey.run.checkpoint_format`
members.json     the living population                     metrics.csv   one line an interval
lineage.jsonl    every member that died, a line each       result.json   written when the run has ended
living.json      of living members the same                address.json  where its learner listens, while it runs
actors.json      all actors                                environment.json  where a file of one's own was
best/            the best policy so far, and its score     diverged/     last finite policies of members that diverged
elites/          of generations, the fittest member's policies, a folder each
evaluations.json what these scored in `covey evaluate --keep`
opponents/       policies from elsewhere that play in evaluations, a folder each
"""

from __future__ import annotations

import json
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from covey.config import Config, parse_config
from covey.config.stored import without_gone_keys
from covey.errors import ConfigError, SpaceError, StorageError
from covey.networks import NetworkSpec, Params
from covey.networks.normalisation import Moments
from covey.run.checkpoint_format import STATE, network_tensors, read_newest
from covey.run.files import cannot_read, cannot_write
from covey.spaces import EnvironmentSpaces
from covey.wire.spaces_json import spaces_from_json

Policies = dict[str, tuple[NetworkSpec, Params]]
"""A member's actor networks by network id."""

Sides = tuple[tuple[str, ...], ...]
"""The sides of a zero-sum game, each with the ids of its agents."""

SCORE = "score.json"
"""In `best` and in folders of `elites`: whose policies they are, of which generation, and their fitness."""

_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """The paths of one run."""

    path: Path

    @staticmethod
    def create(parent: Path, name: str) -> RunDirectory:
        """Make a new directory `NAME-TIMESTAMP` for a run.

        Raises:
            StorageError: it cannot be made.
        """
        if parent.exists() and not parent.is_dir():
            raise StorageError(f"--runs {parent} is a file, expected a directory for new runs; name another one")
        stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
        try:
            parent.mkdir(parents=True, exist_ok=True)
            for attempt in range(1, 1000):
                path = parent / (stem if attempt == 1 else f"{stem}-{attempt}")
                try:
                    path.mkdir()
                except FileExistsError:
                    continue
                return RunDirectory(path)
        except OSError as exc:
            raise cannot_write(parent, exc) from exc
        raise StorageError(f"{parent / stem} exists a thousand times; give the run another name")

    @staticmethod
    def open(path: Path) -> RunDirectory:
        """The directory of an existing run.

        Raises:
            StorageError: no such directory, or it is no run.
        """
        run = RunDirectory(path)
        if not run.config.is_file():
            what = "holds no config.yaml" if path.is_dir() else "does not exist"
            raise StorageError(f"{path} {what}; give the directory of a covey run, such as runs/NAME-TIMESTAMP")
        return run

    def discard(self) -> None:
        """Delete the directory of a run that was refused before it began."""
        shutil.rmtree(self.path, ignore_errors=True)

    @property
    def name(self) -> str:
        """The directory's own name, `NAME-TIMESTAMP` unless somebody renamed it."""
        return self.path.resolve().name

    @property
    def config(self) -> Path:
        """File of the configuration, overrides applied."""
        return self.path / "config.yaml"

    @property
    def environment(self) -> Path:
        """File that says which file of one's own the environment is in; missing if it is in an installed package."""
        return self.path / "environment.json"

    @property
    def journal(self) -> Path:
        """Directory of journal segments."""
        return self.path / "journal"

    @property
    def checkpoints(self) -> Path:
        """Directory of checkpoints."""
        return self.path / "checkpoints"

    @property
    def status(self) -> Path:
        """File of the newest status, as `covey status --json` prints it."""
        return self.path / "status.json"

    @property
    def members(self) -> Path:
        """File of the living population, as `covey members --json` prints it."""
        return self.path / "members.json"

    @property
    def lineage(self) -> Path:
        """File of the members that died, a JSON object a line, in the order of their deaths."""
        return self.path / "lineage.jsonl"

    @property
    def living(self) -> Path:
        """File of the living members with how each was born, as `covey lineage --json` prints them."""
        return self.path / "living.json"

    @property
    def actors(self) -> Path:
        """File of all actors, as `covey actors --json` prints them."""
        return self.path / "actors.json"

    @property
    def metrics(self) -> Path:
        """CSV file of metrics over time."""
        return self.path / "metrics.csv"

    @property
    def best(self) -> Path:
        """Directory of the best policy that was confirmed, as `covey export` writes one, and its score."""
        return self.path / "best"

    @property
    def elites(self) -> Path:
        """Directory of generations' fittest policies: a folder like `best` for each generation that is kept."""
        return self.path / "elites"

    def elite(self, generation: int) -> Path:
        """Directory of the policies of a generation's fittest member, which may not exist."""
        return self.elites / str(generation)

    def elite_generations(self) -> list[int]:
        """The generations whose elites are kept, in their order.

        Raises:
            StorageError: their directory cannot be listed.
        """
        try:
            return sorted(int(p.name) for p in self.elites.iterdir() if _NUMBER.fullmatch(p.name))
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise cannot_read(self.elites, exc) from exc

    @property
    def opponents(self) -> Path:
        """Directory of the policies from elsewhere that `fitness.opponents` names by path, if it names any."""
        return self.path / "opponents"

    @property
    def diverged(self) -> Path:
        """Directory of the last finite policies of members that have diverged, if any have."""
        return self.path / "diverged"

    @property
    def result(self) -> Path:
        """File of the result, written when the run has ended, complete or not."""
        return self.path / "result.json"

    @property
    def evaluations(self) -> Path:
        """File of what the best policy and the elites scored in `covey evaluate --keep`, if that was asked for."""
        return self.path / "evaluations.json"

    @property
    def address(self) -> Path:
        """File of the address at which the run's learner listens, while it runs."""
        return self.path / "address.json"


@dataclass(frozen=True, slots=True)
class StoredMember:
    """A member of a checkpoint, with what its policies need to be played.

    Attributes:
        checkpoint: Path of the checkpoint.
        member_id: Id of the member.
        generation: The generation that it is in.
        policies: Its actor networks by network id.
        spaces: Spaces of the environment.
        config: Configuration of the run.
        sides: Of a zero-sum game whose members are evaluated against opponents, the agents of each side; else empty.
    """

    checkpoint: Path
    member_id: int
    generation: int
    policies: Policies
    spaces: EnvironmentSpaces
    config: Config
    sides: Sides


def read_sides(value: Any) -> Sides:
    """The sides of a zero-sum game, as a checkpoint or a score holds them; runs of before have none.

    Raises:
        TypeError: the value is no list of lists.
    """
    return tuple(tuple(map(str, side)) for side in value or ())


def read_policies(run: RunDirectory, member_id: int | None = None) -> StoredMember:
    """Read the policies of a member from the run's newest checkpoint.

    Args:
        run: A run, finished or not.
        member_id: A member of the living population; None for the best.

    Raises:
        StorageError: no checkpoint can be read, or none knows a best member yet.
        ConfigError: no such member lives.
    """
    path, state, tensors = read_newest(run.checkpoints)
    try:
        members: dict[int, Any] = {int(m["member_id"]): m for m in state["members"]}
        kept = state["run"]
        best = kept["best_member"]
        config = parse_config(without_gone_keys(kept["config"]))
        spaces = spaces_from_json(kept["spaces"])
        wanted = best if member_id is None else member_id
        if wanted is None:
            raise StorageError(f"{path}: no member has been evaluated yet; name one of {_ids(members)} with --member")
        if wanted not in members:
            raise ConfigError(f"member {wanted} {_fate(run, wanted)}; alive: {_ids(members)}")
        sides = read_sides(kept.get("sides"))
        generation = int(state["scheduler"]["ledgers"][str(wanted)]["generation"])
        policies: Policies = {}
        for key, network in members[wanted]["networks"].items():
            role, _, network_id = key.partition("/")
            if role == "actor":
                spec = NetworkSpec.from_json(network["spec"])
                observed = network.get("observed")
                statistics = {} if observed is None else Moments.from_json(observed).tensors()
                policies[network_id] = spec, network_tensors(path, tensors, wanted, key, spec) | statistics
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, SpaceError) as exc:
        raise StorageError(
            f"{path / STATE} cannot be read ({type(exc).__name__}: {exc}); was it written by another version of covey?"
        ) from exc
    return StoredMember(path, int(wanted), generation, policies, spaces, config, sides)


def _fate(run: RunDirectory, member_id: int) -> str:
    """What became of a member that is not alive, for errors: when it died, by the file of those that did."""
    try:
        dead = {m["member_id"]: m["died_generation"] for m in map(json.loads, run.lineage.read_bytes().splitlines())}
        return f"died in generation {dead[member_id]}"
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return "is not alive"


def _ids(members: dict[int, Any]) -> str:
    """The members' ids as a list for errors."""
    return ", ".join(map(str, sorted(members)))
