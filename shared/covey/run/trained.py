"""A member of a run, ready to play: its policies as files, and the environment that they were trained in."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from covey.acting import LoadedPolicy
from covey.config import Config, load_config
from covey.config.architecture import modules_of
from covey.envs import load_environment, read_spaces
from covey.envs.loading import SHOWN_BY, EnvironmentFactory
from covey.errors import ConfigError, CoveyError, EnvironmentLoadError, SpaceError, StorageError
from covey.networks.normalisation import MEAN
from covey.networks.resolve import network_ids
from covey.networks.trusted_modules import trust
from covey.run.directory import SCORE, RunDirectory, Sides, read_policies, read_sides
from covey.run.files import cannot_read, read_json
from covey.run.own_environment import recall_environment
from covey.spaces import EnvironmentSpaces
from covey.wire.policy_file import decode_policy, encode_policy, spec_of
from covey.wire.spaces_json import spaces_from_json

if TYPE_CHECKING:
    from covey.envs.loading import MakeEnv


@dataclass(frozen=True, slots=True)
class TrainedMember:
    """A member's policies, as a checkpoint has them or as they were kept beside it.

    Attributes:
        run: The run that trained it.
        folder: Where its policies lie in that run.
        member_id: Who it is.
        generation: Number of the generation that these policies are of.
        config: Of the run.
        spaces: Of the environment it was trained in.
        files: A policy file for each network id.
        sides: Of a zero-sum game whose members the run evaluated against opponents, the agents of each side; else
            empty.
    """

    run: RunDirectory
    folder: Path
    member_id: int
    generation: int
    config: Config
    spaces: EnvironmentSpaces
    files: dict[str, bytes]
    sides: Sides = ()

    @staticmethod
    def read(run: RunDirectory, member_id: int | None = None) -> TrainedMember:
        """A member of the run's newest checkpoint; without an id the best policy that the run has had.

        That is the one in `RUN/best`; a run that keeps none has a best member in its checkpoint.

        Raises:
            StorageError: the run cannot be read, or knows no best member yet.
            ConfigError: no such member lives.
        """
        if member_id is None and (run.best / SCORE).exists():
            return _kept(run, run.best)
        found = read_policies(run, member_id)
        spaces, config = found.spaces, found.config
        files = {}
        for network_id, agents in network_ids(spaces, config.algorithm.share_parameters).items():
            network, params = found.policies[network_id]
            agent, head = spaces.agents[agents[0]], config.algorithm.policy_head
            spec = spec_of(network, agent, head, normalized=MEAN in params)
            files[network_id] = encode_policy(spec, params)
        return TrainedMember(
            run, found.checkpoint, found.member_id, found.generation, config, spaces, files, found.sides
        )

    @staticmethod
    def elite(run: RunDirectory, generation: int) -> TrainedMember:
        """The fittest member of a generation as it was at that generation's end.

        Raises:
            StorageError: it cannot be read.
            ConfigError: the run keeps no elite of this generation.
        """
        generations = run.elite_generations()
        if not generations:
            raise ConfigError(
                f"generation {generation}: {run.path} keeps no elites of generations; leave --generation out to take "
                "the best policy so far"
            )
        if generation not in generations:
            known = ", ".join(map(str, generations))
            raise ConfigError(
                f"generation {generation}: its elite is not kept in {run.elites}, expected one of {known}"
            )
        return _kept(run, run.elite(generation))

    @property
    def owners(self) -> list[str]:
        """The network id that each agent plays by, in environment order."""
        shared = network_ids(self.spaces, self.config.algorithm.share_parameters)
        by_agent = {agent: network_id for network_id, agents in shared.items() for agent in agents}
        return [by_agent[i] for i in range(len(self.spaces.agents))]

    def policies(self) -> Sequence[LoadedPolicy]:
        """The policy of each agent, in the environment's order.

        Raises:
            ConfigError: a network is a module of one's own that does not load here, or needs torch that is missing.
        """
        if modules := modules_of(self.config.network):
            recall_environment(self.run, self.config)  # where the module is searched
            trust(*modules)
        loaded = {network_id: LoadedPolicy.decode(file) for network_id, file in self.files.items()}
        for policy in loaded.values():
            policy.load_modules()
        return [loaded[network_id] for network_id in self.owners]

    def environment(self) -> MakeEnv:
        """Builds the environment that it was evaluated in by its run: that of training, unless the run says otherwise.

        Raises:
            EnvironmentLoadError: it cannot be built here.
            SpaceError: it is another environment than the run's.
        """
        recall_environment(self.run, self.config)
        environment = self.config.environment
        return self._checked(load_environment(environment.name, environment.evaluation_config))

    def drawn_environment(self) -> MakeEnv:
        """Builds the environment that it was evaluated in by its run so that it draws pictures.

        A batched environment, which does not, is drawn by the one that its module names (`SHOWN_BY`).

        Raises:
            EnvironmentLoadError: it cannot be built here, or draws nothing.
            SpaceError: it is another environment than the run's.
        """
        recall_environment(self.run, self.config)
        environment = self.config.environment
        config = {**environment.evaluation_config, "render_mode": "rgb_array"}
        make_env = load_environment(environment.name, config)
        if load_environment(environment.name, environment.config).batched:
            shown_by = make_env.shown_by
            if shown_by is None:
                raise EnvironmentLoadError(
                    f"environment {environment.name}: batched environments draw nothing, expected its module to name "
                    f"one that draws a copy of it; add {SHOWN_BY} = 'MODULE:FUNCTION' there"
                )
            package = shown_by.partition(".")[0]
            if importlib.util.find_spec(package) is None:
                raise EnvironmentLoadError(
                    f"environment {environment.name}: {shown_by} draws its pictures, expected the package {package} "
                    f"here; pip install {package}"
                )
            make_env = load_environment(shown_by, config)
        if not make_env.takes("render_mode"):
            raise EnvironmentLoadError(
                f"environment {make_env.entry_point}: its function takes no render_mode, expected one; give it that "
                "parameter, and hand it on to the environment"
            )
        return self._checked(make_env)

    def _checked(self, make_env: EnvironmentFactory) -> MakeEnv:
        """Return what builds an environment, after comparing its agents and spaces with the run's.

        Raises:
            EnvironmentLoadError: it cannot be built here.
            SpaceError: it is another environment than the run's.
        """
        environment = self.config.environment
        env = make_env()
        try:
            found = read_spaces(
                env, environment.groups, environment.ignore_observations, environment.frame_stack, environment.state
            )
        finally:
            env.close()
        if found != self.spaces:
            raise SpaceError(
                f"environment {environment.name} has {found.agents} here, expected {self.spaces.agents} as in "
                f"{self.run.path}; install the version that the run was trained with"
            )
        return make_env


def _kept(run: RunDirectory, folder: Path) -> TrainedMember:
    """Read policies that a run has kept beside its checkpoints.

    Raises:
        StorageError: they cannot be read.
    """
    index = folder / "policy.json"
    data, score = read_json(index), read_json(folder / SCORE)
    config = load_config(run.config, stored=True)
    try:
        spaces = spaces_from_json(data["spaces"])
        shared = network_ids(spaces, config.algorithm.share_parameters)
        names = {i: str(data["agents"][spaces.agent_ids[agents[0]]]) for i, agents in shared.items()}
        files = {i: (folder / Path(name).name).read_bytes() for i, name in names.items()}
        for i, agents in shared.items():
            decode_policy(files[i])[0].check_agent(names[i], spaces.agents[agents[0]])
        generation, sides = int(score["generation"]), read_sides(score.get("sides"))
        return TrainedMember(run, folder, int(data["member_id"]), generation, config, spaces, files, sides)
    except OSError as exc:
        raise cannot_read(index, exc) from exc
    except (CoveyError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as exc:
        raise StorageError(
            f"{folder} holds no policies of covey ({type(exc).__name__}: {exc}); name a living member with --member"
        ) from exc
