"""What goes over the wire: requests byte by byte as Logplex writes them, and answers as its client reads them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import prometheus_client
import pytest
import yaml
from tests.kit.drain_process import PASSWORD, TOKEN, TOKENS, USER, drains_file
from tests.kit.logplex import Answer, Node, frame, head, overflow, read_answer, request_line
from tests.kit.waiting import eventually

from cutover.drain import server
from cutover.drain.access import AccessFile
from cutover.drain.body_memory import BodyMemory
from cutover.drain.frames import Record, Refusal
from cutover.drain.main import main
from cutover.drain.server import LARGEST_BODY, Port, Receiver
from cutover.settings import SettingsError

PDF = TOKENS["acme-pdf"]
BASIC = f"{USER}:{PASSWORD}"
ID = "0" * 31 + "1"


@dataclass
class Served:
    """A port that listens."""

    port: int
    receiver: Port
    record: Record
    file: Path
    room: BodyMemory
    configured: list[bool] = field(default_factory=list)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def exchange(self, *parts: bytes) -> Answer:
        """Send bytes on a connection of its own, and return the answer."""
        reader, writer = await self.connect()
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
            async with asyncio.timeout(60):
                return await read_answer(reader)
        finally:
            writer.transport.abort()

    async def send(
        self, *messages: bytes, token: str = PDF, credentials: str = BASIC, identity: str = ID, path: str = "/logplex"
    ) -> Answer:
        count, body = frame(messages)
        return await self.exchange(head(token, credentials, identity, count, body, path=path) + body)


@pytest.fixture
async def served(tmp_path: Path, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    monkeypatch.setattr(server, "LOOK_SECONDS", 0.0)
    record = Record(time.time, time.monotonic)
    path = drains_file(tmp_path)
    configured: list[bool] = []
    answering = Receiver(AccessFile(path), record, on_configuration=configured.append)
    port = await Port(answering).open("127.0.0.1", unused_tcp_port)
    yield Served(unused_tcp_port, port, record, path, answering._body_memory, configured)
    await port.close(0)


async def test_an_answer_is_one_that_logplex_understands(served: Served) -> None:
    answer = await served.send(request_line(), request_line(500))
    assert (answer.status, answer.reason, answer.rest) == (200, "OK", b"")
    assert answer.headers["content-length"] == "0"
    assert not answer.closes
    assert served.record.of("acme-pdf").requests == {("200", ""): 1, ("500", ""): 1}


async def test_a_request_may_come_a_byte_at_a_time(served: Served) -> None:
    count, body = frame([request_line()], dropped=3)
    whole = head(PDF, BASIC, ID, count, body) + body
    answer = await served.exchange(*(whole[i : i + 1] for i in range(len(whole))))
    assert answer.status == 200
    assert served.record.of("acme-pdf").requests == {("200", ""): 1}
    assert served.record.of("acme-pdf").dropped == {"L10": 3}


async def test_a_connection_has_many_requests(served: Served) -> None:
    reader, writer = await served.connect()
    count, body = frame([request_line()])
    for number in range(5):
        writer.write(head(PDF, BASIC, f"{number:032x}", count, body) + body)
        assert (await read_answer(reader)).status == 200
    writer.close()
    assert served.record.of("acme-pdf").requests == {("200", ""): 5}


async def test_a_frame_without_an_answer_comes_again_and_counts_once(served: Served) -> None:
    count, body = frame([request_line()], dropped=1)
    _, writer = await served.connect()
    writer.write(head(PDF, BASIC, ID, count, body) + body)
    await writer.drain()
    await eventually(lambda: served.record.of("acme-pdf").requests)
    writer.transport.abort()  # counted, and the answer is lost
    count, body = frame([request_line()], dropped=4)
    assert (await served.exchange(head(PDF, BASIC, ID, count, body) + body)).status == 200
    assert served.record.of("acme-pdf").requests == {("200", ""): 1}
    assert served.record.of("acme-pdf").dropped == {"L10": 4}


async def test_a_request_that_ends_in_its_middle_counts_nothing_and_comes_again(served: Served) -> None:
    count, body = frame([request_line(), request_line()])
    for cut in (1, len(body) // 2, len(body) - 1):
        reader, writer = await served.connect()
        writer.write(head(PDF, BASIC, ID, count, body) + body[:cut])
        await writer.drain()
        writer.close()
        await reader.read()
    await eventually(lambda: served.record.refused[Refusal.INCOMPLETE] == 3)
    assert (await served.send(request_line(), request_line())).status == 200
    assert served.record.of("acme-pdf").requests == {("200", ""): 2}
    assert served.record.of("acme-pdf").dropped == {}


@pytest.mark.parametrize(
    ("credentials", "path"),
    [
        ("", "/logplex"),
        ("logplex:wrong", "/logplex"),
        (f"other:{PASSWORD}", "/logplex"),
        (f"{USER}:{TOKEN}", "/logplex"),
        (f"{USER}:", "/logplex"),
        (":", "/"),
        ("\xe9:\xff", "/logplex"),
        ("", f"/{PASSWORD}"),
        ("", f"/logplex/{TOKEN}/"),
        ("", f"/logplex/{TOKEN[:-1]}"),
        ("", f"/logplex?{TOKEN}"),
    ],
)
async def test_without_credentials_a_frame_is_refused_and_told(served: Served, credentials: str, path: str) -> None:
    answer = await served.send(request_line(), request_line(), credentials=credentials, path=path)
    assert answer.status == 401
    assert answer.closes
    assert served.record.of("acme-pdf").requests == {}
    assert served.record.of("acme-pdf").dropped == {"credentials": 2}
    assert served.record.refused[Refusal.CREDENTIALS] == 1


@pytest.mark.parametrize(
    ("credentials", "path"), [(BASIC, "/"), (BASIC, "/any/path"), ("", f"/logplex/{TOKEN}"), ("", f"/{TOKEN}?a=b")]
)
async def test_with_a_password_or_a_token_in_the_path_a_frame_is_taken(
    served: Served, credentials: str, path: str
) -> None:
    assert (await served.send(request_line(), credentials=credentials, path=path)).status == 200
    assert served.record.of("acme-pdf").requests == {("200", ""): 1}


@pytest.mark.parametrize("token", ["d.unknown-unknown", "", "acme-pdf"])
async def test_the_frames_of_an_unknown_drain_are_refused_and_told(served: Served, token: str) -> None:
    assert (await served.send(request_line(), token=token)).status == 403
    assert served.record.of("").dropped == {"drain_token": 1}
    assert set(served.record.apps) == {"acme-pdf", "acme-shop", ""}


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(served: Served) -> None:
    for extra in (b"", b"Transfer-Encoding: chunked\r\n"):
        begin = head(PDF, BASIC, ID, 7, b"").replace(
            b"Content-Length: 0\r\n", extra or b"Content-Length: 99999999\r\n"
        )
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        answer = await served.exchange(begin, *([chunk] * (LARGEST_BODY // 65536 + 1) if extra else []))
        assert answer.status == 413
    assert served.record.of("acme-pdf").dropped == {"too_large": 14}
    assert (await served.send(request_line())).status == 200


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"POST", b"GET", 405),
        (b"POST", b"PUT", 405),
        (b"application/logplex-1", b"text/plain", 415),
        (b"User-Agent: Logplex/v72", b"Content-Encoding: gzip", 415),
    ],
)
async def test_what_is_not_logplex_is_refused(served: Served, old: bytes, new: bytes, status: int) -> None:
    count, body = frame([request_line()])
    whole = head(PDF, BASIC, ID, count, body).replace(old, new) + body
    assert (await served.exchange(whole)).status == status
    assert served.record.of("acme-pdf").requests == {}


@pytest.mark.parametrize("count", ["-1", "1e3", "9" * 40, "²", ""])
async def test_a_count_that_is_no_number_is_none(served: Served, count: str) -> None:
    _, body = frame([request_line()])
    whole = head(PDF, BASIC, ID, 1, body).replace(b"Count: 1\r\n", f"Count: {count}\r\n".encode()) + body
    assert (await served.exchange(whole)).status == 200
    assert served.record.of("acme-pdf").dropped == {}


async def test_nothing_secret_is_logged(
    served: Served, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    await served.send(request_line(), credentials=f"{USER}:secret-but-wrong-1")
    await served.send(request_line(), token="d.secret-but-unknown", path=f"/{TOKEN}", credentials="")
    for nonsense in (
        head(PDF, BASIC, ID, 1, b"").replace(b"Authorization", b"Authori\x00zation"),
        head(PDF, BASIC, ID, 1, b"", path=f"/{TOKEN} /x").replace(b"HTTP/1.1", b"HTTP/9.x"),
        head(PDF, BASIC, ID, 1, b"").replace(b"Content-Length: 0", b"Content-Length: " + TOKEN.encode()),
    ):
        reader, writer = await served.connect()
        writer.write(nonsense)
        assert b" 400" in await reader.read(12)
        writer.transport.abort()
    told = caplog.text + capsys.readouterr().out
    assert "a request was refused" in told
    for secret in (PASSWORD, TOKEN, PDF, "secret-but", "bG9ncGxleDp"):
        assert secret not in told


async def test_credentials_and_apps_are_read_again_when_they_change(served: Served, tmp_path: Path) -> None:
    other = f"{USER}:the-next-password-of-it"
    assert (await served.send(request_line(), credentials=other)).status == 401
    both = [{"username": USER, "password": password} for password in (PASSWORD, other.partition(":")[2])]
    drains_file(tmp_path, credentials=both, apps={"acme-pdf": PDF, "acme-new": "d.33333333-cccc"})
    assert (await served.send(request_line(), credentials=other, identity="b")).status == 200
    assert (await served.send(request_line(), identity="c")).status == 200
    assert (await served.send(request_line(), token="d.33333333-cccc")).status == 200
    assert (await served.send(request_line(), token=TOKENS["acme-shop"])).status == 403
    assert served.configured == [True]


@pytest.mark.parametrize("content", ["credentials: []", "{", "", None])
async def test_while_the_file_is_wrong_the_one_before_holds(served: Served, content: str | None) -> None:
    good = served.file.read_text()
    served.file.unlink() if content is None else served.file.write_text(content)
    assert (await served.send(request_line())).status == 200
    assert served.configured == [False]
    served.file.write_text(good)
    assert (await served.send(request_line(), identity="b")).status == 200
    assert served.configured == [False, True]


async def test_many_connections_that_say_nothing_make_room(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 10)
    silent = [await served.connect() for _ in range(30)]
    assert (await served.send(request_line())).status == 200
    ended = [await asyncio.wait_for(reader.read(), 60) for reader, _ in silent[:20]]
    assert ended == [b""] * 20
    for _, writer in silent:
        writer.transport.abort()


async def test_a_connection_that_says_nothing_ends(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEADER_SECONDS", 0.2)
    for said in (b"", b"POST / HTTP/1.1\r\nHost: x\r\nA: "):
        reader, writer = await served.connect()
        writer.write(said)
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()


async def test_a_body_that_does_not_come_ends(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BODY_SECONDS", 0.2)
    answer = await served.exchange(head(PDF, BASIC, ID, 1, b"x" * 100) + b"x")
    assert (answer.status, answer.closes) == (503, True)  # Logplex sends it again
    assert served.record.of("acme-pdf").dropped == {}


async def test_bodies_wait_until_there_is_room_for_them(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served.room, "left", 3000)
    frames = [frame([request_line()] * 5) for _ in range(10)]  # 1.4 KB each
    slow = [await served.connect() for _ in frames]
    for number, ((_, writer), (count, body)) in enumerate(zip(slow, frames, strict=True)):
        writer.write(head(PDF, BASIC, f"{number:032x}", count, body) + body[:-1])
        await writer.drain()
    await eventually(lambda: served.room.left < 1400)
    for (_, writer), (_, body) in zip(slow, frames, strict=True):
        writer.write(body[-1:])
    answers = [await asyncio.wait_for(read_answer(reader), 60) for reader, _ in slow]
    assert {answer.status for answer in answers} == {200}
    assert served.record.of("acme-pdf").requests == {("200", ""): 50}
    assert served.room.left == 3000
    for _, writer in slow:
        writer.close()


SHOP = TOKENS["acme-shop"]


async def stalled(
    served: Served, token: str, credentials: str = BASIC
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Announce a body that never comes."""
    reader, writer = await served.connect()
    begin = head(token, credentials, ID, 1, b"").replace(b"Content-Length: 0", b"Content-Length: %d" % LARGEST_BODY)
    writer.write(begin)
    await writer.drain()
    return reader, writer


async def test_bodies_of_an_app_that_never_come_delay_no_other_app(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "BODY_SECONDS", 600.0)
    held = [await stalled(served, SHOP) for _ in range(24)]
    await eventually(lambda: served.room.waiting == 22)
    assert (await served.send(request_line())).status == 200
    assert served.room.left == server.MOST_BYTES - server.APP_BYTES
    for _, writer in held:
        writer.transport.abort()
    await eventually(lambda: served.room.left == server.MOST_BYTES)  # who is gone does not wait
    assert served.room.waiting == 0
    assert served.record.refused[Refusal.INCOMPLETE] == 24


async def test_connections_whose_requests_are_refused_make_room(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are still open for a while: otherwise the refusal might be lost with what is left of the body."""
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 10)
    refused = [await stalled(served, PDF, "logplex:wrong") for _ in range(10)]
    for reader, _ in refused:
        assert (await asyncio.wait_for(read_answer(reader), 60)).status == 401
    assert (await served.send(request_line())).status == 200
    for _, writer in refused:
        writer.transport.abort()


async def test_connections_of_one_app_make_room_for_another(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 16)
    monkeypatch.setattr(server, "BODY_SECONDS", 600.0)
    held = [await stalled(served, SHOP) for _ in range(16)]
    await eventually(lambda: served.room.waiting == 14)
    assert (await served.send(request_line())).status == 200
    await eventually(lambda: served.room.waiting == 13)
    for _, writer in held:
        writer.transport.abort()


async def test_whoever_leaves_answers_what_is_there_and_takes_no_more(served: Served) -> None:
    reader, writer = await served.connect()
    count, body = frame([request_line()])
    writer.write(head(PDF, BASIC, ID, count, body) + body[:10])
    await writer.drain()
    idle_reader, idle_writer = await served.connect()
    leaving = asyncio.create_task(served.receiver.close(1.5))
    await asyncio.sleep(0.1)
    answer = await served.send(request_line(), identity="2")  # nobody has heard yet that it leaves
    assert (answer.status, answer.closes) == (200, True)
    async with asyncio.timeout(60):
        while True:
            try:
                (await served.connect())[1].transport.abort()
            except (ConnectionRefusedError, ConnectionResetError):
                break
            await asyncio.sleep(0.02)
    writer.write(body[10:])
    answer = await asyncio.wait_for(read_answer(reader), 60)
    assert (answer.status, answer.closes) == (200, True)
    await leaving
    assert served.record.of("acme-pdf").requests == {("200", ""): 2}
    assert await asyncio.wait_for(idle_reader.read(), 60) == b""
    idle_writer.close()
    writer.close()


async def test_a_node_of_logplex_loses_nothing_by_refused_connections_and_tells_what_it_loses(served: Served) -> None:
    """The played node itself: without it the tests with real processes prove nothing."""
    ports = iter([1, 1, served.port])
    node = Node(lambda: ("127.0.0.1", next(ports, served.port)), PDF, BASIC, most=10)
    node.write(request_line() for _ in range(1100))
    ended = asyncio.Event()
    ended.set()
    await node.run(ended)
    counts = served.record.of("acme-pdf")
    assert (node.sent, node.acknowledged, node.dropped, node.silently) == (1100, 1024, 0, 0)
    assert counts.requests == {("200", ""): 1024}
    assert counts.dropped == {"L10": 76}


async def test_any_bytes_on_the_wire_end_nothing(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    draw = random.Random(1)
    count, body = frame([request_line(), overflow(3)])
    for number in range(300):
        whole = bytearray(head(PDF, BASIC, f"{number:032x}", count, body) + body)
        for _ in range(draw.choice((1, 1, 2, 5, 50))):
            place = draw.randrange(len(whole))
            match draw.randrange(3):
                case 0:
                    whole[place] = draw.randrange(256)
                case 1:
                    del whole[place : place + draw.randrange(9)]
                case _:
                    whole[place:place] = draw.randbytes(draw.randrange(9))
        reader, writer = await served.connect()
        writer.write(bytes(whole))
        writer.write_eof()
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), 60)
        writer.transport.abort()
    assert served.record.apps.keys() == {"acme-pdf", "acme-shop", ""}
    assert served.record.of("acme-shop").lines == {}
    assert all("fault" not in counts.dropped for counts in served.record.apps.values())
    assert served.room.left == server.MOST_BYTES
    assert (await served.send(request_line(), identity="f" * 32)).status == 200
    assert not [line for line in caplog.records if line.levelno >= logging.ERROR]


async def test_a_fault_of_the_program_is_answered_and_told(
    served: Served,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(_: object, authorization: str, path: str) -> bool:
        raise RuntimeError(f"cannot read {authorization}")

    with monkeypatch.context() as broken:
        broken.setattr("cutover.drain.access.Access.allows", fail)
        assert (await served.send(request_line())).status == 500
    # In which of them it is depends on whether a test of this process has configured logging.
    told = capsys.readouterr().out + caplog.text
    assert "RuntimeError at test_drain_http.py:" in told
    assert "Basic" not in told
    assert (await served.send(request_line())).status == 200


async def test_access_is_never_by_an_empty_secret(tmp_path: Path) -> None:
    tokens_only = yaml.safe_dump({"credentials": [{"token": TOKEN}], "apps": {}})
    path = tmp_path / "drains.yaml"
    path.write_text(tokens_only)
    access = AccessFile(path).access
    assert access.allows("", f"/x/{TOKEN}")
    for authorization, where in (
        ("", "/"),
        ("Basic ", "/"),
        ("Basic Og==", "/"),
        ("Basic", ""),
        ("Bearer " + TOKEN, "/"),
    ):
        assert not access.allows(authorization, where)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("credentials: []", "credentials"),
        ("{}", "credentials"),
        ("credentials: [{token: short}]", "credentials[0].token"),
        ("credentials: [{token: 'with:colon-and-more-of-it'}]", "credentials[0].token"),
        (f"credentials: [{{username: a, token: {TOKEN}}}]", "credentials[0]: write username and password, or token"),
        (f"credentials: [{{username: a, password: {PASSWORD}, token: {TOKEN}}}]", "credentials[0]: write username"),
        ("credentials: [{username: a}]", "credentials[0]: write username and password, or token"),
        (f"credentials: [{{token: {TOKEN}}}]\napps: {{pdf: x}}", "apps.pdf"),
        (f"credentials: [{{token: {TOKEN}}}]\napps: {{pdf: d.12345678, shop: d.12345678}}", "pdf and shop have the same"),
        (f"credentials: [{{token: {TOKEN}}}]\napps: {{PDF: d.12345678}}", "apps.PDF"),
        (f"credentials: [{{token: {TOKEN}}}]\nApps: {{}}", "Apps"),
        ("credentials: [{token: *x}]", "not YAML"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_file_is_named_and_no_secret_quoted(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "drains.yaml"
    path.write_text(content)
    with pytest.raises(SettingsError) as error:
        AccessFile(path)
    assert problem in str(error.value)
    for secret in ("short", "with:colon", TOKEN, PASSWORD, "12345678"):
        assert secret not in str(error.value)


def test_overflow_is_not_counted_twice_within_one_frame() -> None:
    """Guards the helper: L10 is in the count of its frame."""
    count, body = frame([request_line()], dropped=9)
    assert count == 2
    assert body.startswith(overflow(9))


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"PORT": "0"}, "settings: CUTOVER_DRAIN_PORT: "),
        (
            {"POTR": "1"},
            "settings: CUTOVER_DRAIN_POTR: Extra inputs are not permitted; there are CUTOVER_DRAIN_FILE, ",
        ),
        ({"FILE": "/nowhere/drains.yaml"}, "settings: drains.yaml: cannot be read: No such file or directory"),
        ({"LOG_LEVEL": "LOUD"}, "settings: CUTOVER_DRAIN_LOG_LEVEL: "),
    ],
)
def test_a_mistake_in_the_settings_ends_the_process_with_its_name(
    variables: dict[str, str], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"FILE": str(drains_file(tmp_path)), **variables}
    for name, value in given.items():
        monkeypatch.setenv(f"CUTOVER_DRAIN_{name}", value)
    with pytest.raises(SystemExit) as ended:
        main()
    assert str(ended.value.code).startswith(problem)


def test_a_port_in_use_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int) -> None:
    for name, value in {
        "PORT": unused_tcp_port,
        "FILE": drains_file(tmp_path),
        "HEALTH_PORT": 0,
        "METRICS_PORT": 0,
    }.items():
        monkeypatch.setenv(f"CUTOVER_DRAIN_{name}", str(value))
    monkeypatch.setattr("cutover.drain.main.configure_logging", lambda _: None)
    monkeypatch.setattr(prometheus_client, "REGISTRY", prometheus_client.CollectorRegistry())
    with socket.socket() as other:
        other.bind(("0.0.0.0", unused_tcp_port))
        other.listen()
        with pytest.raises(SystemExit, match="cutover-drain: "):
            main()
