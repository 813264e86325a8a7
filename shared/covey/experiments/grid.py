"""What a sweep trains: the combinations of the values that `--set` lists, each with every seed of `--seeds`."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import yaml

from covey.config.yaml_text import parse_yaml
from covey.errors import ConfigError

SEED = "training.seed"

MOST_RUNS = 10_000
"""Most runs of a sweep."""

MOST_NAME_BYTES = 200
"""Longest name of a run's directory; a longer one is cut, and ends in a part of its hash."""

_SEEDS = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")


@dataclass(frozen=True, slots=True)
class Combination:
    """One run of a sweep: a value for each key that the sweep varies, and a seed.

    Attributes:
        settings: Pairs of a dotted key of the configuration and its value, in the order of the command line.
        seed: Value of `training.seed`.
    """

    settings: tuple[tuple[str, Any], ...]
    seed: int

    @property
    def name(self) -> str:
        """Name of the run's directory, such as "algorithm.lr=0.001,seed=3"."""
        words = [f"{key}={value_text(value)}" for key, value in self.settings]
        name = ",".join([*words, f"seed={self.seed}"])
        if len(name) <= MOST_NAME_BYTES:
            return name
        return f"{name[: MOST_NAME_BYTES - 40]}~{hashlib.sha256(name.encode()).hexdigest()[:8]},seed={self.seed}"

    @property
    def overrides(self) -> list[str]:
        """The combination as values of `--set`."""
        return [override(key, value) for key, value in (*self.settings, (SEED, self.seed))]


def value_text(value: Any) -> str:
    """A value as a part of a directory's name: what a path or a separator would be is escaped as in URLs."""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return quote(text, safe="[]{},:+-._" if not isinstance(value, str) else "+-._")


def override(key: str, value: Any) -> str:
    """A key and its value as `--set` takes them. YAML's own writer is used: JSON's 1e-05 is a text in YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, width=1 << 20, allow_unicode=True)
    return f"{key}={text.removesuffix('...' + chr(10)).strip()}"


def parse_seeds(text: str) -> list[int]:
    """Read the value of `--seeds`, such as "0-9" or "0,3,10-12"; returns the seeds in rising order.

    Raises:
        ConfigError: it has another form, names a seed twice, or names too many.
    """
    seeds: list[int] = []
    for part in text.split(","):
        found = _SEEDS.fullmatch(part.strip())
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if first > last:
            raise ConfigError(
                f"--seeds {text[:40]}: expected numbers and ranges of rising numbers, such as 0-9 or 0,2,5-7"
            )
        if len(seeds) + last - first >= MOST_RUNS:
            raise ConfigError(f"--seeds {text[:40]}: expected at most {MOST_RUNS:,} seeds; name fewer")
        seeds.extend(range(first, last + 1))
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds {text[:40]} names a seed twice, expected each once; leave one out")
    return sorted(seeds)


def parse_values(options: Sequence[str]) -> dict[str, list[Any]]:
    """Read the values of `--set`, each "section.key=V1,V2"; returns the list of values by key.

    Values are YAML. A comma inside brackets, braces or quotes belongs to the value: `[64,64],[32]` are two.

    Raises:
        ConfigError: a value has another form, a key is given twice or is the seed, or a value stands twice.
    """
    chosen: dict[str, list[Any]] = {}
    for option in options:
        key, equals, text = option.partition("=")
        if not equals or not key or not text.strip():
            raise ConfigError(f"--set {option}: expected section.key=VALUE or section.key=V1,V2")
        if key == SEED:
            raise ConfigError(f"--set {option}: the seed is given by --seeds, expected another key; write --seeds 0-9")
        if key in chosen:
            raise ConfigError(f"--set {option}: {key} is given twice, expected once; list its values as {key}=V1,V2")
        if re.fullmatch(r"\s*[-+0-9.eE]+\.\.[-+0-9.eE]+\s*", text):
            raise ConfigError(
                f"--set {option}: a range is for Optuna alone, expected values; list them, or add --optuna"
            )
        values = parse_yaml(f"[{text}]", f"--set {option}")
        texts = [json.dumps(value, sort_keys=True) for value in values]
        if len(set(texts)) < len(texts):
            raise ConfigError(f"--set {option}: a value stands twice, expected each once; leave one out")
        chosen[key] = values
    return chosen


def combinations(varied: Mapping[str, Sequence[Any]], seeds: Iterable[int]) -> list[Combination]:
    """Every combination of the values, each with every seed: all settings of the first seed come first.

    Args:
        varied: Values by key.
        seeds: The seeds.

    Raises:
        ConfigError: there are more than `MOST_RUNS`.
    """
    seeds = list(seeds)
    count = len(seeds)
    for values in varied.values():
        count *= len(values)
    if count > MOST_RUNS:
        raise ConfigError(f"--set and --seeds make {count:,} runs, expected at most {MOST_RUNS:,}; name fewer values")
    return [
        Combination(tuple(zip(varied, values, strict=True)), seed)
        for seed in seeds
        for values in itertools.product(*varied.values())
    ]
