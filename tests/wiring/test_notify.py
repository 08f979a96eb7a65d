"""Notifications against a real HTTP server, which answers, fails, hangs, resets, asks for rest, goes and comes back."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import web
from tests.kit import builders
from tests.kit.waiting import eventually

from cutover.adapters.addresses import may_connect
from cutover.adapters.notify.notifier import HttpNotifier
from cutover.api.v1alpha1 import LedgerEntry, MigrationPlanStatus
from cutover.domain.journal.notifications import key_of
from cutover.domain.journal.outbox import Cause
from cutover.domain.plan import Plan
from cutover.settings import ContentMode, Receiver, ReceiverKind, ThrottleSpec, Tls
from demoapps.tls import server_context

START = datetime(2027, 1, 11, 10, tzinfo=UTC)
SECRET, TOKEN = "T0123/B456/s3cr3tPath", "Bearer s3cr3t-token"
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


def plan(*numbers: int, name: str = "pdf", decision: str = "Advance") -> Plan:
    """Return a plan whose ledger has a line for each number."""
    ledger = tuple(
        LedgerEntry(
            at=START + timedelta(seconds=number),
            attempt=1,
            decision=decision,
            from_weight=10,
            to_weight=25,
            reason="EvidenceOfSafety",
            message=f"line {number}",
        )
        for number in numbers
    )
    return builders.plan(name, uid=f"uid-{name}", status=MigrationPlanStatus(ledger=ledger))


@dataclass
class Request:
    """What the receiver got."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float

    @property
    def message(self) -> str:
        found = json.loads(self.body)
        return str(found["text"] if "text" in found else found.get("data", found)["message"])


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Server:
    """A receiver. ``script`` has how it answers, in order; after that it takes all."""

    port: int = 0
    script: list[Answer] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    _runner: web.AppRunner | None = None

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True, ssl_context=tls)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(Request(request.path, dict(request.headers), await request.read(), time.monotonic()))
        if self.script:
            return await self.script.pop(0)(request)
        return web.Response(text="ok")

    @property
    def messages(self) -> list[str]:
        return [request.message for request in self.requests]

    async def got(self, count: int) -> list[str]:
        await eventually(lambda: len(self.requests) >= count)
        return self.messages


def says(status: int, text: str = "", **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(
            status=status, text=text, headers={name.replace("_", "-"): v for name, v in headers.items()}
        )

    return answer


async def hangs(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    return web.Response()


async def resets(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    sock = request.transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    request.transport.abort()
    return web.Response()


async def talks_nonsense(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.write(f"SSH-2.0-{request.path}\r\n\r\n".encode())
    request.transport.close()
    return web.Response()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture
def receiver(server: Server, tmp_path: Path) -> Receiver:
    """A chat that the server is, told one line after the other."""
    url, header = tmp_path / "url", tmp_path / "authorization"
    url.write_text(f"http://127.0.0.1:{server.port}/services/{SECRET}\n")
    header.write_text(TOKEN)
    return Receiver(
        name="chat",
        kind=ReceiverKind.SLACK,
        url_file=url,
        header_files={"Authorization": header},
        template="{{ message }}",
        throttle=ThrottleSpec(burst=1000, every=0.1),
        timeout=60.0,  # no answer of this server takes so long, however busy the machine is
        allow=LOOPBACK,
    )


@asynccontextmanager
async def notifying(*receivers: Receiver) -> AsyncIterator[HttpNotifier]:
    notifier = HttpNotifier(receivers, first_retry=0.02)
    notifier.start()
    try:
        yield notifier
    finally:
        await notifier.close()


def known(*names: str) -> dict[str, str]:
    """Return what the status of a plan remembers that was told nothing yet."""
    return dict.fromkeys(names or ("chat",), "")


# ------------------------------------------------------------------------------------------------------------ what is sent


async def test_a_chat_is_told(server: Server, receiver: Receiver) -> None:
    async with notifying(receiver) as notifier:
        notifier.tell(plan(1, 2), known())
        assert await server.got(2) == ["line 1", "line 2"]
    (first, _) = server.requests
    assert first.path == f"/services/{SECRET}"
    assert first.headers["Authorization"] == TOKEN
    assert first.headers["Content-Type"].startswith("application/json")
    assert json.loads(first.body) == {"text": "line 1", "unfurl_links": False, "unfurl_media": False}
    outbox = notifier.senders["chat"]
    await eventually(lambda: outbox.sent == 2)
    assert (outbox.failures, outbox.waiting, outbox.dropped.total()) == (0, 0, 0)


@pytest.mark.parametrize("mode", ContentMode)
async def test_a_program_gets_an_event(mode: ContentMode, server: Server, receiver: Receiver) -> None:
    bus = receiver.model_copy(update={"kind": ReceiverKind.CLOUD_EVENTS, "mode": mode, "source": "//eu-1"})
    async with notifying(bus) as notifier:
        notifier.tell(plan(1), known())
        await server.got(1)
    (request,) = server.requests
    body = json.loads(request.body)
    identifier = "uid-pdf/a1/2027-01-11T10:00:01Z/Advance/EvidenceOfSafety"
    assert request.headers["Authorization"] == TOKEN
    if mode is ContentMode.BINARY:
        assert (request.headers["ce-id"], request.headers["ce-specversion"]) == (identifier, "1.0")
        assert request.headers["Content-Type"] == "application/json"
        assert body["message"] == "line 1"
    else:
        assert request.headers["Content-Type"] == "application/cloudevents+json; charset=UTF-8"
        assert (body["id"], body["data"]["message"]) == (identifier, "line 1")
        assert body["source"].startswith("//eu-1/apis/cutover.dev/")


async def test_a_flood_is_one_message(server: Server, receiver: Receiver) -> None:
    calm = receiver.model_copy(update={"throttle": ThrottleSpec(burst=1, every=3600)})
    async with notifying(calm) as notifier:
        notifier.tell(plan(*range(17)), known())
        (message,) = await server.got(1)
    assert message.splitlines() == [
        *(f"line {number}" for number in range(5)),
        "and 12 more (12 info); see the plans' ledgers",
    ]


async def test_nobody_to_tell() -> None:
    async with notifying() as notifier:
        notifier.tell(plan(1), {})
        assert notifier.told("uid-pdf") == {}
        assert notifier.overdue("uid-pdf", {}) is None
        notifier.forget("uid-pdf")


# ----------------------------------------------------------------------------------------------------- when it goes wrong


@pytest.mark.parametrize(
    "trouble",
    [says(500), says(503, "no healthy upstream"), says(408), says(429), resets, talks_nonsense, hangs],
    ids=["500", "503", "408", "429", "reset", "nonsense", "hang"],
)
async def test_what_fails_is_sent_again_in_order(
    trouble: Answer, server: Server, receiver: Receiver, logged: list[Any]
) -> None:
    server.script = [trouble, trouble] if trouble is not hangs else [trouble]
    failures = len(server.script)
    hurried = receiver.model_copy(update={"timeout": 3.0})
    async with notifying(receiver if trouble is not hangs else hurried) as notifier:
        notifier.tell(plan(1, 2), known())
        assert await server.got(failures + 2) == ["line 1"] * (failures + 1) + ["line 2"]
        outbox = notifier.senders["chat"]
        await eventually(lambda: outbox.sent == 2)
        assert (outbox.failures, outbox.dropped.total()) == (failures, 0)
    assert [line["event"] for line in logged] == ["not notified", "notified again"], "said once, not at every attempt"


async def test_one_that_goes_away_and_comes_back_gets_all(
    server: Server, receiver: Receiver, logged: list[Any]
) -> None:
    await server.stop()
    async with notifying(receiver) as notifier:
        for last in range(1, 5):
            notifier.tell(plan(*range(1, last + 1)), known())
        outbox = notifier.senders["chat"]
        await eventually(lambda: outbox.failures >= 3)
        assert outbox.waiting == 4
        assert notifier.told("uid-pdf") == {"chat": ""}
        await server.start()
        assert await server.got(4) == [f"line {number}" for number in range(1, 5)]
        await eventually(lambda: outbox.waiting == 0)
        assert notifier.told("uid-pdf") == {"chat": key_of(plan(4).status.ledger[0])}
    assert logged[0]["problem"] == "cannot be connected to: Connection refused; it is tried again"


async def test_a_wish_for_rest_is_respected(server: Server, receiver: Receiver) -> None:
    server.script = [says(429, Retry_After="1")]
    async with notifying(receiver) as notifier:
        notifier.tell(plan(1), known())
        await server.got(2)
    first, second = server.requests
    assert second.at - first.at >= 1


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [
        ("120", 119, 120),
        ("in an hour", 3590, 3600),
        ("soon", 0, 1),
        ("-5", 0, 1),
        ("9" * 400, 3599, 3600),
        (format_datetime(datetime(2001, 1, 1, tzinfo=UTC), usegmt=True), 0, 1),
    ],
)
async def test_how_rest_is_asked_for(
    asked: str, least: float, most: float, server: Server, receiver: Receiver
) -> None:
    if asked == "in an hour":  # as a date; made here, as the tests before may take long
        asked = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    server.script = [says(503, Retry_After=asked)] + [says(500)] * 1000
    async with notifying(receiver) as notifier:
        notifier.tell(plan(1), known())
        outbox = notifier.senders["chat"]
        await eventually(lambda: outbox.failures >= 1)
        wait = outbox.next(time.monotonic())
        assert wait is not None
        assert least <= (wait if isinstance(wait, float) else 0) <= most


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413])
async def test_what_is_refused_is_said_once_and_the_next_goes_on(
    status: int, server: Server, receiver: Receiver, logged: list[Any]
) -> None:
    server.script = [says(status, "no_service"), says(status, "no_service")]
    async with notifying(receiver) as notifier:
        notifier.tell(plan(1, 2, 3), known())
        assert await server.got(3) == ["line 1", "line 2", "line 3"]
        outbox = notifier.senders["chat"]
        await eventually(lambda: outbox.sent == 1)
        assert outbox.dropped == {Cause.REFUSED: 2}
    (warned,) = [line for line in logged if line["log_level"] == "warning"]
    assert warned["problem"] == f"it answered HTTP {status}: no_service; what it refuses is not sent again"


async def test_a_redirection_is_not_followed(server: Server, receiver: Receiver) -> None:
    server.script = [says(307, Location=f"http://127.0.0.1:{server.port}/elsewhere")]
    async with notifying(receiver) as notifier:
        notifier.tell(plan(1, 2), known())
        await server.got(2)
        await eventually(lambda: notifier.senders["chat"].sent == 1)
    assert [request.path for request in server.requests] == [f"/services/{SECRET}"] * 2
    assert server.messages == ["line 1", "line 2"]


async def test_one_that_hangs_makes_nobody_wait(server: Server, receiver: Receiver) -> None:
    stuck = Server(script=[hangs] * 50)
    await stuck.start()
    other = receiver.url_file.with_name("stuck")
    other.write_text(f"http://127.0.0.1:{stuck.port}/")
    hanging = receiver.model_copy(update={"name": "stuck", "url_file": other, "timeout": 60.0})
    async with notifying(hanging, receiver) as notifier:
        began = time.monotonic()
        for last in range(1, 6):
            notifier.tell(plan(*range(1, last + 1)), known("chat", "stuck"))
        assert time.monotonic() - began < 5
        assert await server.got(5) == [f"line {number}" for number in range(1, 6)]
        await eventually(lambda: notifier.senders["chat"].sent == 5)
        assert notifier.told("uid-pdf") == {"chat": key_of(plan(5).status.ledger[0]), "stuck": ""}
        assert len(stuck.requests) == 1
        closing = time.monotonic()
    assert time.monotonic() - closing < 20, "and it does not keep the process from ending"
    await stuck.stop()


async def test_files_may_come_later_and_change(server: Server, receiver: Receiver, logged: list[Any]) -> None:
    address, token = receiver.url_file.read_text(), receiver.header_files["Authorization"]
    receiver.url_file.unlink()
    async with notifying(receiver) as notifier:
        notifier.tell(plan(1), known())
        outbox = notifier.senders["chat"]
        await eventually(lambda: outbox.failures >= 2)
        receiver.url_file.write_text(address)
        await server.got(1)
        token.write_text("Bearer rotated")
        notifier.tell(plan(1, 2), known())
        await server.got(2)
    assert [request.headers["Authorization"] for request in server.requests] == [TOKEN, "Bearer rotated"]
    assert logged[0]["problem"] == "the URL file cannot be read: No such file or directory; it is tried again"


async def test_a_fault_of_ours_is_no_end(
    server: Server, receiver: Receiver, logged: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cutover.adapters.notify.notifier.FAULT_PAUSE_SECONDS", 0.01)
    faults = iter([RuntimeError(f"at http://h/{SECRET}")])
    async with notifying(receiver) as notifier:
        (sender,) = notifier._senders
        write = sender._format.write

        def faulty(batch: Any) -> Any:
            for fault in faults:
                raise fault
            return write(batch)

        monkeypatch.setattr(sender._format, "write", faulty)
        notifier.tell(plan(1), known())
        assert await server.got(1) == ["line 1"]
    assert SECRET not in repr(logged)
    assert "RuntimeError" in repr(logged)


@pytest.mark.parametrize("burst", [1000, 1], ids=["one by one", "as a digest"])
async def test_a_notice_that_cannot_be_sent_is_dropped_and_told_and_the_others_go_on(
    burst: int, server: Server, receiver: Receiver, logged: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cutover.adapters.notify.notifier.FAULT_PAUSE_SECONDS", 0.01)
    bad = plan(1, name="mallory")
    entry = bad.status.ledger[0].evolve(message="HTTP 503 (\udcff)")
    bad = replace(bad, status=bad.status.evolve(ledger=(entry,)))
    slow = receiver.model_copy(update={"throttle": ThrottleSpec(burst=burst, every=0.1)})
    async with notifying(slow) as notifier:
        notifier.tell(plan(1, name="png"), known())
        notifier.tell(bad, known())
        notifier.tell(plan(2, 3), known())
        outbox = notifier.senders["chat"]
        await eventually(lambda: outbox.sent == 3)
        assert outbox.dropped == {Cause.UNSENDABLE: 1}
        assert notifier.told("uid-mallory") == {"chat": key_of(entry)}, "nor is it sent after a restart"
    said = "\n".join(server.messages)
    assert [line for line in said.splitlines() if line.startswith("line")] == ["line 1", "line 2", "line 3"]
    assert "1 older ones were not told (1 info)" in said
    (dropped,) = [line for line in logged if line["log_level"] == "error"]
    assert (dropped["plans"], dropped["reason"]) == (["docs/mallory"], "UnicodeEncodeError")


async def test_a_batch_that_causes_faults_again_and_again_does_not_hold_up_the_next(
    server: Server, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cutover.adapters.notify.notifier.FAULT_PAUSE_SECONDS", 0.01)
    async with notifying(receiver) as notifier:
        (sender,) = notifier._senders
        post = sender._transport.post

        async def faulty(message: Any) -> Any:
            if b"line 1" in message.body:
                raise RuntimeError("a bug")
            return await post(message)

        monkeypatch.setattr(sender._transport, "post", faulty)
        notifier.tell(plan(1, 2), known())
        await server.got(1)
        assert server.messages[0].splitlines()[0] == "line 2"
        assert notifier.senders["chat"].dropped == {Cause.UNSENDABLE: 1}


async def test_certificates_are_checked(server: Server, receiver: Receiver, tmp_path: Path, logged: list[Any]) -> None:
    await server.stop()
    await server.start(server_context(tmp_path, ["chat.example"]))
    receiver.url_file.write_text(f"https://127.0.0.1:{server.port}/{SECRET}")
    trusting = Tls(ca_file=tmp_path / "ca.crt")
    named = trusting.model_copy(update={"server_name": "chat.example"})
    receivers = {
        "stranger": receiver,
        "other-name": receiver.model_copy(update={"tls": trusting}),
        "fine": receiver.model_copy(update={"tls": named}),
    }
    async with notifying(*(one.model_copy(update={"name": name}) for name, one in receivers.items())) as notifier:
        notifier.tell(plan(1), known(*receivers))
        await eventually(lambda: all(one.sent or one.failures for one in notifier.senders.values()))
        assert [name for name, one in notifier.senders.items() if one.sent] == ["fine"]
    problems = {line["receiver"]: line["problem"] for line in logged if "problem" in line}
    assert problems["stranger"].startswith("TLS: unable to get local issuer certificate")
    assert problems["other-name"].startswith("TLS: its certificate is for another name")


# ------------------------------------------------------------------------------------------------------- over a restart


async def test_a_restart_tells_what_was_not_told(server: Server, receiver: Receiver) -> None:
    bus = receiver.model_copy(update={"kind": ReceiverKind.CLOUD_EVENTS})
    async with notifying(bus) as first:
        first.tell(plan(1), known())
        await eventually(lambda: first.senders["chat"].sent == 1)
        stored = first.told("uid-pdf")
        server.script = [says(503)] * 1000
        first.tell(plan(1, 2, 3), known())
        await eventually(lambda: first.senders["chat"].failures >= 1)
        assert first.told("uid-pdf") == stored
    server.script, seen = [], len(server.requests)
    async with notifying(bus) as second:
        second.tell(plan(1, 2, 3), stored)
        await eventually(lambda: second.senders["chat"].sent == 2)
    assert server.messages[seen:] == ["line 2", "line 3"]
    identifiers = [json.loads(request.body)["id"] for request in server.requests if request.message == "line 2"]
    assert len(identifiers) > 1
    assert len(set(identifiers)) == 1


async def test_what_was_told_is_due_to_be_written_after_a_minute(
    server: Server, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with notifying(receiver) as notifier:
        notifier.tell(plan(), {})
        stored = notifier.told("uid-pdf")
        assert stored == {"chat": ""}
        assert notifier.overdue("uid-pdf", {}) is None, "that a receiver is there is no reason to write"
        notifier.tell(plan(1), stored)
        await eventually(lambda: notifier.senders["chat"].sent == 1)
        left = notifier.overdue("uid-pdf", stored)
        assert left is not None
        assert 0 < left <= 60
        monkeypatch.setattr("cutover.adapters.notify.notifier.REMEMBER_SECONDS", 0.0)
        assert notifier.overdue("uid-pdf", stored) == 0
        assert notifier.overdue("uid-pdf", notifier.told("uid-pdf")) is None


async def test_a_deleted_plan_is_told_to_the_end(server: Server, receiver: Receiver) -> None:
    server.script = [says(503)]
    async with notifying(receiver) as notifier:
        notifier.tell(plan(1), known())
        notifier.forget("uid-pdf")
        assert await server.got(2) == ["line 1", "line 1"]
        await eventually(lambda: not notifier.told("uid-pdf"))


# ------------------------------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "127.1", "2130706433"])
async def test_this_machine_is_not_asked(host: str, server: Server, receiver: Receiver, logged: list[Any]) -> None:
    receiver.url_file.write_text(f"http://{host}:{server.port}/")
    async with notifying(receiver.model_copy(update={"allow": ()})) as notifier:
        notifier.tell(plan(1), known())
        await eventually(lambda: notifier.senders["chat"].failures >= 1)
    assert server.requests == []
    written_oddly = host in ("127.1", "2130706433")
    assert ("no usable address" if written_oddly else "permit it by allow") in logged[0]["problem"]


@pytest.mark.parametrize(
    ("address", "may"),
    [
        ("10.1.2.3", True),
        ("192.168.1.1", True),
        ("52.1.2.3", True),
        ("fd12:3456::1", True),
        ("2600::1", True),
        ("127.0.0.1", False),
        ("127.255.0.1", False),
        ("0.0.0.0", False),
        ("0.1.2.3", False),
        ("169.254.169.254", False),
        ("169.254.170.2", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("fe80::1", False),
        ("ff02::1", False),
        ("fd00:ec2::254", False),
        ("fd00:ec2::23", False),
        ("::ffff:169.254.169.254", False),
        ("::ffff:10.1.2.3", True),
        ("64:ff9b::a9fe:a9fe", False),
        ("64:ff9b::3401:203", True),
        ("2002:7f00:1::", False),
    ],
)
def test_where_a_receiver_may_be(address: str, may: bool) -> None:
    assert may_connect(ipaddress.ip_address(address)) is may


def test_what_is_allowed_is_allowed_and_no_more() -> None:
    assert may_connect(ipaddress.ip_address("127.0.0.1"), LOOPBACK)
    assert may_connect(ipaddress.ip_address("::ffff:127.0.0.1"), LOOPBACK)
    assert not may_connect(ipaddress.ip_address("169.254.169.254"), LOOPBACK)


# --------------------------------------------------------------------------------------------------------------- secrets


@pytest.mark.parametrize(
    "address",
    [
        f"http://127.0.0.1:{{port}}/{SECRET}",
        f"http://user:s3cr3t@127.0.0.1:{{port}}/{SECRET}",
        f"http://127.0.0.1:1/{SECRET}",
        f"http://s3cr3t.invalid/{SECRET}",
        f"https://127.0.0.1:{{port}}/{SECRET}",
        f"ftp://127.0.0.1/{SECRET}",
        f"http://[s3cr3t/{SECRET}",
        f"http://127.0.0.1:s3cr3t/{SECRET}",
        f"http://127.0.0.1:{{port}}/{SECRET}\nX-Header: s3cr3t",
        f"http://-s3cr3t-/{SECRET}",
        f"http://{'s3cr3t' * 40}/{SECRET}",
        "s3cr3t",
        "",
    ],
)
@pytest.mark.parametrize("token", [TOKEN, "s3cr3t\nX-Admin: yes", "s3cr3t é", "\x00s3cr3t"])
async def test_nothing_secret_is_said(
    address: str,
    token: str,
    server: Server,
    receiver: Receiver,
    logged: list[Any],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Not by us, not by a library, at any level, whatever is in the files and however the other side answers."""
    caplog.set_level(logging.DEBUG)

    async def echoes(request: web.Request) -> web.StreamResponse:
        return web.Response(status=400, text=f"{request.url} {dict(request.headers)}", reason="s3cr3t")

    receiver.url_file.write_text(address.format(port=server.port))
    receiver.header_files["Authorization"].write_text(token)
    server.script = [talks_nonsense, echoes, resets, says(500, SECRET), says(302, Location=f"/{SECRET}")]
    async with notifying(receiver) as notifier:
        notifier.tell(plan(1, 2, 3), known())
        outbox = notifier.senders["chat"]
        await eventually(lambda: outbox.failures >= 5)
        said = [repr(logged), caplog.text, repr(notifier), repr(receiver), repr(vars(notifier._senders[0]))]
    printed = capfd.readouterr()
    said += [repr(logged), caplog.text, printed.out, printed.err]
    assert any(line["event"] == "not notified" for line in logged)
    for text in said:
        assert "s3cr3t" not in text
        assert "T0123" not in text
