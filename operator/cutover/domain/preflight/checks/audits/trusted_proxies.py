"""Audit ``trusted-proxies``: Heroku's buildpack had Python servers believe X-Forwarded-Proto of any peer."""

from __future__ import annotations

from collections.abc import Iterator

from cutover.domain.preflight.audit import audit
from cutover.domain.preflight.workload import Workload


def find(workload: Workload) -> Iterator[str]:
    """Find a server that believes the headers of 127.0.0.1 only, which no gateway or sidecar comes from."""
    app = workload.app
    main = app.main
    if main is None or main.program not in ("gunicorn", "uvicorn"):
        return
    if main.value("--config", "-c") is not None and main.program == "gunicorn":
        return
    told = main.value("--forwarded-allow-ips") is not None or any(
        name in app.env for name in ("FORWARDED_ALLOW_IPS", "GUNICORN_CMD_ARGS")
    )
    if not told and not app.env_is_open:
        yield (
            f"container {app.name}: {main.program} believes X-Forwarded-Proto of 127.0.0.1 only, and the gateway comes from"
            " elsewhere, so the app takes HTTPS for HTTP (redirects, cookies without Secure); set FORWARDED_ALLOW_IPS=* as"
            " Heroku's buildpack does, where only the mesh can reach the Pod"
        )


CHECK = audit("trusted-proxies", "gunicorn and uvicorn are told to believe the gateway's `X-Forwarded-Proto`", find)
