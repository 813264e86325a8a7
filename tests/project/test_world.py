"""The sweep over other packages' environments: its table can be read, its page says what failed, and it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.world.page import markdown
from benchmarks.world.stages import Outcome
from benchmarks.world.table import rows
from tests.support.distributions import ROOT

from covey.envs.found_functions import ENTRY_POINT


def test_every_environment_of_the_table_has_a_name_and_stands_once() -> None:
    found = list(rows())
    assert len(found) >= 60
    assert len({(row.package, row.label, str(row.config)) for row in found}) == len(found)
    assert [row.name for row in found if not ENTRY_POINT.fullmatch(row.name)] == []
    assert [row.images for row in found] == sorted(row.images for row in found)  # vectors first


def test_the_page_says_what_did_not_work_and_why() -> None:
    good = Outcome("a.b", "a", "1.0", "yes", "yes", "parallel", ["cnn", "mlp"], 56_492, 1234.0, 321.0)
    good.trained, good.resumed, good.played = {"IPPO": "yes", "MATD3": "no, discrete"}, "yes", "not here"
    page = markdown([good, Outcome("c.d", "c", installed="no wheel"), Outcome("e.f", "e", "2", "yes", "a Tuple")])
    assert "| `a.b` | a 1.0 | parallel | cnn, mlp | 56,492 | 1,234 | 321 | yes | yes | no | resumed |" in page
    assert "3 tried, 1 taken by check-env, 1 trained." in page
    assert "- `a.b` (MATD3): no, discrete" in page
    assert "- `c.d` (install): no wheel" in page
    assert "- `e.f` (check-env): a Tuple" in page


@pytest.mark.engines
@pytest.mark.timeout(1200)
def test_an_environment_of_another_package_goes_through_all_of_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.world", "--folder", tmp_path, "rware:rware-tiny-2ag"]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[0])
    assert found["trained"] == {"IPPO": "yes", "MATD3": "yes"}, found
    assert [found[stage] for stage in ("resumed", "evaluated", "exported", "played")] == ["yes"] * 4, found
