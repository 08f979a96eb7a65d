"""A development stack keeps out of the way of what has a higher priority than who started it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

AUTOGROUP = Path("/proc/self/autogroup")
SAYS = f"""
from pathlib import Path
from devstack import supervisor
supervisor._keep_priority()
print(Path("{AUTOGROUP}").read_text())
"""


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="this kernel does not share the cores between sessions")
def test_a_session_of_its_own_has_the_priority_of_the_process_that_began_it() -> None:
    lower = min(os.nice(0) + 3, 19)
    command = ["nice", "-n", "3", sys.executable, "-c", SAYS]
    said = subprocess.run(command, start_new_session=True, capture_output=True, text=True, check=True).stdout
    assert said.split()[-1] == str(lower)
