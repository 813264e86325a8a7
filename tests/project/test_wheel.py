"""The source distribution and the wheel: what is in them, and that a stranger's machine trains by the wheel alone."""

from __future__ import annotations

import json
import re
import shutil
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.distributions import ROOT, faults, source_of, wheel_of
from tests.support.stranger import Stranger, build_distributions

import covey

PAGE = (ROOT / "docs" / "package.md").read_text()

NOTED = """
import pathlib, time
from mpe2 import simple_speaker_listener_v4

NOTE = pathlib.Path(__file__).with_name("first_step")

def parallel_env(**config):
    env = simple_speaker_listener_v4.parallel_env(**config)
    step = env.step

    def noted(actions):
        result = step(actions)
        if not NOTE.exists():
            NOTE.write_text(repr(time.time()))
        return result

    env.step = noted
    return env
"""
"""The page's environment; the first step of any copy is noted with its time."""


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both, built as `make dist` builds them."""
    folder = tmp_path_factory.mktemp("dist")
    build_distributions(folder)
    return folder


def block(language: str) -> str:
    """The one block of code in this language on the package's page."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def installed_mb(environment: Path) -> float:
    """Megabytes of all files in an environment, compiled modules included."""
    return sum(p.lstat().st_size for p in environment.rglob("*")) / 1e6


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[Stranger]:
    """The environment, which is removed afterwards: it has more than a gigabyte, and pytest keeps what tests leave."""
    made = Stranger(tmp_path)
    yield made
    shutil.rmtree(made.environment)


def test_distributions_hold_what_they_must_and_nothing_else(distributions: Path) -> None:
    assert faults(distributions) == []


def test_what_is_missing_or_too_much_is_found(distributions: Path, tmp_path: Path) -> None:
    marker = f"covey_marl-{covey.__version__}.dist-info"
    with (
        zipfile.ZipFile(wheel_of(distributions)) as wheel,
        zipfile.ZipFile(tmp_path / wheel_of(distributions).name, "w") as spoilt,
    ):
        for name in wheel.namelist():
            if name not in ("covey/py.typed", f"{marker}/licenses/LICENSE"):
                spoilt.writestr(name, wheel.read(name))
        spoilt.writestr("tests/__init__.py", "")
    (tmp_path / "runs").mkdir()
    with tarfile.open(tmp_path / source_of(distributions).name, "w:gz") as archive:
        archive.add(tmp_path / "runs", arcname=f"covey_marl-{covey.__version__}/runs")
    found = "\n".join(faults(tmp_path))
    for expected in (
        "covey/py.typed is missing",
        "licenses/LICENSE is missing",
        "tests/__init__.py is too much",
        "tar.gz: LICENSE is missing",
        "tar.gz: shared/covey/__init__.py is missing",
        "tar.gz: runs is too much",
    ):
        assert expected in found


@pytest.mark.engines
@pytest.mark.timeout(900)
def test_a_stranger_trains_by_the_wheel_alone(
    distributions: Path, stranger: Stranger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty_mb = installed_mb(stranger.environment)
    stranger.install(wheel_of(distributions))
    actor_mb = installed_mb(stranger.environment) - empty_mb

    assert stranger.covey("--version") == f"covey {covey.__version__}\n"
    where = stranger.python("import covey, covey_actor, covey_server; print(covey.__file__)")
    assert where.startswith(str(stranger.environment))
    (tmp_path / "job.yaml").write_text(block("yaml"))
    assert "pip install 'covey-marl[learner]'" in stranger.covey("train", "job.yaml", code=2)

    stranger.install(wheel_of(distributions), "[learner,mpe]")
    learner_mb = installed_mb(stranger.environment) - empty_mb

    (tmp_path / "noted.py").write_text(NOTED)
    smaller = (
        "environment.name=noted",
        "training.max_steps=400",
        "training.evo_steps=200",
        "training.confirm_episodes=2",
    )
    overrides = [part for override in smaller for part in ("--set", override)]
    started = time.time()
    result = stranger.covey("train", "job.yaml", "--json", *overrides, variables={"PYTHONPATH": str(tmp_path)})
    trained_s = time.time() - started
    first_step_s = float((tmp_path / "first_step").read_text()) - started
    run = json.loads(result.splitlines()[0])
    assert (run["state"], run["generations"], run["env_steps"]) == ("complete", 2, 1600)

    assert json.loads(stranger.covey("status", run["run_dir"], "--json"))["state"] == "complete"
    stranger.covey("export", run["run_dir"], "--out", "policy")
    stranger.python(block("python"))
    with capsys.disabled():
        print(
            f"\ninstalled: {actor_mb:.0f} MB without extras, {learner_mb:.0f} MB with [learner,mpe]; "
            f"first env step after {first_step_s:.1f} s, training over after {trained_s:.1f} s"
        )
