"""Limits of requests by the address of who asks, as Rack::Attack, express-rate-limit and nginx have them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable


class Throttle:
    """Counts the requests of each address over the last second.

    Parameters
    ----------
    now
        Returns monotonic seconds.

    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._taken: dict[str, deque[float]] = {}

    def refuses(self, address: str, per_second: int) -> bool:
        """Count a request, unless it is one too many; tell whether it is.

        Parameters
        ----------
        per_second
            Requests of one address that are taken within a second; 0 for any number.

        """
        if per_second == 0:
            return False
        now = self._now()
        taken = self._taken.setdefault(address, deque())
        while taken and now - taken[0] >= 1.0:
            taken.popleft()
        if len(taken) >= per_second:
            return True
        taken.append(now)
        return False


def asking_address(forwarded_for: str, trusted_proxies: int) -> str:
    """Return whom an app takes for the user, of the addresses in X-Forwarded-For.

    Parameters
    ----------
    forwarded_for
        The header's value; each proxy has appended who has connected to it.
    trusted_proxies
        How many of the last addresses the app knows as its proxies.

    """
    addresses = [part.strip() for part in forwarded_for.split(",")]
    return addresses[max(0, len(addresses) - 1 - trusted_proxies)]
