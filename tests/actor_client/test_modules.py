"""An actor makes torch modules of networks only where its owner has named them, and says so before it joins."""

from __future__ import annotations

import pytest
from tests.support.running_actors import Running
from tests.support.scripted_learner import ScriptedLearner

from covey.errors import ConfigError
from covey.networks import trusted_modules

MODULE = "tests.support.own_networks:scaled"


@pytest.fixture(autouse=True)
def _nothing_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trusted_modules, "_trusted", [])


@pytest.mark.parametrize(
    ("module", "options", "words"),
    [
        (
            MODULE,
            {},
            f"which this actor does not load; if you trust it, start with --ops torch --allow-module {MODULE}",
        ),
        ("x:$(touch pwned)", {}, "if you trust it, start with --ops torch"),
        ("os:system", {"ops": "torch"}, "is not among those allowed here (none)"),
        (MODULE, {"ops": "torch", "allow_module": ("mine.*",)}, "is not among those allowed here (mine.*)"),
        ("x:$(touch pwned)", {"ops": "torch", "allow_module": ("*",)}, "expected package.module:function"),
    ],
)
def test_what_is_not_allowed_is_not_made(
    learner: ScriptedLearner, module: str, options: dict[str, object], words: str
) -> None:
    learner.network_modules = [module]
    error = Running(learner.address, **options).ended()
    assert isinstance(error, ConfigError) and words in str(error), error
    assert "--allow-module x:$" not in str(error)
    assert learner.joins.empty()


@pytest.mark.parametrize("allowed", [MODULE, "tests.support.own_networks", "tests.*"])
def test_what_is_allowed_is_said_as_it_joins(learner: ScriptedLearner, allowed: str) -> None:
    learner.network_modules = [MODULE]
    running = Running(learner.address, ops="torch", allow_module=(allowed,))
    assert "torch" in learner.join().encoder_kinds
    running.actor.leave("done")
    assert running.ended() is None


def test_others_say_what_they_compute_without_torch(learner: ScriptedLearner) -> None:
    running = Running(learner.address)
    kinds = list(learner.join().encoder_kinds)
    assert {"mlp", "cnn", "multi_input"} <= set(kinds) and "torch" not in kinds
    running.actor.leave("done")
    assert running.ended() is None
