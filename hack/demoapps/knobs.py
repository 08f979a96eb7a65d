"""The knobs that make a demo app sick while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal, TypedDict

Leg = Literal["heroku", "eks"]


class KnobError(ValueError):
    """A knob that does not exist, or a value that it cannot take."""


class KnobChanges(TypedDict, total=False):
    """A partial set of knobs, with the meanings of `Knobs`."""

    error_ratio: float
    latency_ms: float
    slow_ratio: float
    slow_ms: float
    status: int
    failed_checkout_ratio: float
    throttled_ratio: float
    requests_per_address: int
    trusted_proxies: int
    hang: bool
    refuse: bool
    down: bool
    maintenance: bool
    platform_error: bool
    canonical_host: str
    allowed_host: str
    insists_on_tls: bool
    build: str


@dataclass(frozen=True, slots=True)
class Knobs:
    """How one app behaves.

    Attributes
    ----------
    error_ratio
        Fraction of requests answered with 500, 0 to 1.
    latency_ms
        Latency of every request in milliseconds, give or take a fifth.
    slow_ratio
        Fraction of requests that take `slow_ms` longer, 0 to 1.
    slow_ms
        What is added to those, in milliseconds.
    status
        Status code of a request that is not made to fail.
    failed_checkout_ratio
        Fraction of requests that are answered as ever, but whose checkout has
        failed, 0 to 1: only the app's own metrics tell.
    throttled_ratio
        Fraction of CFS periods that are throttled at least, 0 to 1; it slows
        no request (EKS only).
    requests_per_address
        Requests that an address may make within a second; more are answered
        with 429. 0: any number.
    trusted_proxies
        How many of the last addresses in X-Forwarded-For are proxies to the
        app, so that the one before them is the user's.
    hang
        Requests are read and never answered, while this is set.
    refuse
        Connections are refused, open ones are cut (EKS only).
    down
        The app has crashed: the router answers 503, H10 (Heroku only).
    maintenance
        Maintenance mode: the router answers 503, H80 (Heroku only).
    platform_error
        Heroku itself is down: the router answers 503, H99 (Heroku only).
    canonical_host
        Requests for any other host are redirected to this one; empty: to none.
    allowed_host
        Requests for any other host are answered with 400; empty: none.
    insists_on_tls
        Requests that came by plain HTTP, as far as the app hears, are
        redirected to HTTPS.
    build
        Name of a build, whose page `/` is: HTML with hashed assets, a cookie
        and security headers; empty: the JSON that other paths have.

    """

    error_ratio: float = 0.0
    latency_ms: float = 5.0
    slow_ratio: float = 0.0
    slow_ms: float = 8000.0
    status: int = 200
    failed_checkout_ratio: float = 0.0
    throttled_ratio: float = 0.0
    requests_per_address: int = 0
    trusted_proxies: int = 0
    hang: bool = False
    refuse: bool = False
    down: bool = False
    maintenance: bool = False
    platform_error: bool = False
    canonical_host: str = ""
    allowed_host: str = ""
    insists_on_tls: bool = False
    build: str = ""

    def with_changes(self, changes: Mapping[str, object], leg: Leg) -> Knobs:
        """Return the knobs with some of them turned.

        Raises
        ------
        KnobError
            If a knob is unknown, has no meaning on this leg, or cannot take
            the value.

        """
        for name, value in changes.items():
            _check(name, value, leg)
        return replace(self, **changes)  # type: ignore[arg-type]  # checked just above


KNOB_NAMES = tuple(field.name for field in fields(Knobs))

_RATIOS = ("error_ratio", "slow_ratio", "failed_checkout_ratio", "throttled_ratio")
_DURATIONS = ("latency_ms", "slow_ms")
_TEXTS = ("canonical_host", "allowed_host", "build")
_COUNTS = ("requests_per_address", "trusted_proxies")
_NOT_HERE: dict[tuple[Leg, str], str] = {
    ("heroku", "throttled_ratio"): "only the EKS leg's containers have a CPU limit",
    ("heroku", "refuse"): (
        "apps on the Heroku leg share one listener: set `down` for one app, or PUT /router for the whole router"
    ),
    ("eks", "down"): "only the Heroku leg has a router that answers H10: set `refuse`",
    ("eks", "maintenance"): "only the Heroku leg has a maintenance mode",
    ("eks", "platform_error"): "only the Heroku leg has a router that answers H99: set `refuse`",
}


def knobs_of(leg: Leg) -> tuple[str, ...]:
    """Return the names of the knobs that have a meaning on a leg."""
    return tuple(name for name in KNOB_NAMES if (leg, name) not in _NOT_HERE)


def _check(name: str, value: object, leg: Leg) -> None:
    if name not in KNOB_NAMES:
        raise KnobError(f"no knob {name!r}; there are {', '.join(KNOB_NAMES)}")
    if reason := _NOT_HERE.get((leg, name)):
        raise KnobError(f"{name}: {reason}")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if name in _RATIOS:
        if not (is_number and 0 <= value <= 1):  # type: ignore[operator]
            raise KnobError(f"{name} is a number from 0 to 1, not {value!r}")
    elif name in _DURATIONS:
        if not (is_number and 0 <= value <= 600_000):  # type: ignore[operator]
            raise KnobError(f"{name} is a number from 0 to 600000 (milliseconds), not {value!r}")
    elif name in _COUNTS:
        if not (type(value) is int and value >= 0):
            raise KnobError(f"{name} is an integer from 0 up, not {value!r}")
    elif name == "status":
        if not (type(value) is int and 200 <= value <= 599):
            raise KnobError(f"status is an integer from 200 to 599, not {value!r}")
    elif name in _TEXTS:
        if not isinstance(value, str):
            raise KnobError(f"{name} is a text, not {value!r}")
    elif not isinstance(value, bool):
        raise KnobError(f"{name} is true or false, not {value!r}")
