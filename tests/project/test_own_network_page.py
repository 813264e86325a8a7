"""docs/own_network.md: its module and its encoder, as they are printed, are found, computed and mutated."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from covey.config import NetConfig
from covey.config.encoder_choice import encoder_of
from covey.networks import MLP, Encoder, Input, NetworkSpec, NumpyOps
from covey.networks.resize import grow
from covey.networks.torch_module import TorchModule
from covey.spaces import Box

PAGE = (Path(__file__).parents[2] / "docs" / "own_network.md").read_text()
SEEN = Box("float32", (4,), (-1.0,) * 4, (1.0,) * 4)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def configured(text: str) -> Encoder:
    config = NetConfig.model_validate(yaml.safe_load(text)["network"])
    return encoder_of(config.encoder_config, SEEN, "network.encoder_config", "agent 'a'")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's files, where Python finds them, with its entry point."""
    module, _, encoder = blocks("python")
    (tmp_path / "my_networks.py").write_text(module)
    (tmp_path / "my_encoders.py").write_text(encoder)
    info = tmp_path / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (toml,) = blocks("toml")
    (group,), (name, value) = re.findall(r'entry-points."(.*)"\]', toml), re.findall(r'(\w+) = "(.*)"', toml)[0]
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("installed")
def test_the_module_of_the_page_is_an_encoder() -> None:
    found = configured(blocks("yaml")[0])
    assert isinstance(found, TorchModule) and (found.module, found.features) == ("my_networks:network", 128)


@pytest.mark.usefixtures("installed")
def test_the_encoder_of_the_page_computes_and_grows() -> None:
    found = configured(blocks("yaml")[1])
    assert found.kind == "halved"
    spec, plain = (
        NetworkSpec(inputs=(Input("observation", 4, encoder),), head=MLP(hidden_size=(8,)), outputs=2)
        for encoder in (found, MLP(hidden_size=(64,)))
    )
    assert NetworkSpec.from_json(spec.to_json()) == spec
    params = spec.init(np.random.default_rng(0))
    x = np.random.default_rng(1).random((3, 4)).astype(np.float32)
    y = spec.apply(NumpyOps(), params, [x])
    np.testing.assert_allclose(y, plain.apply(NumpyOps(), params, [x / 2]), rtol=1e-5)
    more = grow(spec, "encoder.observation.0.units", 3, np.random.default_rng(2))
    np.testing.assert_allclose(more.spec.apply(NumpyOps(), more.weights(params), [x]), y, rtol=1e-4, atol=1e-6)
