"""Whom a process trusts that speaks no TLS."""

from __future__ import annotations

import functools
from datetime import timedelta
from pathlib import Path

from devstack.certificates import certificate_pem, new_authority, new_key


def one_authority(folder: Path) -> dict[str, str]:
    """Return the environment of a process that trusts one authority, which signs nothing, written to a folder.

    Reading all of the machine's is a good part of what a short process computes.
    """
    path = folder / "authority.crt"
    path.write_text(_authority(), encoding="utf-8")
    return {"SSL_CERT_FILE": str(path)}


@functools.cache
def _authority() -> str:
    return certificate_pem(new_authority("nobody", new_key(), timedelta(days=1)))
