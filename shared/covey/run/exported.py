"""Exported policies: writing them as files, and acting by them without torch, a learner or a run.

policy.json                 format, member_id, generation, algorithm, environment, agents (agent id to file), spaces
<network id>.safetensors    a policy file, see `covey.wire.policy_file`
<network id>.json           the specification in it, for people
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from covey.acting import Decisions, FrameStacks, LoadedPolicy
from covey.acting.states import AgentStates
from covey.envs.returned import flat_mask, split_mask
from covey.errors import ConfigError, CoveyError, SpaceError, StorageError
from covey.networks.trusted_modules import trust
from covey.run.files import cannot_read, read_json
from covey.spaces import MASK_KEY, EnvironmentSpaces, Space, leaf_arrays, leaves, mask_width, nested, part_of
from covey.v1.order_pb2 import Exploration
from covey.wire.policy_file import decode_policy
from covey.wire.spaces_json import spaces_from_json, spaces_to_json

if TYPE_CHECKING:
    from covey.run.trained import TrainedMember

INDEX = "policy.json"
FORMAT = 1

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,100}")
_KEPT_SIZES = 4


class Policy:
    """A member's policies, which choose the actions of all agents as evaluation does.

    Args:
        spaces: Of the environment.
        policies: The policy of each agent, in environment order.

    Attributes:
        spaces: As given.
        policies: As given.
    """

    def __init__(self, spaces: EnvironmentSpaces, policies: Sequence[LoadedPolicy]) -> None:
        self.spaces = spaces
        self.policies = list(policies)
        self._where = {
            spaces.agent_ids[agent]: (g, n)
            for g, group in enumerate(spaces.groups)
            for n, agent in enumerate(group.agents)
        }
        self._planned: dict[tuple[int, bool], Decisions] = {}
        self._states: dict[int, AgentStates] = {}  # what agents remember, by the number of observations at once
        columns = [spaces.agent_ids[agent] for group in spaces.groups for agent in group.agents]
        self._column = {agent: p for p, agent in enumerate(columns)}
        self._rng = np.random.default_rng()
        # Where policies read several observations: these, and in which environments episodes begin (None: in all).
        self._stacks: FrameStacks | None = None
        self._stacked = 0
        self._begins: set[int] | None = set()

    def __repr__(self) -> str:
        agents = ", ".join(f"{a.agent_id}: {a.observation} -> {a.action}" for a in self.spaces.agents)
        return f"Policy({agents})"

    def reset(self, environments: Sequence[int] | None = None) -> None:
        """Forget what was seen, as episodes begin: the observations of the next `act` are their first.

        Needed where policies have memory, or read several observations (`environment.frame_stack`); it changes nothing
        for others.

        Args:
            environments: Rows of the batches in which they begin; None: all.
        """
        for size, states in self._states.items():
            states.begin_episodes(range(size) if environments is None else environments)
        if environments is None:
            self._begins, self._stacks = None, None
        elif self._begins is not None:
            self._begins.update(environments)

    def act(
        self,
        observations: Mapping[str, Any],
        masks: Mapping[str, ArrayLike] | None = None,
        deterministic: bool = True,
        rng: np.random.Generator | None = None,
    ) -> dict[str, Any]:
        """Choose actions for the agents whose observations are given.

        Where policies have memory, or read several observations (`environment.frame_stack`), they remember what agents
        see, until `reset`: call `act` once for each env step with what all living agents that act in it observe, and
        with batches of one size, whose row b is always the same environment.

        Args:
            observations: By agent id its observation, (*shape), or a batch of them, (B, *shape), the same B for all
                agents; or a dictionary {"observation", "action_mask"} of either. Where the observation space is a Dict
                or Tuple: dictionaries and tuples of such arrays, as the environment gives them.
            masks: By agent id 1 for legal values and 0 for others, (mask width,) or (B, mask width).
            deterministic: True takes means and best choices. False samples choices, and Box actions of Gaussian
                policies.
            rng: Draws samples; if None, a generator of the policy's own, whose draws cannot be repeated.

        Returns:
            By agent id its action, or a batch of them, in the units and dtype of its action space.

        Raises:
            SpaceError: an agent that the environment does not have, an observation or mask of another shape, or no mask
                of an agent whose actions the environment restricts; or no `reset` where policies read several
                observations.
        """
        masks = dict(masks or {})
        seen: dict[str, list[NDArray[Any]]] = {}  # by agent, its leaves
        for agent, value in observations.items():
            space = self._space(agent)
            keys = list(value) if isinstance(value, Mapping) else []
            value, mask = split_mask(value)
            if mask is not None:
                masks.setdefault(agent, mask)
            if isinstance(value, Mapping) and not leaves(space)[0].path:
                if "observation" not in value:
                    raise SpaceError(
                        f"agent {agent!r}: a dictionary of {', '.join(map(str, keys))}, expected observation and "
                        f"{MASK_KEY}"
                    )
                value = value["observation"]
            found = [np.asarray(part_of(value, leaf, f"observation of agent {agent!r}")) for leaf in leaves(space)]
            # A number stands for an array of one, as in training.
            seen[agent] = [
                part.reshape(leaf.space.shape) if not part.ndim and leaf.space.shape == (1,) else part
                for part, leaf in zip(found, leaves(space), strict=True)
            ]
        size, batched = self._size(seen)
        observation = [np.zeros((size, len(g), *g.observation.shape), g.observation.dtype) for g in self.spaces.groups]
        legal: list[NDArray[np.uint8] | None] = [None] * len(observation)
        for agent, values in seen.items():
            g, n = self._where[agent]
            for part, value in zip(leaf_arrays(self._space(agent), observation[g][:, n]), values, strict=True):
                part[...] = value
            if agent not in masks and self.spaces.groups[g].masked:
                raise SpaceError(
                    f"agent {agent!r}: no mask, expected 1 or 0 for each of {mask_width(self.spaces.groups[g].action)} "
                    f"values of its action; pass masks={{{agent!r}: ...}}, or observation and {MASK_KEY}"
                )
            if agent in masks:
                width = mask_width(self.spaces.groups[g].action)
                mask = np.asarray(flat_mask(masks[agent], self.spaces.groups[g].action), np.uint8)
                if mask.shape != ((size, width) if batched else (width,)):
                    raise SpaceError(f"agent {agent!r}: mask of shape {mask.shape}, expected {width} numbers each")
                rows = legal[g]
                if rows is None:
                    legal[g] = rows = np.ones((size, len(self.spaces.groups[g]), width), np.uint8)
                rows[:, n] = mask
        if self.spaces.frame_stack > 1:
            observation = self._remembered(observation, size)
        acts = np.zeros((size, len(self.spaces.agents)), np.uint8)
        acts[:, [self._column[agent] for agent in seen]] = 1
        given, _ = self._decisions(size, deterministic).decide(observation, legal, rng or self._rng, acts)
        acted = {}
        for agent in seen:
            g, n = self._where[agent]
            chosen = given[g][:, n]
            acted[agent] = nested(self.spaces.groups[g].action, chosen if batched else chosen[0])
        return acted

    def _remembered(self, observation: Sequence[NDArray[Any]], size: int) -> list[NDArray[Any]]:
        """Append observations of so many environments to those remembered; returns the stacks that policies read.

        Raises:
            SpaceError: no episode has begun, or there were another number of environments before.
        """
        frames = self.spaces.frame_stack
        if self._begins is not None and (self._stacks is None or self._stacked != size):
            got = f"a batch of {size}" if self._stacks else "given before reset() was called"
            wanted = f"{self._stacked} for each agent as since reset()" if self._stacks else "reset() first"
            raise SpaceError(
                f"observations: {got}, expected {wanted}, as the policies read the last {frames} observations; call "
                "reset() when an episode begins, and then act once in each env step"
            )
        if self._stacks is None:
            self._stacks, self._stacked = FrameStacks(self.spaces, size), size
        begins = sorted(range(size) if self._begins is None else self._begins & set(range(size)))
        self._stacks.push(observation, [i for i in range(size) if i not in begins])
        self._stacks.begin(observation, begins)
        self._begins = set()
        return self._stacks.stacked

    def _space(self, agent: str) -> Space:
        """The observation space of an agent.

        Raises:
            SpaceError: the environment does not have that agent.
        """
        if agent not in self._where:
            raise SpaceError(f"agent {agent!r}: unknown, expected some of {', '.join(self.spaces.agent_ids)}")
        return self.spaces.groups[self._where[agent][0]].observation

    def _size(self, seen: Mapping[str, Sequence[NDArray[Any]]]) -> tuple[int, bool]:
        """How many observations each agent is given, and whether they come as a batch.

        Raises:
            SpaceError: an observation of another shape, or batches of different sizes.
        """
        sizes: set[int | None] = set()
        for agent, values in seen.items():
            for leaf, value in zip(leaves(self._space(agent)), values, strict=True):
                shape = leaf.space.shape
                if value.shape != shape and value.shape[1:] != shape:
                    what = f"observation{' ' * bool(leaf.name)}{leaf.name}"
                    raise SpaceError(f"agent {agent!r}: {what} of shape {value.shape}, expected {shape} or a batch")
                sizes.add(None if value.shape == shape else len(value))
        if len(sizes) > 1:
            raise SpaceError(f"observations: batches of {sizes} (None: no batch), expected the same for all agents")
        size = next(iter(sizes), None)
        return (1, False) if size is None else (size, True)

    def _decisions(self, size: int, deterministic: bool) -> Decisions:
        """What decides for `size` observations at once; made once for each size, the last few are kept."""
        key = size, deterministic
        decisions = self._planned.pop(key, None)
        if decisions is None:
            states = self._states.setdefault(size, AgentStates(self.spaces, size))
            decisions = Decisions(self.spaces, size, states)
            if not deterministic:
                for slot in range(size):
                    decisions.explore(slot, Exploration(kind=Exploration.KIND_SAMPLE))
            decisions.plan(dict.fromkeys(range(size), self.policies))
        self._planned[key] = decisions
        while len(self._planned) > _KEPT_SIZES:
            dropped, _ = next(iter(self._planned))
            del self._planned[next(iter(self._planned))]
            if all(own != dropped for own, _ in self._planned):
                del self._states[dropped]
        return decisions


def export(member: TrainedMember, directory: Path) -> Path:
    """Write a member's policies to a directory that somebody named; returns the path of the index, policy.json.

    Raises:
        StorageError: the directory cannot be written.
    """
    try:
        return write_policies(member, directory)
    except OSError as exc:
        reason = os.strerror(exc.errno or 0)
        raise StorageError(f"{directory} cannot be written ({reason}); name another directory with --out") from exc


def write_policies(member: TrainedMember, directory: Path) -> Path:
    """Write a member's policies to a directory; returns the path of the index, policy.json.

    Raises:
        OSError: as the system says.
    """
    names: dict[str, str] = {}
    for i, network_id in enumerate(member.files):
        names[network_id] = network_id if _PLAIN.fullmatch(network_id) else f"network_{i}"
    index = {
        "format": FORMAT,
        "member_id": member.member_id,
        "generation": member.generation,
        "algorithm": member.config.algorithm.name,
        "environment": {"name": member.config.environment.name, "config": member.config.environment.config},
        "agents": {
            agent: f"{names[owner]}.safetensors"
            for agent, owner in zip(member.spaces.agent_ids, member.owners, strict=True)
        },
        "spaces": spaces_to_json(member.spaces),
    }
    directory.mkdir(parents=True, exist_ok=True)
    for network_id, file in member.files.items():
        (directory / f"{names[network_id]}.safetensors").write_bytes(file)
        spec, _ = decode_policy(file)
        (directory / f"{names[network_id]}.json").write_text(json.dumps(spec.to_json(), indent=2) + "\n")
    (directory / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    return directory / INDEX


def load_policy(path: Path | str, *, modules: Sequence[str] = ()) -> Policy:
    """Load what `covey export` wrote; nothing in the files is trusted.

    Args:
        path: The directory, or the index in it, policy.json.
        modules: Functions "package.module:function" that may be called to make the policies' networks, where these are
            a `torch.nn.Module` of one's own; `*` stands for anything. All other networks need neither them nor torch.

    Raises:
        StorageError: a file is missing, or is not what an export holds.
        ConfigError: a network is a module that is not among `modules`, does not load, or needs torch that is missing.
    """
    trust(*modules)
    index = Path(path) / INDEX if Path(path).is_dir() else Path(path)
    data = read_json(index)
    try:
        if data["format"] != FORMAT:
            raise ConfigError(f"format {data['format']!r}, expected {FORMAT}")
        spaces = spaces_from_json(data["spaces"])
        files = [str(data["agents"][agent]) for agent in spaces.agent_ids]
        loaded = {name: LoadedPolicy.decode(_read(index.parent, name)) for name in dict.fromkeys(files)}
        for name, agent in zip(files, spaces.agents, strict=True):
            loaded[name].spec.check_agent(name, agent)
    except StorageError:
        raise
    except (CoveyError, KeyError, TypeError, AttributeError) as exc:
        raise StorageError(
            f"{index} is no export of covey ({type(exc).__name__}: {exc}); export the member again"
        ) from exc
    for policy in loaded.values():
        policy.load_modules()
    return Policy(spaces, [loaded[name] for name in files])


def _read(directory: Path, name: str) -> bytes:
    """Read a policy file that the index names; its name must be plain, so that it cannot lie elsewhere."""
    if not _PLAIN.fullmatch(name):
        raise ConfigError(f"file {name!r}, expected a plain name")
    try:
        return (directory / name).read_bytes()
    except OSError as exc:
        raise cannot_read(directory / name, exc) from exc
