"""The environment as settings: what is missing, wrong or unknown is said by name, and nothing secret is said at all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from cutover.settings import PREFIX, Settings, SettingsError, read_settings

LEAST = {"CUTOVER_PROMETHEUS_URL": "http://prometheus.monitoring.svc:9090"}
CHART = Path(__file__).parents[2] / "charts" / "cutover"


def test_the_address_of_prometheus_is_all_that_is_needed() -> None:
    settings = read_settings({**LEAST, "CUTOVER_LEASE": "", "HOME": "/root", "PATH": "/bin"})
    assert settings == Settings(prometheus_url="http://prometheus.monitoring.svc:9090")
    assert (settings.scrape_interval, settings.health_port, settings.metrics_port) == (15.0, 8080, 9090)
    assert settings.namespaces == ()


def test_everything_can_be_set() -> None:
    settings = read_settings(
        {
            "CUTOVER_PROMETHEUS_URL": "https://mimir.example/prometheus/",
            "CUTOVER_PROMETHEUS_TOKEN_FILE": "/var/run/token",
            "CUTOVER_SCRAPE_INTERVAL": "5",
            "CUTOVER_SETTLE": "0.5",
            "CUTOVER_GATEWAY_URLS": '{"istio-ingress/public": "http://127.0.0.1:18080/"}',
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
    assert settings.gateway_urls == {"istio-ingress/public": "http://127.0.0.1:18080"}
    assert settings.namespaces == ("documents", "search")
    assert settings.lease == "cutover-system/cutover.v2"
    assert settings.development_heroku == ("127.0.0.1", 8443)
    assert (settings.scrape_interval, settings.settle, settings.health_port) == (5.0, 0.5, 0)


def test_what_is_empty_is_not_set() -> None:
    """As a chart writes what its values leave out."""
    assert read_settings({**LEAST, "CUTOVER_NAMESPACES": "", "CUTOVER_GATEWAY_URLS": ""}) == read_settings(LEAST)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "CUTOVER_PROMETHEUS_URL: Field required"),
        ({"CUTOVER_PROMETHEUS_URL": "prometheus:9090"}, "CUTOVER_PROMETHEUS_URL: .*must start with http"),
        ({**LEAST, "CUTOVER_SCRAPE_INTERVAL": "15s"}, "CUTOVER_SCRAPE_INTERVAL: .*valid number"),
        ({**LEAST, "CUTOVER_SCRAPE_INTERVAL": "0"}, "CUTOVER_SCRAPE_INTERVAL: .*greater than 0"),
        ({**LEAST, "CUTOVER_METRICS_PORT": "tcp://10.0.0.1:9090"}, "CUTOVER_METRICS_PORT: .*valid integer"),
        ({**LEAST, "CUTOVER_GATEWAY_URLS": "istio"}, "CUTOVER_GATEWAY_URLS: Invalid JSON"),
        ({**LEAST, "CUTOVER_GATEWAY_URLS": '{"a/b": "127.0.0.1"}'}, "CUTOVER_GATEWAY_URLS: .*must start with http"),
        ({**LEAST, "CUTOVER_LEASE": "cutover"}, "CUTOVER_LEASE: .*should match"),
        ({**LEAST, "CUTOVER_LEASE": "a/b/c"}, "CUTOVER_LEASE: .*should match"),
        ({**LEAST, "CUTOVER_LOG_LEVEL": "info"}, "CUTOVER_LOG_LEVEL: .*DEBUG"),
        ({**LEAST, "CUTOVER_PROMETEUS_TOKEN": "x"}, "CUTOVER_PROMETEUS_TOKEN: Extra inputs"),
    ],
)
def test_a_mistake_is_named(environment: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_settings(environment)


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as failure:
        read_settings({"CUTOVER_SETTLE": "long", "CUTOVER_HEALTH_PORT": "-1"})
    named = re.findall(r"CUTOVER_\w+", str(failure.value))
    assert sorted(named) == ["CUTOVER_HEALTH_PORT", "CUTOVER_PROMETHEUS_URL", "CUTOVER_SETTLE"]


@pytest.mark.parametrize("name", [f"{PREFIX}{field.upper()}" for field in Settings.model_fields] + ["CUTOVER_API_KEY"])
def test_a_mistake_is_not_quoted(name: str) -> None:
    """Whoever sets a secret where none belongs does not find it in the logs."""
    with pytest.raises(SettingsError) as failure:
        read_settings({name: "s3cr3t", "CUTOVER_LOG_LEVEL": "s3cr3t"})
    assert "s3cr3t" not in str(failure.value)


def test_there_is_no_setting_for_a_secret() -> None:
    """Tokens are files: an environment is inherited, dumped and described."""
    secret = [name for name in Settings.model_fields if re.search("token|password|key|secret", name)]
    assert [name for name in secret if not name.endswith("_file")] == []


def test_every_setting_is_described() -> None:
    undescribed = [name for name, field in Settings.model_fields.items() if not field.description]
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
