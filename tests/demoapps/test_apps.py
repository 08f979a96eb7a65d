"""What the demo legs answer, and what their knobs do to it."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request

from demoapps import contents, serving
from demoapps.apps import DemoApps
from demoapps.child import Child, ChildError, call
from demoapps.knobs import Knobs, Leg
from demoapps.tls import server_context

PDF = "acme-pdf-1a2b3c.herokuapp.com"
IMAGES = "acme-images-4d5e6f.herokuapp.com"


def over_tls(
    apps: DemoApps, sni: str | None, host: str, headers: dict[str, str] | None = None
) -> http.client.HTTPResponse:
    """Ask the Heroku leg, with the server name and the Host as they are given."""
    return _over_tls(apps, sni, host, headers or {}, "/")[0]


def _over_tls(
    apps: DemoApps, sni: str | None, host: str, headers: dict[str, str], path: str
) -> tuple[http.client.HTTPResponse, bytes]:
    context = ssl.create_default_context(cafile=str(apps.ca_file))
    if sni is None:
        context.check_hostname = False
    raw = socket.create_connection(("127.0.0.1", apps.heroku_port), timeout=5)
    with context.wrap_socket(raw, server_hostname=sni) as connection:
        lines = {"Host": host, "Connection": "close", **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        connection.sendall(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response, response.read()


def metrics(admin_port: int) -> str:
    """Scrape an admin port."""
    connection = http.client.HTTPConnection("127.0.0.1", admin_port, timeout=5)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def plain(apps: DemoApps, service: str, path: str = "/", **headers: str) -> http.client.HTTPResponse:
    """Ask a service of the EKS leg."""
    connection = http.client.HTTPConnection("127.0.0.1", apps.eks_ports[service], timeout=5)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        response.read()
        return response
    finally:
        connection.close()


def test_heroku_routes_by_host_and_says_what_it_saw(apps: DemoApps) -> None:
    headers = {"x-forwarded-host": "pdf.example.com", "x-forwarded-proto": "http"}
    response = over_tls(apps, PDF, PDF, headers)
    assert response.status == 200
    assert response.getheader("x-leg") == "heroku"
    assert response.getheader("x-app") == "pdf"
    assert response.getheader("x-seen-host") == PDF
    assert response.getheader("x-seen-forwarded-host") == "pdf.example.com"
    assert response.getheader("x-seen-forwarded-proto") == "https", "the last hop's, as on Heroku"
    assert response.getheader("via") == "1.1 heroku-router"
    assert response.getheader("x-request-id")


def test_a_request_id_is_kept(apps: DemoApps) -> None:
    response = over_tls(apps, PDF, PDF, {"x-request-id": "abc"})
    assert response.getheader("x-request-id") == "abc"


@pytest.mark.parametrize(
    ("sni", "host", "status"),
    [
        pytest.param(PDF, f"{PDF}:443", 200, id="port-in-host"),
        pytest.param("pdf.acme.example", "pdf.acme.example", 200, id="custom-domain"),
        pytest.param("a.pdf.acme.example", "a.pdf.acme.example", 200, id="wildcard-domain"),
        pytest.param("a.pdf.acme.example", "b.pdf.acme.example", 495, id="two-names-of-a-wildcard-domain"),
        pytest.param(None, PDF, 200, id="no-sni-shared-certificate"),
        pytest.param(PDF, "pdf.example.com", 404, id="host-not-rewritten"),
        pytest.param("nobody.herokuapp.com", "nobody.herokuapp.com", 404, id="no-such-app"),
        pytest.param(PDF, IMAGES, 421, id="another-app"),
        pytest.param(PDF, "pdf.acme.example", 421, id="custom-host-on-shared-certificate"),
        pytest.param("pdf.acme.example", PDF, 495, id="shared-host-on-custom-certificate"),
        pytest.param("pdf.acme.example", "images.acme.example", 495, id="another-custom-domain"),
        pytest.param("pdf.acme.example", "pdf.example.com", 495, id="unknown-host-on-custom"),
    ],
)
def test_host_must_fit_the_connection(apps: DemoApps, sni: str | None, host: str, status: int) -> None:
    assert over_tls(apps, sni, host).status == status


def test_each_name_has_a_certificate_of_our_authority(apps: DemoApps) -> None:
    over_tls(apps, "images.acme.example", "images.acme.example")
    with pytest.raises(ssl.SSLCertVerificationError):
        over_tls(apps, "unknown.example", "unknown.example")


@pytest.mark.parametrize(("knob", "code"), [("down", "H10"), ("maintenance", "H80"), ("platform_error", "H99")])
def test_the_router_answers_for_an_app_that_is_away(apps: DemoApps, knob: str, code: str) -> None:
    call(apps.heroku_admin_port, "/knobs/pdf", {knob: True})
    response = over_tls(apps, PDF, PDF)
    assert (response.status, response.getheader("x-heroku-error")) == (503, code)
    assert over_tls(apps, IMAGES, IMAGES).status == 200, "the other app is untouched"


def test_an_app_that_hangs_is_answered_for_after_h12(apps: DemoApps) -> None:
    apps.knobs("heroku", "pdf").set(hang=True)
    began = time.monotonic()
    response = over_tls(apps, PDF, PDF)
    assert (response.status, response.getheader("x-heroku-error")) == (503, "H12")
    assert 0.6 <= time.monotonic() - began < 5


def test_the_router_can_refuse_as_a_whole(apps: DemoApps) -> None:
    apps.refuse_heroku(refuse=True)
    with pytest.raises(ConnectionRefusedError):
        over_tls(apps, PDF, PDF)
    apps.refuse_heroku(refuse=False)
    assert over_tls(apps, PDF, PDF).status == 200


def test_eks_services_say_what_they_saw(apps: DemoApps) -> None:
    headers = {"host": "images.example.com", "x-forwarded-proto": "https"}
    response = plain(apps, "images", **headers)
    assert response.status == 200
    assert response.getheader("x-leg") == "eks"
    assert response.getheader("x-app") == "images"
    assert response.getheader("x-seen-host") == "images.example.com"
    assert response.getheader("x-seen-forwarded-proto") == "https"
    assert plain(apps, "images", "/status/418").status == 418


def read(apps: DemoApps, path: str, body: bytes = b"") -> tuple[http.client.HTTPResponse, bytes]:
    """Send a request to the EKS leg and read its whole answer."""
    connection = http.client.HTTPConnection("127.0.0.1", apps.eks_ports["pdf"], timeout=5)
    try:
        connection.request("POST" if body else "GET", path, body, {"host": "pdf.example.com", "x-a": "b"})
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def test_answers_can_last_and_begin_late(apps: DemoApps) -> None:
    response, body = read(apps, "/stream/1")
    assert (response.status, response.getheader("x-leg")) == (200, "eks")
    assert body == contents.streamed(1)
    assert body.count(b"data: ") == 3
    began = time.monotonic()
    assert read(apps, "/after/1")[0].status == 200
    assert time.monotonic() - began >= 1


def test_what_reached_an_app_can_be_seen(apps: DemoApps) -> None:
    _, body = read(apps, "/seen")
    seen = json.loads(body)
    assert (seen["host"], seen["x-a"]) == ("pdf.example.com", "b")
    sent = bytes(range(256)) * 1000
    assert read(apps, "/", sent)[0].getheader("x-seen-body") == hashlib.sha256(sent).hexdigest()


def test_herokus_router_adds_the_address_that_came_to_it(apps: DemoApps) -> None:
    seen = json.loads(_over_tls(apps, PDF, PDF, {"x-forwarded-for": "198.51.100.7"}, "/seen")[1])
    assert seen["x-forwarded-for"] == "198.51.100.7, 127.0.0.1"
    assert (seen["x-forwarded-proto"], seen["x-forwarded-port"]) == ("https", "443")
    assert seen["x-request-start"].isdecimal()


async def test_refusing_cuts_idle_and_busy_connections_and_keeps_the_port(apps: DemoApps) -> None:
    knobs = apps.knobs("eks", "pdf")
    port = apps.eks_ports["pdf"]
    idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", port)
    idle_writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await idle_reader.readuntil(b"}\n")).startswith(b"HTTP/1.1 200")
    knobs.set(latency_ms=5000)
    busy_reader, busy_writer = await asyncio.open_connection("127.0.0.1", port)
    busy_writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.sleep(0.1)

    knobs.set(refuse=True)
    for reader in (idle_reader, busy_reader):
        # Cut off: reset, or an end without an answer.
        try:
            answer = await asyncio.wait_for(reader.read(), 1)
        except ConnectionResetError:
            answer = b""
        assert answer == b""
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    assert plain(apps, "images").status == 200, "the other service is untouched"

    knobs.set(refuse=False, latency_ms=5)
    assert plain(apps, "pdf").status == 200
    idle_writer.close()
    busy_writer.close()


async def test_a_hung_service_answers_nothing_until_it_wakes(apps: DemoApps) -> None:
    knobs = apps.knobs("eks", "pdf")
    url = f"http://127.0.0.1:{apps.eks_ports['pdf']}/"
    async with aiohttp.ClientSession() as session:
        async with session.get(url) as response:
            assert response.status == 200
        knobs.set(hang=True)
        with pytest.raises(TimeoutError):
            # On the connection that is open already.
            await session.get(url, timeout=aiohttp.ClientTimeout(total=0.3))
        await asyncio.sleep(0.1)
        assert apps.stats("eks")["pdf"]["in_flight"] == 0, "it ends with its client"
        waiting = asyncio.create_task(session.get(url))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        knobs.set(hang=False)
        response = await asyncio.wait_for(waiting, 1)
        assert response.status == 200
        response.release()


def test_throttling_rises_with_the_slow_tail(apps: DemoApps) -> None:
    apps.label_pod("pdf", "pdf-7d9c-x2x")

    def scrape() -> dict[str, float]:
        labels = 'namespace="demo",pod="pdf-7d9c-x2x"'
        text = metrics(apps.eks_admin_port)
        found = re.findall(rf'^(\w+){{container="pdf",{labels}}} (\S+)$', text, re.MULTILINE)
        return {name: float(value) for name, value in found}

    def throttled_share() -> float:
        before, began = scrape(), time.monotonic()
        time.sleep(0.7)
        after, elapsed = scrape(), time.monotonic() - began
        rise = {name: after[name] - before[name] for name in after}
        assert rise["container_cpu_cfs_periods_total"] == pytest.approx(elapsed * 10, abs=2)
        assert rise["container_cpu_cfs_throttled_seconds_total"] >= 0
        return rise["container_cpu_cfs_throttled_periods_total"] / rise["container_cpu_cfs_periods_total"]

    assert throttled_share() < 0.2
    apps.knobs("eks", "pdf").set(slow_ratio=0.02)
    assert throttled_share() > 0.2
    apps.knobs("eks", "pdf").set(slow_ratio=0, throttled_ratio=0.8)
    assert throttled_share() == pytest.approx(0.8, abs=0.25)
    began = time.monotonic()
    assert plain(apps, "pdf").status == 200
    assert time.monotonic() - began < 5, "throttling alone slows nothing here"


@pytest.mark.parametrize("leg", ["heroku", "eks"])
def test_checkouts_fail_in_the_apps_own_metrics_only(apps: DemoApps, leg: Leg) -> None:
    port = apps.heroku_admin_port if leg == "heroku" else apps.eks_admin_port

    def checkouts() -> dict[tuple[str, str], int]:
        pattern = rf'^checkout_attempts_total{{app="(\w+)",platform="{leg}",result="(\w+)"}} (\S+)$'
        found = re.findall(pattern, metrics(port), re.MULTILINE)
        return {(app, result): int(float(count)) for app, result, count in found}

    def ask() -> int:
        return (over_tls(apps, IMAGES, IMAGES) if leg == "heroku" else plain(apps, "images")).status

    images = "pictures" if leg == "heroku" else "images"
    before = checkouts()
    assert before.keys() == {(app, result) for app in ("pdf", images) for result in ("ok", "failed")}
    assert ask() == 200
    apps.knobs(leg, "images").set(failed_checkout_ratio=1.0)
    assert ask() == 200
    apps.knobs(leg, "images").set(failed_checkout_ratio=0.0, error_ratio=1.0)
    assert ask() == 500
    rise = {key: count - before[key] for key, count in checkouts().items()}
    assert rise == {(images, "ok"): 1, (images, "failed"): 2, ("pdf", "ok"): 0, ("pdf", "failed"): 0}


def test_knobs_are_checked_and_kept(apps: DemoApps) -> None:
    knobs = apps.knobs("eks", "pdf")
    before = time.time()
    assert before <= knobs.set(error_ratio=0.03) <= time.time()
    assert knobs.get() == Knobs(error_ratio=0.03)
    with pytest.raises(ChildError, match="from 0 to 1"):
        knobs.set(error_ratio=3)
    with pytest.raises(ChildError, match="set `refuse`"):
        knobs.set(down=True)
    with pytest.raises(ChildError, match="CPU limit"):
        apps.knobs("heroku", "pdf").set(throttled_ratio=0.4)
    with pytest.raises(ChildError, match="set `down`"):
        apps.knobs("heroku", "pdf").set(refuse=True)
    with pytest.raises(ChildError, match="no knob 'erorr_ratio'"):
        knobs.set(erorr_ratio=0.1)  # type: ignore[call-arg]
    with pytest.raises(ChildError, match="no app 'nobody'"):
        apps.knobs("eks", "nobody").set(hang=True)
    assert knobs.get() == Knobs(error_ratio=0.03)


def test_a_taken_port_is_named(apps: DemoApps, tmp_path: Path) -> None:
    port = apps.eks_ports["pdf"]
    child = Child("demoapps.eks_app", ["--service", f"x={port}"], state_dir=tmp_path, name="x")
    with pytest.raises(ChildError, match=f"cannot listen on 127.0.0.1:{port}"):
        child.start()


def test_the_authority_survives_a_restart(tmp_path: Path) -> None:
    server_context(tmp_path, [PDF])
    first = (tmp_path / "ca.crt").read_bytes()
    server_context(tmp_path, [PDF, "pdf.acme.example"])
    assert (tmp_path / "ca.crt").read_bytes() == first


async def test_a_hung_app_keeps_a_bounded_number_of_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "HUNG_LIMIT", 2)
    app = serving.DemoApp("pdf", "eks")
    app.turn({"hang": True, "latency_ms": 0})
    request = make_mocked_request("GET", "/")
    first, *others = [asyncio.create_task(app.answer(request, {}, b"")) for _ in range(3)]
    await asyncio.sleep(0.05)
    assert first.cancelled(), "the oldest goes"
    app.turn({"hang": False})
    assert [(await other).status for other in others] == [200, 200]


def test_no_process_is_left_when_the_parent_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, threading, time, pathlib\n"
        "from demoapps.apps import DemoApps\n"
        f"apps = DemoApps(pathlib.Path({str(tmp_path)!r}), {{'pdf': [{PDF!r}]}}, ['pdf'])\n"
        # From a thread that ends: its children must not end with it.
        "thread = threading.Thread(target=apps.start); thread.start(); thread.join()\n"
        "time.sleep(0.3); apps.stats('eks')\n"
        "print(apps._heroku._process.pid, apps._eks._process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    hack = str(Path(__file__).resolve().parents[2] / "hack")
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": hack},
    )
    assert parent.stdout is not None
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert len(pids) == 2
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    deadline = time.monotonic() + 5
    while any(_runs(pid) for pid in pids):
        assert time.monotonic() < deadline, "a demo app has outlived its parent"
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        # A zombie that nobody has waited for yet does not count.
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
