"""The keys of one stack: its own certificate authority, the API server's certificate, its tokens."""

from __future__ import annotations

import datetime as dt
import ipaddress
import secrets
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from devstack.support import write_atomically

_LIFETIME = dt.timedelta(days=365)


def ensure_keys(folder: Path) -> str:
    """Make the keys of a stack unless they are there already.

    Parameters
    ----------
    folder
        Where the files go: ``ca.crt``, ``server.crt``, ``server.key``, ``sa.key``, ``sa.pub``,
        ``tokens.csv``.

    Returns
    -------
    str
        The administrator's bearer token.
    """
    tokens = folder / "tokens.csv"
    # Written last, so its presence says that the others are whole.
    if tokens.exists():
        return tokens.read_text().split(",", 1)[0]
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = _name("cutover devstack")
    authority = (
        _certificate(authority_name, authority_name, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.DNSName("localhost"), x509.DNSName("kubernetes.default.svc")]
    server = (
        _certificate(_name("kube-apiserver"), authority_name, key.public_key())
        .add_extension(
            x509.SubjectAlternativeName([*names, x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    accounts_key = ec.generate_private_key(ec.SECP256R1())
    token = secrets.token_urlsafe(32)
    for file, text in (
        ("ca.crt", authority.public_bytes(serialization.Encoding.PEM).decode()),
        ("server.crt", server.public_bytes(serialization.Encoding.PEM).decode()),
        ("server.key", _private(key)),
        ("sa.key", _private(accounts_key)),
        (
            "sa.pub",
            accounts_key.public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            .decode(),
        ),
        ("tokens.csv", f"{token},admin,admin,system:masters\n"),
    ):
        write_atomically(folder / file, text, mode=0o600)
    return token


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + _LIFETIME)
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _private(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        # The API server reads EC keys in the traditional form only from old versions on; both read this one.
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode()
