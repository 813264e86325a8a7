"""A member of a population as training loops use it: it acts, learns and is judged by itself."""

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
from covey.envs.vector import PettingZooVecEnv
from covey.errors import ConfigError, SpaceError
from covey.spaces import EnvironmentSpaces
from covey.v1.order_pb2 import Exploration
from covey.wire.spaces_json import spaces_from_json, spaces_to_json
from covey_server.algorithms import ALGORITHMS, Algorithm, build_networks
from covey_server.api.acting import Acting, is_batched, lifted, shown
from covey_server.evolution.fitness import fitness_of
from covey_server.evolution.generation import child_of, copied
from covey_server.member import Member
from covey_server.packing import counter_rng
from covey_server.packing.policies import PolicyStore
from covey_server.seeds import derive, generator
from covey_server.storage.checkpoint import drop_checkpoints, load_newest, save_checkpoint

if TYPE_CHECKING:
    from covey_server.api.memory import Experiences

Fit = float | dict[str, float]
"""A fitness: of all agents together, or the mean return of each."""


@dataclass(frozen=True, slots=True)
class Kin:
    """What the agents of a population share: how they are configured, and the ids that were not given yet."""

    config: Config
    ids: Iterator[int]


class _Hyperparameter:
    """An evolvable value of the member."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, agent: Agent, owner: type) -> Any:
        try:
            return agent.member.hyperparameters[self._name]
        except KeyError:
            name = agent.kin.config.algorithm.name
            raise AttributeError(f"{self._name}: {name} has no such hyperparameter") from None

    def __set__(self, agent: Agent, value: float) -> None:
        agent.natural().hyperparameters[self._name] = value


class Agent:
    """One individual: policies and critics for all agents of an environment, and its record.

    Args:
        member: Itself, in natural shapes.
        kin: Shared with its population.
        spaces: As far as they are known; the environment's own, once it has seen what that gives.

    Attributes:
        steps: Env steps made, one number per generation; loops count the last one up.
        scores: Of its training episodes, as loops append them.
        fitness: Of its evaluations, the newest last.
        training: Whether it explores.
    """

    batch_size = _Hyperparameter()
    learn_step = _Hyperparameter()
    gamma = _Hyperparameter()
    lr = _Hyperparameter()
    lr_actor = _Hyperparameter()
    lr_critic = _Hyperparameter()

    def __init__(self, member: Member, kin: Kin, spaces: EnvironmentSpaces) -> None:
        self.member = member
        self.kin = kin
        self.spaces = spaces
        self.steps: list[int] = [member.env_steps]
        self.scores: list[Any] = []
        self.fitness: list[Fit] = []
        self.training = True
        self._packed: tuple[Algorithm, PolicyStore] | None = None
        self._players: tuple[int, list[LoadedPolicy]] | None = None
        self._acting: Acting | None = None

    @property
    def index(self) -> int:
        """The member's id, never given twice in a population."""
        return self.member.member_id

    @property
    def algo(self) -> str:
        """MADDPG, MATD3 or IPPO."""
        return self.kin.config.algorithm.name

    @property
    def agent_ids(self) -> list[str]:
        """Agents of the environment, in its order."""
        return list(self.spaces.agent_ids)

    @property
    def mut(self) -> str:
        """How it came into being: "initial", "elite", "none", or the kind of mutation."""
        return self.member.mutation

    def set_training_mode(self, training: bool) -> None:
        """Explore, or play as well as it can."""
        self.training = training

    def get_action(
        self, obs: Mapping[str, Any], infos: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Decide for all agents.

        Args:
            obs: By agent (E, *shape), or of a single environment. What covey's vectorised environments give tells also
                who waits, masks, and who is forced; in other dictionaries, agents that wait are missing.
            infos: By agent "action_mask" and "env_defined_actions", for observations of other environments.

        Returns:
            Actions for the environment, and what replay stores: the same but where a Gaussian's sample was clipped.
            By agent, in the space's own units; (E, *shape), or without E as the observations.

        Raises:
            SpaceError: observations of other agents or shapes.
        """
        self.meet(getattr(obs, "spaces", self.spaces))
        infos = infos or {}
        batched = is_batched(obs, self.spaces)
        seen = shown(obs, infos, self.spaces) if batched else shown(lifted(obs), infos, self.spaces)
        environments = len(seen.present)
        if self._acting is None or self._acting.environments != environments:
            self._acting = Acting(self.spaces, environments)
            self._rng = generator(self.kin.config.training.seed, "acting", self.index, self.steps[-1])
        self.member.env_steps = self.steps[-1]
        config = self.kin.config
        of_algorithm = ALGORITHMS[config.algorithm.name].exploration
        exploration = of_algorithm(config, self.member) if self.training else Exploration()
        actions, raw = self._acting.act(seen, self.policies(), exploration, self._rng)
        if batched:
            return actions, raw
        for by_agent in (actions, raw):
            by_agent.update({agent: x[0] for agent, x in by_agent.items()})
        return actions, raw

    def reset_action_noise(self, indices: Sequence[int] | None = None) -> None:
        """Begin the noise of these environments anew; of all where None."""
        if self._acting is not None:
            self._acting.begin_episodes(range(self._acting.environments) if indices is None else indices)

    def learn(self, experiences: Experiences) -> dict[str, float]:
        """One update from a sample of replay.

        Returns:
            "critic_loss", and "actor_loss" where the policy was updated too.

        Raises:
            ConfigError: an on-policy algorithm, or nothing in the sample.
        """
        self.meet(experiences.spaces)
        algorithm, _ = self._pack()
        seed, count = self.kin.config.training.seed, self.member.updates
        algorithm.learn((0,), experiences.batch, counter_rng.keys(seed, [self.index], [count], self._device))
        return algorithm.metrics()[self.index]

    def test(
        self,
        env: PettingZooVecEnv[Any],
        max_steps: int | None = None,
        loop: int = 1,
        sum_scores: bool = True,
    ) -> Fit:
        """Play `loop` episodes per environment without exploration; `env` needs a reset afterwards.

        Seeds depend on how often the agent was tested, so agents of a generation play the same ones.

        Args:
            env: Of covey.
            max_steps: Env steps after which an episode is cut off; None: a cap of 10,000.
            loop: Episodes per environment.
            sum_scores: Whether the agents' returns are summed.

        Returns:
            The mean over episodes, of the sum or, without it, by agent; appended to `fitness`.
        """
        self.meet(env.spaces)
        env.interrupt()
        episodes = play(
            env.slots,
            env.spaces,
            self.policies(),
            [self._test_seed(k) for k in range(loop * env.num_envs)],
            max_steps or EVAL_STEPS_CAP,
        )
        returns = [list(e.returns) for e in episodes]
        fitness: Fit
        if sum_scores:
            score = fitness_of(returns, env.spaces.agent_ids, Fitness())
            self.member.fitness, self.member.fitness_stderr = score.fitness, score.stderr
            fitness = score.fitness
        else:
            fitness = fitness_of(returns, env.spaces.agent_ids, Fitness(reduce="mean")).per_agent
        self.fitness.append(fitness)
        return fitness

    def policies(self) -> list[LoadedPolicy]:
        """Who plays each agent, in the environment's order."""
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

    def natural(self) -> Member:
        """The member, with all that it has learned, in natural shapes; whoever asks may change it."""
        if self._packed is not None:
            self._packed[0].unpack()
        self._packed = self._players = None
        self.member.env_steps = self.steps[-1]
        return self.member

    def clone(self, *, same: bool = False) -> Agent:
        """A child that shares no memory with it, under an id of its own; or, with `same`, itself once more."""
        member = self.natural()
        agent = Agent(
            copied(member) if same else child_of(member, next(self.kin.ids), len(self.steps)), self.kin, self.spaces
        )
        agent.steps, agent.scores, agent.fitness = list(self.steps), list(self.scores), list(self.fitness)
        agent.training = self.training
        return agent

    def save_checkpoint(self, path: str | Path) -> None:
        """Write everything that it is into a folder, as one checkpoint of a run: JSON and safetensors.

        Raises:
            StorageError: it cannot be written.
        """
        state = {
            "config": self.kin.config.model_dump(mode="json"),
            "spaces": spaces_to_json(self.spaces),
            "record": {"steps": self.steps, "scores": self.scores, "fitness": self.fitness},
        }
        save_checkpoint(Path(path), state, [self.natural()])
        drop_checkpoints(Path(path), keep=1)

    @staticmethod
    def load(path: str | Path, device: Any = "cpu") -> Agent:
        """What `save_checkpoint` wrote.

        Raises:
            StorageError: no such folder, or a damaged file.
        """
        state, (member,) = load_newest(Path(path))
        config = parse_config({**state["config"], "learner": {**state["config"]["learner"], "device": str(device)}})
        agent = Agent(member, Kin(config, itertools.count(member.member_id + 1)), spaces_from_json(state["spaces"]))
        agent.steps, agent.scores, agent.fitness = (state["record"][name] for name in ("steps", "scores", "fitness"))
        return agent

    def meet(self, spaces: EnvironmentSpaces) -> None:
        """Take over what an environment knows of its spaces beyond their kind: who has masks, whether agents wait.

        Raises:
            SpaceError: other agents or kinds of space than those it was made for.
            ConfigError: it has learned already where that was not known.
        """
        if spaces is self.spaces or spaces == self.spaces:
            self.spaces = spaces
            return
        kinds = [[(a.agent_id, a.observation, a.action) for a in s.agents] for s in (spaces, self.spaces)]
        if kinds[0] != kinds[1]:
            raise SpaceError(
                f"environment: agents {', '.join(spaces.agent_ids)} and their spaces, expected those that the "
                f"population was created for: {', '.join(self.spaces.agent_ids)}"
            )
        if self.member.updates:
            raise ConfigError(
                "environment: masks, or agents that wait, but the population has learned without; create one anew"
            )
        own = self.natural().networks
        seed = self.kin.config.training.seed
        fresh = build_networks(self.kin.config, spaces, generator(seed, "initialisation", self.index))
        # Critics read who waits; policies are what they were.
        self.member.networks = {
            name: own.get(name, network) if name.startswith("actor/") else network for name, network in fresh.items()
        }
        self.spaces, self._acting = spaces, None

    @property
    def _device(self) -> torch.device:
        return torch.device(self.kin.config.learner.device)

    def _pack(self) -> tuple[Algorithm, PolicyStore]:
        if self._packed is None:
            config = self.kin.config
            self._packed = (
                ALGORITHMS[config.algorithm.name](config, self.spaces, [self.member], self._device),
                PolicyStore(self.spaces, config.algorithm),
            )
        return self._packed

    def _test_seed(self, k: int) -> int:
        # 31 bits: some environments hand their seed to libraries that take no more.
        return derive(self.kin.config.training.seed, "test", len(self.fitness), k) & 0x7FFFFFFF


def scalar(fitness: Fit) -> float:
    """One number to rank by."""
    return statistics.fmean(fitness.values()) if isinstance(fitness, dict) else fitness


def AsyncAgentsWrapper(agent: Agent) -> Agent:
    """The agent itself: it passes over agents that wait on its own; here for code that wraps its agents."""
    return agent
