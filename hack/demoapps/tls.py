"""Certificates of the simulated Heroku router, and the SNI that a client sent."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from devstack.certificates import PrivateKey, certificate_pem, issue, key_pem, new_authority, new_key

#: Domain whose names all share one certificate, as on Heroku.
SHARED_DOMAIN = "herokuapp.com"

_LIFETIME = dt.timedelta(days=30)


class SniObject(ssl.SSLObject):
    """TLS state of one connection that remembers the server name the client asked for."""

    sni: str | None = None


def server_context(cert_dir: Path, hostnames: Iterable[str]) -> ssl.SSLContext:
    """Make the certificates of a router and a TLS context that picks them by SNI.

    The certificate authority in `cert_dir` is kept if there is one, so that
    clients that trust it survive a restart of the router.

    Parameters
    ----------
    cert_dir
        Directory for `ca.crt`, `ca.key` and the servers' own.
    hostnames
        All names that are served. Those under `herokuapp.com` share a wildcard
        certificate, which also serves unknown names; others have their own.

    """
    cert_dir.mkdir(parents=True, exist_ok=True)
    ca_key, ca = _authority(cert_dir)
    shared = _context(_issue(cert_dir, "wildcard", f"*.{SHARED_DOMAIN}", ca_key, ca))
    own = {name: _context(_issue(cert_dir, name, name, ca_key, ca)) for name in hostnames if not is_shared(name)}

    def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if isinstance(connection, SniObject) and name is not None:
            connection.sni = name.lower()
            connection.context = next((own[known] for known in names_of(connection.sni) if known in own), shared)

    shared.sslobject_class = SniObject
    shared.sni_callback = choose
    return shared


def names_of(hostname: str) -> list[str]:
    """Return a name and the wildcard domains that include it, the most specific first."""
    labels = hostname.split(".")
    return [hostname, *(".".join(["*", *labels[index:]]) for index in range(1, len(labels) - 1))]


def is_shared(hostname: str) -> bool:
    """Tell whether a name is under `herokuapp.com`, and so on the shared certificate."""
    return hostname.endswith(f".{SHARED_DOMAIN}")


def _context(chain: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _authority(cert_dir: Path) -> tuple[PrivateKey, x509.Certificate]:
    key_file, cert_file = cert_dir / "ca.key", cert_dir / "ca.crt"
    if key_file.exists() and cert_file.exists():
        known = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
        cert = x509.load_pem_x509_certificate(cert_file.read_bytes())
        if isinstance(known, PrivateKey) and cert.not_valid_after_utc > dt.datetime.now(dt.UTC) + _LIFETIME / 30:
            return known, cert
    key = new_key()
    cert = new_authority("heroku-sim CA", key, _LIFETIME)
    _write_private(key_file, key_pem(key))
    cert_file.write_text(certificate_pem(cert))
    return key, cert


def _issue(cert_dir: Path, stem: str, hostname: str, ca_key: PrivateKey, ca: x509.Certificate) -> Path:
    key = new_key()
    cert = issue(hostname, [x509.DNSName(hostname)], key, authority=ca, authority_key=ca_key, lifetime=_LIFETIME)
    chain = cert_dir / f"{stem.replace('*', '_')}.pem"
    _write_private(chain, key_pem(key) + certificate_pem(cert))
    return chain


def _write_private(path: Path, content: str) -> None:
    path.touch(mode=0o600)
    path.write_text(content)
