"""Of which kind a test is, is seen in what it reaches, and a unit test that starts something after all fails."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable

import pytest
from tests.support import secured_learner
from tests.support.kinds import kind_of, mentioned


def deep_down() -> str:
    def deeper() -> str:
        return subprocess.__name__

    return deeper()


def by_a_helper() -> str:
    return deep_down()


class Helper:
    def act(self) -> str:
        return by_a_helper()


@pytest.fixture
def by_a_fixture() -> str:
    return by_a_helper()


def test_what_a_helper_starts_counts(request: pytest.FixtureRequest) -> None:
    assert by_a_helper() == "subprocess"
    assert kind_of(request.node) == "process"


def test_what_a_method_starts_counts(request: pytest.FixtureRequest) -> None:
    assert Helper().act() == "subprocess"
    assert kind_of(request.node) == "process"


def test_what_a_fixture_starts_counts(request: pytest.FixtureRequest, by_a_fixture: str) -> None:
    assert by_a_fixture == "subprocess" and kind_of(request.node) == "process"


@pytest.mark.parametrize("act", [by_a_helper])
def test_what_a_parameter_starts_counts(request: pytest.FixtureRequest, act: Callable[[], str]) -> None:
    assert act() == "subprocess" and kind_of(request.node) == "process"


def test_of_a_module_counts_what_is_used_of_it(request: pytest.FixtureRequest) -> None:
    assert len(secured_learner.TOKENS) == 3
    assert kind_of(request.node) == "unit" and "TOKENS" in mentioned(request.node)


def serve() -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))


@pytest.mark.parametrize("act", [lambda: os.system("true"), serve])
def test_a_unit_test_starts_nothing(request: pytest.FixtureRequest, act: Callable[[], object]) -> None:
    assert kind_of(request.node) == "unit"
    with pytest.raises(AssertionError, match=r"test_a_unit_test_starts_nothing.*: is taken for a unit test, but calls"):
        act()
