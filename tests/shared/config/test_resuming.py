"""Comparing a stored configuration with the one that a run is resumed with: changes allowed, applied, refused."""

from __future__ import annotations

from typing import Any

import pytest

from covey.config import Config, parse_config
from covey.config.resuming import changes
from covey.config.section import OnResume
from covey.errors import ConfigError


def config(**sections: dict[str, Any]) -> Config:
    base: dict[str, Any] = {
        "algorithm": {"name": "MATD3"},
        "environment": {"name": "mpe2.simple_v3"},
        "training": {},
    }
    return parse_config({key: {**base.get(key, {}), **sections.get(key, {})} for key in {**base, **sections}})


def test_equal_configurations_have_no_changes() -> None:
    assert changes(config(), config(training={"max_steps": 1_000_000})) == []


@pytest.mark.parametrize(
    ("section", "key", "value", "kind"),
    [
        ("training", "max_steps", 7, OnResume.APPLIES),
        ("training", "target_score", -1.5, OnResume.APPLIES),
        ("actors", "local", 5, OnResume.APPLIES),
        ("algorithm", "theta", 0.3, OnResume.APPLIES),
        ("algorithm", "batch_size", 7, OnResume.MEMBERS),
        ("algorithm", "policy_freq", 3, OnResume.MEMBERS),
    ],
)
def test_a_change_is_told_with_what_becomes_of_it(section: str, key: str, value: object, kind: OnResume) -> None:
    before = config()
    (change,) = changes(before, config(**{section: {key: value}}))
    assert (change.key, change.after, change.kind) == (f"{section}.{key}", value, kind)
    was = getattr(getattr(before, section), key)
    assert str(change) == f"{section}.{key} {'null' if was is None else was} -> {value}"


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"training": {"pop_size": 9}}, "training.pop_size"),
        ({"training": {"evo_steps": 9}}, "training.evo_steps"),
        ({"algorithm": {"name": "IPPO"}}, "algorithm.name"),
        ({"algorithm": {"share_parameters": True}}, "algorithm.share_parameters"),
        ({"network": {"latent_dim": 8}}, "network"),
        ({"evolution": {"mode": "steady_state"}}, "evolution.mode"),
        ({"environment": {"groups": {"a": ["agent_0"]}}}, "environment.groups"),
    ],
)
def test_what_members_are_made_of_cannot_change(sections: dict[str, dict[str, Any]], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{key}: .*expected .*cannot change as a run is resumed"):
        changes(config(), config(**sections))
