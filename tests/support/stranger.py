"""A stranger's machine: covey's distributions, and an empty environment in which nothing leads to the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.distributions import ROOT


def build_distributions(folder: Path) -> None:
    """Build both into a folder, as `make dist` does."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


class Stranger:
    """An empty virtual environment in a folder of its own, of which nothing leads to the checkout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = folder / "environment"
        self.variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and not k.startswith("COVEY_")}
        self.variables |= {"OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
        self.run(sys.executable, "-m", "venv", str(self.environment))

    def run(self, *command: str, code: int = 0, variables: dict[str, str] | None = None) -> str:
        """Run a command in the folder; what it prints, errors last. It must end with this code."""
        environ = self.variables | (variables or {})
        done = subprocess.run(
            command, cwd=self.folder, env=environ, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == code, f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def covey(self, *arguments: str, code: int = 0, variables: dict[str, str] | None = None) -> str:
        """Run the installed command."""
        return self.run(str(self.environment / "bin" / "covey"), *arguments, code=code, variables=variables)

    def python(self, code: str) -> str:
        """Run some code."""
        return self.run(str(self.environment / "bin" / "python"), "-c", code)

    def install(self, wheel: Path, extras: str = "") -> None:
        """Install the wheel, with versions of constraints.txt: of torch too, whatever else an index may offer."""
        self.pip("-c", str(ROOT / "constraints.txt"), f"covey-marl{extras} @ {wheel.as_uri()}")

    def pip(self, *arguments: str) -> None:
        """Install packages."""
        self.run(str(self.environment / "bin" / "python"), "-m", "pip", "install", "--quiet", *arguments)
