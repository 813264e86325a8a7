"""Whether the learner would take a run in an environment: its own code decides, before any memory is taken.

Join and training refuse by the same functions and in the same words.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from covey.bounds.memory import experience_line, memory_line
from covey.collect.collector import check_slots, most_train_slots
from covey.config import Config, parse_config
from covey.config.architecture import encoder_kinds
from covey.config.installed_algorithms import import_implementation, installed_algorithms
from covey.errors import ConfigError, SpaceError, one_line
from covey.rows import RowSchema
from covey.spaces import EnvironmentSpaces
from covey.wire.messages import spaces_from_proto, spaces_to_proto

FEW_SLOTS = 16
"""If an actor cannot have more training slots than this, the report says how many it can have."""


@dataclass(frozen=True)
class RunLimits:
    """What the learner would say to a run.

    Attributes:
        will: What people should know, a sentence each.
        cannot: Why no run can be, a sentence each; empty if one can.
        parameters: Numbers in all networks of one member, by algorithm.
        encoders: By agent id, the kind of encoder that reads its observation, and by leaf, where that has any, the kind
            that reads the leaf.
    """

    will: list[str] = field(default_factory=list)
    cannot: list[str] = field(default_factory=list)
    parameters: dict[str, int] = field(default_factory=dict)
    encoders: dict[str, dict[str, Any]] = field(default_factory=dict)


def run_limits(spaces: EnvironmentSpaces, environment: str, config: Config | None) -> RunLimits:
    """Compare what a run takes with the learner's limits on spaces, rows, networks and memory.

    Args:
        spaces: Spaces of the environment.
        environment: The environment's name.
        config: The run's configuration; None: each installed algorithm is tried, with the defaults of all settings.
    """
    found = RunLimits()
    schema = RowSchema.of(spaces)
    try:
        spaces_from_proto(spaces_to_proto(spaces))  # as Join reads them
        check_slots(1, spaces, schema)
    except SpaceError as exc:
        found.cannot.append(str(exc))
        return found
    most = most_train_slots(spaces, schema)
    if most < (config.train_slots if config else FEW_SLOTS):
        found.will.append(
            f"memory: a row is {schema.row_bytes:,} bytes, so an actor has at most {most} training slots; it joins "
            "with as many as fit"
        )
    takes: dict[str, list[str]] = {}  # from a sentence on memory to the algorithms of which it is true
    shared: list[str] = []
    with suppress(ConfigError):  # which is told of networks below
        sharing = config is not None and config.algorithm.share_parameters
        found.encoders.update(encoder_kinds(config.network if config else {}, spaces, sharing))
    usable = installed_algorithms()[0]
    refused: dict[str, list[str]] = {}
    not_loaded: dict[str, list[str]] = {}
    for name in [config.algorithm.name] if config else usable:
        try:
            run = config or parse_config(
                {"algorithm": {"name": name}, "environment": {"name": environment}, "training": {}}
            )
            with suppress(ConfigError):  # which the learner's own code says below
                takes.setdefault(_untitled(experience_line(run, spaces)), []).append(name)
            implementation = import_implementation(usable[name])
        except Exception as exc:  # the learner's packages are missing, or whatever a stranger's module raises
            remedy = "install the learner extra" if isinstance(exc, ModuleNotFoundError) else "repair its package"
            reason = one_line(f"{type(exc).__name__}: {exc}", 200)
            not_loaded.setdefault(f"their code does not load here ({reason}); {remedy}", []).append(name)
            continue
        try:
            specs = implementation.checked_specs(run, spaces)
            memory = implementation.planned_memory(run, spaces, specs)
            takes.setdefault(_untitled(memory_line(memory)), []).append(name)
        except (ConfigError, SpaceError) as exc:
            # Of the defaults, the report says elsewhere which algorithms can learn the environment's actions.
            if config or isinstance(exc, ConfigError):
                refused.setdefault(str(exc), []).append(name)
                if found_shared := _if_shared(implementation, run, spaces):
                    shared.append(f"{name} with algorithm.share_parameters: true: {found_shared}")
        else:
            found.parameters[name] = sum(spec.numbers for spec in specs.values())
            if (sentence := implementation.state_sentence(run, spaces)) is not None:
                found.will.append(sentence)
    defaults = "" if config else " with the defaults"
    found.will.extend(f"{' and '.join(names)}{defaults}: {sentence}" for sentence, names in takes.items())
    found.will.extend(shared)
    for reason, names in not_loaded.items():
        found.will.append(f"networks: those of {', '.join(names)} are not counted, as {reason}")
    if found.parameters:
        counts = ", ".join(f"{name} {count:,}" for name, count in found.parameters.items())
        found.will.append(f"networks: parameters of one member{'' if config else ' with the defaults'}: {counts}")
    for sentence, names in refused.items():
        said = sentence if config else f"{' and '.join(names)} with the defaults: {sentence}"
        (found.will if found.parameters else found.cannot).append(said)
    return found


def _untitled(line: str) -> str:
    """One of the learner's first lines on memory, to be begun by the algorithm that it is about."""
    return line.removeprefix("memory: ")


def _if_shared(implementation: Any, run: Config, spaces: EnvironmentSpaces) -> str | None:
    """What a refused run would take if agents of a group shared their networks; None if it would be refused too."""
    shared = run.algorithm.model_copy(update={"share_parameters": True})
    run = run.model_copy(update={"algorithm": shared})
    try:
        specs = implementation.checked_specs(run, spaces)
        return _untitled(memory_line(implementation.planned_memory(run, spaces, specs)))
    except (ConfigError, SpaceError):
        return None
