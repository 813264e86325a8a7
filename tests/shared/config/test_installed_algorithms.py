"""Algorithms by entry point: what is installed wrongly is one sentence, and only for who names it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.processes import ENVIRONMENT

MODULE = '''
from typing import ClassVar, Literal
from covey.config import AlgorithmSettings

class Good(AlgorithmSettings):
    """An algorithm."""
    implementation: ClassVar[str] = "strangers:Nothing"
    name: Literal["GOOD"]

class OtherName(Good):
    """An algorithm."""
    name: Literal["BETTER"]

class Unfinished(AlgorithmSettings):
    """An algorithm."""
    name: Literal["MINE"]

class NoSettings:
    """No algorithm."""
'''

PROGRAM = """
import sys
from covey.config import parse_config
from covey.errors import ConfigError

def configuration(name):
    return {"algorithm": {"name": name}, "environment": {"name": "x.y"}, "training": {}}

parse_config(configuration("MATD3"))  # whatever else is installed
try:
    config = parse_config(configuration(sys.argv[1]))
    from covey_server.algorithms import ALGORITHMS
    ALGORITHMS[config.algorithm.name]
except ConfigError as exc:
    print(exc)
"""


def complaint(folder: Path, name: str, *values: str) -> str:
    """What covey says to a configuration that names this algorithm, with these entry points of it installed."""
    (folder / "strangers.py").write_text(MODULE)
    for number, value in enumerate(values):
        info = folder / f"stranger{number}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: stranger{number}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[covey.algorithms]\n{name} = {value}\n")
    environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join([str(folder), ENVIRONMENT["PYTHONPATH"]])}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, name], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        (
            "MINE",
            ["nowhere:Settings"],
            "algorithm.name 'MINE': entry point nowhere:Settings of stranger0 does not load (ModuleNotFoundError: No "
            "module named 'nowhere'); repair or uninstall the package",
        ),
        (
            "MINE",
            ["strangers:NoSettings"],
            "algorithm.name 'MINE': entry point strangers:NoSettings of stranger0 is <class 'strangers.NoSettings'>, "
            "expected a subclass of covey.config.AlgorithmSettings",
        ),
        (
            "MINE",
            ["strangers:OtherName"],
            "algorithm.name 'MINE': entry point strangers:OtherName of stranger0 lets `name` be "
            "typing.Literal['BETTER'], expected 'MINE'",
        ),
        (
            "MINE",
            ["strangers:Unfinished"],
            "algorithm.name 'MINE': entry point strangers:Unfinished of stranger0 has no `implementation`, expected "
            "'module:Class' of its Algorithm",
        ),
        (
            "GOOD",
            ["strangers:Good", "strangers:OtherName"],
            "algorithm.name 'GOOD': 2 packages name it in covey.algorithms (strangers:Good, strangers:OtherName), "
            "expected one; uninstall the others",
        ),
        (
            "GOOD",
            ["strangers:Good"],
            "algorithm.name 'GOOD': implementation 'strangers:Nothing' does not load (AttributeError: module "
            "'strangers' has no attribute 'Nothing'); repair or uninstall its package",
        ),
        (
            "OTHER",
            [],
            "algorithm.name: 'OTHER': expected one of 'IPPO', 'MADDPG', 'MAPPO', 'MASAC', 'MATD3', 'PQN', 'QMIX', "
            "'VDN'",
        ),
    ],
    ids=["import", "class", "name", "implementation", "clash", "learner", "unknown"],
)
def test_what_cannot_be_used_is_one_sentence(tmp_path: Path, name: str, values: list[str], sentence: str) -> None:
    assert complaint(tmp_path, name, *values) == sentence
