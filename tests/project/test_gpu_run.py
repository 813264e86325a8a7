"""`make gpu` where there is no GPU: its dry run works, it says why none can be asked, and it takes no old wheels."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from benchmarks.gpu import installation, wheels
from benchmarks.gpu.run import ALL_S, parts

ROOT = Path(__file__).parents[2]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.gpu.run", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)


def test_a_dry_run_writes_every_part(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    done = run("--dry-run", "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads(out.read_text())
    assert written["about"]["dry_run"] and written["about"]["torch"] == version("torch")
    lines = {name: part["lines"] for name, part in written["parts"].items()}
    assert list(lines) == list(parts(dry=True)) == ["tests", "updates_cpu", "job_maddpg_cpu", "job_ippo_cpu"]
    assert {name: part["error"] for name, part in written["parts"].items() if part["error"]} == {}
    tested = {line["test"].partition("::")[0] for line in lines["tests"]}
    assert tested == {
        "tests/server/algorithms/test_on_cuda.py",
        "tests/server/api/test_library.py",
        "tests/server/api/test_page.py",
        "tests/server/experience/test_replay_on_cuda.py",
        "tests/system/test_resume_equality.py",
    }
    assert {(line["algorithm"], line["members"]) for line in lines["updates_cpu"]} == {
        (algorithm, members) for algorithm in ("MADDPG", "IPPO") for members in (1, 2)
    }
    assert all(0 < line["ms"] <= line["median_ms"] and line["trusted"] for line in lines["updates_cpu"])
    assert all(lines[f"job_{name}_cpu"][0]["env_steps_per_s"] > 0 for name in ("maddpg", "ippo"))


@pytest.mark.skipif(
    torch.cuda.is_available(), reason="it is about machines without a GPU that torch can use, and this one has it"
)
def test_without_a_gpu_it_says_so_in_one_sentence(tmp_path: Path) -> None:
    done = run("--out", tmp_path / "gpu.json")
    assert done.returncode == 1 and list(tmp_path.iterdir()) == []
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("no GPU can be asked: torch") and "expected an NVIDIA GPU" in sentence


def test_it_takes_less_than_eight_minutes_and_asks_for_all_there_is_to_ask() -> None:
    assert ALL_S < 480
    named = parts(dry=False)
    jobs = [f"job_{name}_{device}" for name in ("maddpg", "ippo") for device in ("cuda", "cpu")]
    assert set(named) == {"tests", "updates_cuda", "updates_cpu", *jobs}
    marked = {p for p in (ROOT / "tests").rglob("test_*.py") if re.search(r"mark\.cuda", p.read_text())}
    assert {str(p.relative_to(ROOT)) for p in marked} <= set(named["tests"].command)


TESTS = """
import pytest
def test_good(): pass
def test_bad(): assert 1 == 2
@pytest.mark.skip("to be reported as skipped")
def test_left(): pass
@pytest.fixture
def broken(): raise ValueError("no fixture")
def test_without_its_fixture(broken): pass
"""


def test_each_test_is_a_line_whatever_becomes_of_it(tmp_path: Path) -> None:
    (tmp_path / "test_few.py").write_text(TESTS)
    (tmp_path / "test_none.py").write_text("import nothing_of_this_name")
    command = [sys.executable, "-m", "pytest", "-p", "no:terminal", "-p", "benchmarks.gpu.outcomes", "-c", "/dev/null"]
    command += ["--continue-on-collection-errors", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = {
        line["test"].rpartition("::")[2].rpartition("/")[2]: line for line in map(json.loads, done.stdout.splitlines())
    }
    assert done.returncode == 1
    assert {name: line["outcome"] for name, line in lines.items()} == {
        "test_good": "passed",
        "test_bad": "failed",
        "test_left": "skipped",
        "test_without_its_fixture": "failed",
        "test_none.py": "failed",
    }
    assert (
        "assert 1 == 2" in lines["test_bad"]["message"] and "to be reported as skipped" in lines["test_left"]["message"]
    )
    assert "no fixture" in lines["test_without_its_fixture"]["message"]
    assert "nothing_of_this_name" in lines["test_none.py"]["message"]


def wheel(path: Path, **changed: bytes) -> None:
    """A wheel with three of the files that covey's has."""
    with zipfile.ZipFile(path, "w") as file:
        for package, folder in installation.SOURCES.items():
            file.writestr(
                f"{package}/__init__.py", changed.get(package, (ROOT / folder / package / "__init__.py").read_bytes())
            )
        file.writestr("covey_marl-1.dist-info/METADATA", "Name: covey-marl")
        file.writestr("covey/a_module_that_was_removed.py" if "removed" in changed else "covey/py.typed", b"")


def test_a_wheel_of_this_checkout_is_taken_and_no_other(tmp_path: Path) -> None:
    assert "0 wheels of covey, expected one; make gpu-wheels" in str(installation.refusal(tmp_path))
    wheel(tmp_path / "covey_marl-1-py3-none-any.whl")
    assert installation.refusal(tmp_path) is None
    for package in installation.SOURCES:
        wheel(tmp_path / "covey_marl-1-py3-none-any.whl", **{package: b"old = True"})
        assert f"{package}/__init__.py is not that of this checkout" in str(installation.refusal(tmp_path))
    wheel(tmp_path / "covey_marl-1-py3-none-any.whl", removed=b"")
    assert "a_module_that_was_removed.py is not that of this checkout" in str(installation.refusal(tmp_path))
    wheel(tmp_path / "covey_marl-2-py3-none-any.whl")
    assert "2 wheels of covey" in str(installation.refusal(tmp_path))


def test_the_environment_has_the_wheels_and_what_python_has_outside_but_no_tests_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wheels").mkdir()
    with zipfile.ZipFile(tmp_path / "wheels" / "both-1-py3-none-any.whl", "w") as file:
        file.writestr("both.py", "where = 'wheel'")
        file.writestr("both-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: both\nVersion: 1\n")
        file.writestr("both-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("both-1.dist-info/RECORD", "")
    for number, names in enumerate((["both", "torch_like", "tests"], ["torch_like", "second"])):
        packages = tmp_path / str(number) / "site-packages"
        for name in names:
            (packages / name).mkdir(parents=True)
            (packages / name / "__init__.py").write_text(f"where = {number}")
    monkeypatch.setattr(sys, "path", [str(tmp_path / str(n) / "site-packages") for n in range(2)] + sys.path)
    python = installation.install(tmp_path / "wheels", tmp_path / "made")
    code = "import both, torch_like, second, importlib.util; print(both.where, torch_like.where, second.where, "
    code += "importlib.util.find_spec('tests'))"
    done = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["wheel", "0", "1", "None"]


def test_wheels_are_asked_for_of_all_that_covey_needs_but_of_torch() -> None:
    asked = {re.split(r"[<>=\[]", line)[0] for line in wheels.requirements()}
    assert {"grpcio", "protobuf", "zstandard", "pydantic", "gymnasium", "pettingzoo", "mpe2", "pytest"} <= asked
    assert not asked & {"torch", "numpy", "mypy", "ruff"}
    assert wheels.project_of(Path("grpcio_health_checking-1.85.1-py3-none-any.whl")) == "grpcio-health-checking"
