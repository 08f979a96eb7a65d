"""What runs at a low priority keeps out of the way of what has a higher one, in other sessions too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import run_tests

AUTOGROUP = Path("/proc/self/autogroup")
PRIORITIES = f"""
import os
from pathlib import Path
print(os.nice(0), Path("{AUTOGROUP}").read_text())
"""
#: As the supervisor of a development stack does it.
KEEPS = f"""
from devstack.support import prioritize_session
prioritize_session()
{PRIORITIES}
"""


def lower_by(niceness: int) -> str:
    return str(min(os.nice(0) + niceness, 19))


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="this kernel does not share the cores between sessions")
def test_a_session_of_its_own_has_the_priority_of_the_process_that_began_it() -> None:
    command = ["nice", "-n", "3", sys.executable, "-c", KEEPS]
    said = subprocess.run(command, start_new_session=True, capture_output=True, text=True, check=True).stdout.split()
    assert (said[0], said[-1]) == (lower_by(3), lower_by(3))


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="this kernel does not share the cores between sessions")
def test_tests_that_only_compute_leave_the_cores_to_stacks(tmp_path: Path) -> None:
    with (tmp_path / "output").open("wb") as output:
        assert run_tests.begin([sys.executable, "-c", PRIORITIES], 5, output).wait(60) == 0
    said = (tmp_path / "output").read_text().split()
    assert (said[0], said[-1]) == (lower_by(5), lower_by(5))
