"""AgileRL's multi-agent manifests, as the configuration that they describe.

There are two forms: sections as covey's own, with further keys, and an older one with `INIT_HP`, `MUTATION_PARAMS` and
`NET_CONFIG`. What becomes of the keys that covey does not have is a table, `covey.config.manifest_keys`; a key that a
manifest leaves out has covey's default. Keys that no table knows go on to validation, which names them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from covey.config.algorithm import OffPolicyAlgorithm
from covey.config.installed_algorithms import installed_algorithms
from covey.config.manifest_keys import OLDER, RULES, Dropped, Ignored, Moved, Refused, Rule
from covey.config.section import nearest
from covey.errors import ConfigError

logger = logging.getLogger("covey")

Data = dict[str, Any]

SECTIONS = ("INIT_HP", "MUTATION_PARAMS")
_PARTS = ("encoder_config", "head_config")


def as_sections(data: Mapping[str, Any]) -> Data:
    """A manifest of the older form in sections; others are returned as they are.

    Keys of both forms may stand in one file. "lr" among the hyperparameters that mutate, and `LR`, are both learning
    rates of MADDPG and MATD3.

    Raises:
        ConfigError: a key that the form does not have, one given twice, or a hyperparameter without a range.
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
                raise ConfigError(f"{path}: {value!r}: has no meaning here; {target.instead}")
            case str():
                _put(result, target, value, path)
            case Sequence():
                for each in target:
                    if f"INIT_HP.{each.rpartition('.')[2].upper()}" not in given:
                        _put(result, each, value, path)
    _warn(left_out)
    return result


def translate(data: Mapping[str, Any]) -> Data:
    """Sections as covey has them, with a warning for what is left out.

    Keys without a value are as if they were not there.

    Raises:
        ConfigError: a value that asks for what there is not, or a key that is given under two names.
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
        # A whole section under another name may itself hold keys to translate.
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
    """What stays where it is; the rest goes to `moves` and `left_out`."""
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
            moves.append((dotted, rule, value))
        elif isinstance(rule, Ignored):
            left_out.append((dotted, rule.instead))
        elif isinstance(rule, Refused):
            raise ConfigError(f"{dotted}: {value!r}: not supported; {rule.instead}")
    return result


def _pattern(path: tuple[str, ...]) -> str:
    """The path without the id of an agent or group under `network`."""
    if path[0] != "network" or len(path) < 3:
        return ".".join(path)
    return ".".join(["network", *path[-2:]] if path[-2] in _PARTS else ["network", path[-1]])


def _ranges(given: Data, two_rates: bool, left_out: list[tuple[str, str]]) -> tuple[Data, Data]:
    """Ranges of the hyperparameters in RL_HP_SELECTION by path, and the other keys."""
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
    """Keys with values, by path."""
    for section, values in older.items():
        if section not in SECTIONS:
            yield section, _copied(values)
        elif isinstance(values, Mapping):
            yield from ((f"{section}.{key}", value) for key, value in values.items() if value is not None)
        elif values is not None:
            raise ConfigError(f"{section}: {values!r}: expected keys such as {section}.{_example(section)}")


def _example(section: str) -> str:
    return "ENV_NAME" if section == "INIT_HP" else "NO_MUT"


def _nearest_key(path: str, known: Mapping[str, object]) -> str:
    section, _, key = path.partition(".")
    keys = sorted(k.partition(".")[2] for k in known if k.startswith(section + "."))
    return nearest(key, keys) or f"; expected one of {', '.join(keys)}"


def _copied(value: Any) -> Any:
    return {k: _copied(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def _get(data: Data, path: str) -> Any:
    at: Any = data
    for part in path.split("."):
        at = at.get(part) if isinstance(at, Mapping) else None
    return at


def _put(data: Data, path: str, value: Any, source: str, *, over: bool = False) -> None:
    """Set a nested key.

    Raises:
        ConfigError: it has a value already.
    """
    *parents, key = path.split(".")
    at = data
    for parent in parents:
        if not isinstance(at.get(parent), dict):
            at[parent] = {}
        at = at[parent]
    if at.get(key) is not None and not over:
        raise ConfigError(f"{source}: is {path} under another name, which is given too; keep one of them")
    at[key] = value


def _warn(left_out: Sequence[tuple[str, str]]) -> None:
    """One warning for the keys that have the same answer."""
    for instead in dict.fromkeys(text for _, text in left_out):
        keys = [key for key, text in left_out if text == instead]
        logger.warning("%s: no meaning here, left out: %s", ", ".join(keys), instead)
