"""The parts of Heroku's answers that are read. All else is dropped while it is parsed, secrets in URLs among it."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct


class Named(Struct, frozen=True):
    """An object of which only the name counts."""

    name: str = ""


class App(Struct, frozen=True):
    """``GET /apps/{app}``."""

    name: str
    maintenance: bool = False
    web_url: str | None = None
    stack: Named | None = None
    region: Named | None = None


class FormationEntry(Struct, frozen=True):
    """One of ``GET /apps/{app}/formation``."""

    type: str
    quantity: int = 0
    #: Under version 3 ``size`` is a text; newer answers have ``dyno_size``.
    size: str | None = None
    dyno_size: Named | None = None


class DomainEntry(Struct, frozen=True):
    """One of ``GET /apps/{app}/domains``."""

    hostname: str | None = None
    kind: str = ""
    cname: str | None = None
    acm_status: str | None = None


class Certificate(Struct, frozen=True):
    """The certificate of an SNI endpoint, with the names that it was issued for."""

    expires_at: datetime | None = None
    cert_domains: tuple[str, ...] = ()


class SniEndpoint(Struct, frozen=True):
    """One of ``GET /apps/{app}/sni-endpoints``. Its ``domains`` are those of the app that it is attached to."""

    domains: tuple[str, ...] = ()
    ssl_cert: Certificate | None = None


class BilledPrice(Struct, frozen=True):
    """What an add-on costs."""

    cents: float | None = None
    unit: str = ""
    contract: bool = False
    metered: bool = False


class Addon(Struct, frozen=True):
    """One of ``GET /apps/{app}/addons``."""

    addon_service: Named = Named()
    plan: Named = Named()
    config_vars: tuple[str, ...] = ()
    billed_price: BilledPrice | None = None


class Buildpack(Struct, frozen=True):
    """A buildpack, by its name in the registry or its URL."""

    name: str = ""
    url: str = ""


class BuildpackInstallation(Struct, frozen=True):
    """One of ``GET /apps/{app}/buildpack-installations``."""

    buildpack: Buildpack = Buildpack()


class LogDrain(Struct, frozen=True):
    """One of ``GET /apps/{app}/log-drains``. Its URL has a password, so that nothing of it is read."""


class Feature(Struct, frozen=True):
    """One of ``GET /apps/{app}/features``."""

    name: str = ""
    enabled: bool = False


class Identified(Struct, frozen=True):
    """An object of which only the identifier counts."""

    id: str = ""


class Release(Struct, frozen=True):
    """One of ``GET /apps/{app}/releases``. Fir's apps have an image in place of a slug."""

    version: int
    status: str = ""
    current: bool = False
    description: str | None = None
    created_at: datetime | None = None
    slug: Identified | None = None
    oci_image: Identified | None = None


class Problem(Struct, frozen=True):
    """The body of an error. Its message is not read: it may quote the request."""

    id: str = ""
