"""Shared by all parts of the development stack: its error, its cache, and small file helpers."""

from __future__ import annotations

import fcntl
import os
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

# Below the blocks that stacks take their ports from.
_PORTS = range(12000, 20000)
#: Locks of the ports that this process has chosen; they end with it.
_port_locks: list[int] = []


class StackError(RuntimeError):
    """Something a person has to act on; its text says what happened and what to do."""


def cache_root() -> Path:
    """Return the folder for built programs and default state, outside the work tree.

    Returns
    -------
    Path
        ``$CUTOVER_CACHE``, or ``cutover`` below ``$XDG_CACHE_HOME`` or ``~/.cache``.
    """
    if explicit := os.environ.get("CUTOVER_CACHE"):
        return Path(explicit).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "cutover"


def free_port() -> int:
    """Return a free port of the loopback, and reserve it for this process.

    It is below the range from which the kernel takes ports for outgoing connections, and locked against other
    processes that choose one: no other process takes it between this choice and its use, nor while its user restarts.

    Raises
    ------
    StackError
        When none is left.
    """
    for port in random.sample(_PORTS, len(_PORTS)):
        lock = try_lock(cache_root() / "ports" / f"{port}.lock")
        if lock is None:
            continue
        if is_free(port):
            _port_locks.append(lock)
            return port
        os.close(lock)
    raise StackError(f"no free port between {_PORTS.start} and {_PORTS.stop}")


def is_free(port: int) -> bool:
    """Tell whether no process listens on a port of the loopback.

    Parameters
    ----------
    port
        The port.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Connections that are being closed do not keep a server from listening.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def prioritize_session() -> None:
    """Give the session of this process the priority (``nice``) that the process has.

    Linux may share the cores between sessions first, and a session begins at normal priority whatever its processes have
    (https://man7.org/linux/man-pages/man7/sched.7.html, "The autogroup feature").
    """
    with suppress(OSError):  # not every kernel has it
        Path("/proc/self/autogroup").write_text(f"{os.getpriority(os.PRIO_PROCESS, 0)}\n", encoding="utf-8")


def documents(text: str) -> list[Any]:
    """Return the documents of a YAML text that are not empty.

    Parameters
    ----------
    text
        The text.
    """
    # CRDs are a megabyte of it, for which the parser that is written in Python takes ten times as long.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [document for document in yaml.load_all(text, loader) if document is not None]


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file so that a reader sees the old text or the new one, never a part.

    Parameters
    ----------
    path
        The file to write.
    text
        Its new content.
    mode
        Permission bits; the file never exists with wider ones.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)


def tail(path: Path, lines: int) -> str:
    """Return the last lines of a text file.

    Parameters
    ----------
    path
        The file; a missing one counts as empty.
    lines
        How many lines at most.
    """
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            # No line of these logs is worth more than a few hundred bytes to a reader.
            file.seek(max(0, file.tell() - 400 * lines))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def try_lock(path: Path) -> int | None:
    """Take an exclusive lock without waiting.

    Parameters
    ----------
    path
        The lock file; made when missing, never removed (removing it would let two in).

    Returns
    -------
    int or None
        A file descriptor that holds the lock until it is closed, or None when another has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock, after waiting for its holder.

    Parameters
    ----------
    path
        The lock file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
