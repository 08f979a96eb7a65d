"""Certificates from files: read again when they change, and what is wrong with them in words."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx

from cutover.adapters.secret_files import CredentialsError
from cutover.settings import Tls

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
