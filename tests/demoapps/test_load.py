"""The load: its arrivals, and that its record shows each knob's effect."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from demoapps.apps import DemoApps
from demoapps.load import Config, Load, Target
from demoapps.records import Record, RecordLog, digest_of

from .conftest import H12_S

PDF = "pdf.example.com"
HEROKU = "acme-pdf-1a2b3c.herokuapp.com"


def eks_load(apps: DemoApps, state_dir: Path, rate: float, **options: float) -> Load:
    """Return a load on the EKS leg's pdf alone."""
    gateway = f"http://127.0.0.1:{apps.eks_ports['pdf']}"
    return Load(state_dir, gateway, [Target(PDF, rate)], seed=7, **options)  # type: ignore[arg-type]


def heroku_load(apps: DemoApps, state_dir: Path, rate: float) -> Load:
    """Return a load on the Heroku leg's pdf alone."""
    gateway = f"https://127.0.0.1:{apps.heroku_port}"
    return Load(state_dir, gateway, [Target(HEROKU, rate)], ca_file=apps.ca_file, seed=7)


def test_arrivals_are_poisson_and_follow_the_rate(apps: DemoApps, tmp_path: Path) -> None:
    with eks_load(apps, tmp_path, 300) as load:
        began = time.time()
        time.sleep(1.2)
        changed = load.set_rate(PDF, 50)
        time.sleep(0.8)
        paused = load.set_rate(PDF, 0)
        time.sleep(0.3)
        fast = load.records(PDF, began, changed)
        slow = load.records(PDF, changed, paused)
        assert not load.records(PDF, paused)
    # Counts of a Poisson process: four standard deviations.
    assert len(fast) == pytest.approx(300 * (changed - began), rel=4 / math.sqrt(360))
    assert len(slow) == pytest.approx(50 * (paused - changed), rel=4 / math.sqrt(40))
    gaps = sorted(after.at - before.at for before, after in pairwise(fast))
    # Kolmogorov-Smirnov against the exponential distribution, p = 0.001.
    n = len(gaps)
    distance = max(
        max(abs((i + 1) / n - cdf), abs(i / n - cdf)) for i, cdf in enumerate(1 - math.exp(-300 * gap) for gap in gaps)
    )
    assert distance < 1.95 / math.sqrt(n)


def test_latency_counts_from_when_a_request_was_due(apps: DemoApps, tmp_path: Path) -> None:
    with eks_load(apps, tmp_path, 100) as load:
        pid = json.loads((tmp_path / "load.json").read_text())["pid"]
        time.sleep(0.3)
        os.kill(pid, signal.SIGSTOP)
        stalled = time.time()
        time.sleep(0.5)
        resumed = time.time()
        os.kill(pid, signal.SIGCONT)
        load.settle(resumed)
        late = load.records(PDF, stalled, resumed)
    assert len(late) == pytest.approx(100 * (resumed - stalled), rel=4 / math.sqrt(50)), (
        "what was due in a stall is not left out"
    )
    assert all(record.at + record.latency > resumed for record in late)
    assert all(record.sent_latency < record.latency for record in late)


def test_every_request_is_on_record_once(apps: DemoApps, tmp_path: Path) -> None:
    before = apps.stats("eks")["pdf"]["requests"]
    with eks_load(apps, tmp_path, 150) as load:
        time.sleep(0.8)
        at = load.set_rate(PDF, 0)
        load.settle(at)
        status = load.status()[PDF]
        records = load.records(PDF)
    assert status["scheduled"] == status["completed"] == len(records) > 70
    assert apps.stats("eks")["pdf"]["requests"] - before == len(records)
    assert {(record.leg, record.status, record.reason) for record in records} == {("eks", 200, "")}
    assert all(record.latency >= record.sent_latency - 1e-5 > 0.003 for record in records)


@pytest.mark.parametrize(("ratio", "connections"), [(0.0, range(1, 21)), (1.0, range(21, 1000))])
def test_users_come_and_go(tmp_path: Path, ratio: float, connections: range) -> None:
    """Each request on a connection of its own where that is asked for; none is lost by it."""
    peers: set[tuple[str, int]] = set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            peers.add(self.client_address)
            self.send_response(204)
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        gateway = f"http://127.0.0.1:{server.server_port}"
        # On a busy machine requests are answered late, and each under way has a connection: so many, and no more.
        with Load(tmp_path, gateway, [Target(PDF, 100)], seed=7, new_connection_ratio=ratio, max_in_flight=20) as load:
            time.sleep(1)
            load.settle(load.set_rate(PDF, 0))
            total = load.summary(PDF).total
        server.shutdown()
    assert total.failed == 0
    assert len(peers) in connections
    assert (len(peers) == total.requests) is (ratio == 1.0)


def test_errors_and_a_slow_tail_show(apps: DemoApps, tmp_path: Path) -> None:
    with eks_load(apps, tmp_path, 200) as load:
        time.sleep(0.3)
        onset = apps.knobs("eks", "pdf").set(error_ratio=0.3, slow_ratio=0.2, slow_ms=400)
        time.sleep(1.2)
        over = apps.knobs("eks", "pdf").reset()
        time.sleep(0.4)
        load.settle(over + 0.4)
        well = load.summary(PDF, until=onset - 0.1, slow_s=0.3)
        sick = load.summary(PDF, onset, over - 0.1, slow_s=0.3)
        again = load.summary(PDF, over + 0.1, slow_s=0.3)
    assert well.total.harmed == again.total.harmed == 0
    eks = sick.leg("eks")
    assert eks.requests == sick.total.requests
    assert eks.error_ratio == pytest.approx(0.3, abs=0.12)
    assert eks.slow / eks.requests == pytest.approx(0.2 * 0.7, abs=0.09)
    assert set(eks.statuses) == {200, 500}
    assert eks.quantiles[0.5] < 0.1
    assert 0.4 < eks.quantiles[0.95] < 0.8
    assert sick.eks_share == 1.0


def test_refused_connections_show(apps: DemoApps, tmp_path: Path) -> None:
    with eks_load(apps, tmp_path, 150) as load:
        time.sleep(0.25)
        onset = apps.knobs("eks", "pdf").set(refuse=True)
        time.sleep(0.5)
        over = apps.knobs("eks", "pdf").set(refuse=False)
        time.sleep(0.5)
        load.settle(load.set_rate(PDF, 0))
        records = load.records(PDF)
    # On a busy machine requests are sent after they were due.
    refused = [one for one in records if onset + 0.02 < sent(one) and one.at + one.latency < over - 0.02]
    assert {(one.status, one.reason) for one in refused} == {(0, "connect")}
    after = [one for one in records if sent(one) > over + 0.02]
    assert {one.status for one in after} == {200}


def sent(record: Record) -> float:
    """Return when a request was sent, in unix seconds."""
    return record.at + record.latency - record.sent_latency


def test_a_hang_times_out_counts_from_due_and_sheds_honestly(apps: DemoApps, tmp_path: Path) -> None:
    with eks_load(apps, tmp_path, 100, timeout_s=0.5, max_in_flight=30) as load:
        time.sleep(0.4)
        onset = apps.knobs("eks", "pdf").set(hang=True)
        time.sleep(1.6)
        over = apps.knobs("eks", "pdf").set(hang=False)
        load.settle(over)
        # Long before the hang ended: on a busy machine requests are sent after they were due, and time out later than asked.
        since, until = onset + 0.01, over - 1
        hung = load.records(PDF, since, until)
        summary = load.summary(PDF, since, until)
    reasons = {record.reason for record in hung}
    assert reasons == {"timeout", "shed"}, "arrivals go on while nothing is answered"
    assert all(record.leg == "none" and record.status == 0 for record in hung)
    assert all(0.5 <= r.latency < 2 for r in hung if r.reason == "timeout")
    assert summary.shed == sum(record.reason == "shed" for record in hung)
    assert summary.total.requests == summary.total.failed == len(hung) - summary.shed
    assert len(hung) == pytest.approx(100 * (until - since), rel=4 / math.sqrt(50))


def test_the_heroku_leg_through_tls(apps: DemoApps, tmp_path: Path) -> None:
    knobs = apps.knobs("heroku", "pdf")
    with heroku_load(apps, tmp_path, 100) as load:
        changes: list[Callable[[], float]] = [
            lambda: knobs.set(down=True),
            lambda: knobs.set(down=False, hang=True),
            lambda: knobs.set(hang=False),
            lambda: apps.refuse_heroku(refuse=True),
            lambda: apps.refuse_heroku(refuse=False),
        ]
        # From when a change was made, until just before the next.
        spans, since = [], 0.0
        for change in changes:
            time.sleep(0.6)
            spans.append((since, time.time()))
            since = change()
        time.sleep(0.6)
        load.settle(since + 0.15)
        records = load.records(HEROKU)
    # Those under way at a change may be answered by what came before it, or after.
    well, down, _, woken, refused, again = (
        [record for record in records if since <= record.at and record.at + record.latency <= until]
        for since, until in [*spans, (since, math.inf)]
    )
    assert {record.leg for record in well} == {"heroku"}
    for healthy in (well, woken, again):
        assert {record.status for record in healthy} == {200}
    assert {record.status for record in down} == {503}
    hung = [record for record in records if spans[2][0] <= record.at < spans[2][1] - 0.1]
    assert hung
    # On a busy machine the hang may last for longer than the router waits.
    early = [record for record in hung if record.at + record.latency <= spans[2][1]]
    assert all(record.status == 503 and record.sent_latency > H12_S for record in early)
    # A request may be written to an open connection before its client sees that it was cut.
    assert {record.reason for record in refused} <= {"connect", "disconnected"}
    assert {record.reason for record in refused if record.at >= spans[4][0] + 0.05} == {"connect"}


def test_many_targets_keep_to_themselves(apps: DemoApps, tmp_path: Path) -> None:
    apps.knobs("eks", "images").set(hang=True)
    images = Target("images.example.com", 80, "/status/204?x=1", f"http://127.0.0.1:{apps.eks_ports['images']}")
    # What hangs has 64 requests in flight; a healthy target would have to stall for half a second to have 40.
    with eks_load(apps, tmp_path, 80, timeout_s=0.8, max_in_flight=40) as load:
        load.put(images)
        time.sleep(1.2)
    pdf, sick = load.summary(PDF), load.summary(images.host)
    both = load.summary()
    assert pdf.total.failed == pdf.shed == 0
    assert sick.shed > 0
    assert sick.total.requests + pdf.total.requests == both.total.requests


def test_leg_and_revision_are_read_from_the_route_too(apps: DemoApps, tmp_path: Path) -> None:
    """A 503 that the gateway itself gives has no x-leg."""
    path = tmp_path / "record.jsonl"
    log = RecordLog(path)
    assert log.records() == []
    record = Record(10.0, PDF, "eks", "g7-w25", 503, "", 0.5, 0.4)
    stopped = Record(10.5, PDF, "none", "", 0, "stopped", 0.5, 0.5)
    line = record.to_json() + "\n"
    path.write_text(line + stopped.to_json()[:20])
    assert log.records() == [record], "a line in the writing is left for later"
    path.write_text(line + stopped.to_json() + "\n")
    assert log.records() == [record, stopped]
    assert log.records(since=10.2) == [stopped]
    assert log.records(until=10.5) == [record]
    summary = log.summary(PDF)
    assert summary.revisions == {"g7-w25": 1}
    assert summary.stopped == 1
    assert summary.total.requests == summary.total.failed == 1


def test_a_bad_rate_is_refused(apps: DemoApps, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a rate is a number from 0 up"):
        Config.from_json('{"gateway": "http://x", "targets": [{"host": "a", "rate": -1}]}')


def test_equal_answers_of_both_legs_are_known_as_equal(apps: DemoApps, tmp_path: Path) -> None:
    def answers(load: Load, host: str, path: str) -> set[str]:
        load.put(Target(host, 100, path))
        time.sleep(0.3)
        load.settle(load.set_rate(host, 0))
        return {record.answer for record in load.records(host)}

    with eks_load(apps, tmp_path / "eks", 0) as eks, heroku_load(apps, tmp_path / "heroku", 0) as heroku:
        one = answers(eks, PDF, "/article/1")
        assert len(one) == 1
        assert answers(heroku, HEROKU, "/article/1") == one
        assert len(answers(eks, PDF, "/article/2") | one) == 2


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ({}, True),
        ({"status": 302}, False),
        ({"body": b"another"}, False),
        ({"headers": [("Set-Cookie", "a=1"), ("Set-Cookie", "b=3")]}, False),
        ({"headers": [("set-cookie", "b=2"), ("set-cookie", "a=1")]}, True),
        (
            {"headers": [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Date", "today"), ("X-Cutover-Leg", "eks")]},
            True,
        ),
        ({"headers": [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Location", "/")]}, False),
    ],
)
def test_what_makes_two_answers_different(other: dict[str, Any], same: bool) -> None:
    answer = {"status": 200, "headers": [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")], "body": b"page"}
    assert (digest_of(**answer) == digest_of(**answer | other)) is same  # type: ignore[arg-type]
