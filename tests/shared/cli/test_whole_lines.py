"""Both streams in one file, as in a service's log: lines stay whole, however Python buffers them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.processes import ENVIRONMENT

LINES = 500
CODE = f"""
from covey.cli.terminal import protect_standard_streams, say, say_json
protect_standard_streams()
for number in range({LINES}):
    say(f"said {{number}}", error=True)
    say_json({{"number": number}})
"""


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_lines_of_both_streams_are_whole(tmp_path: Path, unbuffered: str) -> None:
    log = tmp_path / "both.log"
    with log.open("w") as file:
        command = [sys.executable, "-c", CODE]
        environment = {**ENVIRONMENT, "PYTHONUNBUFFERED": unbuffered}
        subprocess.run(command, env=environment, stdout=file, stderr=subprocess.STDOUT, check=True, timeout=60)
    lines = log.read_text().splitlines()
    assert [line for line in lines if line.startswith("said")] == [f"said {n}" for n in range(LINES)]
    assert [json.loads(line) for line in lines if line.startswith("{")] == [{"number": n} for n in range(LINES)]
    assert len(lines) == 2 * LINES
