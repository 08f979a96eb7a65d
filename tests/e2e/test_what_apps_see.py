"""What an app sees of a request: on Heroku without the operator, on Heroku through the gateway, and on EKS."""

from __future__ import annotations

import json
from collections import Counter

import aiohttp
import pytest
from tests.kit.routing import rendered

from cutover.adapters.traffic.istio.rendering import probe_value
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio.names import LEG_HEADER, PROBE_HEADER
from cutover.domain.texts import digest
from cutover.domain.traffic import Leg
from devstack.api import fetch
from sandbox import manifests
from sandbox.environment import Environment
from sandbox.manifests import Json

#: Addresses of domains at Heroku.
DNS_TARGET, ANOTHER_TARGET = "quiet-moon-1234.herokudns.com", "loud-sun-5678.herokudns.com"
WILDCARD_TARGET = "wild-sea-9012.herokudns.com"
#: Where users come from, and what the proxy before the gateway says of them.
USER = {"x-forwarded-for": "198.51.100.7"}


async def asked(environment: Environment, host: str, **headers: str) -> tuple[aiohttp.ClientResponse, Json]:
    """Send a user's request through the gateway; return the answer and, of an app, the headers that reached it."""
    async with (
        aiohttp.ClientSession(environment.stack.gateway_url, headers={"host": host, **USER, **headers}) as session,
        session.get("/seen") as response,
    ):
        body = await response.text()
        return response, json.loads(body) if "x-app" in response.headers else {}


def taken_over(environment: Environment, service: str) -> tuple[str, Plan]:
    """Take a service over without telling users their leg; return its host and its plan."""
    host = manifests.public_host(service)
    quiet = {"istio": {"hosts": [host], "gateways": ["istio-ingress/public"], "legHeader": False}}
    environment.apply(manifests.plan(service, ceiling=0, traffic=quiet))
    environment.until_status(service, 60, phase="Baseline")
    return host, Plan.from_object(environment.plan(service))


@pytest.mark.uses("app-name", "public-name", minutes=0.75)
async def test_the_name_that_the_app_on_heroku_is_asked_by(alone: Environment) -> None:
    """`App` is Heroku's own name for it, `Public` the users', with an SNI of each: Heroku's router wants both alike."""
    names = {name: manifests.public_host(name) for name in ("app-name", "public-name")}
    another = "another.example.com"
    address = {"app": "acme-public-name", "hostname": DNS_TARGET, "hostHeader": "Public"}
    both = {"istio": {"hosts": [names["public-name"], another], "gateways": ["istio-ingress/public"]}}
    alone.apply(manifests.plan("app-name", ceiling=0))
    alone.apply(manifests.plan("public-name", ceiling=0, heroku=address, traffic=both))
    for name in names:
        alone.until_status(name, 60, phase="Baseline")
    response, by_app = await asked(alone, names["app-name"])
    assert (response.status, by_app["host"]) == (200, manifests.heroku_hostname("app-name"))
    assert by_app["x-forwarded-host"] == names["app-name"]
    response, by_public = await asked(alone, names["public-name"])
    assert (response.status, by_public["host"]) == (200, names["public-name"])
    assert "x-forwarded-host" not in by_public
    # No app has this domain. By the SNI of the other domain the router would complain about that instead (495).
    assert (await asked(alone, another))[0].status == 404


@pytest.mark.uses("tenants", minutes=0.5)
async def test_each_tenant_is_asked_for_by_its_own_name(alone: Environment) -> None:
    """By Host and, at Heroku's router, by SNI: it has a certificate for all of them, and connections for each."""
    wildcard = f"*.{manifests.public_host('tenants')}"
    first, second = (wildcard.replace("*", name) for name in ("one", "two"))
    traffic = {
        "istio": {"hosts": [wildcard], "gateways": ["istio-ingress/public"]},
        "probe": {"host": first},
    }
    address = {"app": "acme-tenants", "hostname": WILDCARD_TARGET, "hostHeader": "Public"}
    alone.apply(manifests.plan("tenants", ceiling=0, heroku=address, traffic=traffic))
    alone.until_status("tenants", 60, phase="Baseline")
    plan = Plan.from_object(alone.plan("tenants"))
    for host in (first, second, first):
        response, seen = await asked(alone, host)
        assert (response.status, response.headers["x-leg"], seen["host"]) == (200, "heroku", host)
        response, seen = await asked(alone, host, **{PROBE_HEADER: probe_value(plan, Leg.EKS, "a1-w0")})
        assert (response.status, response.headers["x-leg"], seen["host"]) == (200, "eks", host)
    # The name behind the wildcard is not among its names.
    assert (await asked(alone, manifests.public_host("tenants")))[0].status == 404


@pytest.mark.uses("closed", minutes=0.5)
async def test_no_client_chooses_its_leg(alone: Environment) -> None:
    """Only the token of the route in force does, and it is the operator's."""
    host, plan = taken_over(alone, "closed")
    tokens = [probe_value(plan, Leg.EKS, revision) for revision in ("a1-w0", "a1-w10")]
    for value in ("heroku", "eks", f"eks-{digest(plan.uid)}", tokens[1]):
        response, seen = await asked(alone, host, **{PROBE_HEADER: value})
        assert (response.headers["x-leg"], response.headers.get(LEG_HEADER)) == ("heroku", None)
        assert PROBE_HEADER not in seen
    response, seen = await asked(alone, host, **{PROBE_HEADER: tokens[0]})
    assert (response.headers["x-leg"], response.headers.get(LEG_HEADER)) == ("eks", "eks")
    assert PROBE_HEADER not in seen, "its logs are others' to read"


@pytest.mark.uses("closed")
async def test_what_docs_say_of_the_headers_of_both_legs(alone: Environment) -> None:
    host, plan = taken_over(alone, "closed")
    response, on_eks = await asked(alone, host, **{PROBE_HEADER: probe_value(plan, Leg.EKS, "a1-w0")})
    assert (response.status, response.headers["x-leg"]) == (200, "eks")
    response, on_heroku = await asked(alone, host)
    assert (response.status, response.headers["x-leg"]) == (200, "heroku")
    assert on_heroku["x-forwarded-for"] == f"{on_eks['x-forwarded-for']}, 127.0.0.1", "who comes to Heroku's router"
    assert on_eks["x-forwarded-for"].startswith(f"{USER['x-forwarded-for']},")
    assert (on_eks["x-forwarded-proto"], on_heroku["x-forwarded-proto"]) == ("http", "https")
    assert {"x-forwarded-host", "x-forwarded-port", "x-request-start", "via"} <= on_heroku.keys() - on_eks.keys()
    assert {"x-request-id", "x-envoy-attempt-count"} <= on_heroku.keys() & on_eks.keys()


@pytest.mark.uses("limited")
async def test_whom_a_limit_by_address_meets(alone: Environment) -> None:
    """On Heroku all users at once, unless the app trusts the cluster's address as a proxy; on EKS each for itself."""
    host, plan = taken_over(alone, "limited")
    to_eks = {PROBE_HEADER: probe_value(plan, Leg.EKS, "a1-w0")}

    async def statuses(**headers: str) -> Counter[int]:
        users = ({"x-forwarded-for": f"198.51.100.{number}"} for number in range(20))
        return Counter([(await asked(alone, host, **user, **headers))[0].status for user in users])

    # In the stack the balancer before the gateway has an address too; the last one is who came to the app.
    for leg in ("heroku", "eks"):
        alone.knobs(leg, "limited").set(requests_per_address=1, trusted_proxies=1)
    assert (await statuses(**to_eks)) == {200: 20}
    on_heroku = await statuses()
    assert on_heroku[429] > 0, "all come by one address"
    alone.knobs("heroku", "limited").set(trusted_proxies=2)
    assert (await statuses()) == {200: 20}


@pytest.mark.uses("app-name")
def test_the_certificate_is_checked_for_the_public_name(alone: Environment) -> None:
    """Istiod's translation of what is written in production, where no certificate is trusted blindly."""
    manifest = manifests.plan(
        "verified", heroku={"app": "acme-verified", "hostname": ANOTHER_TARGET, "hostHeader": "Public"}
    )
    manifest["metadata"]["uid"] = ""
    plan = Plan.from_object(manifest)
    alone.stack.apply(rendered(plan, 0))

    def cluster() -> Json:
        dump = json.loads(fetch(f"{alone.stack.envoy_admin_url}/config_dump"))
        found = [
            one["cluster"]
            for part in dump["configs"]
            for one in (*part.get("dynamic_active_clusters", ()), *part.get("dynamic_warming_clusters", ()))
            if one["cluster"]["name"].endswith(f"||{ANOTHER_TARGET}")
        ]
        return found[0] if found else {}

    alone.until("the cluster at the gateway", lambda: bool(cluster()), 30)
    options = cluster()["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]
    wanted = {"auto_sni": True, "auto_san_validation": True}
    assert {name: options["upstream_http_protocol_options"].get(name) for name in wanted} == wanted
    assert options["explicit_http_config"].keys() == {"http_protocol_options"}, "HTTP/1.1"
