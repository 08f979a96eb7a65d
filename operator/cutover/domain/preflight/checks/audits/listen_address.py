"""Audit ``listen-address``: the app listens where other Pods can reach it, at the port that the Service sends to."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cutover.domain.preflight.audit import audit
from cutover.domain.preflight.commands import Command
from cutover.domain.preflight.listening import ports_told
from cutover.domain.preflight.workload import Container, Workload

_LOOPBACK = re.compile(r"^(?:https?://|tcp://)?(?:127\.\d+\.\d+\.\d+|localhost|\[?::1\]?)(?::\d+)?$")
#: Servers that listen on loopback unless told otherwise: the flags and the variables that tell them.
_ON_LOOPBACK: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "uvicorn": (("--host", "--uds", "--fd"), ("UVICORN_HOST",)),
    "hypercorn": (("--bind", "-b", "--config", "-c"), ()),
    "granian": (("--host",), ("GRANIAN_HOST",)),
    "daphne": (("--bind", "-b", "--endpoint", "-e"), ()),
    # gunicorn listens on 0.0.0.0:$PORT where PORT is set.
    "gunicorn": (("--bind", "-b", "--config", "-c"), ("GUNICORN_CMD_ARGS", "PORT")),
    "flask": (("--host", "-h"), ("FLASK_RUN_HOST",)),
}
#: Servers for development: the words that start them, and how an argument begins that names another address.
_DEVELOPMENT: tuple[tuple[frozenset[str], tuple[str, ...]], ...] = (
    (frozenset({"runserver"}), ("0.0.0.0", "[::]", "0:")),  # the app's address
    (frozenset({"artisan", "serve"}), ("--host",)),
)
_ADDRESS_FLAGS = ("--host", "--bind", "-b", "--hostname", "-H")


def harms(workload: Workload) -> Iterator[str]:
    """Find a port that the Service sends to, and that nothing in the Pod has or listens at."""
    app, target = workload.app, workload.target_port
    if isinstance(target, str) and not workload.has_port(target):
        yield (
            f"the Service sends to the port named {target}, which no container has, so that it has no endpoints and all requests"
            " fail: name a port of the container so, or correct targetPort"
        )
        return
    wanted, told = workload.port, ports_told(app)
    alone = len(workload.containers) == 1 and not any(one.restarts_always for one in workload.init_containers)
    if told and wanted is not None and wanted not in told and alone and app.main is not None:
        ports = " and ".join(map(str, sorted(told)))
        yield (
            f"container {app.name} is started by {app.main.program} at port {ports}, and the Service sends to {wanted}, where"
            " nothing listens: make them the same"
        )


def find(workload: Workload) -> Iterator[str]:
    """Find a server that listens on loopback, or at another port."""
    app = workload.app
    main = app.main
    if main is not None and (why := _loopback(app, main)):
        yield (
            f"container {app.name}: {why}, where no other Pod can reach it; with a sidecar it may answer all the same until the"
            " sidecar changes: listen on 0.0.0.0"
        )
    if main is not None and "$PORT" in main.text.replace("{", "") and "PORT" not in app.env and not app.env_is_open:
        yield f"container {app.name} is started with $PORT, which Heroku sets and this manifest does not: set PORT"
    told, wanted = app.env.get("PORT"), workload.port
    if told is not None and wanted is not None and told.isdecimal() and int(told) != wanted:
        yield (
            f"container {app.name} is told to listen at PORT {told}, and the Service sends requests to {wanted}: make them the"
            " same"
        )


def _loopback(app: Container, main: Command) -> str:
    """Return why a server listens on loopback; ``""`` if nothing shows it."""
    for flag in _ADDRESS_FLAGS:
        if _LOOPBACK.match(main.value(flag) or ""):
            return f"{main.program} is told to listen on {main.value(flag)}"
    if main.program in _ON_LOOPBACK:
        flags, variables = _ON_LOOPBACK[main.program]
        told = main.value(*flags) is not None or any(name in app.env for name in variables)
        # What envFrom brings may be one of the variables.
        if not told and not (variables and app.env_is_open):
            return f"{main.program} listens on 127.0.0.1 unless it is told otherwise"
    words = {main.program, *main.arguments}
    for started_by, addresses in _DEVELOPMENT:
        if started_by <= words and not any(argument.startswith(addresses) for argument in main.arguments):
            return f"{main.program} {' '.join(main.arguments[:2])} listens on 127.0.0.1 unless it is told otherwise"
    return ""


CHECK = audit(
    "listen-address",
    "the app's server does not listen on 127.0.0.1, and `PORT` is the port that the Service sends to; fails where no container has"
    " that port, or where the only server of the Pod is told to listen at another",
    find,
    harms=harms,
)
