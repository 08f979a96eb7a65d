"""The ports that an app's server is told to listen at, as far as its command says so beyond doubt."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cutover.domain.preflight.commands import Command
from cutover.domain.preflight.workload import Container


@dataclass(frozen=True, slots=True)
class _Server:
    """The flags of a server whose command line counts for more than its configuration.

    Parameters
    ----------
    addresses
        Flags for an address with its port; each may be there several times.
    ports
        Flags for a port.
    others
        Flags with which it may listen elsewhere.
    """

    addresses: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


#: Puma is not among them: its configuration may add addresses to those of the command.
_SERVERS = {
    "gunicorn": _Server(addresses=("--bind", "-b")),
    "uvicorn": _Server(ports=("--port",), others=("--uds", "--fd")),
    "hypercorn": _Server(addresses=("--bind", "-b"), others=("--config", "-c", "--insecure-bind", "--quic-bind")),
    "daphne": _Server(ports=("--port", "-p"), others=("--endpoint", "-e", "--unix-socket", "-u", "--fd")),
    "granian": _Server(ports=("--port",), others=("--uds",)),
}
_PORT = re.compile(r":([0-9]{1,5})$")
#: Commands before a server that start nothing which listens.
_PREPARE = frozenset({"cd", "set", "export", "echo", "source", ".", "ulimit", "umask", "mkdir", "sleep"})


def ports_told(app: Container) -> frozenset[int]:
    """Return the ports that a container's server is told to listen at; empty if its command does not prove them."""
    main = app.main
    server = _SERVERS.get(main.program) if main is not None else None
    if main is None or server is None or any(one.program not in _PREPARE for one in app.commands[:-1]):
        return frozenset()
    if any(main.value(flag) is not None for flag in server.others):
        return frozenset()
    given = [*(f":{port}" for port in _all(main, server.ports)), *_all(main, server.addresses)]
    found = [_number(address, app) for address in given]
    return frozenset(one for one in found if one is not None) if None not in found else frozenset()


def _all(main: Command, flags: tuple[str, ...]) -> list[str]:
    """Return the values of all the flags."""
    found = list[str]()
    for at, word in enumerate(main.arguments):
        for flag in flags:
            if word == flag:
                found += main.arguments[at + 1 : at + 2]
            elif flag.startswith("--") and word.startswith(f"{flag}="):
                found.append(word.removeprefix(f"{flag}="))
            elif not flag.startswith("--") and word.startswith(flag) and not word.startswith("--"):
                found.append(word.removeprefix(flag))
    return found


def _number(address: str, app: Container) -> int | None:
    """Return the port of an address; ``None`` if it is not known."""
    for name in ("$PORT", "${PORT}", "$(PORT)"):
        address = address.replace(name, app.env.get("PORT") or name)
    found = _PORT.search(address)
    return int(found[1]) if found is not None else None
