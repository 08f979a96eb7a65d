"""Kopf's credentials for the API server."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from typing import Any

import kopf

from cutover.settings import Settings

#: Seconds between two logins of Kopf, which reads the files with the credentials for each.
LOGIN_SECONDS = 2.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Login(kopf.ConnectionInfo):
    """Credentials that are equal to no others.

    Kopf takes equal ones that were refused once for refused for ever, and ends the process. But an API server refuses
    good tokens too, as while it starts or cannot ask whoever checks them, and then Kubernetes would start the process
    anew at ever longer intervals.
    """

    __eq__ = object.__eq__
    __hash__ = object.__hash__


def register_login(registry: kopf.OperatorRegistry, settings: Settings) -> None:
    """Register what gives Kopf its credentials, at most once in so many seconds."""
    last = -math.inf

    @kopf.on.login(registry=registry, errors=kopf.ErrorsMode.TEMPORARY, backoff=LOGIN_SECONDS)
    async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        nonlocal last
        # Kopf logs in whenever its credentials are refused, at once.
        await asyncio.sleep(max(0.0, last + LOGIN_SECONDS - time.monotonic()))
        last = time.monotonic()
        if settings.kubeconfig is not None:
            found = kopf.login_with_kubeconfig(**kwargs)
        else:
            found = kopf.login_with_service_account(**kwargs)
        return None if found is None else Login(**vars(found))
