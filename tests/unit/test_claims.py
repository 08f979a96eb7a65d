"""Whose turn it is, where several plans ask for the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kit.builders import GATEWAY, PUBLIC_HOST, spec_fields
from tests.kit.routing import rendered
from tests.kit.target import listed_entries, listed_routes

from cutover.adapters.kube.client import Cluster
from cutover.adapters.kube.inventory import KubernetesInventories
from cutover.api.v1alpha1 import Phase
from cutover.domain.plan import Plan
from cutover.domain.preflight import registry
from cutover.domain.preflight.checks.istio.heroku_unshared import asked_app, heroku_shared_with
from cutover.domain.preflight.checks.istio.host_unclaimed import asked_hosts
from cutover.domain.preflight.checks.istio.kinds import GATEWAYS
from cutover.domain.preflight.checks.istio.proxies import Proxies
from cutover.domain.preflight.checks.istio.turns import before_in_turn, turn_of
from cutover.domain.resources import DEPLOYMENTS, PLANS, Json, Resource
from cutover.ports.errors import Gone

OPEN = {"port": {"number": 80, "protocol": "HTTP"}, "hosts": ["*"]}


def body(
    name: str = "pdf",
    namespace: str = "docs",
    *,
    made: int = 0,
    phase: Phase | None = Phase.PREFLIGHT,
    gateway: str = GATEWAY,
    hosts: tuple[str, ...] = (PUBLIC_HOST,),
    app: str = "acme-pdf",
    deleted: bool = False,
    suspend: bool = False,
    root: str = "",
) -> Json:
    metadata = {"namespace": namespace, "name": name, "uid": f"{namespace}-{name}", "generation": 1}
    metadata |= {"creationTimestamp": f"2026-11-21T10:00:{made:02}Z"}
    return {
        "metadata": metadata | ({"deletionTimestamp": "2026-11-21T11:00:00Z"} if deleted else {}),
        "spec": spec_fields(
            heroku={"app": "acme", "hostname": f"{app}.herokuapp.com"},
            istio={"hosts": list(hosts), "gateways": [gateway], **routed_by(root)},
            suspend=suspend,
        ),
        "status": {} if phase is None else {"phase": phase},
    }


def routed_by(root: str) -> Json:
    return {"ownership": "Delegate", "virtualServiceRef": {"name": root}} if root else {}


class FakeCluster:
    """One open Gateway, one Service for all, and some plans."""

    def __init__(self, *plans: Json, deployed: bool = True) -> None:
        self.plans = plans
        self.deployed = deployed

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        if resource == DEPLOYMENTS and not self.deployed:
            raise Gone(f"{namespace}/{name}")
        return {
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"servers": [OPEN], "ports": [{"port": 80}]},
            "status": {"availableReplicas": 1},
        }

    async def list(self, resource: Resource, *, keep: Callable[[Json], Json] | None = None) -> list[Json]:
        gateway = {"metadata": {"namespace": "istio-ingress", "name": "public"}, "spec": {"servers": [OPEN]}}
        found = {PLANS: self.plans, GATEWAYS: (gateway,)}.get(resource, ())
        return [keep(one) if keep else one for one in found]


async def refused(own: Json, *others: Json, deployed: bool = True) -> set[str]:
    """Return the checks that an older plan makes fail."""
    cluster, plan = cast("Cluster", FakeCluster(own, *others, deployed=deployed)), Plan.from_object(own)
    statuses = registry.before_takeover(plan, await KubernetesInventories(cluster).inventory(plan))
    failed = {one.check for one in statuses if one.result == "Failed"}
    assert deployed == ("workload" not in failed)
    return failed - {"workload", "route-delegates"}


@pytest.mark.parametrize("deployed", [True, False])
async def test_the_younger_one_is_refused_also_where_the_workload_is_not_to_be_checked(deployed: bool) -> None:
    older, younger = body("pdf", "team-a", made=1), body("pdf", "team-b", made=5)
    assert await refused(older, younger, deployed=deployed) == set()
    assert await refused(younger, older, deployed=deployed) == {"host-unclaimed", "heroku-unshared"}


async def test_plans_that_work_with_the_same_route_do_not_wait_for_each_other() -> None:
    own = body("mail", made=5, app="acme-mail", root="web")
    assert await refused(own, body("pdf", made=1, root="web")) == set()
    # Nor for one that will never have the host, as that route has it.
    assert await refused(own, body("pdf", "team-b", made=1)) == set()
    # What works with a route that is not there keeps nobody from making one.
    assert await refused(body("mail", made=5, app="acme-mail"), body("pdf", "team-b", made=1, root="web")) == set()


def before(own: Json, *others: Json) -> list[Json]:
    return before_in_turn(Plan.from_object(own), [turn_of(one) for one in (own, *others)])


@pytest.mark.parametrize(
    ("other", "first"),
    [
        (body("a", made=4), True),
        (body("z", made=4), True),
        (body("a", made=6), False),
        (body("a", made=5), True),
        (body("z", made=5), False),
        (body("pdf", "a", made=5), True),
        (body("pdf", "z", made=5), False),
        (body("a", made=4, phase=None), True),
        (body("a", made=4, phase=Phase.PENDING), True),
        (body("a", made=4, deleted=True), False),
        (body("a", made=4, suspend=True), False),
        # Whoever is further has a route.
        *((body("a", made=4, phase=phase), False) for phase in Phase if phase not in (Phase.PENDING, Phase.PREFLIGHT)),
    ],
)
def test_whose_turn_it_is(other: Json, first: bool) -> None:
    assert bool(before(body(made=5), other)) is first


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(0, 2)), unique_by=lambda t: t[:2])
)
def test_of_any_number_of_plans_one_is_first_and_they_follow_each_other(made: list[tuple[str, str, int]]) -> None:
    plans = [body(name, namespace, made=second) for name, namespace, second in made]
    assert sorted(len(before(one, *(other for other in plans if other is not one))) for one in plans) == [
        *range(len(plans))
    ]


def test_a_plan_that_is_not_listed_any_more_waits_for_nobody() -> None:
    assert before_in_turn(Plan.from_object(body(made=5)), [turn_of(body("a", made=1))]) == []


@pytest.mark.parametrize(
    "spec", [None, {}, {"traffic": None, "heroku": None}, {"traffic": {"istio": {"hosts": None, "gateways": None}}}]
)
def test_plans_that_say_little_break_nothing(spec: Any) -> None:
    (other,) = before(body(made=5), {**body("a", made=4), "spec": spec, "status": None})
    plan = Plan.from_object(body())
    assert (asked_hosts(plan, [other], Proxies({GATEWAY: {}}), ()), asked_app(plan, [other])) == ("", "")


@pytest.mark.parametrize(
    ("other", "server", "allowed", "taken"),
    [
        (body("a"), OPEN, (), True),
        (body("a", "team-b"), OPEN, (), True),
        (body("a", hosts=("png.example.com", "pdf.example.com")), OPEN, (), True),
        (body("a", hosts=("png.example.com",)), OPEN, (), False),
        (body("a", gateway="istio-ingress/internal"), OPEN, (), False),
        (body("a", "istio-ingress", gateway="public"), OPEN, (), True),
        # Who cannot have the host keeps nobody from it.
        (body("a", "team-b"), {**OPEN, "hosts": ["docs/pdf.example.com"]}, (), False),
        (body("a", "team-b"), {**OPEN, "hosts": ["*/pdf.example.com"]}, (), True),
        (body("a", "team-b"), OPEN, ("team-*",), False),
        (body("a", "team-b"), OPEN, ("istio-*",), True),
        (body("a"), {**OPEN, "port": {"protocol": "TLS"}}, (), False),
    ],
)
def test_who_is_to_have_a_host(other: Json, server: Json, allowed: tuple[str, ...], taken: bool) -> None:
    gateways = {GATEWAY: {"spec": {"servers": [server]}}}
    said = asked_hosts(Plan.from_object(body()), [turn_of(other)], Proxies(gateways), allowed)
    assert bool(said) is taken
    key = f"{other['metadata']['namespace']}/{other['metadata']['name']}"
    assert not taken or f"MigrationPlan {key}, which was made before, is to route pdf.example.com" in said


def test_who_is_to_have_an_app() -> None:
    plan = Plan.from_object(body())
    assert asked_app(plan, [turn_of(body("a", app="acme-png"))]) == ""
    assert asked_app(plan, [turn_of(body("b", "team-b")), turn_of(body("b", "team-a"))]) == "team-a/b"


def test_what_was_made_for_a_plan_that_did_not_get_its_turn_claims_nothing() -> None:
    plan, other = Plan.from_object(body(made=4)), Plan.from_object(body("png", made=5))
    entries = [item for item in rendered(other, 0) if item["kind"] == "ServiceEntry"]
    routes = [item for item in rendered(other, 0) if item["kind"] == "VirtualService"]
    routed = listed_routes(*routes).owners
    assert heroku_shared_with(plan, listed_entries(*entries), set()) == ""
    assert heroku_shared_with(plan, listed_entries(*entries), routed) == "docs/png"
    theirs = [{**item, "metadata": {**item["metadata"], "namespace": "team-b"}} for item in entries]
    assert heroku_shared_with(plan, listed_entries(*theirs), set()) == "team-b/png", "of others it is asked as before"
    unmarked = [
        {**item, "metadata": {name: item["metadata"][name] for name in ("namespace", "name")}} for item in entries
    ]
    assert heroku_shared_with(plan, listed_entries(*unmarked), set()) == "docs/png"
