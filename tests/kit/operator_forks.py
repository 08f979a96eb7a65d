"""Operators as processes of their own, forked from one that has imported the program: that is most of what a start computes.

Run as a program, this is that process. It reads requests as lines of JSON, and writes a line when an operator has begun and when
it has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import queue
import selectors
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NoReturn, Self


class ForkedOperator:
    """A process of the operator.

    Attributes
    ----------
    returncode
        What it ended with, negative for a signal; ``None`` while it runs.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def kill(self) -> None:
        """Kill it, if it runs."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def wait(self) -> None:
        """Wait until it has ended."""
        while self.returncode is None:  # noqa: ASYNC110 - another thread is told
            await asyncio.sleep(0.01)


class OperatorForks:
    """The process that operators are forked from, for the length of the block.

    Their clock is as wrong as the file ``CLOCK`` of their environment says.
    """

    def __init__(self) -> None:
        self._operators: dict[int, ForkedOperator] = {}
        self._begun: queue.Queue[ForkedOperator | None] = queue.Queue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _pipe(self._process.stdin).close()
        self._process.wait(60)

    def start(self, environment: Mapping[str, str]) -> ForkedOperator:
        """Start an operator; this environment is all that it has."""
        stdin = _pipe(self._process.stdin)
        stdin.write(f"{json.dumps(dict(environment))}\n")
        stdin.flush()
        begun = self._begun.get(timeout=300)
        if begun is None:
            raise RuntimeError(f"the process that operators are forked from has ended with {self._process.wait(60)}")
        return begun

    def _listen(self) -> None:
        for line in _pipe(self._process.stdout):
            told = json.loads(line)
            if "code" in told:
                self._operators[told["pid"]].returncode = told["code"]
            else:
                operator = self._operators[told["pid"]] = ForkedOperator(told["pid"])
                self._begun.put(operator)
        self._begun.put(None)


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


# --------------------------------------------------------------------------------------------------------- the process


#: All of the program, and what httpx imports with the first request.
_NEEDED = ("cutover.main", "httpcore", "anyio.streams.tls", "anyio._backends._asyncio")


def _set_clock() -> None:
    """Have ``time.time`` be wrong, also where the program's modules keep it when they are imported."""
    real = time.time

    def wrong() -> float:
        file = os.environ.get("CLOCK")
        return real() + (float(Path(file).read_text(encoding="utf-8")) if file else 0.0)

    time.time = wrong


def _operate(environment: Mapping[str, str]) -> NoReturn:
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, 0)
        os.dup2(nowhere, 1)
        os.environ.clear()
        os.environ.update(environment)

        from cutover import main

        main.main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - it ends here, and nobody else would tell
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _tell(**told: Any) -> None:
    print(json.dumps(told), flush=True)


def _ended(running: Iterable[int]) -> list[int]:
    found = []
    for pid in running:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            _tell(pid=pid, code=os.waitstatus_to_exitcode(status))
            found.append(pid)
    return found


def _serve() -> None:
    _set_clock()
    for name in _NEEDED:
        importlib.import_module(name)

    from cutover.domain.engine.phases import preflight
    from cutover.kopf_app import handlers

    # The spread is for a thousand plans.
    handlers.START_SPREAD = preflight.PREPARED_SECONDS = 0.0
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(wake_read, selectors.EVENT_READ)
    running: set[int] = set()
    rest = b""
    while True:
        for key, _events in selector.select():
            if key.fd == wake_read:
                os.read(wake_read, 512)
                running.difference_update(_ended(sorted(running)))
                continue
            read = os.read(0, 65536)
            if not read:
                for pid in running:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                return
            *lines, rest = (rest + read).split(b"\n")
            for line in lines:
                pid = os.fork()
                if pid == 0:
                    _operate(json.loads(line))
                running.add(pid)
                _tell(pid=pid)


if __name__ == "__main__":
    _serve()
