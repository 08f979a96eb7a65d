"""Masks credentials in texts that others wrote: an error page may quote the request that it refuses."""

from __future__ import annotations

import re

#: The value of the header in any notation. Its scheme, such as Bearer, is kept.
_HEADER = re.compile(
    r"""(?i)(authorization[\\'"]*\s*[:=,]\s*[\\'"\[(]*)((?:bearer|basic|aws4-hmac-sha256)\s+)?[^\s\\'",;)\]}]+"""
)
#: A token without the header.
_TOKEN = re.compile(r"(?i)\b(bearer\s+)[a-z0-9._~+/=-]{8,}")


def masked(text: str) -> str:
    """Return the text without the values of ``Authorization`` headers and without bearer tokens."""
    return _TOKEN.sub(r"\1…", _HEADER.sub(r"\1\2…", text))
