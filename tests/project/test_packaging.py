"""What a stranger reads before any code: versions, licence, the files of the code host."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import version

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from tests.support.distributions import ROOT

import covey

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = {
    canonicalize_name(name): Version(number)
    for name, number in re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
}


def test_the_version_stands_once_and_an_installed_package_agrees() -> None:
    assert "version" not in PROJECT and "version" in PROJECT["dynamic"]
    assert version("covey-marl") == covey.__version__


def test_the_version_costs_no_import() -> None:
    code = "import sys, covey; covey.__version__; print(*{'numpy', 'pettingzoo', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == ""


def test_the_changelog_is_at_this_version() -> None:
    newest = re.search(
        r"^## \[(.+?)\] - (unreleased|\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert newest is not None and newest[1] == covey.__version__


def test_constraints_are_final_releases() -> None:
    lines = [x for x in (ROOT / "constraints.txt").read_text().splitlines() if not x.startswith("#")]
    assert len(lines) == len(PINS) > 50
    assert [name for name, pin in PINS.items() if pin.is_prerelease] == []


@pytest.mark.parametrize("extra", ["base", "learner", "mpe", "games", "render", "bench", "dev"])
def test_every_requirement_allows_what_constraints_name(extra: str) -> None:
    """Extras that developers' environments leave out have no pins: wandb, optuna and atheris."""
    requirements = PROJECT["dependencies"] if extra == "base" else PROJECT["optional-dependencies"][extra]
    for requirement in map(Requirement, requirements):
        pin = PINS.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement.name} is not in constraints.txt"
        assert pin in requirement.specifier, f"{requirement} does not allow {pin}"


def test_torch_has_an_upper_bound() -> None:
    (torch,) = [r for r in map(Requirement, PROJECT["optional-dependencies"]["learner"]) if r.name == "torch"]
    assert any(s.operator == "<" for s in torch.specifier)


def test_the_licence_is_whole() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text and "9. Accepting Warranty or Additional Liability." in text
    assert "Copyright 2026 The covey authors" in text and len(text.splitlines()) == 202
    assert PROJECT["license"] == yaml.safe_load((ROOT / "CITATION.cff").read_text())["license"] == "Apache-2.0"


def test_workflows_run_what_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    run = [
        step["run"]
        for path in (ROOT / ".github" / "workflows").glob("*.yml")
        for job in yaml.safe_load(path.read_text())["jobs"].values()
        for step in job["steps"]
        if "run" in step
    ]
    assert ".ci/run" in run and "make test" in run
    assert {command.split()[1] for command in run if command.startswith("make ")} <= targets


def test_issue_forms_ask_something() -> None:
    """What the code host refuses: a form without name, description or body, and two fields of one id."""
    for name in ("bug", "idea"):
        form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml").read_text())
        assert form["name"] and form["description"]
        fields = [f["id"] for f in form["body"] if f["type"] != "markdown"]
        assert len(fields) == len(set(fields)) > 0


def test_hooks_before_a_commit_are_the_checks_of_make_lint() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local", "another repository would be fetched"
    makefile = (ROOT / "Makefile").read_text().replace("$(BIN)/", ".venv/bin/")
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].removesuffix(" --force-exclude") in makefile
