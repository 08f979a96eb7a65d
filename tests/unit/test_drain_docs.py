"""What is claimed of the drain is so: its metrics, its settings, its Secret, its chart."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from tests.kit.chart import rendered
from tests.kit.logplex import message, request_line

from cutover.adapters.dialects.heroku_drain.counters import DROPPED, LATE, REQUESTS, SERVING, TIMES, HerokuDrainDialect
from cutover.drain.access import AccessFile
from cutover.drain.exposition import Exposition
from cutover.drain.frames import BROKEN, FAULT, OVERFLOW, Frame, Record, Refusal
from cutover.drain.main import DrainSettings
from cutover.drain.messages import KINDS, UNREADABLE
from cutover.drain.otlp_names import OtlpNames
from cutover.drain.otlp_points import POINT, REASONS, UNMAPPED
from cutover.drain.platform_lines import DYNO_SAMPLES, POSTGRES_SAMPLES, REDIS_SAMPLES
from cutover.settings.variables import read_variables

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "drain.md").read_text(encoding="utf-8")
CELLS = re.findall(r"`([^`]+)`", "\n".join(line for line in PAGE.splitlines() if line.startswith("|")))
ACME = "d.9e6e5d0c-4bf8-4b1c-9a6f-0d6d0a1f7c11"


def exported() -> set[str]:
    """Return the names of all metrics, of an app whose log has said everything."""
    record = Record(lambda: 0.0, lambda: 0.0)
    parts = [request_line(), message("app", "api", b"Release v1 created by x")]
    for app, process, source, names in (
        ("heroku", "web.1", "web.1", DYNO_SAMPLES),
        ("app", "heroku-postgres", "DATABASE", POSTGRES_SAMPLES),
        ("app", "heroku-redis", "REDIS", REDIS_SAMPLES),
    ):
        samples = " ".join(f"sample#{name}=1" for name in names)
        parts.append(message(app, process, f"source={source} {samples}".encode()))
    record.take("acme-pdf", Frame("", None, b"".join(parts)))
    return {metric.name + "_total" * (metric.type == "counter") for metric in Exposition(record).collect()}


def test_all_metrics_are_documented() -> None:
    names = exported()
    documented = {name for name in CELLS if name.startswith("heroku_")}
    databases = {name for name in names if name.startswith(("heroku_postgres_", "heroku_redis_"))}
    assert len(databases) > 25
    assert documented - {"heroku_postgres_…", "heroku_redis_…"} == names - databases
    for part in ("active_connections", "waiting_connections", "connections_used_percent", "size_bytes", "load_1m"):
        assert f"`{part}`" in PAGE
        assert f"heroku_postgres_{part}" in names


def test_all_reasons_and_kinds_are_documented() -> None:
    told = {OVERFLOW, "L12", "L13", BROKEN, FAULT, UNREADABLE, POINT, UNMAPPED, *REASONS}
    assert told | set(KINDS) | set(Refusal) - {Refusal.INCOMPLETE} <= set(CELLS)


def test_the_dialect_asks_for_metrics_that_there_are() -> None:
    names = exported()
    assert {REQUESTS, SERVING, DROPPED, LATE} <= names
    assert TIMES.removesuffix("_bucket") in names
    dialect = HerokuDrainDialect(("logs", 'o"dd'))
    for expression in (
        dialect.presence(dialect.namespaces),
        dialect.last_scrapes(("a",)),
        dialect.foreign_counters(("a",)),
    ):
        promql_parser.parse(expression)


def test_bounds_of_the_buckets_are_milliseconds() -> None:
    labels = HerokuDrainDialect(()).labels
    assert [labels.milliseconds(le) for le in ("0.0005", "0.001", "0.025", "0.25", "2.5", "3600")] == [
        0.5,
        1,
        25,
        250,
        2500,
        3.6e6,
    ]


def test_the_query_for_coverage_is_one() -> None:
    (query,) = re.findall(r"^```promql\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    promql_parser.parse(query)


def test_the_expressions_for_alerts_ask_for_metrics_that_there_are() -> None:
    expressions = [cell for cell in CELLS if "(" in cell and "heroku_" in cell]
    assert len(expressions) == 4
    for expression in expressions:
        promql_parser.parse(expression)
        assert set(re.findall(r"heroku_\w+", expression)) <= exported()


def test_the_documented_secret_can_be_read(tmp_path: Path) -> None:
    secret = yaml.safe_load(re.findall(r"```yaml\n(   apiVersion: v1.*?)   ```", PAGE, re.DOTALL)[0])
    path = tmp_path / "drains.yaml"
    path.write_text(secret["stringData"]["drains.yaml"])
    access = AccessFile(path).access
    assert access.app_of(ACME) == "acme-pdf"
    assert access.allows("", "/logplex/another-one-for-the-path")
    url = re.search(r"drains:add https://(\S+)@drain", PAGE)
    assert url is not None
    assert url[1] == "logplex:correct-horse-battery-staple"


def test_all_settings_are_documented_with_their_defaults() -> None:
    rows = re.findall(r"^\| `(CUTOVER_DRAIN_\w+)` \| `([^`]*)` \|", PAGE, re.MULTILINE)
    prefix = DrainSettings.model_config["env_prefix"]
    fields = DrainSettings.model_fields
    assert dict(rows) == {
        f"{prefix}{name.upper()}": f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
        for name, field in fields.items()
    }


# --------------------------------------------------------------------------------------------------------------- chart


@pytest.fixture(scope="module")
def chart() -> dict[tuple[str, str], dict[str, Any]]:
    items = rendered(
        "drain.yaml", namespace="logs", drain={"enabled": True, "secret": "drains", "destinationRule": True}
    )
    return {(item["kind"], item["metadata"]["name"]): item for item in items}


def test_the_chart_has_no_drain_unless_it_is_asked_for() -> None:
    assert rendered("drain.yaml", namespace="logs") == []


def test_what_the_chart_installs(chart: dict[tuple[str, str], dict[str, Any]]) -> None:
    assert set(chart) == {
        ("Deployment", "cutover-drain"),
        ("Service", "cutover-drain"),
        ("Service", "cutover-drain-metrics"),
        ("NetworkPolicy", "cutover-drain"),
        ("PodDisruptionBudget", "cutover-drain"),
        ("DestinationRule", "cutover-drain"),
    }
    assert not [
        item
        for item in rendered(
            "drain.yaml", namespace="logs", drain={"enabled": True, "secret": "drains", "replicas": 1}
        )
        if item["kind"] == "PodDisruptionBudget"
    ]


def test_the_operators_selectors_do_not_meet_the_drains_pods(chart: dict[tuple[str, str], dict[str, Any]]) -> None:
    deployment = chart["Deployment", "cutover-drain"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == "cutover-drain"
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        *(chart["Service", name]["spec"]["selector"] for name in ("cutover-drain", "cutover-drain-metrics")),
        chart["NetworkPolicy", "cutover-drain"]["spec"]["podSelector"]["matchLabels"],
        chart["PodDisruptionBudget", "cutover-drain"]["spec"]["selector"]["matchLabels"],
    ]
    assert all(selector.items() <= labels.items() for selector in selectors)
    assert all(selector["app.kubernetes.io/name"] == "cutover-drain" for selector in selectors)


def test_a_replica_has_the_time_to_end_and_no_rights(chart: dict[tuple[str, str], dict[str, Any]]) -> None:
    spec = chart["Deployment", "cutover-drain"]["spec"]
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    pod = spec["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    (container,) = pod["containers"]
    variables = {one["name"]: one["value"] for one in container["env"]}
    known = {f"CUTOVER_DRAIN_{name.upper()}": field for name, field in DrainSettings.model_fields.items()}
    assert {name for name in variables if name.startswith("CUTOVER_")} <= known.keys()
    wait = float(variables["CUTOVER_DRAIN_LAST_SCRAPE_SECONDS"])
    leave = DrainSettings.model_fields["leave_seconds"].default
    assert pod["terminationGracePeriodSeconds"] >= wait + leave + 10 + 5
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {
        name: DrainSettings.model_fields[field].default
        for name, field in (("logplex", "port"), ("health", "health_port"), ("metrics", "metrics_port"))
    }
    mount = container["volumeMounts"][0]["mountPath"]
    (item,) = pod["volumes"][0]["secret"]["items"]
    assert f"{mount}/{item['path']}" == str(DrainSettings.model_fields["file"].default)
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert chart["NetworkPolicy", "cutover-drain"]["spec"].get("egress") is None
    assert chart["Service", "cutover-drain-metrics"]["spec"]["publishNotReadyAddresses"] is True


def test_frames_come_to_the_same_replica_again(chart: dict[tuple[str, str], dict[str, Any]]) -> None:
    rule = chart["DestinationRule", "cutover-drain"]["spec"]
    assert rule["host"] == "cutover-drain.logs.svc.cluster.local"
    assert rule["trafficPolicy"]["loadBalancer"] == {"consistentHash": {"httpHeaderName": "Logplex-Frame-Id"}}


def test_the_documented_names_of_otlp_are_taken_by_chart_and_process() -> None:
    (values,) = [
        yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if "otlp:" in block
    ]
    drain = {"enabled": True, "secret": "drains", "destinationRule": True, **values["drain"]}
    found = {
        (item["kind"], item["metadata"]["name"]): item
        for item in rendered("drain.yaml", namespace="logs", drain=drain)
    }
    (container,) = found["Deployment", "cutover-drain"]["spec"]["template"]["spec"]["containers"]
    variables = {one["name"]: one["value"] for one in container["env"]}
    settings = read_variables(DrainSettings, {"CUTOVER_DRAIN_OTLP": variables["CUTOVER_DRAIN_OTLP"]})
    assert settings.otlp == OtlpNames.model_validate(values["drain"]["otlp"])
    service, plain = found["Service", "cutover-drain-otlp"]["spec"], found["Service", "cutover-drain"]["spec"]
    assert service["selector"] == plain["selector"]
    assert service["ports"][0]["targetPort"] == plain["ports"][0]["targetPort"]
    rule = found["DestinationRule", "cutover-drain-otlp"]["spec"]
    assert rule["host"] == "cutover-drain-otlp.logs.svc.cluster.local"
    assert rule["trafficPolicy"]["loadBalancer"] == {"consistentHash": {"httpHeaderName": "Logplex-Drain-Token"}}
