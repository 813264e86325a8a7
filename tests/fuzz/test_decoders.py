"""Every decoder, a few hostile inputs each; `make fuzz N=1000000` tries as many as one likes."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.target import Target, attempt, check_sentence
from tests.fuzz.targets import TARGETS
from tests.fuzz.text import YAMLS
from tests.support.examples import examples

from covey.config import load_config
from covey.errors import ConfigError, CoveyError
from covey.networks import NetworkSpec
from covey.wire.channel import parse_address
from covey.wire.policy_file import decode_policy


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@examples(0.25)
@given(rng=st.randoms(use_true_random=False))
def test_hostile_input_is_refused_in_a_sentence_or_taken_whole(target: Target, rng: Random) -> None:
    attempt(target, target.make(rng))


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_what_is_tried_is_sometimes_taken_and_sometimes_refused(target: Target) -> None:
    outcomes = set()
    for seed in range(400):
        outcomes.add(attempt(target, target.make(Random(seed))))
        if len(outcomes) > 1 and "taken" in outcomes:
            return
    pytest.fail(f"only {outcomes}: the inputs do not reach what is to be tried")


@pytest.mark.parametrize(
    "text", [pytest.param(y, id=str(i), marks=pytest.mark.slow if len(y) > 1000 else ()) for i, y in enumerate(YAMLS)]
)
def test_yaml_that_grows_loops_or_means_something_else(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    check_sentence(str(caught.value))


def test_a_small_specification_cannot_ask_for_much_memory() -> None:
    encoder = {"kind": "mlp", "hidden_size": [1]}
    one = {"name": "a", "width": 1, "copies": 1 << 26, "encoder": encoder}
    sizes = {"outputs": 1, "extra": 0, "latent_dim": 1, "min_latent_dim": 1, "max_latent_dim": 1}
    spec: dict[str, Any] = {"inputs": [one | {"copies": 1}], "head": {}, **sizes, "output_gain": 1, "log_std": None}
    NetworkSpec.from_json(spec)
    for change in (
        {"inputs": [one]},
        {"inputs": [one | {"name": str(i)} for i in range(1000)]},
        {"extra": 1 << 62, "head": {"hidden_size": [4]}},  # 2^64 weights: 0 in 64 bits
        {"outputs": 1 << 26, "head": {"hidden_size": [1 << 26]}},
    ):
        with pytest.raises(ConfigError):
            NetworkSpec.from_json(spec | change)


@pytest.mark.parametrize("text", ["host:" + "9" * 5000, "x" * 100_000 + ":1", "h:-1", "h:\u0663"])
def test_addresses_of_any_length_are_answered_in_a_sentence(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        if parse_address(text):
            raise ConfigError("taken, as it has the form of one")
    check_sentence(str(caught.value))


def test_no_sentence_is_endless_or_moves_the_cursor() -> None:
    with pytest.raises(CoveyError) as caught:
        decode_policy(b"\x02" + bytes(7) + b"{}")
    check_sentence(str(caught.value))
    shown = str(CoveyError("agent 'a\x1b[2J\n' " + "x" * 1_000_000))
    assert shown.startswith("agent 'a [2J '") and shown.isprintable() and len(shown) <= 1500
