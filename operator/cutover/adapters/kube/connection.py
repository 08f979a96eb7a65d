"""Connects to the API server: address, certificates and credentials, from a kubeconfig or from the Pod."""

from __future__ import annotations

from pathlib import Path
from urllib.request import getproxies

import yaml
from kubernetes.aio import config as kubernetes_config
from kubernetes.aio.client import ApiClient, Configuration

from cutover.settings import SettingsError

#: Concurrent requests; a TLS connection has buffers of more than 256 KiB.
CONNECTIONS = 16

#: What reading credentials raises. The library assumes that a file, which may be half written, is a valid kubeconfig.
UNREADABLE = (OSError, kubernetes_config.ConfigException, yaml.YAMLError, AttributeError, KeyError, TypeError)


class CredentialsError(Exception):
    """The files with the credentials cannot be read, for example while they are replaced. Its text is for people."""


async def connect(kubeconfig: Path | None = None, connections: int = CONNECTIONS) -> ApiClient:
    """Return a client of the kubeconfig's API server, or without a kubeconfig of the cluster in which this Pod runs.

    Parameters
    ----------
    connections
        Most connections; further requests wait.

    Raises
    ------
    SettingsError
        Where there is neither a kubeconfig nor a Pod, or the credentials cannot be read.
    """
    configuration = Configuration()
    try:
        await load(configuration, kubeconfig)
    except UNREADABLE as error:
        where = (
            f"CUTOVER_KUBECONFIG: {kubeconfig}" if kubeconfig else "no CUTOVER_KUBECONFIG, and not in a cluster's Pod"
        )
        raise SettingsError(f"{where}: {error}") from error
    # The checkpoints of all plans are written at once. A TLS connection for each would cost more than the requests.
    configuration.connection_pool_maxsize = connections
    # Otherwise the library reads the proxy from the environment at each request, in a thread, which takes longer than the request.
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
    """Return the value of the ``Authorization`` header, ``None`` without a token. Raises CredentialsError."""
    try:
        return await configuration.get_api_key_with_prefix("BearerToken")
    except (OSError, kubernetes_config.ConfigException) as error:
        raise CredentialsError(str(error)) from error
