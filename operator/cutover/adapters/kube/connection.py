"""How the API server is reached: addresses, certificates and credentials, from a kubeconfig or from the Pod."""

from __future__ import annotations

from pathlib import Path
from urllib.request import getproxies

import yaml
from kubernetes.aio import config as kubernetes_config
from kubernetes.aio.client import ApiClient, Configuration

from cutover.settings import SettingsError

#: Requests that are made at the same time; a TLS connection has buffers of more than 256 KiB.
CONNECTIONS = 16

#: What reading credentials raises. The library takes for granted that a file, which may be half written, is a kubeconfig.
UNREADABLE = (OSError, kubernetes_config.ConfigException, yaml.YAMLError, AttributeError, KeyError, TypeError)


class CredentialsError(Exception):
    """The files with the credentials cannot be read, as while they are exchanged; its text is for people."""


async def connect(kubeconfig: Path | None = None, connections: int = CONNECTIONS) -> ApiClient:
    """Return a client of the kubeconfig's API server, or without one of that of the Pod that this runs in.

    Parameters
    ----------
    connections
        How many it may have; further requests wait.

    Raises
    ------
    SettingsError
        Where there is neither, or it cannot be read.
    """
    configuration = Configuration()
    try:
        await load(configuration, kubeconfig)
    except UNREADABLE as error:
        where = (
            f"CUTOVER_KUBECONFIG: {kubeconfig}" if kubeconfig else "no CUTOVER_KUBECONFIG, and not in a cluster's Pod"
        )
        raise SettingsError(f"{where}: {error}") from error
    # The checkpoints of all plans come at once. A TLS connection for each would cost more than they do.
    configuration.connection_pool_maxsize = connections
    # With each request the environment is looked at for a proxy, by another thread; it takes longer than the request.
    configuration.client_session_kwargs = {"trust_env": bool(getproxies())}
    return ApiClient(configuration)


async def load(configuration: Configuration, kubeconfig: Path | None) -> None:
    """Read address and credentials into a configuration. Raises what is in :data:`UNREADABLE`."""
    if kubeconfig is not None:
        await kubernetes_config.load_kube_config(  # type: ignore[no-untyped-call]
            config_file=str(kubeconfig), client_configuration=configuration, persist_config=False
        )
    else:
        kubernetes_config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]


async def token(configuration: Configuration) -> str | None:
    """Return the ``Authorization`` header's value, ``None`` where there is none. Raises CredentialsError."""
    try:
        return await configuration.get_api_key_with_prefix("BearerToken")
    except (OSError, kubernetes_config.ConfigException) as error:
        raise CredentialsError(str(error)) from error
