"""Fill a folder with all that covey and its tests need besides torch, as wheels for a machine without a network.

    .venv/bin/python -m benchmarks.gpu.wheels wheels

They are for Python 3.12 on x86-64 Linux, at the versions of constraints.txt, and covey's own is of this checkout.
torch is never among them, nor what any machine with torch has.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
TARGET = ("--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
"""pip takes wheels of just these tags."""

FOR_TESTS = ("hypothesis", "psutil", "pytest", "pytest-timeout")
LEFT_OUT = ("numpy", "pillow", "scipy", "setuptools", "torch")
"""Brought along by others: what a machine with torch has, and what only environments need that are not used here."""

LIMIT_BYTES = 60_000_000


def requirements() -> list[str]:
    """What is asked of pip: what covey needs with a learner and MPE, and what the tests need, but for torch."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["learner"], *extras["mpe"]]
    wanted += [line for line in extras["dev"] if Requirement(line).name in FOR_TESTS]
    return [line for line in wanted if Requirement(line).name not in LEFT_OUT]


def project_of(wheel: Path) -> str:
    """The name of the project in a wheel's file name, such as "grpcio-health-checking"."""
    return re.sub(r"[-_.]+", "-", wheel.name.split("-")[0]).lower()


def fill(folder: Path) -> int:
    """Replace what wheels the folder has; returns their size in bytes."""
    pip = [sys.executable, "-m", "pip", "--quiet"]
    with tempfile.TemporaryDirectory() as found:
        platforms = [word for tag in PLATFORMS for word in ("--platform", tag)]
        constraints = ["-c", str(ROOT / "constraints.txt")]
        subprocess.run(
            [*pip, "download", *TARGET, *platforms, *constraints, "-d", found, *requirements()], check=True, cwd=ROOT
        )
        subprocess.run(
            [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", found, str(ROOT)], check=True, cwd=ROOT
        )
        kept = [wheel for wheel in Path(found).glob("*.whl") if project_of(wheel) not in LEFT_OUT]
        folder.mkdir(exist_ok=True)
        for old in folder.glob("*.whl"):
            old.unlink()
        for wheel in kept:
            shutil.copy(wheel, folder)
    return sum(wheel.stat().st_size for wheel in folder.glob("*.whl"))


def main() -> None:
    """Fill the folder and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    size = fill(folder)
    print(f"{folder}: {len(list(folder.glob('*.whl')))} wheels, {size / 1e6:.1f} MB")
    if size > LIMIT_BYTES:
        sys.exit(f"{folder}: {size / 1e6:.1f} MB, expected at most {LIMIT_BYTES / 1e6:.0f} MB; leave more out")


if __name__ == "__main__":
    main()
