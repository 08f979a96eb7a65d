"""The audits at each step: what is new since the takeover is told once, and they are run once for each step."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.kit.target import POD_TEMPLATE, READY
from tests.kit.world import World, plan_spec

from cutover.api.v1alpha1 import AuditStatus, CheckResult, CheckStatus, MigrationPlanStatus, Phase
from cutover.domain.dns import HostRecord
from cutover.domain.dynos import DynoUse
from cutover.domain.engine.decide import decide
from cutover.domain.engine.wanted import audit_asked_at
from cutover.domain.plan import Plan
from cutover.domain.preflight import registry
from cutover.domain.preflight.check import Read
from cutover.domain.preflight.inventory import Inventory
from cutover.ports.all import Ports
from cutover.ports.errors import Unavailable
from cutover.services.advice import Advice


def warned(check: str, message: str = "mend it") -> CheckStatus:
    return CheckStatus(check=check, result=CheckResult.WARNED, message=message)


def judging() -> World:
    return World(target=READY).until_judging(10)


class Told:
    """A plan that is judged, and what is decided on it with other findings of the audits."""

    def __init__(self) -> None:
        self.world = judging()

    def __call__(self, *found: CheckStatus) -> list[str]:
        """Return the Events about findings, and keep what was decided."""
        decision = decide(self.world.plan(), replace(self.world.observe(), audits=found), self.world.now)
        self.world.working = decision.status
        return [event.message for event in decision.events if event.reason == "NewFindings"]

    @property
    def shown(self) -> dict[str, str]:
        """The findings in the status."""
        return {one.check: one.message for one in self.world.working.preflight if one.result is CheckResult.WARNED}


def test_a_new_finding_is_told_once_and_is_in_status_and_ledger() -> None:
    told = Told()
    before = told.shown
    checks = [one.check for one in told.world.working.preflight]
    assert told() == []
    assert told(warned("cpu-limit")) == ["since the takeover the audits find: cpu-limit: mend it"]
    assert told.shown == before | {"cpu-limit": "mend it"}
    assert told(warned("cpu-limit")) == []
    assert told(warned("cpu-limit", "12 and not 10")) == [], "the same finding with other numbers"
    assert told.shown["cpu-limit"] == "12 and not 10"
    assert told(warned("cpu-limit"), warned("memory")) == ["since the takeover the audits find: memory: mend it"]
    assert told() == []
    assert told.shown == before
    assert [one.check for one in told.world.working.preflight] == checks, "all other checks are as they were"
    entries = [entry for entry in told.world.working.ledger if entry.decision == "Audit"]
    assert [(entry.reason, entry.from_weight, entry.to_weight) for entry in entries] == [("NewFindings", 10, 10)] * 2


def test_what_preflight_told_of_is_not_told_again() -> None:
    told = Told()
    told.world.working = told.world.working.evolve(preflight=(*told.world.working.preflight, warned("memory")))
    assert told(warned("memory")) == []


def test_outside_of_a_cutover_nothing_is_audited() -> None:
    told = Told()
    told.world.working = told.world.working.evolve(phase=Phase.ROLLED_BACK, weight=0)
    assert told(warned("memory")) == []


def test_a_deployment_that_was_changed_is_found() -> None:
    plan = judging().plan()
    whole = READY.inventory(plan)
    assert registry.again(plan, whole) == ()
    pod = {**POD_TEMPLATE["spec"], "terminationGracePeriodSeconds": 5}
    (kind,) = (kind for kind in whole.objects if kind.plural == "deployments")
    (body,) = whole.objects[kind].values()
    assert body is not None
    changed = {**body, "spec": {**body["spec"], "template": {**POD_TEMPLATE, "spec": pod}}}
    objects = {**whole.objects, kind: dict.fromkeys(whole.objects[kind], changed)}
    assert [one.check for one in registry.again(plan, replace(whole, objects=objects))] == ["shutdown"]


# ------------------------------------------------------------------------------------------------ when they are asked


class Asked:
    """Ports that count, and may be away."""

    def __init__(self) -> None:
        self.inventories = self.resolver = self.heroku_record = self
        self.unhurried = asyncio.Semaphore(1)
        self.reads = list[tuple[Read, ...]]()
        self.hosts, self.dynos_asked, self.requests_asked = list[str](), 0, 0
        self.away = False
        self.ttl = 60

    async def inventory(self, plan: Plan, reads: Any = None) -> Inventory:
        self.reads.append(tuple(reads))
        if self.away:
            raise Unavailable("away")
        return READY.inventory(plan)

    async def record(self, host: str) -> HostRecord:
        self.hosts.append(host)
        return HostRecord(host, self.ttl)

    async def dynos(self, plan: Plan) -> DynoUse | None:
        self.dynos_asked += 1
        return DynoUse(1.0, 2.0)

    async def requests_of_last_day(self, plan: Plan) -> float | None:
        self.requests_asked += 1
        return 3.0


class Rig:
    """The advice of one plan."""

    def __init__(self) -> None:
        self.asked, self.now = Asked(), 1000.0
        self.advice = Advice(cast("Ports", self.asked), now=lambda: self.now, news=lambda: None)

    async def look(self, plan: Plan) -> SimpleNamespace:
        """Return what is known once the questions of this look are answered."""
        for _ in range(2):
            if (since := audit_asked_at(plan.status)) is not None:
                self.advice.renew(since)
            known = SimpleNamespace(
                dns=self.advice.dns(plan),
                dynos=self.advice.dynos(plan),
                last_requests=self.advice.last_requests(plan),
                audits=self.advice.audits(plan),
            )
            for _ in range(5):
                await asyncio.sleep(0)
        return known


@pytest.fixture
def rig() -> Any:
    made = Rig()
    yield made
    made.advice.stop()


def in_phase(phase: Phase, weight: int | None = None, **fields: Any) -> Plan:
    spec = plan_spec(istio={"hosts": ["pdf.example.com", "*.example.org"]})
    status = MigrationPlanStatus(phase=phase, attempt=1, weight=weight)
    return replace(Plan("shop", "pdf", "1", 1, spec, status), **fields)


async def test_audits_are_run_once_for_each_step_and_each_spec(rig: Rig) -> None:
    plans = [
        in_phase(Phase.SHIFTING, 10),
        in_phase(Phase.SHIFTING, 25),
        in_phase(Phase.SHIFTING, 25, generation=2),
        in_phase(Phase.SOAKING, 100, generation=2),
    ]
    for number, plan in enumerate(plans, start=1):
        for _ in range(3):
            assert (await rig.look(plan)).audits == ()
            rig.now += 600
        assert len(rig.asked.reads) == number
    assert rig.asked.reads[0] == registry.again_reads(plans[0])
    assert (await rig.look(in_phase(Phase.BASELINE, 0))).audits is None
    assert len(rig.asked.reads) == len(plans)


def asked(plan: Plan, at: float) -> Plan:
    """Return a plan for which somebody waits since a time, in Unix seconds."""
    audit = AuditStatus(request="now", asked_at=datetime.fromtimestamp(at, UTC))
    return replace(plan, status=plan.status.evolve(audit=audit))


@pytest.mark.parametrize("phase", [Phase.BASELINE, Phase.SHIFTING, Phase.COMPLETED, Phase.ROLLED_BACK])
async def test_audits_are_run_once_more_for_each_request(rig: Rig, phase: Phase) -> None:
    plan = in_phase(phase, 10)
    await rig.look(plan)
    before = len(rig.asked.reads)
    for number in (1, 2):
        rig.now += 10
        since, waiting = rig.now, asked(plan, rig.now)
        for _ in range(3):
            assert (await rig.look(waiting)).audits == ()
            assert rig.advice.renewed(since)
            rig.now += 1
        assert len(rig.asked.reads) == before + number
        await rig.look(plan)


async def test_in_preflight_all_advice_is_asked_for_once_more(rig: Rig) -> None:
    plan = in_phase(Phase.PREFLIGHT)
    await rig.look(plan)
    rig.now += 10
    await rig.look(asked(plan, rig.now))
    assert (len(rig.asked.hosts), rig.asked.dynos_asked) == (2, 2)
    assert rig.advice.renewed(rig.now)


async def test_a_request_whose_audits_cannot_be_run_is_answered_with_the_reason(rig: Rig) -> None:
    plan = in_phase(Phase.SHIFTING, 10)
    await rig.look(plan)
    rig.asked.away = True
    rig.now += 10
    await rig.look(asked(plan, rig.now))
    assert rig.advice.renewed(rig.now)
    assert rig.advice.problems == ("audits: away",)


async def test_audits_that_could_not_be_run_are_run_later(rig: Rig) -> None:
    rig.asked.away = True
    plan = in_phase(Phase.SHIFTING, 10)
    assert (await rig.look(plan)).audits is None
    rig.asked.away = False
    rig.now += 60
    assert (await rig.look(plan)).audits == ()


async def test_what_is_asked_in_which_phase(rig: Rig) -> None:
    before = await rig.look(in_phase(Phase.PREFLIGHT))
    assert (before.dns, before.dynos) == ((HostRecord("pdf.example.com", 60),), DynoUse(1.0, 2.0))
    assert (before.last_requests, before.audits) == (None, None)
    during = await rig.look(in_phase(Phase.SHIFTING, 10))
    assert (during.dns, during.dynos, during.last_requests) == ((), None, None)
    after = await rig.look(in_phase(Phase.COMPLETED, 100))
    assert (after.dns, after.dynos, after.last_requests) == ((HostRecord("pdf.example.com", 60),), None, 3.0)
    assert (rig.asked.hosts, rig.asked.dynos_asked, rig.asked.requests_asked) == (["pdf.example.com"] * 2, 1, 1)


async def test_of_a_host_the_longest_time_is_kept(rig: Rig) -> None:
    rig.asked.ttl = 3600
    await rig.look(in_phase(Phase.PREFLIGHT))
    rig.asked.ttl = 20
    rig.now += 3600
    assert (await rig.look(in_phase(Phase.PREFLIGHT))).dns == (HostRecord("pdf.example.com", 3600),)
