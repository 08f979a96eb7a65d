"""Frames of Logplex: octets are counted, each frame counts once, and what is not counted is told. Nothing ends it."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kit.logplex import frame, message, overflow, request_line

from cutover.drain.exposition import Exposition
from cutover.drain.frames import MOST_BELIEVED, MOST_READ, MOST_SEEN, Frame, Record, Refusal
from cutover.drain.framing import BrokenFrame, messages
from cutover.drain.platform_lines import DYNO_SAMPLES, samples

NOW = datetime(2026, 11, 20, 10, 0, 30, tzinfo=UTC).timestamp()


def record() -> Record:
    return Record(lambda: NOW, lambda: 0.0)


def sent(taken: Record, *parts: bytes, identity: str = "", count: int | None = None, app: str = "acme-pdf") -> Record:
    """Send a frame of messages; its count is right unless it is given."""
    taken.take(app, Frame(identity, len(parts) if count is None else count, b"".join(parts)))
    return taken


# ------------------------------------------------------------------------------------------------------------- framing


def test_l10_has_no_line_feed_and_the_next_length_follows_at_once() -> None:
    _, body = frame([request_line(), message("heroku", "web.1", b"Cycling")], dropped=491)
    assert body.startswith(b"158 <172>1 ")
    assert re.search(rb"\+00:00\.\d{3} <158>1 ", body)
    assert [part[-1:] for part in messages(body)] == [b".", b"\n", b"\n"]


def test_a_line_feed_within_a_message_ends_nothing() -> None:
    forged = b"hello\n" + request_line(500) + b"more"
    taken = sent(record(), message("app", "web.1", forged), request_line(200))
    assert taken.of("acme-pdf").requests == {("200", ""): 1}
    assert taken.of("acme-pdf").lines == {"app": 1, "router": 1}


def test_octets_are_bytes_and_not_characters() -> None:
    taken = sent(record(), message("app", "web.1", "€€€€€".encode()), request_line())
    assert taken.of("acme-pdf").lines == {"app": 1, "router": 1}


@pytest.mark.parametrize(
    "rest", [b"x", b"-1 a", b"+3 abc", b"1_0 aaaaaaaaaa", b"\xb2 ab", b" 3 abc", b"12345678 a", b"3"]
)
def test_what_was_read_before_a_break_holds_and_the_rest_is_lost(rest: bytes) -> None:
    with pytest.raises(BrokenFrame):
        list(messages(rest))
    taken = sent(record(), request_line(), rest, request_line(500), request_line(), count=4)
    assert taken.of("acme-pdf").requests == {("200", ""): 1}
    assert taken.of("acme-pdf").dropped == {"broken": 3}


def test_a_message_that_is_shorter_than_its_length_is_lost() -> None:
    taken = sent(record(), request_line(), request_line()[:-1])
    assert taken.of("acme-pdf").requests == {("200", ""): 1}
    assert taken.of("acme-pdf").dropped == {"broken": 1}


def test_a_break_without_a_count_loses_at_least_one() -> None:
    assert sent(record(), request_line(), b"x", count=0).of("acme-pdf").dropped == {"broken": 1}


def test_messages_that_the_count_promises_are_lost() -> None:
    assert sent(record(), request_line(), count=5).of("acme-pdf").dropped == {"broken": 4}
    assert sent(record(), request_line(), request_line(), count=1).of("acme-pdf").dropped == {}
    assert sent(record(), request_line(), count=10**9).of("acme-pdf").dropped == {"broken": MOST_BELIEVED - 1}


def test_a_frame_of_very_many_messages_is_read_to_a_bound() -> None:
    """A body of the largest size may have 349,000 messages, which would hold up the frames of all apps for seconds."""
    counts = sent(record(), *[b"1 x"] * 349_000, count=1024).of("acme-pdf")
    assert counts.lines == {"unreadable": MOST_READ}
    assert counts.dropped == {"unreadable": MOST_READ, "broken": 1}


def test_a_line_of_very_many_samples_is_read_to_a_bound() -> None:
    line = b"source=web.1 " + b"sample#memory_total=1MB " * 90_000
    assert len(list(samples(line, DYNO_SAMPLES))) == 64


# -------------------------------------------------------------------------------------------------------- each one once


def test_a_frame_counts_once() -> None:
    taken = record()
    for identity in ("a", "b", "a", "a"):
        sent(taken, request_line(), identity=identity)
    assert taken.of("acme-pdf").requests == {("200", ""): 2}
    assert taken.of("acme-pdf").frames == {"counted": 2, "duplicate": 2}


def test_a_duplicate_may_tell_of_further_losses() -> None:
    taken = record()
    for told in (10, 25, 25, 12):
        sent(taken, overflow(told), request_line(), identity="a")
    assert taken.of("acme-pdf").dropped == {"L10": 25}
    assert taken.of("acme-pdf").requests == {("200", ""): 1}


def test_the_same_id_of_another_app_is_another_frame() -> None:
    taken = sent(sent(record(), request_line(), identity="a"), request_line(500), identity="a", app="acme-shop")
    assert taken.of("acme-pdf").requests == {("200", ""): 1}
    assert taken.of("acme-shop").requests == {("500", ""): 1}


def test_a_frame_without_an_id_always_counts() -> None:
    assert sent(sent(record(), request_line()), request_line()).of("acme-pdf").requests == {("200", ""): 2}


def test_ids_are_remembered_in_a_bounded_number() -> None:
    taken = record()
    for number in range(MOST_SEEN + 1):
        sent(taken, identity=str(number))
    sent(taken, identity="1")
    sent(taken, identity="0")  # the oldest, which is forgotten
    assert taken.of("acme-pdf").frames == {"counted": MOST_SEEN + 2, "duplicate": 1}


def test_a_fault_of_the_program_is_told_as_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(line: bytes) -> None:
        raise RuntimeError(f"cannot read {line!r}")

    taken = record()
    monkeypatch.setattr("cutover.drain.messages.read_request", fail)
    sent(taken, message("app", "web.1", b"x"), request_line(), request_line())
    assert taken.of("acme-pdf").dropped == {"fault": 2}
    # In which of them it is depends on whether a test of this process has configured logging.
    told = capsys.readouterr().out + caplog.text
    assert "RuntimeError at test_drain_frames.py:" in told
    assert "method=GET" not in told


def test_messages_that_come_late_are_counted() -> None:
    early, late = b"2026-11-20T09:59:29+00:00", b"2026-11-20T09:59:31+00:00"
    for stamp, number in ((early, 2), (late, 0)):
        taken = sent(record(), overflow(3), request_line(at=stamp), request_line())
        assert taken.of("acme-pdf").late == (3 if number else 0)


def test_refused_messages_are_told_as_lost() -> None:
    taken = record()
    taken.refuse("acme-pdf", Refusal.CREDENTIALS, 200)
    taken.refuse("", Refusal.DRAIN_TOKEN, 10**9)
    taken.refuse("acme-pdf", Refusal.CONTENT, None)
    assert taken.of("acme-pdf").dropped == {"credentials": 200}
    assert taken.of("").dropped == {"drain_token": MOST_BELIEVED}
    assert taken.refused[Refusal.CREDENTIALS] == 1


# ------------------------------------------------------------------------------------------------------------ nonsense

TEXT = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(
        [
            request_line().split(b" - ", 1)[1],
            b"source=web.1 sample#memory_total=1MB sample#load_avg_1m=-",
            b"Error L10 (output buffer overflow): 99999999999999 messages dropped since",
            b"Error R14 (Memory quota exceeded)",
            b"Release v created by",
            b"at=error code=H12 desc=",
        ]
    ),
)
PARTS = st.lists(
    st.builds(
        lambda app, process, text, end: message(app, process, text, end=end),
        st.sampled_from(["heroku", "app", "", "é"]),
        st.sampled_from(["router", "web.1", "logplex", "log-shuttle", "heroku-postgres", "heroku-redis", "api", ""]),
        TEXT,
        st.sampled_from([b"", b"\n", b"\r\n"]),
    ),
    max_size=8,
)


@given(PARTS, PARTS)
def test_apps_are_never_mixed(pdf: list[bytes], shop: list[bytes]) -> None:
    """What an app's log says is the same whoever else sends."""
    alone, both = sent(record(), *pdf), record()
    sent(both, *shop, app="acme-shop")
    sent(both, *pdf)
    assert vars(alone.of("acme-pdf")).keys() == vars(both.of("acme-pdf")).keys()
    for name in ("lines", "requests", "dropped", "events", "releases", "answered", "size", "late"):
        assert getattr(alone.of("acme-pdf"), name) == getattr(both.of("acme-pdf"), name), name
    assert both.of("acme-shop").frames == {"counted": 1, "duplicate": 0}


@given(PARTS)
def test_every_message_is_counted_or_lost(parts: list[bytes]) -> None:
    counts = sent(record(), *parts).of("acme-pdf")
    assert sum(counts.lines.values()) == len(parts)
    assert sum(counts.requests.values()) == counts.lines.get("router", 0)


@given(PARTS, st.binary(max_size=40), st.integers(0, 2000))
def test_a_frame_that_is_cut_or_spoiled_anywhere_ends_nothing(parts: list[bytes], noise: bytes, where: int) -> None:
    body = b"".join(parts)
    where = min(where, len(body))
    for spoiled in (body[:where], body[:where] + noise + body[where:], noise):
        taken = record()
        taken.take("acme-pdf", Frame("", len(parts), spoiled))
        counts = taken.of("acme-pdf")
        assert "fault" not in counts.dropped
        # Noise may be whatever it likes, but nothing is missing without a word.
        assert sum(counts.lines.values()) + counts.dropped.get("broken", 0) >= len(parts)
        assert [metric for metric in Exposition(taken).collect() if metric.name == "heroku_drain_lines"]


@given(st.binary(max_size=300))
def test_any_bytes_are_a_frame_that_ends_nothing(body: bytes) -> None:
    taken = record()
    taken.take("acme-pdf", Frame("x", None, body))
    assert "fault" not in taken.of("acme-pdf").dropped
    assert taken.of("acme-pdf").frames["counted"] == 1
