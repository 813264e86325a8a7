"""The checked-in stubs are what the protos give."""

import subprocess
import sys
from pathlib import Path

GENERATE = Path(__file__).parents[2] / "proto" / "generate.py"


def test_stubs_are_fresh() -> None:
    result = subprocess.run([sys.executable, str(GENERATE), "--check"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
