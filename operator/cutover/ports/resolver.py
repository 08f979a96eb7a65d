"""Asking DNS about the hosts of plans."""

from __future__ import annotations

from typing import Protocol

from cutover.domain.dns import HostRecord


class Resolver(Protocol):
    """Asks DNS, as the operator's machine is told to."""

    async def record(self, host: str) -> HostRecord:
        """Return the records of a host. Never raises: a record says why there is no answer."""
