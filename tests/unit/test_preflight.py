"""The registry of preflight's checks: what a check takes, who may skip it, what it reads, and what is said of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from tests.kit.target import READY, named
from tests.kit.world import World, plan_spec

from cutover.adapters.kube.answers import Forbidden
from cutover.adapters.kube.client import Cluster
from cutover.adapters.kube.inventory import KubernetesInventories
from cutover.api.v1alpha1 import CheckStatus, Phase
from cutover.domain.plan import Plan
from cutover.domain.preflight import checks, docs, registry
from cutover.domain.preflight.check import Check, Facts, Finding, Read, Stage, judged, refused, unknown, warned
from cutover.domain.preflight.checks.istio.kinds import GATEWAYS, VIRTUAL_SERVICES
from cutover.domain.preflight.inventory import Inventory, key_names
from cutover.domain.resources import PLANS, SECRETS, Json, Resource
from cutover.domain.traffic import Probe
from cutover.ports.errors import Gone, Unavailable

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
    assert registry.NAMES[-1] == "heroku-answers"


@pytest.mark.parametrize("ownership", OWNERSHIPS)
def test_a_target_that_is_ready_passes(ownership: str) -> None:
    ready = plan(ownership)
    assert set(results(registry.before_takeover(ready, READY.inventory(ready))).values()) == {"Passed"}


def test_which_checks_are_made_depends_on_the_plan() -> None:
    made = {of: [*results(registry.before_takeover(plan(of), None))] for of in OWNERSHIPS}
    always = ["service", "workload", "gateway", "heroku-unshared", "host-unclaimed"]
    assert made["Generate"] == always
    assert made["Delegate"] == [*always, "route-delegates"]
    assert made["Adopt"] == [*always, "route-adoptable", "route-writers"]
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


def test_the_answer_through_the_gateway_is_asked_for_after_the_takeover() -> None:
    assert results(registry.after_takeover(plan(), None, None, "a1-w0")) == {"heroku-answers": "Unknown"}
    old = Probe(1.0, "a1-w10", healthy=True, detail="HTTP 200")
    assert results(registry.after_takeover(plan(), None, old, "a1-w0")) == {"heroku-answers": "Unknown"}
    for healthy, says in ((True, "Passed"), (False, "Failed")):
        probe = replace(old, revision="a1-w0", healthy=healthy)
        assert results(registry.after_takeover(plan(), None, probe, "a1-w0")) == {"heroku-answers": says}


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
    assert "preflight warns: played: no PodDisruptionBudget; write one" in entry.message
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
    assert [read.resource for read in lists][:2] == [PLANS, VIRTUAL_SERVICES]


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
    assert {name for name, one in found.items() if one.result == "Passed"} == set(found) - {"played", "workload"}
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
    rules = yaml.safe_load((ROOT / "charts/cutover/files/clusterrole.yaml").read_text(encoding="utf-8"))
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
