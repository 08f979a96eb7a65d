"""Demo processes as children of a test, a demo or a benchmark."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_PACKAGE_ROOT = Path(__file__).resolve().parent.parent


class ChildError(RuntimeError):
    """A demo process did not start, has ended, or refused a command."""


class Child:
    """One demo process, from its start until it says that it listens, and to its end.

    Parameters
    ----------
    module
        Module of this package to run.
    arguments
        Its command line, without the options every demo process has.
    state_dir
        Directory for its log and its ready file.
    name
        Stem of those two files.
    outlive_parent
        Leave it running when this process ends without `stop`.

    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        *,
        state_dir: Path,
        name: str,
        outlive_parent: bool = False,
    ) -> None:
        self._module = module
        self._arguments = list(arguments)
        self._lifeline = not outlive_parent
        self._process: subprocess.Popen[bytes] | None = None
        self.log_file = state_dir / f"{name}.log"
        self.ready_file = state_dir / f"{name}.json"

    def start(self, timeout_s: float = 60.0) -> dict[str, Any]:
        """Start the process and wait until it listens.

        Returns
        -------
        dict
            What it announced: pid and ports.

        Raises
        ------
        ChildError
            If it ends, or is not ready within `timeout_s` seconds.

        """
        self.ready_file.parent.mkdir(parents=True, exist_ok=True)
        self.ready_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", self._module, *self._arguments]
        command += ["--ready-file", str(self.ready_file)]
        if self._lifeline:
            command.append("--lifeline")
        path = os.pathsep.join(filter(None, [str(_PACKAGE_ROOT), os.environ.get("PYTHONPATH")]))
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if self._lifeline else subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
                # Ctrl-C is for the parent, which then stops its children in order.
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout_s
        while not self.ready_file.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise ChildError(f"{self._module} did not start: {self._log_tail()}")
            time.sleep(0.02)
        ready = json.loads(self.ready_file.read_text())
        assert isinstance(ready, dict)
        return ready

    def stop(self, timeout_s: float = 10.0) -> None:
        """End the process, by force after `timeout_s` seconds; it may have ended already."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()

    @property
    def running(self) -> bool:
        """Whether the process has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def _log_tail(self) -> str:
        return self.log_file.read_text(errors="replace")[-2000:].strip() or "it said nothing"


def call(port: int, path: str, body: object | None = None, *, timeout_s: float = 10.0) -> Any:
    """Call an admin port: GET, or PUT where there is a body; returns the JSON answered.

    Raises
    ------
    ChildError
        If the call fails, with what the process has to say to it.

    """
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        data=None if body is None else json.dumps(body).encode(),
        method="GET" if body is None else "PUT",
    )
    # No proxy of the environment: this is loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout_s) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace")
        with contextlib.suppress(ValueError, KeyError, TypeError):
            text = json.loads(text)["error"]
        raise ChildError(f"{path}: {text}") from error
    except OSError as error:
        raise ChildError(f"{path} on port {port}: {error}") from error
