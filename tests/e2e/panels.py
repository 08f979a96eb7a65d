"""The chart's dashboards, asked of the Prometheus that scrapes the gateway and the operator."""

from __future__ import annotations

import time

from tests.kit.dashboards import BOARDS, EXPORTED, Grafana, queries

from sandbox.environment import Environment
from sandbox.manifests import NAMESPACE

Query = tuple[str, str, str]

#: What is shown of a plan that is held.
OF_A_HOLD: set[Query] = {
    ("fleet", "Plans, those in trouble first", "G"),
    ("fleet", "Plans by reason of the hold", "A"),
    ("plan", "Held", "A"),
    ("plan", "Holds", "A"),
    ("plan", "annotation", "hold"),
}
#: What marks a rollback.
OF_A_ROLLBACK: Query = ("plan", "annotation", "rollback")
#: What the operator tells only once something went wrong.
OF_FAILURES: set[Query] = {("fleet", "Failed requests of the operator", "A"), ("fleet", "Notifications", "B")}


def empty(environment: Environment, plan: str, seconds: float) -> set[Query]:
    """Return the queries of both dashboards that have no data, as dashboard, panel and letter.

    Parameters
    ----------
    plan
        The plan that a person looks at.
    seconds
        Length of the range of time until now that is shown.
    """
    grafana = Grafana(environment.stack.prometheus_url, time.time(), seconds, namespace=NAMESPACE, plan=plan)
    # tests/prometheus/test_dashboards.py plays the exporters that there are none of here.
    return {
        (asked.board, asked.panel, asked.ref)
        for board in BOARDS
        for asked in queries(board)
        if not EXPORTED.search(asked.expr) and not grafana.shown(asked)
    }
