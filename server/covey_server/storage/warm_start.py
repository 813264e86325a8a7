"""Warm start: a new run's members begin with the weights of a member of another run (`training.init_from`)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from covey.config import parse_config
from covey.config.stored import without_gone_keys
from covey.errors import ConfigError, SpaceError, StorageError
from covey.networks import Params
from covey.run.checkpoint_format import read_newest
from covey.run.directory import RunDirectory
from covey.run.init_from import BEST, parse_source
from covey.run.trained import TrainedMember
from covey.spaces import EnvironmentSpaces, differing
from covey.wire.policy_file import decode_policy
from covey_server.member import Network, Temperature
from covey_server.storage.checkpoint import load_members

MOST_NAMED = 5
"""Most leaves of spaces, or parameters, that a sentence names."""


@dataclass(frozen=True, slots=True)
class WarmStart:
    """The weights that a run's first members begin with.

    Attributes:
        words: Whose they are.
        weights: By the keys of `Member.networks`.
        networks: The networks that they come from, by the same keys, for the units of its critics' predictions and the
            statistics of what its agents observed and earned.
        spaces: Of the environment that it was trained in.
    """

    words: str
    weights: Mapping[str, Params]
    networks: Mapping[str, Network]
    spaces: EnvironmentSpaces

    @staticmethod
    def read(source: str) -> WarmStart:
        """Read the weights of a member.

        For the best policy of a run, critics and the like are those of the same member in the newest checkpoint; if it
        does not live any more, there are none.

        Args:
            source: As `training.init_from` has it.

        Raises:
            ConfigError: no such member lives.
            StorageError: the run cannot be read.
        """
        path, who = parse_source(source)
        run = RunDirectory.open(path)
        found = TrainedMember.read(run, None if who == BEST else int(who))
        words = f"member {found.member_id} of generation {found.generation} of {run.path}"
        networks: dict[str, Network] = {}
        with contextlib.suppress(StorageError):
            networks = _networks(run, found.member_id)
        weights = {key: network.params for key, network in networks.items()}
        if who == BEST:
            weights |= {f"actor/{i}": decode_policy(file)[1] for i, file in found.files.items()}
        return WarmStart(words, weights, networks, found.spaces)

    def check(self, spaces: EnvironmentSpaces) -> None:
        """Refuse spaces for which the weights were not made.

        Raises:
            SpaceError: agents or spaces are others; names what does not fit.
        """
        found = list(_misfits(self.spaces, spaces))
        if found:
            named = "; ".join(found[:MOST_NAMED]) + "; ..." * (len(found) > MOST_NAMED)
            raise SpaceError(
                f"training.init_from: the spaces of {self.words} are others ({named}), expected those of this "
                "environment; name a run of the same agents and spaces, or leave it out"
            )

    def fill(self, networks: Mapping[str, Network]) -> list[str]:
        """Put the weights into new networks, parameter by parameter where name and shape agree.

        Optimiser moments stay zero. Target networks get the weights too, and critics their units of returns.

        Returns:
            For each network that did not get all of its weights, a sentence that says which are missing.

        Raises:
            ConfigError: not one weight matrix of the policies fits.
        """
        told, filled = [], False
        for key, network in networks.items():
            source = self.weights.get(key)
            if source is None:
                told.append(f"{key} begins anew: there is no such network")
                continue
            fits = [name for name, p in network.params.items() if name in source and source[name].shape == p.shape]
            for name in fits:
                network.params[name] = source[name].astype(network.params[name].dtype)
                if network.target is not None:
                    network.target[name] = network.params[name].copy()
            # Biases of the outputs fit always: alone they are no beginning.
            filled |= key.startswith("actor/") and any(network.params[name].ndim > 1 for name in fits)
            if (there := self.networks.get(key)) is not None:
                # Statistics are kept where they are asked for here, and were there.
                # (Of critics that read a state of other sizes there, as nobody plays by those, they begin anew.)
                if network.observed is not None and there.observed is not None:
                    same = network.observed.mean.shape == there.observed.mean.shape
                    network.observed = there.observed if same else network.observed
                if network.earned is not None and there.earned is not None:
                    network.earned = there.earned
                # A learned temperature begins where it was, with moments of nothing, as all moments here.
                if network.temperature is not None and there.temperature is not None:
                    network.temperature = Temperature(there.temperature.log_alpha)
            if len(fits) == len(network.params):
                network.scale = network.scale if there is None else there.scale
            elif missing := [name for name in network.params if name not in fits]:
                named = ", ".join(_shapes(name, network.params, source) for name in missing[:MOST_NAMED])
                more = ", ..." * (len(missing) > MOST_NAMED)
                told.append(f"{key} has {len(fits)} of {len(network.params)} parameters, without {named}{more}")
        if not filled:
            raise ConfigError(
                f"training.init_from: no weight matrix of {self.words}'s policies has the name and shape of one here; "
                "give this run the network section and algorithm of that one, or leave it out"
            )
        return told


def _networks(run: RunDirectory, member_id: int) -> dict[str, Network]:
    """The networks of a member in a run's newest checkpoint; empty if it does not live any more."""
    path, state, tensors = read_newest(run.checkpoints)
    config = parse_config(without_gone_keys(state["run"]["config"]))
    for member in load_members(path, state, tensors, config.algorithm.initial_hyperparameters()):
        if member.member_id == member_id:
            return member.networks
    return {}


def _shapes(name: str, here: Params, there: Params) -> str:
    """A parameter that does not fit, with its shapes."""
    if name not in there:
        return f"{name} (not there)"
    return f"{name} ({there[name].shape} there, {here[name].shape} here)"


def _misfits(there: EnvironmentSpaces, here: EnvironmentSpaces) -> Iterator[str]:
    """What differs between the agents and spaces of two environments, leaf by leaf."""
    before = {agent.agent_id: agent for agent in there.agents}
    for agent in here.agents:
        if (other := before.pop(agent.agent_id, None)) is None:
            yield f"agent {agent.agent_id} is not there"
        else:
            yield from differing(agent, other)
    yield from (f"agent {agent_id} is not here" for agent_id in before)
