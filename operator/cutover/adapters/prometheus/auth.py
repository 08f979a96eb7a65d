"""Credentials for Prometheus servers: tokens, passwords and AWS' signatures.

This module keeps no secret in memory, and no text of it quotes a secret.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from cutover.adapters.secret_files import CredentialsError, read_secret
from cutover.settings import PrometheusServer

if TYPE_CHECKING:
    from awscrt.auth import AwsCredentialsProvider


class BearerToken(httpx.Auth):
    """A token from a file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the token. Raises CredentialsError."""
        request.headers["Authorization"] = f"Bearer {read_secret(self._file, 'token')}"
        yield request


class BasicAuth(httpx.Auth):
    """A name and a password from files."""

    def __init__(self, username_file: Path, password_file: Path) -> None:
        self._username_file = username_file
        self._password_file = password_file

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the name and the password. Raises CredentialsError."""
        name = read_secret(self._username_file, "username", ascii_only=False)
        password = read_secret(self._password_file, "password", ascii_only=False)
        yield from httpx.BasicAuth(name, password).auth_flow(request)


class SigV4(httpx.Auth):
    """AWS' Signature Version 4, by AWS' own library.

    Parameters
    ----------
    region, service
        Region and service of the signature, such as ``eu-west-1`` and ``aps``.
    provider
        Source of the credentials, which caches and renews them; by default AWS' chain: environment, profile, web identity
        (IRSA), EKS Pod Identity, the instance.
    """

    requires_request_body = True

    def __init__(self, region: str, service: str, provider: AwsCredentialsProvider | None = None) -> None:
        self._region = region
        self._service = service
        self._provider = provider

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Add the signature. Raises CredentialsError."""
        # Imported here only: it takes some megabytes and threads, which other credentials do not need.
        from awscrt.auth import AwsCredentialsProvider, AwsSigningConfig, aws_sign_request
        from awscrt.exceptions import AwsCrtError
        from awscrt.http import HttpHeaders, HttpRequest

        # Headers that a proxy may change are not signed.
        headers = {"host": request.headers["host"], "content-type": request.headers["content-type"]}
        path = request.url.raw_path.decode("ascii")
        message = HttpRequest(request.method, path, HttpHeaders(list(headers.items())), io.BytesIO(request.content))
        try:
            if self._provider is None:
                self._provider = AwsCredentialsProvider.new_default_chain()
            config = AwsSigningConfig(credentials_provider=self._provider, region=self._region, service=self._service)
            # Shielded: the library sets the result of its future even after a cancellation.
            signed = await asyncio.shield(asyncio.wrap_future(aws_sign_request(message, config)))
        except (AwsCrtError, OSError, RuntimeError) as error:
            why = error.message if isinstance(error, AwsCrtError) else type(error).__name__
            raise CredentialsError(f"there are no AWS credentials: {why}") from None
        request.headers.update([(name, value) for name, value in signed.headers if name.lower() not in headers])
        yield request


def auth_of(server: PrometheusServer) -> httpx.Auth | None:
    """Return the authentication of a server, ``None`` without credentials."""
    if server.bearer_token_file is not None:
        return BearerToken(server.bearer_token_file)
    if server.basic_auth is not None:
        return BasicAuth(server.basic_auth.username_file, server.basic_auth.password_file)
    if server.sigv4 is not None:
        return SigV4(server.sigv4.region, server.sigv4.service)
    return None
