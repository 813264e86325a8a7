"""Translate AgileRL's multi-agent manifests into covey's configuration.

A manifest has one of two forms. The newer one has the same sections as covey's configuration and some further keys; the
older one has the sections `INIT_HP`, `MUTATION_PARAMS` and `NET_CONFIG`. `as_sections` turns the older form into the
newer, and `translate` moves, drops or refuses further keys by the tables of `covey.config.manifest_keys`. A key that no
table knows stays where it is, so that validation names it; a key that a manifest leaves out has covey's default.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from covey.config.algorithm import OffPolicyAlgorithm
from covey.config.installed_algorithms import installed_algorithms
from covey.config.manifest_keys import OLDER, RULES, Dropped, Ignored, Moved, Refused, Rule
from covey.config.section import nearest
from covey.errors import ConfigError

logger = logging.getLogger("covey")

Data = dict[str, Any]
"""A configuration or a section of it, as YAML gives it: nested dictionaries."""

SECTIONS = ("INIT_HP", "MUTATION_PARAMS")
"""Sections of the older form whose keys are translated one by one."""

_NETWORK_SECTIONS = ("encoder_config", "cnn_config", "mlp_config", "head_config")
"""Sections inside the description of one network."""


def as_sections(data: Mapping[str, Any]) -> Data:
    """Turn a manifest of the older form into the newer one; a file without sections of the older form is copied.

    One file may hold keys of both forms. MADDPG and MATD3 have two learning rates: for them `LR`, and "lr" in
    `RL_HP_SELECTION`, mean both `lr_actor` and `lr_critic`.

    Raises:
        ConfigError: a key that the older form does not have, a key given twice, or a hyperparameter in
            `RL_HP_SELECTION` without a smallest or largest value.
    """
    older = {k: v for k, v in data.items() if k in SECTIONS or k in OLDER}
    if not older:
        return dict(data)
    result: Data = {k: _copied(v) for k, v in data.items() if k not in older}
    given = dict(_flat(older))
    algorithm = given.get("INIT_HP.ALGO")
    usable = installed_algorithms()[0]
    own = usable.get(str(algorithm), OffPolicyAlgorithm).model_fields
    two_rates = "lr" not in own
    every = {name for settings in usable.values() for name in settings.model_fields}
    absent = Ignored(instead=f"{algorithm} has no such hyperparameter")
    known: dict[str, str | Rule | Sequence[str]] = {
        **{f"INIT_HP.{name.upper()}": absent for name in every - own.keys()},
        **{f"INIT_HP.{name.upper()}": f"algorithm.{name}" for name in own if name != "name"},
        **({"INIT_HP.LR": ("algorithm.lr_actor", "algorithm.lr_critic")} if two_rates else {}),
        **OLDER,
    }
    left_out: list[tuple[str, str]] = []
    given, ranges = _ranges(given, two_rates, left_out)
    for path, value in [*given.items(), *ranges.items()]:
        target = path if path in ranges else known.get(path)
        match target:
            case None:
                raise ConfigError(f"{path}: unknown key{_nearest_key(path, known)}")
            case Ignored():
                left_out.append((path, target.instead))
            case Refused():
                raise ConfigError(f"{path}: {value!r} has no meaning here; {target.instead}")
            case str():
                _put(result, target, value, path)
            case Sequence():
                for each in target:
                    if f"INIT_HP.{each.rpartition('.')[2].upper()}" not in given:
                        _put(result, each, value, path)
    _warn(left_out)
    return result


def translate(data: Mapping[str, Any]) -> Data:
    """Replace AgileRL's keys by covey's, and warn of those that are left out.

    Of AgileRL's keys, those without a value (null, or an empty list) are dropped silently.

    Raises:
        ConfigError: a value asks for something that covey does not have, or a key is given under two names.
    """
    moves: list[tuple[str, Moved, Any]] = []
    left_out: list[tuple[str, str]] = []
    result = _kept(data, (), moves, left_out)
    for path, rule, value in moves:
        new = value if rule.values is None else rule.values.get(value, value)
        if new is None:
            continue
        if rule.clash == "yields" and _get(result, rule.to) is not None:
            continue
        if rule.clash == "wins":
            _put(result, rule.to, None, path, over=True)
        # A section under another name may itself hold keys to translate.
        if isinstance(new, Mapping):
            new = _kept({rule.to: new}, (), moves, left_out)[rule.to]
        _put(result, rule.to, new, path)
    _warn(left_out)
    return result


def _kept(
    data: Mapping[str, Any],
    prefix: tuple[str, ...],
    moves: list[tuple[str, Moved, Any]],
    left_out: list[tuple[str, str]],
) -> Data:
    """Copy a section without the keys that have a rule, which are noted in `moves` and `left_out`.

    Args:
        data: The section.
        prefix: Path of the section; empty for the whole file.
        moves: Gets the path, rule and value of each key that belongs elsewhere.
        left_out: Gets the path of each key that is left out, and the clause that says what happens instead.

    Raises:
        ConfigError: a value asks for something that covey does not have.
    """
    result: Data = {}
    for key, value in data.items():
        path = (*prefix, str(key))
        dotted = ".".join(path)
        rules = RULES.get(_pattern(path), ())
        rule = next(
            (r for r in (rules if isinstance(rules, tuple) else (rules,)) if not r.when or value in r.when), None
        )
        if rule is None:
            result[key] = _kept(value, path, moves, left_out) if isinstance(value, Mapping) else value
        elif value is None or value == [] or isinstance(rule, Dropped):
            continue
        elif isinstance(rule, Moved):
            to = ".".join((*prefix, rule.to[1:])) if rule.to.startswith(".") else rule.to
            moves.append((dotted, replace(rule, to=to), value))
        elif isinstance(rule, Ignored):
            left_out.append((dotted, rule.instead))
        elif isinstance(rule, Refused):
            raise ConfigError(f"{dotted}: {value!r}: not supported; {rule.instead}")
    return result


def _pattern(path: tuple[str, ...]) -> str:
    """The path as `RULES` has it: under `network`, without the id of an agent or group."""
    if path[0] != "network" or len(path) < 3 or "options" in path[1:-1]:  # a stranger's keys are its own
        return ".".join(path)
    return ".".join(["network", *path[-2:]] if path[-2] in _NETWORK_SECTIONS else ["network", path[-1]])


def _ranges(given: Data, two_rates: bool, left_out: list[tuple[str, str]]) -> tuple[Data, Data]:
    """Split the older form's keys into ranges of hyperparameters and the rest.

    `RL_HP_SELECTION` lists hyperparameters by name, and `MIN_<NAME>` and `MAX_<NAME>` are their ranges.

    Args:
        given: Values by path, such as "MUTATION_PARAMS.MIN_LR".
        two_rates: Whether the algorithm has learning rates of its own for policies and critics.
        left_out: Gets the ranges of hyperparameters that the list does not name.

    Returns:
        The values that are no ranges, and the ranges by their path in the newer form.

    Raises:
        ConfigError: the list is not a list, or a hyperparameter in it lacks its smallest or largest value.
    """
    prefix = "MUTATION_PARAMS."
    bounds = {k.removeprefix(prefix): v for k, v in given.items() if k.startswith((prefix + "MIN_", prefix + "MAX_"))}
    rest = {k: v for k, v in given.items() if k.removeprefix(prefix) not in bounds}
    selection = rest.pop(prefix + "RL_HP_SELECTION", [])
    if not isinstance(selection, list):
        raise ConfigError(f"{prefix}RL_HP_SELECTION: {selection!r}: expected a list of hyperparameters")
    ranges: Data = {}
    used: set[str] = set()
    for name in map(str, selection):
        for target in ("lr_actor", "lr_critic") if name == "lr" and two_rates else (name,):
            for end in ("min", "max"):
                candidates = [f"{end}_{n}".upper() for n in (target, name)]
                key = next((c for c in candidates if c in bounds), None)
                if key is None:
                    raise ConfigError(
                        f"{prefix}{candidates[-1]}: missing, expected a value: RL_HP_SELECTION has {name}"
                    )
                ranges[f"mutation.rl_hp_selection.{target}.{end}"] = bounds[key]
                used.add(key)
    left_out += [(prefix + k, "RL_HP_SELECTION does not name the hyperparameter") for k in bounds if k not in used]
    return rest, ranges


def _flat(older: Data) -> Iterator[tuple[str, Any]]:
    """Yield the path and value of every key of the older form that has a value."""
    for section, values in older.items():
        if section not in SECTIONS:
            yield section, _copied(values)
        elif isinstance(values, Mapping):
            yield from ((f"{section}.{key}", value) for key, value in values.items() if value is not None)
        elif values is not None:
            raise ConfigError(f"{section}: {values!r}: expected keys such as {section}.{_example(section)}")


def _example(section: str) -> str:
    """A key that the section of the older form may have."""
    return "ENV_NAME" if section == "INIT_HP" else "NO_MUT"


def _nearest_key(path: str, known: Mapping[str, object]) -> str:
    """A clause that suggests the known key closest to an unknown one, or lists those of its section."""
    section, _, key = path.partition(".")
    keys = sorted(k.partition(".")[2] for k in known if k.startswith(section + "."))
    return nearest(key, keys) or f"; expected one of {', '.join(keys)}"


def _copied(value: Any) -> Any:
    """The value with copies of all dictionaries in it."""
    return {k: _copied(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def _get(data: Data, path: str) -> Any:
    """The value at a dotted path; None where there is none."""
    at: Any = data
    for key in path.split("."):
        at = at.get(key) if isinstance(at, Mapping) else None
    return at


def _put(data: Data, path: str, value: Any, source: str, *, over: bool = False) -> None:
    """Set the value at a dotted path, making the sections on the way.

    Args:
        data: The whole configuration.
        path: Where the value belongs.
        value: The value.
        source: The key under which the file gives it, for the error.
        over: Whether a value that is there already is replaced.

    Raises:
        ConfigError: there is a value already, and it is not to be replaced.
    """
    *parents, key = path.split(".")
    at = data
    for parent in parents:
        if not isinstance(at.get(parent), dict):
            at[parent] = {}
        at = at[parent]
    if at.get(key) is not None and not over:
        raise ConfigError(f"{source} is {path} under another name, which is given too; keep one of them")
    at[key] = value


def _warn(left_out: Sequence[tuple[str, str]]) -> None:
    """Log one warning for all keys that are left out for the same reason."""
    for instead in dict.fromkeys(text for _, text in left_out):
        keys = [key for key, text in left_out if text == instead]
        logger.warning("%s: no meaning here, left out: %s", ", ".join(keys), instead)
