"""No secret leaves the operator but in the one request that it is for: not in logs, errors, statuses, Events or metrics.

Each secret of the settings is marked, whatever the other side does with it: refuses it, sends it back, hangs up, redirects,
answers nonsense. Then everything that was said, at DEBUG and by all libraries, is searched for the marks.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import yaml
from aiohttp import web
from tests.kit.builders import spec_fields

from cutover.adapters.masking import masked

ROOT = Path(__file__).parents[2]
#: Begins every secret; what comes after it says which one it is.
MARK = "S3CR3T"


def secret(name: str) -> str:
    return f"{MARK}-{name}"


# ---------------------------------------------------------------------------------------------------------- other sides


async def refuses(request: web.Request) -> web.StreamResponse:
    return web.json_response({"message": "who are you?", "code": 401}, status=401)


async def forbids(request: web.Request) -> web.StreamResponse:
    return web.json_response({"status": "error", "error": "not you", "message": "not you"}, status=403)


async def redirects(request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound(f"http://127.0.0.1:1/{request.headers.get('Authorization', 'x').split()[-1]}")


async def echoes(request: web.Request) -> web.StreamResponse:
    """Send all that came back, as an error page of a proxy does."""
    return web.Response(text=f"{request.method} {request.path_qs}\n{dict(request.headers)}", status=500)


async def quotes(request: web.Request) -> web.StreamResponse:
    """Refuse as an API server does, with the request in the reason."""
    return web.json_response({"message": f"not with {dict(request.headers)}", "code": 400}, status=400)


async def answers_nonsense(request: web.Request) -> web.StreamResponse:
    return web.Response(text="<html>", content_type="application/json")


async def hangs_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def throttles(request: web.Request) -> web.StreamResponse:
    return web.Response(status=429, headers={"Retry-After": "1"})


BEHAVIOURS: tuple[Callable[[web.Request], Awaitable[web.StreamResponse]], ...] = (
    *(refuses, forbids, redirects, echoes, quotes, answers_nonsense, hangs_up, throttles),
)


@asynccontextmanager
async def others() -> AsyncIterator[tuple[dict[str, str], list[str]]]:
    """Serve each behaviour; yield their URLs by name, and what came with a secret."""
    came: list[str] = []
    application = web.Application()

    def serve(name: str, answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> None:
        async def handle(request: web.Request) -> web.StreamResponse:
            came.extend(re.findall(rf"{MARK}-[a-z-]+", f"{request.path_qs} {dict(request.headers)}"))
            return await answer(request)

        application.router.add_route("*", f"/{name}/{{rest:.*}}", handle)

    for answer in BEHAVIOURS:
        serve(answer.__name__, answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        urls = {answer.__name__: f"http://127.0.0.1:{port}/{answer.__name__}" for answer in BEHAVIOURS}
        urls |= {
            "is_not_there": f"http://127.0.0.1:{closed.getsockname()[1]}",
            "has_no_name": "http://nowhere.invalid",
            "speaks_no_tls": f"https://127.0.0.1:{port}/refuses",
        }
        try:
            yield urls, came
        finally:
            await runner.cleanup()


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def kubeconfig(folder: Path, name: str, url: str) -> str:
    user = {"name": "operator", "user": {"token": secret("api-token")}}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "contexts": [{"name": "one", "context": {"cluster": "one", "user": "operator"}}],
        "clusters": [{"name": "one", "cluster": {"server": url, "insecure-skip-tls-verify": True}}],
        "users": [user],
    }
    return write(folder, f"kubeconfig-{name}", yaml.safe_dump(config))


def sources(folder: Path, url: str) -> str:
    """Return a file with every kind of credentials for Prometheus."""
    token = write(folder, "token", secret("prometheus-token"))
    name, password = write(folder, "name", secret("username")), write(folder, "password", secret("password"))
    broken = write(
        folder, "key.pem", f"-----BEGIN PRIVATE KEY-----\n{secret('client-key')}\n-----END PRIVATE KEY-----\n"
    )
    two_lines = write(folder, "two-lines", f"{secret('first-line')}\n{secret('second-line')}\n")
    raw = folder / "not-text"
    raw.write_bytes(secret("not-text").encode() + b"\xff")
    every = {"namespaces": ["*"], "url": url, "timeout": 1}
    servers = [
        {"name": "basic", **every, "basicAuth": {"usernameFile": name, "passwordFile": password}},
        {"name": "tenant", **every, "bearerTokenFile": token, "tenant": secret("tenant")},
        {"name": "broken", **every, "bearerTokenFile": two_lines},
        {"name": "raw", **every, "bearerTokenFile": str(raw)},
        {"name": "parameters", **every, "parameters": {"key": secret("parameter")}},
    ]
    if url.startswith("https://"):
        servers.append({"name": "key", **every, "tls": {"certFile": broken, "keyFile": broken}})
    default = {"url": url, "timeout": 1, "bearerTokenFile": token}
    return write(folder, "sources.yaml", yaml.safe_dump({"default": default, "sources": servers}))


def receivers(folder: Path, url: str) -> str:
    address = write(folder, "url", f"{url}/{secret('webhook')}?key={secret('webhook-key')}")
    header = write(folder, "header", f"Bearer {secret('webhook-header')}")
    useless = write(folder, "useless", f"ftp://{secret('useless')}")
    userinfo = write(folder, "userinfo", f"https://user:{secret('userinfo')}@hooks.example.com/")
    here = {"allow": ["127.0.0.0/8"], "timeout": 1, "throttle": {"burst": 100, "every": 0.1}}
    entries = [
        {"name": "slack", "kind": "Slack", "urlFile": address, **here},
        {
            "name": "events",
            "kind": "CloudEvents",
            "urlFile": address,
            "headerFiles": {"Authorization": header},
            **here,
        },
        {"name": "refused", "kind": "Slack", "urlFile": address},
        {"name": "useless", "kind": "Slack", "urlFile": useless},
        {"name": "userinfo", "kind": "CloudEvents", "urlFile": userinfo},
    ]
    return write(folder, "receivers.yaml", yaml.safe_dump({"receivers": entries}))


# ------------------------------------------------------------------------------------------------------------- adapters

ADAPTERS = r"""
import asyncio, json, os, sys, time, traceback
import prometheus_client
from cutover.adapters.kube.client import Cluster
from cutover.adapters.kube.plans import KubernetesPlans
from cutover.domain.resources import PLANS
from cutover.adapters.kube.lease import Election
from cutover.adapters.notify.notifier import HttpNotifier
from cutover.adapters.prometheus.sources import Sources
from cutover.api.v1alpha1 import MigrationPlanStatus, LedgerEntry
from cutover.domain.plan import Plan
from cutover.logs import configure_logging
from cutover.metrics import OperatorCollector
from cutover.services.slo_feed import PrometheusSloFeed
from cutover.adapters.dialects.istio.counters import IstioDialect
from cutover.services.samplers import Samplers
from cutover.settings import read_receivers, read_servers, read_settings

SPEC = json.loads(os.environ.pop("SPEC"))
STAMP = "2026-11-21T01:02:03Z"

class Clock:
    def now(self): return time.time()

async def main():
    settings = read_settings(os.environ)
    configure_logging("DEBUG")
    servers, receivers = read_servers(settings), read_receivers(settings)
    said = [repr(settings), repr(servers), repr(receivers)]
    async def trying(work):
        try:
            said.append(repr(await asyncio.wait_for(work, 4)))
        except Exception as error:
            said.extend((repr(error), str(error), "".join(traceback.format_exception(error))))
    entry = LedgerEntry.model_validate({"at": STAMP, "attempt": 1, "decision": "RollBack", "fromWeight": 10, "toWeight": 0, "reason": "Breach"})
    plan = Plan.from_object({"metadata": {"namespace": "shop", "name": "pdf", "uid": "1"}, "spec": SPEC, "status": {"ledger": [entry.to_wire()], "phase": "RollingBack", "weight": 0, "attempt": 1}})
    notifier = HttpNotifier(receivers, first_retry=0.1)
    notifier.start()
    notifier.tell(plan, {name: "" for name in notifier.senders})
    sources = Sources(servers)
    cluster = await Cluster.connect(settings.kubeconfig)
    plans = KubernetesPlans(cluster)
    election = await Election.connect(settings.kubeconfig, "cutover/cutover")
    electing = asyncio.create_task(election.run(lambda: asyncio.sleep(1)))
    clock = Clock()
    clients = {name: sources.get(name) for name in sources.names}
    samplers = Samplers(clients, IstioDialect(), clock, on_samples=print)
    own = PrometheusSloFeed(sources.for_slos, clock, on_news=print)
    prometheus_client.REGISTRY.register(OperatorCollector(lambda: [], cluster, samplers, own, sources.skews, lambda: True, lambda: notifier.senders))
    work = [trying(ask(1.0)) for client in clients.values() for ask in (lambda at, c=client: c.query("up", at), lambda at, c=client: c.query_range("up", 1.0, 2.0, 1.0))]
    work += [trying(client.compare_clocks()) for client in clients.values()]
    work += [trying(plans.read("shop", "pdf")), trying(cluster.list(PLANS)), trying(plans.write_status(plan, MigrationPlanStatus(), "1")), trying(plans.event(plan, "Normal", "Test", "a test"))]
    await asyncio.gather(*work)
    await asyncio.sleep(0.7)
    said.append(repr(notifier.told("1")))
    said.append(prometheus_client.generate_latest().decode())
    electing.cancel()
    await asyncio.gather(electing, return_exceptions=True)
    await notifier.close(); await sources.close(); await cluster.close(); await election.close()
    print("\n".join(said))

asyncio.run(main())
"""


async def run(*arguments: str, environment: dict[str, str], during: Callable[[], Awaitable[str]] | None = None) -> str:
    """Return all that a process prints; ``during`` adds to it before it is told to end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        env={"PYTHONPATH": str(ROOT / "operator"), "PATH": os.environ["PATH"], **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    seen = ""
    if during is not None:
        try:
            seen = await during()
        finally:
            process.send_signal(signal.SIGTERM)
    out, _ = await process.communicate()
    return out.decode() + seen


def assert_kept(text: str) -> None:
    leaked = sorted(set(re.findall(rf"{MARK}-[a-z-]+", text)))
    lines = [line[:300] for line in text.splitlines() if MARK in line]
    assert leaked == [], "\n".join(lines[:10])
    assert base64.b64encode(f"{secret('username')}:".encode())[:20].decode() not in text


NAMES = [*(answer.__name__ for answer in BEHAVIOURS), "is_not_there", "has_no_name", "speaks_no_tls"]


@pytest.mark.parametrize("behaviour", NAMES)
async def test_no_adapter_tells_a_secret(behaviour: str, tmp_path: Path) -> None:
    async with others() as (urls, came):
        url = urls[behaviour]
        environment = {
            "SPEC": json.dumps(spec_fields()),
            "CUTOVER_KUBECONFIG": kubeconfig(tmp_path, behaviour, url),
            "CUTOVER_PROMETHEUS_SOURCES": sources(tmp_path, url),
            "CUTOVER_NOTIFICATIONS": receivers(tmp_path, url),
        }
        said = await run("-c", ADAPTERS, environment=environment)
    # It has done its work, and that has failed.
    assert "cutover_" in said, said
    assert "Traceback (most recent call last)" in said  # as this script asks for them
    assert_kept(said.replace(secret("tenant"), "").replace(secret("parameter"), ""))  # stand in a ConfigMap
    if behaviour in ("refuses", "echoes", "quotes"):
        wanted = {"api-token", "prometheus-token", "tenant", "webhook", "webhook-header"}
        assert {secret(name) for name in wanted} <= set(came)


# ------------------------------------------------------------------------------------------------------------- process


@pytest.mark.parametrize("behaviour", ["refuses", "echoes", "quotes", "is_not_there"])
async def test_the_process_tells_no_secret(behaviour: str, tmp_path: Path) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    async with others() as (urls, _):
        url = urls[behaviour]

        async def during() -> str:
            seen = ""
            async with aiohttp.ClientSession() as session, asyncio.timeout(120):
                while not seen:
                    await asyncio.sleep(0.5)
                    try:
                        async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
                            seen = await answer.text()
                    except aiohttp.ClientError:
                        continue
            await asyncio.sleep(2)
            return seen

        environment = {
            "CUTOVER_KUBECONFIG": kubeconfig(tmp_path, behaviour, url),
            "CUTOVER_PROMETHEUS_SOURCES": sources(tmp_path, url),
            "CUTOVER_NOTIFICATIONS": receivers(tmp_path, url),
            "CUTOVER_METRICS_PORT": str(port),
            "CUTOVER_HEALTH_PORT": "0",
            "CUTOVER_LISTEN_ADDRESS": "127.0.0.1",
            "CUTOVER_LOG_LEVEL": "DEBUG",
        }
        said = await run("-m", "cutover.main", environment=environment, during=during)
    assert "cutover_" in said
    assert_kept(said)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CUTOVER_PROMETHEUS_URL", f"https://user:{MARK}-password@prometheus.example.com"),
        ("CUTOVER_PROMETHEUS_URL", f"https://prometheus.example.com/?token={MARK}-token"),
        ("CUTOVER_GATEWAY_URLS", f'{{"a/b": "http://user:{MARK}-password@x"}}'),
    ],
)
async def test_settings_that_are_refused_are_not_quoted(variable: str, value: str) -> None:
    said = await run("-m", "cutover.main", environment={"CUTOVER_PROMETHEUS_URL": "http://x", variable: value})
    assert variable in said
    assert_kept(said)


async def test_files_that_are_refused_are_not_quoted(tmp_path: Path) -> None:
    for number, text in enumerate(
        [
            f"receivers: [{{name: slack, kind: Slack, url: 'https://hooks.example.com/{MARK}-url'}}]",
            f"receivers: '{MARK}-text'",
            f"receivers: [{MARK}-broken",
            f"{MARK}-key: 1",
        ]
    ):
        file = write(tmp_path, str(number), text)
        environment = {"CUTOVER_PROMETHEUS_URL": "http://x", "CUTOVER_NOTIFICATIONS": file}
        said = await run("-m", "cutover.main", environment=environment)
        assert "settings: CUTOVER_NOTIFICATIONS" in said
        assert_kept(said.replace(f"{MARK}-key", ""))  # the name of a field is said, to find it


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("{'Authorization': 'Bearer abcdefghij', 'A': 'b'}", "{'Authorization': 'Bearer …', 'A': 'b'}"),
        ('{\\"authorization\\": \\"Basic YTpi\\"}', '{\\"authorization\\": \\"Basic …\\"}'),
        ("AUTHORIZATION: AWS4-HMAC-SHA256 Credential=x", "AUTHORIZATION: AWS4-HMAC-SHA256 …"),
        ("('Authorization', 'token-of-ours')", "('Authorization', '…')"),
        ("it wants Bearer eyJhbGciOi.x.y, not this", "it wants Bearer …, not this"),
        ("a bearer of bad news; authorization is missing", "a bearer of bad news; authorization is missing"),
    ],
)
def test_credentials_are_taken_out_of_texts(text: str, kept: str) -> None:
    assert masked(text) == kept
