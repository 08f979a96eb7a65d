"""Reports in ConfigMaps: when one is written, what it is called, and what comes of a failure."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.kit.loop_rig import LoopRig
from tests.kit.manual_clock import ManualClock
from tests.kit.reports import AT, completed, entry, rolled_back, with_lines

from cutover.api.v1alpha1 import MigrationPlanStatus, Phase
from cutover.domain.journal.reports import ended_by, report_name
from cutover.domain.marks import MANAGED_BY_LABEL, PLAN_LABEL
from cutover.domain.plan import Plan
from cutover.domain.resources import Json
from cutover.ports.errors import Conflict, Gone, Unavailable
from cutover.report.record import Record
from cutover.services.reports import RECENT_SECONDS, ReportWriter

ENDED = ended_by(completed().plan.status)
assert ENDED is not None
NAME = report_name(completed().plan.uid, "pdf", ENDED)


class Cluster:
    """An API server that creates ConfigMaps and takes Events, and fails as it is told."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.tries = 0
        self.created: list[Json] = []
        self.events: list[tuple[str, str, str]] = []

    async def create(self, body: Json) -> Json:
        self.tries += 1
        if self.failures:
            raise self.failures.pop(0)
        self.created.append(body)
        return body

    async def event(self, plan: Plan, kind: str, reason: str, message: str) -> None:
        self.events.append((kind, reason, message))


async def done(writer: ReportWriter) -> None:
    """Let the writer write all that waits."""
    task = asyncio.create_task(writer.run())
    async with asyncio.timeout(60):
        await writer._waiting.join()
    task.cancel()


async def written(cluster: Cluster, plans: Sequence[Plan], *, late: float = 0.0, history: Any = None) -> ReportWriter:
    """Tell a writer of plans, and wait until it has dealt with all of them."""

    async def none(record: Record) -> Record:
        return record

    clock = ManualClock(ENDED.at.timestamp() + late)  # type: ignore[union-attr]
    writer = ReportWriter(cluster.create, cluster, history or none, clock, settle=0.0, pauses=(0.0, 0.0))  # type: ignore[arg-type]
    for one in plans:
        writer.tell(one)
    await done(writer)
    return writer


async def test_a_plan_that_ends_gets_one_config_map() -> None:
    cluster = Cluster()
    plan = completed().plan
    reread = replace(plan, status=plan.status.evolve(ledger=(*plan.status.ledger,)))
    writer = await written(cluster, [plan, plan, reread])
    (body,) = cluster.created
    metadata = body["metadata"]
    assert (metadata["namespace"], metadata["name"]) == ("docs", NAME)
    assert metadata["labels"] == {MANAGED_BY_LABEL: "cutover", PLAN_LABEL: "pdf"}
    assert "ownerReferences" not in metadata
    assert body["immutable"] is True
    assert set(body["data"]) == {"report.html", "report.md"}
    assert body["data"]["report.md"].startswith("# Cutover of docs/pdf")
    assert cluster.events == [("Normal", "Report", f"the report is in ConfigMap {NAME}")]
    assert (writer.written, writer.failed) == (1, 0)


async def test_history_of_prometheus_is_in_it() -> None:
    async def history(record: Record) -> Record:
        return with_lines(record)

    cluster = Cluster()
    await written(cluster, [completed().plan], history=history)
    assert "Latency, 95th percentile" in cluster.created[0]["data"]["report.html"]


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase not in (Phase.COMPLETED, Phase.ROLLED_BACK)])
async def test_no_other_phase_has_a_report(phase: Phase) -> None:
    cluster = Cluster()
    plan = completed().plan
    await written(cluster, [replace(plan, status=plan.status.evolve(phase=phase))])
    assert cluster.tries == 0


async def test_a_plan_that_ended_long_ago_is_left_alone() -> None:
    cluster = Cluster()
    await written(cluster, [completed().plan], late=RECENT_SECONDS + 1)
    assert cluster.tries == 0


async def test_the_next_process_finds_the_report_there() -> None:
    cluster = Cluster(Conflict("exists"))
    writer = ReportWriter(cluster.create, cluster, lambda record: asyncio.sleep(0, record), ManualClock(AT.timestamp()), settle=0.0)  # type: ignore[arg-type]  # fmt: skip
    writer.tell(completed().plan)
    await done(writer)
    assert cluster.tries == 1
    assert (cluster.events, writer.failed) == ([], 0)


async def test_an_outage_is_tried_again() -> None:
    cluster = Cluster(Unavailable("HTTP 503"), Unavailable("HTTP 503"))
    await written(cluster, [completed().plan])
    assert [reason for _, reason, _ in cluster.events] == ["Report"]
    assert cluster.tries == 3


@pytest.mark.parametrize(
    ("failures", "tries"), [([Unavailable("forbidden: configmaps")] * 9, 3), ([Gone("the namespace")], 1)]
)
async def test_a_failure_is_told_once_and_says_what_to_do(failures: list[Exception], tries: int) -> None:
    cluster = Cluster(*failures)
    writer = await written(cluster, [completed().plan])
    assert cluster.tries == tries
    ((kind, reason, message),) = cluster.events
    assert (kind, reason) == ("Warning", "ReportNotWritten")
    assert NAME in message
    assert message.endswith("kubectl cutover report pdf makes it")
    assert (writer.written, writer.failed) == (0, 1)


async def test_a_fault_in_one_report_keeps_none_of_the_others() -> None:
    async def history(record: Record) -> Record:
        if record.plan.name == "pdf":
            raise ZeroDivisionError
        return record

    cluster = Cluster()
    other = rolled_back().plan
    other = replace(other, name="account", uid="other", status=_ended_at(other.status))
    with capture_logs() as logs:  # a traceback with all locals takes half a minute to draw
        writer = await written(cluster, [completed().plan, other], history=history)
    assert "report not written" in [line["event"] for line in logs]
    assert [reason for _, reason, _ in cluster.events] == ["ReportNotWritten", "Report"]
    assert "ZeroDivisionError" in cluster.events[0][2]
    assert (writer.written, writer.failed) == (1, 1)


def _ended_at(status: MigrationPlanStatus) -> MigrationPlanStatus:
    assert ENDED is not None
    return status.evolve(ledger=(*status.ledger[:-1], status.ledger[-1].evolve(at=ENDED.at)))


async def test_a_plan_that_ends_again_gets_another_report() -> None:
    """A completed plan that is rolled back later."""
    cluster = Cluster()
    plan = completed().plan
    assert ENDED is not None
    back = entry("RolledBack", at=ENDED.at, reason="Requested")
    after = plan.status.evolve(phase=Phase.ROLLED_BACK, weight=0, ledger=(*plan.status.ledger, back))
    await written(cluster, [plan, replace(plan, status=after)])
    names = [body["metadata"]["name"] for body in cluster.created]
    assert names == [report_name(plan.uid, plan.name, one) for one in (ENDED, back)]
    assert len(set(names)) == 2


async def test_the_plans_loop_tells_of_each_stored_status_and_works_without() -> None:
    for reports in (None, []):
        loop = LoopRig().loop()
        if reports is not None:
            loop._working._ports = replace(loop._ports, reports=SimpleNamespace(tell=reports.append))  # type: ignore[arg-type]
        await loop.reconcile()
        assert reports is None or [plan.name for plan in reports]


def test_the_name_follows_from_the_decision() -> None:
    assert ENDED is not None
    assert report_name(completed().plan.uid, "pdf", ENDED.evolve(message="cut")) == NAME
    assert NAME.startswith("cutover-pdf-report-a1-")
    assert report_name("another", "pdf", ENDED) != NAME
    assert report_name("u", "pdf", entry("Advance")) == ""
    assert len(report_name("u", "p" * 63, entry("Complete", attempt=10_000))) <= 253
