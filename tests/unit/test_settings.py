"""The environment as settings: what is missing, wrong or unknown is said by name, and nothing secret is said at all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from cutover.settings import (
    PREFIX,
    BasicAuthFiles,
    NamedPrometheus,
    PrometheusServer,
    Settings,
    SettingsError,
    SigV4Scope,
    Tls,
    read_servers,
    read_settings,
)

LEAST = {"CUTOVER_PROMETHEUS_URL": "http://prometheus.monitoring.svc:9090"}
CHART = Path(__file__).parents[2] / "charts" / "cutover"


def test_the_address_of_prometheus_is_all_that_is_needed() -> None:
    settings = read_settings({**LEAST, "CUTOVER_LEASE": "", "HOME": "/root", "PATH": "/bin"})
    assert settings == Settings(prometheus_url="http://prometheus.monitoring.svc:9090")
    assert (settings.health_port, settings.metrics_port) == (8080, 9090)
    assert settings.namespaces == ()


def test_everything_can_be_set() -> None:
    settings = read_settings(
        {
            "CUTOVER_PROMETHEUS_URL": "https://mimir.example/prometheus/",
            "CUTOVER_PROMETHEUS_TOKEN_FILE": "/var/run/token",
            "CUTOVER_PROMETHEUS_SOURCES": "/etc/cutover/sources.yaml",
            "CUTOVER_SETTLE": "0.5",
            "CUTOVER_GATEWAY_URLS": (
                '{"istio-ingress/public": "http://127.0.0.1:18080/",'
                ' "a/b": {"url": "http://b.a.svc", "proxyProtocol": true}}'
            ),
            "CUTOVER_CLUSTER_DOMAIN": "corp.example",
            "CUTOVER_NAMESPACES": "documents, search,",
            "CUTOVER_KUBECONFIG": "/tmp/kubeconfig",
            "CUTOVER_LEASE": "cutover-system/cutover.v2",
            "CUTOVER_HEALTH_PORT": "0",
            "CUTOVER_METRICS_PORT": "9191",
            "CUTOVER_LISTEN_ADDRESS": "127.0.0.1",
            "CUTOVER_DEVELOPMENT_HEROKU": '["127.0.0.1", 8443]',
            "CUTOVER_LOG_LEVEL": "DEBUG",
        }
    )
    assert settings.prometheus_url == "https://mimir.example/prometheus"
    assert settings.prometheus_token_file == Path("/var/run/token")
    assert settings.prometheus_sources == Path("/etc/cutover/sources.yaml")
    gateways = {name: (gateway.url, gateway.proxy_protocol) for name, gateway in settings.gateway_urls.items()}
    assert gateways == {"istio-ingress/public": ("http://127.0.0.1:18080", False), "a/b": ("http://b.a.svc", True)}
    assert settings.namespaces == ("documents", "search")
    assert settings.lease == "cutover-system/cutover.v2"
    assert settings.development_heroku == ("127.0.0.1", 8443)
    assert (settings.settle, settings.health_port) == (0.5, 0)


def test_what_is_empty_is_not_set() -> None:
    """As a chart writes what its values leave out."""
    assert read_settings({**LEAST, "CUTOVER_NAMESPACES": "", "CUTOVER_GATEWAY_URLS": ""}) == read_settings(LEAST)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"CUTOVER_PROMETHEUS_URL": "prometheus:9090"}, "CUTOVER_PROMETHEUS_URL: .*must start with http"),
        ({"CUTOVER_PROMETHEUS_URL": "http://me:s3cr3t@p"}, "CUTOVER_PROMETHEUS_URL: .*no user and no password"),
        ({"CUTOVER_PROMETHEUS_URL": "http://p/?x=1"}, "CUTOVER_PROMETHEUS_URL: .*end with the path"),
        ({**LEAST, "CUTOVER_SETTLE": "15s"}, "CUTOVER_SETTLE: .*valid number"),
        ({**LEAST, "CUTOVER_SETTLE": "-1"}, "CUTOVER_SETTLE: .*greater than or equal to 0"),
        ({**LEAST, "CUTOVER_METRICS_PORT": "tcp://10.0.0.1:9090"}, "CUTOVER_METRICS_PORT: .*valid integer"),
        ({**LEAST, "CUTOVER_GATEWAY_URLS": "istio"}, "CUTOVER_GATEWAY_URLS: Invalid JSON"),
        ({**LEAST, "CUTOVER_GATEWAY_URLS": '{"a/b": "127.0.0.1"}'}, "CUTOVER_GATEWAY_URLS: .*must start with http"),
        ({**LEAST, "CUTOVER_GATEWAY_URLS": '{"a/b": {"proxyProtocol": true}}'}, "CUTOVER_GATEWAY_URLS: .*required"),
        ({**LEAST, "CUTOVER_GATEWAY_URLS": '{"a/b": {"url": "http://b", "tls": 1}}'}, "CUTOVER_GATEWAY_URLS: Extra"),
        ({**LEAST, "CUTOVER_LEASE": "cutover"}, "CUTOVER_LEASE: .*should match"),
        ({**LEAST, "CUTOVER_LEASE": "a/b/c"}, "CUTOVER_LEASE: .*should match"),
        ({**LEAST, "CUTOVER_REPORTS_URL": "reports.example"}, "CUTOVER_REPORTS_URL: .*must start with http"),
        ({**LEAST, "CUTOVER_REPORTS_URL": "https://reports.example"}, "CUTOVER_REPORTS_URL: .*CUTOVER_REPORTS_FOLDER"),
        ({**LEAST, "CUTOVER_LOG_LEVEL": "info"}, "CUTOVER_LOG_LEVEL: .*DEBUG"),
        ({**LEAST, "CUTOVER_PROMETEUS_TOKEN": "x"}, "CUTOVER_PROMETEUS_TOKEN: Extra inputs"),
    ],
)
def test_a_mistake_is_named(environment: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_settings(environment)


def test_an_unknown_variable_is_told_with_what_there_is() -> None:
    with pytest.raises(SettingsError) as failure:
        read_settings(
            {**LEAST, "CUTOVER_PROMETEUS_URL": "x", "CUTOVER_SETTLE": "long", "CUTOVER_CACHE": "/tmp/builds"}
        )
    text = str(failure.value)
    assert "CUTOVER_CACHE" not in text, "it is of the development tools"
    assert text.count("CUTOVER_PROMETEUS_URL") == 1
    assert "CUTOVER_SETTLE: Input should be a valid number" in text
    assert set(re.findall(r"CUTOVER_\w+", text.partition("there are ")[2])) == {
        f"{PREFIX}{field.upper()}" for field in Settings.model_fields
    }
    assert "\n" not in text


def test_only_the_given_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUTOVER_LOG_LEVEL", "DEBUG")
    assert read_settings(LEAST).log_level == Settings().log_level == "INFO"


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as failure:
        read_settings({"CUTOVER_PROMETHEUS_URL": "prom", "CUTOVER_SETTLE": "long", "CUTOVER_HEALTH_PORT": "-1"})
    named = re.findall(r"CUTOVER_\w+", str(failure.value))
    assert sorted(named) == ["CUTOVER_HEALTH_PORT", "CUTOVER_PROMETHEUS_URL", "CUTOVER_SETTLE"]


@pytest.mark.parametrize("name", [f"{PREFIX}{field.upper()}" for field in Settings.model_fields] + ["CUTOVER_API_KEY"])
def test_a_mistake_is_not_quoted(name: str) -> None:
    """Whoever sets a secret where none belongs does not find it in the logs."""
    with pytest.raises(SettingsError) as failure:
        read_settings({name: "s3cr3t", "CUTOVER_LOG_LEVEL": "s3cr3t"})
    assert "s3cr3t" not in str(failure.value)


# ------------------------------------------------------------------------------------------------- Prometheus servers

SOURCES = """
sources:
- name: mimir-eu
  url: https://mimir.example/prometheus/
  namespaces: [team-a, "payments-*"]
  timeout: 15
  tenant: team-a
  parameters: {partial_response: "false"}
  basicAuth: {usernameFile: /secrets/mimir/username, passwordFile: /secrets/mimir/password}
  tls: {caFile: /secrets/ca.crt, certFile: /secrets/tls.crt, keyFile: /secrets/tls.key, serverName: mimir.internal}
- name: aws
  url: https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1
  sigv4: {region: eu-west-1}
- name: thanos
  url: http://thanos.monitoring.svc:9090
  bearerTokenFile: /secrets/thanos/token
"""


def sources(tmp_path: Path, text: str | bytes, **more: str) -> Settings:
    file = tmp_path / "sources.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_settings({"CUTOVER_PROMETHEUS_SOURCES": str(file), **more})


def test_without_a_file_there_is_one_server() -> None:
    servers = read_servers(read_settings({**LEAST, "CUTOVER_PROMETHEUS_TOKEN_FILE": "/token"}))
    assert servers.default == PrometheusServer(url=LEAST["CUTOVER_PROMETHEUS_URL"], bearer_token_file=Path("/token"))
    assert servers.named == ()


def test_servers_of_the_file(tmp_path: Path) -> None:
    servers = read_servers(sources(tmp_path, SOURCES, **LEAST))
    assert servers.default.url == LEAST["CUTOVER_PROMETHEUS_URL"]
    mimir, aws, thanos = servers.named
    assert (mimir.name, mimir.url, mimir.namespaces) == (
        "mimir-eu",
        "https://mimir.example/prometheus",
        ("team-a", "payments-*"),
    )
    assert (mimir.timeout, mimir.tenant) == (15.0, "team-a")
    assert mimir.parameters == {"partial_response": "false"}
    assert mimir.basic_auth is not None
    assert mimir.basic_auth.password_file == Path("/secrets/mimir/password")
    assert mimir.tls.server_name == "mimir.internal"
    assert aws.sigv4 is not None
    assert (aws.sigv4.region, aws.sigv4.service) == ("eu-west-1", "aps")
    assert (thanos.bearer_token_file, thanos.namespaces) == (Path("/secrets/thanos/token"), ())


def test_the_default_may_be_in_the_file(tmp_path: Path) -> None:
    settings = sources(tmp_path, "default: {url: 'https://p.example', tls: {caFile: /ca.crt}}")
    assert read_servers(settings).default.tls.ca_file == Path("/ca.crt")


ONE = "sources: [{name: a, url: 'https://p', %s}]"


@pytest.mark.parametrize(
    ("text", "environment", "message"),
    [
        ("", {}, "CUTOVER_PROMETHEUS_URL: needed, unless the file of CUTOVER_PROMETHEUS_SOURCES has a default"),
        ("default: {url: 'http://p'}", LEAST, "default: CUTOVER_PROMETHEUS_URL is set as well"),
        (
            "default: {url: 'http://p'}",
            {"CUTOVER_PROMETHEUS_TOKEN_FILE": "/token"},
            "CUTOVER_PROMETHEUS_TOKEN_FILE: goes with CUTOVER_PROMETHEUS_URL",
        ),
        ("sources: [{name: a}]", LEAST, r"sources\.yaml: sources\[0\]\.url: Field required"),
        ("sources: [{url: p}]", LEAST, r"sources\[0\]\.url: .*must start with http"),
        ("sources: [{name: A b, url: 'http://p'}]", LEAST, r"sources\[0\]\.name: .*lower-case"),
        (ONE % "token: s3cr3t", LEAST, r"sources\[0\]\.token: Extra inputs are not permitted"),
        (ONE % "bearer_token_file: /t", LEAST, r"sources\[0\]\.bearer_token_file: Extra inputs"),
        (ONE % "basicAuth: {usernameFile: /u}", LEAST, r"basicAuth\.passwordFile: Field required"),
        (ONE % "basicAuth: {usernameFile: /u, password: s3cr3t}", LEAST, r"basicAuth\.password: Extra inputs"),
        (
            ONE % "bearerTokenFile: /t, sigv4: {region: eu-west-1}",
            LEAST,
            r"sources\[0\]: .*at most one of bearerTokenFile, basicAuth and sigv4",
        ),
        (ONE % "tls: {certFile: /c}", LEAST, r"sources\[0\]\.tls: .*certFile and keyFile belong together"),
        ("default: {url: 'http://p', tls: {caFile: /c}}", {}, "default: .*tls needs a url with https"),
        (ONE % "timeout: s3cr3t", LEAST, r"timeout: .*write a duration such as 30s"),
        (ONE % "timeout: 0.5", LEAST, r"timeout: .*greater than or equal to 1"),
        (ONE % 'tenant: "s3cr3t\\nX-Admin: yes"', LEAST, r"tenant: .*should match"),
        (ONE % "namespaces: [Team_A]", LEAST, r"namespaces\[0\]: .*should match"),
        (ONE % "parameters: {time: '0', query: up}", LEAST, "parameters: the operator sets query, time itself"),
        (ONE % "parameters: {dedup: true}", LEAST, r"parameters\.dedup: .*valid string"),
        (
            "sources: [{name: a, url: 'http://p'}, {name: a, url: 'http://q'}]",
            LEAST,
            "sources: .*each name may come once",
        ),
        ("default: s3cr3t: [", LEAST, r"sources\.yaml: not YAML at line 1, column 16"),
        ("- s3cr3t", LEAST, r"sources\.yaml: .*valid dictionary"),
        (b"\xff\xfe\xff", LEAST, r"sources\.yaml: not YAML in UTF-8"),
    ],
)
def test_a_mistake_in_the_file_is_named(
    text: str | bytes, environment: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=message) as failure:
        read_servers(sources(tmp_path, text, **environment))
    assert "s3cr3t" not in str(failure.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"CUTOVER_PROMETHEUS_SOURCES: .*nowhere: cannot be read: No such file"):
        read_servers(read_settings({**LEAST, "CUTOVER_PROMETHEUS_SOURCES": str(tmp_path / "nowhere")}))


# ------------------------------------------------------------------------------------------------------------- habits


def test_there_is_no_setting_for_a_secret() -> None:
    """Tokens are files: an environment is inherited, dumped and described."""
    models = (Settings, NamedPrometheus, BasicAuthFiles, Tls, SigV4Scope)
    fields = [name for model in models for name in model.model_fields]
    secret = [name for name in fields if re.search("token|password|key|secret", name)]
    assert [name for name in secret if not name.endswith(("_file", "_files"))] == []


def test_every_setting_is_described() -> None:
    models = (Settings, NamedPrometheus, BasicAuthFiles, Tls, SigV4Scope)
    undescribed = [name for model in models for name, field in model.model_fields.items() if not field.description]
    assert undescribed == []


def test_the_chart_sets_what_there_is() -> None:
    text = (CHART / "templates" / "deployment.yaml").read_text()
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"name: (CUTOVER_\w+)", text)) <= known


def test_the_charts_service_does_not_set_the_operators_port() -> None:
    """Kubernetes would set CUTOVER_METRICS_PORT=tcp://… in the Pod, for the Service cutover-metrics."""
    service = (CHART / "templates" / "service.yaml").read_text()
    assert 'name: {{ include "cutover.name" . }}-metrics' in service
    deployment = (CHART / "templates" / "deployment.yaml").read_text()
    plain = re.sub(r"^\s*\{\{.*\}\}$", "", deployment, flags=re.MULTILINE)
    plain = re.sub(r"\{\{.*?\}\}", "x", plain)
    assert yaml.safe_load(plain)["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_the_chart_mounts_what_it_names() -> None:
    deployment = (CHART / "templates" / "deployment.yaml").read_text()
    (file,) = re.findall(r"name: CUTOVER_PROMETHEUS_SOURCES\n\s+value: (\S+)", deployment)
    (folder,) = re.findall(r"name: prometheus-sources, mountPath: ([^,]+),", deployment)
    (key,) = re.findall(r"^  (\S+): \|$", (CHART / "templates" / "prometheus.yaml").read_text(), re.MULTILINE)
    assert file == f"{folder}/{key}"
    assert 'mountPath: "/etc/cutover/secrets/{{ $secret }}"' in deployment


def test_the_documented_servers_can_be_read(tmp_path: Path) -> None:
    """The chart writes default and sources into the file as they are."""
    page = (CHART.parents[1] / "docs" / "operating.md").read_text()
    (example,) = re.findall(
        r"^```yaml\n(# values.yaml\nprometheus:\n  secrets:.*?)^```$", page, re.MULTILINE | re.DOTALL
    )
    values = yaml.safe_load(example)["prometheus"]
    mounted = {f"/etc/cutover/secrets/{name}" for name in values.pop("secrets")}
    text = yaml.safe_dump(values)
    servers = read_servers(sources(tmp_path, text))
    assert [server.name for server in servers.named] == ["payments-amp"]
    assert {name.rpartition("/")[0] for name in re.findall(r"/etc/\S+", text)} == mounted
    fields = re.findall(r"^\| `(\w+)`(?:, `(\w+)`)? \|", page.partition("## Prometheus servers")[2], re.MULTILINE)
    named = {name for names in fields for name in names if name and not name.startswith("cutover_")}
    assert named >= {field.alias for field in NamedPrometheus.model_fields.values()}
