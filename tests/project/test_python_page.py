"""The Python code blocks of docs/python.md run, one after the other, and train, evaluate and export."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.distributions import ROOT

PAGE = ROOT / "docs" / "python.md"

OBSERVATIONS = "import numpy as np\nobservation_0, observation_1 = np.zeros(3, np.float32), np.zeros(11, np.float32)\n"
"""Defines the observations of speaker and listener that the page's code passes to a policy."""


def test_its_code_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 5
    code = OBSERVATIONS + "".join(blocks).replace('max_steps": 20_000', 'max_steps": 400')
    code = code.replace("table = curves.to_pandas()", "pass")  # pandas is not among what developers need
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    settings = {"training.evo_steps": 200, "training.pop_size": 2, "training.confirm_episodes": 4}
    code = code.replace('{"training.seed": 1,', "{" + str(settings)[1:-1] + ', "training.seed": 1,')
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert f"{run.name} complete -" in done.stdout
    assert (tmp_path / "best.gif").stat().st_size > 1000 and (tmp_path / "policies" / "policy.json").exists()
