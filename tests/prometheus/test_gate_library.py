"""The library of gates against a real Prometheus: series as the exporters give them, healthy, sick and missing.

Everything is scraped once, with times of its own: a healthy quarter of an hour, a pause, a sick one. What must not count is
there all along: other pods, pause containers, databases of others.
"""

from __future__ import annotations

import math
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml
from tests.corpus import BASE, load
from tests.kit.metrics_server import MetricsServer

from cutover.api.v1alpha1 import MigrationPlanSpec
from cutover.api.v1alpha1.gates import BoundSlo
from cutover.api.v1alpha1.templates import Template, from_object
from cutover.domain.slo.promql import render
from cutover.domain.slo.templates import custom_slos
from devstack.build import ensure_programs

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "charts" / "cutover" / "files" / "gate-templates"

STEP, POINTS = 30, 21
HEALTHY, SICK = "healthy", "sick"
#: Seconds ago.
ENDS = {HEALTHY: 1800, SICK: 300}
MISSING_AGO = 3000

Labels = Mapping[str, str]
#: Value of a series after so many seconds.
Course = Callable[[float], float]


@dataclass(frozen=True)
class Series:
    """One series in one phase."""

    name: str
    labels: Labels
    course: Course


def counter(per_second: float) -> Course:
    return lambda seconds: 1000 + per_second * seconds


def gauge(value: float) -> Course:
    return lambda seconds: value


POD, OTHER_POD = "pdf-6d5f8c7b9d-x2k4z", "pdf-6d5f8c7b9d-7wq9p"
#: Not of the Deployment pdf, though their names begin like it.
STRANGERS = ("pdf-worker-6d5f8c7b9d-x2k4z", "pdf-migrate-x2k4z", "pdf-0", "pdf", "xpdf-6d5f8c7b9d-x2k4z")


def container(name: str, course: Course, pod: str = POD, app: str = "app", **labels: str) -> Series:
    return Series(name, {"namespace": "documents", "pod": pod, "container": app, **labels}, course)


def cadvisor(name: str, course: Course, pod: str = POD, app: str = "app", **labels: str) -> Series:
    return container(name, course, pod, app, image="registry/app", id=f"/kubepods/{pod}/{app}", node="n1", **labels)


def _cpu(throttled: float) -> list[Series]:
    def one(share: float, pod: str, app: str = "app", **labels: str) -> list[Series]:
        return [
            cadvisor("container_cpu_cfs_periods_total", counter(8), pod, app, **labels),
            cadvisor("container_cpu_cfs_throttled_periods_total", counter(8 * share), pod, app, **labels),
            cadvisor("container_cpu_usage_seconds_total", counter(0.3), pod, app, **labels),
        ]

    idle = [
        cadvisor("container_cpu_cfs_periods_total", gauge(5), OTHER_POD, "idle"),
        cadvisor("container_cpu_cfs_throttled_periods_total", gauge(5), OTHER_POD, "idle"),
        cadvisor("container_cpu_usage_seconds_total", gauge(5), OTHER_POD, "idle"),
    ]
    strangers = [series for pod in STRANGERS for series in one(1.0, pod)]
    return one(throttled, POD) + one(0.02, OTHER_POD) + one(1.0, POD, app="") + idle + strangers


def _memory(used: float) -> list[Series]:
    gib = 2.0**30

    def one(bytes_: float, pod: str, app: str = "app") -> list[Series]:
        return [
            cadvisor("container_memory_working_set_bytes", gauge(bytes_), pod, app),
            container(
                "kube_pod_container_resource_limits", gauge(gib), pod, app, resource="memory", unit="byte", uid="u"
            ),
            container("kube_pod_container_resource_limits", gauge(1), pod, app, resource="cpu", unit="core", uid="u"),
        ]

    unlimited = [cadvisor("container_memory_working_set_bytes", gauge(5 * gib), OTHER_POD, "helper")]
    whole_pod = [cadvisor("container_memory_working_set_bytes", gauge(9 * gib), POD, "")]
    strangers = [series for pod in STRANGERS for series in one(gib, pod)]
    return one(used * gib, POD) + one(0.2 * gib, OTHER_POD) + unlimited + whole_pod + strangers


def _restarts(every: float) -> list[Series]:
    name = "kube_pod_container_status_restarts_total"
    loop = container(name, lambda seconds: seconds // every, uid="u")
    return [loop, container(name, gauge(7), OTHER_POD, uid="u")] + [
        container(name, counter(1), pod, uid="u") for pod in STRANGERS
    ]


def _starts(lead: float) -> list[Series]:
    name = "kube_pod_container_state_started"
    held = [container(name, gauge(1005), OTHER_POD), container(name, gauge(1000), OTHER_POD, "istio-proxy")]
    late = [
        container(name, gauge(1000 + lead)),
        container(name, gauge(1500), app="second"),
        container(name, gauge(1000), app="istio-proxy"),
    ]
    native = [container(name, gauge(1000), "pdf-6d5f8c7b9d-b5c6d")]
    strangers = [container(name, gauge(1000), pod, app) for pod in STRANGERS for app in ("app", "istio-proxy")]
    return held + late + native + strangers


_COREDNS = {"job": "kube-dns", "server": "dns://:53", "zone": ".", "view": ""}


def _dns(nxdomain: float) -> list[Series]:
    def answers(rcode: str, instance: str, per_second: float) -> Series:
        labels = {**_COREDNS, "rcode": rcode, "plugin": "kubernetes", "instance": instance}
        return Series("coredns_dns_responses_total", labels, counter(per_second))

    good = [answers("NOERROR", instance, 50) for instance in ("a:9153", "b:9153")]
    return [*good, answers("NXDOMAIN", "a:9153", 100 * nxdomain / (1 - nxdomain))]


def _queries(per_second: float) -> list[Series]:
    common = {**_COREDNS, "proto": "udp", "family": "1", "instance": "a:9153"}
    return [
        Series("coredns_dns_requests_total", {**common, "type": kind}, counter(per_second / 2))
        for kind in ("A", "AAAA")
    ]


def _connections(count: float) -> list[Series]:
    out = []
    for instance, job, factor in (("a:9187", "pg", 1.0), ("b:9187", "pg", 0.1), ("c:9187", "other", 10.0)):
        labels = {"job": job, "instance": instance, "server": "db:5432"}
        out.append(Series("pg_settings_max_connections", labels, gauge(200)))
        out += [
            Series("pg_stat_activity_count", {**labels, "datname": name, "state": state}, gauge(factor * count / 4))
            for name in ("app", "jobs")
            for state in ("active", "idle")
        ]
    return out


def _pgbouncer(waiting: float) -> list[Series]:
    rows = (("pgb", "app", waiting), ("pgb", "jobs", 1), ("pgb", "pgbouncer", 99), ("other", "app", 99))
    return [
        Series(
            "pgbouncer_pools_client_waiting_connections",
            {"job": job, "instance": "p:9127", "database": database, "user": "u"},
            gauge(value),
        )
        for job, database, value in rows
    ]


def _lag(seconds: float) -> list[Series]:
    rows = (("r1", "pg-lag", 1, seconds), ("r2", "pg-lag", 1, 0.5), ("primary", "pg-lag", 0, 999), ("x", "y", 1, 999))
    return [
        Series(name, {"job": job, "instance": instance}, gauge(value))
        for instance, job, replica, lag in rows
        for name, value in (("pg_replication_lag_seconds", lag), ("pg_replication_is_replica", replica))
    ]


@dataclass(frozen=True)
class Case:
    """One template: its series, and the values that come of them."""

    template: str
    healthy: list[Series]
    sick: list[Series]
    says: tuple[float, float]
    parameters: tuple[tuple[str, str], ...] = ()
    baseline: float | None = None


CASES = (
    Case("cpu-throttling", _cpu(0.1), _cpu(0.6), (0.1, 0.6)),
    Case("memory-near-limit", _memory(0.7), _memory(0.97), (0.7, 0.97)),
    Case("pod-restarts", _restarts(math.inf), _restarts(120), (0, 5)),
    Case("sidecar-start", _starts(2), _starts(0), (0, 1)),
    Case("dns-amplification", _dns(0.1), _dns(0.8), (0.1, 0.8)),
    Case("dns-load", _queries(20), _queries(100), (20, 100), baseline=20),
    Case("connection-budget", _connections(100), _connections(190), (0.5, 0.95), (("job", "pg"),)),
    Case("connection-budget", _connections(100), _connections(190), (0.5, 0.95), (("job", "pg"), ("budget", "1e6"))),
    Case("connection-budget", _connections(100), _connections(190), (1, 1.9), (("job", "pg"), ("budget", "100"), ("max", "1.2"))),
    Case("pgbouncer-waiting", _pgbouncer(2), _pgbouncer(40), (3, 41), (("job", "pgb"),)),
    Case("replication-lag", _lag(1), _lag(60), (1, 60), (("job", "pg-lag"),)),
)  # fmt: skip

#: Label values that mean something to PromQL or to a regular expression.
ODD = (
    *(
        "",
        "a",
        "a.b",
        "axb",
        ".*",
        "a|b",
        "a\\.b",
        'a"b',
        "a'b",
        "a`b",
        "a\nb",
        "\\",
        "\\\\",
        "{{ leg }}",
        "[ab]",
        "(?i)A",
    ),
    *("$1", "^a$", "a{2}", "aa", "é", "#", '",x="', "\t", "A", "\\E", "\\Qa", "-", "+", "?"),
)


def _exposition(now: float) -> str:
    lines: dict[str, None] = {}
    for case in CASES:
        for phase, series in ((HEALTHY, case.healthy), (SICK, case.sick)):
            for one in series:
                for point in range(POINTS):
                    at = now - ENDS[phase] - (POINTS - 1 - point) * STEP
                    value = one.course(point * STEP)
                    lines[f"{one.name}{_labels(one.labels)} {value:.6f} {round(at * 1000)}"] = None
    for number, value in enumerate(ODD):
        lines[f"odd{_labels({'value': value, 'number': str(number)})} {number} {round((now - 60) * 1000)}"] = None
    return "\n".join(lines) + "\n"


def _labels(labels: Labels) -> str:
    def escaped(value: str) -> str:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    return "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in labels.items()) + "}"


class Asked:
    """A Prometheus that has scraped everything once."""

    def __init__(self, url: str, now: float) -> None:
        self.now = now
        self._http = httpx.Client(base_url=url, trust_env=False)

    def query(self, promql: str, ago: float) -> list[tuple[dict[str, str], float]]:
        form = {"query": promql, "time": f"{self.now - ago:.3f}"}
        answer = self._http.post("/api/v1/query", data=form).json()
        assert answer["status"] == "success", (promql, answer)
        assert not answer.get("warnings"), answer
        return [(one["metric"], float(one["value"][1])) for one in answer["data"]["result"]]

    def ready(self) -> bool:
        try:
            return bool(self.query("odd", 60))
        except (httpx.HTTPError, ValueError):
            return False


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    folder, now = tmp_path_factory.mktemp("prometheus"), float(round(time.time()))
    bodies = iter([_exposition(now)])
    server = MetricsServer(lambda path: next(bodies, ""))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    target = {"targets": [f"127.0.0.1:{server.port}"]}
    # honor_labels: job and instance are the exporters' here.
    job = {"job_name": "all", "scrape_interval": "1s", "honor_labels": True, "static_configs": [target]}
    (folder / "prometheus.yaml").write_text(yaml.safe_dump({"scrape_configs": [job]}))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                ensure_programs().prometheus,
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    asked = Asked(f"http://127.0.0.1:{port}", now)
    try:
        for _ in range(1200):
            if asked.ready():
                break
            time.sleep(0.1)
        else:
            raise AssertionError((folder / "log").read_text())
        yield asked
    finally:
        process.terminate()
        process.wait(20)
        server.stop()


def _gate(case: Case) -> tuple[BoundSlo, str]:
    template = from_object(load(LIBRARY / f"{case.template}.yaml"))
    assert isinstance(template, Template)
    given = [{"name": name, "value": value} for name, value in case.parameters]
    slo = {"name": "x", "template": {"name": case.template, "parameters": given}}
    spec = MigrationPlanSpec.from_wire({**BASE["spec"], "gates": {"slos": [slo]}})
    templates: dict[str, Template | str] = {f"ClusterGateTemplate/{case.template}": template}
    said = custom_slos(spec, plan_name="pdf", namespace="documents", frozen=(), templates=templates)
    assert said.problems == ()
    (gate,) = said.gates
    assert isinstance(gate.slo, BoundSlo)
    return gate.slo, gate.queries[0]


def _within(slo: BoundSlo, value: float, baseline: float | None) -> bool:
    limits = [slo.max] if slo.max is not None else []
    if slo.times_baseline is not None:
        assert baseline is not None
        limits.append(slo.times_baseline * baseline)
    assert limits
    return all(value <= limit for limit in limits)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.template}-{len(case.parameters)}")
def test_healthy_is_within_and_sick_is_outside(prometheus: Asked, case: Case) -> None:
    slo, query = _gate(case)
    for phase, expected in zip((HEALTHY, SICK), case.says, strict=True):
        ((labels, value),) = prometheus.query(query, ENDS[phase])
        assert value == pytest.approx(expected, rel=0.05), phase
        assert _within(slo, value, case.baseline) == (phase == HEALTHY)
        assert labels == {}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.template}-{len(case.parameters)}")
def test_without_series_there_is_no_value(prometheus: Asked, case: Case) -> None:
    assert prometheus.query(_gate(case)[1], MISSING_AGO) == []


def test_every_template_of_the_library_is_proven() -> None:
    assert {case.template for case in CASES} == {path.stem for path in LIBRARY.glob("*.yaml")}


@pytest.mark.parametrize(
    ("template", "there", "not_there"),
    [
        ("cpu-throttling", "container_cpu_cfs_", "container_cpu_no_"),
        ("cpu-throttling", 'container!=""', 'container="idle"'),
        ("dns-amplification", 'rcode="NXDOMAIN"', 'rcode="NONE"'),
        ("sidecar-start", 'container="istio-proxy"', 'container="none"'),
    ],
)
def test_where_nothing_can_be_wrong_it_is_zero(prometheus: Asked, template: str, there: str, not_there: str) -> None:
    """No limit or no work is no throttling, a calm cluster has no NXDOMAIN, and not every pod has a sidecar."""
    _, query = _gate(next(case for case in CASES if case.template == template))
    assert there in query
    assert [value for _, value in prometheus.query(query.replace(there, not_there), ENDS[SICK])] == [0]


@pytest.mark.parametrize("value", ODD, ids=repr)
def test_a_value_finds_itself_only(prometheus: Asked, value: str) -> None:
    """In each kind of string, as a whole value and in a regular expression of RE2."""
    forms = ['odd{value="{{ x }}"}', "odd{value='{{ x }}'}", 'odd{value=~"{{ x }}"}', "odd{value=~'(?:{{ x }}|nope)'}"]
    if "`" not in value:
        forms += ["odd{value=`{{ x }}`}", "odd{value=~`{{ x }}`}"]
    for form in forms:
        found = {labels["number"] for labels, _ in prometheus.query(render(form, {"x": value}), 60)}
        assert found == {str(ODD.index(value))}, form
    for form in ('odd{value!="{{ x }}"}', 'odd{value!~"{{ x }}"}'):
        assert len(prometheus.query(render(form, {"x": value}), 60)) == len(ODD) - 1
