"""Finds the algorithms that are installed: settings classes by entry point, covey's own among them."""

from __future__ import annotations

import functools
import importlib
from importlib.metadata import EntryPoint, entry_points
from typing import Any, get_args

from covey.config.algorithm_settings import AlgorithmSettings
from covey.errors import ConfigError, one_line

GROUP = "covey.algorithms"


@functools.cache
def installed_algorithms() -> tuple[dict[str, type[AlgorithmSettings]], dict[str, ConfigError]]:
    """Settings classes by name, and for each entry point that cannot be used the sentence that says why.

    An entry point that does not load matters only to a configuration that names it.
    """
    found: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=GROUP):
        if entry not in found.setdefault(entry.name, []):
            found[entry.name].append(entry)
    usable: dict[str, type[AlgorithmSettings]] = {}
    broken: dict[str, ConfigError] = {}
    for name, entries in sorted(found.items()):
        try:
            usable[name] = _load(name, entries)
        except ConfigError as exc:
            broken[name] = exc
    return usable, broken


def check_installed(name: object) -> None:
    """Tell of an algorithm that is installed but cannot be used.

    Raises:
        ConfigError: `name` is one of these.
    """
    broken = installed_algorithms()[1]
    if isinstance(name, str) and name in broken:
        raise broken[name]


def import_implementation(settings: type[AlgorithmSettings]) -> Any:
    """Import what implements an algorithm, which needs the learner's packages; may raise whatever its module raises.

    Args:
        settings: The algorithm's settings class, which names it.
    """
    module, _, attribute = settings.implementation.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _load(name: str, entries: list[EntryPoint]) -> type[AlgorithmSettings]:
    subject = f"algorithm.name {name!r}"
    values = sorted({entry.value for entry in entries})
    if len(values) > 1:
        raise ConfigError(
            f"{subject}: {len(values)} packages name it in {GROUP} ({', '.join(values)}), expected one; uninstall the "
            "others"
        )
    entry = entries[0]
    by = f"entry point {entry.value} of {entry.dist.name if entry.dist else 'an unknown package'}"
    try:
        settings = entry.load()
    except Exception as exc:  # anything that a stranger's module raises when it is imported
        raise ConfigError(
            f"{subject}: {by} does not load ({type(exc).__name__}: {one_line(str(exc), 300)}); repair or uninstall the "
            "package"
        ) from exc
    if not (isinstance(settings, type) and issubclass(settings, AlgorithmSettings)):
        raise ConfigError(f"{subject}: {by} is {settings!r}, expected a subclass of covey.config.AlgorithmSettings")
    if name not in get_args(settings.model_fields["name"].annotation):
        raise ConfigError(
            f"{subject}: {by} lets `name` be {settings.model_fields['name'].annotation}, expected {name!r}"
        )
    if not isinstance(getattr(settings, "implementation", None), str):
        raise ConfigError(f"{subject}: {by} has no `implementation`, expected 'module:Class' of its Algorithm")
    return settings
