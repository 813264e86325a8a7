"""Makes a Python environment from wheels, without a network, that also has what the Python it is made with has: torch.

`python -m venv --system-site-packages` would not do where that Python is itself one of a virtual environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {"covey": "shared", "covey_server": "server", "covey_actor": "actor_client"}
OURS = {*SOURCES, "benchmarks", "tests"}
"""Some packages install a `tests` of theirs, which would be found in place of the checkout's."""


def refusal(wheels: Path) -> str | None:
    """Why the wheels cannot be used, as a sentence; None if they can."""
    found = sorted(wheels.glob("covey_marl-*.whl"))
    if len(found) != 1:
        return (
            f"{wheels}: {len(found)} wheels of covey, expected one; make gpu-wheels fills it where there is a network"
        )
    with zipfile.ZipFile(found[0]) as wheel:
        for name in wheel.namelist():
            package = name.partition("/")[0]
            ours = ROOT / SOURCES.get(package, "") / name
            if package in SOURCES and (not ours.exists() or ours.read_bytes() != wheel.read(name)):
                return (
                    f"{found[0]}: {name} is not that of this checkout, expected its sources; run make gpu-wheels again"
                )
    return None


def install(wheels: Path, folder: Path) -> str:
    """Make the environment in an empty folder; returns its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    asked = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip())
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-index", "--no-deps"]
    pip += ["--no-compile", "--no-cache-dir", "--target", str(packages)]
    # A machine's own settings of pip, such as constraints, are for packages from an index.
    environment = os.environ | {"PIP_CONFIG_FILE": os.devnull}
    subprocess.run([*pip, *map(str, sorted(wheels.glob("*.whl")))], check=True, env=environment)
    # What the outer Python has comes behind the environment's own packages, so that these win.
    outside = folder / "outside"
    outside.mkdir()
    for path in sys.path:
        if Path(path).name in ("site-packages", "dist-packages") and Path(path).is_dir():
            for entry in Path(path).iterdir():
                if entry.name not in OURS and not (outside / entry.name).exists():
                    (outside / entry.name).symlink_to(entry)
    (packages / "outside.pth").write_text(f"import site; site.addsitedir({str(outside)!r})\n")
    return python
