"""The dashboard *plan*: one migration, with both legs side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from grafana_foundation_sdk.models import dashboard as models

from cutover.domain.evidence.answers import ERROR_CODES, NOBODYS_CODES
from cutover.domain.evidence.judge import GateRules
from cutover.domain.slo.promql import render
from cutover.domain.verdicts import Verdict
from dashboards import fleet
from dashboards.board import (
    EKS,
    HEROKU,
    HURTS,
    OK,
    WAITS,
    WARNS,
    Annotation,
    Board,
    Query,
    chart,
    number,
    timeline,
)

UID = "cutover-plan"
_LIBRARY = Path(__file__).parents[2] / "charts" / "cutover" / "files" / "gate-templates"
_PLAN = 'namespace="$namespace", plan="$plan"'
_LEGS = {HEROKU: "$heroku_service", EKS: "$eks_service"}
_RULES = GateRules()
_ANSWERED = f'response_code!~"{NOBODYS_CODES}"'
#: Names of the answers' classes, by their codes.
_CODES = {"2..": "2xx", "3..": "3xx", "4..": "4xx", "5..": "5xx"}
_VERDICTS = {
    Verdict.PASS: OK,
    Verdict.UNDECIDED: WAITS,
    Verdict.INSUFFICIENT_TRAFFIC: WAITS,
    Verdict.NO_DATA: WARNS,
    Verdict.QUERY_ERROR: WARNS,
    Verdict.AMBIGUOUS: WARNS,
    Verdict.FAIL: HURTS,
}


def _counter(metric: str, leg: str, *more: str) -> str:
    """Return the selector of a leg's counters at the gateways, as the gates count them."""
    matchers = (
        'reporter="source"',
        'source_workload_namespace=~"$gateway_namespaces"',
        'namespace=~"$gateway_namespaces"',
        f'destination_service="{_LEGS[leg]}"',
    )
    return f"{metric}{{{', '.join((*matchers, *more))}}}"


def _requests(leg: str, *more: str, window: str = "$__rate_interval") -> str:
    return f"sum(rate({_counter('istio_requests_total', leg, _ANSWERED, *more)}[{window}]))"


def _errors(leg: str, window: str = "$__rate_interval") -> str:
    """Return the fraction of a leg's answers that are errors; 0 where there are answers and no errors."""
    failed = _requests(leg, f'response_code=~"{ERROR_CODES}"', window=window)
    return f"({failed} or 0 * {_requests(leg, window=window)}) / ({_requests(leg, window=window)} > 0)"


def _quantile(leg: str, quantile: float) -> str:
    buckets = _counter("istio_request_duration_milliseconds_bucket", leg, _ANSWERED)
    return f"histogram_quantile({quantile}, sum by (le) (rate({buckets}[$__rate_interval])))"


def _slower(leg: str, bound: str) -> str:
    """Return the fraction of a leg's answers that are slower than a threshold; a bound may be written 250 or 250.0."""
    times = partial(_counter, "istio_request_duration_milliseconds_bucket", leg, _ANSWERED)
    fast, all_of_them = (
        f"sum(rate({times(le)}[$__rate_interval]))" for le in (f'le=~"${{{bound}}}([.]0)?"', 'le="+Inf"')
    )
    return f"1 - {fast} / ({all_of_them} > 0)"


def _of_library(name: str, **given: str) -> tuple[str, float | None]:
    """Return a gate template's query with Grafana's variables, and its limit."""
    bound, parameters = _template(name)
    values = {one["name"]: one.get("default", "") for one in parameters} | given
    # Only whole values are taken: a variable's sign would be escaped.
    values |= {"namespace": "VARnamespace", "workload": "VARworkload"}
    query = render(bound["query"], {key: value.replace("$", "VAR") for key, value in values.items()})
    limit = values.get("max")
    return query.replace("VAR", "$"), float(limit) if limit else None


def _template(name: str) -> tuple[Mapping[str, Any], list[Mapping[str, str]]]:
    spec = yaml.safe_load((_LIBRARY / f"{name}.yaml").read_text(encoding="utf-8"))["spec"]
    return spec["bound"], spec["parameters"]


def _library(title: str, description: str, name: str, unit: str, **given: str) -> Any:
    query, limit = _of_library(name, **given)
    limits = () if limit is None else (limit,)
    return chart(title, description, Query(query, name), unit=unit, width=8, limits=limits)


def _quantiles(leg: str) -> Any:
    return chart(
        f"{leg}: times of answers",
        f"Half, 95 and 99 of 100 answers of {leg} were faster, as the gateway measures them. The dashed lines are the thresholds"
        " of the plan, or those that the baseline chose: what is slower counts as slow, and as very slow.",
        *(Query(_quantile(leg, q), f"{leg} p{100 * q:g}") for q in (0.5, 0.95, 0.99)),
        Query("vector(${slow_ms}+0) > 0", "slow"),
        Query("vector(${very_slow_ms}+0) > 0", "very slow"),
        unit="ms",
    )


def _mix(leg: str) -> Any:
    return chart(
        f"{leg}: mix of answers",
        "Answers by class, as a share of all. Both legs get the same mix of requests, so a difference comes from the"
        " legs: a 4xx more on EKS may be everybody signed out.",
        *(
            Query(
                f"({_requests(leg, f'response_code=~{chr(34)}{codes}{chr(34)}')} or 0 * {_requests(leg)})"
                f" / ({_requests(leg)} > 0)",
                name,
            )
            for codes, name in _CODES.items()
        ),
        unit="percentunit",
        stacked=True,
        maximum=1,
    )


def _both(ask: Any, *arguments: str) -> tuple[Query, Query]:
    return Query(ask(HEROKU, *arguments), HEROKU), Query(ask(EKS, *arguments), EKS)


def _annotations() -> tuple[Annotation, ...]:
    changed = f"max by (namespace, plan) (changes(cutover_desired_weight_percent{{{_PLAN}}}[1m])) > 0"
    weight = f"max by (namespace, plan) (cutover_desired_weight_percent{{{_PLAN}}})"
    return (
        Annotation(
            "weight",
            f'count_values by (namespace, plan) ("weight", {weight} and ({changed}))',
            WAITS,
            "EKS {{weight}} %",
        ),
        Annotation(
            "rollback",
            # The phase may be over before the next scrape.
            f"max by (namespace, plan) (increase(cutover_rollbacks_total{{{_PLAN}}}[1m])) > 0",
            HURTS,
            "rollback to Heroku",
        ),
        Annotation("hold", f"max by (reason) (cutover_held{{{_PLAN}}}) == 1", WARNS, "held: {{reason}}", "reason"),
    )


def board() -> models.Dashboard:
    """Return the dashboard."""
    made = Board(
        UID,
        "Cutover: plan",
        "One migration from Heroku to EKS: where it is and why, and both legs side by side.",
        since="now-3h",
        links=[("All plans", f"/d/{fleet.UID}")],
    )
    made.choose("namespace", "Namespace", "label_values(cutover_phase, namespace)")
    made.choose("plan", "Plan", 'label_values(cutover_phase{namespace="$namespace"}, plan)')
    for label in (
        *("app", "workload", "heroku_service", "eks_service", "gateway_namespaces"),
        *("slow_ms", "very_slow_ms"),
    ):
        made.derive(label, f"label_values(cutover_plan_info{{{_PLAN}}}, {label})")
    made.offer("objective", "Objective in %", ("99", "99.5", "99.9", "99.95"), "99.9")
    made.choose("pgbouncer_job", "PgBouncer's job", "label_values(pgbouncer_pools_client_waiting_connections, job)")
    made.choose("postgres_job", "Postgres' job", "label_values(pg_stat_activity_count, job)")
    made.annotate(*_annotations())
    _where(made)
    _legs(made)
    _new_ground(made)
    _record(made)
    return made.build()


def _where(made: Board) -> None:
    weight, share = (
        f"max(cutover_desired_weight_percent{{{_PLAN}}})",
        f"max(cutover_observed_share_percent{{{_PLAN}}})",
    )
    made.row(
        "Where it is, and why",
        number("Phase", "The plan's phase.", Query(f"cutover_phase{{{_PLAN}}} == 1", "{{phase}}"), names=True),
        number(
            "Held",
            "Why the plan does not move. docs/holds.md says what to do about each reason.",
            Query(f"cutover_held{{{_PLAN}}} == 1", "{{reason}}"),
            names=True,
            nothing="not held",
        ),
        number("EKS", "Percent of requests meant for EKS.", Query(weight), unit="percent"),
        number(
            "Seen",
            "Percent of requests that the gateway counts for EKS since the weight was decided.",
            Query(share),
            unit="percent",
        ),
        number(
            "Way to the next step",
            "Evidence of safety, as a share of what the next step needs (on the scale of its logarithm).",
            Query(
                f"clamp(ln(max(cutover_evidence_of_safety{{{_PLAN}}})) / {math.log(_RULES.safety_limit):.4f}, 0, 1)"
            ),
            unit="percentunit",
            nothing="not judged",
        ),
        number(
            "Rollbacks",
            "Rollbacks in the range of time that is shown.",
            Query(f"round(sum(increase(cutover_rollbacks_total{{{_PLAN}}}[$__range])))"),
            colours=((None, OK), (1, WARNS)),
        ),
        chart(
            "Weight and share",
            "What was decided, and what the gateway counts. A share that does not follow its weight holds the plan.",
            Query(weight, "EKS decided"),
            Query(share, "EKS seen"),
            unit="percent",
            steps=True,
            maximum=100,
        ),
        chart(
            "Evidence",
            "Harm at 100 rolls back (1 over the plan's falseRollbackRate), safety at 20 lets the next step begin. Both begin at 1.",
            Query(f"max(cutover_evidence_of_harm{{{_PLAN}}})", "harm"),
            Query(f"max(cutover_evidence_of_safety{{{_PLAN}}})", "safety"),
            logarithmic=True,
            limits=(_RULES.safety_limit, _RULES.harm_limit),
        ),
        timeline(
            "Gates",
            "The verdict of each gate. Only fail leads back, and only pass of all gates leads on.",
            Query(
                "max by (gate) ("
                + " or ".join(
                    f'{value} * cutover_verdict{{{_PLAN}, verdict="{verdict}"}}'
                    for value, verdict in enumerate(_VERDICTS, 1)
                )
                + ")",
                "{{gate}}",
            ),
            states={
                str(value): (str(verdict), colour) for value, (verdict, colour) in enumerate(_VERDICTS.items(), 1)
            },
        ),
        timeline(
            "Holds",
            "When the plan was held, and why.",
            Query(f"max by (reason) (cutover_held{{{_PLAN}}})", "{{reason}}"),
            states={"1": ("held", WARNS)},
        ),
    )


def _legs(made: Board) -> None:
    made.row(
        "Both legs, side by side",
        chart(
            "Requests",
            "What the gateways sent to each leg. Long-lived connections and clients that left are not counted.",
            *_both(_requests),
            unit="reqps",
        ),
        chart(
            "Errors",
            "The share of each leg's answers that are errors (5xx; of Heroku also 421 and 495).",
            *_both(_errors),
            unit="percentunit",
        ),
        _mix(HEROKU),
        _mix(EKS),
        _quantiles(HEROKU),
        _quantiles(EKS),
        chart(
            "Slow answers",
            "The share of each leg's answers that are slower than the plan's threshold, or else than the one that 95 of a hundred"
            " of Heroku's own kept in the baseline. This is what the gate compares.",
            *_both(_slower, "slow_ms"),
            unit="percentunit",
        ),
        chart(
            "Burn of the error budget",
            "How fast each leg burns the budget of the objective, over an hour: at 1 it is used up exactly at the end of the"
            " period, at 14.4 a fiftieth of a month's budget goes in an hour.",
            *(Query(f"({_errors(leg, '1h')}) / (1 - $objective / 100)", leg) for leg in (HEROKU, EKS)),
            limits=(1, 14.4),
        ),
    )


def _new_ground(made: Board) -> None:
    postgres = {"job": "$postgres_job"}
    made.row(
        "What dynos did not have: the workload on EKS, and the cluster",
        _library("CPU throttling", "Share of the 100 ms periods in which the worst container was stopped for its CPU limit; the line is the gate's limit.", "cpu-throttling", "percentunit"),
        _library("Memory of its limit", "Of the worst container: at 1 it is killed.", "memory-near-limit", "percentunit"),
        _library("Restarts", "Restarts of the workload's containers in ten minutes.", "pod-restarts", "short"),
        _library("DNS: NXDOMAIN", "Share of CoreDNS' answers, in the whole cluster: high where ndots makes several queries of one.", "dns-amplification", "percentunit"),
        _library("DNS: queries", "CoreDNS' queries per second, in the whole cluster.", "dns-load", "reqps"),
        _library("Pods that started before their sidecar", "Their first connections are refused.", "sidecar-start", "short"),
        _library("Connections to Postgres", "Of max_connections. Dynos and pods hold their pools side by side during the cutover.", "connection-budget", "percentunit", **postgres),
        _library("Clients that wait in PgBouncer", "For a connection to Postgres.", "pgbouncer-waiting", "short", job="$pgbouncer_job"),
        _library("Lag of Postgres' replicas", "Seconds that the worst replica is behind.", "replication-lag", "s", **postgres),
    )  # fmt: skip


def _record(made: Board) -> None:
    router = 'heroku_router_requests_total{app="$app"'

    def times(quantile: float, kind: str = "service") -> str:
        rate = f'rate(heroku_router_{kind}_seconds_bucket{{app="$app"}}[$__rate_interval])'
        return f"histogram_quantile({quantile}, sum by (le) ({rate}))"

    made.row(
        "Heroku's own record, where the drain runs",
        chart(
            "Requests at Heroku's router",
            "By the answer's status and Heroku's error code. They include what comes to Heroku past the gateway.",
            Query(f"sum by (code, error) (rate({router}}}[$__rate_interval]))", "{{code}} {{error}}"),
            unit="reqps",
            stacked=True,
        ),
        chart(
            "Times at Heroku's router",
            "Service time, and the time until a dyno took the request. They leave out TLS and the way through the Internet.",
            *(Query(times(q), f"p{100 * q:g}") for q in (0.5, 0.95, 0.99)),
            Query(times(0.95, "connect"), "connect p95"),
            unit="s",
        ),
        chart(
            "Memory of dynos",
            "Above the quota a dyno swaps (R14), and is killed at twice of it (R15). It says what pods need.",
            Query('max by (dyno) (heroku_dyno_memory_total_bytes{app="$app"})', "{{dyno}}"),
            Query('max(heroku_dyno_memory_quota_bytes{app="$app"})', "quota"),
            unit="bytes",
        ),
        chart(
            "Events of dynos",
            "Errors such as R14, restarts and crashes.",
            Query('sum by (event) (increase(heroku_dyno_events_total{app="$app"}[$__rate_interval]))', "{{event}}"),
        ),
        chart(
            "Messages that are missing in this record",
            "Above 0 the minute is not a whole minute of record.",
            Query(
                'sum by (reason) (increase(heroku_drain_dropped_messages_total{app="$app"}[$__rate_interval]))',
                "{{reason}}",
            ),
        ),
        folded=True,
    )
