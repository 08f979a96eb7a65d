"""What is asked of Prometheus for a report, and what becomes of its answers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import promql_parser
import pytest
from tests.kit.builders import HEROKU_HOST, plan
from tests.kit.reports import AT, START, completed, entry, record_of, rolled_back

from cutover.adapters.dialects.istio.history import IstioHistory
from cutover.adapters.dialects.kubernetes.usage import PodUsage, throttled
from cutover.api.v1alpha1 import MigrationPlanStatus
from cutover.domain.baseline.used import Quantity
from cutover.domain.traffic import Leg
from cutover.ports.errors import QueryFailed, Unavailable
from cutover.report.compose import compose
from cutover.report.history import Figures, History, Measure
from cutover.report.page import Chart
from cutover.report.record import Record
from cutover.report.spans import AT_FULL
from cutover.services.history import POINTS, with_history

EKS = "pdf.docs.svc.cluster.local"
QUERIES = IstioHistory()


class PlayedPrometheus:
    """Answers each query by a function of its text."""

    def __init__(self, answer: Callable[[str], Any]) -> None:
        self.answer = answer
        self.asked: list[tuple[str, float, float, float]] = []

    async def query_range(self, promql: str, start: float, end: float, step: float) -> Any:
        self.asked.append((promql, start, end, step))
        return self.answer(promql)

    async def query(self, promql: str, at: float) -> Any:
        self.asked.append((promql, at, at, 0.0))
        return self.answer(promql)


def both(query: str) -> list[dict[str, Any]]:
    """Answer with both legs, as lines and as single values; Heroku is twice EKS. Nothing tells what was used."""
    if query.startswith("label_replace"):
        return []
    return [
        {
            "metric": {"destination_service": name},
            "values": [[1_799_661_620.0, str(value)], [1_799_661_630.0, "NaN"], [1_799_661_640.0, str(value)]],
            "value": [0, str(value)],
        }
        for name, value in ((HEROKU_HOST, 2.0), (EKS, 1.0))
    ]


async def asked(record: Record, answer: Callable[[str], Any]) -> tuple[History, PlayedPrometheus]:
    server = PlayedPrometheus(answer)
    found = (await with_history(record, server, QUERIES, PodUsage())).history  # type: ignore[arg-type]
    assert found is not None
    return found, server


async def test_lines_and_figures_are_those_of_the_legs() -> None:
    history, server = await asked(completed(), both)
    assert set(history.lines) == set(Measure)
    heroku, eks = history.lines[Measure.RATE]
    assert (heroku.leg, eks.leg) == (Leg.HEROKU, Leg.EKS)
    # Five stretches, each with the same answer; what is no number is left out.
    assert heroku.points == 5 * ((1_799_661_620.0, 2.0), (1_799_661_640.0, 2.0))
    by_label = {(one.label, one.leg): figures for one, figures in history.figures}
    assert by_label["side by side at 50 %", Leg.HEROKU] == Figures(2.0, 2.0, 2.0, 2.0, 2.0)
    assert by_label["side by side at 50 %", Leg.EKS] == Figures(1.0, 1.0, 1.0, 1.0, 1.0)
    assert history.problems == ()
    # Few queries: for each of five stretches one of each measure and one of throttling; and five figures for each of five spans,
    # of both legs at once; and one of all that is used at 100 %.
    assert len(server.asked) == 5 * 4 + 5 * 5 + 1


async def test_a_line_has_few_points_however_long_the_cutover_took() -> None:
    _, server = await asked(completed(), both)
    for number in range(4):
        stretches = server.asked[5 * number : 5 * number + 5]
        assert sum((end - start) / step for _, start, end, step in stretches) <= POINTS + 5
    # Where there are many, as after many attempts, the axis is asked for as a whole.
    many = tuple(
        entry("Advance" if one % 2 else "RollBack", at=AT + timedelta(minutes=one), to_weight=10 * (one % 2))
        for one in range(30)
    )
    _, server = await asked(record_of(MigrationPlanStatus(ledger=many, attempt=1), AT + timedelta(hours=1)), both)
    assert len(server.asked) < 4 + 5 * 5
    assert all((end - start) / step <= POINTS + 1 for _, start, end, step in server.asked[:4])


async def test_the_steps_of_a_long_cutover_have_points_of_their_own() -> None:
    ledger = (
        entry("TakeOver"),
        entry("Advance", at=AT + timedelta(days=2), to_weight=10),
        entry("Advance", at=AT + timedelta(days=2, minutes=15), to_weight=100),
        entry("Complete", at=AT + timedelta(days=3), from_weight=100, to_weight=100),
    )
    _, server = await asked(record_of(MigrationPlanStatus(ledger=ledger, attempt=1), AT + timedelta(days=4)), both)
    _, start, end, step = server.asked[1]
    assert end - start == 900
    assert (end - start) / step >= 15


async def test_points_that_are_far_apart_are_not_joined() -> None:
    def answer(query: str) -> Any:
        values = [[START + second, "1"] for second in (0, 15, 30, 200, 215)]
        return [{"metric": {"destination_service": EKS}, "values": values, "value": [0, "1"]}]

    history, _ = await asked(completed(), answer)
    (line,) = history.lines[Measure.RATE]
    assert [math.isnan(value) for _, value in line.points[:6]] == [False, False, False, True, False, False]
    svg = next(
        one.svg
        for part in compose(replace(completed(), history=history)).sections
        for one in part.blocks
        if isinstance(one, Chart) and one.title.startswith("Requests")
    )
    (path,) = re.findall(r'class="line-eks" d="([^"]+)"', svg)
    assert path.count("M") > 1


async def test_what_eks_used_at_100_percent_is_asked_for_at_once() -> None:
    def answer(query: str) -> Any:
        if not query.startswith("label_replace"):
            return both(query)
        values = {"memory": "4e8", "load": "0.7", "dns": "NaN", "throttled": "0.01"}
        return [{"metric": {"what": what}, "value": [0, value]} for what, value in values.items()]

    history, server = await asked(completed(), answer)
    assert history.used == {Quantity.MEMORY: 4e8, Quantity.LOAD: 0.7, Quantity.THROTTLED: 0.01}
    (query, at) = next((query, end) for query, _, end, _ in server.asked if query.startswith("label_replace"))
    (full,) = (one for one, _ in history.figures if one.label == AT_FULL)
    assert at == full.until
    assert f"[{full.until - full.since:.0f}000ms]" in query
    for nonsense in ([{"metric": {"what": "tea"}, "value": [0, "1"]}], [{"metric": {}}]):
        odd, _ = await asked(
            completed(), lambda query, odd=nonsense: odd if query.startswith("label_replace") else both(query)
        )
        assert odd.used == {}
        assert "not understood" in odd.problems[0]


async def test_without_requests_nothing_more_is_asked_of_a_span() -> None:
    history, server = await asked(completed(), lambda _: [])
    assert len(server.asked) == 5 * 4 + 5 + 1
    assert {figures for _, figures in history.figures} == {Figures()}
    assert history.lines == dict.fromkeys(Measure, ())


async def test_a_query_that_fails_leaves_a_gap_and_a_reason() -> None:
    def answer(query: str) -> Any:
        if "histogram_quantile" in query:
            raise QueryFailed("too many samples")
        return both(query)

    history, _ = await asked(rolled_back(), answer)
    assert set(history.lines) == {Measure.RATE, Measure.ERRORS}
    assert history.problems == ("too many samples",)


async def test_an_outage_ends_the_questions_and_is_told() -> None:
    def answer(query: str) -> Any:
        raise Unavailable("Prometheus cannot be connected to")

    history, server = await asked(completed(), answer)
    assert len(server.asked) == 1
    assert history.problems == ("Prometheus cannot be connected to",)
    assert history.figures == ()


@pytest.mark.parametrize("odd", [[{}], [{"metric": {}, "value": None}], [{"metric": {}, "values": [["x"]]}], ["?"]])
async def test_an_answer_that_is_not_understood_is_a_reason(odd: Any) -> None:
    history, _ = await asked(completed(), lambda _: odd)
    assert history.problems
    assert "not understood" in history.problems[0]


async def test_a_plan_without_decisions_asks_nothing() -> None:
    record = record_of(MigrationPlanStatus())
    server = PlayedPrometheus(both)
    assert await with_history(record, server, QUERIES, PodUsage()) is record  # type: ignore[arg-type]
    assert server.asked == []


def test_queries_are_promql_and_ask_for_the_plans_legs_at_its_gateways() -> None:
    of = plan()
    queries = [
        *(QUERIES.measure(of, measure, 60.0) for measure in Measure),
        *QUERIES.figures(of, 3600.0).values(),
        throttled(of, 60.0),
    ]
    for query in queries:
        promql_parser.parse(query)
    for query in queries[:-1]:
        assert HEROKU_HOST.replace(".", r"\\.") in query
        assert 'source_workload_namespace=~"istio-ingress"' in query
        assert 'namespace=~"istio-ingress"' in query
    assert 'pod=~"pdf-[^-]+-[^-]+"' in queries[-1]
    assert 'namespace=~"docs"' in queries[-1]
