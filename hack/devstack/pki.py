"""The keys of one stack: its own certificate authority, the API server's certificate, its tokens."""

from __future__ import annotations

import datetime as dt
import ipaddress
import secrets
from pathlib import Path

from cryptography import x509

from devstack.certificates import certificate_pem, issue, key_pem, new_authority, new_key, public_pem
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
    authority_key, server_key, accounts_key = new_key(), new_key(), new_key()
    authority = new_authority("cutover devstack", authority_key, _LIFETIME)
    names = [x509.DNSName("localhost"), x509.DNSName("kubernetes.default.svc")]
    server = issue(
        "kube-apiserver",
        [*names, x509.IPAddress(ipaddress.ip_address("127.0.0.1"))],
        server_key,
        authority=authority,
        authority_key=authority_key,
        lifetime=_LIFETIME,
    )
    token = secrets.token_urlsafe(32)
    for file, text in (
        ("ca.crt", certificate_pem(authority)),
        ("server.crt", certificate_pem(server)),
        ("server.key", key_pem(server_key)),
        ("sa.key", key_pem(accounts_key)),
        ("sa.pub", public_pem(accounts_key)),
        ("tokens.csv", f"{token},admin,admin,system:masters\n"),
    ):
        write_atomically(folder / file, text, mode=0o600)
    return token
