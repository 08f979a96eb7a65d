"""``/metrics``: what Prometheus reads of plans in every phase, and of the operator's own dealings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.kit import builders
from tests.kit.played_counts import BlockQueries, Sent, SloQueries

from cutover import metrics
from cutover.adapters.dialects.istio.counters import IstioDialect
from cutover.api.v1alpha1 import (
    BaselineStatus,
    Condition,
    EvidenceStatus,
    GateStatus,
    MigrationPlanStatus,
    Phase,
    ReleasesStatus,
)
from cutover.domain.plan import Plan
from cutover.metrics import Loop, OperatorCollector

NOW = 1_799_661_600.0
STAMP = "2027-01-11T10:00:00Z"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass
class Running:
    """A plan's loop."""

    plan: Plan | None
    last_reconciled: float = NOW
    failing_since: float = 0.0
    rollback_waits_since: float = 0.0
    rollbacks: int = 0


@dataclass
class Dealings:
    requests: Counter[str] = field(default_factory=lambda: Counter({"get": 3, "update": 2}))
    errors: Counter[str] = field(default_factory=lambda: Counter({"conflict": 1}))


@dataclass
class HerokuDealings:
    requests: Counter[str] = field(default_factory=lambda: Counter({"releases": 5}))
    errors: Counter[str] = field(default_factory=lambda: Counter({"key": 1}))


def plan(name: str, **status: Any) -> Plan:
    return builders.plan(name, uid=name, status=MigrationPlanStatus(**status))


EVIDENCE = EvidenceStatus(harm=195.0, harm_limit=100.0, safety=0.2, safety_limit=20.0)


def held(reason: str) -> tuple[Condition, ...]:
    known = {"type": "Held", "status": "True", "lastTransitionTime": STAMP, "observedGeneration": 1}
    return MigrationPlanStatus.model_validate({"conditions": [{**known, "reason": reason}]}).conditions


def scrape(loops: Iterable[Loop] | Callable[[], Iterable[Loop]]) -> Samples:
    """Return what Prometheus understands."""
    registry = prometheus_client.CollectorRegistry()
    found = loops if callable(loops) else lambda: loops
    registry.register(
        OperatorCollector(
            found,
            Dealings(),
            BlockQueries(refused=7, last_success=NOW),
            SloQueries(),
            lambda: {"": 1.5},
            receivers=lambda: {"chat": Sent()},
            counted=IstioDialect().subscription,
            heroku=HerokuDealings(),
            reports=SimpleNamespace(written={"ConfigMap": 2}, failed={"ConfigMap": 1}),
        )
    )
    text = prometheus_client.generate_latest(registry).decode()
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in samples, key
            samples[key] = sample.value
    return samples


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[(name, frozenset(labels.items()))]


def test_without_plans_the_operator_tells_of_itself() -> None:
    samples = scrape([])
    assert value(samples, "cutover_api_requests_total", verb="update") == 2
    assert value(samples, "cutover_api_errors_total", cause="conflict") == 1
    assert value(samples, "cutover_heroku_api_requests_total", what="releases") == 5
    assert value(samples, "cutover_heroku_api_errors_total", cause="key") == 1
    assert value(samples, "cutover_prometheus_queries_total") == 12
    assert value(samples, "cutover_prometheus_errors_total") == 1
    assert value(samples, "cutover_refused_counters_total") == 7
    assert value(samples, "cutover_prometheus_last_success_timestamp_seconds") == NOW
    assert value(samples, "cutover_block_lateness_seconds") == 0.25
    assert value(samples, "cutover_slo_queries_total") == 40
    assert value(samples, "cutover_slo_query_errors_total") == 2
    assert value(samples, "cutover_slo_rounds_skipped_total") == 3
    assert value(samples, "cutover_slo_rounds_late_total") == 2
    assert value(samples, "cutover_slo_late_samples_total") == 1
    assert value(samples, "cutover_prometheus_clock_skew_seconds", source="") == 1.5
    assert value(samples, "cutover_leader") == 1
    assert value(samples, "cutover_notifications_sent_total", receiver="chat") == 7
    assert value(samples, "cutover_notification_failures_total", receiver="chat") == 4
    assert value(samples, "cutover_notifications_waiting", receiver="chat") == 2
    assert value(samples, "cutover_notifications_dropped_total", receiver="chat", cause="refused") == 1


def test_who_waits_for_the_lease_says_so() -> None:
    collector = OperatorCollector(
        tuple, Dealings(), BlockQueries(refused=7, last_success=NOW), SloQueries(), dict, leading=lambda: False
    )
    assert [m.samples[0].value for m in collector.collect() if m.name == "cutover_leader"] == [0]


@pytest.mark.parametrize("weight", [None, 0, 25, 100])
@pytest.mark.parametrize("phase", Phase)
def test_a_plan_is_told_in_every_phase(phase: Phase, weight: int | None) -> None:
    for evidence in (None, EVIDENCE):
        samples = scrape([Running(plan("pdf", phase=phase, weight=weight, evidence=evidence))])
        told = {dict(labels)["phase"]: v for (name, labels), v in samples.items() if name == "cutover_phase"}
        assert told == {phase: 1.0}


def test_a_plan_in_the_middle_is_told_with_its_numbers() -> None:
    status = {
        "phase": Phase.SHIFTING,
        "weight": 25,
        "share": {"observed": 24.6, "at": STAMP},
        "evidence": EVIDENCE,
        "gates": (GateStatus(name="errors", verdict="Fail"), GateStatus(name="slow", verdict="Undecided")),
        "conditions": held("AwaitingApproval"),
        "trouble": 1,
    }
    samples = scrape(
        [Running(plan("pdf", **status), failing_since=NOW - 5, rollback_waits_since=NOW - 4, rollbacks=2)]
    )
    key = {"namespace": "docs", "plan": "pdf"}
    assert value(samples, "cutover_held", reason="AwaitingApproval", **key) == 1
    assert value(samples, "cutover_trouble", **key) == 1
    assert value(samples, "cutover_desired_weight_percent", **key) == 25
    assert value(samples, "cutover_observed_share_percent", **key) == 24.6
    assert value(samples, "cutover_evidence_of_harm", **key) == 195
    assert value(samples, "cutover_evidence_of_safety", **key) == 0.2
    assert value(samples, "cutover_verdict", gate="errors", mode="Enforce", verdict="Fail", **key) == 1
    assert value(samples, "cutover_last_reconcile_timestamp_seconds", **key) == NOW
    assert value(samples, "cutover_failing_since_timestamp_seconds", **key) == NOW - 5
    assert value(samples, "cutover_rollback_waiting_since_timestamp_seconds", **key) == NOW - 4
    assert value(samples, "cutover_rollbacks_total", **key) == 2


WHERE = {
    "namespace": "docs",
    "plan": "pdf",
    "app": "acme-pdf",
    "workload": "pdf",
    "heroku_service": "acme-pdf-1a2b3c.herokuapp.com",
    "eks_service": "pdf.docs.svc.cluster.local",
    "gateway_namespaces": "istio-ingress",
}


def test_a_plan_says_where_it_is_counted_and_its_thresholds_once_they_are_known() -> None:
    assert value(scrape([Running(plan("pdf"))]), "cutover_plan_info", **WHERE, slow_ms="", very_slow_ms="") == 1
    baseline = BaselineStatus.model_validate({"since": STAMP, "slow_ms": 250.0, "very_slow_ms": 2500.0})
    samples = scrape([Running(plan("pdf", phase=Phase.SHIFTING, baseline=baseline))])
    assert value(samples, "cutover_plan_info", **WHERE, slow_ms="250", very_slow_ms="2500") == 1
    # Where the plan names them, nothing is chosen.
    latency = {"name": "latency", "latency": {"slowMs": 100, "verySlowMs": 1000}}
    samples = scrape([Running(builders.plan(uid="pdf", gates={"slos": [latency]}))])
    assert value(samples, "cutover_plan_info", **WHERE, slow_ms="100", very_slow_ms="1000") == 1


def test_where_nothing_fails_there_is_no_time_and_the_count_of_rollbacks_is_there_to_rise() -> None:
    samples = scrape([Running(plan("pdf", phase=Phase.SHIFTING))])
    assert not any(name.endswith("_since_timestamp_seconds") for name, _ in samples)
    assert value(samples, "cutover_rollbacks_total", namespace="docs", plan="pdf") == 0


def test_a_plan_that_cannot_be_read_is_told() -> None:
    body = {"metadata": {"namespace": "docs", "name": "pdf", "uid": "pdf"}, "spec": {}}
    refused = replace(Plan.refused(body, "spec: missing"), status=MigrationPlanStatus(conditions=held("InvalidSpec")))
    samples = scrape([Running(refused)])
    assert value(samples, "cutover_held", namespace="docs", plan="pdf", reason="InvalidSpec") == 1
    assert not any(name == "cutover_plan_info" for name, _ in samples)


def test_a_plan_before_its_first_pass_is_not_told() -> None:
    assert not any("plan" in dict(labels) for _, labels in scrape([Running(None)]))


def test_plans_may_come_and_go_during_a_scrape() -> None:
    """It has a thread of its own."""
    loops: dict[str, Loop] = {}

    class Coming(Running):
        def __getattribute__(self, name: str) -> Any:
            loops[f"new-{len(loops)}"] = Running(None)
            return super().__getattribute__(name)

    loops["pdf"] = Coming(plan("pdf"))
    samples = scrape(loops.values)
    assert len(loops) > 1, "some came"
    assert value(samples, "cutover_rollbacks_total", namespace="docs", plan="pdf") == 0


def test_what_is_told_is_documented_and_what_is_documented_is_told() -> None:
    status = {
        "phase": Phase.SHIFTING,
        "weight": 25,
        "share": {"observed": 25, "at": STAMP},
        "evidence": EVIDENCE,
        "gates": (GateStatus(name="errors", verdict="Fail"),),
        "conditions": held("Suspended"),
        "releases": ReleasesStatus(of="acme-pdf, pdf", problem="Heroku's API cannot be reached"),
    }
    in_trouble = Running(plan("pdf", **status), failing_since=NOW, rollback_waits_since=NOW)
    told = {(name, *sorted(dict(labels))) for name, labels in scrape([in_trouble])}
    # What each reconcile counts is kept by the library itself.
    own = prometheus_client.CollectorRegistry()
    for metric in (metrics.RECONCILES, metrics.RECONCILED_PLANS, metrics.DECISION_DELAY, metrics.JUDGING_DELAY):
        own.register(metric)
    for family in text_string_to_metric_families(prometheus_client.generate_latest(own).decode()):
        if not family.name.endswith("_created"):
            told.add((f"{family.name}_total" if family.type == "counter" else family.name,))
    text = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
    rows = re.findall(r"^\| `(cutover_\w+)` \| ([\w, ]*)\|", text, flags=re.MULTILINE)
    documented = {(name, *sorted(filter(None, re.split(r"[, ]+", labels)))) for name, labels in rows}
    assert told == documented
