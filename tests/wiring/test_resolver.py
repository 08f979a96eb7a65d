"""DNS: what is read of an answer over real UDP, and that no answer, however odd, raises or takes long."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from tests.kit.world import plan_spec

from cutover.adapters import resolver
from cutover.adapters.resolver import DnsResolver
from cutover.api.v1alpha1 import CheckResult
from cutover.domain.dns import HostRecord
from cutover.domain.plan import Plan
from cutover.domain.preflight import registry
from cutover.domain.preflight.check import Facts

Answer = Callable[[dns.message.Message], bytes | None]


class PlayedDns:
    """Answers questions over UDP; ``None`` is silence."""

    def __init__(self) -> None:
        self.answer: Answer = lambda _: None
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Close the port."""
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                asked, peer = self._socket.recvfrom(4096)
                if (answer := self.answer(dns.message.from_wire(asked))) is not None:
                    self._socket.sendto(answer, peer)
            except OSError:
                return


@pytest.fixture
def server() -> Iterator[PlayedDns]:
    played = PlayedDns()
    yield played
    played.close()


def answering(*records: tuple[str, int, str, str], rcode: dns.rcode.Rcode = dns.rcode.NOERROR) -> Answer:
    """Return the answer with records: name, TTL, type and data."""

    def answer(asked: dns.message.Message) -> bytes:
        answered = dns.message.make_response(asked)
        answered.flags |= dns.flags.RA
        answered.set_rcode(rcode)
        answered.answer = [dns.rrset.from_text(name, ttl, "IN", kind, data) for name, ttl, kind, data in records]
        return answered.to_wire()

    return answer


async def asked(server: PlayedDns, host: str = "pdf.example.com") -> HostRecord:
    return await DnsResolver(["127.0.0.1"], server.port).record(host)


async def test_a_host_with_an_address(server: PlayedDns) -> None:
    server.answer = answering(("pdf.example.com.", 60, "A", "198.51.100.7"))
    assert await asked(server) == HostRecord("pdf.example.com", 60)


async def test_a_host_that_leads_to_heroku(server: PlayedDns) -> None:
    server.answer = answering(
        ("pdf.example.com.", 3600, "CNAME", "Quiet-Moon-1234.herokudns.com."),
        ("quiet-moon-1234.herokudns.com.", 30, "A", "198.51.100.7"),
    )
    record = await asked(server)
    assert record == HostRecord("pdf.example.com", 3600, ("quiet-moon-1234.herokudns.com",))
    assert record.at_heroku == "quiet-moon-1234.herokudns.com"


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (answering(rcode=dns.rcode.NXDOMAIN), "there is no such name"),
        (answering(), "it has no IPv4 address"),
        (answering(rcode=dns.rcode.SERVFAIL), "no answer"),
        (
            answering(
                ("pdf.example.com.", 5, "CNAME", "b.example.com."), ("b.example.com.", 5, "CNAME", "pdf.example.com.")
            ),
            "no answer",
        ),
        (
            answering(
                ("pdf.example.com.", 5, "CNAME", "n0.example.com."),
                *((f"n{n}.example.com.", 5, "CNAME", f"n{n + 1}.example.com.") for n in range(20)),
            ),
            "no answer",
        ),
    ],
    ids=["no name", "no address", "failed", "loop", "long chain"],
)
async def test_a_hostile_answer_is_none(server: PlayedDns, answer: Answer, problem: str) -> None:
    server.answer = answer
    record = await asked(server)
    assert (record.ttl, record.targets) == (None, ())
    assert problem in record.problem


@pytest.mark.parametrize(
    "answer",
    [lambda _: None, lambda _: b"not DNS at all", lambda asked: asked.to_wire()[:7]],
    ids=["silence", "garbage", "cut"],
)
async def test_what_is_no_answer_ends_after_its_time(
    server: PlayedDns, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver, "SERVER_SECONDS", 0.1)
    monkeypatch.setattr(resolver, "ANSWER_SECONDS", 0.3)
    server.answer = answer
    record = await asked(server)
    assert "no answer" in record.problem
    assert record.ttl is None


@pytest.mark.parametrize("host", ["x" * 300 + ".example.com", "a..b", "", "\udc80.example.com"])
async def test_a_name_that_is_none(server: PlayedDns, host: str) -> None:
    assert (await asked(server, host)).problem


def test_a_cache_says_what_is_left_so_the_longest_time_counts() -> None:
    before = HostRecord("a", 3000, ("x.herokudns.com",))
    assert HostRecord("a", 20, ("x.herokudns.com",)).joined(before).ttl == 3000
    assert HostRecord("a", 20, ("gateway.example.com",)).joined(before).ttl == 20
    assert HostRecord("a", problem="gone").joined(before).problem == "gone"
    assert HostRecord("a", 20).joined(None).ttl == 20


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (HostRecord("pdf.example.com", 60), ""),
        (HostRecord("pdf.example.com", 60, ("lb.eu-west-1.elb.amazonaws.com",)), ""),
        (HostRecord("pdf.example.com", problem="there is no such name"), ""),
        (HostRecord("pdf.example.com", 3600), "the DNS TTL of pdf.example.com is 3600 s or more"),
        (HostRecord("pdf.example.com", 60, ("x.herokudns.com",)), "do not come through the gateway"),
    ],
)
def test_what_is_found_in_dns(record: HostRecord, says: str) -> None:
    check = next(check for check in registry.CHECKS if check.name == "dns-ttl")
    finding = check.judge(Plan("shop", "pdf", "1", 1, plan_spec()), Facts(dns=(record,)))
    assert finding.result is (CheckResult.WARNED if says else CheckResult.PASSED)
    assert says in finding.message
