"""One member of a population for training loops, with AgileRL's methods: it acts, learns and is evaluated by itself."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from covey.acting import LoadedPolicy
from covey.collect.evaluate import play
from covey.config import EVAL_STEPS_CAP, Config, Fitness, parse_config
from covey.config.accelerators import device_of
from covey.config.stored import without_gone_keys
from covey.envs.vector import PettingZooVecEnv
from covey.errors import ConfigError, SpaceError
from covey.networks.trusted_modules import trust
from covey.run.checkpoint_format import read_newest
from covey.spaces import EnvironmentSpaces
from covey.v1.order_pb2 import Exploration
from covey.wire.spaces_json import spaces_from_json, spaces_to_json
from covey_server.algorithms import ALGORITHMS, Algorithm, build_networks
from covey_server.api.acting import Acting, is_batched, to_slot_arrays, with_batch_axis
from covey_server.api.hyperparameters import MemberHyperparameters
from covey_server.api.observing import Observing
from covey_server.evolution.fitness import fitness_of
from covey_server.evolution.generation import child_of, copied
from covey_server.member import Member
from covey_server.packing import counter_rng
from covey_server.packing.policies import PolicyStore
from covey_server.seeds import derive, generator
from covey_server.storage.checkpoint import drop_checkpoints, load_members, save_checkpoint

if TYPE_CHECKING:
    from covey_server.api.memory import Experiences

FitnessValue = float | dict[str, float]
"""Fitness of a member: one number for all agents together, or the mean return by agent."""


@dataclass(frozen=True, slots=True)
class PopulationContext:
    """What all members of a population share.

    Attributes:
        config: Configuration of the population.
        ids: Member ids that are still free.
    """

    config: Config
    ids: Iterator[int]


class Agent(MemberHyperparameters):
    """One member of a population: policies and critics for all agents of an environment, and its training record.

    Args:
        member: Its networks, unpadded, with hyperparameters and totals.
        context: What it shares with the other members of its population.
        spaces: Spaces of the environment. They are completed by the first observations: gymnasium spaces do not tell
            whether there are action masks, or agents that sometimes wait.

    Attributes:
        steps: Env steps made up to each generation; training loops add to the last number.
        scores: Scores of its training episodes, appended by training loops.
        fitness: Fitness in each of its evaluations, the newest last.
        training: Whether it explores.
    """

    def __init__(self, member: Member, context: PopulationContext, spaces: EnvironmentSpaces) -> None:
        self.member = member
        self.context = context
        self.spaces = spaces
        self.steps: list[int] = [member.env_steps]
        self.scores: list[Any] = []
        self.fitness: list[FitnessValue] = []
        self.training = True
        self._packed: tuple[Algorithm, PolicyStore] | None = None
        self._players: tuple[int, list[LoadedPolicy]] | None = None
        self._acting: Acting | None = None

    def __repr__(self) -> str:
        fitness = f", fitness {self.fitness[-1]}" if self.fitness else ""
        return f"Agent({self.algo}, member {self.index} ({self.mut}), {self.steps[-1]:,} env steps{fitness})"

    @property
    def index(self) -> int:
        """The member's id, which no other member of the population ever has."""
        return self.member.member_id

    @property
    def algo(self) -> str:
        """Name of the algorithm, such as "MADDPG", "IPPO" or "QMIX"."""
        return str(self.context.config.algorithm.name)

    @property
    def agent_ids(self) -> list[str]:
        """Ids of the environment's agents, in its order."""
        return list(self.spaces.agent_ids)

    @property
    def mut(self) -> str:
        """How the member was created: "initial", "elite", "none" or the kind of mutation."""
        return self.member.mutation

    def set_training_mode(self, training: bool) -> None:
        """Set whether actions explore (True) or are the policy's best (False)."""
        self.training = training

    def get_action(
        self, obs: Mapping[str, Any], infos: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Choose actions for all agents.

        A policy with memory remembers, for each environment, what it was shown in earlier calls; where an episode
        begins, it forgets that by itself with observations of covey's vectorised environments, else by `reset_memory`.

        Args:
            obs: Observations by agent, (E, *shape) for E environments or (*shape) for one. Those from covey's
                vectorised environments also tell masks, prescribed actions and which agents wait; from other
                dictionaries, leave out agents that wait.
            infos: By agent "action_mask" and "env_defined_actions"; not needed with covey's vectorised environments.

        Returns:
            Two dictionaries of actions by agent in units of the action space, (E, *shape) or (*shape): one for the
            environment, and one for the replay memory, in which samples of Gaussian policies are not clipped.

        Raises:
            SpaceError: the observations are those of other agents or have other shapes.
        """
        self.adopt_spaces(getattr(obs, "spaces", self.spaces))
        infos = infos or {}
        batched = is_batched(obs, self.spaces)
        seen = to_slot_arrays(obs if batched else with_batch_axis(obs), infos, self.spaces)
        environments = len(seen.present)
        if self._acting is None or self._acting.environments != environments:
            self._acting = Acting(self.spaces, environments)
            self._observing = Observing(self.context.config.algorithm, self.spaces)
            self._rng = generator(self.context.config.training.seed, "acting", self.index, self.steps[-1])
        # Exploration may depend on the env steps made, of which the training loop keeps count in `steps`.
        self.member.env_steps = self.steps[-1]
        config = self.context.config
        algorithm = ALGORITHMS[config.algorithm.name]
        exploration = algorithm.exploration(config, self.member) if self.training else Exploration()
        actions, raw = self._acting.act(seen, self.policies(), exploration, self._rng, getattr(obs, "begun", None))
        if self.training:
            self._observing.count(self.member, seen)
        if batched:
            return actions, raw
        for by_agent in (actions, raw):
            by_agent.update({agent: x[0] for agent, x in by_agent.items()})
        return actions, raw

    def reset_action_noise(self, indices: Sequence[int] | None = None) -> None:
        """Reset the exploration noise of the environments with these indices; None: of all environments."""
        if self._acting is not None:
            self._acting.begin_episodes(range(self._acting.environments) if indices is None else indices)

    def reset_memory(self, indices: Sequence[int] | None = None) -> None:
        """Forget what policies with memory were shown in the environments with these indices; None: in all.

        Call it where an episode begins, unless observations are those of covey's vectorised environments.
        """
        if self._acting is not None:
            self._acting.forget(indices)

    def learn(self, experiences: Experiences) -> dict[str, float]:
        """Make one update from a sample of the replay memory (all algorithms but IPPO, MAPPO and PQN).

        Returns:
            "critic_loss" and, if the policy was updated too, "actor_loss".

        Raises:
            ConfigError: the algorithm learns on-policy, or the sample is empty.
        """
        self.adopt_spaces(experiences.spaces)
        algorithm, _ = self._pack()
        # Random numbers of an update follow from seed, member and update alone, whatever was updated before.
        seed, count = self.context.config.training.seed, self.member.updates
        drawn = experiences.batch
        # The memory may be on another device. A copy to the CPU that does not wait would be read too early.
        beside = self._device.type != "cpu"
        batch = drawn.of([x.to(self._device, non_blocking=beside) for x in drawn.tensors()])
        algorithm.learn((0,), batch, counter_rng.keys(seed, [self.index], [count], self._device))
        return algorithm.metrics()[self.index]

    def test(
        self,
        env: PettingZooVecEnv[Any],
        max_steps: int | None = None,
        loop: int = 1,
        sum_scores: bool = True,
    ) -> FitnessValue:
        """Evaluate the member in episodes without exploration, and append the result to `fitness`.

        Episode seeds depend on how often a member was tested, so that members of a generation play the same episodes.

        Args:
            env: Vectorised environments of covey; they need a reset afterwards.
            max_steps: Env steps after which an episode is cut off; None: 10,000.
            loop: Number of episodes for each environment.
            sum_scores: Whether to sum the agents' returns.

        Returns:
            Mean return over episodes: the sum over agents or, without `sum_scores`, by agent.
        """
        self.adopt_spaces(env.spaces)
        env.interrupt()
        episodes = play(
            env.slots,
            env.spaces,
            self.policies(),
            [self._test_seed(k) for k in range(loop * env.num_envs)],
            max_steps or EVAL_STEPS_CAP,
        )
        returns = [list(e.returns) for e in episodes]
        fitness: FitnessValue
        if sum_scores:
            score = fitness_of(returns, env.spaces.agent_ids, Fitness())
            self.member.fitness, self.member.fitness_stderr = score.fitness, score.stderr
            fitness = score.fitness
        else:
            fitness = fitness_of(returns, env.spaces.agent_ids, Fitness(reduce="mean")).per_agent
        self.fitness.append(fitness)
        return fitness

    def policies(self) -> list[LoadedPolicy]:
        """Return the policy that plays each agent, in the environment's order."""
        # Loaded again only after an update. A policy that several agents share is decoded once.
        if self._players is None or self._players[0] != self.member.updates:
            algorithm, store = self._pack()
            store.offer(algorithm.snapshot())
            store.publish([self.index])
            loaded: dict[bytes, LoadedPolicy] = {}
            for ref in store.refs(self.index):
                if ref.sha256 not in loaded:
                    loaded[ref.sha256] = LoadedPolicy.decode(store.get(ref.sha256) or b"")
            self._players = self.member.updates, [loaded[ref.sha256] for ref in store.refs(self.index)]
        return self._players[1]

    def unpacked(self) -> Member:
        """Return the member with all that it has learned, in its own networks; the caller may change it."""
        if self._packed is not None:
            self._packed[0].unpack()
        # The packed copy would miss the caller's changes; the next call that needs one packs the member again.
        self._packed = self._players = None
        self.member.env_steps = self.steps[-1]
        return self.member

    def clone(self, *, same: bool = False) -> Agent:
        """Copy the member, sharing no arrays: as a child under a new id or, with `same`, under the same id."""
        member = self.unpacked()
        copy = copied(member) if same else child_of(member, next(self.context.ids), len(self.steps))
        agent = Agent(copy, self.context, self.spaces)
        agent.steps, agent.scores, agent.fitness = list(self.steps), list(self.scores), list(self.fitness)
        agent.training = self.training
        return agent

    def save_checkpoint(self, path: str | Path) -> None:
        """Write the member and its training record into a folder, as JSON and safetensors like a run's checkpoint.

        Raises:
            StorageError: the folder cannot be written.
        """
        state = {
            "config": self.context.config.model_dump(mode="json"),
            "spaces": spaces_to_json(self.spaces),
            "record": {"steps": self.steps, "scores": self.scores, "fitness": self.fitness},
        }
        save_checkpoint(Path(path), state, [self.unpacked()])
        drop_checkpoints(Path(path), keep=1)

    @staticmethod
    def load(path: str | Path, device: Any = "cpu", accelerator: Any = None, *, modules: Sequence[str] = ()) -> Agent:
        """Load a member that `save_checkpoint` wrote.

        Args:
            path: The folder.
            device: Device on which it is to learn, such as "cpu" or "cuda".
            accelerator: An `accelerate.Accelerator` of one process, whose device is used in place of `device`, or None.
            modules: Functions "package.module:function" that may be called to make networks that are a
                `torch.nn.Module` of one's own; `*` stands for anything.

        Raises:
            StorageError: the folder does not exist, or a file is damaged.
            ConfigError: the accelerator has several processes.
        """
        trust(*modules)
        device = device_of(accelerator, device)
        newest = read_newest(Path(path))
        _, state, _ = newest
        given = without_gone_keys(state["config"])
        config = parse_config({**given, "learner": {**given["learner"], "device": str(device)}})
        (member,) = load_members(*newest, config.algorithm.initial_hyperparameters())
        context = PopulationContext(config, itertools.count(member.member_id + 1))
        agent = Agent(member, context, spaces_from_json(state["spaces"]))
        agent.steps, agent.scores, agent.fitness = (state["record"][name] for name in ("steps", "scores", "fitness"))
        return agent

    def adopt_spaces(self, spaces: EnvironmentSpaces) -> None:
        """Take over from an environment what spaces alone do not tell: action masks, and agents that wait.

        If there are any, critics get other inputs, so they are initialised anew; policies stay.

        Raises:
            SpaceError: the environment has other agents, or agents with other spaces, than the population.
            ConfigError: the member has learned already, with critics that lack these inputs.
        """
        if spaces is self.spaces or spaces == self.spaces:
            self.spaces = spaces
            return
        # Agents, observation and action spaces have to be equal; what else an environment tells may be new.
        kinds = [[(a.agent_id, a.observation, a.action) for a in s.agents] for s in (spaces, self.spaces)]
        if kinds[0] != kinds[1]:
            raise SpaceError(
                f"environment: agents {', '.join(spaces.agent_ids)} and their spaces, expected those that the "
                f"population was created for: {', '.join(self.spaces.agent_ids)}"
            )
        if self.member.updates:
            raise ConfigError(
                "the environment has action masks or agents that wait, expected none, as when the population was first "
                "updated; create a new population"
            )
        own = self.unpacked().networks
        seed = self.context.config.training.seed
        fresh = build_networks(self.context.config, spaces, generator(seed, "initialisation", self.index))
        # Critics read which agents wait, so their input changes; policies keep their weights.
        self.member.networks = {
            name: own.get(name, network) if name.startswith("actor/") else network for name, network in fresh.items()
        }
        self.spaces, self._acting = spaces, None

    @property
    def _device(self) -> torch.device:
        """Device on which the member learns."""
        return torch.device(self.context.config.learner.device)

    def _pack(self) -> tuple[Algorithm, PolicyStore]:
        """Return the algorithm that updates this member and the store of its serialised policies; made when needed."""
        if self._packed is None:
            config = self.context.config
            self._packed = (
                ALGORITHMS[config.algorithm.name](config, self.spaces, [self.member], self._device),
                PolicyStore(self.spaces, config.algorithm),
            )
        return self._packed

    def _test_seed(self, k: int) -> int:
        """Return the seed of the k-th episode of the next evaluation, in 31 bits, as some libraries take no more."""
        return derive(self.context.config.training.seed, "test", len(self.fitness), k) & 0x7FFFFFFF


def scalar(fitness: FitnessValue) -> float:
    """Reduce a fitness to one number to rank members by: the mean over agents if it is given by agent."""
    return statistics.fmean(fitness.values()) if isinstance(fitness, dict) else fitness


def AsyncAgentsWrapper(agent: Agent) -> Agent:
    """Return the agent itself, which handles agents that wait; for code written for AgileRL, which needs a wrapper."""
    return agent
