"""The command on a real Prometheus with a day of history, and beside an operator's event loop.

The history is written by Prometheus' remote-write protocol (https://prometheus.io/docs/specs/prw/remote_write_spec/),
into a window that accepts what is old: two gateways, one of which restarts, with errors that come in clumps.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests.kit.remote_write import Series, filled_prometheus

from cutover.api.v1alpha1 import MigrationPlanSpec
from cutover.domain.plan import Plan
from cutover.ports.block_feed import BlockSubscription
from cutover.services.backtest_process import Backtests

ROOT = Path(__file__).resolve().parents[2]
HEROKU, SICK, NAMESPACE = "acme-pdf-1a2b3c.herokuapp.com", "acme-sick-1a2b3c.herokuapp.com", "istio-ingress"
INTERVAL, RATE, DAYS = 15, 30.0, 1.0
DRAIN = "logs"
#: Blocks of the drain's record in which messages were lost.
LOSSY = 60
BOUNDS = (50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, math.inf)
PLAN = (ROOT / "examples/minimal.yaml").read_text(encoding="utf-8")


def history(service: str, end: float) -> tuple[Series, dict[str, float]]:
    """Make up what two gateways counted of a service until ``end``; return it, and the truth."""
    rng = np.random.default_rng(7)
    scrapes = round(DAYS * 86_400 / INTERVAL)
    series: Series = {}
    truth = {"requests": 0.0, "errors": 0.0}
    # A dyno restarts now and then, and its requests fail at both gateways.
    ill = np.where(rng.random(scrapes) < 0.02, 0.15, 0.001)
    for number in range(2):
        first = end - scrapes * INTERVAL + 3.0 + 0.2 * number
        requests = rng.poisson(RATE / 2 * INTERVAL * (1 + 0.5 * np.sin(np.arange(scrapes) * math.tau / 5760)))
        # The sick one fails at a single gateway, for 90 s in every quarter of an hour.
        failing = (np.arange(scrapes) % 60 < 6) & (number == 0) & (service == SICK)
        errors = rng.binomial(requests, np.where(failing, 0.5, ill))
        waits = [rng.lognormal(math.log(80), 0.8, count) for count in requests]
        truth["requests"] += float(requests[1:].sum())
        truth["errors"] += float(errors[1:].sum())
        restart = scrapes // 2 if number == 0 else 0
        target = {
            "namespace": NAMESPACE,
            "pod": f"gw-{number}",
            "job": "gateways",
            "instance": f"10.0.0.{number}:15020",
        }
        common = {
            **target,
            "reporter": "source",
            "source_workload_namespace": NAMESPACE,
            "destination_service": service,
        }

        def counter(
            name: str, increments: Any, labels: dict[str, str], first: float = first, restart: int = restart
        ) -> None:
            values = np.concatenate([np.cumsum(increments[:restart]), np.cumsum(increments[restart:])])
            times = first + np.arange(len(values)) * INTERVAL
            key = tuple({"__name__": name, **labels}.items())
            series[key] = list(zip(times.tolist(), values.astype(float).tolist(), strict=True))

        series[tuple({"__name__": "up", **target}.items())] = [(first + n * INTERVAL, 1.0) for n in range(scrapes)]
        counter("istio_requests_total", requests - errors, {**common, "response_code": "200"})
        counter("istio_requests_total", errors, {**common, "response_code": "503"})
        for bound in BOUNDS:
            le = "+Inf" if bound == math.inf else f"{bound:g}"
            fast = np.array([int((wait <= bound).sum()) for wait in waits])
            counter("istio_request_duration_milliseconds_bucket", fast, {**common, "response_code": "200", "le": le})
    return series, truth


def as_the_drain_counts(series: Series) -> Series:
    """Return the history as two replicas of the drain export it, with messages that were lost in a part of the day."""
    names = {
        "up": "heroku_drain_serving",
        "istio_requests_total": "heroku_router_requests_total",
        "istio_request_duration_milliseconds_bucket": "heroku_router_service_seconds_bucket",
    }
    drained: Series = {}
    for key, samples in series.items():
        given = dict(key)
        labels = {name: given[name] for name in ("pod", "job", "instance")}
        labels |= {"__name__": names[given["__name__"]], "namespace": DRAIN, "app": "acme-pdf"}
        if "response_code" in given and "le" not in given:
            labels |= {"code": given["response_code"], "error": ""}
        if "le" in given:
            labels["le"] = given["le"] if given["le"] == "+Inf" else f"{float(given['le']) / 1000:g}"
        drained[tuple(labels.items())] = samples
        if given["__name__"] == "up" and given["pod"] == "gw-0":
            lost = labels | {"__name__": "heroku_drain_dropped_messages_total", "reason": "L10"}
            drained[tuple(lost.items())] = [
                (at, float(min(max(number - 3000, 0), LOSSY))) for number, (at, _) in enumerate(samples)
            ]
    return drained


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, float]]]:
    end = time.time() - 60
    healthy, truth = history(HEROKU, end)
    sick, _ = history(SICK, end)
    series = sick | healthy | as_the_drain_counts(healthy)
    with filled_prometheus(tmp_path_factory.mktemp("prometheus"), series) as url:
        yield url, truth


def run(url: str, *arguments: str, plan: str = PLAN) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cutover.cli.backtest", "--plan", "-", "--days", str(DAYS), *arguments],
        input=plan,
        env={**os.environ, "CUTOVER_PROMETHEUS_URL": url},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_table(filled: tuple[str, dict[str, float]]) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run(filled[0])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(done.stdout, done.stderr)
    print(f"CPU {after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime:.1f} s")
    assert done.returncode == 0, done.stderr
    assert "0 of 200: 0 %" in done.stdout
    assert "split            by 2 gateway instances" in done.stdout
    assert [line.split("%")[0].split() for line in done.stdout.splitlines() if "→" in line] == [
        ["10", "→", "25"],
        ["25", "→", "50"],
        ["50", "→", "100"],
    ]
    assert "read" in done.stderr
    assert "replayed 200 of 200 cutovers" in done.stderr


def test_all_requests_are_in_the_record(filled: tuple[str, dict[str, float]]) -> None:
    url, truth = filled
    done = run(url, "--json", "--quiet", "--runs", "2", "--split", "time")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    forecast = json.loads(done.stdout)["forecast"]
    assert forecast["unusable"] == 0
    # The day that is read begins and ends a moment before the one that was written.
    assert forecast["rate"] * forecast["record_seconds"] == pytest.approx(truth["requests"], rel=0.003)
    assert forecast["split"] == "time"


def test_the_record_of_the_drain_is_replayed_without_the_blocks_that_are_not_whole(
    filled: tuple[str, dict[str, float]],
) -> None:
    url, truth = filled
    done = run(url, "--json", "--quiet", "--runs", "2", "--split", "time", "--drain-namespace", DRAIN)
    assert done.returncode == 0, done.stderr
    forecast = json.loads(done.stdout)["forecast"]
    blocks = forecast["record_seconds"] / INTERVAL
    assert forecast["unusable"] * blocks == pytest.approx(LOSSY, abs=1.5)
    assert forecast["rate"] * forecast["record_seconds"] == pytest.approx(truth["requests"], rel=0.02)


def test_the_same_forecast_again(filled: tuple[str, dict[str, float]]) -> None:
    first, again = (json.loads(run(filled[0], "--json", "--runs", "3").stdout)["forecast"] for _ in range(2))
    # The record ends now; a few blocks later it is another one.
    assert abs(first["record_seconds"] - again["record_seconds"]) <= 60
    assert first["steps"][0]["weight"] == again["steps"][0]["weight"]


def test_a_service_that_will_not_do_is_told_by_the_exit_code(filled: tuple[str, dict[str, float]]) -> None:
    done = run(filled[0], "--service", SICK, "--runs", "50")
    assert done.returncode == 2, done.stdout
    assert "50 cutovers replayed on what acme-sick-1a2b3c.herokuapp.com did" in done.stdout


def test_where_nothing_gets_through_there_is_no_promise(filled: tuple[str, dict[str, float]]) -> None:
    body = yaml.safe_load(PLAN)
    body["spec"]["steps"] = [{"weight": 10, "hold": "0s", "timeout": "90s"}, {"weight": 25}, {"weight": 100}]
    done = run(filled[0], "--quiet", "--runs", "20", plan=yaml.safe_dump(body))
    assert done.returncode == 1, done.stdout
    assert "nothing got through" in done.stdout
    assert "The step at 10 % was not proven safe within 90 s in 20 runs" in done.stdout
    assert done.stderr == "cutover-backtest: no replayed cutover got through to 100 %\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--service", "other.herokuapp.com"], "0 requests of other.herokuapp.com at the gateways of istio-ingress"),
        (["--gateway-namespace", "elsewhere"], f"0 requests of {HEROKU} at the gateways of elsewhere"),
        (["--drain-namespace", "elsewhere"], "0 requests of acme-pdf at the drains of elsewhere"),
    ],
)
def test_traffic_that_is_not_there(filled: tuple[str, dict[str, float]], arguments: list[str], reason: str) -> None:
    done = run(filled[0], *arguments)
    assert done.returncode == 1
    assert reason in done.stderr


def test_a_plan_that_takes_longer_than_the_record(filled: tuple[str, dict[str, float]]) -> None:
    body = yaml.safe_load(PLAN)
    body["spec"]["steps"] = [{"weight": 10, "hold": "30h"}, {"weight": 100}]
    done = run(filled[0], "--quiet", plan=yaml.safe_dump(body))
    assert done.returncode == 1
    assert "and one cutover takes at least 30.0 h of it" in done.stderr


async def test_the_operators_loop_is_not_held_up(
    filled: tuple[str, dict[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUTOVER_PROMETHEUS_URL", filled[0])
    lags: list[float] = []

    async def watch() -> None:
        while True:
            due = time.perf_counter() + 0.02
            await asyncio.sleep(0.02)
            lags.append(time.perf_counter() - due)

    watching = asyncio.create_task(watch())
    spec = MigrationPlanSpec.from_wire(yaml.safe_load(PLAN)["spec"])
    target = BlockSubscription(HEROKU, "", (NAMESPACE,), None, None, INTERVAL, 0.0)
    began = time.perf_counter()
    status = await Backtests(days=DAYS).forecast(Plan("documents", "pdf", "", 1, spec), target)
    took = time.perf_counter() - began
    watching.cancel()
    lags.sort()
    print(f"{took:.1f} s; lag of the loop: median {1000 * lags[len(lags) // 2]:.1f} ms, most {1000 * lags[-1]:.1f} ms")
    assert (status.runs, status.false_rollbacks) == (200, 0), status.message
    assert [step.weight for step in status.steps] == [10, 25, 50]
    # Arithmetic of many seconds in this process would show as one lag of as long.
    assert lags[-1] < took / 4
