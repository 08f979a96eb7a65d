"""Kopf's credentials for the API server."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from typing import Any

import kopf
from kubernetes.aio.client import Configuration

from cutover.adapters.kube.connection import load, token
from cutover.settings import Settings

#: Least seconds between two logins of Kopf. Each login reads the files with the credentials.
LOGIN_SECONDS = 2.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Login(kopf.ConnectionInfo):
    """Credentials that never equal others.

    Kopf treats credentials that equal rejected ones as invalid for ever, and ends the process. But an API server also rejects
    valid tokens, for example while it starts or cannot reach its token reviewer, and Kubernetes would then restart the
    process at ever longer intervals.
    """

    __eq__ = object.__eq__
    __hash__ = object.__hash__


def register_login(registry: kopf.OperatorRegistry, settings: Settings) -> None:
    """Register the login handler, which is rate-limited."""
    last = -math.inf

    @kopf.on.login(registry=registry, errors=kopf.ErrorsMode.TEMPORARY, backoff=LOGIN_SECONDS)
    async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        nonlocal last
        # Kopf logs in again at once whenever its credentials are rejected.
        await asyncio.sleep(max(0.0, last + LOGIN_SECONDS - time.monotonic()))
        last = time.monotonic()
        if settings.kubeconfig is not None:
            found = kopf.login_with_kubeconfig(**kwargs)
        else:
            found = await _of_the_pod()
        return None if found is None else Login(**vars(found))


async def _of_the_pod() -> kopf.ConnectionInfo:
    """Return the Pod's credentials, with the API server's address.

    Kopf itself would connect to ``kubernetes.default.svc``, so that its watches ended while the cluster's DNS is away.
    """
    configuration = Configuration()
    await load(configuration, None)
    value = await token(configuration)
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        token=value.partition(" ")[2] if value else None,
    )
