"""Environments of other packages are played through their adapters, in an environment that has these packages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.distributions import ROOT, wheel_of
from tests.support.stranger import Stranger, build_distributions

PACKAGES = ("lbforaging", "rware", "overcooked", "laser-learning-environment", "vmas", "jaxmarl", "torch==2.13.0")
TESTS = ROOT / "tests" / "shared" / "envs" / "adapters" / "packages.py"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Stranger]:
    """A machine with the packages, covey's wheel and what runs tests."""
    build_distributions(tmp_path / "dist")
    made = Stranger(tmp_path)
    made.install(wheel_of(tmp_path / "dist"))
    made.pip("-c", str(ROOT / "constraints.txt"), *PACKAGES, "pytest", "pytest-timeout", "hypothesis", "psutil")
    yield made
    shutil.rmtree(made.environment)


@pytest.mark.engines
@pytest.mark.timeout(900)
def test_their_environments_are_adapted(machine: Stranger) -> None:
    python = str(machine.environment / "bin" / "python")
    settings = ("-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider")
    assert "12 passed" in machine.run(python, "-m", "pytest", "-q", *settings, str(TESTS))
