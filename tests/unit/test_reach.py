"""What a plan may reach beyond its own namespace, and that no line of its YAML opens more."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from pydantic import ValidationError
from tests.kit import builders
from tests.kit.builders import GATEWAY, HEROKU_HOST, PUBLIC_HOST
from tests.kit.host_names import INTERNAL_NAMES
from tests.kit.target import READY, listed_entries, listed_routes

from cutover.adapters import addresses
from cutover.adapters.addresses import AddressRefused, CheckedResolver, is_public, may_connect
from cutover.adapters.traffic.istio.gateway_client import ADDRESS_LIFETIME, GatewayClient, address
from cutover.adapters.traffic.istio.leg_probe import HttpLegProbe
from cutover.api.v1alpha1 import MigrationPlanSpec
from cutover.domain.plan import Plan
from cutover.domain.preflight import registry
from cutover.domain.preflight.check import Facts
from cutover.domain.preflight.checks.istio import gateway as gateway_check
from cutover.domain.preflight.checks.istio import heroku_unshared, host_unclaimed
from cutover.domain.preflight.checks.istio.kinds import GATEWAYS
from cutover.domain.preflight.checks.istio.proxies import Proxies
from cutover.domain.preflight.inventory import ClusterSettings
from cutover.domain.resources import Json
from cutover.domain.traffic import Leg
from cutover.ports.errors import Unavailable


def make_plan(**istio: Any) -> Plan:
    return builders.plan(namespace="shop", istio=istio)


def gateway(*hosts: str, protocol: str = "HTTPS") -> dict[str, Json]:
    return {GATEWAY: {"spec": {"servers": [{"port": {"number": 443, "protocol": protocol}, "hosts": list(hosts)}]}}}


def route(namespace: str, *hosts: str, on: str = GATEWAY) -> Json:
    return {"metadata": {"namespace": namespace, "name": "old"}, "spec": {"hosts": list(hosts), "gateways": [on]}}


# --------------------------------------------------------------------------------------------------------------- hosts


@pytest.mark.parametrize(
    ("hosts", "open_"),
    [
        ([PUBLIC_HOST], True),
        (["PDF.Example.com"], True),
        (["*"], True),
        (["*.example.com"], True),
        (["*/*.example.com"], True),
        (["shop/pdf.example.com"], True),
        (["shop/*"], True),
        (["team-b/pdf.example.com", "shop/pdf.example.com"], True),
        (["team-b/*"], False),
        (["team-b/pdf.example.com"], False),
        (["./*"], False),  # VirtualServices of the Gateway's own namespace only
        (["*.com.example"], False),
        (["example.com"], False),
        (["xpdf.example.com"], False),
        (["?df.example.com"], False),  # no pattern of Istio's
    ],
)
def test_a_gateway_takes_a_host_from_the_namespaces_that_it_is_open_to(hosts: list[str], open_: bool) -> None:
    problem = gateway_check.unserved_hosts(make_plan(), gateway(*hosts))
    assert (problem == "") is open_
    assert open_ or "add shop/pdf.example.com to its servers' hosts" in problem


def test_a_dot_is_the_gateways_own_namespace() -> None:
    own = {"shop/local": gateway("./*")[GATEWAY]}
    assert gateway_check.unserved_hosts(make_plan(gateways=["local"]), own) == ""


def test_servers_of_other_protocols_take_no_host() -> None:
    assert gateway_check.unserved_hosts(make_plan(), {GATEWAY: {**gateway("*", protocol="TLS")[GATEWAY]}}) == ""
    both = {GATEWAY: gateway("*", protocol="TLS")[GATEWAY], "istio-ingress/b": gateway("else.com")[GATEWAY]}
    assert "takes pdf.example.com" in gateway_check.unserved_hosts(make_plan(), both)


@pytest.mark.parametrize(
    "body", [{}, {"spec": None}, {"spec": {}}, {"spec": {"servers": None}}, {"spec": {"servers": [{}]}}]
)
def test_gateways_that_say_little_break_nothing(body: Json) -> None:
    assert gateway_check.unserved_hosts(make_plan(), {GATEWAY: body}) == ""
    assert host_unclaimed.others_hosts(make_plan(), listed_routes(), Proxies({GATEWAY: body})) == ""


@pytest.mark.parametrize(
    ("item", "taken"),
    [
        (route("team-b", PUBLIC_HOST), True),
        (route("team-b", "PDF.example.com"), True),
        (route("team-b", "*.example.com"), True),
        (route("team-b", "*.com"), True),
        (route("team-b", "*"), False),  # for what nobody else has
        (route("istio-ingress", "*.example.com"), False),  # whoever runs the gateway shares it
        (route("istio-ingress", PUBLIC_HOST), True),  # but not what is routed there by its name
        (route("team-b", "docs.example.com"), False),
        (route("team-b", PUBLIC_HOST, on="istio-ingress/internal"), False),
        (route("istio-ingress", PUBLIC_HOST, on="public"), True),
        (route("team-b", PUBLIC_HOST, on="public"), False),  # a Gateway of its own
        (route("team-b", PUBLIC_HOST, on="mesh"), False),
        (route("shop", "*.example.com"), False),  # the team's own
    ],
)
def test_what_another_namespace_routes_is_not_taken_from_it(item: Json, taken: bool) -> None:
    problem = host_unclaimed.others_hosts(make_plan(), listed_routes(item), Proxies(gateway("*")))
    assert bool(problem) is taken
    assert not taken or f"{PUBLIC_HOST} by VirtualService {item['metadata']['namespace']}/old" in problem


def test_who_runs_the_gateway_may_give_a_part_of_a_wildcard_to_a_namespace() -> None:
    given = gateway("*.example.com", "shop/pdf.example.com")
    assert (
        host_unclaimed.others_hosts(make_plan(), listed_routes(route("team-b", "*.example.com")), Proxies(given)) == ""
    )
    assert host_unclaimed.others_hosts(make_plan(), listed_routes(route("team-b", PUBLIC_HOST)), Proxies(given)) != ""


@pytest.mark.parametrize(
    ("hosts", "namespace", "refused"),
    [
        ([HEROKU_HOST], "team-b", True),
        ([f"cutover-probe.{HEROKU_HOST}"], "team-b", True),
        (["other.herokuapp.com"], "team-b", False),
        ([HEROKU_HOST], "shop", False),
        ([], "team-b", False),
    ],
)
def test_names_in_the_mesh_are_not_shared_between_namespaces(hosts: list[str], namespace: str, refused: bool) -> None:
    names = (HEROKU_HOST, f"cutover-probe.{HEROKU_HOST}")
    entry = {"metadata": {"namespace": namespace, "name": "e"}, "spec": {"hosts": hosts}}
    assert bool(heroku_unshared.others_names(make_plan(), names, listed_entries(entry))) is refused


@pytest.mark.parametrize(
    ("allowed", "closed"),
    [
        ((), False),
        (("*",), False),
        (("istio-ingress",), False),
        (("istio-*",), False),
        (("edge",), True),
        (("shop",), True),
    ],
)
def test_gateways_are_closed_as_the_settings_say(allowed: tuple[str, ...], closed: bool) -> None:
    problem = gateway_check.closed([GATEWAY, "shop/local"], "shop", allowed)
    assert bool(problem) is closed
    assert "shop/local" not in problem
    assert not closed or ("Gateway istio-ingress/public" in problem and "CUTOVER_GATEWAY_NAMESPACES" in problem)


# ------------------------------------------------------------------------------------------------------------ no skips


GUARDED = [check.name for check in registry.CHECKS if check.guarded]
#: What is another team's, for each of the guarded checks.
THEIRS = {
    "gateway": ({"settings": ClusterSettings(gateway_namespaces=("edge",))}, "CUTOVER_GATEWAY_NAMESPACES"),
    "host-unclaimed": ({"virtual_services": (route("team-b", PUBLIC_HOST),)}, "routed from another namespace"),
    "heroku-unshared": (
        {"entries": ({"metadata": {"namespace": "team-b", "name": "e"}, "spec": {"hosts": [HEROKU_HOST]}},)},
        "ServiceEntry team-b/e of another namespace",
    ),
}


@pytest.mark.parametrize("check", GUARDED)
def test_what_is_others_cannot_be_skipped(check: str) -> None:
    skip = [{"check": name, "reason": "it is mine now"} for name in registry.NAMES]
    plan = builders.plan(namespace="shop", preflight={"skip": skip})
    there, says = THEIRS[check]
    statuses = registry.before_takeover(plan, replace(READY, **there).inventory(plan))
    assert not registry.passed(statuses)
    (status,) = (one for one in statuses if one.result not in ("Passed", "Skipped"))
    assert (status.check, status.result) == (check, "Failed")
    assert says in status.message
    # What nobody could be asked about may be others', too.
    unread = {one.check: one.result for one in registry.before_takeover(plan, None)}
    assert unread[check] == "Unknown"
    assert unread["service"] == "Skipped"


@pytest.mark.parametrize(
    ("ownership", "result"), [("Generate", "Failed"), ("Delegate", "Warned"), ("Adopt", "Warned")]
)
def test_a_part_of_a_host_may_move_while_other_teams_have_the_rest(ownership: str, result: str) -> None:
    theirs = {"virtualServiceRef": {"name": "pdf"}} if ownership != "Generate" else {}
    plan = make_plan(ownership=ownership, **theirs)
    there = replace(READY, virtual_services=(route("team-b", PUBLIC_HOST),)).inventory(plan)
    finding = host_unclaimed.CHECK.judge(plan, Facts(inventory=there))
    assert finding.result == result
    assert f"{PUBLIC_HOST} by VirtualService team-b/old" in finding.message


# ------------------------------------------------------------------------------------------------------- Heroku's name


@pytest.mark.parametrize("hostname", INTERNAL_NAMES)
def test_an_internal_name_is_no_heroku_app(hostname: str) -> None:
    with pytest.raises(ValidationError, match="write a public name"):
        MigrationPlanSpec.model_validate(builders.spec_fields(heroku={"app": "acme-pdf", "hostname": hostname}))


@pytest.mark.parametrize(
    "hostname",
    ["acme.herokuapp.com", "www.example.com", "x.herokudns.com", "local.example.com", "xn--bcher-kva.example"],
)
def test_a_public_name_is_taken(hostname: str) -> None:
    spec = MigrationPlanSpec.model_validate(builders.spec_fields(heroku={"app": "acme-pdf", "hostname": hostname}))
    assert spec.heroku.hostname == hostname


def test_the_clusters_own_domain_is_internal_whatever_it_is_called() -> None:
    assert heroku_unshared.internal_name("acme.herokuapp.com", "prod.example.com", ()) == ""
    assert "a name of this cluster" in heroku_unshared.internal_name(
        "kubernetes.default.prod.example.com", "prod.example.com", ()
    )


# ----------------------------------------------------------------------------------------------------- probed addresses

SERVER = {"port": {"number": 80, "protocol": "HTTP"}, "hosts": ["*"]}


@pytest.mark.parametrize("kind", ["ExternalName"])
def test_a_service_that_is_a_name_elsewhere_is_no_gateway(kind: str) -> None:
    service = {
        "metadata": {"name": "x"},
        "spec": {"type": kind, "externalName": "kubernetes.default.svc", "selector": {"a": "b"}},
    }
    with pytest.raises(Unavailable, match="no Service in namespace shop"):
        address("shop", {"selector": {"a": "b"}, "servers": [SERVER]}, [service], PUBLIC_HOST)


class Names(AbstractResolver):
    """Says where every name is."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.port = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=one, port=self.port or port, family=socket.AF_INET, proto=0, flags=0)
            for one in self.addresses
        ]

    async def close(self) -> None:
        pass


class OneGateway:
    """A cluster whose team has written a Gateway and a Service into its own namespace."""

    async def get(self, resource: Any, namespace: str, name: str) -> Json:
        assert resource is GATEWAYS
        return {"spec": {"selector": {"a": "b"}, "servers": [SERVER]}}

    async def list(self, resource: Any, namespace: str = "", label_selector: str = "") -> list[Json]:
        return [{"metadata": {"name": "ingress"}, "spec": {"selector": {"a": "b"}}}]


async def test_addresses_of_gateways_that_are_old_are_forgotten() -> None:
    """Each edit of a plan's host is another look-up."""
    now = 1000.0
    client = GatewayClient(OneGateway(), now=lambda: now)  # type: ignore[arg-type]
    try:
        for number in range(50):
            now += 60.0
            await client.url(make_plan(gateways=["local"], hosts=[f"h{number}.example.com"]))
    finally:
        await client.close()
    assert len(client._found) == 1 + ADDRESS_LIFETIME // 60


@pytest.mark.parametrize("trusted", [False, True], ids=["of-a-plan", "of-the-settings"])
async def test_a_probe_asks_this_machine_only_where_the_settings_say_so(
    trusted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        asked.append(request.path)
        return web.Response(headers={"x-cutover-leg": "heroku", "x-cutover-revision": "a1-w0"})

    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    names = Names("127.0.0.1")
    names.port = port
    monkeypatch.setattr(addresses, "ThreadedResolver", lambda: names)
    urls = {"shop/local": f"http://127.0.0.1:{port}"} if trusted else {}
    probing = HttpLegProbe(OneGateway(), urls)  # type: ignore[arg-type]
    try:
        probe = await probing.probe(make_plan(gateways=["local"]), Leg.HEROKU, "/")
    finally:
        await probing.close()
        await runner.cleanup()
    assert (probe.healthy, bool(asked)) == (trusted, trusted)
    assert trusted or "its address is a loopback or link-local address" in probe.detail


async def test_only_addresses_that_may_be_connected_to_are_found() -> None:
    found = await CheckedResolver(Names("169.254.169.254", "10.1.2.3", "fe80::1%eth0", "::1")).resolve("x", 80)
    assert [one["host"] for one in found] == ["10.1.2.3"]
    with pytest.raises(AddressRefused, match="loopback or link-local address"):
        await CheckedResolver(Names("169.254.169.254")).resolve("x", 80)


def test_private_addresses_are_where_services_are() -> None:
    assert may_connect(ipaddress.ip_address("10.96.0.1"))


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("46.137.15.86", True),
        ("2a05:d014::1", True),
        ("64:ff9b::2e89:f56", True),  # NAT64 of a public one
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.0.1", False),
        ("100.64.0.1", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("0.0.0.0", False),
        ("::1", False),
        ("fe80::1", False),
        ("fd00:ec2::254", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("2002:a00:1::", False),  # 6to4 of a private one
        ("::ffff:0:a9fe:a9fe", False),  # as translators write 169.254.169.254
        ("::ffff:0:2e89:f56", True),
        ("::7f00:1", False),  # as old tunnels write 127.0.0.1
        ("64:ff9b:1::a9fe:a9fe", False),  # NAT64 of a local network
        ("64:ff9b:1:a9fe:a9:fe00::", False),
        ("fec0::1", False),
        ("192.0.0.192", False),
        ("192.0.0.9", False),
        ("168.63.129.16", False),  # Azure's host has a public address
        ("100.100.100.200", False),
        ("ff02::1", False),
    ],
)
def test_addresses_of_the_internet(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


@pytest.mark.parametrize(
    "address",
    ["168.63.129.16", "100.100.100.200", "192.0.0.192", "::ffff:0:a9fe:a9fe", "::7f00:1", "64:ff9b:1::a9fe:a9fe"],
)
def test_clouds_services_for_machines_are_not_connected_to(address: str) -> None:
    assert not may_connect(ipaddress.ip_address(address))
