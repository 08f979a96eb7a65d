"""Reports in ConfigMaps and folders: when one is written, what it is called, and what comes of a failure."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.kit.loop_rig import LoopRig
from tests.kit.manual_clock import ManualClock
from tests.kit.reports import AT, completed, entry, rolled_back, with_lines
from tests.kit.waiting import until

from cutover.adapters.kube.reports import ConfigMapReports
from cutover.adapters.report_folder import FolderReports
from cutover.api.v1alpha1 import MigrationPlanStatus, Phase
from cutover.domain.journal.reports import ended_by, report_name
from cutover.domain.marks import MANAGED_BY_LABEL, PLAN_LABEL
from cutover.domain.plan import Plan
from cutover.domain.resources import CONFIG_MAPS, Json, Resource
from cutover.ports.errors import Conflict, Gone, Unavailable
from cutover.ports.reports import ReportStore
from cutover.report.record import Record
from cutover.services.reports import RECENT_SECONDS, ReportWriter

ENDED = ended_by(completed().plan.status)
assert ENDED is not None
CONFIG_MAP, FOLDER = ConfigMapReports.kind, FolderReports.kind
NAME = report_name(completed().plan.uid, "pdf", ENDED)


class Cluster:
    """An API server that creates ConfigMaps and takes Events, and fails as it is told."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.tries = 0
        self.created: list[Json] = []
        self.events: list[tuple[str, str, str]] = []

    async def create(self, kind: Resource, body: Json) -> Json:
        assert kind is CONFIG_MAPS
        self.tries += 1
        if self.failures:
            raise self.failures.pop(0)
        self.created.append(body)
        return body

    async def event(self, plan: Plan, kind: str, reason: str, message: str) -> None:
        self.events.append((kind, reason, message))


def counts(writer: ReportWriter) -> tuple[dict[str, int], dict[str, int]]:
    """Return what was written and what was not, as the metrics have it."""
    return dict(writer.written), dict(writer.failed)


def files(folder: Path) -> list[str]:
    """Return the paths of what a folder has, but for folders."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


async def done(writer: ReportWriter) -> None:
    """Let the writer write all that waits."""
    task = asyncio.create_task(writer.run())
    async with asyncio.timeout(60):
        await writer._waiting.join()
    task.cancel()


async def written(
    cluster: Cluster, plans: Sequence[Plan], *more: ReportStore, late: float = 0.0, history: Any = None
) -> ReportWriter:
    """Tell a writer of plans, and wait until it has dealt with all of them."""

    async def none(record: Record) -> Record:
        return record

    clock = ManualClock(ENDED.at.timestamp() + late)  # type: ignore[union-attr]
    stores = [ConfigMapReports(cluster), *more]  # type: ignore[arg-type]
    writer = ReportWriter(stores, cluster, history or none, clock, settle=0.0, pauses=(0.0, 0.0))  # type: ignore[arg-type]
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
    assert counts(writer) == ({CONFIG_MAP: 1}, {CONFIG_MAP: 0})


async def test_history_of_prometheus_is_in_it() -> None:
    async def history(record: Record) -> Record:
        return with_lines(record)

    cluster = Cluster()
    await written(cluster, [completed().plan], history=history)
    assert "Latency, 95th percentile" in cluster.created[0]["data"]["report.html"]


async def test_plans_that_end_together_wait_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits from its own end: fifty rollbacks at once are reported soon after, and not half an hour later."""
    hour = 3600.0
    cluster = Cluster()
    writer = ReportWriter([ConfigMapReports(cluster)], cluster, lambda record: asyncio.sleep(0, record), ManualClock(AT.timestamp()), settle=hour)  # type: ignore[arg-type]  # fmt: skip
    for number in range(3):
        writer.tell(replace(completed().plan, uid=str(number)))
    later = time.monotonic() + hour
    monkeypatch.setattr("cutover.services.reports.time", SimpleNamespace(monotonic=lambda: later))
    await done(writer)
    assert len(cluster.created) == 3


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
    writer = ReportWriter([ConfigMapReports(cluster)], cluster, lambda record: asyncio.sleep(0, record), ManualClock(AT.timestamp()), settle=0.0)  # type: ignore[arg-type]  # fmt: skip
    writer.tell(completed().plan)
    await done(writer)
    assert cluster.tries == 1
    assert (cluster.events, counts(writer)) == ([], ({CONFIG_MAP: 0}, {CONFIG_MAP: 0}))


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
    assert counts(writer) == ({CONFIG_MAP: 0}, {CONFIG_MAP: 1})


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
    assert counts(writer) == ({CONFIG_MAP: 1}, {CONFIG_MAP: 1})


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


# ------------------------------------------------------------------------------------------------------------- a folder


async def test_a_folder_gets_the_files_beside_the_config_map(tmp_path: Path) -> None:
    cluster = Cluster()
    writer = await written(cluster, [completed().plan], FolderReports(tmp_path))
    assert files(tmp_path) == [f"docs/{NAME}.html", f"docs/{NAME}.md"]
    (body,) = cluster.created
    for kind in ("html", "md"):
        assert (tmp_path / "docs" / f"{NAME}.{kind}").read_text() == body["data"][f"report.{kind}"]
    assert counts(writer) == ({CONFIG_MAP: 1, FOLDER: 1}, {CONFIG_MAP: 0, FOLDER: 0})
    assert [message for _, _, message in cluster.events] == [
        f"the report is in ConfigMap {NAME}",
        f"the report is in the reports' folder as docs/{NAME}",
    ]


async def test_files_that_are_there_are_left_as_they_are(tmp_path: Path) -> None:
    """The next process, after one that was killed between the two files, or within one."""
    page = tmp_path / "docs" / f"{NAME}.html"
    page.parent.mkdir()
    page.write_text("evidence")
    half = page.with_name(f".{NAME}.md.unfinished")
    half.write_text("# Cutover of do")
    store = FolderReports(tmp_path)
    documents = {"report.html": "another", "report.md": "# Cutover of docs/pdf"}
    await store.keep(completed().plan, NAME, documents)
    assert page.read_text() == "evidence"
    assert page.with_suffix(".md").read_text() == documents["report.md"]
    assert not half.exists()
    with pytest.raises(Conflict):
        await store.keep(completed().plan, NAME, documents)


def _no_folder(folder: Path) -> None:
    folder.rmdir()


def _a_file_of_that_name(folder: Path) -> None:
    (folder / "docs").write_text("")


def _a_folder_in_the_way(folder: Path) -> None:
    (folder / "docs" / f".{NAME}.html.unfinished").mkdir(parents=True)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (_no_folder, "No such file or directory"),
        (_a_file_of_that_name, "File exists"),
        (_a_folder_in_the_way, "Is a directory"),
    ],
)
async def test_a_folder_that_takes_nothing_is_told_and_the_config_map_is_written(
    tmp_path: Path, wrong: Any, words: str
) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()
    wrong(folder)
    cluster = Cluster()
    writer = await written(cluster, [completed().plan], FolderReports(folder))
    assert counts(writer) == ({CONFIG_MAP: 1, FOLDER: 0}, {CONFIG_MAP: 0, FOLDER: 1})
    (told,) = [message for kind, _, message in cluster.events if kind == "Warning"]
    assert told == (
        f"the report is not in the reports' folder as docs/{NAME}: {folder}: {words}; kubectl cutover report pdf makes it"
    )


async def test_a_full_volume_leaves_no_half_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("cutover.adapters.report_folder.os.fsync", full)
    cluster = Cluster()
    await written(cluster, [completed().plan], FolderReports(tmp_path))
    assert not [path for path in files(tmp_path) if not path.endswith(".unfinished")]
    assert "No space left on device" in cluster.events[-1][2]


async def test_a_volume_that_hangs_keeps_one_thread_and_nobody_else(tmp_path: Path) -> None:
    """A named pipe that nobody reads, in place of the file: opening it waits as long as a server that is away."""
    plan = completed().plan
    pipe = tmp_path / "docs" / f".{NAME}.html.unfinished"
    pipe.parent.mkdir()
    os.mkfifo(pipe)
    store = FolderReports(tmp_path, most_seconds=0.1)
    documents = {"report.html": "page"}
    with pytest.raises(Unavailable, match=r"has not answered for 0\.1 s"):
        await store.keep(plan, NAME, documents)
    threads = threading.active_count()
    for _ in range(3):
        with pytest.raises(Unavailable, match=r"an earlier write to .* has not ended"):
            await store.keep(plan, NAME, documents)
    assert threading.active_count() == threads
    # It comes back, and takes what was to be written.
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        await asyncio.to_thread(until, "the write ends", lambda: not store._writing)
    finally:
        os.close(reader)
    for left in files(pipe.parent):
        (pipe.parent / left).unlink()
    await store.keep(plan, NAME, documents)
    assert files(tmp_path) == [f"docs/{NAME}.html"]


async def test_a_fault_of_one_store_keeps_none_of_the_others() -> None:
    class Faulty:
        kind = "Faulty"

        def place(self, plan: Plan, name: str) -> str:
            return "nowhere"

        async def keep(self, plan: Plan, name: str, documents: Mapping[str, str]) -> None:
            raise ZeroDivisionError

    cluster = Cluster()
    with capture_logs():
        writer = await written(cluster, [completed().plan], Faulty())
    assert counts(writer) == ({CONFIG_MAP: 1, "Faulty": 0}, {CONFIG_MAP: 0, "Faulty": 1})
