"""Audit ``probes``: what Kubernetes asks the app, how often, and what it does about the answer."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cutover.domain.preflight.audit import audit
from cutover.domain.preflight.workload import Container, Workload
from cutover.domain.resources import Json

#: Seconds after which a Pod that does not answer gets no more requests: more is felt by many.
MOST_SECONDS = 60
#: Defaults of a probe's fields.
_PERIOD, _TIMEOUT, _FAILURES = 10, 1, 3
#: Names in paths that ask others: a database, a cache, all that the app depends on.
_ASKS_OTHERS = re.compile(
    r"(?:^|[/_.-])(?:db|database|redis|deps|dependencies|deep|full|ready|readyz|readiness)(?:$|[/_.-])"
)


def find(workload: Workload) -> Iterator[str]:
    """Find probes that are missing, slow, or end a Pod for what is no fault of its own."""
    app = workload.app
    ready, alive = app.probe("readinessProbe"), app.probe("livenessProbe")
    if ready is None:
        yield (
            f"container {app.name} has no readinessProbe: it gets requests before it listens; Heroku waited until the port"
            " was bound"
        )
    else:
        yield from _slow(app, ready)
    for kind, probe in (("readinessProbe", ready), ("livenessProbe", alive)):
        if probe is not None and _seconds(probe, "timeoutSeconds", _TIMEOUT) >= _seconds(
            probe, "periodSeconds", _PERIOD
        ):
            yield f"{kind} of container {app.name} may take as long as its period: make timeoutSeconds shorter"
    if alive is not None:
        yield from _restarts(app, ready, alive)


def _slow(app: Container, ready: Json) -> Iterator[str]:
    seconds = _patience(ready)
    if seconds > MOST_SECONDS:
        yield (
            f"readinessProbe of container {app.name} notices a dead app after {seconds} s, and users notice it before: ask every"
            f" {_PERIOD} s or more often"
        )


def _restarts(app: Container, ready: Json | None, alive: Json) -> Iterator[str]:
    path = str((alive.get("httpGet") or {}).get("path") or "")
    if _ASKS_OTHERS.search(path.lower()):
        yield (
            f"livenessProbe of container {app.name} asks {path}, whose name suggests that it checks dependencies, too: when"
            " one fails, all Pods are restarted; check only that the process answers"
        )
    elif ready is not None and _asks(ready) and _asks(ready) == _asks(alive) and _patience(alive) <= _patience(ready):
        yield (
            f"livenessProbe of container {app.name} asks what readinessProbe asks and is no more patient: a Pod that is just"
            " busy is restarted, and the others get its requests; raise failureThreshold of livenessProbe"
        )


def _asks(probe: Json) -> Json:
    """Return what a probe asks, without what it asks it with."""
    kinds = ("httpGet", "tcpSocket", "exec", "grpc")
    return {kind: {k: v for k, v in probe[kind].items() if k != "httpHeaders"} for kind in kinds if probe.get(kind)}


def _patience(probe: Json) -> int:
    """Return the seconds of failures after which a probe acts."""
    return _seconds(probe, "periodSeconds", _PERIOD) * _seconds(probe, "failureThreshold", _FAILURES)


def _seconds(probe: Json, name: str, default: int) -> int:
    given = probe.get(name)
    return given if isinstance(given, int) and given > 0 else default


CHECK = audit(
    "probes",
    "there is a readinessProbe that notices a dead app within a minute, and a livenessProbe, if any, asks only the process"
    " itself",
    find,
)
