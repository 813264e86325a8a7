"""The limit of open files is raised as far as the system allows, and counting them never fails."""

import subprocess
import sys

import pytest

CODE = """
import os, resource
from covey.resources import open_files, raise_file_limit
soft, hard = {soft}, {hard}
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(raise_file_limit(400), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    print(open_files() == resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(("soft", "hard", "allowed"), [(64, 4000, 400), (64, 256, 256), (1000, 4000, 1000)])
def test_the_limit_of_files_is_raised_as_far_as_it_goes_and_used_up_is_no_error(
    soft: int, hard: int, allowed: int
) -> None:
    code = CODE.format(soft=soft, hard=hard)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == [str(allowed), str(allowed), "True"], done.stderr
