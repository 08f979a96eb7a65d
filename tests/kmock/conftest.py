"""Fixtures: the fake API server, and the operator on top of it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
import yaml
from structlog.typing import EventDict
from tests.kit.fake_api import FakeApi
from tests.kit.kopf_harness import RECONCILES, FakeBlockFeed, KopfRig, make_target
from tests.kit.trust import one_authority

import kmock
from cutover.domain.engine import probe_intervals
from cutover.domain.engine.phases import preflight
from cutover.kopf_app import configuration, handlers
from cutover.services import plan_loop as reconciler
from cutover.services import probing
from cutover.settings import Settings


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with FakeApi() as api, kmock.Server(api):
        yield api


@pytest.fixture
def world(api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KopfRig:
    kubeconfig = tmp_path / "kubeconfig"
    context = {"name": "fake", "context": {"cluster": "fake", "user": "fake"}}
    clusters = [{"name": "fake", "cluster": {"server": str(api.url).rstrip("/")}}]
    users = [{"name": "fake", "user": {"token": "s3cr3t-t0ken"}}]
    config = {"current-context": "fake", "contexts": [context], "clusters": clusters, "users": users}
    kubeconfig.write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    for name, value in one_authority(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(handlers, "START_SPREAD", 0.0)
    monkeypatch.setattr(preflight, "PREPARED_SECONDS", 0.0)
    monkeypatch.setattr(handlers, "DELETION_RETRY_SECONDS", 0.1)
    monkeypatch.setattr(reconciler, "RETRY_SECONDS", 0.1)
    monkeypatch.setattr(reconciler, "ROLLBACK_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(configuration.Backoffs, "__iter__", lambda self: iter([0.1] * 1000))
    interval = probe_intervals.probe_interval
    monkeypatch.setattr(probing, "probe_interval", lambda plan: 0.1 if interval(plan) else None)
    _count_reconciles(monkeypatch)
    settings = Settings(prometheus_url="http://unused.example", kubeconfig=kubeconfig, health_port=0, metrics_port=0)
    return KopfRig(api, settings, FakeBlockFeed())


def _count_reconciles(monkeypatch: pytest.MonkeyPatch) -> None:
    RECONCILES.clear()
    original = reconciler.PlanLoop.reconcile

    async def counted(self: reconciler.PlanLoop) -> float | None:
        delay = await original(self)
        if self.plan is not None:
            RECONCILES[self.plan.key] = RECONCILES.get(self.plan.key, 0) + 1
        return delay

    monkeypatch.setattr(reconciler.PlanLoop, "reconcile", counted)


@pytest.fixture
async def target(api: FakeApi) -> None:
    """What a team has in the cluster before it writes a plan."""
    await make_target(api, "pdf")


@pytest.fixture
def events() -> Iterator[list[EventDict]]:
    """What the operator itself has logged."""
    with structlog.testing.capture_logs() as captured:
        yield captured


@pytest.fixture(autouse=True)
def _no_tracebacks(caplog: pytest.LogCaptureFixture, events: list[EventDict]) -> Iterator[None]:
    """Whatever happens to the API server, nobody has to read a traceback."""
    yield
    for record in caplog.get_records("call"):
        assert record.exc_info is None or record.levelno < logging.WARNING, record.getMessage()
        assert "Traceback" not in record.getMessage()
    assert [event for event in events if event.get("exc_info")] == []
