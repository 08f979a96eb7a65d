"""Fingerprints of configuration values, by which values are compared that nobody may see.

Equal values have equal fingerprints. The key is made anew by each process and never leaves it, so that a fingerprint tells
nothing to who finds one: no list of likely passwords can be tried against it.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

#: Bytes of a fingerprint: two values have the same one by chance once in 2**128.
SIZE = 16


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What stands for a value.

    Parameters
    ----------
    whole
        Keyed digest of the value.
    trimmed
        Keyed digest of the value without white space at its ends, such as the line end that ``echo`` leaves in a Secret.
    """

    whole: bytes
    trimmed: bytes


class Fingerprints:
    """Makes fingerprints.

    Parameters
    ----------
    key
        A random key of this process, of 32 bytes.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of(self, value: str | bytes) -> Fingerprint:
        """Return the fingerprint of a value."""
        data = value.encode(errors="surrogatepass") if isinstance(value, str) else value
        return Fingerprint(self._digest(data), self._digest(data.strip()))

    def _digest(self, data: bytes) -> bytes:
        return hmac.digest(self._key, data, "sha256")[:SIZE]


@dataclass(frozen=True, slots=True)
class ConfigValues:
    """Fingerprints of an app's config vars.

    Parameters
    ----------
    known
        By the config var's name. Those are missing whose values Heroku does not tell, as they are masked.
    fingerprints
        What made them, for what they are compared with.
    """

    known: Mapping[str, Fingerprint]
    fingerprints: Fingerprints = field(repr=False, compare=False)
