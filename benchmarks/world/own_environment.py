"""Virtual environments in which an actor and the packages of some environments are installed, kept from run to run."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INSTALL_S = 1800


class NotInstallableError(Exception):
    """Packages do not install here; the message is pip's last word."""


def python_with(folder: Path, requires: tuple[str, ...], *, beside_learner: bool) -> Path:
    """The Python of an environment with these packages and covey's base install; made if it is not there.

    Args:
        folder: Where environments are kept.
        requires: What pip is asked for.
        beside_learner: Whether what this Python has is seen there too, such as torch.

    Raises:
        NotInstallableError: pip cannot install them together.
    """
    name = hashlib.sha256(repr((requires, beside_learner)).encode()).hexdigest()[:12]
    made = folder / name
    python = made / "bin" / "python"
    if (made / "installed").exists():
        return python
    _run([sys.executable, "-m", "venv", "--clear", made])
    if beside_learner:
        site = next(made.glob("lib/python*/site-packages"))
        (site / "beside.pth").write_text(sysconfig.get_path("purelib") + "\n")
    _run([python, "-m", "pip", "install", "--quiet", *requires, "-e", ROOT])
    (made / "installed").write_text("\n".join(requires) + "\n")
    return python


def version_of(python: Path, requirement: str) -> str:
    """The version of a required package in an environment."""
    package = re.split(r"[<>=\[]", requirement)[0]
    code = "import sys\nfrom importlib.metadata import version\nprint(version(sys.argv[1]))"
    done = subprocess.run([python, "-c", code, package], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _run(command: list[object]) -> None:
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=INSTALL_S, check=False, cwd=ROOT
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line or "error:" in line]
        raise NotInstallableError((lines or done.stderr.splitlines() or ["pip failed"])[0].removeprefix("ERROR: "))
