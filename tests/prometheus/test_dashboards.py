"""Every query of the dashboards on a real Prometheus, with ten minutes of a cutover, and the numbers that are shown.

The operator's and the drain's metrics are what their own collectors say at each moment. The mesh's counters, cAdvisor,
kube-state-metrics, CoreDNS, PgBouncer and Postgres are played. Everything is scraped once, with its times.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import prometheus_client
import pytest
from tests.kit import builders
from tests.kit.dashboards import BOARDS, EXPORTED, Asked, Grafana, queries
from tests.kit.logplex import frame, message, request_line
from tests.kit.metrics_server import MetricsServer
from tests.kit.played_counts import Sent
from tests.kit.real_prometheus import RealPrometheus

from cutover import metrics
from cutover.adapters.dialects.istio.counters import IstioDialect
from cutover.api.v1alpha1 import (
    BaselineStatus,
    Condition,
    EvidenceStatus,
    GateStatus,
    MigrationPlanStatus,
    Phase,
    Share,
)
from cutover.domain.plan import Plan
from cutover.drain.exposition import Exposition
from cutover.drain.frames import Frame, Record
from cutover.metrics import OperatorCollector

STEP, POINTS = 15, 41
SECONDS = STEP * (POINTS - 1)
#: Seconds after the beginning at which the plan goes to 25 %, and at which it is rolled back.
RAISED, HARMED = 300, 570
STAMP = "2027-01-11T10:00:00Z"


# ------------------------------------------------------------------------------------------------------- the operator


@dataclass
class Loop:
    plan: Plan | None
    last_reconciled: float
    failing_since: float = 0.0
    rollback_waits_since: float = 0.0
    rollbacks: int = 0


@dataclass
class Counts:
    """What the operator asked of others."""

    requests: Counter[str] = field(default_factory=lambda: Counter({"get": 3}))
    errors: Any = 0
    queries: int = 10
    refused: int = 0
    rounds_skipped: int = 0
    rounds_late: int = 0
    late_samples: int = 0
    last_success: float = 0.0
    lateness: float = 0.25


def held(reason: str) -> tuple[Condition, ...]:
    known = {"type": "Held", "status": "True", "lastTransitionTime": STAMP, "observedGeneration": 1}
    return MigrationPlanStatus.model_validate({"conditions": [{**known, "reason": reason}]}).conditions


def loops(seconds: int, now: float) -> list[Loop]:
    """Return all plans, of which pdf is the one that is looked at."""
    weight = 0 if seconds >= HARMED else 25 if seconds >= RAISED else 10
    phase = Phase.ROLLING_BACK if seconds >= HARMED else Phase.SHIFTING
    pdf = MigrationPlanStatus(
        phase=phase,
        trouble=2 if seconds >= HARMED else 0,
        weight=weight,
        share=Share(observed=weight, at=datetime.fromisoformat(STAMP)),
        evidence=EvidenceStatus(harm=1 + seconds / 10, harm_limit=100, safety=4.47, safety_limit=20),
        gates=(GateStatus(name="errors", verdict="Undecided"), GateStatus(name="slow", verdict="Pass")),
        conditions=held("Undecided") if seconds < RAISED else (),
        baseline=BaselineStatus.model_validate({"since": STAMP, "slow_ms": 250, "very_slow_ms": 2500}),
    )
    others = {
        "done": MigrationPlanStatus(phase=Phase.COMPLETED, weight=100),
        "harmed": MigrationPlanStatus(phase=Phase.SHIFTING, weight=50, conditions=held("Breach"), trouble=3),
        "back": MigrationPlanStatus(phase=Phase.ROLLED_BACK, weight=0, trouble=2),
        "waiting": MigrationPlanStatus(
            phase=Phase.SHIFTING, weight=10, conditions=held("AwaitingApproval"), trouble=1
        ),
    }
    found = [Loop(builders.plan("pdf", status=pdf), now - 2, rollbacks=int(seconds >= HARMED))]
    return found + [Loop(builders.plan(name, uid=name, status=status), now - 40) for name, status in others.items()]


def operator(seconds: int, now: float) -> str:
    """Return what the operator's process says, on its own collector and its own histograms."""
    metrics.DECISION_DELAY.observe(1.3)
    metrics.JUDGING_DELAY.observe(1.1)
    registry = prometheus_client.CollectorRegistry()
    api, prometheus = Counts(errors=Counter({"conflict": seconds})), Counts(errors=seconds // 60)
    registry.register(
        OperatorCollector(
            lambda: loops(seconds, now),
            api,
            prometheus,
            Counts(),
            lambda: {"": 0.1},
            receivers=lambda: {"chat": Sent()},
            counted=IstioDialect().subscription,
        )
    )
    for own in (metrics.DECISION_DELAY, metrics.JUDGING_DELAY, metrics.RECONCILES, metrics.RECONCILED_PLANS):
        registry.register(own)
    return prometheus_client.generate_latest(registry).decode()


class Drain:
    """The drain's record, of which each step brings a frame."""

    def __init__(self) -> None:
        self.record = Record(time.time, time.monotonic)
        self.registry = prometheus_client.CollectorRegistry()
        self.registry.register(Exposition(self.record))

    def says(self, seconds: int) -> str:
        sample = b"source=web.1 dyno=heroku.1.2 sample#memory_total=384.00MB sample#memory_quota=512.00MB"
        lines = [
            *(request_line(service=20) for _ in range(90)),
            *(request_line(503, service=30000, code="H12") for _ in range(10)),
            message("heroku", "web.1", sample),
            message("heroku", "web.1", b"Error R14 (Memory quota exceeded)"),
        ]
        count, body = frame(lines, dropped=3)
        self.record.take("acme-pdf", Frame(f"frame-{seconds}", count, body))
        return prometheus_client.generate_latest(self.registry).decode()


# ---------------------------------------------------------------------------------------------------- what is played

HEROKU, EKS = "acme-pdf-1a2b3c.herokuapp.com", "pdf.docs.svc.cluster.local"
#: Requests per second by code; 0 is a client that left, and nobody's answer.
MIX = {
    HEROKU: {"200": 27.0, "302": 1.5, "404": 1.2, "503": 0.3, "0": 5.0},
    EKS: {"200": 8.5, "302": 0.5, "404": 0.4, "503": 0.6, "0": 5.0},
}
#: Share of answers below each bound.
BELOW = {HEROKU: {"100": 0.5, "250": 0.99, "2500": 0.999}, EKS: {"100": 0.4, "250": 0.9, "2500": 0.98}}
POD = "pdf-6d5f8c7b9d-x2k4z"


def line(name: str, value: float, **labels: str) -> str:
    inner = ",".join(f'{key}="{text}"' for key, text in labels.items())
    return f"{name}{{{inner}}} {value:.6f}"


def mesh(seconds: int) -> Iterator[str]:
    gateway = {"reporter": "source", "source_workload_namespace": "istio-ingress", "namespace": "istio-ingress"}
    # Callers in the mesh, who fail always, and a target that only says that it is a gateway.
    strangers = ({**gateway, "source_workload_namespace": "shop"}, {**gateway, "namespace": "shop"})
    for leg, codes in MIX.items():
        for code, rate in codes.items():
            labels = {"destination_service": leg, "response_code": code}
            yield line("istio_requests_total", 1000 + rate * seconds, **gateway, **labels)
            for number, bound in enumerate((*BELOW[leg].items(), ("+Inf", 1.0))):
                name, share = bound
                value = 1000 * (number + 1) + rate * share * seconds
                yield line("istio_request_duration_milliseconds_bucket", value, **gateway, **labels, le=name)
        for who in strangers:
            yield line("istio_requests_total", 100 * seconds, **who, destination_service=leg, response_code="500")


def cluster(seconds: int) -> Iterator[str]:
    container = {"namespace": "docs", "pod": POD, "container": "app"}
    yield line("container_cpu_cfs_periods_total", 8 * seconds, **container)
    yield line("container_cpu_cfs_throttled_periods_total", 2 * seconds, **container)
    yield line("container_memory_working_set_bytes", 0.75 * 2**30, **container)
    yield line("kube_pod_container_resource_limits", 2.0**30, **container, resource="memory")
    yield line("kube_pod_container_status_restarts_total", seconds // 200, **container)
    yield line("kube_pod_container_state_started", 1000, **container)
    yield line("kube_pod_container_state_started", 990, **{**container, "container": "istio-proxy"})
    for rcode, rate in (("NOERROR", 60), ("NXDOMAIN", 40)):
        yield line("coredns_dns_responses_total", rate * seconds, rcode=rcode, instance="a:9153")
    yield line("coredns_dns_requests_total", 100 * seconds, type="A", instance="a:9153")


def databases() -> Iterator[str]:
    postgres = {"job": "postgres", "instance": "a:9187"}
    yield line("pg_settings_max_connections", 200, **postgres)
    yield line("pg_stat_activity_count", 50, **postgres, datname="app", state="idle")
    yield line("pg_replication_lag_seconds", 4, **postgres)
    yield line("pg_replication_is_replica", 1, **postgres)
    pool = {"job": "pgbouncer", "database": "app", "user": "u"}
    yield line("pgbouncer_pools_client_waiting_connections", 7, **pool)


def exposition(end: float) -> str:
    """Return ten minutes of everything, with times."""
    drain, lines = Drain(), []
    for point in range(POINTS):
        seconds = point * STEP
        at = end - SECONDS + seconds
        said = [*operator(seconds, at).splitlines(), *drain.says(seconds).splitlines()]
        said += [*mesh(seconds), *cluster(seconds), *databases()]
        lines += [f"{text} {round(at * 1000)}" for text in said if not text.startswith("#")]
    return "\n".join(lines) + "\n"


# ------------------------------------------------------------------------------------------------------------- Grafana


@pytest.fixture(scope="module")
def grafana(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grafana]:
    end = float(round(time.time()))
    bodies = iter([exposition(end)])
    server = MetricsServer(lambda path: next(bodies, ""))
    job = {
        "job_name": "all",
        "scrape_interval": "1s",
        "honor_labels": True,
        "static_configs": [{"targets": [f"127.0.0.1:{server.port}"]}],
    }
    prometheus = RealPrometheus(tmp_path_factory.mktemp("dashboards"), [job])
    try:
        prometheus.start()
        yield Grafana(prometheus.url, end, SECONDS, plan="pdf")
    finally:
        prometheus.stop()
        server.stop()


def test_the_variables_lead_to_the_plan(grafana: Grafana) -> None:
    assert grafana.values("plan") == {
        "namespace": "docs",
        "plan": "pdf",
        "app": "acme-pdf",
        "workload": "pdf",
        "heroku_service": HEROKU,
        "eks_service": EKS,
        "gateway_namespaces": "istio-ingress",
        "slow_ms": "250",
        "very_slow_ms": "2500",
        "objective": "99.9",
        "pgbouncer_job": "pgbouncer",
        "postgres_job": "postgres",
    }
    assert grafana.values("fleet") == {"namespace": ".*", "gateways": "istio-ingress"}


EVERY = [one for board in BOARDS for one in queries(board)]


@pytest.mark.parametrize("asked", EVERY, ids=lambda one: f"{one.board}-{one.panel}-{one.ref}")
def test_every_query_has_data(grafana: Grafana, asked: Asked) -> None:
    found = grafana.shown(asked)
    assert found
    assert all(value == value and abs(value) != float("inf") for _, values in found for value in values)


def test_both_legs_are_shown_as_the_gateways_count_them(grafana: Grafana) -> None:
    """Callers in the mesh, clients that left, and processes that only say that they are gateways are not in it."""

    def legs(panel: str) -> tuple[float, float]:
        ((heroku,), (eks,)) = (grafana.now("plan", panel, ref).values() for ref in "AB")
        return heroku, eks

    assert legs("Requests") == pytest.approx((30, 10))
    assert legs("Errors") == pytest.approx((0.01, 0.06))
    assert legs("Slow answers") == pytest.approx((0.01, 0.1))
    assert legs("Burn of the error budget") == pytest.approx((10, 60))
    for leg, shares in (("Heroku", (0.9, 0.05, 0.04, 0.01)), ("EKS", (0.85, 0.05, 0.04, 0.06))):
        mix = [value for ref in "ABCD" for value in grafana.now("plan", f"{leg}: mix of answers", ref).values()]
        assert mix == pytest.approx(shares)
        (median,) = grafana.now("plan", f"{leg}: times of answers", "A").values()
        assert median == pytest.approx({"Heroku": 100, "EKS": 130}[leg], rel=0.01)
        lines = [grafana.now("plan", f"{leg}: times of answers", ref) for ref in "DE"]
        assert lines == [{(): 250}, {(): 2500}]


def test_the_cluster_is_shown_by_the_gates_own_queries(grafana: Grafana) -> None:
    shown = {
        "CPU throttling": 0.25,
        "Memory of its limit": 0.75,
        "DNS: NXDOMAIN": 0.4,
        "DNS: queries": 100,
        "Pods that started before their sidecar": 0,
        "Connections to Postgres": 0.25,
        "Clients that wait in PgBouncer": 7,
        "Lag of Postgres' replicas": 4,
    }
    assert {panel: list(grafana.now("plan", panel, "A").values()) for panel in shown} == {
        panel: [pytest.approx(value)] for panel, value in shown.items()
    }
    ((restarts,),) = [grafana.now("plan", "Restarts", "A").values()]
    assert restarts > 1


def test_herokus_record_is_shown(grafana: Grafana) -> None:
    rates = grafana.now("plan", "Requests at Heroku's router", "A")
    assert rates == {("200",): pytest.approx(90 / STEP), ("503", "H12"): pytest.approx(10 / STEP)}
    assert grafana.now("plan", "Memory of dynos", "A") == {("web.1",): 384 * 2**20}
    assert grafana.now("plan", "Memory of dynos", "B") == {(): 512 * 2**20}
    assert "R14" in {name for (name,) in grafana.now("plan", "Events of dynos", "A")}


def test_a_decision_is_marked_where_it_was_made(grafana: Grafana) -> None:
    marks = {one.ref: grafana.shown(one) for one in queries("plan") if one.panel == "annotation"}
    assert {labels["weight"] for labels, _ in marks["weight"]} == {"25", "0"}
    ((_, rollback),) = marks["rollback"]
    assert len(rollback) == (SECONDS - HARMED) / STEP + 1
    assert [labels for labels, _ in marks["hold"]] == [{"reason": "Undecided"}]


def test_those_in_trouble_come_first(grafana: Grafana) -> None:
    trouble = grafana.now("fleet", "Plans, those in trouble first", "A")
    assert trouble == {
        ("docs", "harmed"): 3,
        ("docs", "back"): 2,
        ("docs", "pdf"): 2,
        ("docs", "waiting"): 1,
        ("docs", "done"): 0,
    }
    assert grafana.now("fleet", "Users may be harmed", "A") == {(): 1}
    assert grafana.now("fleet", "To be looked at", "A") == {(): 2}


def test_without_its_exporters_a_panel_is_empty_and_nothing_fails(grafana: Grafana) -> None:
    for asked in EVERY:
        renamed = EXPORTED.sub(r"missing_\2", asked.expr)
        if renamed != asked.expr:
            grafana.shown(Asked(asked.board, asked.panel, asked.ref, renamed))
