"""Heroku's record of two weeks before a whole cutover: waited for, kept, and compared with what comes after the takeover."""

from __future__ import annotations

import json
import time

import httpx
import pytest
from tests.kit.remote_write import write

from cutover.domain.baseline.document import KEY, LONGEST
from cutover.report.week import read_week
from sandbox import manifests
from sandbox.environment import Environment
from sandbox.manifests import NAMESPACE

from .observing import plan
from .playing import path, scenario, start
from .recorded import DAYS, PEAK, QUOTA, RATE, RECORDED, apart_from, between, two_weeks

DAY = 86_400.0
#: Days before the end between which nothing was scraped, until that is written too.
HOLE = (8.0, 7.0)
#: It is not about the judge: what is proven soon is enough.
GATES = {
    "block": "5s",
    "warmUp": "5s",
    "slos": [{"name": "errors", "errors": {"advance": {"ratio": 1.5, "margin": 0.02}}}],
}


@scenario(RECORDED, minutes=2.5)
def test_two_weeks_are_waited_for_and_the_takeover_is_judged_by_them(environment: Environment) -> None:
    """With a day missing the plan is held; with it users are moved, as Heroku answers as it did in the same hours."""
    began = time.time()
    series = two_weeks(f"acme-{RECORDED}", began)
    hole = (began - HOLE[0] * DAY, began - HOLE[1] * DAY)
    steps = [{"weight": 50, "hold": "5s"}, {"weight": 100, "hold": "5s"}]
    with httpx.Client(trust_env=False, timeout=60) as http:
        write(http, environment.stack.prometheus_url, apart_from(series, *hole))
        baseline = {"source": "Drain", "window": f"{DAYS}d"}
        start(environment, plan(RECORDED, GATES, baseline=baseline, steps=steps, soak="5s"))
        environment.until_status(RECORDED, 120, reason="BaselineIncomplete")
        status = environment.status(RECORDED)
        assert "93% of 14d are recorded by Heroku's logs" in status["message"]
        assert "without 24.0 h in between" in status["message"]
        assert status.get("weight") is None, "users go as they went before"
        write(http, environment.stack.prometheus_url, between(series, *hole))
    # It asks again once an hour, or when the plan is edited: here more is asked of the record.
    environment.patch(RECORDED, {"spec": {"baseline": {"minCoverage": 0.97}}})
    environment.until_status(RECORDED, 480, phase="Completed")

    status = environment.status(RECORDED)
    assert path(status) == [50, 100]
    baseline = status["baseline"]
    assert baseline["takeover"]["verdict"] == "Alike", baseline["takeover"]
    record = baseline["record"]
    assert record["coverage"] > 0.99
    assert record["requests"] == pytest.approx(DAYS * 1440 * RATE, rel=0.01)
    assert record["errors"] == pytest.approx(0.001, rel=0.05)
    assert record["releases"] == 1
    kept = environment.api.call(f"/api/v1/namespaces/{NAMESPACE}/configmaps/{record['configMap']}")
    assert kept["immutable"] is True
    assert kept["metadata"]["ownerReferences"][0]["name"] == RECORDED
    text = kept["data"][KEY]
    found = json.loads(text)
    print(
        f"{RECORDED}: held and Completed after {time.time() - began:.0f} s, a record of {len(text.encode()) / 1024:.0f} KiB"
    )
    assert len(text.encode()) < LONGEST
    assert found["plan"] == f"{NAMESPACE}/{RECORDED}"
    assert found["app"] == f"acme-{RECORDED}"
    assert (found["from"], found["until"]) == (record["since"], record["until"])
    assert found["holes"] == [] or sum(one["missingMinutes"] for one in found["holes"]) < 60
    memory = found["used"]["memoryMiB"]
    assert (memory["usual"], memory["most"], memory["quota"]) == (384, PEAK, QUOTA)
    assert found["used"]["connections"]["limit"] == 400
    assert [(one["version"], one["at"]) for one in found["releases"]["newest"]] == [(43, record["lastRelease"])]
    week = read_week(text)
    assert week is not None
    assert len(week.hours) == 168
    assert manifests.heroku_hostname(RECORDED) not in text, "it has counts, and no names but the app's"
