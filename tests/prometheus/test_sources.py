"""The operator's Prometheus servers: real ones, over TLS, behind a prefix, with secrets that change in mid-run."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cutover.adapters.dialects.istio.counters import IstioLabels
from cutover.adapters.prometheus.client import PrometheusClient
from cutover.adapters.prometheus.sources import Sources
from cutover.domain.evidence.counters import Counter
from cutover.ports.errors import QueryRefused, Unavailable
from cutover.settings import PrometheusServers, read_servers, read_settings
from devstack.build import ensure_programs
from devstack.support import free_port

PASSWORD = "correct-horse-9"
#: bcrypt of it, in which form Prometheus wants it.
PASSWORD_HASH = "$2b$05$abcdefghijklmnopqrstuuKtyOyM4aePTOrLl9yFCJHErGKuR5yk2"
SERVER_NAME = "prometheus.internal"
SECRETS = (PASSWORD, "t0ken-one", "t0ken-two", "PRIVATE KEY", "aws-s3cret", "aws-session", "pod-t0ken")
#: What a plain Prometheus answers to anything.
ANSWER = {"status": "success", "data": {"resultType": "vector", "result": []}}


class Authority:
    """A private CA."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            self._builder(self._name, self._key, 1)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file = folder / f"{name}.crt"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *, days: float = 1) -> tuple[Path, Path]:
        """Make a certificate; returns the files of it and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key, days)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        stem = f"{self.file.stem}-{name}-{days}"
        files = self._folder / f"{stem}.crt", self._folder / f"{stem}.key"
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return files

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, days: float) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=10))
            .not_valid_after(now + dt.timedelta(days=days))
        )


class RealPrometheus:
    """A Prometheus process without targets."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        (folder / "prometheus.yaml").write_text("{}")

    def start(self) -> None:
        log = self._folder / "log"
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [
                    ensure_programs().prometheus,
                    f"--config.file={self._folder / 'prometheus.yaml'}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                    *self._options,
                ],
                stdout=out,
                stderr=out,
            )
        for _ in range(1200):
            if b"Server is ready" in log.read_bytes():
                return
            time.sleep(0.05)
        raise AssertionError(log.read_text())

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None


@pytest.fixture(scope="module")
def prefixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    prometheus = RealPrometheus(
        tmp_path_factory.mktemp("prefixed"),
        "--web.external-url=http://somewhere.example/tools/prometheus",
        "--web.route-prefix=/tools/prometheus",
    )
    prometheus.start()
    yield prometheus
    prometheus.stop()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "ours")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[RealPrometheus]:
    folder = tmp_path_factory.mktemp("secured")
    certificate, key = authority.issue(SERVER_NAME)
    config = {
        "tls_server_config": {
            "cert_file": str(certificate),
            "key_file": str(key),
            "client_auth_type": "RequireAndVerifyClientCert",
            "client_ca_file": str(authority.file),
        },
        "basic_auth_users": {"cutover": PASSWORD_HASH},
    }
    (folder / "web.yaml").write_text(yaml.safe_dump(config))
    prometheus = RealPrometheus(folder, f"--web.config.file={folder / 'web.yaml'}")
    prometheus.start()
    yield prometheus
    prometheus.stop()


def servers(tmp_path: Path, *sources: dict[str, Any]) -> PrometheusServers:
    """Read the settings as the operator does."""
    file = tmp_path / "sources.yaml"
    file.write_text(yaml.safe_dump({"sources": list(sources)}))
    return read_servers(
        read_settings({"CUTOVER_PROMETHEUS_URL": "http://127.0.0.1:1", "CUTOVER_PROMETHEUS_SOURCES": str(file)})
    )


@pytest.fixture
async def source(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Callable[[dict[str, Any]], PrometheusClient]]:
    """Make the client of one source as the operator does; nothing secret may be logged meanwhile."""
    caplog.set_level(logging.DEBUG)
    opened: list[Sources] = []

    def connect(fields: dict[str, Any]) -> PrometheusClient:
        sources = Sources(servers(tmp_path, {"name": "team", **fields}))
        opened.append(sources)
        return sources.get("team")

    yield connect
    for sources in opened:
        shown = f"{sources!r} {sources.get('team')!r} {sources.get('team')._auth!r}"
        assert [secret for secret in SECRETS if secret in shown] == []
        await sources.close()
    assert [secret for secret in SECRETS if secret in caplog.text] == []


async def problem(client: PrometheusClient, promql: str = "vector(1)") -> str:
    """Ask, and return why there was no answer; nothing secret may be in it."""
    text = ""
    try:
        await client.query(promql, time.time())
    except Unavailable as error:
        text = str(error)
    assert [secret for secret in SECRETS if secret in text] == []
    return text


# ---------------------------------------------------------------------------------------------------------- who may ask


async def test_plans_choose_among_what_their_namespace_may_use(tmp_path: Path) -> None:
    sources = Sources(
        servers(
            tmp_path,
            {"name": "mimir", "url": "https://m", "namespaces": ["team-a", "payments-*"]},
            {"name": "thanos", "url": "https://t", "namespaces": ["*"]},
            {"name": "nobody", "url": "https://n"},
        )
    )
    assert sources.names == ("", "mimir", "thanos", "nobody")
    assert sources.allowed("team-a") == sources.allowed("payments-eu") == ("mimir", "thanos")
    assert sources.allowed("team-ab") == sources.allowed("payments") == ("thanos",)
    assert sources.get("mimir") is not sources.for_slos("mimir")
    for ask in (sources.get, sources.for_slos):
        with pytest.raises(Unavailable, match="no Prometheus named https://evil"):
            ask("https://evil")
    await sources.close()


# -------------------------------------------------------------------------------------------------------- real queries


async def test_prefix_and_both_kinds_of_queries(prefixed: RealPrometheus) -> None:
    client = PrometheusClient(f"http://127.0.0.1:{prefixed.port}/tools/prometheus/")
    now = time.time()
    assert await client.query("vector(7)", now) == [{"metric": {}, "value": [round(now, 3), "7"]}]
    (series,) = await client.query_range("vector(7)", now - 60, now, 15)
    assert [value for _, value in series["values"]] == ["7"] * 5
    await client.close()
    wrong = PrometheusClient(f"http://127.0.0.1:{prefixed.port}")
    assert "HTTP 404" in await problem(wrong)
    await wrong.close()


@pytest.mark.parametrize("quick", [True, False])
async def test_counters_are_what_a_query_gives(
    prefixed: RealPrometheus, monkeypatch: pytest.MonkeyPatch, *, quick: bool
) -> None:
    spelt = ["7", "0.1", "1e21", "-2e-7", "NaN", "-Inf"] + ["Inf"] * (not quick)
    parts = (
        f'label_replace(label_replace(vector({value}), "destination_service", "{number}", "", ""), "a", "b", "", "")'
        for number, value in enumerate(spelt)
    )
    promql, at = f"({' or '.join(parts)})[30s:15s]", time.time() // 15 * 15
    client = PrometheusClient(f"http://127.0.0.1:{prefixed.port}/tools/prometheus/")
    result = await client.query(promql, at)
    if quick:  # as nearly all answers are: not the long way
        monkeypatch.setattr(client._answers, "result", None)
    counters = await client.counters(promql, at, IstioLabels)
    await client.close()
    assert len(counters) == len(spelt)
    assert repr(counters) == repr([Counter.of(item, IstioLabels) for item in result])
    read = {counter.metric.leg: counter.values for counter in counters}
    assert repr([read[str(number)] for number in range(len(spelt))]) == repr(
        [[(at - 15, float(value)), (at, float(value))] for value in spelt]
    )


@pytest.mark.parametrize(
    ("promql", "text"),
    [
        ("sum(", "1:5: parse error: unclosed left parenthesis"),
        ('up{a="b"}}', "1:10: parse error: unexpected character: '}'"),
        ("rate(up)", "1:6: parse error: expected type range vector"),
        ("nothing_like_it(up)", '1:1: parse error: unknown function with name "nothing_like_it"'),
        (
            '(label_replace(vector(1), "a", "x", "", "") or vector(2)) * on() vector(3)',
            "multiple matches for labels: many-to-one matching must be explicit",
        ),
        ('vector(1) * on() (label_replace(vector(1), "a", "x", "", "") or vector(2))', "found duplicate series"),
    ],
)
async def test_wrong_queries_are_refused_with_their_position(prefixed: RealPrometheus, promql: str, text: str) -> None:
    client = PrometheusClient(f"http://127.0.0.1:{prefixed.port}/tools/prometheus")
    for ask in (
        lambda: client.query(promql, time.time()),
        lambda: client.query_range(promql, time.time() - 30, time.time(), 15),
    ):
        with pytest.raises(QueryRefused) as refused:
            await ask()
        assert str(refused.value).startswith(text)
    with pytest.raises(QueryRefused, match="11,000 points"):
        await client.query_range("vector(1)", 0, time.time(), 1)
    await client.close()


async def test_the_clock_of_a_real_server(prefixed: RealPrometheus) -> None:
    url = f"http://127.0.0.1:{prefixed.port}/tools/prometheus"
    same, behind = PrometheusClient(url), PrometheusClient(url, now=lambda: time.time() - 30)
    for client in (same, behind):
        await client.compare_clocks()
        await client.close()
    assert same.skew == pytest.approx(0, abs=0.3)
    assert behind.skew == pytest.approx(30, abs=0.5)


async def test_clocks_are_compared_while_a_server_is_asked(prefixed: RealPrometheus, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{prefixed.port}/tools/prometheus"

    def late(*args: Any, **options: Any) -> PrometheusClient:
        return PrometheusClient(*args, **options, now=lambda: time.time() - 30)

    sources = Sources(servers(tmp_path, {"name": "team", "url": url}), late)
    task = asyncio.create_task(sources.run())
    async with asyncio.timeout(10):
        while abs(sources.get("team").skew) < 1:  # noqa: ASYNC110 -- it tells nobody
            await asyncio.sleep(0.05)
    task.cancel()
    skews = sources.for_slos("team").skew, sources.get("team").skew
    assert skews == pytest.approx((sources.skews()["team"],) * 2, abs=0.01)
    assert sources.skews()[""] == pytest.approx(0, abs=0.01)  # nobody is there
    assert not await sources.compare_clocks("team")
    await sources.for_slos("team").query("vector(1)", time.time())
    assert await sources.compare_clocks("team")
    await sources.close()


# ----------------------------------------------------------------------------------------------------- TLS and password


@pytest.fixture
def fields(tmp_path: Path, secured: RealPrometheus, authority: Authority) -> dict[str, Any]:
    """All that the secured server wants."""
    for file, text in (("username", "cutover\n"), ("password", f"{PASSWORD}\n")):
        (tmp_path / file).write_text(text)
    certificate, key = authority.issue("cutover")
    for file, original in (("tls.crt", certificate), ("tls.key", key), ("ca.crt", authority.file)):
        shutil.copy(original, tmp_path / file)
    return {
        "url": f"https://127.0.0.1:{secured.port}",
        "basicAuth": {"usernameFile": str(tmp_path / "username"), "passwordFile": str(tmp_path / "password")},
        "tls": {
            "caFile": str(tmp_path / "ca.crt"),
            "certFile": str(tmp_path / "tls.crt"),
            "keyFile": str(tmp_path / "tls.key"),
            "serverName": SERVER_NAME,
        },
    }


Connect = Callable[[dict[str, Any]], PrometheusClient]


def replace(old: Path, new: Path | str) -> None:
    """Put another file in the place of one, as the kubelet does when a Secret changes."""
    fresh = old.with_suffix(".new")
    fresh.write_bytes(new.encode() if isinstance(new, str) else new.read_bytes())
    fresh.replace(old)


async def test_mutual_tls_and_a_password(source: Connect, fields: dict[str, Any]) -> None:
    assert await problem(source(fields)) == ""


async def test_a_ca_that_is_not_the_servers(source: Connect, fields: dict[str, Any], tmp_path: Path) -> None:
    shutil.copy(Authority(tmp_path, "another").file, tmp_path / "ca.crt")
    text = await problem(source(fields))
    server = f"Prometheus team at {fields['url'].removeprefix('https://')}"
    assert text == f"{server} cannot be connected to: TLS: unable to get local issuer certificate"


async def test_public_cas_are_the_default(source: Connect, fields: dict[str, Any]) -> None:
    del fields["tls"]["caFile"]
    assert "cannot be connected to: TLS: unable to get local issuer certificate" in await problem(source(fields))


@pytest.mark.parametrize("name", ["", "prometheus.elsewhere"])
async def test_a_certificate_for_another_name(source: Connect, fields: dict[str, Any], name: str) -> None:
    del fields["tls"]["serverName"]
    if name:
        fields["tls"]["serverName"] = name
    assert "mismatch, certificate is not valid for" in await problem(source(fields))


async def test_no_certificate_of_ones_own(source: Connect, fields: dict[str, Any]) -> None:
    del fields["tls"]["certFile"], fields["tls"]["keyFile"]
    # The alert may be lost as the server hangs up.
    text = await problem(source(fields))
    assert text.endswith(("TLS: tlsv13 alert certificate required", "Connection reset by peer", "Broken pipe"))


async def test_an_expired_certificate_is_renewed_in_mid_run(
    source: Connect, fields: dict[str, Any], tmp_path: Path, authority: Authority
) -> None:
    certificate, key = authority.issue("cutover", days=-1)
    replace(tmp_path / "tls.crt", certificate)
    replace(tmp_path / "tls.key", key)
    client = source(fields)
    text = await problem(client)
    assert text.endswith(("alert certificate expired", "Connection reset by peer", "Broken pipe"))
    certificate, key = authority.issue("cutover")
    replace(tmp_path / "tls.crt", certificate)
    replace(tmp_path / "tls.key", key)
    assert await problem(client) == ""


async def test_half_a_renewal_breaks_nothing(
    source: Connect, fields: dict[str, Any], tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    client = source(fields)
    assert await problem(client) == ""
    certificate, key = authority.issue("cutover")
    replace(tmp_path / "tls.crt", certificate)
    assert await problem(client) == ""
    assert "key values mismatch; the previous certificates stay in use" in caplog.text
    replace(tmp_path / "tls.key", key)
    old = client._connections
    assert await problem(client) == ""
    assert client._connections is not old
    assert old is not None
    assert old.http.is_closed


async def test_requests_under_way_end_on_the_old_connections(
    source: Connect, fields: dict[str, Any], tmp_path: Path, authority: Authority
) -> None:
    client = source(fields)
    async with client._pool() as http:
        certificate, key = authority.issue("cutover")
        replace(tmp_path / "tls.crt", certificate)
        replace(tmp_path / "tls.key", key)
        assert await problem(client) == ""
        assert not http.is_closed
    assert http.is_closed


@pytest.mark.parametrize(
    ("file", "content", "text"),
    [
        ("tls.key", "PRIVATE KEY of somebody", "the files of the client's certificate and its key cannot be used: "),
        ("tls.crt", "", "the files of the client's certificate and its key cannot be used: "),
        ("ca.crt", "not PEM", "the file of the CA cannot be used: "),
        ("ca.crt", None, "the file of the CA cannot be used: No such file or directory"),
        ("password", None, "the password file cannot be read: No such file or directory"),
    ],
)
async def test_files_that_cannot_be_used(
    source: Connect, fields: dict[str, Any], tmp_path: Path, file: str, content: str | None, text: str
) -> None:
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(content)
    assert f" was not asked: {text}" in await problem(source(fields))


async def test_a_key_with_a_password_asks_nobody(source: Connect, fields: dict[str, Any], tmp_path: Path) -> None:
    key = serialization.load_pem_private_key((tmp_path / "tls.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    encryption = serialization.BestAvailableEncryption(b"x")
    (tmp_path / "tls.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    )
    assert "certificate and its key cannot be used: " in await problem(source(fields))


async def test_a_wrong_password_is_replaced_in_mid_run(
    source: Connect, fields: dict[str, Any], tmp_path: Path
) -> None:
    replace(tmp_path / "password", "battery-staple")
    client = source(fields)
    assert "answered HTTP 401; see the credentials" in await problem(client)
    replace(tmp_path / "password", PASSWORD)
    assert await problem(client) == ""


# ---------------------------------------------------------------------------------------------------- small own servers

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Handler], Awaitable[str]]]:
    """Serve a handler on all paths; returns the URL."""
    runners: list[web.AppRunner] = []

    async def start(handler: Handler) -> str:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        runners.append(runner)
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


Serve = Callable[[Handler], Awaitable[str]]


async def test_a_token_is_rotated_in_mid_run(source: Connect, serve: Serve, tmp_path: Path) -> None:
    valid = "t0ken-one"

    async def handle(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {valid}":
            return web.json_response({"status": "error", "errorType": "unauthorized", "error": "no"}, status=401)
        return web.json_response(ANSWER)

    file = tmp_path / "token"
    file.write_text("t0ken-one\n")
    client = source({"url": await serve(handle), "bearerTokenFile": str(file)})
    assert await problem(client) == ""
    valid = "t0ken-two"
    assert (await problem(client)).endswith("answered HTTP 401: no")
    replace(file, "t0ken-two\n")
    assert await problem(client) == ""


async def test_credentials_do_not_follow_a_redirect(source: Connect, serve: Serve, tmp_path: Path) -> None:
    asked = []

    async def elsewhere(request: web.Request) -> web.Response:
        asked.append(request)
        return web.json_response(ANSWER)

    target = await serve(elsewhere)

    async def handle(request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect(f"{target}/api/v1/query")

    (tmp_path / "token").write_text("t0ken-one")
    client = source({"url": await serve(handle), "bearerTokenFile": str(tmp_path / "token")})
    assert (await problem(client)).endswith("answered HTTP 307")
    assert asked == []


async def test_credentials_of_an_eks_pod(
    source: Connect, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent of EKS Pod Identity gives credentials for a token that the kubelet mounts."""
    seen: list[str] = []

    async def agent(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != "pod-t0ken":
            return web.Response(status=401)
        expiration = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        return web.json_response(
            {
                "AccessKeyId": "AKIDPOD",
                "SecretAccessKey": "aws-s3cret",
                "Token": "aws-session",
                "Expiration": expiration,
            }
        )

    async def handle(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        assert request.headers["X-Amz-Security-Token"] == "aws-session"
        return web.json_response(ANSWER)

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    (tmp_path / "pod-token").write_text("pod-t0ken")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{await serve(agent)}/v1/credentials")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "pod-token"))
    client = source({"url": f"{await serve(handle)}/workspaces/ws-1", "sigv4": {"region": "eu-west-1"}})
    assert await asyncio.gather(*(problem(client) for _ in range(5))) == [""] * 5
    day = dt.datetime.now(dt.UTC).strftime("%Y%m%d")
    assert len(seen) == 5
    assert all(
        one.startswith(f"AWS4-HMAC-SHA256 Credential=AKIDPOD/{day}/eu-west-1/aps/aws4_request, ") for one in seen
    )


# ------------------------------------------------------------------------------------------------ load, and being away


async def test_a_thousand_queries_share_few_connections(serve: Serve, tmp_path: Path) -> None:
    connections = set()
    together = most = 0

    async def handle(request: web.Request) -> web.Response:
        nonlocal together, most
        assert request.transport is not None
        connections.add(request.transport.get_extra_info("peername"))
        together += 1
        most = max(most, together)
        await asyncio.sleep(0.005)
        together -= 1
        return web.json_response(ANSWER)

    sources = Sources(servers(tmp_path, {"name": "team", "url": await serve(handle), "timeout": 60}))
    assert await asyncio.gather(*(problem(sources.get("team")) for _ in range(1000))) == [""] * 1000
    assert len(connections) <= 16
    assert most <= 16
    await sources.close()


async def test_slow_queries_of_teams_do_not_delay_blocks(serve: Serve, tmp_path: Path) -> None:
    hanging = 0

    async def handle(request: web.Request) -> web.Response:
        nonlocal hanging
        if (await request.post())["query"] == "slow":
            hanging += 1
            await asyncio.sleep(60)
        return web.json_response(ANSWER)

    sources = Sources(servers(tmp_path, {"name": "team", "url": await serve(handle), "timeout": 2}))
    slow = [asyncio.create_task(problem(sources.for_slos("team"), "slow")) for _ in range(12)]
    async with asyncio.timeout(10):
        while hanging < 8:  # noqa: ASYNC110 -- a number
            await asyncio.sleep(0.01)
    assert await problem(sources.get("team"), "fast") == ""
    assert not any(task.done() for task in slow)
    assert all("did not answer within 2 s" in text for text in await asyncio.gather(*slow))
    assert await problem(sources.for_slos("team"), "fast") == ""
    await sources.close()


async def test_a_server_that_comes_back_is_asked_soon(tmp_path: Path) -> None:
    prometheus = RealPrometheus(tmp_path)
    await asyncio.to_thread(prometheus.start)
    client = PrometheusClient(f"http://127.0.0.1:{prometheus.port}")
    try:
        assert await problem(client) == ""
        await asyncio.to_thread(prometheus.stop)
        for _ in range(10):
            text = await problem(client)
        assert "cannot be connected to" in text
        assert client._breaker.open
        await asyncio.to_thread(prometheus.start)
        back = time.monotonic()
        async with asyncio.timeout(5):
            while await problem(client):  # noqa: ASYNC110 -- another process
                await asyncio.sleep(0.05)
        print(f"asked again {time.monotonic() - back:.2f} s after it was ready")
    finally:
        await client.close()
        prometheus.stop()
