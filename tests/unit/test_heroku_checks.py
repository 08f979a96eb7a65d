"""The checks of what Heroku's API says: each finding, and that nothing is held where Heroku does not answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.kit.target import READY
from tests.kit.world import plan_spec

from cutover.api.v1alpha1 import CheckStatus
from cutover.domain.heroku import Addon, Certificate, Domain, HerokuApp, HerokuReading, Process
from cutover.domain.plan import Plan
from cutover.domain.preflight import registry
from cutover.domain.releases import certificates_ending

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
#: The app of the plain plan, with nothing to find.
APP = HerokuApp(
    name="acme-pdf",
    maintenance=False,
    own_hostname="acme-pdf-1a2b3c.herokuapp.com",
    processes=(Process("web", 2, "Standard-1X"), Process("worker", 0, "Standard-1X")),
    domains=(
        Domain("acme-pdf-1a2b3c.herokuapp.com"),
        Domain("pdf.example.com", "quiet-moon-1234.herokudns.com", "cert issued"),
    ),
    certificates=(Certificate(("pdf.example.com",), NOW + timedelta(days=60)),),
    addons=(Addon("papertrail"),),
    features=frozenset(),
    stack="heroku-24",
    region="eu",
    config_vars=frozenset({"NPM_CONFIG_PRODUCTION"}),
    buildpacks=("heroku/ruby",),
    drains=1,
)


def plan(**heroku: Any) -> Plan:
    given = {"app": "acme-pdf", "hostname": "acme-pdf-1a2b3c.herokuapp.com", **heroku}
    return Plan("shop", "pdf", "1", 1, plan_spec(heroku=given))


def found(asked: Plan, reading: HerokuReading | None) -> dict[str, CheckStatus]:
    """Return what Heroku's API makes preflight say more."""
    inventory = READY.inventory(asked)
    usual = {one.check for one in registry.before_takeover(asked, inventory)}
    statuses = registry.before_takeover(asked, inventory, heroku=reading)
    return {one.check: one for one in statuses if one.check not in usual}


def reading(**changes: Any) -> HerokuReading:
    return HerokuReading(replace(APP, **changes), at=NOW.timestamp())


SOON = NOW + timedelta(days=10)


@pytest.mark.parametrize(
    ("names", "covered"),
    [
        (("pdf.example.com",), True),
        (("*.example.com",), True),
        (("www.example.com", "*.example.com"), True),
        (("example.com",), False),
        (("*.pdf.example.com",), False),
        (("*.com",), False),  # a wildcard of a certificate stands for one label
        ((), False),
    ],
)
def test_wildcards_of_certificates_cover_hosts_as_for_clients_of_tls(names: tuple[str, ...], *, covered: bool) -> None:
    assert Certificate(names, SOON).covers("PDF.example.com") is covered
    told = found(plan(), reading(certificates=(Certificate(names, SOON),)))
    assert ("heroku-certificate" in told) is covered, "that it ends soon concerns a host that it is for"
    assert bool(certificates_ending(("pdf.example.com",), (Certificate(names, SOON),), SOON + timedelta(1))) is covered


def test_a_wildcard_of_the_plan_needs_the_same_of_a_certificate() -> None:
    wildcard = Certificate(("*.example.com",), SOON)
    assert wildcard.covers("*.example.com")
    assert not wildcard.covers("*.shop.example.com")
    assert not Certificate(("a.example.com",), SOON).covers("*.example.com")


@pytest.mark.parametrize(
    ("certificates", "result", "says"),
    [
        ((Certificate(("*.example.com",), NOW + timedelta(days=60)),), "", ""),
        (
            (Certificate(("pdf.example.com",), NOW - timedelta(days=1)),),
            "Failed",
            "pdf.example.com (ended on 2026-11-29)",
        ),
        ((Certificate(("www.example.com",), NOW + timedelta(days=60)),), "Failed", "pdf.example.com (none is for it)"),
        ((), "Failed", "pdf.example.com (none is for it)"),
        (None, "", ""),
        ((Certificate((), NOW - timedelta(days=1)),), "", ""),
        ((Certificate(("pdf.example.com",), SOON),), "Warned", "ends on 2026-12-10"),
        (
            (
                Certificate(("pdf.example.com",), NOW - timedelta(days=1)),
                Certificate(("*.example.com",), NOW + timedelta(days=60)),
            ),
            "",
            "",
        ),
    ],
)
def test_a_certificate_that_the_gateway_would_refuse_holds_the_plan(
    certificates: tuple[Certificate, ...] | None, result: str, says: str
) -> None:
    asked = plan(hostname="quiet-moon-1234.herokudns.com", hostHeader="Public")
    told = found(asked, reading(certificates=certificates)).get("heroku-certificate")
    assert (told.result if told else "") == result
    assert says in (told.message if told else "")
    # By the app's own name the gateway asks another router's certificate, which Heroku renews whatever DNS says.
    by_app = found(plan(), reading(certificates=certificates)).get("heroku-certificate")
    assert by_app is None or by_app.result == "Warned"


def test_without_a_key_and_without_a_finding_nothing_is_said() -> None:
    assert found(plan(), None) == {}
    assert found(plan(), reading()) == {}


@pytest.mark.parametrize(
    ("changes", "check", "result", "says"),
    [
        ({"maintenance": True}, "heroku-app", "Failed", "heroku maintenance:off"),
        (
            {"processes": (Process("web", 0, "Basic"),)},
            "heroku-app",
            "Failed",
            "has no web dyno: heroku ps:scale web=1",
        ),
        ({"domains": None, "processes": None}, "heroku-app", "Warned", "may not see the app's domains and dynos"),
        (
            {"processes": (*(APP.processes or ()), Process("worker", 3, "Basic"))},
            "heroku-processes",
            "Warned",
            "worker (3) of acme-pdf run on",
        ),
        (
            {"processes": (*(APP.processes or ()), Process("release", 1, "Basic"))},
            "heroku-processes",
            "Warned",
            "acme-pdf has a release phase",
        ),
        ({"addons": (Addon("scheduler"),)}, "heroku-processes", "Warned", "add-on scheduler of acme-pdf starts jobs"),
        (
            {"certificates": (Certificate(("pdf.example.com",), NOW + timedelta(days=10)),)},
            "heroku-certificate",
            "Warned",
            "ends on 2026-12-10: until then DNS can send users back",
        ),
        (
            {"domains": (*(APP.domains or ())[:1], Domain("pdf.example.com", "x.herokudns.com", "failing"))},
            "heroku-certificate",
            "Warned",
            "ends on 2027-01-29 and is not being renewed",
        ),
        ({"features": frozenset({"http-session-affinity"})}, "heroku-sessions", "Warned", "keep sessions in a store"),
        (
            {"processes": (Process("web", 1, "Performance-M"),)},
            "dyno-memory",
            "Warned",
            "ended above 512 MiB, and a Performance-M dyno has 2560 MiB",
        ),
    ],
)
def test_what_is_found(changes: dict[str, Any], check: str, result: str, says: str) -> None:
    told = found(plan(), reading(**changes))
    assert {name: str(one.result) for name, one in told.items()} == {check: result}
    assert says in told[check].message


@pytest.mark.parametrize(
    ("hostname", "domains", "fits"),
    [
        ("quiet-moon-1234.herokudns.com", APP.domains, True),
        ("acme-pdf.herokuapp.com", APP.domains, False),
        ("api.acme.example.com", (Domain("*.acme.example.com", "x.herokudns.com"),), True),
        ("acme.example.com", (Domain("*.acme.example.com", "x.herokudns.com"),), False),
    ],
)
def test_the_host_name_has_to_be_the_apps(hostname: str, domains: tuple[Domain, ...], fits: bool) -> None:
    told = found(plan(hostname=hostname), reading(domains=domains, own_hostname=""))
    assert ("heroku-app" in told) is not fits
    if not fits:
        assert told["heroku-app"].result == "Failed"
        assert "correct heroku.hostname or heroku.app" in told["heroku-app"].message


def test_with_the_public_name_each_host_has_to_be_a_custom_domain() -> None:
    public = plan(hostname="quiet-moon-1234.herokudns.com", hostHeader="Public")
    assert found(public, reading()) == {}
    other = (Domain("orders.example.com", "quiet-moon-1234.herokudns.com"),)
    assert "heroku domains:add pdf.example.com" in found(public, reading(domains=other))["heroku-app"].message


def test_an_api_that_is_away_holds_nothing() -> None:
    waits = found(plan(), HerokuReading())
    assert {str(one.result) for one in waits.values()} == {"Unknown"}
    coming = registry.awaited(tuple(waits.values()))
    assert coming
    told = found(plan(), HerokuReading(problem="Heroku does not accept the API key: it is wrong, or was revoked"))
    assert list(told) == ["heroku-app"]
    assert registry.passed(tuple(told.values()))
    assert "does not accept the API key" in told["heroku-app"].message
    # What was known before an outage stays known.
    assert found(plan(), replace(reading(), problem="away")) == {}
