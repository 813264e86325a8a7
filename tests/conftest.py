"""What holds for all tests: one thread a process, how many examples, and of which kind each test is."""

import os
import sys
from collections.abc import Generator
from typing import Any

# Before anything imports numpy or torch: tests share the cores with the processes that they start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from tests.support.examples import load_profile
from tests.support.kinds import kind_of

load_profile()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test is of exactly one kind: unit, process, learning or engines."""
    for item in items:
        if item.get_closest_marker(kind := kind_of(item)) is None:
            item.add_marker(kind)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none."""
    if item.get_closest_marker("cuda"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs an NVIDIA GPU that torch can use; make gpu runs it on a machine that has one")


_unit: list[str] = []
"""The unit test that runs, if one does."""


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _unit and event in ("subprocess.Popen", "os.fork", "os.posix_spawn", "os.system", "socket.bind"):
        raise AssertionError(
            f"{_unit[0]}: is taken for a unit test, but calls {event}{arguments[:2]}; add the name by which it does so "
            "to STARTERS of tests/support/kinds.py"
        )


sys.addaudithook(_audit)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A unit test, its fixtures included, starts no process and serves nothing."""
    if item.get_closest_marker("unit"):
        _unit.append(item.nodeid)
    try:
        return (yield)
    finally:
        _unit.clear()
