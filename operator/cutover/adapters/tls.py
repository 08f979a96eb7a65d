"""TLS certificates from files, which are read again when they change, and the reasons where they cannot be used."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx

from cutover.adapters.secret_files import CredentialsError
from cutover.settings import Tls

#: Identifies a version of the files.
TlsVersion = tuple[tuple[int, int, int] | None, ...]


def tls_version(tls: Tls) -> TlsVersion:
    """Return a value that changes when one of the files changes."""
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
    """Return a TLS context from the files.

    Raises
    ------
    CredentialsError
        Where a file cannot be read or has the wrong content.
    """
    try:
        context = httpx.create_ssl_context() if tls.ca_file is None else ssl.create_default_context(cafile=tls.ca_file)
    except OSError as error:  # includes ssl.SSLError
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
    """Return OpenSSL's reason for people."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or "it is not PEM").replace("_", " ").lower()
    return error.strerror or type(error).__name__
