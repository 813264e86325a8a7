"""The examples that are programs of their own run, from a checkout, as their first lines say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("example", ["plain_matd3", "plain_ippo"])
def test_a_plain_example_trains_and_evaluates(example: str) -> None:
    path = f"examples/{example}.py"
    assert f"    .venv/bin/python {path} --env-steps " in (ROOT / path).read_text()
    result = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", path, "--env-steps", "400", "--seed", "1"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    *curve, last = result.stdout.splitlines()
    # Of 400 env steps 20 are random, and every 25th of the others ends with an update of MATD3's.
    progress = r" +400 env steps +16 updates  return .*" if example == "plain_matd3" else r" +400 env steps  return .*"
    assert curve and re.fullmatch(progress, curve[-1]), result.stdout
    found = re.fullmatch(r"evaluation without noise, 16 episodes: return (-\d+\.\d) \+- (\d+\.\d)", last)
    # So few teach next to nothing: random play scores -73, standing still -67.
    assert found and -250 < float(found[1]) < -10 and 0 < float(found[2]) < 40, last
