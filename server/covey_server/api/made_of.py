"""Compares what a training function is given beside a population with what its objects were created from.

AgileRL's training functions take `INIT_HP`, `MUT_P` and `net_config` once more. Here they cannot change anything any
more, so that a value which differs from what the population, memory, selection or mutation has is refused: it would be
ignored. Keys of which nothing was made are listed in a warning, each with the reason.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from covey.config import Config
from covey.config.architecture import resolve
from covey.config.installed_algorithms import installed_algorithms
from covey.config.manifest import as_sections, translate
from covey.config.section import nearest
from covey.errors import ConfigError
from covey.spaces import EnvironmentSpaces
from covey_server.api.evolution import Mutations, TournamentSelection
from covey_server.api.memory import MultiAgentReplayBuffer
from covey_server.evolution.hyperparameters import ranges

logger = logging.getLogger("covey")

_PROBABILITIES = ("no_mut", "arch_mut", "new_layer", "params_mut", "act_mut", "rl_hp_mut")

_SELECTION = "RL_HP_SELECTION"
"""Key of `MUT_P` that lists the hyperparameters which mutate."""


@dataclass(frozen=True)
class Source:
    """Where the values of some keys come from.

    Attributes:
        made: What each key's value has to be.
        instead: Who has these values, and where to give others: the end of the sentence that refuses.
    """

    made: Mapping[str, Any]
    instead: str


def check_init_hp(
    given: Mapping[str, Any],
    config: Config,
    members: int,
    spaces: EnvironmentSpaces,
    num_envs: int,
    memory: MultiAgentReplayBuffer | None,
    tournament: TournamentSelection | None,
    arguments: Mapping[str, Any],
) -> None:
    """Refuse hyperparameters other than those that a population, its memory and its selection were created with.

    Args:
        given: Hyperparameters and settings with names in upper case; None stands for a value that is not given.
        config: The population's configuration.
        members: Number of its members.
        spaces: Spaces that it was created for.
        num_envs: Number of environments.
        memory: The replay memory; None: the algorithm has none.
        tournament: The selection; None: all members stay.
        arguments: What the training function was called with, by the names of the keys.

    Raises:
        ConfigError: a value differs, or a key means nothing; names all that differ.
    """
    given = {key: value for key, value in given.items() if value is not None}
    own = {name.upper(): getattr(config.algorithm, name) for name in type(config.algorithm).model_fields}
    own |= {"ALGO": own.pop("NAME"), "POP_SIZE": members, "POPULATION_SIZE": members}
    own["AGENT_IDS"] = list(spaces.agent_ids)
    if "LR" not in own and "LR" in given:
        # One learning rate for both networks, where the algorithm has one for each.
        rate = given.pop("LR")
        given = {"LR_ACTOR": rate, "LR_CRITIC": rate, **given}
    if "AGENT_IDS" in given and sorted(map(str, given["AGENT_IDS"])) == sorted(spaces.agent_ids):
        own["AGENT_IDS"] = given["AGENT_IDS"]  # in another sequence, which decides on nothing any more
    sources = [
        Source(own, "which the population was created with; pass it to create_population"),
        Source({"NUM_ENVS": num_envs}, "which env has; pass it to make_multi_agent_vect_envs"),
        Source(arguments, "which the other arguments of the training function say; pass it there"),
    ]
    absent: dict[str, str] = dict.fromkeys(("ENV_NAME", "ENV_CONFIG"), "the environments are those of env")
    if memory is None:
        absent |= dict.fromkeys(("MEMORY_SIZE", "LEARNING_DELAY"), f"{config.algorithm.name} has no replay memory")
    else:
        made = {"MEMORY_SIZE": memory.memory_size}
        sources.append(Source(made, "which memory was created with; pass it to MultiAgentReplayBuffer"))
    if tournament is None:
        absent |= dict.fromkeys(("TOURN_SIZE", "ELITISM"), "no tournament is given, so nothing is selected")
    else:
        made = {"TOURN_SIZE": tournament.tournament_size, "ELITISM": tournament.elitism}
        sources.append(Source(made, "which tournament was created with; pass it to TournamentSelection"))
    absent |= dict.fromkeys(("TORCH_COMPILE", "TORCH_COMPILER"), "updates run as the learner chooses")
    _refuse("INIT_HP", given, sources)
    _list_absent("INIT_HP", given, absent)
    known = {key for source in sources for key in source.made} | absent.keys()
    rest = {key: value for key, value in given.items() if key not in known}
    # Warns of AgileRL's keys that have no meaning here, and refuses all that are none.
    as_sections({"INIT_HP": {"ALGO": config.algorithm.name, **rest}})


def check_mut_p(given: Mapping[str, Any], mutation: Mutations | None, config: Config) -> None:
    """Refuse settings of mutation other than those of the object that mutates, and of the population's `hp_config`.

    Args:
        given: Settings with names in upper case; None stands for a value that is not given.
        mutation: The object; None: nothing is mutated.
        config: The population's configuration.

    Raises:
        ConfigError: a value differs, a key means nothing, or nothing is mutated; names all that differ.
    """
    if mutation is None:
        raise ConfigError(
            "MUT_P: given without mutation, so nothing would be mutated; pass mutation=Mutations(...) too"
        )
    given = {key: value for key, value in given.items() if value is not None}
    settings = mutation.settings
    own = {name.upper(): getattr(settings.probabilities, name) for name in _PROBABILITIES}
    own |= {"MUT_SD": settings.mutation_sd, "MUTATE_ELITE": settings.mutate_elite, "RAND_SEED": mutation.rand_seed}
    for end in ("MIN", "MAX"):
        if f"{end}_LR" in given:  # both learning rates, where the algorithm has two
            bound = given.pop(f"{end}_LR")
            given = {f"{end}_{name.upper()}": bound for name in _hyperparameters("lr", config)} | given
    allowed = ranges(config)
    evolving: dict[str, Any] = {f"MIN_{name.upper()}": limits.min for name, limits in allowed.items()}
    evolving |= {f"MAX_{name.upper()}": limits.max for name, limits in allowed.items()}
    if _SELECTION in given:
        asked = [name for chosen in given[_SELECTION] for name in _hyperparameters(str(chosen), config)]
        evolving[_SELECTION] = given[_SELECTION] if set(asked) == allowed.keys() else list(allowed)
    usable = installed_algorithms()[0].values()
    every = {"LR", *(name.upper() for settings in usable for name in settings.model_fields)}
    bounds = {f"{end}_{name}" for end in ("MIN", "MAX") for name in every}
    absent = dict.fromkeys(bounds - evolving.keys(), "hp_config of create_population does not name the hyperparameter")
    for key in given:
        if key not in own and key not in evolving and key not in absent:
            known = sorted({*own, *evolving, _SELECTION})
            raise ConfigError(f"MUT_P.{key}: unknown key{nearest(key, known) or f'; expected one of {known}'}")
    _refuse(
        "MUT_P",
        given,
        [
            Source(own, "which mutation was created with; pass it to Mutations"),
            Source(evolving, "which the population's hyperparameters have; pass it to create_population as hp_config"),
        ],
    )
    _list_absent("MUT_P", given, absent)


def check_net_config(given: Mapping[str, Any], config: Config, spaces: EnvironmentSpaces) -> None:
    """Refuse an architecture other than the one that a population was created with.

    Args:
        given: Architecture for all agents, or by agent or group.
        config: The population's configuration.
        spaces: Spaces of the environment.

    Raises:
        ConfigError: the architecture of an agent or group differs; names all that do.
    """
    shared = config.algorithm.share_parameters
    asked = resolve(translate({"network": dict(given)})["network"], spaces, shared)
    made = resolve(config.network, spaces, shared)
    differ = [name for name in made if asked[name] != made[name]]
    if differ:
        raise ConfigError(
            f"net_config: describes other networks for {', '.join(differ)} than the population was created with; pass "
            "it to create_population"
        )


def _hyperparameters(name: str, config: Config) -> Sequence[str]:
    """The names that a hyperparameter has in a population's algorithm: `lr` is two in some."""
    two_rates = name == "lr" and "lr" not in type(config.algorithm).model_fields
    return ("lr_actor", "lr_critic") if two_rates else (name,)


def _refuse(argument: str, given: Mapping[str, Any], sources: Sequence[Source]) -> None:
    """Raise an error that names the keys whose values differ, and who has others."""
    clauses = []
    for source in sources:
        differ = [
            f"{key} {value!r}, expected {source.made[key]!r}"
            for key, value in given.items()
            if key in source.made and value != source.made[key]
        ]
        if differ:
            clauses.append(f"{'; '.join(differ)}, {source.instead}")
    if clauses:
        raise ConfigError(f"{argument}: {'; '.join(clauses)}")


def _list_absent(argument: str, given: Mapping[str, Any], absent: Mapping[str, str]) -> None:
    """Log a warning for the keys of which nothing was made, one for each reason."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for key in given:
        if key in absent:
            by_reason[absent[key]].append(f"{argument}.{key}")
    for reason, keys in by_reason.items():
        logger.warning("%s: not compared with anything: %s", ", ".join(keys), reason)
