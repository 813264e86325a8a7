"""What a learner may make an actor import and call: environments of three packages, and nothing else unasked."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import mpe2
import pettingzoo
import pytest

import covey.envs.mpe
from covey.envs import allowed, load_environment
from covey.errors import EnvironmentLoadError

ROOT = Path(__file__).parents[3]


def modules() -> Iterator[str]:
    """Every module of the packages, those too that need something which is not installed."""
    for package in (pettingzoo, mpe2, covey.envs.mpe):
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + ".", onerror=lambda _: None):
            yield found.name


def entry_points() -> Iterator[str]:
    """Everything in the packages that can be called."""
    for name in modules():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                module = importlib.import_module(name)
            except ImportError:
                continue
        for attribute, value in vars(module).items():
            if callable(value):
                yield f"{name}:{attribute}"


@pytest.mark.filterwarnings("ignore")  # of environments' own packages
def test_nothing_of_the_allowed_packages_can_be_called_but_environments() -> None:
    found = list(entry_points())
    called = [e for e in found if allowed(e)]
    assert len(found) > 500 and len(called) > 40
    for entry_point in called:
        try:
            env = load_environment(entry_point, {})()  # fails for what is no environment
        except EnvironmentLoadError as exc:
            assert "depends on OpenSpiel" in str(exc), exc  # an environment, whose engine is not installed
            continue
        assert env.possible_agents
        env.close()


def test_all_environment_modules_are_allowed_and_no_others() -> None:
    versioned = {m for m in modules() if re.fullmatch(r".*_v\d+", m) and ".test." not in m}
    assert {m for m in modules() if allowed(m)} == versioned
    assert len([m for m in versioned if m.startswith("pettingzoo.atari.")]) > 20  # not even installed here


def test_every_environment_that_the_tests_and_pages_train_in_stays_allowed() -> None:
    folders = ("tests", "examples", "benchmarks", "docs")
    files = {p for d in folders for ext in ("py", "yaml", "md") for p in (ROOT / d).rglob(f"*.{ext}")}
    texts = [p.read_text() for p in files - {Path(__file__)}]
    named = {name for text in texts for name in re.findall(r"\b(?:pettingzoo\.\w+|mpe2)\.\w+_v\d+\b", text)}
    assert {"mpe2.simple_spread_v3", "pettingzoo.classic.tictactoe_v3", "pettingzoo.sisl.multiwalker_v9"} <= named
    assert [name for name in named if not allowed(name) or not allowed(f"{name}:env")] == []


@pytest.mark.parametrize(
    "entry_point",
    [
        *("os:system", "mpe2", "mpe2_evil.simple_v3", "mpe2.x:os.system", "mpe2.simple_v3:parallel_env.x", "", ":env"),
        *("pettingzoo.env_registry.spec:_load_env_creator", "pettingzoo.test.seed_test:env", "pettingzoo.a.b_v1"),
        *("mpe2.simple_v3:make_env", "mpe2.simple_v3.x_v1", "mpe2.simple_v3\n", "pettingzoo.classic.all_modules"),
        *("mpe2.simple.simple:env", "mpe2.simple_v٣", "evil.mpe2.simple_v3", "pettingzoo.mpe.all_modules:env"),
        *("covey.envs.mpe", "covey.envs.mpe.task", "covey.envs.mpe.task:Task", "covey.envs.mpe.simple_spread_v4"),
        *("covey.envs.mpe.simple_spread_v3:Spread", "covey.envs.mpe.simple_spread_v3:parallel_env.x", "covey.envs"),
        *(
            "covey.envs.mpe.simple_spread_v3:check_arguments",
            "covey.envs.mpe.simple_spread_v3.x",
            "covey.envs.mpe:TASKS",
        ),
    ],
)
def test_what_is_no_environment_of_the_libraries_is_not_allowed(entry_point: str) -> None:
    assert not allowed(entry_point)


def test_patterns_are_what_the_actors_owner_trusts() -> None:
    counter = "tests.support.environments:counter"
    assert not allowed(counter)
    for pattern in ("tests.support.environments", counter, "tests.*", "tests.support.env*", "*:counter"):
        assert allowed(counter, (pattern,))
    assert not allowed("tests.support.environments:aec", (counter,))
    assert not allowed("tests_evil:aec", ("tests.*",))
    assert allowed("pettingzoo.mpe.simple_push_v3") and allowed("mpe2.x:y", ("pettingzoo.mpe.x:y",))


def test_the_decision_imports_nothing(tmp_path: Path) -> None:
    (tmp_path / "meet_game.py").write_text("raise SystemExit('imported')\n")
    (tmp_path / "pettingzoo").mkdir()
    (tmp_path / "pettingzoo" / "__init__.py").write_text("raise SystemExit('imported')\n")
    ask = "from covey.envs import allowed; print(allowed('meet_game:make', ['meet_game*']), allowed('meet_game:make'), "
    ask += "allowed('pettingzoo.classic.chess_v6'), allowed('pettingzoo.utils.env_logger:EnvLogger'))"
    done = subprocess.run([sys.executable, "-c", ask], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "True", "False"]
