"""What the lines of Heroku's log say: real ones of several years, and those that users can forge."""

from __future__ import annotations

import pytest

from cutover.drain.counts import MOST_ADD_ONS, MOST_CODES, MOST_DYNO_EVENTS, MOST_DYNOS, SAMPLE_SECONDS, AppCounts
from cutover.drain.messages import count_message, written_at
from cutover.drain.platform_lines import dyno_named
from cutover.drain.router_lines import Request, read_request

UUID = "0f1e2d3c-0000-4000-8000-123456789abc"
M = f'host=acme-pdf-1a2b3c4d5e6f.herokuapp.com request_id={UUID} fwd="198.51.100.7"'
N = "protocol=http1.1 tls=true tls_version=unknown"
X = f"dyno= connect= service= status=503 bytes= {N}"
ERROR = 'at=error code={} desc="{}" method=GET path="/"'

ROUTER: list[tuple[str, Request]] = [
    (f'at=info method=GET path="/" {M} dyno=web.1 connect=0ms service=12ms status=200 bytes=1626 {N}', Request("200", "", 0, 12, 1626)),
    (f'at=info method=GET path="/i?page=1&limit=50" host=pdf.example.com request_id={UUID} fwd="198.51.100.7" dyno=web.2 connect=0ms service=1ms status=200 bytes=974 protocol=http2.0 tls=true tls_version=tls1.3', Request("200", "", 0, 1, 974)),
    (f'at=info method=POST path="/" {M} dyno=web.1 connect=0ms service=5ms status=500 bytes=95 protocol=http1.1 tls=false', Request("500", "", 0, 5, 95)),
    (f"at=info method=GET path=/ {M} dyno=web.1 connect=1ms service=18ms status=200 bytes=13 tls_version=tls1.2 protocol=http", Request("200", "", 1, 18, 13)),
    (f'at=info method=HEAD path="/up" host=h request_id={UUID} fwd=198.51.100.7 dyno=web.1 connect=0ms service=2ms status=302 bytes=0 {N}', Request("302", "", 0, 2, 0)),
    (f'at=info method=OPTIONS path="/v1" host=h request_id={UUID} fwd="198.51.100.7, 192.0.2.5" dyno=web.1 connect=0ms service=1ms status=204 bytes=0 {N}', Request("204", "", 0, 1, 0)),
    (f'at=info method=GET path="/a.css" host=h request_id={UUID} fwd="" dyno=web.1 connect=0ms service=2ms status=304 bytes=0 {N}', Request("304", "", 0, 2, 0)),
    (f'at=info method=GET path="/api/Bill 19/pages" {M} dyno=web.1 connect=7001ms service=459ms status=200 bytes=15225 {N}', Request("200", "", 7001, 459, 15225)),
    (f'at=info method=GET path="/s?q="a b"&host=x" {M} dyno=web.1 connect=0ms service=3ms status=400 bytes=19 {N}', Request("400", "", 0, 3, 19)),
    (f'at=info method=GET path="/cable" {M} dyno=web.1 connect=1ms service=531114ms status=101 bytes=174 protocol=https', Request("101", "", 1, 531114, 174)),
    (f'{ERROR.format("H10", "App crashed")} {M} {X}', Request("503", "H10", None, None, 0)),
    (f'{ERROR.format("H12", "Request timeout")} {M} dyno=web.1 connect=0ms service=30000ms status=503 bytes=567 {N}', Request("503", "H12", 0, 30000, 567)),
    (f'{ERROR.format("H15", "Idle connection")} {M} dyno=web.1 connect=1ms service=102336ms status=503 bytes= protocol=http', Request("503", "H15", 1, 102336, 0)),
    (f'sock=backend at=error code=H18 desc="Server Request Interrupted" method=POST path="/s" host=h request_id={UUID} fwd="2001:db8::ec0,192.0.2.5" dyno=web.1 connect=0ms service=710ms status=200 bytes=0 {N}', Request("200", "H18", 0, 710, 0)),
    (f'{ERROR.format("H19", "Backend connection timeout")} {M} dyno=web.1 connect=5001ms service= status=503 bytes= {N}', Request("503", "H19", 5001, None, 0)),
    (f'{ERROR.format("H24", "Forced close")} {M} dyno=web.1 connect=1ms service=80000ms status= bytes=18 {N}', Request("503", "H24", 1, 80000, 18)),
    (f'{ERROR.format("H25", "HTTP restriction: oversized cookie")} {M} dyno=web.1 connect=0 service=2 status=502 bytes=537', Request("502", "H25", 0, 2, 537)),
    (f'at=error code=H26 desc="Request Error" cause="bad chunk" method=GET path="/" {M} dyno=web.1 connect=1 service=0 status=400 bytes=537', Request("400", "H26", 1, 0, 537)),
    (f'sock=client at=warning code=H27 desc="Client Request Interrupted" method=GET path="/" {M} dyno=web.1 connect=1ms service=29043ms status=499 bytes= protocol=https', Request("499", "H27", 1, 29043, 0)),
    (f'error code=H31 desc="Misdirected Request" method=GET path="/" {M} dyno= connect= service= status=421 bytes= protocol=http agent="curl/8"', Request("421", "H31", None, None, 0)),
    (f'at=info code=H80 desc="Maintenance mode" method=GET path="/" {M} {X}', Request("503", "H80", None, None, 0)),
]  # fmt: skip


@pytest.mark.parametrize("end", ["", "\n"])
@pytest.mark.parametrize(("line", "said"), ROUTER)
def test_a_line_of_the_router_is_read(line: str, said: Request, end: str) -> None:
    assert read_request((line + end).encode()) == said


FORGED = "dyno=web.9 connect=9ms service=9ms status=599 bytes=9"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f'at=info method=GET path="/{FORGED}" {M} dyno=web.1 connect=0ms service=1ms status=200 bytes=5 {N}', Request("200", "", 0, 1, 5)),
        (f'at=info method=GET path="/ code=H12 " {M} dyno=web.1 connect=0ms service=1ms status=200 bytes=5 {N}', Request("200", "", 0, 1, 5)),
        (f'at=info method=GET path="/" host=h request_id={UUID} fwd="1 {FORGED}" dyno=web.1 connect=0ms service=1ms status=200 bytes=5', Request("200", "", 0, 1, 5)),
        (f'error code=H31 desc="Misdirected Request" method=GET path="/" {M} dyno= connect= service= status=421 bytes= protocol=http agent="x {FORGED}"', Request("421", "H31", None, None, 0)),
    ],
)  # fmt: skip
def test_what_users_write_is_not_read(line: str, said: Request) -> None:
    assert read_request(line.encode()) == said


@pytest.mark.parametrize(
    "line",
    [
        "",
        'at=info method=GET path="/r?x=AAAA',
        f'at=info method=GET path="/" {M} dyno=web.1 connect=0ms service=1ms status=200 byt',
        f'at=info method=GET path="/" {M} dyno=web.1 connect=0ms service=1ms status= bytes=5 {N}',
        f'at=info method=GET path="/" {M} dyno=web.1 connect=0ms service=1ms status=000 bytes=5 {N}',
        f'at=info method=GET path="/" {M} dyno=web.1 connect=0ms service=12345678901ms status=200 bytes=5 {N}',
        f"method=GET dyno=web.1 connect=0ms service=1ms status=200 bytes=5 {N}",
    ],
)
def test_a_line_that_was_cut_is_no_request(line: str) -> None:
    assert read_request(line.encode()) is None


def counted(*lines: tuple[str, str, str], counts: AppCounts | None = None, at: float = 0.0) -> AppCounts:
    """Count lines of an app, each with its APP, PROCID and text."""
    counts = counts or AppCounts()
    for app, process, text in lines:
        count_message(f"<134>1 2026-11-20T10:00:00+00:00 host {app} {process} - {text}".encode(), counts, at)
    return counts


def test_lines_are_known_by_app_and_process_and_not_by_priority() -> None:
    line = ROUTER[0][0]
    counts = AppCounts()
    for priority in ("<134>1", "<158>1"):
        count_message(f"{priority} 2026-11-20T10:00:00Z host heroku router - {line}".encode(), counts, 0.0)
    assert counts.requests == {("200", ""): 2}
    assert counted(("app", "web.1", line), ("app", "router", line), ("heroku", "web.1", line)).requests == {}


def test_a_line_of_the_router_that_was_cut_is_lost() -> None:
    counts = counted(("heroku", "router", 'at=info method=GET path="/r?x=AA'))
    assert (counts.requests, counts.dropped) == ({}, {"unreadable": 1})


@pytest.mark.parametrize(
    "message", [b"", b"<134>1", b"134>1 a b c d e f", b"<134>2 a b heroku router - x", b"\xff" * 9]
)
def test_what_is_no_message_is_lost(message: bytes) -> None:
    counts = AppCounts()
    assert count_message(message, counts, 0.0) == "unreadable"
    assert counts.dropped == {"unreadable": 1}


def test_times_are_in_the_buckets_of_the_mesh_without_those_that_are_nobodys() -> None:
    assert len(AppCounts().service.buckets) == 20
    counts = counted(*(("heroku", "router", line) for line, _ in ROUTER))
    assert sum(counts.requests.values()) == len(ROUTER)
    said = [said for _, said in ROUTER if said.code not in ("101", "499")]
    assert sum(counts.service.buckets) == sum(one.service is not None for one in said) == 15
    assert sum(counts.connect.buckets) == sum(one.connect is not None for one in said) == 16
    assert counts.service.total == sum(one.service or 0 for one in said)
    assert counts.service.buckets[:2] == [1, 2]  # 0 ms is at most 0.5, and 1 ms at most 1


DYNO = f"dyno=heroku.16814144.{UUID}"


def test_samples_of_dynos() -> None:
    memory = "sample#memory_total=384.00MB sample#memory_rss=380.10MB sample#memory_pgpgin=12345pages sample#memory_quota=512.00MB"
    counts = counted(
        ("heroku", "web.1", f"source=web.1 {DYNO} sample#load_avg_1m=2.46 sample#load_avg_5m=1.06"),
        ("heroku", "web.1", f"source=web.1 {DYNO} {memory}"),
        ("heroku", "run.1234", f"source=run.1234 {DYNO} sample#load_avg_1m=0.10"),
    )
    assert sorted(counts.dynos.current(0.0)) == [
        ("web.1", "load_1m", 2.46),
        ("web.1", "load_5m", 1.06),
        ("web.1", "memory_quota_bytes", 512 * 2**20),
        ("web.1", "memory_rss_bytes", pytest.approx(380.1 * 2**20)),
        ("web.1", "memory_total_bytes", 384 * 2**20),
    ]
    assert counts.dynos.current(SAMPLE_SECONDS + 1) == []
    assert counts.lines == {"dyno": 3}


def test_samples_of_add_ons() -> None:
    counts = counted(
        ("app", "heroku-postgres", "source=DATABASE addon=postgresql-clear-1 sample#active-connections=11 sample#waiting_connections=1 sample#max-connections=400 sample#connections-percentage-used=2.75 sample#db_size=4718592bytes sample#memory-postgres=16384kB sample#index-cache-hit-rate=0.99968 sample#unheard-of=1"),
        ("app", "heroku-redis", "source=REDIS addon=redis-solid-2 sample#active-connections=3 sample#connection-percentage-used=15.0 sample#memory-redis=1024bytes sample#hit-rate=0.5"),
        ("app", "postgres.77", "source=DATABASE addon=x sample#active-connections=99"),
    )  # fmt: skip
    assert {metric: value for _, metric, value in counts.postgres.current(0.0)} == {
        "active_connections": 11, "waiting_connections": 1, "max_connections": 400, "connections_used_percent": 2.75,
        "size_bytes": 4718592, "memory_postgres_bytes": 16384 * 1024, "index_cache_hit_ratio": 0.99968,
    }  # fmt: skip
    assert {name for name, _, _ in counts.postgres.current(0.0)} == {"postgresql-clear-1"}
    assert ("redis-solid-2", "connections_used_percent", 15.0) in counts.redis.current(0.0)
    assert counts.lines == {"postgres": 1, "redis": 1, "app": 1}


def test_events_of_dynos_and_releases() -> None:
    counts = counted(
        ("heroku", "web.1", "Error R14 (Memory quota exceeded)"),
        ("heroku", "web.1", "Process running mem=870M(170.1%)"),
        ("heroku", "web.1", "Error R15 (Memory quota vastly exceeded)"),
        ("heroku", "web.2", "Cycling"),
        ("heroku", "web.2", "State changed from up to starting"),
        ("heroku", "web.2", "Starting process with command `npm start`"),
        ("heroku", "web.2", "Process exited with status 143"),
        ("heroku", "web.3", "Process exited with status 137"),
        ("heroku", "web.3", "State changed from up to crashed"),
        ("heroku", "scheduler.5678", "Process exited with status 1"),
        ("app", "api", "Release v43 created by user dev@example.com"),
        ("app", "api", "Deploy 1a2b3c by user dev@example.com"),
        ("app", "web.1", "Error R14 (Memory quota exceeded)"),
        ("app", "web.1", "Release v99 created by user dev@example.com"),
    )
    assert counts.events == {
        ("web.1", "R14"): 1,
        ("web.1", "R15"): 1,
        ("web.2", "cycling"): 1,
        ("web.2", "starting"): 1,
        ("web.3", "failed"): 1,
        ("web.3", "crashed"): 1,
        ("scheduler", "failed"): 1,
    }
    assert (counts.releases, counts.release_version) == (1, 43)


def test_losses_that_others_tell() -> None:
    counts = counted(
        ("heroku", "logplex", "Error L10 (output buffer overflow): 491 messages dropped since 2026-11-20T09:59:00+00:00."),
        ("heroku", "log-shuttle", "Error L12: 7 messages dropped since 2026-11-20T09:59:00+00:00."),
        ("heroku", "log-shuttle", "Error L13 (Local delivery error): 5 messages lost since 2026-11-20T09:59:00+00:00."),
        ("app", "web.1", "Error L10 (output buffer overflow): 1000 messages dropped since 2026-11-20T09:59:00+00:00."),
    )  # fmt: skip
    assert counts.dropped == {"L10": 491, "L12": 7, "L13": 5}


def test_names_of_dynos() -> None:
    names = {
        name: dyno_named(name.encode())
        for name in ("web.1", "run.12", "web-1234abcde-123ab", "router", "web.x", "é.1")
    }
    assert {name: tuple(dyno) for name, dyno in names.items() if dyno} == {
        "web.1": ("web.1", True),
        "run.12": ("run", False),
        "web-1234abcde-123ab": ("web", False),
    }


def test_series_are_bounded_and_nothing_is_lost_by_it() -> None:
    router = 'at=error code=H{:02} desc="x" method=GET path="/" dyno=web.1 connect=1ms service=1ms status={} bytes=0'
    counts = counted(*(("heroku", "router", router.format(n % 30, 500 + n // 30)) for n in range(2000)))
    assert sum(counts.requests.values()) == 2000
    assert len(counts.requests) <= MOST_CODES + 5
    assert counts.requests["5xx", "other"] == 2000 - MOST_CODES
    counts = counted(*(("heroku", f"web.{n}", "Error R14 (Memory quota exceeded)") for n in range(5000)))
    assert len(counts.events) == MOST_DYNO_EVENTS + 1
    assert sum(counts.events.values()) == 5000
    counts = counted(
        *(("heroku", f"web.{n}", f"source=web.{n} sample#load_avg_1m=1") for n in range(1000)),
        *(("app", "heroku-redis", f"addon=redis-{n} sample#hit-rate=1") for n in range(1000)),
    )
    assert (len(counts.dynos.current(0.0)), len(counts.redis.current(0.0))) == (MOST_DYNOS, MOST_ADD_ONS)
    # Where the old ones are gone there is room again.
    counted(("heroku", "late.1", "source=late.1 sample#load_avg_1m=1"), counts=counts, at=SAMPLE_SECONDS + 1)
    assert counts.dynos.current(SAMPLE_SECONDS + 1) == [("late.1", "load_1m", 1.0)]


@pytest.mark.parametrize(
    ("stamp", "at"),
    [
        ("2026-11-20T10:00:00.203456+00:00", 1795168800.203456),
        ("2026-11-20T10:00:00+00:00", 1795168800.0),
        ("2026-11-20T10:00:00.2Z", 1795168800.2),
        ("yesterday", None),
        ("2026-11-20", 1795132800.0),
        ("\xff", None),
    ],
)
def test_when_a_message_was_written(stamp: str, at: float | None) -> None:
    assert written_at(f"<1>1 {stamp} host heroku router - x".encode()) == at
