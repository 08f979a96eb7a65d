"""The registry of preflight's checks: what a check takes, who may skip it, what it reads, and what is said of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from tests.kit.alike import ALIKE
from tests.kit.target import READY, named
from tests.kit.world import World, plan_spec

from cutover.adapters.kube.answers import Forbidden
from cutover.adapters.kube.client import Cluster
from cutover.adapters.kube.inventory import KubernetesInventories
from cutover.api.v1alpha1 import CheckResult, CheckStatus, Phase
from cutover.domain.alike.findings import PathAnswers
from cutover.domain.plan import Plan
from cutover.domain.preflight import checks, docs, registry
from cutover.domain.preflight.check import Check, Facts, Finding, Read, Stage, judged, refused, unknown, warned
from cutover.domain.preflight.checks.istio.kinds import GATEWAYS, VIRTUAL_SERVICES
from cutover.domain.preflight.inventory import Inventory, key_names
from cutover.domain.resources import (
    HORIZONTAL_POD_AUTOSCALERS,
    PLANS,
    POD_DISRUPTION_BUDGETS,
    SECRETS,
    SERVICES,
    Json,
    Resource,
)
from cutover.domain.traffic import Leg, Probe
from cutover.ports.errors import Gone, Unavailable
from sandbox.manifests import chart_rules

ROOT = Path(__file__).resolve().parents[2]
OWNERSHIPS = ("Generate", "Delegate", "Adopt")


def plan(ownership: str = "Generate", *, skip: tuple[str, ...] = ()) -> Plan:
    istio: Json = {"hosts": ["pdf.example.com"], "gateways": ["istio-ingress/public"], "ownership": ownership}
    if ownership != "Generate":
        istio["virtualServiceRef"] = {"name": "pdf"}
    skips = [{"check": name, "reason": "we know"} for name in skip]
    return Plan("shop", "pdf", "1", 1, plan_spec(traffic={"istio": istio}, preflight={"skip": skips}))


def results(statuses: tuple[CheckStatus, ...]) -> dict[str, str]:
    return {one.check: str(one.result) for one in statuses}


def playing(monkeypatch: pytest.MonkeyPatch, judge: Callable[[Plan, Facts], Finding], **more: Any) -> None:
    """Let there be one more check."""
    played = Check(name="played", passes_when="it is played", judge=judge, **more)
    monkeypatch.setattr(registry, "CHECKS", (*registry.CHECKS, played))


# -------------------------------------------------------------------------------------------------------- the registry


def test_checks_come_by_stage_with_names_of_their_own() -> None:
    assert len(set(registry.NAMES)) == len(registry.NAMES)
    stages = [check.stage for check in registry.CHECKS]
    assert stages == sorted(stages, key=list(Stage).index)
    assert set(registry.NAMES[-3:]) == {"answers-alike", "eks-answers", "heroku-answers"}


@pytest.mark.parametrize("ownership", OWNERSHIPS)
def test_a_target_that_is_ready_passes(ownership: str) -> None:
    ready = plan(ownership)
    found = results(registry.before_takeover(ready, READY.inventory(ready)))
    assert found.pop("client-address", "Warned") == "Warned"
    assert set(found.values()) == {"Passed"}


def test_who_comes_by_the_gateway_already_is_not_warned_of_its_address() -> None:
    told = [of for of in OWNERSHIPS if "client-address" in results(registry.before_takeover(plan(of), None))]
    assert told == ["Generate"]


@pytest.mark.parametrize(
    ("selector", "result", "says"),
    [
        ({"app": "pdf"}, "Passed", ""),
        (None, "Passed", ""),  # its endpoints are somebody's own
        # Such as the label with which Argo Rollouts tells Pods apart.
        (
            {"app": "pdf", "release": "blue"},
            "Warned",
            "only if something adds the label release: blue to each of them",
        ),
        (
            {"app": "letters", "release": "blue"},
            "Failed",
            "Service pdf does not select the Pods of Deployment pdf, whose template has no label app: letters: ",
        ),
    ],
)
def test_a_service_that_selects_other_pods_holds_the_plan(
    selector: dict[str, str] | None, result: str, says: str
) -> None:
    ready = plan()
    known = READY.inventory(ready)
    service = named("shop", "pdf", spec={"ports": [{"port": 80}], "selector": selector})
    known = replace(known, objects={**known.objects, SERVICES: {("shop", "pdf"): service}})
    (found,) = (one for one in registry.before_takeover(ready, known) if one.check == "service")
    assert found.result == result
    assert says in found.message


def test_which_checks_are_made_depends_on_the_plan() -> None:
    audits = {check.name for check in registry.CHECKS if check.advisory}
    made = {
        of: [name for name in results(registry.before_takeover(plan(of), None)) if name not in audits]
        for of in OWNERSHIPS
    }
    always = ["service", "workload", "exported", "gateway", "heroku-unshared", "host-unclaimed"]
    assert made["Generate"] == [*always[:2], "client-address", *always[2:], "service-unshared"]
    assert made["Delegate"] == [*always, "route-delegates", "service-unshared"]
    assert made["Adopt"] == [*always, "route-adoptable", "route-writers", "service-unshared"]
    own = replace(plan(), spec=plan_spec(gates={"slos": [{"name": "queue", "bound": {"query": "x", "max": 1}}]}))
    assert "gate-queries" in results(registry.before_takeover(own, None))


def test_a_file_in_the_folder_is_a_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
        from cutover.domain.preflight.check import Check, Facts, Finding, judged

        CHECK = Check(name="cpu-limits", passes_when="no CPU limit is set", judge=lambda plan, facts: judged(""))
    """
    text = "\n".join(line.strip() for line in source.splitlines())
    (tmp_path / "cpu_limits.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(checks, "__path__", [*checks.__path__, str(tmp_path)])
    try:
        found = registry._found()
    finally:
        sys.modules.pop(f"{checks.__name__}.cpu_limits")
    assert {check.name for check in found} == {"cpu-limits", *registry.NAMES}


def in_trial(
    heroku: Probe | None,
    eks: Probe | None,
    *,
    of: Plan | None = None,
    asks_eks: bool = True,
    answers: Sequence[PathAnswers] | None = ALIKE,
) -> Any:
    probes = {Leg.HEROKU: heroku, Leg.EKS: eks}
    return registry.in_trial(of or plan(), None, probes, asks_eks=asks_eks, revision="a1-trial", answers=answers)


GOOD = Probe(1.0, "a1-trial", healthy=True, detail="HTTP 200")
BAD = replace(GOOD, healthy=False, detail="HTTP 503 (no healthy upstream)")
OLD = replace(GOOD, revision="a1-w0")
HUNG = replace(BAD, revision="", detail="no answer within 5 s")


@pytest.mark.parametrize(
    ("heroku", "eks", "says"),
    [
        (None, None, ("Unknown", "Unknown")),
        (OLD, OLD, ("Unknown", "Unknown")),
        (HUNG, HUNG, ("Unknown", "Unknown")),
        (GOOD, None, ("Passed", "Unknown")),
        (GOOD, OLD, ("Passed", "Unknown")),
        (GOOD, GOOD, ("Passed", "Passed")),
        (GOOD, BAD, ("Passed", "Failed")),
        (BAD, GOOD, ("Failed", "Passed")),
        # The other leg shows that the gateway has the route.
        (GOOD, HUNG, ("Passed", "Failed")),
        (HUNG, GOOD, ("Failed", "Passed")),
        (HUNG, BAD, ("Failed", "Failed")),
    ],
)
def test_both_legs_are_asked_by_the_probes_route(
    heroku: Probe | None, eks: Probe | None, says: tuple[str, str]
) -> None:
    found = results(in_trial(heroku, eks))
    assert (found["heroku-answers"], found["eks-answers"]) == says


def test_what_keeps_the_gateway_from_eks_is_told_with_what_to_look_at() -> None:
    told = {one.check: one.message for one in in_trial(GOOD, BAD)}["eks-answers"]
    for words in ("no healthy upstream", "Service pdf", "port 80", "NetworkPolicy"):
        assert words in told


def test_an_eks_that_cannot_be_asked_is_told_as_such() -> None:
    assert results(in_trial(GOOD, None, asks_eks=False))["eks-answers"] == "Skipped"


def test_a_domain_that_heroku_does_not_know_is_told_with_what_it_has_to_be() -> None:
    probe = replace(BAD, detail="HTTP 404 (no such app)")
    heroku = {"app": "acme-pdf", "hostname": "quiet-moon-1234.herokudns.com", "hostHeader": "Public"}
    public = replace(plan(), spec=plan_spec(heroku=heroku))
    told = [{one.check: one.message for one in in_trial(probe, GOOD, of=of)} for of in (plan(), public)]
    assert ["custom domain of the app" in messages["heroku-answers"] for messages in told] == [False, True]


# ----------------------------------------------------------------------------------------------------- what a plan skips


@pytest.mark.parametrize(
    ("finding", "guarded", "says"),
    [
        (judged(""), False, "Passed"),
        (judged("no"), False, "Skipped"),
        (judged("no"), True, "Skipped"),
        (warned("hm"), False, "Skipped"),
        (unknown("who knows"), False, "Skipped"),
        (unknown("who knows"), True, "Unknown"),
        (refused("it is team-b's"), True, "Failed"),
    ],
)
def test_what_can_be_skipped(monkeypatch: pytest.MonkeyPatch, finding: Finding, guarded: bool, says: str) -> None:
    playing(monkeypatch, lambda plan, facts: finding, guarded=guarded)
    skipping = plan(skip=("played",))
    statuses = registry.before_takeover(skipping, READY.inventory(skipping))
    assert results(statuses)["played"] == says
    assert registry.passed(statuses) is (says in ("Passed", "Skipped"))


# --------------------------------------------------------------------------------------------------------------- Warned


def test_a_warning_is_told_and_recorded_and_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    playing(monkeypatch, lambda plan, facts: warned("no PodDisruptionBudget; write one"))
    world = World()
    world.until_phase(Phase.COMPLETED)
    (entry,) = (entry for entry in world.status.ledger if entry.decision == "TakeOver")
    assert "preflight warns: client-address: " in entry.message
    assert "; played: no PodDisruptionBudget; write one" in entry.message
    assert any(event.reason == "TakeOver" and "played: no Pod" in event.message for event in world.events)
    assert results(world.status.preflight)["played"] == "Warned"


# ------------------------------------------------------------------------------------------------------ what checks read


@pytest.mark.parametrize(
    ("check", "asked"),
    [
        pytest.param(check, asked, id=f"{check.name}-{ownership}")
        for ownership, asked in ((ownership, plan(ownership)) for ownership in OWNERSHIPS)
        for check in registry.CHECKS
        if check.applies(asked.spec)
    ],
)
def test_a_check_reads_no_more_than_it_declares(check: Check, asked: Plan) -> None:
    whole = READY.inventory(asked)
    declared = {(read.verb, read.resource) for read in check.reads}
    part = Inventory(
        objects={kind: found for kind, found in whole.objects.items() if ("get", kind) in declared},
        lists={kind: found for kind, found in whole.lists.items() if ("list", kind) in declared},
    )
    assert check.judge(asked, Facts(inventory=part)) == check.judge(asked, Facts(inventory=whole))


@pytest.mark.parametrize("ownership", OWNERSHIPS)
def test_lists_are_read_in_the_order_that_each_check_needs(ownership: str) -> None:
    lists = [read for read in registry.reads(plan(ownership)) if read.verb == "list"]
    assert len({read.resource for read in lists}) == len(lists), "of a kind all keep the same"
    for check in registry.CHECKS:
        order = [lists.index(read) for read in check.reads if read in lists]
        assert order == sorted(order), check.name
    # A plan that is past preflight has its route: so it is not missed between the two readings.
    kinds = [read.resource for read in lists]
    assert kinds.index(PLANS) < kinds.index(VIRTUAL_SERVICES)


def test_other_plans_are_not_read_once_the_plan_has_taken_over() -> None:
    taken = replace(plan(), status=plan().status.model_copy(update={"weight": 0}))
    assert PLANS not in {read.resource for read in registry.reads(taken)}
    inventory = READY.inventory(taken)
    without = replace(inventory, lists={kind: found for kind, found in inventory.lists.items() if kind != PLANS})
    assert registry.passed(registry.before_takeover(taken, without))


class Served:
    """An API server with the target of a plan, that refuses some kinds."""

    def __init__(self, whole: Inventory, *refused: Resource, error: type[Unavailable] = Forbidden) -> None:
        self.whole, self.refused, self.error = whole, refused, error
        self.values = {"metadata": {"namespace": "shop", "name": "pdf"}, "data": {"TOKEN": "c2VjcmV0"}}

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        self._refuse("get", resource)
        found = self.values if resource == SECRETS else self.whole.get(resource, namespace, name)
        if found is None:
            raise Gone(name)
        return found

    async def list(self, resource: Resource, *, keep: Callable[[Json], Json] | None = None) -> list[Json]:
        self._refuse("list", resource)
        return [*self.whole.all(resource)]

    def _refuse(self, verb: str, resource: Resource) -> None:
        if resource in self.refused:
            raise self.error(f"missing permission: needs verb {verb} on {resource.plural}")


async def read(served: Served, asked: Plan) -> Inventory:
    return await KubernetesInventories(cast("Cluster", served)).inventory(asked)


async def test_what_no_right_was_granted_for_is_unknown_and_all_else_is_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secret = Read(SECRETS, names=lambda plan: [(plan.namespace, "pdf")], keep=key_names)
    playing(monkeypatch, lambda plan, facts: judged(""), reads=(secret,))
    asked = plan()
    whole = replace(READY, replicas=None).inventory(asked)
    statuses = registry.before_takeover(asked, await read(Served(whole, SECRETS), asked))
    found = {one.check: one for one in statuses}
    assert found["played"].result == "Unknown"
    assert "needs verb get on secrets" in found["played"].message
    assert {name for name, one in found.items() if one.result == "Passed"} == set(found) - {
        *("played", "workload", "client-address")
    }
    assert found["workload"].result == "Failed"


@pytest.mark.parametrize(
    ("kind", "affected"),
    [
        (GATEWAYS, {"gateway", "host-unclaimed"}),
        (VIRTUAL_SERVICES, {"host-unclaimed", "heroku-unshared"}),
        (PLANS, {"host-unclaimed", "heroku-unshared"}),
    ],
)
async def test_a_missing_right_opens_nothing(kind: Resource, affected: set[str]) -> None:
    skipping = plan(skip=registry.NAMES)
    inventory = await read(Served(READY.inventory(skipping), kind), skipping)
    statuses = registry.before_takeover(skipping, inventory)
    assert {name for name, result in results(statuses).items() if result == "Unknown"} == affected
    assert not registry.passed(statuses)


@pytest.mark.parametrize("kind", [POD_DISRUPTION_BUDGETS, HORIZONTAL_POD_AUTOSCALERS], ids=str)
async def test_an_audit_that_may_not_read_warns_and_holds_nothing(kind: Resource) -> None:
    asked = plan()
    inventory = await read(Served(READY.inventory(asked), kind), asked)
    found = {one.check: one for one in registry.before_takeover(asked, inventory)}
    assert found["disruption-budget"].result == "Warned"
    assert f"needs verb list on {kind.plural}" in found["disruption-budget"].message
    assert registry.passed(tuple(found.values()))


def test_many_warnings_are_told_at_the_takeover_by_name() -> None:
    few = (CheckStatus(check="cpu-limit", result=CheckResult.WARNED, message="raise it"),)
    many = tuple(
        CheckStatus(check=name, result=CheckResult.WARNED, message="x" * 150) for name in ("memory", "probes", "disk")
    )
    assert registry.warnings(few) == "cpu-limit: raise it"
    assert registry.warnings(many) == "memory, probes, disk; status.preflight has what to do"


async def test_an_outage_is_not_taken_for_a_missing_right() -> None:
    with pytest.raises(Unavailable):
        await read(Served(READY.inventory(plan()), VIRTUAL_SERVICES, error=Unavailable), plan())


async def test_of_a_secret_the_names_of_its_keys_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = Read(SECRETS, names=lambda plan: [(plan.namespace, "pdf")], keep=key_names)
    playing(monkeypatch, lambda plan, facts: judged(""), reads=(secret,))
    inventory = await read(Served(READY.inventory(plan())), plan())
    assert inventory.get(SECRETS, "shop", "pdf") == named("shop", "pdf", keys=["TOKEN"])
    assert "c2VjcmV0" not in repr(inventory)


# --------------------------------------------------------------------------------------------------------------- rights

#: Rights to read that the adapters need beside the checks: the watches, the loop's own reading, the gateway's address.
BY_ADAPTERS = {
    *(("cutover.dev", "migrationplans", verb) for verb in ("get", "list", "watch")),
    *(("cutover.dev", kind, verb) for kind in ("gatetemplates", "clustergatetemplates") for verb in ("list", "watch")),
    *(
        ("networking.istio.io", kind, verb)
        for kind in ("virtualservices", "serviceentries", "destinationrules")
        for verb in ("get", "list", "watch")
    ),
    ("", "services", "list"),
}


def test_the_chart_grants_what_checks_and_adapters_read_and_no_more() -> None:
    rules = chart_rules()
    granted = {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    declared = {
        (read.resource.group, read.resource.plural, read.verb) for check in registry.CHECKS for read in check.reads
    }
    assert declared <= granted, (
        "a check that reads more declares more; grant it in the chart, or say that it is optional"
    )
    assert {right for right in granted if right[2] in ("get", "list", "watch")} == declared | BY_ADAPTERS


# ----------------------------------------------------------------------------------------------------------------- docs


def test_the_index_in_the_docs_is_that_of_the_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / docs.PAGE).read_text(encoding="utf-8")
    assert docs.renewed(page) == page
    playing(monkeypatch, lambda plan, facts: judged(""))
    monkeypatch.setattr(docs, "CHECKS", registry.CHECKS)
    assert "| `played` | it is played |" in docs.renewed(page)
    with pytest.raises(ValueError, match="no place for the index"):
        docs.renewed("# Holds")


def test_the_security_page_names_what_cannot_be_skipped() -> None:
    page = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    for check in registry.CHECKS:
        assert not check.guarded or f"`{check.name}`" in page
