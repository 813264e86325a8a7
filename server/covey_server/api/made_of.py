"""Compares what a training function is given beside a population with what the population was created from.

AgileRL's training functions take `INIT_HP`, `MUT_P` and `net_config` once more. Here they cannot change anything any
more, so that a value which differs from the population's is refused: it would be ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from covey.config import Config
from covey.config.architecture import resolve
from covey.config.manifest import translate
from covey.errors import ConfigError
from covey.spaces import EnvironmentSpaces
from covey_server.api.evolution import Mutations

_PROBABILITIES = ("no_mut", "arch_mut", "new_layer", "params_mut", "act_mut", "rl_hp_mut")


def check_init_hp(given: Mapping[str, Any], config: Config, members: int) -> None:
    """Refuse hyperparameters other than those that a population was created with; keys of other settings may be there.

    Args:
        given: Hyperparameters with names in upper case.
        config: The population's configuration.
        members: Number of its members.

    Raises:
        ConfigError: a value differs; names all that do.
    """
    made = {name.upper(): getattr(config.algorithm, name) for name in type(config.algorithm).model_fields}
    made |= {"ALGO": made.pop("NAME"), "POP_SIZE": members, "POPULATION_SIZE": members}
    if "LR" not in made and "LR" in given:
        # One learning rate for both networks, where the algorithm has one for each.
        given = {"LR_ACTOR": given["LR"], "LR_CRITIC": given["LR"], **given}
    _refuse("INIT_HP", given, made, "the population was created with; pass it to create_population")


def check_mut_p(given: Mapping[str, Any], mutation: Mutations | None) -> None:
    """Refuse settings of mutation other than those of the object that mutates.

    Args:
        given: Settings with names in upper case.
        mutation: The object; None: nothing is mutated.

    Raises:
        ConfigError: a value differs, or nothing is mutated; names all that differ.
    """
    if mutation is None:
        raise ConfigError(
            "MUT_P: given without mutation, so nothing would be mutated; pass mutation=Mutations(...) too"
        )
    settings = mutation.settings
    made = {name.upper(): getattr(settings.probabilities, name) for name in _PROBABILITIES}
    made |= {"MUT_SD": settings.mutation_sd, "MUTATE_ELITE": settings.mutate_elite, "RAND_SEED": mutation.rand_seed}
    _refuse("MUT_P", given, made, "mutation was created with; pass it to Mutations")


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


def _refuse(argument: str, given: Mapping[str, Any], made: Mapping[str, Any], instead: str) -> None:
    """Raise an error that names the keys whose values differ; None stands for a value that is not given."""
    differ = [
        f"{key} {value!r}, expected {made[key]!r}"
        for key, value in given.items()
        if key in made and value is not None and value != made[key]
    ]
    if differ:
        raise ConfigError(f"{argument}: {'; '.join(differ)}, which {instead}")
