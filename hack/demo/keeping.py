"""What is left running in a state folder, and how it is stopped."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from devstack.stack import Stack
from devstack.support import StackError

#: Where demo processes say their process ids, by their files in the state folder.
_READY = ("apps/heroku-sim.json", "apps/eks-app.json", "load/load.json")


def stop_kept(state: Path, say: Callable[[str], None]) -> bool:
    """Stop what was left running in a state folder; return whether a stack was."""
    found = False
    with contextlib.suppress(StackError):
        Stack.attach(state / "stack", log=lambda text: say(f"{text} what was left running")).stop()
        found = True
    for ready in _READY:
        with contextlib.suppress(OSError, ValueError):
            pid = int(json.loads((state / ready).read_text())["pid"])
            # The number may belong to another program by now.
            if str(state).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGTERM)
    return found


def clear(state: Path) -> None:
    """Remove what was left on disk: its plans would be at their end already. Raises StackError for another folder."""
    if state.exists() and any(state.iterdir()) and not (state / "stack").is_dir():
        raise StackError(f"{state} is not a demo's folder; name another one with --state")
    shutil.rmtree(state, ignore_errors=True)
