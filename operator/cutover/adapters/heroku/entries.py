"""Heroku's answers, entry by entry, as the domain has them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from cutover.adapters.heroku import models
from cutover.adapters.masking import masked
from cutover.domain.heroku import Addon, Certificate, Domain, Price, Process, Release
from cutover.domain.texts import digest, plain, shorten

#: Characters of what Heroku says of a release.
LONGEST_DESCRIPTION = 100

_T = TypeVar("_T")
_S = TypeVar("_S")

#: What may stand in the place of a masked value, beside null.
_MASKED = re.compile(r"[*\u2022]{3,}")


def config_value(raw: msgspec.Raw) -> str | None:
    """Return the value of a config var; ``None`` if Heroku does not tell it, as it is masked."""
    try:
        value = msgspec.json.decode(raw, type=str | None)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return None if value is None or _MASKED.fullmatch(value) else value


def release(entry: models.Release) -> Release:
    """Return a release."""
    code = (entry.slug and entry.slug.id) or (entry.oci_image and entry.oci_image.id) or ""
    return Release(
        entry.version,
        digest(code) if code else "",
        shorten(plain(masked(entry.description or "")), LONGEST_DESCRIPTION),
        current=entry.current,
        succeeded=entry.status in ("", "succeeded"),
        at=_with_zone(entry.created_at),
    )


def _with_zone(at: datetime | None) -> datetime | None:
    """Return a time with its zone; one without is taken as UTC, in which Heroku's are."""
    return at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at


def seen(entries: list[_T] | None, read: Callable[[_T], _S]) -> tuple[_S, ...] | None:
    """Return entries as the domain has them; ``None`` where the key may not see them."""
    return tuple(map(read, entries)) if entries is not None else None


def process(entry: models.FormationEntry) -> Process:
    """Return a process type of the formation."""
    size = entry.dyno_size.name if entry.dyno_size is not None else entry.size
    return Process(entry.type, entry.quantity, size or "")


def addon(entry: models.Addon) -> Addon:
    """Return an add-on."""
    service = entry.addon_service.name
    return Addon(service, entry.plan.name.removeprefix(f"{service}:"), entry.config_vars, _price(entry.billed_price))


def _price(given: models.BilledPrice | None) -> Price | None:
    if given is None or (given.cents is None and not given.contract and not given.metered):
        return None
    return Price(round(given.cents or 0), given.unit or "month", given.contract, given.metered)


def buildpack(entry: models.BuildpackInstallation) -> str:
    """Return the name of a buildpack."""
    name = entry.buildpack.name or entry.buildpack.url
    # A URL may have a password, or a token in its query.
    return name.partition("?")[0].rsplit("@", 1)[-1].removeprefix("https://") if "://" in name else name


def domain(entry: models.DomainEntry) -> Domain:
    """Return a domain."""
    return Domain((entry.hostname or "").lower(), (entry.cname or "").lower(), entry.acm_status or "")


def has_end(endpoint: models.SniEndpoint) -> bool:
    """Tell whether a certificate says when it ends."""
    return endpoint.ssl_cert is not None and endpoint.ssl_cert.expires_at is not None


def certificate(endpoint: models.SniEndpoint) -> Certificate:
    """Return a certificate that says when it ends."""
    assert endpoint.ssl_cert is not None, "see has_end"
    assert endpoint.ssl_cert.expires_at is not None, "see has_end"
    # The names that it is attached to stand in where the answer does not have those that it was issued for.
    names = endpoint.ssl_cert.cert_domains or endpoint.domains
    return Certificate(tuple(name.lower() for name in names), endpoint.ssl_cert.expires_at)
