"""``support-bundle``: what somebody needs who helps with a plan, with nothing secret in it."""

from __future__ import annotations

import io
import json
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
import yaml

from cutover.adapters.kube.answers import NotServed
from cutover.cli.cluster import Cluster
from cutover.cli.redaction import redacted, redacted_text
from cutover.cli.session import PlanName, Session, now, tell
from cutover.domain.marks import PLAN_LABEL
from cutover.domain.preflight.checks.istio.kinds import DESTINATION_RULES, SERVICE_ENTRIES, VIRTUAL_SERVICES
from cutover.domain.preflight.inventory import key_of
from cutover.domain.resources import DEPLOYMENTS, EVENTS, SERVICES, Json, Resource
from cutover.ports.errors import Conflict, Gone, Unavailable

PODS = Resource("", "v1", "Pod", "pods")
#: The operator's Pods, by the chart's label.
OPERATOR_LABEL = "app.kubernetes.io/name=cutover"
#: Lines of each log, and bytes of it that are read.
LOG_LINES, METRICS_PORT = 2000, 9090


def support_bundle(
    session: Session,
    plan: PlanName,
    file: Annotated[Path | None, typer.Option("--file", help="Where to; by default <plan>-<time>.tar.gz.")] = None,
    operator_namespace: Annotated[
        str, typer.Option("--operator-namespace", help="Where the operator runs, for its log and metrics.")
    ] = "cutover-system",
) -> None:
    """Write a .tar.gz for an issue: the plan, its route, events, log lines and metrics, redacted."""
    body = session.body(plan)
    target = file or Path(f"{plan}-{now():%Y%m%dT%H%M%SZ}.tar.gz")
    missing: list[str] = []
    with tarfile.open(target, "w:gz") as archive:
        for name, read in _parts(session.cluster, body, operator_namespace):
            try:
                _add(archive, name, read())
            except (Unavailable, Gone, Conflict) as error:
                missing.append(f"{name}: {error}")
        about = {
            "made": f"{now():%Y-%m-%dT%H:%M:%SZ}",
            "plan": f"{session.namespace}/{plan}",
            "notRead": missing,
            "redacted": "values of Secrets and ConfigMaps, environment variables, headers and cookies of testers, credentials",
        }
        _add(archive, "about.yaml", _yaml(about))
    for line in missing:
        tell(f"not in it: {line}")
    tell(f"{target} is written; look through it before you send it: host names and paths of your services are in it")


def _parts(cluster: Cluster, body: Json, operator_namespace: str) -> Iterator[tuple[str, Callable[[], str]]]:
    """Return the names of files, with what makes each."""
    namespace, name = key_of(body)
    spec = body.get("spec") or {}
    eks = spec.get("eks") or {}
    service = (eks.get("service") or {}).get("name", name)
    workload = (eks.get("workloadRef") or {}).get("name", service)
    yield "plan.yaml", lambda: _yaml(redacted(body))
    yield "events.yaml", lambda: _yaml([redacted(one) for one in _events(cluster, namespace, name)])
    for kind in (VIRTUAL_SERVICES, SERVICE_ENTRIES, DESTINATION_RULES):
        selector = {"labelSelector": f"{PLAN_LABEL}={name}"}
        yield f"{kind.plural}.yaml", _listed(cluster, kind, namespace, selector)
    for kind, object_name in ((SERVICES, service), (DEPLOYMENTS, workload)):
        yield f"{kind.plural}.yaml", _named(cluster, kind, namespace, str(object_name))
    yield "operator/pods.yaml", _listed(cluster, PODS, operator_namespace, {"labelSelector": OPERATOR_LABEL})
    try:
        pods = cluster.objects(PODS, operator_namespace, labelSelector=OPERATOR_LABEL)
    except Unavailable:
        return  # the list above says so
    for pod in pods:
        path = PODS.path(operator_namespace, pod["metadata"]["name"])
        yield f"operator/{pod['metadata']['name']}.log", _log(cluster, path, f"{namespace}/{name}")
        yield f"operator/{pod['metadata']['name']}.metrics", _metrics(cluster, path)


def _events(cluster: Cluster, namespace: str, name: str) -> list[Json]:
    return cluster.objects(EVENTS, namespace, fieldSelector=f"involvedObject.name={name}")


def _listed(cluster: Cluster, kind: Resource, namespace: str, query: dict[str, str]) -> Callable[[], str]:
    def read() -> str:
        try:
            return _yaml([redacted(one) for one in cluster.objects(kind, namespace, **query)])
        except NotServed:
            return f"# this cluster does not serve {kind}\n"

    return read


def _named(cluster: Cluster, kind: Resource, namespace: str, name: str) -> Callable[[], str]:
    return lambda: _yaml(redacted(cluster.get(kind, namespace, name)))


def _log(cluster: Cluster, path: str, key: str) -> Callable[[], str]:
    """Return what reads the lines of an operator's log that are about the plan, or about no plan."""

    def read() -> str:
        text = cluster.text(f"{path}/log", tailLines=str(LOG_LINES), timestamps="true")
        return "\n".join(redacted_text(line) for line in text.splitlines() if about(line, key))

    return read


def about(line: str, key: str) -> bool:
    """Tell whether a line of the operator's log is about a plan, or about no plan: those of others' plans are left out."""
    start = line.find("{")
    try:
        found = json.loads(line[start:]) if start >= 0 else None
    except ValueError:
        found = None
    plan = found.get("plan") if isinstance(found, dict) else None
    return plan is None or plan == key


def _metrics(cluster: Cluster, path: str) -> Callable[[], str]:
    return lambda: redacted_text(cluster.text(f"{path}:{METRICS_PORT}/proxy/metrics"))


def _yaml(data: object) -> str:
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)


def _add(archive: tarfile.TarFile, name: str, text: str) -> None:
    data = text.encode(errors="replace")
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = len(data), int(time.time()), 0o600
    archive.addfile(entry, io.BytesIO(data))
