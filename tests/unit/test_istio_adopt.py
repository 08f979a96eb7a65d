"""The team's own VirtualService: what is put into it, what is left alone, what comes back, and what is refused."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from fractions import Fraction
from random import Random
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kit.builders import HEROKU_HOST
from tests.kit.routing import AskedTraffic, FakeCluster, RecordedTraffic, make_plan, rendered
from tests.kit.target import listed_routes

from cutover.adapters.kube.client import Cluster
from cutover.adapters.traffic.istio import adopt as istio_adopt
from cutover.adapters.traffic.istio.rendering import probe_value
from cutover.api.v1alpha1 import HostHeader, OnDelete
from cutover.domain.engine.support import not_yet_supported
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio import route_adoptable, route_delegates, route_writers
from cutover.domain.preflight.checks.istio.host_unclaimed import claimed_hosts
from cutover.domain.preflight.checks.istio.original import ORIGINAL_ANNOTATION
from cutover.domain.preflight.checks.istio.proxies import Proxies
from cutover.domain.resources import Json
from cutover.domain.revision import Split
from cutover.domain.traffic import Leg, TrafficState
from cutover.ports.errors import Unavailable

HEROKU, EKS = HEROKU_HOST, "pdf.docs.svc.cluster.local"
OUR_HEROKU = f"cutover-heroku.{HEROKU}"

API = {
    "name": "api",
    "match": [{"uri": {"prefix": "/api"}, "headers": {"x-tier": {"exact": "gold"}}}],
    "route": [
        {"destination": {"host": HEROKU, "port": {"number": 443}}, "weight": 90},
        {
            "destination": {"host": "pdf-canary", "subset": "v2"},
            "weight": 10,
            "headers": {"request": {"add": {"a": "b"}}},
        },
    ],
    "mirror": {"host": "pdf-shadow"},
    "mirrorPercentage": {"value": 3.5},
    "timeout": "90s",
    "fromTheFuture": {"of": ["Istio"]},
}
STATIC = {"match": [{"uri": {"prefix": "/static"}}], "route": [{"destination": {"host": "cdn"}}], "corsPolicy": {}}
OLD = {"match": [{"uri": {"exact": "/old"}}], "redirect": {"uri": "/new"}}
ALL = {
    "route": [{"destination": {"host": HEROKU}}],
    "rewrite": {"authority": HEROKU},
    "headers": {"response": {"set": {"X-Cutover-Revision": "mine", "x-team": "docs"}}},
}


def plan(ownership: str = "Adopt", *, status: Json | None = None, **traffic: Any) -> Plan:
    return make_plan(status=status, ownership=ownership, virtualServiceRef={"name": "pdf"}, **traffic)


def root(*routes: Json, **spec: Any) -> Json:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "pdf", "namespace": "docs", "annotations": {"team": "docs"}},
        "spec": {
            "hosts": ["docs.example.com", "pdf.example.com"],
            "gateways": ["istio-ingress/public", "local"],
            "http": copy.deepcopy(list(routes)),
        }
        | spec,
    }


class Team(FakeCluster):
    """The API server with the team's VirtualService in it."""

    def __init__(self, *routes: Json) -> None:
        super().__init__()
        self.store(root(*routes), "kubectl-client-side-apply")
        self.recorded: list[str] = []

    @property
    def virtual_service(self) -> Json:
        return self.objects["VirtualService", "docs", "pdf"]

    @property
    def http(self) -> list[Json]:
        return cast("list[Json]", self.virtual_service["spec"]["http"])

    def traffic(self) -> AskedTraffic:
        return RecordedTraffic(cast("Cluster", self), self.recorded)


def weights(route: Json) -> dict[str, int]:
    return {one["destination"]["host"]: one.get("weight", 0) for one in route["route"]}


# ----------------------------------------------------------------------------------------------------------- adopting


async def test_only_the_plans_routes_are_written_and_only_what_the_split_needs() -> None:
    team = Team(API, STATIC, OLD, ALL)
    traffic = team.traffic()
    await traffic.set(plan(), 25)
    probe, eks_probe, api, static, old, rest = team.http
    assert (static, old) == (STATIC, OLD)
    assert weights(api) == {OUR_HEROKU: 9 * 75, EKS: 9 * 25, "pdf-canary": 100}
    assert {**api["route"][2], "weight": 10} == API["route"][1]
    untouched = {"name", "match", "mirror", "mirrorPercentage", "timeout", "fromTheFuture"}
    assert {name: api[name] for name in untouched} == {name: API[name] for name in untouched}
    assert api["retries"] == {"attempts": 0}
    assert weights(rest) == {OUR_HEROKU: 75, EKS: 25}
    # Heroku's Host is set for Heroku alone; the team's headers stay.
    assert "rewrite" not in rest
    assert rest["headers"]["response"]["set"] == {"x-cutover-revision": "a1-w25", "x-team": "docs"}
    assert rest["route"][0]["headers"]["request"]["set"]["Host"] == HEROKU
    assert "timeout" not in rest
    assert rest["retries"] == {"attempts": 0}
    assert probe["match"] == [{"headers": {"x-cutover-probe": {"exact": probe_value(plan(), Leg.HEROKU, "a1-w25")}}}]
    assert weights(probe) == {f"cutover-probe.{HEROKU}": 100}
    assert probe["headers"]["response"]["set"]["x-cutover-revision"] == "a1-w25"
    assert eks_probe["match"][0]["headers"].keys() == {"x-cutover-probe"}
    assert weights(eks_probe) == {EKS: 100}


@pytest.mark.parametrize("where", ["destination", "headers", "authority"])
async def test_with_the_public_name_no_other_is_set_for_heroku(where: str) -> None:
    host = {"headers": {"request": {"set": {"Host": HEROKU, "x-a": "b"}}}}
    leg = {"destination": {"host": HEROKU}} | (host if where == "destination" else {})
    team = Team(
        {"route": [leg]}
        | (host if where == "headers" else {})
        | ({"rewrite": {"authority": HEROKU}} if where == "authority" else {})
    )
    before = copy.deepcopy(team.virtual_service["spec"])
    traffic, asked = team.traffic(), plan(status={"phase": "Shifting", "weight": 10})
    heroku = asked.spec.heroku.model_copy(update={"host_header": HostHeader.PUBLIC})
    public = replace(asked, spec=asked.spec.model_copy(update={"heroku": heroku}))
    # Also after the other way, at weight 0.
    for one in (public, asked, public):
        await traffic.set(one, 10)
    route = team.http[2]
    assert HEROKU not in json.dumps([route.get("headers"), route.get("rewrite"), route["route"][0]["headers"]])
    if where != "authority":
        assert json.dumps({"x-a": "b"})[1:-1] in json.dumps(route)
    await traffic.finalize(public, OnDelete.HEROKU)
    assert team.virtual_service["spec"] == before


async def test_users_of_the_teams_route_need_not_be_told_the_leg() -> None:
    team = Team(ALL)
    traffic = team.traffic()
    for told in (True, False):
        await traffic.set(plan(status={"phase": "Shifting", "weight": 10}, legHeader=told), 10)
        assert ("x-cutover-leg" in json.dumps(team.http[2])) is told
    assert (await traffic.get(plan(status={"phase": "Shifting", "weight": 10}, legHeader=False), 10)).current


async def test_the_takeover_comes_after_what_it_refers_to_and_a_rollback_is_one_write() -> None:
    team = Team(ALL)
    traffic = team.traffic()
    taken = plan(status={"phase": "Preflight", "weight": 0})
    await traffic.set(taken, 0)
    assert team.writes() == [
        "create ServiceEntry cutover-pdf",
        "create DestinationRule cutover-pdf",
        "create DestinationRule probe-cutover-pdf",
        "update VirtualService pdf",
    ]
    shifting = plan(status={"phase": "Shifting", "weight": 50})
    await traffic.set(shifting, 50)
    rule = copy.deepcopy(team.objects["DestinationRule", "docs", "cutover-pdf"])
    rule["spec"]["trafficPolicy"] = {}
    traffic.cache.observe_event("MODIFIED", team.store(rule, "somebody"))
    team.log.clear()
    back = plan(status={"phase": "RollingBack", "weight": 0})
    await traffic.set(back, 0)
    assert team.log == ["update VirtualService pdf", "update DestinationRule cutover-pdf"]
    assert await traffic.get(back, 0) == TrafficState(weight=0, revision="a1-rollback", current=True)


async def test_what_was_set_is_current_and_written_once() -> None:
    team = Team(API, ALL)
    traffic = team.traffic()
    await traffic.set(plan(), 25)
    team.log.clear()
    assert await traffic.get(plan(), 25) == TrafficState(weight=25, revision="a1-w25", current=True)
    await traffic.set(plan(), 25)
    restarted = team.traffic()
    assert (await restarted.get(plan(), 25)).current
    await restarted.set(plan(), 25)
    assert team.writes() == []


async def test_an_edit_of_another_route_is_none_of_ours() -> None:
    team = Team(STATIC, ALL)
    traffic = team.traffic()
    await traffic.set(plan(), 25)
    edited = copy.deepcopy(team.virtual_service)
    edited["spec"]["http"][2]["timeout"] = "5s"
    edited["spec"]["http"][3]["fault"] = {"delay": {"fixedDelay": "1s"}}
    assert traffic.cache.observe_event("MODIFIED", team.store(edited, "kubectl-edit"))
    assert await traffic.get(plan(), 25) == TrafficState(25, "a1-w25", current=True, foreign=("kubectl-edit",))
    await traffic.set(plan(), 50)
    assert (team.http[2]["timeout"], team.http[3]["fault"]) == ("5s", {"delay": {"fixedDelay": "1s"}})


@pytest.mark.parametrize(
    ("edit", "weight"),
    [
        (lambda http: http[-1]["route"][0].update(weight=60), None),  # 60 and 25: not whole
        (lambda http: [one.update(weight=w) for one, w in zip(http[-1]["route"], (40, 60), strict=True)], 60),
        (lambda http: http[-1].update(copy.deepcopy(ALL)), 0),
        (lambda http: http.pop(0), 25),
        (lambda http: http.reverse(), 25),
        (lambda http: http[-1]["headers"]["response"]["set"].pop("x-cutover-revision"), 25),
    ],
)
async def test_an_edit_of_our_part_is_seen_and_put_back(edit: Any, weight: int | None) -> None:
    team = Team(ALL)
    traffic = team.traffic()
    await traffic.set(plan(), 25)
    before = copy.deepcopy(team.http)
    edited = copy.deepcopy(team.virtual_service)
    edit(edited["spec"]["http"])
    assert traffic.cache.observe_event("MODIFIED", team.store(edited, "kubectl-edit"))
    state = await traffic.get(plan(), 25)
    assert (state.weight, state.current, state.foreign) == (weight, False, ("kubectl-edit",))
    await traffic.set(plan(), 25)
    assert team.http == before


async def test_two_heroku_destinations_written_meanwhile_do_not_close_the_way_back() -> None:
    team = Team(ALL)
    traffic = team.traffic()
    await traffic.set(plan(), 50)
    edited = copy.deepcopy(team.virtual_service)
    edited["spec"]["http"][2]["route"] += [{"destination": {"host": HEROKU}, "weight": 10}]
    edited["metadata"] |= {"annotations": {}, "labels": {}}
    traffic.cache.observe_event("MODIFIED", team.store(edited, "somebody"))
    back = plan(status={"phase": "RollingBack", "weight": 0})
    await traffic.set(back, 0)
    assert weights(team.http[2]) == {OUR_HEROKU: 100, EKS: 0}
    assert (await traffic.get(back, 0)).current


async def test_another_app_for_a_new_attempt_takes_the_place_of_the_old_one() -> None:
    team = Team(API, ALL)
    traffic = team.traffic()
    before = copy.deepcopy(team.virtual_service["spec"])
    await traffic.set(plan(status={"phase": "RolledBack", "weight": 0}), 0)
    old = plan(status={"phase": "Baseline", "weight": 0, "attempt": 2})
    heroku = old.spec.heroku.model_copy(update={"hostname": "acme-pdf-2.herokuapp.com"})
    service = old.spec.eks.service.model_copy(update={"name": "pdf-v2"})
    eks = old.spec.eks.model_copy(update={"service": service})
    new = replace(old, spec=old.spec.model_copy(update={"heroku": heroku, "eks": eks}))
    assert not (await traffic.get(new, 0)).current
    await traffic.set(new, 50)
    assert (await traffic.get(new, 50)).weight == 50
    assert {host: part for host, part in _parts(team.http[3]).items() if part} == {
        "cutover-heroku.acme-pdf-2.herokuapp.com": Fraction(1, 2),
        "pdf-v2.docs.svc.cluster.local": Fraction(1, 2),
    }
    assert _parts(team.http[2])["pdf-canary"] == Fraction(1, 10)
    await traffic.finalize(new, OnDelete.HEROKU)
    assert team.virtual_service["spec"] == before


async def test_a_virtual_service_that_lost_the_plans_routes_is_not_current_and_says_so() -> None:
    team = Team(STATIC, ALL)
    traffic = team.traffic()
    await traffic.set(plan(), 50)
    edited = copy.deepcopy(team.virtual_service)
    edited["spec"]["http"].pop()
    traffic.cache.observe_event("MODIFIED", team.store(edited, "somebody"))
    state = await traffic.get(plan(), 50)
    assert (state.weight, state.current, state.foreign) == (None, False, ("somebody",))
    with pytest.raises(Unavailable, match="VirtualService docs/pdf: none of its http routes goes to a leg"):
        await traffic.set(plan(status={"phase": "RollingBack", "weight": 0}), 0)


# --------------------------------------------------------------------------------------------------------- properties

_THIRD = st.fixed_dictionaries(
    {"destination": st.fixed_dictionaries({"host": st.sampled_from(["a", "b.other.svc.cluster.local"])})},
    optional={"weight": st.integers(0, 100), "headers": st.just({"request": {"set": {"x": "y"}}})},
)
_LEG = st.fixed_dictionaries(
    {"destination": st.fixed_dictionaries({"host": st.sampled_from([HEROKU, "ACME-pdf-1a2b3c.herokuapp.com"])})},
    optional={
        "weight": st.integers(0, 100),
        "headers": st.sampled_from(
            [{}, {"request": {"set": {"HOST": HEROKU, "k": "v"}}}, {"response": {"remove": ["s"]}}]
        ),
    },
)
_ZERO = st.fixed_dictionaries(
    {"destination": st.fixed_dictionaries({"host": st.sampled_from(["pdf", EKS])}), "weight": st.just(0)}
)
_ROUTE = st.fixed_dictionaries(
    {
        "route": st.tuples(
            st.lists(_THIRD, max_size=2), st.lists(_LEG, max_size=1), st.lists(_ZERO, max_size=1), st.lists(_THIRD, max_size=1)
        ).map(lambda parts: [one for part in parts for one in part])
    },
    optional={
        "timeout": st.sampled_from(["5s", "0s"]),
        "retries": st.just({"attempts": 3}),
        "rewrite": st.sampled_from([{"uri": "/"}, {"authority": HEROKU}, {"authority": HEROKU, "uri": "/x"}]),
        "headers": st.sampled_from([{"request": {"set": {"host": HEROKU}}}, {"request": {"set": {"Host": HEROKU, "k": "v"}, "add": {"a": "b"}}}]),
        "mirrors": st.just([{"destination": {"host": HEROKU}}]),
        "unknown": st.integers(),
    },
)  # fmt: skip


def _matching(routes: list[tuple[int, Json]]) -> list[Json]:
    """Give the routes a match each; some have the same."""
    return [{"match": [{"uri": {"prefix": f"/{number}"}}], **route} for number, route in routes]


def _shape(weight: int) -> istio_adopt.Shape:
    heroku = {
        "destination": {"host": OUR_HEROKU, "port": {"number": 80}},
        "headers": {"request": {"set": {"Host": HEROKU}}},
    }
    eks = {
        "destination": {"host": EKS, "port": {"number": 8080}},
        "headers": {"response": {"set": {"x-cutover-leg": "eks"}}},
    }
    probes = (
        {"name": "heroku-probe", "route": [{"destination": {"host": f"cutover-probe.{HEROKU}"}}]},
        {
            "name": "eks-probe",
            "match": [{"headers": {"x-cutover-probe": {"exact": "eks-1"}}}],
            "route": [{"destination": eks["destination"], "weight": 100}],
        },
    )
    return istio_adopt.Shape(heroku, eks, eks, probes, f"a1-w{weight}", {"attempts": 0})


def _parts(route: Json) -> dict[str, Fraction]:
    """Return the part of a route's requests that each host gets, as Istio reads it."""
    given = [100] if len(route["route"]) == 1 else [one.get("weight", 0) for one in route["route"]]
    parts: dict[str, Fraction] = {}
    for one, weight in zip(route["route"], given, strict=True):
        host = one["destination"]["host"].lower()
        parts[host] = parts.get(host, Fraction(0)) + Fraction(weight, sum(given) or 1)
    return parts


@given(
    st.lists(st.tuples(st.integers(0, 3), _ROUTE), max_size=4).map(_matching),
    st.lists(st.integers(0, 100), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
)
def test_adopting_is_exact_idempotent_and_reversible(routes: list[Json], steps: list[int], random: Random) -> None:
    spec: Json = {"hosts": ["x"], "tls": [{"any": 1}], "http": routes}
    kept: list[Json] = []
    ours = {HEROKU, OUR_HEROKU, "pdf", EKS}
    live = spec
    for weight in steps:
        live, kept = istio_adopt.adopt(live, plan(), Split(1, weight), _shape(weight), kept)
        assert istio_adopt.adopt(live, plan(), Split(1, weight), _shape(weight), kept) == (live, kept)
        assert {name: value for name, value in live.items() if name != "http"} == {"hosts": ["x"], "tls": [{"any": 1}]}
        assert len(live["http"]) == 2 + len(routes)
        for route, before in zip(live["http"][2:], routes, strict=True):
            then, now = _parts(before), _parts(route)
            mine = sum((part for host, part in then.items() if host in ours), start=Fraction(0))
            if mine == 0:
                assert route == before
                continue
            assert {host: part for host, part in now.items() if host not in ours} == {
                host: part for host, part in then.items() if host not in ours
            }
            assert now[OUR_HEROKU] == mine * (100 - weight) / 100
            assert sum(part for host, part in now.items() if host in (EKS, "pdf")) == mine * weight / 100
            assert all(one["weight"] < 2**31 for one in route["route"] if "weight" in one)
            edited = copy.deepcopy(live)
            for one in edited["http"][live["http"].index(route)]["route"]:
                if "weight" in one:
                    one["weight"] = random.randint(0, 100)
            assert istio_adopt.adopt(edited, plan(), Split(1, weight), _shape(weight), kept) == (live, kept)
    assert bool(kept) is any(part for route in routes for host, part in _parts(route).items() if host in ours)
    if kept:
        assert istio_adopt.live_weight(live, plan()) == steps[-1]
        assert istio_adopt.live_revision(live, plan()) == f"a1-w{steps[-1]}"
    assert istio_adopt.restore(live, plan(), kept) == spec


async def test_probes_of_eks_go_where_the_team_sends_its_users() -> None:
    theirs = {"host": "pdf", "subset": "v2", "port": {"number": 8080}}
    team = Team({"route": [{"destination": {"host": HEROKU}, "weight": 100}, {"destination": theirs, "weight": 0}]})
    await team.traffic().set(plan(), 25)
    _, eks_probe, split = team.http
    assert eks_probe["route"][0]["destination"] == split["route"][1]["destination"] == theirs


async def test_eks_gets_the_plans_port_where_the_team_wrote_none() -> None:
    heroku = {"destination": {"host": HEROKU}, "weight": 100}
    team = Team({"route": [heroku, {"destination": {"host": "pdf", "subset": "v2"}, "weight": 0}]})
    traffic, before = team.traffic(), copy.deepcopy(team.http)
    await traffic.set(plan(), 25)
    _, eks_probe, split = team.http
    whole = {"host": "pdf", "subset": "v2", "port": {"number": 8080}}
    assert eks_probe["route"][0]["destination"] == split["route"][1]["destination"] == whole
    await traffic.finalize(plan(status={"phase": "Shifting", "weight": 25}), OnDelete.HEROKU)
    assert team.http == before


# --------------------------------------------------------------------------------------------------------- giving back


@pytest.mark.parametrize("weight", [0, 40])
async def test_the_original_comes_back_when_the_plan_goes(weight: int) -> None:
    team = Team(API, STATIC, OLD, ALL)
    traffic = team.traffic()
    before = copy.deepcopy(team.virtual_service)
    for step in (0, 10, weight):
        await traffic.set(plan(status={"phase": "Shifting", "weight": step}), step)
    edited = copy.deepcopy(team.virtual_service)
    edited["spec"]["http"][3]["timeout"] = "5s"
    edited["metadata"]["labels"]["new"] = "label"
    traffic.cache.observe_event("MODIFIED", team.store(edited, "kubectl-edit"))
    team.log.clear()
    await traffic.finalize(plan(status={"phase": "Shifting", "weight": weight}), OnDelete.HEROKU)
    assert team.writes() == ["update VirtualService pdf"]
    before["spec"]["http"][1]["timeout"] = "5s"
    assert team.virtual_service["spec"] == before["spec"]
    assert team.virtual_service["metadata"]["annotations"] == {"team": "docs"}
    assert team.virtual_service["metadata"]["labels"] == {"new": "label"}


@pytest.mark.parametrize("retries", [None, {"attempts": 3, "perTryTimeout": "2s"}, {"perTryTimeout": "2s"}])
async def test_time_outs_are_the_teams_alone(retries: Json | None) -> None:
    before = {"route": [{"destination": {"host": HEROKU}}], **({"retries": retries} if retries else {})}
    team = Team(before)
    traffic = team.traffic()
    taken = plan(status={"phase": "Shifting", "weight": 10}, firstByteTimeout="5s", timeout="10s")
    await traffic.set(taken, 10)
    assert "timeout" not in team.http[2]
    assert team.http[2]["retries"] == (retries or {"attempts": 0})
    edited = copy.deepcopy(team.virtual_service)
    edited["spec"]["http"][2]["timeout"] = "1h"
    traffic.cache.observe_event("MODIFIED", team.store(edited, "kubectl-edit"))
    await traffic.set(taken, 25)
    await traffic.finalize(taken, OnDelete.HEROKU)
    assert team.http == [{**before, "timeout": "1h"}]


def test_a_time_out_that_has_no_effect_is_told() -> None:
    assert any(text.startswith("traffic.istio.timeout") for text in not_yet_supported(plan(timeout="10s").spec))
    assert not any("timeout" in text for text in not_yet_supported(plan("Delegate", timeout="10s").spec))


async def test_an_annotation_that_was_there_before_comes_back_too() -> None:
    team = Team(ALL)
    team.virtual_service["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/reconcile"] = "enabled"
    traffic = team.traffic()
    await traffic.set(plan(), 0)
    assert team.virtual_service["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/reconcile"] == "disabled"
    await traffic.set(plan(status={"weight": 10}), 10)
    await traffic.finalize(plan(status={"weight": 10}), OnDelete.HEROKU)
    annotations = team.virtual_service["metadata"]["annotations"]
    assert annotations == {"team": "docs", "kustomize.toolkit.fluxcd.io/reconcile": "enabled"}


@pytest.mark.parametrize(("end", "weight"), [(OnDelete.EKS, 100), (OnDelete.LEAVE, 40)], ids=str)
async def test_elsewhere_it_stays_as_it_is_but_for_the_label(end: OnDelete, weight: int) -> None:
    team = Team(ALL)
    traffic = team.traffic()
    shifting = plan(status={"phase": "Shifting", "weight": 40})
    await traffic.set(shifting, 40)
    await traffic.finalize(shifting, end)
    assert weights(team.http[2]) == {OUR_HEROKU: 100 - weight, EKS: weight}
    # Deleting the operator's objects by their label must not delete the team's.
    assert team.virtual_service["metadata"].get("labels") == {}
    assert team.virtual_service["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/reconcile"] == "disabled"
    # And a plan that has never adopted it gives nothing back.
    team.log.clear()
    await traffic.finalize(replace(plan(), uid="another"), OnDelete.HEROKU)
    assert team.writes() == []


async def test_a_route_that_was_edited_beyond_recognition_rests_on_heroku() -> None:
    team = Team(ALL)
    traffic = team.traffic()
    shifting = plan(status={"phase": "Shifting", "weight": 40})
    await traffic.set(shifting, 40)
    edited = copy.deepcopy(team.virtual_service)
    edited["spec"]["http"][2]["match"] = [{"uri": {"prefix": "/v2"}}]
    traffic.cache.observe_event("MODIFIED", team.store(edited, "kubectl-edit"))
    await traffic.finalize(shifting, OnDelete.HEROKU)
    (route,) = team.http
    assert (weights(route), route["match"]) == ({OUR_HEROKU: 100, EKS: 0}, [{"uri": {"prefix": "/v2"}}])


async def test_annotations_taken_off_neither_stop_a_rollback_nor_the_deletion() -> None:
    team = Team(ALL)
    traffic = team.traffic()
    shifting = plan(status={"phase": "Shifting", "weight": 40})
    await traffic.set(shifting, 40)
    edited = copy.deepcopy(team.virtual_service)
    edited["metadata"] |= {"annotations": {}, "labels": {}}
    team.store(edited, "kubectl-replace")
    traffic.cache.drop(team.virtual_service)
    await traffic.finalize(shifting, OnDelete.HEROKU)
    assert weights(team.http[0]) == {OUR_HEROKU: 100, EKS: 0}
    await traffic.set(plan(status={"phase": "RollingBack", "weight": 0}), 0)
    assert weights(team.http[2]) == {OUR_HEROKU: 100, EKS: 0}


@given(
    st.one_of(
        st.text(),
        st.recursive(
            st.none() | st.integers() | st.text() | st.just("route") | st.just("destination"),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(
                    st.sampled_from(["routes", "annotations", "route", "destination", "weight", "name"]), inner
                )
            ),
        ).map(json.dumps),
    )
)
async def test_a_note_that_somebody_has_edited_does_not_close_the_way_back(note: str) -> None:
    team = Team(API, ALL)
    traffic = team.traffic()
    await traffic.set(plan(), 50)
    edited = copy.deepcopy(team.virtual_service)
    edited["metadata"]["annotations"][ORIGINAL_ANNOTATION] = note
    traffic.cache.observe_event("MODIFIED", team.store(edited, "kubectl-edit"))
    back = plan(status={"phase": "RollingBack", "weight": 0})
    await traffic.set(back, 0)
    assert (await traffic.get(back, 0)).current
    await traffic.finalize(back, OnDelete.HEROKU)
    assert EKS not in {host for route in team.http for host, part in _parts(route).items() if part}


async def test_original_routes_that_the_operator_did_not_write_are_not_written_by_it() -> None:
    team = Team(ALL)
    traffic = team.traffic()
    shifting = plan(status={"phase": "Shifting", "weight": 40})
    await traffic.set(shifting, 40)
    elsewhere = {"annotations": {"a": "b"}, "routes": [{"route": [{"destination": {"host": "db.payments.svc"}}]}]}
    edited = copy.deepcopy(team.virtual_service)
    edited["metadata"]["annotations"][ORIGINAL_ANNOTATION] = json.dumps(elsewhere)
    traffic.cache.observe_event("MODIFIED", team.store(edited, "kubectl-annotate"))
    await traffic.get(shifting, 40)
    await traffic.finalize(shifting, OnDelete.HEROKU)
    (route,) = team.http
    assert weights(route) == {OUR_HEROKU: 100, EKS: 0}
    assert team.virtual_service["metadata"]["annotations"] == {"team": "docs"}


async def test_routes_that_the_team_adds_meanwhile_are_recorded_before_they_are_taken_over() -> None:
    team = Team(ALL)
    traffic = team.traffic()
    shifting = plan(status={"phase": "Shifting", "weight": 40})
    await traffic.set(shifting, 40)
    before = list(team.recorded)
    edited = copy.deepcopy(team.virtual_service)
    edited["spec"]["http"].insert(1, copy.deepcopy(API))
    traffic.cache.observe_event("MODIFIED", team.store(edited, "kubectl-edit"))
    await traffic.get(shifting, 40)
    assert team.recorded[1:] == before
    await traffic.set(shifting, 40)
    await traffic.get(shifting, 40)
    assert len(team.recorded) == 1
    await traffic.finalize(shifting, OnDelete.HEROKU)
    assert team.http == [API, ALL]


@pytest.mark.parametrize("uid", [None, "another"])
async def test_a_forged_mark_of_another_plan_does_not_strand_the_traffic(uid: str | None) -> None:
    team = Team(ALL)
    traffic = AskedTraffic(cast("Cluster", team))
    record = {"name": "VirtualService pdf"}
    shifting = plan(status={"phase": "Shifting", "weight": 40, "route": record})
    await traffic.set(shifting, 40)
    edited = copy.deepcopy(team.virtual_service)
    edited["metadata"]["annotations"]["cutover.dev/plan-uid"] = uid
    if uid is None:
        edited["metadata"]["annotations"] = {}
    traffic.cache.observe_event("MODIFIED", team.store(edited, "kubectl-annotate"))
    # Neither in preflight of a later attempt, where a takeover would be refused for the traffic on EKS.
    await traffic.set(plan(status={"phase": "Preflight", "weight": 0, "route": record}), 0)
    assert weights(team.http[2]) == {OUR_HEROKU: 100, EKS: 0}
    await traffic.set(shifting, 40)
    team.store({**team.virtual_service, "metadata": edited["metadata"]}, "kubectl-annotate")
    await traffic.finalize(shifting, OnDelete.HEROKU)
    assert weights(team.http[0]) == {OUR_HEROKU: 100, EKS: 0}


@pytest.mark.parametrize("size", [256 * 1024 - 20, 256 * 1024 - 200, 1000])
async def test_an_adopted_route_that_is_full_of_annotations_is_rolled_back(size: int) -> None:
    """The team's stay, and of the operator's those that the API server takes beside them."""
    team = Team(ALL)
    traffic = AskedTraffic(cast("Cluster", team))
    record = {"name": "VirtualService pdf"}
    shifting = plan(status={"phase": "Shifting", "weight": 40, "route": record})
    await traffic.set(shifting, 40)
    edited = copy.deepcopy(team.virtual_service)
    edited["metadata"]["annotations"] = {"note": "x" * (size - 4)}
    traffic.cache.observe_event("MODIFIED", team.store(edited, "kubectl-replace"))
    await traffic.set(plan(status={"phase": "RollingBack", "weight": 0, "route": record}), 0)
    assert weights(team.http[2]) == {OUR_HEROKU: 100, EKS: 0}
    annotations = team.virtual_service["metadata"]["annotations"]
    assert len(annotations["note"]) == size - 4
    assert sum(len(name) + len(value) for name, value in annotations.items()) <= 256 * 1024
    assert ("cutover.dev/plan-uid" in annotations) is (size < 256 * 1024 - 100)
    for _ in range(2):  # what was the team's is noted anew, once
        writes = len(team.log)
        await traffic.set(plan(status={"phase": "RollingBack", "weight": 0, "route": record}), 0)
    assert not [line for line in team.log[writes:] if not line.startswith("get")]


# ------------------------------------------------------------------------------------------------------------ refusals


def changed(edit: Any) -> Json:
    body = root(API, ALL)
    edit(body)
    return body


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (None, "does not exist; create it"),
        (root(STATIC), "none of its http routes goes to"),
        (root(), "none of its http routes"),
        (root(ALL, hosts=["docs.example.com"]), "does not route pdf.example.com"),
        (root(ALL, hosts=["docs.example.com", "pdf.example.com", "x.org"]), "routes x.org too"),
        (root(ALL, gateways=["local"]), "not bound to gateway istio-ingress/public"),
        (root(ALL, gateways=["local", "istio-ingress/public", "other"]), "gateway docs/other too"),
        (root(ALL, gateways=["local", "istio-ingress/public", "mesh"]), "callers inside the mesh"),
        (changed(lambda b: b["spec"].pop("gateways")), "callers inside the mesh"),
        (changed(lambda b: b["metadata"].update(labels={"cutover.dev/plan": "other"})), "plan docs/other has adopted it"),
        (
            changed(lambda b: b["metadata"].update(ownerReferences=[{"kind": "Canary", "name": "c", "controller": True}])),
            "Canary c makes it",
        ),
        (
            root({"route": [{"destination": {"host": HEROKU}, "weight": 99}, {"destination": {"host": "pdf"}, "weight": 1}]}),
            "http[0] sends requests to Service pdf already",
        ),
        (root(ALL, {"name": "eks", "route": [{"destination": {"host": EKS}}]}), "http[1] (eks) sends requests"),
        (
            root({"route": [{"destination": {"host": HEROKU}, "weight": 50}, {"destination": {"host": HEROKU}, "weight": 50}]}),
            "write each leg once",
        ),
        (
            root({"route": [{"destination": {"host": HEROKU}, "weight": 9}, {"destination": {"host": EKS, "port": {"number": 81}}}]}),
            "goes to port 81 of Service pdf",
        ),
        (root({**ALL, "rewrite": {"authority": "other"}}), "sets a Host for both legs"),
        (root({**ALL, "headers": {"request": {"add": {":Authority": "other"}}}}), "sets a Host for both legs"),
        (root({**API, "rewrite": {"authority": HEROKU}}), "for a third destination too"),
        (root({**ALL, "unknown": "x" * 140_000}), "can be kept for later"),
        (root(ALL, {**ALL, "name": "again"}), "http[1] (again) is never reached, as http[0] matches"),
        (root(API, {**ALL, "match": [{"uri": {"prefix": "/"}}]}, ALL), "http[2] is never reached, as http[1] matches"),
        (root(STATIC, {**STATIC, "match": [{"uri": {"regex": ".*"}}]}, ALL), "http[2] is never reached, as http[1] matches"),
        (root(API, {**ALL, "match": [*API["match"], *API["match"]]}), "http[1] is never reached, as http[0] matches"),
        (root(OLD, STATIC, {**ALL, "match": [*STATIC["match"], *OLD["match"]]}), "as http[0], http[1] matches"),
        (root(ALL, tls=[{"match": [{"port": 443, "sniHosts": ["x.org"]}], "route": [{"destination": {"host": "a"}}]}]), "tls[0] passes x.org on to a unopened"),
        (root(ALL, tcp=[{"route": [{"destination": {"host": "a"}}]}]), "tcp[0] passes connections on to a unopened"),
        (root({"route": [{"destination": {"host": HEROKU}}, {"destination": {"host": "pdf.docs"}, "weight": 5}]}), "http[0] goes to pdf.docs, which Istio does not complete; write pdf"),
        (root(ALL, {"route": [{"destination": {"host": "pdf.docs.svc"}}]}), "http[1] goes to pdf.docs.svc, which"),
    ],
)  # fmt: skip
def test_what_cannot_be_adopted_is_refused_with_what_to_do(body: Json | None, says: str) -> None:
    problem = route_adoptable.problem(plan(), body)
    assert problem.startswith("VirtualService docs/pdf")
    assert says in problem


@pytest.mark.parametrize(
    "before",
    [
        {**ALL, "delegate": {"name": "other"}},  # which may not be there
        {**ALL, "match": [{"gateways": ["local"]}]},
        {**ALL, "match": STATIC["match"]},
    ],
)
def test_a_route_that_gets_some_requests_is_not_dead(before: Json) -> None:
    after = {**ALL, "match": [*STATIC["match"], {"uri": {"prefix": "/"}, "headers": {"a": {"exact": "b"}}}]}
    assert "never reached" not in route_adoptable.problem(plan(), root(before, after))


def test_what_can_be_adopted_is_not_refused() -> None:
    assert route_adoptable.problem(plan(), root(API, STATIC, OLD, ALL)) == ""
    assert "names that begin with cutover-" in route_adoptable.problem(
        make_plan(ownership="Adopt", virtualServiceRef={"name": "cutover-pdf"}), root(ALL)
    )


async def test_a_refusal_writes_nothing_even_where_the_check_is_skipped() -> None:
    team = Team({"route": [{"destination": {"host": EKS}}]})
    traffic = team.traffic()
    taken = plan(status={"phase": "Preflight"})
    assert (await traffic.get(taken, None)).weight == 100
    with pytest.raises(Unavailable, match=r"not taken over: .* sends requests to Service pdf"):
        await traffic.set(taken, 0)
    assert team.writes() == []


async def test_the_plans_root_claims_no_host() -> None:
    for ownership in ("Adopt", "Delegate"):
        assert claimed_hosts(plan(ownership), listed_routes(root(ALL)), Proxies()) == {}
    other = root(ALL)
    other["metadata"]["name"] = "older"
    assert set(claimed_hosts(plan(), listed_routes(root(ALL), other), Proxies())) == {
        "docs.example.com",
        "pdf.example.com",
    }


# ------------------------------------------------------------------------------------------------------------- writers


def owned(manager: str, annotations: Json | None = None, field: str = "f:http") -> Json:
    body = root(ALL)
    body["metadata"]["managedFields"] = [{"manager": manager, "fieldsV1": {"f:spec": {field: {}}}}]
    body["metadata"]["annotations"] = annotations or {}
    return body


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (
            owned("kustomize-controller"),
            ("(Flux)", "kustomize.toolkit.fluxcd.io/ssa: IfNotPresent", "kubectl annotate"),
        ),
        (owned("argocd-controller"), ("(Argo CD)", "ignoreDifferences", "RespectIgnoreDifferences=true")),
        (owned("kubectl-client-side-apply", {"argocd.argoproj.io/tracking-id": "x"}), ("argocd-controller",)),
        (owned("helm-controller"), ("(Helm)", "driftDetection")),
        (owned("flagger"), ("flagger writes spec.http",)),
    ],
)
def test_a_controller_that_would_put_weights_back_is_named_with_the_line_to_add(
    body: Json, says: tuple[str, ...]
) -> None:
    problem = route_writers.problem(body)
    assert all(part in problem for part in says)


@pytest.mark.parametrize(
    "body",
    [
        root(ALL),
        owned("cutover"),
        owned("kubectl-edit"),
        owned("kustomize-controller", field="f:hosts"),
        owned("kustomize-controller", {"kustomize.toolkit.fluxcd.io/reconcile": "Disabled"}),
        owned("kustomize-controller", {"kustomize.toolkit.fluxcd.io/ssa": "ignore"}),
    ],
)
def test_people_and_those_who_were_told_off_do_not_stand_in_the_way(body: Json) -> None:
    assert route_writers.problem(body) == ""


# ------------------------------------------------------------------------------------------------------------ Delegate

LINE = "- delegate: {name: cutover-pdf, namespace: docs}"
DELEGATING = {"delegate": {"name": "cutover-pdf"}}


def test_the_delegate_has_the_routes_alone() -> None:
    *supports, route = rendered(plan("Delegate"), 25)
    *_, generated = rendered(make_plan(), 25)
    assert set(route["spec"]) == {"exportTo", "http"}
    assert route["metadata"] == generated["metadata"]
    *probes, split = route["spec"]["http"]
    assert weights(split) == {OUR_HEROKU: 75, EKS: 25}
    assert probes == generated["spec"]["http"][:2]
    # Its name for Heroku is one that no ServiceEntry of the team's has.
    assert supports[0]["spec"]["hosts"] == [OUR_HEROKU, f"cutover-probe.{HEROKU}"]
    assert supports[0]["spec"]["endpoints"] == [{"address": HEROKU}]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (None, ("does not exist; create it", "hosts: [pdf.example.com, docs.example.com]", LINE)),
        (root(ALL), ("does not delegate", LINE)),
        (root({"delegate": {"name": "other"}}), ("does not delegate", LINE)),
        (root({"delegate": {"name": "cutover-pdf", "namespace": "other"}}), ("of namespace other", "namespace: docs")),
        (root(ALL, DELEGATING), ("before the one that delegates", LINE)),
        (root({**DELEGATING, "headers": {"request": {"add": {"a": "b"}}}}), ("headers beside delegate",)),
        (root({**DELEGATING, "rewrite": {"authority": "a"}}), ("rewrite.authority",)),
        (root({**DELEGATING, "match": [{"uri": {"prefix": "/api"}}]}), ("probe.paths: /",)),
        (root({**DELEGATING, "match": [{"method": {"exact": "POST"}}]}), ("probe.paths: /",)),
        (
            root({**DELEGATING, "match": [{"uri": {"prefix": "/"}, "ignoreUriCase": True}]}),
            ("take ignoreUriCase out",),
        ),
        (root({**DELEGATING, "match": [{"authority": {"prefix": "pdf.other."}}]}), ("probe.paths: /",)),
        (
            root({**DELEGATING, "match": [{"uri": {"prefix": "/api"}}]}, API),
            ("to pdf-canary, and a delegate would not",),
        ),
        (root({**DELEGATING, "match": [{"uri": {"prefix": "/api"}}]}), ("write a path that does, such as /api",)),
        (
            changed(
                lambda b: b["metadata"].update(ownerReferences=[{"kind": "Canary", "name": "c", "controller": True}])
            ),
            ("Canary c makes it",),
        ),
        (root(DELEGATING, hosts=["docs.example.com"]), ("does not route pdf.example.com",)),
        (root(DELEGATING, gateways=["local"]), ("not bound to gateway istio-ingress/public",)),
    ],
)
def test_a_root_that_does_not_delegate_is_told_the_line(body: Json | None, says: tuple[str, ...]) -> None:
    problem = route_delegates.problem(plan("Delegate"), body)
    assert all(part in problem for part in says), problem


def test_of_many_routes_to_heroku_some_lines_are_written_out() -> None:
    routes = [{**ALL, "match": [{"uri": {"prefix": f"/{number}"}}]} for number in range(7)]
    problem = route_delegates.problem(plan("Delegate"), root(*routes))
    assert problem.count("cutover-pdf") == 5
    assert problem.endswith("and likewise, with their match, before http[5], http[6]")


def test_a_root_may_be_where_the_gateway_is() -> None:
    reference = {"name": "edge", "namespace": "istio-ingress"}
    delegating = make_plan(ownership="Delegate", virtualServiceRef=reference, gateways=["istio-ingress/public"])
    line = {"delegate": {"name": "cutover-pdf", "namespace": "docs"}}
    body = root({"match": [{"uri": {"prefix": "/other"}}], "route": []}, line, gateways=["public"])
    body["metadata"] |= {"name": "edge", "namespace": "istio-ingress"}
    assert route_delegates.problem(delegating, body) == ""
    assert claimed_hosts(delegating, listed_routes(body), Proxies()) == {}
    assert rendered(delegating, 0)[-1]["spec"]["exportTo"] == [".", "istio-ingress"]
    # Of an object that is not for this plan, nothing is told that is in it.
    secret = root({"match": [{"uri": {"prefix": "/secret"}}], "route": []}, DELEGATING, hosts=["secret.org"])
    secret["metadata"] |= {"name": "edge", "namespace": "istio-ingress"}
    told = route_delegates.problem(delegating, secret)
    assert told == route_delegates.problem(delegating, None)
    assert LINE in told


@pytest.mark.parametrize(
    "body",
    [
        root(DELEGATING, ALL),
        root(STATIC, {"delegate": {"name": "cutover-pdf", "namespace": "docs"}, "match": [{"uri": {"prefix": "/"}}]}),
    ],
)
def test_a_root_that_delegates_is_fine(body: Json) -> None:
    assert route_delegates.problem(plan("Delegate"), body) == ""
