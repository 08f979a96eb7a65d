"""Users who stay on a leg and testers before them: which route a request meets, and that shares are exact at every weight."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kit.builders import with_traffic
from tests.kit.routing import FakeCluster, RecordedTraffic, make_plan, rendered

from cutover.adapters.kube.client import Cluster
from cutover.adapters.traffic.istio.live import split_weight, stamped_revision
from cutover.api.v1alpha1 import OnDelete, Step
from cutover.domain.cohorts import cohorts, ladder
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio import preview_pods, route_adoptable, route_delegates
from cutover.domain.preflight.checks.istio.preview_pods import PreviewPods
from cutover.domain.resources import DEPLOYMENTS, SERVICES, Json
from cutover.domain.revision import Split

AFFINITY = {"cookie": {"name": "cutover", "maxAge": "12h"}}
PREVIEW = {"header": {"name": "x-try-eks", "value": "1"}}
PODS = PreviewPods((("app", "pdf"),), "http", "HTTP", 8000)
EKS, HEROKU = "pdf.docs.svc.cluster.local", "acme-pdf-1a2b3c.herokuapp.com"


def plan(attempt: int = 1, *, steps: Sequence[int] = (), **fields: Any) -> Plan:
    made = with_traffic(make_plan(status={"attempt": attempt}), **fields)
    ladder_of = {"steps": tuple(Step(weight=weight) for weight in steps)} if steps else {}
    return replace(made, spec=made.spec.model_copy(update=ladder_of))


def routes(of: Plan, weight: int) -> list[Json]:
    return cast("list[Json]", rendered(of, weight)[-1]["spec"]["http"])


def met(http: list[Json], **headers: str) -> Json:
    """Return the route that a request meets, as Envoy decides it: the first, and an expression has to match the whole value."""

    def meets(match: Json) -> bool:
        return all(
            name in headers
            and ("exact" not in how or headers[name] == how["exact"])
            and ("regex" not in how or re.fullmatch(how["regex"], headers[name]))
            for name, how in match.get("headers", {}).items()
        )

    return next(route for route in http if any(map(meets, route.get("match", [{}]))))


def legs(route: Json) -> dict[str, Fraction]:
    """Return the part of a route's requests that each destination gets."""
    total = sum(one["weight"] for one in route["route"])
    found: dict[str, Fraction] = {}
    for one in route["route"]:
        host = one["destination"]["host"]
        found[host] = found.get(host, Fraction(0)) + Fraction(one["weight"], total)
    return {host: part for host, part in found.items() if part}


def cookies(route: Json) -> dict[str, Fraction]:
    """Return the cookies that new users are told, each with the part of them."""
    found = {}
    for one in route["route"]:
        if told := one.get("headers", {}).get("response", {}).get("add", {}).get("Set-Cookie"):
            found[told.split(";")[0]] = Fraction(one["weight"], sum(part["weight"] for part in route["route"]))
    return found


LADDERS = st.sets(st.integers(1, 99), min_size=1, max_size=8).map(lambda weights: [*sorted(weights), 100])


@given(LADDERS, st.data())
def test_the_share_of_users_is_the_weight_whichever_steps_they_missed(steps: list[int], data: st.DataObject) -> None:
    """Users come at a weight, stay away or not, and come again at any other: each time as many are on EKS as should be."""
    given = plan(affinity=AFFINITY, steps=steps)
    inside = [weight for weight in steps if weight < 100]
    first, later = data.draw(st.sampled_from(inside)), data.draw(st.sampled_from(inside))
    http = routes(given, first)
    assert split_weight(rendered(given, first)[-1], given) == first
    new = met(http)
    assert new["name"] == "split"
    assert legs(new).get(EKS, 0) == Fraction(first, 100)
    told = cookies(new)
    assert sum(told.values()) == 1
    then = {cookie: legs(met(routes(given, later), cookie=cookie)) for cookie in told}
    assert all(len(leg) == 1 for leg in then.values()), "nobody is drawn again"
    assert sum(part for cookie, part in told.items() if EKS in then[cookie]) == Fraction(later, 100)
    before = {cookie: legs(met(http, cookie=cookie)) for cookie in told}
    moved = {(*before[cookie], *then[cookie]) for cookie in told}
    if later >= first:
        assert (EKS, HEROKU) not in moved, "who is on EKS stays there"
    else:
        assert (HEROKU, EKS) not in moved


def test_with_25_percent_after_10_one_in_six_of_those_on_heroku_moves() -> None:
    given = plan(affinity=AFFINITY)
    told = cookies(met(routes(given, 10)))
    on_heroku = {
        cookie: part for cookie, part in told.items() if HEROKU in legs(met(routes(given, 10), cookie=cookie))
    }
    move = sum(part for cookie, part in on_heroku.items() if EKS in legs(met(routes(given, 25), cookie=cookie)))
    assert move / sum(on_heroku.values()) == Fraction(1, 6)


@pytest.mark.parametrize("weight", [0, 100])
def test_where_all_users_are_on_one_leg_no_cookie_is_read_or_set(weight: int) -> None:
    """So a rollback voids all cookies at once."""
    given = plan(affinity=AFFINITY)
    (told, *_) = cookies(met(routes(given, 10)))
    http = routes(given, weight)
    assert [route["name"] for route in http] == ["heroku-probe", "eks-probe", "split"]
    assert not cookies(met(http, cookie=told))
    back = with_traffic(make_plan(status={"attempt": 1, "phase": "RolledBack"}), affinity=AFFINITY)
    assert legs(met(routes(back, 0), cookie=told)) == {HEROKU: 1}


def test_another_attempt_other_steps_and_another_plan_draw_anew() -> None:
    given = plan(affinity=AFFINITY)
    (told, *_) = cookies(met(routes(given, 10)))
    assert met(routes(given, 10), cookie=told)["name"] == "cutover-on-heroku"
    others = (
        plan(2, affinity=AFFINITY),
        plan(affinity=AFFINITY, steps=[10, 30, 100]),
        replace(given, uid="another"),
    )
    for other in others:
        assert met(routes(other, 10), cookie=told)["name"] == "split"
    # The steps were edited so that the weight is none of them any more.
    odd = plan(affinity=AFFINITY, steps=[20, 100])
    assert legs(met(routes(odd, 10)))[EKS] == Fraction(1, 10)


def test_a_cookie_is_found_among_others_and_only_as_a_whole() -> None:
    given = plan(affinity=AFFINITY)
    http = routes(given, 25)
    name = f"cutover={ladder(given, Split(1, 25))}"
    for cookie in (f"{name}.25", f"a=b; {name}.25", f"{name}.25; a=b", f"a=b;{name}.10 ; c=d"):
        assert met(http, cookie=cookie)["name"] == "cutover-on-eks", cookie
    for cookie in (f"a=b; {name}.50; c=d", f"{name}.100"):
        assert met(http, cookie=cookie)["name"] == "cutover-on-heroku", cookie
    for cookie in ("", f"x{name}.25", f"{name}.25x", f"{name}.", "cutover=25", f"{name}x25", f"CUTOVER{name[7:]}.25"):
        assert met(http, cookie=cookie)["name"] == "split", cookie


def test_the_cookie_says_what_a_browser_has_to_know() -> None:
    given = plan(affinity=AFFINITY)
    told = [one["headers"]["response"]["add"]["Set-Cookie"] for one in met(routes(given, 10))["route"]]
    assert told[0].split("; ", 1)[1] == "Path=/; Max-Age=43200; Secure; HttpOnly; SameSite=Lax"
    assert all(one["headers"]["response"]["set"]["x-cutover-leg"] for one in met(routes(given, 10))["route"])
    assert all(re.fullmatch(r"cutover=a1-[0-9a-f]{8}\.(10|25|50|100)", one.split(";")[0]) for one in told)


def test_without_affinity_there_are_no_cohorts() -> None:
    assert not cohorts(plan(), Split(1, 10))


# ------------------------------------------------------------------------------------------------------------ testers


@pytest.mark.parametrize("weight", [0, 10, 100])
@pytest.mark.parametrize(
    "ask", [{"header": {"name": "x-try-eks", "value": "1"}}, {"cookie": {"name": "try", "value": "e.k"}}]
)
def test_testers_are_on_eks_at_any_weight_under_a_name_of_their_own(weight: int, ask: Json) -> None:
    given = plan(preview=ask, affinity=AFFINITY)
    http = routes(given, weight)
    headers = {"x-try-eks": "1"} if "header" in ask else {"cookie": "a=b; try=e.k"}
    found = met(http, **headers)
    assert (found["name"], legs(found)) == ("cutover-preview", {f"cutover-preview.{EKS}": 1})
    assert found["route"][0]["destination"]["port"] == {"number": 8080}
    assert met(http, **{"x-try-eks": "2", "cookie": "try=exk"})["name"] == "split"
    assert split_weight(rendered(given, weight)[-1], given) == weight
    assert stamped_revision(rendered(given, weight)[-1]) == f"a1-w{weight}"


def test_the_testers_name_selects_the_services_pods() -> None:
    *_, entry, _ = rendered(plan(preview=PREVIEW), 10, preview=PODS)
    assert entry["metadata"]["name"] == "preview-cutover-pdf"
    assert entry["spec"] == {
        "hosts": [f"cutover-preview.{EKS}"],
        "location": "MESH_INTERNAL",
        "ports": [{"number": 8080, "name": "http", "protocol": "HTTP", "targetPort": 8000}],
        "resolution": "STATIC",
        "workloadSelector": {"labels": {"app": "pdf"}},
        "exportTo": [".", "istio-ingress"],
    }


SERVICE: Json = {
    "spec": {"selector": {"app": "pdf"}, "ports": [{"port": 8080, "name": "grpc-web", "targetPort": "web"}]}
}
WORKLOAD: Json = {
    "spec": {"template": {"spec": {"containers": [{}, {"ports": [{"name": "web", "containerPort": 8000}]}]}}}
}


def test_a_named_port_of_the_pods_is_looked_up() -> None:
    assert preview_pods.preview_pods(plan(), SERVICE, WORKLOAD) == PreviewPods(
        (("app", "pdf"),), "grpc-web", "GRPC", 8000
    )
    plain = {"spec": {"selector": {"app": "pdf"}, "ports": [{"port": 8080}]}}
    assert preview_pods.preview_pods(plan(), plain, None) == PreviewPods((("app", "pdf"),), "http", "HTTP", None)


@pytest.mark.parametrize(
    ("service", "workload", "says"),
    [
        (None, None, "Service pdf has no port 8080"),
        ({"spec": {"ports": [{"port": 80}]}}, None, "Service pdf has no port 8080"),
        ({"spec": {"ports": [{"port": 8080}]}}, None, "Service pdf has no selector"),
        (SERVICE, None, "names its targetPort web, which no container of pdf has; write its number"),
    ],
)
def test_pods_that_cannot_be_selected_are_told_in_preflight(
    service: Json | None, workload: Json | None, says: str
) -> None:
    found = preview_pods.preview_pods(plan(), service, workload)
    assert isinstance(found, str)
    assert says in found


async def test_the_testers_name_follows_the_service_and_outlives_it() -> None:
    cluster = FakeCluster()
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "pdf", "namespace": "docs"}, "spec": {}}
    cluster.store({**service, "spec": copy.deepcopy(SERVICE["spec"])})
    workload = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "pdf", "namespace": "docs"}}
    cluster.store({**workload, "spec": copy.deepcopy(WORKLOAD["spec"])})
    traffic = RecordedTraffic(cast("Cluster", cluster))
    given = plan(preview=PREVIEW)
    await traffic.prepare(given)
    entry = cluster.objects["ServiceEntry", "docs", "preview-cutover-pdf"]
    assert entry["spec"]["workloadSelector"] == {"labels": {"app": "pdf"}}
    await traffic.set(given, 0)
    assert (await traffic.get(given, 0)).current
    cluster.objects["Service", "docs", "pdf"]["spec"]["selector"] = {"app": "pdf", "version": "2"}
    await traffic.prepare(given)
    assert not (await traffic.get(given, 25)).current
    entry = cluster.objects["ServiceEntry", "docs", "preview-cutover-pdf"]
    assert entry["spec"]["workloadSelector"] == {"labels": {"app": "pdf", "version": "2"}}
    del cluster.objects["Service", "docs", "pdf"]
    await traffic.prepare(given)
    await traffic.set(given, 25)
    assert (await traffic.get(given, 25)).current, "it stays as it is"


async def test_a_rollback_does_not_wait_for_the_testers_pods() -> None:
    cluster = FakeCluster()
    traffic = RecordedTraffic(cast("Cluster", cluster))
    given = plan(preview=PREVIEW)
    await traffic.set(given, 25)
    cluster.log.clear()
    await traffic.set(given, 0)
    assert cluster.log[0] == "update VirtualService cutover-pdf"


# -------------------------------------------------------------------------------------------------- the team's routes


def adopting(*http: Json, status: Json | None = None, **fields: Any) -> tuple[Plan, Json]:
    """Return a plan with ownership ``Adopt``, and the team's VirtualService."""
    given = make_plan(status={"attempt": 1} | (status or {}), ownership="Adopt", virtualServiceRef={"name": "pdf"})
    return with_traffic(given, **fields), {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "pdf", "namespace": "docs"},
        "spec": {
            "hosts": ["docs.example.com", "pdf.example.com"],
            "gateways": ["istio-ingress/public", "local"],
            "http": copy.deepcopy(list(http)),
        },
    }


API: Json = {
    "name": "api",
    "match": [{"uri": {"prefix": "/api"}}, {"headers": {"x-tier": {"exact": "gold"}}}],
    "route": [{"destination": {"host": HEROKU}, "weight": 90}, {"destination": {"host": "canary"}, "weight": 10}],
    "rewrite": {"uri": "/v2"},
    "timeout": "90s",
}
ELSEWHERE: Json = {"match": [{"uri": {"prefix": "/static"}}], "route": [{"destination": {"host": "cdn"}}]}
ALL: Json = {
    "route": [{"destination": {"host": HEROKU}}],
    "headers": {"response": {"add": {"Set-Cookie": "mine=1"}}},
}
OURS = f"cutover-heroku.{HEROKU}"


async def test_each_of_the_teams_routes_gets_its_own_and_all_come_back() -> None:
    given, theirs = adopting(API, ELSEWHERE, ALL, preview=PREVIEW, affinity=AFFINITY)
    assert route_adoptable.problem(given, theirs) == ""
    cluster = FakeCluster()
    cluster.store(copy.deepcopy(theirs), "kubectl")
    traffic = RecordedTraffic(cast("Cluster", cluster))

    def http() -> list[Json]:
        return cast("list[Json]", cluster.objects["VirtualService", "docs", "pdf"]["spec"]["http"])

    for weight in (0, 10, 25, 10, 100, 50):
        await traffic.set(given, weight)
        state = await traffic.get(given, weight)
        assert (state.weight, state.current, state.revision) == (weight, True, f"a1-w{weight}")
    names = ["cutover-preview", "cutover-on-eks", "cutover-on-heroku"]
    assert [route.get("name") for route in http()] == ["heroku-probe", "eks-probe", *names, "api", None, *names, None]
    testers, on_eks, on_heroku, api = http()[2:6]
    # What the team says of its requests holds for all of them, and its third destination keeps its tenth.
    assert all((one["rewrite"], one["timeout"]) == (API["rewrite"], "90s") for one in (testers, on_eks, on_heroku))
    assert testers["match"] == [
        {"uri": {"prefix": "/api"}, "headers": {"x-try-eks": {"exact": "1"}}},
        {"headers": {"x-tier": {"exact": "gold"}, "x-try-eks": {"exact": "1"}}},
    ]
    tenth, rest = Fraction(1, 10), Fraction(9, 10)
    assert legs(testers) == {f"cutover-preview.{EKS}": rest, "canary": tenth}
    assert legs(on_eks) == {EKS: rest, "canary": tenth}
    assert legs(on_heroku) == {OURS: rest, "canary": tenth}
    assert legs(api) == {OURS: rest / 2, EKS: rest / 2, "canary": tenth}
    assert len(cookies(api)) == len(cookies(http()[-1])) == 4
    assert http()[-1]["headers"]["response"]["add"] == {"Set-Cookie": "mine=1"}, "beside the one for users"
    # Taken out of the plan again, nothing is left of it.
    without = adopting(status={"phase": "Shifting", "weight": 50})[0]
    await traffic.set(without, 50)
    assert [route.get("name") for route in http()] == ["heroku-probe", "eks-probe", "api", None, None]
    assert not cookies(http()[2])
    await traffic.set(given, 50)
    await traffic.finalize(given, OnDelete.HEROKU)
    assert cluster.objects["VirtualService", "docs", "pdf"]["spec"] == theirs["spec"]


def test_what_cannot_be_told_apart_is_refused_before_the_takeover() -> None:
    by_cookie = {**ALL, "match": [{"headers": {"Cookie": {"regex": ".*beta.*"}}}]}
    by_header = {**ALL, "match": [{"headers": {"x-try-eks": {"exact": "2"}}}]}
    adding = {"route": [{"destination": {"host": HEROKU}, "headers": {"response": {"add": {"set-cookie": "a=b"}}}}]}
    found = route_adoptable.problem(*adopting(by_cookie, by_header, adding, preview=PREVIEW, affinity=AFFINITY))
    assert "http[0] matches the header cookie, by which traffic.affinity tells requests apart" in found
    assert "http[1] matches the header x-try-eks, by which traffic.preview tells requests apart" in found
    assert "http[2] adds a Set-Cookie in the headers of a destination" in found
    assert route_adoptable.problem(*adopting(by_cookie, by_header, adding)) == ""
    many = [{**ALL, "match": [{"uri": {"exact": f"/{number}"}}]} for number in range(33)]
    assert "33 of its routes go to a leg" in route_adoptable.problem(*adopting(*many, affinity=AFFINITY))


async def test_a_match_that_somebody_adds_later_is_drawn_and_closes_no_way_back() -> None:
    given, theirs = adopting(ALL, affinity=AFFINITY)
    cluster = FakeCluster()
    cluster.store(theirs, "kubectl")
    traffic = RecordedTraffic(cast("Cluster", cluster))
    await traffic.set(given, 25)
    edited = copy.deepcopy(cluster.objects["VirtualService", "docs", "pdf"])
    edited["spec"]["http"][-1]["match"] = [{"headers": {"cookie": {"regex": ".*beta.*"}}}]
    traffic.cache.observe_event("MODIFIED", cluster.store(edited, "somebody"))
    await traffic.set(given, 25)
    http = cluster.objects["VirtualService", "docs", "pdf"]["spec"]["http"]
    assert len(http) == 3
    await traffic.set(given, 0)
    assert (await traffic.get(given, 0)).weight == 0


def test_a_root_must_not_ask_for_the_same_header() -> None:
    given = with_traffic(
        make_plan(ownership="Delegate", virtualServiceRef={"name": "pdf"}), preview=PREVIEW, affinity=AFFINITY
    )
    line: Json = {"delegate": {"name": "cutover-pdf", "namespace": "docs"}}
    _, theirs = adopting(
        {**line, "match": [{"headers": {"cookie": {"prefix": "beta"}}, "uri": {"prefix": "/"}}]}, line
    )
    assert "http[0] matches the header cookie, by which traffic.affinity" in route_delegates.problem(given, theirs)
    _, theirs = adopting(line)
    assert route_delegates.problem(given, theirs) == ""


def test_reads_of_the_check() -> None:
    kinds = {read.resource for read in preview_pods.CHECK.reads}
    assert {SERVICES, DEPLOYMENTS} < kinds
    assert preview_pods.CHECK.applies(plan(preview=PREVIEW).spec)
    assert not preview_pods.CHECK.applies(plan().spec)
