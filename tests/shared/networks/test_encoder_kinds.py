"""Kinds of encoders by entry point: a stranger's kind is configured, computed and read back; a broken one is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.processes import ENVIRONMENT

MODULE = '''
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from covey.networks import MLP

@dataclass(frozen=True, slots=True, kw_only=True)
class Calm(MLP):
    """An MLP whose outputs are halved."""

    kind: ClassVar[str] = "calm"

    def apply(self, ops, params, prefix, x, valid, activations):
        return MLP.apply(self, ops, params, prefix, x, valid, activations) * 0.5

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Calm":
        return Calm(**{k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k != "kind"})
'''

PROGRAM = """
import sys
import numpy as np
from covey.config import NetConfig
from covey.config.encoder_choice import encoder_of
from covey.errors import ConfigError
from covey.networks import MLP, Input, NetworkSpec, NumpyOps
from covey.networks.pack import PackLayout
from covey.spaces import Discrete

config = NetConfig.model_validate({"encoder_config": {"kind": sys.argv[1], "options": {"hidden_size": [4]}}})
try:
    encoder = encoder_of(config.encoder_config, Discrete(3), "network.encoder_config", "agent 'a'")
except ConfigError as exc:
    sys.exit(str(exc))
head = MLP(hidden_size=(), min_hidden_layers=0)
spec = NetworkSpec(inputs=(Input("observation", 3, encoder),), head=head, outputs=2)
spec.check()
assert NetworkSpec.from_json(spec.to_json()) == spec
plain = NetworkSpec(inputs=(Input("observation", 3, MLP(hidden_size=(4,))),), head=head, outputs=2)
assert plain.structure != spec.structure
params, x = spec.init(np.random.default_rng(0)), np.eye(3, dtype=np.float32)
params["head.out.bias"][:] = 0
halved, whole = (its.apply(NumpyOps(), params, [x.copy()]) for its in (spec, plain))
np.testing.assert_allclose(2 * halved, whole, rtol=1e-5)
layout = PackLayout((spec, spec.resized({"encoder.observation.0.units": 6})))
assert layout.padded.inputs[0].encoder.hidden_size == (6,)
print(type(encoder).__name__, encoder.hidden_size)
"""


def asked(folder: Path, kind: str, value: str) -> subprocess.CompletedProcess[str]:
    """What covey makes of a configuration that names a kind of encoder, with one installed by the name `calm`."""
    (folder / "strangers.py").write_text(MODULE)
    info = folder / "stranger-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[covey.encoders]\ncalm = {value}\n")
    environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join([str(folder), ENVIRONMENT["PYTHONPATH"]])}
    command = [sys.executable, "-c", PROGRAM, kind]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_kind_that_a_package_installs_is_one_like_others(tmp_path: Path) -> None:
    done = asked(tmp_path, "calm", "strangers:Calm")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Calm (4,)\n"


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("wild", "strangers:Calm", ["encoder kind 'wild'", "calm, cnn, mlp, multi_input"]),
        ("calm", "strangers:Gone", ["encoder kind 'calm'", "strangers:Gone does not load", "AttributeError"]),
        ("calm", "nowhere:Calm", ["encoder kind 'calm'", "nowhere:Calm does not load", "repair or uninstall"]),
    ],
)
def test_a_kind_that_cannot_be_had_is_told(tmp_path: Path, kind: str, value: str, words: list[str]) -> None:
    done = asked(tmp_path, kind, value)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert all(word in done.stderr for word in words), done.stderr
