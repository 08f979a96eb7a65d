"""Large objects hold up nobody: what is read of each is bounded, and so is the work that a plan's decision is.

Work is counted in lines that Python runs, which no machine changes. Each of these objects fits into etcd.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from types import FrameType
from typing import Any, TypeVar

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.kit.builders import GATEWAY, PUBLIC_HOST
from tests.kit.poison_objects import (
    BY_NAME,
    DEPLOYED,
    OF_OTHERS,
    PLAN,
    SERVICE,
    SHARED,
    WILDCARD,
    inventory_of,
    observed,
    plan,
    pod,
    read_all,
    to,
    virtual_service,
)
from tests.kit.target import OPEN_SERVER, READY, named

from cutover.adapters.traffic.istio.live import RouteCache
from cutover.adapters.traffic.istio.provider import LONG_ROUTE, IstioTraffic
from cutover.api.v1alpha1 import LONGEST_MESSAGE, MigrationPlanStatus
from cutover.domain.engine.decide import decide
from cutover.domain.plan import Plan
from cutover.domain.preflight import registry
from cutover.domain.preflight.caps import NAMESPACE_BYTES, Rooms, trimmed
from cutover.domain.preflight.checks.istio import listed, proxies, route_adoptable, route_delegates
from cutover.domain.preflight.checks.istio.kinds import GATEWAYS, VIRTUAL_SERVICES
from cutover.domain.preflight.checks.istio.listed import route_claims
from cutover.domain.preflight.inventory import Inventory
from cutover.domain.resources import (
    DEPLOYMENTS,
    Json,
)
from cutover.domain.revision import Split

T = TypeVar("T")

#: Lines that may be run for one object that is read, and for one decision: some 20 ms. An ordinary decision runs 5,000.
MOST_LINES = 500_000
#: Bytes of a status in preflight.
MOST_BYTES = 64 << 10


def stored_bytes(status: MigrationPlanStatus) -> int:
    """Return the length of a status as the API server stores it: as JSON in UTF-8."""
    return len(json.dumps(status.to_wire(), ensure_ascii=False).encode())


class TooMuchWork(BaseException):
    """More lines were run than may be. No code that is counted catches it."""


def counted(work: Callable[[], T], most: int = MOST_LINES) -> tuple[T, int]:
    """Return the result of work, and how many lines it ran."""
    lines = 0

    def line(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        if lines > most:
            raise TooMuchWork(f"more than {most:,} lines")
        return line

    before = sys.gettrace()
    sys.settrace(line)
    try:
        return work(), lines
    finally:
        sys.settrace(before)


def decided(asked: Plan, inventory: Inventory) -> None:
    """Decide on a plan, within the bounds of work and of the status."""
    decision, _ = counted(lambda: decide(asked, observed(inventory), 1_800_000_000.0))
    status = decision.status
    assert status.preflight, "the checks were not run"
    assert all(len(check.message) <= LONGEST_MESSAGE for check in status.preflight)
    assert stored_bytes(status) < MOST_BYTES
    counted(lambda: registry.neighbours(asked, inventory))


@pytest.mark.parametrize("name", OF_OTHERS)
def test_a_large_object_of_another_team_costs_little(name: str) -> None:
    objects = OF_OTHERS[name]
    for resource, bodies in objects.items():
        for body in bodies:
            assert len(json.dumps(body)) < 1_500_000
            counted(lambda resource=resource, body=body: read_all(resource, [body]))  # type: ignore[misc]
    for asked in (PLAN, WILDCARD):
        decided(asked, inventory_of(asked, objects))


def test_a_decision_on_an_ordinary_mesh_is_as_much_work_as_on_a_small_one() -> None:
    """The index is made once for all plans; each plan looks up what concerns it."""

    def lines(number: int) -> int:
        mesh = [
            named(f"team{n}", "v", spec={"hosts": [f"m{n}.example.com"], "gateways": [GATEWAY], "http": [to(f"s{n}")]})
            for n in range(number)
        ]
        inventory = inventory_of(PLAN, {VIRTUAL_SERVICES: mesh})
        registry.before_takeover(PLAN, inventory)  # makes the index
        return counted(lambda: registry.before_takeover(PLAN, inventory))[1]

    assert lines(2000) <= lines(20) + 20


# ------------------------------------------------------------------------------------------------------ one's own plan


@pytest.mark.parametrize("name", DEPLOYED)
def test_a_large_deployment_costs_its_own_team_nothing_but_audits(name: str) -> None:
    kept, _ = counted(lambda: BY_NAME[DEPLOYMENTS](DEPLOYED[name]))  # type: ignore[misc]
    inventory = READY.inventory(PLAN)
    key = ("docs", PLAN.spec.eks.workload_ref.name)
    inventory = replace(inventory, objects={**inventory.objects, DEPLOYMENTS: {key: kept}})
    decided(PLAN, inventory)
    kept["status"] = {"availableReplicas": 2}
    (found,) = (one for one in registry.before_takeover(PLAN, inventory) if one.check == "workload")
    seen = name in ("many wrappers", "a script that is looked at")
    assert found.result == ("Passed" if seen else "Warned")
    assert seen or "looked at" in found.message


def test_many_hosts_of_ones_own_gateways_cost_little() -> None:
    own = plan(gateways=[f"g{n}" for n in range(8)], hosts=[f"h{n}.m.co" for n in range(15)] + ["*.x.m.co"])
    for server in (OPEN_SERVER, {"port": {"number": 443, "protocol": "TLS"}}):
        large = {**server, "hosts": [f"a{n}.m.co" for n in range(80_000)]}
        bodies = [named("docs", f"g{n}", spec={"selector": {"a": "b"}, "servers": [large]}) for n in range(8)]
        kept = [counted(lambda body=body: BY_NAME[GATEWAYS](body))[0] for body in bodies]  # type: ignore[misc]
        inventory = inventory_of(own, {GATEWAYS: bodies})
        named_ones = {("docs", one["metadata"]["name"]): one for one in kept}
        decided(own, replace(inventory, objects={**inventory.objects, GATEWAYS: named_ones}))


HEROKU = PLAN.spec.heroku.hostname
ADOPTED = {
    "destinations": [to(*[HEROKU] * 800, *["o"] * 800)],
    "routes": [{"match": [{"uri": {"prefix": f"/{n}"}}], **to(HEROKU)} for n in range(2000)],
    "hidden": [{"match": [{"uri": {"exact": "/a"}}] * 10, **to(HEROKU)}] * 2000,
}


@pytest.mark.parametrize("name", ADOPTED)
async def test_a_route_that_is_too_large_is_not_taken_over_and_not_even_compared(name: str) -> None:
    asked = plan(ownership="Adopt", virtualServiceRef={"name": "team"})
    root = named("docs", "team", spec={"hosts": [PUBLIC_HOST], "gateways": [GATEWAY], "http": ADOPTED[name]})
    said, _ = counted(lambda: route_adoptable.problem(asked, root))
    assert "can be taken over" in said
    assert len(said) < LONGEST_MESSAGE
    served = {**root, "apiVersion": "networking.istio.io/v1", "kind": "VirtualService"}
    served["metadata"] = {**root["metadata"], "resourceVersion": "1"}
    cache = RouteCache()
    live = cache.put(served)
    traffic = IstioTraffic(None, cache)  # type: ignore[arg-type]
    bodies = traffic._render(asked, Split(attempt=0, weight=0))[-1:]
    # It is compared, as far as it is at all, beside the event loop.
    assert len(live.text) > LONG_ROUTE
    counted(lambda: traffic._compare(asked, None, bodies, [live]), 8 * MOST_LINES)


@pytest.mark.parametrize("destinations", [[HEROKU] * 600 + ["o"] * 600, [HEROKU] + ["o"] * 1199])
def test_what_the_team_adds_after_the_takeover_is_adopted_in_linear_time(destinations: list[str]) -> None:
    """Up to a second it may take, beside the event loop: a rollback does not depend on what others have written."""
    asked = plan(ownership="Adopt", virtualServiceRef={"name": "team"})

    def lines(number: int) -> int:
        spec = {"hosts": [PUBLIC_HOST], "http": [to(*destinations[600 - number : 600 + number])]}
        served = {"apiVersion": "v1", "kind": "VirtualService", **named("docs", "team", spec=spec)}
        served["metadata"]["resourceVersion"] = str(number)
        traffic = IstioTraffic(None, RouteCache())  # type: ignore[arg-type]
        live = traffic.cache.put(served)
        split = Split(attempt=1, weight=0)
        bodies = traffic._render(asked, split)[-1:]
        return counted(lambda: traffic._compare(asked, split, bodies, [live]))[1]

    assert lines(600) < 8 * lines(150)


def test_many_routes_that_delegate_are_not_compared_with_each_other() -> None:
    asked = plan(ownership="Delegate", virtualServiceRef={"name": "team"})
    compared = 0

    class Route(dict):  # type: ignore[type-arg]
        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return super().__eq__(other)

        __hash__ = None  # type: ignore[assignment]

    delegate = {"name": f"cutover-{asked.name}"}
    http = [Route(match=[{"uri": {"prefix": f"/{n}"}}], delegate=delegate) for n in range(10_000)]
    for number, refused in ((route_delegates.MOST_ROUTES, False), (10_000, True)):
        spec = {"hosts": [PUBLIC_HOST], "gateways": [GATEWAY], "http": http[:number]}
        said, _ = counted(lambda spec=spec: route_delegates.problem(asked, named("docs", "team", spec=spec)))  # type: ignore[misc]
        assert ("routes, and no more than" in said) is refused
    assert compared == 0


# --------------------------------------------------------------------------------------------------------------- bounds


def test_what_is_left_out_is_told() -> None:
    routes = [to(*(f"s{n}" for n in range(listed.MOST_DESTINATIONS + 1)))]
    inventory = inventory_of(PLAN, {VIRTUAL_SERVICES: [virtual_service(http=routes)]})
    (found,) = (one for one in registry.before_takeover(PLAN, inventory) if one.check == "service-unshared")
    assert found.result == "Warned"
    assert "VirtualService mallory/v (more routes, hosts or gateways than are looked at)" in found.message
    # On other proxies it is nobody's business.
    elsewhere = [virtual_service(http=routes, gateways=["mesh"])]
    found_there = registry.before_takeover(PLAN, inventory_of(PLAN, {VIRTUAL_SERVICES: elsewhere}))
    assert [one.result for one in found_there if one.check == "service-unshared"] == ["Passed"]


def test_a_namespace_claims_no_more_than_its_room() -> None:
    long = [f"{'a' * 200}{n}.m.co" for n in range(listed.MOST_HOSTS)]
    several = [virtual_service(f"v{n}", hosts=[f"{n}.{host}" for host in long]) for n in range(15)]
    rooms = Rooms()
    kept = [rooms.fit(route_claims(body)) for body in (*several, virtual_service("zz", hosts=[PUBLIC_HOST]))]
    assert sum(len(json.dumps(one)) for one in kept) < 1.5 * NAMESPACE_BYTES
    assert "hosts" in kept[0]
    assert kept[-1] == {
        "metadata": {"namespace": "mallory", "name": "zz"},
        "spec": {},
        "cut": "namespace mallory has more than 4 MiB",
    }
    other = rooms.fit(route_claims(named("docs", "v", spec={"hosts": ["a"]})))
    assert other["hosts"] == ("a",)


@pytest.mark.parametrize(
    ("value", "cut"),
    [
        ({"a": [1] * 501}, "a has 501 entries"),
        ({"a": {"b": [{"c": "x" * 20_000}]}}, "a.b[0].c has 20,000 characters"),
        ({"a": {"x" * 400: 1}}, "a has a key that is too long"),
        ({"a": [["x" * 8000] * 2] * 10}, "a[3][0] has 8,000 characters"),
        ({"a": [[0] * 400] * 40}, "a[24] has 400 entries"),
        ({"a": [1] * 500, "b": None, "c": True, "d": 1.5}, ""),
    ],
)
def test_what_is_trimmed_says_where(value: Json, cut: str) -> None:
    kept = trimmed(value)
    assert kept.get("cut", "") == cut
    assert cut or kept == value


def test_selectors_that_are_cut_count_as_on_the_same_proxies() -> None:
    labels = {**{f"a{n}": "" for n in range(proxies.MOST_LABELS)}, "istio": "other"}
    cut = proxies.selector_and_servers(named("mallory", "g", spec={"selector": labels}))
    there = proxies.Proxies.of([proxies.selector_and_servers(SHARED), cut])
    assert there.beside((GATEWAY,)) == {GATEWAY, "mallory/g"}


@settings(max_examples=40, deadline=None)
@given(
    text=st.text(min_size=1, max_size=40),
    times=st.sampled_from([1, 60, 4000]),
    count=st.sampled_from([1, 7, 900]),
    http=st.booleans(),
)
@example(text="𐐀", times=4000, count=1, http=False)
@example(text="\x00", times=4000, count=900, http=True)
def test_a_status_is_short_whatever_others_write(text: str, times: int, count: int, http: bool) -> None:
    long = text * times
    theirs = [
        virtual_service(
            f"v{n}{long[:200]}",
            hosts=[PUBLIC_HOST, *(f"{n}{k}{text}" for k in range(count))],
            **({"http": [to(SERVICE)]} if http else {}),
        )
        for n in range(8)
    ]
    inventory = inventory_of(PLAN, {VIRTUAL_SERVICES: theirs})
    deployed = pod({"image": long, "command": ["sh", "-c", f"{long} {long}"], "env": [{"name": long, "value": long}]})
    key = ("docs", PLAN.spec.eks.workload_ref.name)
    inventory = replace(inventory, objects={**inventory.objects, DEPLOYMENTS: {key: trimmed(deployed, "spec")}})
    status = decide(PLAN, replace(observed(inventory), errors=(long, long)), 1_800_000_000.0).status
    assert status.preflight
    assert all(len(check.message) <= LONGEST_MESSAGE for check in status.preflight)
    assert stored_bytes(status) < MOST_BYTES
