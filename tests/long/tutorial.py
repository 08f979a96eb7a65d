"""The tutorial as a reader types it: every command of the page, one after the other, on a stack of its own."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kit.tutorial import WHERE, commands

ROOT = Path(__file__).parents[2]
#: Instead of what the page says: evidence takes longer where others use the machine.
PATIENCE = "--timeout=20m"
_END = "-- end of the command"


class Shell:
    """A reader's terminal: one bash, to which commands are typed."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._bash = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def type(self, command: str) -> tuple[int, str]:
        """Return the exit status of a command, and what it printed."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write(f"{command}\nprintf '\\n%s %s\\n' '{_END}' $?\n")
        self._bash.stdin.flush()
        lines: list[str] = []
        for line in self._bash.stdout:
            if line.startswith(_END):
                return int(line.removeprefix(_END)), "".join(lines)
            lines.append(line)
        raise AssertionError(f"bash ended in {command}:\n{''.join(lines)}")

    def end(self) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.close()
        self._bash.wait(30)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    # `make` finds the Python of this run, and the stack is apart from one that a person plays with.
    state = tmp_path / "try"
    environment = {**os.environ, "TRY": str(state), "MAKEFLAGS": f"PYTHON={shlex.quote(sys.executable)}"}
    reader = Shell(environment)
    try:
        yield reader
    finally:
        reader.end()
        stop = [sys.executable, "-m", "demo.playground", "--stop", "--state", str(state)]
        subprocess.run(stop, cwd=ROOT, env={**environment, "PYTHONPATH": "operator:hack"}, check=False, timeout=120)


@pytest.mark.timeout(7200)
def test_every_command_does_what_the_page_says(shell: Shell, tmp_path: Path) -> None:
    began, transcript = time.monotonic(), []
    first_step = None
    for command in commands():
        typed = command.replace(WHERE, str(tmp_path / "try"))
        status, printed = shell.type(re.sub(r"--timeout=\w+", PATIENCE, typed))
        transcript.append(f"{time.monotonic() - began:5.0f} s $ {command}\n{printed}")
        print(transcript[-1], flush=True)
        assert status == 0, "\n".join(transcript)
        if first_step is None and "}'=10 " in command:
            first_step = time.monotonic() - began
    text = "\n".join(transcript)
    assert first_step is not None
    # What the page says that a reader sees.
    for seen in ("x-cutover-leg: heroku", "x-cutover-leg: eks", "AwaitingApproval", "EKS is worse", "RollBack 25 → 0"):
        assert seen in text, seen
