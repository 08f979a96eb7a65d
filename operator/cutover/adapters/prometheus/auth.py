"""Who the operator is to a Prometheus server: tokens, passwords, signatures, certificates.

Every secret is a file of a mounted Secret and is read when it is needed, as secrets are rotated. Nothing here keeps one,
and no text made here quotes one.
"""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from cutover.settings import PrometheusServer, Tls

if TYPE_CHECKING:
    from awscrt.auth import AwsCredentialsProvider


class CredentialsError(Exception):
    """Credentials cannot be had or used. Its text is for people and quotes none of them."""


def _read(file: Path, what: str) -> str:
    try:
        text = file.read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        # ValueError's own text would quote the secret.
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise CredentialsError(f"the {what} file cannot be read: {why}") from None
    if not text:
        raise CredentialsError(f"the {what} file is empty")
    if not text.isprintable():
        raise CredentialsError(f"the {what} file has more than one line, or signs that cannot be sent")
    return text


class BearerToken(httpx.Auth):
    """A token from a file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the token. Raises CredentialsError."""
        token = _read(self._file, "token")
        if not token.isascii():
            raise CredentialsError("the token file has signs that cannot be sent")
        request.headers["Authorization"] = f"Bearer {token}"
        yield request


class BasicAuth(httpx.Auth):
    """A name and a password from files."""

    def __init__(self, username_file: Path, password_file: Path) -> None:
        self._username_file = username_file
        self._password_file = password_file

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add both. Raises CredentialsError."""
        name, password = _read(self._username_file, "username"), _read(self._password_file, "password")
        yield from httpx.BasicAuth(name, password).auth_flow(request)


class SigV4(httpx.Auth):
    """AWS' Signature Version 4, by AWS' own library.

    Parameters
    ----------
    region, service
        What is signed for, such as ``eu-west-1`` and ``aps``.
    provider
        Where credentials come from; by default AWS' usual chain: environment, profile, web identity (IRSA), EKS Pod
        Identity, the instance. It keeps and renews them.
    """

    requires_request_body = True

    def __init__(self, region: str, service: str, provider: AwsCredentialsProvider | None = None) -> None:
        self._region = region
        self._service = service
        self._provider = provider

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Add the signature. Raises CredentialsError."""
        # Only here: it is some megabytes and threads, which nobody else needs.
        from awscrt.auth import AwsCredentialsProvider, AwsSigningConfig, aws_sign_request
        from awscrt.exceptions import AwsCrtError
        from awscrt.http import HttpHeaders, HttpRequest

        # What a proxy on the way may change is not signed.
        headers = {"host": request.headers["host"], "content-type": request.headers["content-type"]}
        path = request.url.raw_path.decode("ascii")
        message = HttpRequest(request.method, path, HttpHeaders(list(headers.items())), io.BytesIO(request.content))
        try:
            if self._provider is None:
                self._provider = AwsCredentialsProvider.new_default_chain()
            config = AwsSigningConfig(credentials_provider=self._provider, region=self._region, service=self._service)
            # Shielded: the library sets the result of its future also when nobody waits any more.
            signed = await asyncio.shield(asyncio.wrap_future(aws_sign_request(message, config)))
        except (AwsCrtError, OSError, RuntimeError) as error:
            why = error.message if isinstance(error, AwsCrtError) else type(error).__name__
            raise CredentialsError(f"AWS credentials cannot be had: {why}") from None
        request.headers.update([(name, value) for name, value in signed.headers if name.lower() not in headers])
        yield request


def auth_of(server: PrometheusServer) -> httpx.Auth | None:
    """Return what adds a server's credentials to a request."""
    if server.bearer_token_file is not None:
        return BearerToken(server.bearer_token_file)
    if server.basic_auth is not None:
        return BasicAuth(server.basic_auth.username_file, server.basic_auth.password_file)
    if server.sigv4 is not None:
        return SigV4(server.sigv4.region, server.sigv4.service)
    return None


#: What tells one version of the files from the next.
TlsVersion = tuple[tuple[int, int, int] | None, ...]


def tls_version(tls: Tls) -> TlsVersion:
    """Return what changes when one of the files does."""
    return tuple(_version(file) for file in (tls.ca_file, tls.cert_file, tls.key_file))


def _version(file: Path | None) -> tuple[int, int, int] | None:
    if file is None:
        return None
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Read the files.

    Raises
    ------
    CredentialsError
        Where one of them cannot be read or is not what it should be.
    """
    try:
        context = httpx.create_ssl_context() if tls.ca_file is None else ssl.create_default_context(cafile=tls.ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise CredentialsError(f"the file of the CA cannot be used: {tls_reason(error)}") from None
    if tls.cert_file is not None:
        try:
            # Without a password OpenSSL would ask the terminal for one.
            context.load_cert_chain(tls.cert_file, tls.key_file, password=lambda: "")
        except OSError as error:
            raise CredentialsError(
                f"the files of the client's certificate and its key cannot be used: {tls_reason(error)}"
            ) from None
    return context


def tls_reason(error: OSError) -> str:
    """Return OpenSSL's reason as people read it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or "it is not PEM").replace("_", " ").lower()
    return error.strerror or type(error).__name__
