"""The parent of one stack's processes: starts, signals and reaps them, and ends with them.

It knows nothing of what it runs; order and health are `devstack.stack`'s business. It is a process
of its own for two reasons. The kernel's "die with your parent" is bound to the parent *thread*, so
the parent must be one that starts everything from its only thread. And the stack has to outlive
`devstack up`, but not a test run that was killed: in that mode standard input is a pipe from the
owner, and its end means that the owner is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from devstack.support import StackError, prioritize_session, tail, try_lock

_PR_SET_PDEATHSIG = 1
_SOCKET = "control.sock"
_LOCK = "supervisor.lock"


@contextlib.contextmanager
def _socket_path(state: Path) -> Iterator[str]:
    """Yield a path of the control socket short enough for the kernel's 108 bytes."""
    descriptor = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{_SOCKET}"
    finally:
        os.close(descriptor)


def call(state: Path, request: dict[str, Any]) -> Any:
    """Send one request to a stack's supervisor and return its answer.

    Parameters
    ----------
    state
        The stack's state directory.
    request
        ``{"do": "spawn" | "signal" | "list" | "pid" | "exit", ...}``.

    Raises
    ------
    StackError
        When no supervisor runs there, or it could not do as asked.
    """
    try:
        with _socket_path(state) as path, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(20.0)
            connection.connect(path)
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(connection.makefile("rb").readline())
    except (OSError, ValueError) as error:
        raise StackError(f"no stack is running in {state}") from error
    if "error" in answer:
        raise StackError(str(answer["error"]))
    return answer["result"]


def launch(state: Path, *, detached: bool) -> subprocess.Popen[bytes]:
    """Start a supervisor and wait until it answers.

    Parameters
    ----------
    state
        The stack's state directory; at most one supervisor can run in it.
    detached
        Whether it outlives this process. If not, it stops everything as soon as this process ends,
        however it ends.

    Returns
    -------
    subprocess.Popen
        The supervisor; unless detached, its standard input is what keeps it alive.
    """
    log = state / "logs" / "supervisor.log"
    source = str(Path(__file__).parents[1])
    search_path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "devstack.supervisor", str(state), "detached" if detached else "owned"],
            stdin=subprocess.DEVNULL if detached else subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=os.environ | {"PYTHONPATH": search_path},
            # Away from the terminal, whose Ctrl-C is for the owner: it stops us in good order.
            start_new_session=True,
            cwd="/",
        )
    while process.poll() is None:
        # Another one may be answering: the one that keeps ours from starting.
        with contextlib.suppress(StackError):
            if call(state, {"do": "pid"}) == process.pid:
                return process
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.02)
    raise StackError(f"the stack in {state} cannot be supervised:\n{tail(log, 5)}")


def runs(state: Path) -> bool:
    """Tell whether a supervisor runs in a state directory, also one that is just ending.

    Parameters
    ----------
    state
        The stack's state directory.
    """
    lock = try_lock(state / _LOCK)
    if lock is not None:
        os.close(lock)
    return lock is None


class _Supervisor:
    def __init__(self, state: Path) -> None:
        self._state = state
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._leaving = False

    def run(self, *, owned: bool) -> None:
        path = self._state / _SOCKET
        path.unlink(missing_ok=True)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with _socket_path(self._state) as short:
            server.bind(short)
        server.listen(16)
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        # Handlers must exist for the wake-up; what is to be done is decided in the loop.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        selector = selectors.DefaultSelector()
        selector.register(server, selectors.EVENT_READ)
        selector.register(wake_read, selectors.EVENT_READ)
        if owned:
            selector.register(0, selectors.EVENT_READ)
        try:
            while not self._leaving:
                for key, _ in selector.select():
                    if key.fileobj is server:
                        self._serve(server)
                    elif key.fileobj == wake_read:
                        if any(number != signal.SIGCHLD for number in os.read(wake_read, 512)):
                            self._leaving = True
                    elif not os.read(0, 512):
                        self._leaving = True
                for child in self._children.values():
                    child.poll()
        finally:
            # An orderly stop would have come as a command before.
            for child in self._children.values():
                child.kill()
            for child in self._children.values():
                child.wait()
            path.unlink(missing_ok=True)

    def _serve(self, server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.settimeout(5.0)
            try:
                request = json.loads(connection.makefile("rb").readline())
                try:
                    answer = {"result": self._do(request)}
                except (OSError, StackError) as error:
                    answer = {"error": str(error)}
                connection.sendall(json.dumps(answer).encode() + b"\n")
            except (OSError, ValueError):
                return

    def _do(self, request: dict[str, Any]) -> Any:
        match request["do"]:
            case "spawn":
                return self._spawn(request)
            case "signal":
                child = self._children.get(request["name"])
                if child is None or child.poll() is not None:
                    raise StackError(f"{request['name']} is not running")
                child.send_signal(request["number"])
                return None
            case "list":
                return {name: {"pid": child.pid, "status": child.poll()} for name, child in self._children.items()}
            case "pid":
                return os.getpid()
            case "exit":
                self._leaving = True
                return None
            case unknown:
                raise StackError(f"cannot do {unknown!r}")

    def _spawn(self, request: dict[str, Any]) -> int:
        name: str = request["name"]
        if (child := self._children.get(name)) and child.poll() is None:
            raise StackError(f"{name} is running already")
        parent = os.getpid()
        libc = self._libc

        def die_with_parent() -> None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            # The parent may have gone between the fork and the call above.
            if os.getppid() != parent:
                os._exit(1)

        with (self._state / "logs" / f"{name}.log").open("ab") as log:
            self._children[name] = subprocess.Popen(
                request["argv"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | request["env"],
                cwd=self._state,
                preexec_fn=die_with_parent,
            )
        return self._children[name].pid


def main() -> None:
    """Supervise the stack in the state directory named on the command line."""
    state = Path(sys.argv[1])
    if try_lock(state / _LOCK) is None:
        sys.exit(f"another supervisor runs in {state}; stop that stack first")
    (state / "supervisor.pid").write_text(f"{os.getpid()}\n")
    prioritize_session()
    try:
        _Supervisor(state).run(owned=sys.argv[2] == "owned")
    finally:
        (state / "supervisor.pid").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
