"""Certificates of the simulated Heroku router, and the SNI that a client sent."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

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
            connection.context = own.get(connection.sni, shared)

    shared.sslobject_class = SniObject
    shared.sni_callback = choose
    return shared


def is_shared(hostname: str) -> bool:
    """Tell whether a name is under `herokuapp.com`, and so on the shared certificate."""
    return hostname.endswith(f".{SHARED_DOMAIN}")


def _context(chain: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _authority(cert_dir: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key_file, cert_file = cert_dir / "ca.key", cert_dir / "ca.crt"
    if key_file.exists() and cert_file.exists():
        key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
        cert = x509.load_pem_x509_certificate(cert_file.read_bytes())
        expires = cert.not_valid_after_utc
        if isinstance(key, ec.EllipticCurvePrivateKey) and expires > _now() + _LIFETIME / 30:
            return key, cert
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "heroku-sim CA")])
    cert = (
        _builder(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write_private(key_file, _key_pem(key))
    cert_file.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    return key, cert


def _issue(
    cert_dir: Path,
    stem: str,
    hostname: str,
    ca_key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate,
) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname[:64])])
    cert = (
        _builder(name, ca.subject, key.public_key())
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(hostname)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    chain = cert_dir / f"{stem}.pem"
    _write_private(chain, _key_pem(key) + cert.public_bytes(serialization.Encoding.PEM))
    return chain


def _builder(subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        # An hour back, for clocks that differ a little.
        .not_valid_before(_now() - dt.timedelta(hours=1))
        .not_valid_after(_now() + _LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write_private(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
