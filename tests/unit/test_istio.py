"""What the routing objects look like, when they count as current, and how few writes keep them so."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from tests.kit.routing import AskedTraffic, FakeCluster, make_plan, rendered
from tests.kit.target import listed_routes

from cutover.adapters.kube.answers import NotServed
from cutover.adapters.kube.client import Cluster
from cutover.adapters.traffic.istio.live import RouteCache, foreign_managers, split_weight, stamped_revision
from cutover.adapters.traffic.istio.rendering import DevelopmentHeroku, probe_value
from cutover.api.v1alpha1 import HostHeader, OnDelete, Phase
from cutover.domain.preflight.checks.istio.host_unclaimed import claimed_hosts
from cutover.domain.preflight.checks.istio.proxies import Proxies
from cutover.domain.resources import Json
from cutover.domain.traffic import Leg, TrafficState
from cutover.ports.errors import Conflict, Unavailable

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def traffic(cluster: FakeCluster) -> AskedTraffic:
    return AskedTraffic(cast("Cluster", cluster))


def split(objects: list[Json]) -> Json:
    (route,) = [route for route in objects[-1]["spec"]["http"] if route["name"] == "split"]
    return cast("Json", route)


# ----------------------------------------------------------------------------------------------------------- rendering


def test_golden() -> None:
    golden = list(yaml.safe_load_all((GOLDEN / "pdf-a1-w25.yaml").read_text(encoding="utf-8")))
    assert rendered(make_plan(), 25) == golden


def test_golden_in_development() -> None:
    golden = list(yaml.safe_load_all((GOLDEN / "pdf-development.yaml").read_text(encoding="utf-8")))
    assert rendered(make_plan(), 0, development=DevelopmentHeroku("127.0.0.1", 18443))[:2] == golden


@pytest.mark.parametrize("weight", range(101))
def test_both_legs_are_listed_and_add_up(weight: int) -> None:
    objects = rendered(make_plan(), weight)
    legs = split(objects)["route"]
    assert [leg["destination"]["host"] for leg in legs] == [
        "acme-pdf-1a2b3c.herokuapp.com",
        "pdf.docs.svc.cluster.local",
    ]
    assert [leg["weight"] for leg in legs] == [100 - weight, weight]
    assert split_weight(objects[-1], make_plan()) == weight


def test_a_step_changes_two_weights_and_the_revision_only() -> None:
    *supports, route = rendered(make_plan(), 10)
    *later_supports, later = rendered(make_plan(), 25)
    assert later_supports == supports
    for destination, weight in zip(split([later])["route"], (90, 10), strict=True):
        destination["weight"] = weight
    for one in later["spec"]["http"]:
        assert one["headers"]["response"]["set"] == {"x-cutover-revision": "a1-w25"}
        one["headers"]["response"]["set"]["x-cutover-revision"] = "a1-w10"
    for one, before in zip(later["spec"]["http"][:2], route["spec"]["http"], strict=False):
        assert one["match"] != before["match"], "a probe's token is for one revision"
        one["match"] = before["match"]
    assert later == route


@pytest.mark.parametrize(
    ("phase", "attempt", "weight", "revision"),
    [
        (Phase.BASELINE, 1, 0, "a1-w0"),
        (Phase.SHIFTING, 2, 50, "a2-w50"),
        (Phase.ROLLING_BACK, 2, 0, "a2-rollback"),
        (Phase.ROLLED_BACK, 2, 0, "a2-rollback"),
    ],
)
def test_revision_is_the_one_that_the_status_asks_for(phase: Phase, attempt: int, weight: int, revision: str) -> None:
    plan = make_plan(status={"phase": phase, "attempt": attempt, "weight": 70})
    assert stamped_revision(rendered(plan, weight)[-1]) == revision


def test_probes_do_not_count_as_the_users_requests() -> None:
    probe, _, users = rendered(make_plan(), 0)[-1]["spec"]["http"]
    assert probe["match"] == [
        {"headers": {"x-cutover-probe": {"exact": probe_value(make_plan(), Leg.HEROKU, "a1-w0")}}}
    ]
    (leg,) = probe["route"]
    assert leg["destination"]["host"] == "cutover-probe.acme-pdf-1a2b3c.herokuapp.com"
    # It goes the same way otherwise.
    assert leg["headers"] == users["route"][0]["headers"]
    assert {name: probe[name] for name in ("retries", "headers")} == {
        name: users[name] for name in ("retries", "headers")
    }


def test_probes_of_eks_go_the_users_way_and_strangers_do_not() -> None:
    _, probe, users = rendered(make_plan(), 0)[-1]["spec"]["http"]
    (leg,) = probe["route"]
    assert leg["destination"] == users["route"][1]["destination"]
    assert leg["headers"] == users["route"][1]["headers"]
    assert {name: probe[name] for name in ("retries", "headers")} == {
        name: users[name] for name in ("retries", "headers")
    }


def test_a_probes_token_is_for_one_plan_one_leg_and_one_revision() -> None:
    plans, revisions = [replace(make_plan(), uid=uid) for uid in ("1", "2")], ("a1-w0", "a1-w10", "a1-rollback")
    values = [probe_value(plan, leg, revision) for plan in plans for leg in Leg for revision in revisions]
    assert len(set(values)) == len(values) == 12
    for value, leg in zip(values, [leg for _ in plans for leg in Leg for _ in revisions], strict=True):
        assert re.fullmatch(rf"{leg}-[0-9a-f]{{32}}", value)


def test_no_leg_gets_to_know_a_token() -> None:
    for route in rendered(make_plan(), 10)[-1]["spec"]["http"]:
        assert route["headers"]["request"] == {"remove": ["x-cutover-probe"]}


@pytest.mark.parametrize("weight", [0, 40])
def test_users_need_not_be_told_the_leg(weight: int) -> None:
    plan = make_plan(legHeader=False)
    *probes, users = rendered(plan, weight)[-1]["spec"]["http"]
    assert "x-cutover-leg" not in json.dumps(users)
    assert [probe["route"][0]["headers"]["response"]["set"]["x-cutover-leg"] for probe in probes] == ["heroku", "eks"]
    assert split_weight(rendered(plan, weight)[-1], plan) == weight


@pytest.mark.parametrize("ownership", ["Generate", "Delegate"])
def test_an_answer_may_last_and_has_to_begin(ownership: str) -> None:
    reference = {} if ownership == "Generate" else {"virtualServiceRef": {"name": "pdf"}}
    for route in rendered(make_plan(ownership=ownership, **reference), 0)[-1]["spec"]["http"]:
        assert "timeout" not in route
        # One try: what is asked for as a cause of another never is one.
        assert route["retries"] == {"attempts": 1, "perTryTimeout": "30s", "retryOn": "retriable-headers"}
    for route in rendered(make_plan(firstByteTimeout="1m", timeout="2h"), 0)[-1]["spec"]["http"]:
        assert (route["timeout"], route["retries"]["perTryTimeout"]) == ("7200s", "60s")


def test_names_of_two_plans_never_meet() -> None:
    names = {
        (body["kind"], body["metadata"]["name"])
        for name in ("pdf", "probe-pdf", "pdf-probe", "probe-cutover-pdf", "cutover-pdf")
        for body in rendered(make_plan(name), 0)
    }
    assert len(names) == 5 * 4


def test_nothing_in_production_form_trusts_blindly() -> None:
    _, *rules, _ = rendered(make_plan(), 0)
    assert len(rules) == 2
    for rule in rules:
        assert rule["spec"]["trafficPolicy"]["tls"] == {
            "mode": "SIMPLE",
            "sni": "acme-pdf-1a2b3c.herokuapp.com",
            "subjectAltNames": ["acme-pdf-1a2b3c.herokuapp.com"],
        }


def test_development_with_a_ca_verifies() -> None:
    _, rule, *_ = rendered(make_plan(), 0, development=DevelopmentHeroku("127.0.0.1", 1, "/ca.crt"))
    assert rule["spec"]["trafficPolicy"]["tls"] == {
        "mode": "SIMPLE",
        "sni": "acme-pdf-1a2b3c.herokuapp.com",
        "subjectAltNames": ["acme-pdf-1a2b3c.herokuapp.com"],
        "caCertificates": "/ca.crt",
    }


def public(**development: Any) -> list[Json]:
    plan = make_plan()
    heroku = plan.spec.heroku.model_copy(update={"host_header": HostHeader.PUBLIC})
    return rendered(replace(plan, spec=plan.spec.model_copy(update={"heroku": heroku})), 0, **development)


def test_the_public_name_goes_to_heroku_whole_and_is_what_the_certificate_is_checked_for() -> None:
    _, *rules, route = public()
    for rule in rules:
        # An SNI or names here would keep Istio from taking both from each request's Host.
        assert rule["spec"]["trafficPolicy"]["tls"] == {"mode": "SIMPLE"}
    heroku_probe, _, users = route["spec"]["http"]
    for leg in (heroku_probe["route"][0], users["route"][0]):
        assert "request" not in leg["headers"]


def test_the_public_name_in_development() -> None:
    _, rule, *_ = public(development=DevelopmentHeroku("127.0.0.1", 1))
    assert rule["spec"]["trafficPolicy"]["tls"] == {"mode": "SIMPLE", "insecureSkipVerify": True}
    _, rule, *_ = public(development=DevelopmentHeroku("127.0.0.1", 1, "/ca.crt"))
    assert rule["spec"]["trafficPolicy"]["tls"] == {"mode": "SIMPLE", "caCertificates": "/ca.crt"}


# ------------------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize(
    "edit",
    [
        lambda legs: legs.pop(),
        lambda legs: legs.append({"destination": {"host": "third"}, "weight": 0}),
        lambda legs: legs[0].update(weight=80),
        lambda legs: legs[0].pop("weight"),
        lambda legs: legs[0].update(destination={"host": "elsewhere"}),
        lambda legs: legs[0].pop("destination"),
    ],
)
def test_another_shape_has_no_weight(edit: Any) -> None:
    objects = rendered(make_plan(), 25)
    edit(split(objects)["route"])
    assert split_weight(objects[-1], make_plan()) is None


@pytest.mark.parametrize("spec", [{}, {"http": None}, {"http": []}, {"http": [{"name": "other"}]}, {"tls": []}])
def test_a_foreign_route_has_neither_weight_nor_revision(spec: Json) -> None:
    assert split_weight({"spec": spec}, make_plan()) is None
    assert stamped_revision({"spec": spec}) == ""


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], ()),
        ([{"manager": "cutover", "fieldsV1": {"f:spec": {"f:http": {}}}}], ()),
        ([{"manager": "kubectl-edit", "fieldsV1": {"f:spec": {"f:http": {}}}}], ("kubectl-edit",)),
        ([{"manager": "kubectl-label", "fieldsV1": {"f:metadata": {"f:labels": {"f:a": {}}}}}], ()),
        ([{"manager": "pilot-discovery", "subresource": "status", "fieldsV1": {"f:status": {}}}], ()),
        (
            [
                {"manager": "kustomize-controller", "time": "2026-11-01T09:00:00Z", "fieldsV1": {"f:spec": {}}},
                {"manager": "kubectl-edit", "time": "2026-11-01T10:00:00Z", "fieldsV1": {"f:spec": {}}},
                {"manager": "kubectl-edit", "time": "2026-11-01T08:00:00Z", "fieldsV1": {"f:spec": {}}},
            ],
            ("kubectl-edit", "kustomize-controller"),
        ),
    ],
)
def test_foreign_managers_are_those_of_the_spec(entries: list[Json], expected: tuple[str, ...]) -> None:
    assert foreign_managers({"metadata": {"managedFields": entries}}, "spec") == expected


async def test_nothing_is_wanted_before_the_takeover(traffic: AskedTraffic, cluster: FakeCluster) -> None:
    assert await traffic.get(make_plan(), None) == TrafficState(weight=None, revision="", current=True)
    assert cluster.writes() == []


@pytest.mark.parametrize(
    ("weight", "edit", "elsewhere"),
    [
        (0, None, 0),
        (100, None, 100),
        (25, None, 25),
        (0, lambda body: body["spec"]["http"][-1].update(name="renamed"), 100),
        (0, lambda body: body["spec"].pop("http"), 100),
        (0, lambda body: body["spec"]["http"][-1]["route"][0].update(weight="all"), 100),
    ],
)
async def test_a_takeover_sees_what_an_earlier_plan_sends_to_another_service(
    traffic: AskedTraffic, cluster: FakeCluster, weight: int, edit: Any, elsewhere: int
) -> None:
    """Deleted with ``onDelete: EKS`` and written anew with another Service, it would send all users back to Heroku."""
    await traffic.set(make_plan(), weight)
    if edit is not None:
        edited = cluster.route()
        edit(edited)
        cluster.store(edited)
        traffic.cache.drop(edited)
    plan = make_plan(status={"phase": "Preflight"})
    service = plan.spec.eks.service.model_copy(update={"name": "pdf-v2"})
    heroku = plan.spec.heroku.model_copy(update={"hostname": "acme-pdf-2.herokuapp.com"})
    eks = plan.spec.eks.model_copy(update={"service": service})
    anew = replace(plan, uid="another", spec=plan.spec.model_copy(update={"eks": eks, "heroku": heroku}))
    state = await traffic.get(anew, None)
    assert (state.weight, state.current) == (elsewhere, True)


@pytest.mark.parametrize(("another", "elsewhere"), [(False, 25), (True, 100)])
async def test_a_route_that_does_not_tell_its_legs_is_known_by_the_plans_own_names(
    traffic: AskedTraffic, cluster: FakeCluster, another: bool, elsewhere: int
) -> None:
    await traffic.set(make_plan(legHeader=False), 25)
    plan = make_plan(status={"phase": "Preflight"})
    if another:
        heroku = plan.spec.heroku.model_copy(update={"hostname": "acme-pdf-2.herokuapp.com"})
        plan = replace(plan, spec=plan.spec.model_copy(update={"heroku": heroku}))
    assert (await traffic.get(plan, None)).weight == elsewhere


async def test_what_was_set_is_current(traffic: AskedTraffic) -> None:
    plan = make_plan()
    await traffic.set(plan, 25)
    assert await traffic.get(plan, 25) == TrafficState(weight=25, revision="a1-w25", current=True)
    assert await traffic.get(plan, 50) == TrafficState(weight=25, revision="a1-w25", current=False)


@pytest.mark.parametrize(
    "edit",
    [
        lambda body: body["spec"]["http"][-1]["route"][0].update(weight=60),
        lambda body: body["spec"]["http"][-1].update(fault={"abort": {"httpStatus": 503}}),
        lambda body: body["spec"].update(hosts=["pdf.example.com"]),
        lambda body: body["metadata"]["labels"].pop("cutover.dev/plan"),
        lambda body: body["metadata"].pop("labels"),
        lambda body: body["metadata"]["annotations"].pop("kustomize.toolkit.fluxcd.io/reconcile"),
    ],
)
async def test_an_edit_is_seen_by_the_watch_and_put_back(
    traffic: AskedTraffic, cluster: FakeCluster, edit: Any
) -> None:
    plan = make_plan()
    await traffic.set(plan, 25)
    edited = cluster.route()
    edit(edited)
    assert traffic.cache.observe_event("MODIFIED", cluster.store(edited, "kubectl-edit"))
    state = await traffic.get(plan, 25)
    assert (state.current, state.foreign) == (False, ("kubectl-edit",))
    cluster.log.clear()
    await traffic.set(plan, 25)
    assert cluster.writes() == ["update VirtualService cutover-pdf"]
    assert await traffic.get(plan, 25, fresh=True) == TrafficState(weight=25, revision="a1-w25", current=True)


async def test_what_others_add_to_the_metadata_stays(traffic: AskedTraffic, cluster: FakeCluster) -> None:
    plan = make_plan()
    await traffic.set(plan, 10)
    edited = cluster.route()
    edited["metadata"]["labels"]["team"] = "docs"
    edited["metadata"]["annotations"]["note"] = "hello"
    traffic.cache.observe_event("MODIFIED", cluster.store(edited))
    assert (await traffic.get(plan, 10)).current
    await traffic.set(plan, 25)
    metadata = cluster.route()["metadata"]
    assert (metadata["labels"]["team"], metadata["annotations"]["note"]) == ("docs", "hello")


async def test_the_maker_of_an_edit_is_looked_for_where_the_edit_is(
    traffic: AskedTraffic, cluster: FakeCluster
) -> None:
    plan = make_plan()
    await traffic.set(plan, 25)
    rule = cluster.objects["DestinationRule", "docs", "cutover-pdf"]
    traffic.cache.observe_event("MODIFIED", cluster.store(rule, "agrees"))
    assert (await traffic.get(plan, 25)).foreign == ("agrees",)
    edited = cluster.route()
    edited["spec"]["hosts"] = []
    traffic.cache.observe_event("MODIFIED", cluster.store(edited, "culprit"))
    assert (await traffic.get(plan, 25)).foreign == ("culprit",)


# ------------------------------------------------------------------------------------------------------------- writing


async def test_a_route_is_created_after_what_it_refers_to(traffic: AskedTraffic, cluster: FakeCluster) -> None:
    await traffic.set(make_plan(), 0)
    assert cluster.writes() == [
        "create ServiceEntry cutover-pdf",
        "create DestinationRule cutover-pdf",
        "create DestinationRule probe-cutover-pdf",
        "create VirtualService cutover-pdf",
    ]


async def test_what_a_route_refers_to_can_be_there_before(traffic: AskedTraffic, cluster: FakeCluster) -> None:
    await traffic.prepare(make_plan())
    assert [line for line in cluster.writes() if "VirtualService" in line] == []
    assert len(cluster.writes()) == 3
    await traffic.prepare(make_plan())
    await traffic.set(make_plan(), 0)
    assert cluster.writes()[3:] == ["create VirtualService cutover-pdf"]


async def test_a_step_is_one_write_and_nothing_is_written_twice(traffic: AskedTraffic, cluster: FakeCluster) -> None:
    plan = make_plan()
    await traffic.set(plan, 0)
    cluster.log.clear()
    await traffic.set(plan, 10)
    assert cluster.log == ["update VirtualService cutover-pdf"]
    await traffic.set(plan, 10)
    assert len(cluster.log) == 1


async def test_a_rollback_writes_the_route_first(traffic: AskedTraffic, cluster: FakeCluster) -> None:
    plan = make_plan()
    await traffic.set(plan, 50)
    rule = copy.deepcopy(cluster.objects["DestinationRule", "docs", "cutover-pdf"])
    rule["spec"]["trafficPolicy"] = {}
    traffic.cache.observe_event("MODIFIED", cluster.store(rule, "somebody"))
    cluster.log.clear()
    await traffic.set(plan, 0)
    assert cluster.log == ["update VirtualService cutover-pdf", "update DestinationRule cutover-pdf"]


async def test_a_stale_cache_ends_in_a_conflict_once(traffic: AskedTraffic, cluster: FakeCluster) -> None:
    plan = make_plan()
    await traffic.set(plan, 10)
    edited = cluster.route()
    split([edited])["route"][1]["weight"] = 99
    cluster.store(edited, "kubectl-edit")  # and the watch has not said so yet
    with pytest.raises(Conflict):
        await traffic.set(plan, 25)
    await traffic.set(plan, 25)
    assert (await traffic.get(plan, 25, fresh=True)).current


async def test_a_write_of_unknown_outcome_is_looked_up(traffic: AskedTraffic, cluster: FakeCluster) -> None:
    plan = make_plan()
    await traffic.set(plan, 10)
    cluster.outage = True
    with pytest.raises(Unavailable):
        await traffic.set(plan, 25)
    cluster.outage = False
    cluster.log.clear()
    assert (await traffic.get(plan, 10)).current
    assert cluster.log == ["get VirtualService cutover-pdf"]


async def test_a_deleted_object_comes_back(traffic: AskedTraffic, cluster: FakeCluster) -> None:
    plan = make_plan()
    await traffic.set(plan, 10)
    gone = cluster.objects.pop(("VirtualService", "docs", "cutover-pdf"))
    gone["metadata"]["resourceVersion"] = "1000"
    with pytest.raises(Conflict):
        await traffic.set(plan, 25)  # before the watch has said so
    traffic.cache.observe_event("DELETED", gone)
    assert await traffic.get(plan, 10) == TrafficState(weight=None, revision="", current=False)
    await traffic.set(plan, 10)
    assert (await traffic.get(plan, 10)).current


async def test_defaults_of_the_api_server_are_no_drift(traffic: AskedTraffic, cluster: FakeCluster) -> None:
    cluster.default = {"filledIn": True}
    plan = make_plan()
    await traffic.set(plan, 10)
    cluster.log.clear()
    assert (await traffic.get(plan, 10, fresh=True)).current
    await traffic.set(plan, 10)
    assert cluster.writes() == []
    edited = cluster.route()
    edited["spec"]["hosts"] = []
    traffic.cache.observe_event("MODIFIED", cluster.store(edited))
    assert not (await traffic.get(plan, 10)).current


async def test_somebody_elses_route_of_that_name_is_left_alone(traffic: AskedTraffic, cluster: FakeCluster) -> None:
    plan = make_plan()
    theirs = copy.deepcopy(rendered(plan, 0)[-1])
    theirs["metadata"] = {"name": "cutover-pdf", "namespace": "docs"}
    theirs["spec"] = {"hosts": ["pdf.example.com"], "http": []}
    cluster.store(theirs, "team-docs")
    with pytest.raises(Unavailable, match="exists and is not the operator's"):
        await traffic.set(plan, 0)
    assert cluster.route()["spec"] == theirs["spec"]


def stripped(body: Json, **spec: Any) -> Json:
    """Return an object as ``kubectl replace`` or Argo CD's ``Replace=true`` leaves it."""
    metadata = {name: body["metadata"][name] for name in ("name", "namespace", "resourceVersion")}
    return {**body, "metadata": metadata, "spec": body["spec"] | spec}


WRITTEN = {"route": {"name": "VirtualService cutover-pdf"}}


async def test_a_route_without_the_operators_marks_is_rolled_back(traffic: AskedTraffic, cluster: FakeCluster) -> None:
    shifting = make_plan(status={"phase": "Shifting", "weight": 50, **WRITTEN})
    await traffic.set(shifting, 50)
    for body in list(cluster.objects.values()):
        # The object leaves the watch's selection, which arrives as its deletion.
        traffic.cache.observe_event("DELETED", cluster.store(stripped(body), "kubectl-replace"))
    seen = await traffic.get(shifting, 50)
    assert (seen.weight, seen.current, seen.foreign) == (50, False, ("kubectl-replace",))
    await traffic.set(make_plan(status={"phase": "RollingBack", "weight": 0, **WRITTEN}), 0)
    assert split_weight(cluster.route(), shifting) == 0
    assert all(body["metadata"]["labels"]["cutover.dev/plan"] == "pdf" for body in cluster.objects.values())


async def test_a_route_that_others_filled_with_annotations_is_rolled_back(
    traffic: AskedTraffic, cluster: FakeCluster
) -> None:
    """The API server takes 256 KiB of annotations, ours among them."""
    shifting = make_plan(status={"phase": "Shifting", "weight": 50, **WRITTEN})
    await traffic.set(shifting, 50)
    for size, stays in ((1000, True), (256 * 1024 - 20, False)):
        for body in list(cluster.objects.values()):
            filled = stripped(body)
            filled["metadata"]["annotations"] = {"note": "x" * size}
            traffic.cache.observe_event("DELETED", cluster.store(filled, "kubectl-replace"))
        await traffic.set(make_plan(status={"phase": "RollingBack", "weight": 0, **WRITTEN}), 0)
        assert split_weight(cluster.route(), shifting) == 0
        for body in cluster.objects.values():
            annotations = body["metadata"]["annotations"]
            assert ("note" in annotations) is stays
            assert annotations["cutover.dev/plan-uid"] == "7f0c"
            assert sum(len(name) + len(value) for name, value in annotations.items()) <= 256 * 1024


async def test_edits_of_a_route_that_the_watch_does_not_deliver_are_seen(
    traffic: AskedTraffic, cluster: FakeCluster
) -> None:
    shifting = make_plan(status={"phase": "Shifting", "weight": 50, **WRITTEN})
    await traffic.set(shifting, 50)
    traffic.cache.observe_event("DELETED", cluster.store(stripped(cluster.route()), "kubectl-replace"))
    assert (await traffic.get(shifting, 50)).weight == 50
    cluster.store(stripped(cluster.route(), http=rendered(shifting, 70)[-1]["spec"]["http"]), "kubectl-replace")
    assert (await traffic.get(shifting, 50)).weight == 70


async def test_a_deletion_puts_a_route_without_the_operators_marks_to_rest(
    traffic: AskedTraffic, cluster: FakeCluster
) -> None:
    shifting = make_plan(status={"phase": "Shifting", "weight": 50, **WRITTEN})
    await traffic.set(shifting, 50)
    cluster.store(stripped(cluster.route()), "argocd-controller")
    await traffic.finalize(shifting, OnDelete.HEROKU)
    assert split_weight(cluster.route(), shifting) == 0


async def test_a_plan_that_never_took_over_leaves_the_route_of_its_forerunner(
    traffic: AskedTraffic, cluster: FakeCluster
) -> None:
    done = make_plan(status={"phase": "Completed", "weight": 100})
    await traffic.set(done, 100)
    await traffic.finalize(replace(make_plan(), uid="another"), OnDelete.HEROKU)
    assert split_weight(cluster.route(), done) == 100
    # With a status that cannot be read, the plan knows its route by the mark.
    await traffic.finalize(make_plan(), OnDelete.HEROKU)
    assert split_weight(cluster.route(), done) == 0


async def test_a_plan_made_anew_takes_over_what_its_forerunner_left(
    traffic: AskedTraffic, cluster: FakeCluster
) -> None:
    await traffic.set(make_plan(), 0)
    anew = replace(make_plan(), uid="another")
    assert not (await traffic.get(anew, 0)).current
    await traffic.set(anew, 0)
    assert cluster.route()["metadata"]["annotations"]["cutover.dev/plan-uid"] == "another"


@pytest.mark.parametrize(("end", "weight"), [(OnDelete.HEROKU, 0), (OnDelete.EKS, 100), (OnDelete.LEAVE, 50)], ids=str)
async def test_traffic_goes_on_after_the_plan(
    traffic: AskedTraffic, cluster: FakeCluster, end: OnDelete, weight: int
) -> None:
    plan = make_plan(status={"phase": "Shifting", "weight": 50})
    await traffic.set(plan, 50)
    cluster.log.clear()
    await traffic.finalize(plan, end)
    assert len(cluster.writes()) == (0 if end is OnDelete.LEAVE else 1)
    assert split_weight(cluster.route(), plan) == weight
    assert len(cluster.objects) == 4
    assert not any("ownerReferences" in body["metadata"] for body in cluster.objects.values())


async def test_a_plan_that_never_took_over_leaves_nothing(traffic: AskedTraffic, cluster: FakeCluster) -> None:
    await traffic.finalize(make_plan(), OnDelete.HEROKU)
    assert cluster.objects == {}


async def test_nothing_holds_up_the_deletion_of_a_plan_without_a_route(
    traffic: AskedTraffic, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan()
    theirs = copy.deepcopy(rendered(plan, 50)[-1])
    theirs["metadata"] = {"name": "cutover-pdf", "namespace": "docs"}
    cluster.store(theirs)
    await traffic.finalize(plan, OnDelete.EKS)
    assert cluster.writes() == []

    async def not_served(*_: object) -> Json:
        raise NotServed("Istio was uninstalled")

    monkeypatch.setattr(cluster, "get", not_served)
    await traffic.finalize(plan, OnDelete.EKS)


# --------------------------------------------------------------------------------------------------------------- cache


def versioned(version: int, **spec: Any) -> Json:
    body = rendered(make_plan(), 0)[-1]
    body["metadata"]["resourceVersion"] = str(version)
    body["spec"] = spec
    return body


def test_cache_ignores_what_is_older() -> None:
    cache = RouteCache()
    assert cache.observe_event(None, versioned(10, hosts=["new"]))
    assert not cache.observe_event("MODIFIED", versioned(9, hosts=["old"]))
    assert not cache.observe_event("MODIFIED", versioned(10, hosts=["same"]))
    assert not cache.observe_event("DELETED", versioned(9))
    assert cache.put(versioned(8)).version == "10"
    live = cache.get(versioned(0))
    assert live is not None
    assert live.body["spec"] == {"hosts": ["new"]}
    assert cache.observe_event("DELETED", versioned(11))
    assert cache.get(versioned(0)) is None


def test_cache_takes_only_objects_of_the_operator() -> None:
    cache = RouteCache()
    other = versioned(1)
    other["metadata"] |= {"name": "team-route", "labels": {"team": "docs"}}
    assert not cache.observe_event("ADDED", other)
    gateway = versioned(1)
    gateway["kind"] = "Gateway"
    assert not cache.observe_event("ADDED", gateway)


def test_cache_takes_what_is_adopted_until_its_label_is_off() -> None:
    cache = RouteCache()
    adopted = versioned(1)
    adopted["metadata"]["name"] = "team-route"
    assert not cache.observe_event("MODIFIED", adopted)  # anybody may put the label on
    cache.put(adopted)  # the plan read or wrote it
    adopted["metadata"]["resourceVersion"] = "2"
    assert cache.observe_event("MODIFIED", adopted)
    adopted["metadata"] |= {"labels": {}, "resourceVersion": "3"}
    assert cache.observe_event("DELETED", adopted)
    assert cache.get(adopted) is None


async def test_a_look_that_finds_the_cache_warm_asks_nobody(traffic: AskedTraffic, cluster: FakeCluster) -> None:
    plan = make_plan()
    await traffic.set(plan, 10)
    cluster.log.clear()
    for _ in range(3):
        await traffic.get(plan, 10)
    assert cluster.log == []


# --------------------------------------------------------------------------------------------------------- other routes


@pytest.mark.parametrize(
    ("namespace", "name", "spec", "claimed"),
    [
        ("a", "x", {"hosts": ["pdf.example.com"], "gateways": ["istio-ingress/public"]}, {"pdf.example.com": "a/x"}),
        ("a", "x", {"hosts": ["PDF.example.com"], "gateways": ["istio-ingress/public"]}, {"pdf.example.com": "a/x"}),
        ("docs", "x", {"hosts": ["docs.example.com"], "gateways": ["local"]}, {"docs.example.com": "docs/x"}),
        ("a", "x", {"hosts": ["docs.example.com"], "gateways": ["local"]}, {}),
        ("a", "x", {"hosts": ["*.example.com"], "gateways": ["istio-ingress/public"]}, {}),
        ("a", "x", {"hosts": ["pdf.example.com"], "gateways": ["mesh"]}, {}),
        ("a", "x", {"hosts": ["pdf.example.com"]}, {}),
        ("a", "delegate", {"http": []}, {}),
        (
            "docs",
            "cutover-pdf",
            {"hosts": ["docs.example.com"], "gateways": ["local"]},
            {"docs.example.com": "docs/cutover-pdf"},
        ),
    ],
)
def test_claimed_hosts(namespace: str, name: str, spec: Json, claimed: dict[str, str]) -> None:
    item = {"metadata": {"namespace": namespace, "name": name}, "spec": spec}
    assert claimed_hosts(make_plan(), listed_routes(item), Proxies()) == claimed


def test_the_plans_own_route_claims_nothing() -> None:
    assert claimed_hosts(make_plan(), listed_routes(rendered(make_plan(), 0)[-1]), Proxies()) == {}
