"""The operator's rights are the least that work: without any one of them something fails, and says what is missing.

For each verb on each resource that the chart grants there is an account that has all the others. Each does the operator's
work: the ports' operations by the adapters, the watches by Kopf, the election. What it is refused has to be exactly the
missing right, told in words; a right that nothing needs would be missed by nobody, and fail the test. The account with all of
them is refused nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import logging
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import kopf
import pytest
import structlog
import yaml
from tests.kit import builders
from tests.kit.chart import lease_rights
from tests.kit.routing import AskedTraffic

from cutover.adapters.dialects.istio.counters import IstioDialect
from cutover.adapters.kube.client import Cluster
from cutover.adapters.kube.inventory import KubernetesInventories
from cutover.adapters.kube.lease import Election
from cutover.adapters.kube.plans import KubernetesPlans
from cutover.adapters.traffic.istio.leg_probe import HttpLegProbe
from cutover.api.v1alpha1 import MigrationPlanStatus, Phase
from cutover.domain.baseline.record import Reach, Record
from cutover.domain.plan import Plan
from cutover.domain.resources import CONFIG_MAPS, PLANS
from cutover.domain.traffic import Leg
from cutover.kopf_app.configuration import kopf_settings
from cutover.kopf_app.handlers import register
from cutover.ports.errors import Conflict, Gone, Unavailable
from cutover.services.operator import Operator
from cutover.services.records import PrometheusRecords
from devstack.stack import Stack
from sandbox.manifests import chart_rules

pytestmark = pytest.mark.usefixtures("istio_crds")

NAMESPACE = "rbac"
RBAC = "rbac.authorization.k8s.io/v1"
#: What Kopf asks the API server for by itself: its own verbs on what it watches.
WATCHED = frozenset(
    {"migrationplans", "gatetemplates", "clustergatetemplates"}
    | {"virtualservices", "serviceentries", "destinationrules"}
)
REFUSED = re.compile(r'cannot (\S+) resource "([^"]+)"|needs verb (\S+) on (\S+)')


@dataclass(frozen=True)
class Right:
    """One verb on one resource."""

    group: str
    resource: str
    verb: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"

    @property
    def by_kopf(self) -> bool:
        return self.resource in WATCHED and self.verb in ("list", "watch", "patch")


def single(rules: list[dict[str, Any]]) -> dict[Right, dict[str, Any]]:
    """Return each right on its own, with the rule that grants it alone."""
    return {
        Right(group, resource, verb): {**rule, "apiGroups": [group], "resources": [resource], "verbs": [verb]}
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


GRANTED = single(chart_rules())
LEASE_ROLE, _ = lease_rights()
LEASE_GRANTED = single(LEASE_ROLE["rules"])


def account(right: Right | None) -> str:
    """Return the name of the account that has all but one right."""
    return "complete" if right is None else f"without-{right}".lower().replace(" ", "-").replace("/", "-")


def manifests() -> Iterator[dict[str, Any]]:
    """Yield the accounts with their roles."""
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    for missing in (None, *GRANTED, *LEASE_GRANTED):
        name = account(missing)
        subjects = [{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}]
        yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": NAMESPACE}}
        for kind, granted in (("ClusterRole", GRANTED), ("Role", LEASE_GRANTED)):
            rules = [copy.deepcopy(rule) for right, rule in granted.items() if right != missing]
            if kind == "Role":
                # In this test's namespace, and a Lease for each account.
                rules = [{**rule, **({"resourceNames": [name]} if "resourceNames" in rule else {})} for rule in rules]
            metadata = {"name": name} | ({"namespace": NAMESPACE} if kind == "Role" else {})
            yield {"apiVersion": RBAC, "kind": kind, "metadata": metadata, "rules": rules}
            reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
            yield {
                "apiVersion": RBAC,
                "kind": f"{kind}Binding",
                "metadata": metadata,
                "roleRef": reference,
                "subjects": subjects,
            }


def target(name: str) -> dict[str, Any]:
    """Return the plan of an account."""
    eks = {"service": {"name": "pdf", "port": 80}, "workloadRef": {"name": "pdf"}}
    # An account's name is longer than Heroku lets the name of an app be.
    heroku = {"app": "acme-pdf", "hostname": f"{name}.herokuapp.com"}
    down = {"action": "Forward"}
    return builders.plan_body(
        name, NAMESPACE, istio={"gateways": ["public"]}, eks=eks, heroku=heroku, onHerokuDown=down
    )


@pytest.fixture(scope="module")
def kubeconfigs(stack: Stack, istio_crds: None) -> dict[Right | None, Path]:
    """All accounts, by what is missing."""
    labels = {"app": "pdf"}
    pods = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "x", "image": "x"}]}}
    server = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    ports = {"selector": labels, "ports": [{"port": 80}]}
    place = {"namespace": NAMESPACE}
    deployment = {"replicas": 1, "selector": {"matchLabels": labels}, "template": pods}
    gateway = {"selector": labels, "servers": [server]}
    stack.apply(
        [
            *manifests(),
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "pdf", **place}, "spec": ports},
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "pdf", **place}, "spec": deployment},
            {
                "apiVersion": "networking.istio.io/v1",
                "kind": "Gateway",
                "metadata": {"name": "public", **place},
                "spec": gateway,
            },
            *(target(account(right)) for right in (None, *GRANTED) if right is None or not right.by_kopf),
        ]
    )
    rights = (None, *GRANTED, *LEASE_GRANTED)
    return {right: stack.service_account_kubeconfig(NAMESPACE, account(right)) for right in rights}


def refused(text: str) -> set[str]:
    """Return the rights that a text says are missing, as ``verb resource``."""
    return {" ".join(part for part in found if part) for found in REFUSED.findall(text)}


# ------------------------------------------------------------------------------------------------------------ adapters


async def work(kubeconfig: Path, name: str) -> str:
    """Do what the operator does for a plan without Kopf; return all that it says of failures."""
    said: list[str] = []
    cluster = await Cluster.connect(kubeconfig)
    plans, traffic = KubernetesPlans(cluster), AskedTraffic(cluster)
    gateway = HttpLegProbe(cluster)
    records = PrometheusRecords(
        lambda _: pytest.fail("nothing is read"),
        gateway=IstioDialect(),
        drain=None,
        create=partial(cluster.create, CONFIG_MAPS),
        now=lambda _: 0.0,
    )
    status = MigrationPlanStatus(observed_generation=1, phase=Phase.SHIFTING, attempt=1, weight=0)
    plan = Plan.from_object({**target(name), "metadata": {**target(name)["metadata"], "uid": name}})
    plan = replace(plan, status=status)
    spec = plan.spec.model_copy(
        update={"heroku": plan.spec.heroku.model_copy(update={"hostname": f"{name}-b.herokuapp.com"})}
    )

    @contextlib.asynccontextmanager
    async def trying() -> AsyncIterator[None]:
        try:
            yield
        except (Conflict, Gone, Unavailable) as problem:
            said.append(str(problem))

    version = "1"
    async with trying():
        _, version = await plans.read(NAMESPACE, name)
    async with trying():
        await plans.write_status(plan, MigrationPlanStatus(), version)
    async with trying():
        inventory = await KubernetesInventories(cluster).inventory(replace(plan, status=MigrationPlanStatus()))
        said.extend(inventory.unread.values())
    async with trying():
        await traffic.set(plan, 0)
    async with trying():
        # Another name of the app changes all of its objects.
        await traffic.set(replace(plan, spec=spec, status=status.model_copy(update={"weight": 10})), 10)
    async with trying():
        # As a restarted operator does: what is there is the same.
        for _ in range(2):
            await records.keep(plan, Record("Drain", Reach(0.0, ()), ()))
    said.append((await gateway.probe(plan, Leg.HEROKU, "/")).detail)
    await plans.event(plan, "Normal", "Test", "a test")
    await gateway.close()
    await cluster.close()
    return "\n".join(said)


@pytest.mark.parametrize("missing", [right for right in GRANTED if not right.by_kopf], ids=str)
async def test_each_right_of_the_adapters_is_needed(
    kubeconfigs: dict[Right | None, Path], missing: Right, caplog: pytest.LogCaptureFixture
) -> None:
    said = await work(kubeconfigs[missing], account(missing)) + caplog.text  # that an Event was not posted is logged
    assert refused(said) == {str(missing)}
    assert "missing permission" in said


async def test_all_rights_together_are_refused_nothing(
    kubeconfigs: dict[Right | None, Path], caplog: pytest.LogCaptureFixture
) -> None:
    said = await work(kubeconfigs[None], account(None)) + caplog.text
    assert refused(said) == set()
    assert "forbidden" not in said
    # The probe got as far as looking for the Service's name.
    assert "http://pdf.rbac.svc:80: " in said


# ---------------------------------------------------------------------------------------------------------------- Kopf

_whose: contextvars.ContextVar[str] = contextvars.ContextVar("whose", default="")


class ByAccount(logging.Handler):
    """Keeps what is logged, by the account whose operator logs it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: dict[str, list[str]] = defaultdict(list)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines[_whose.get()].append(record.getMessage())


class Idle:
    """A loop that does nothing: what loops do is the adapters' work."""

    async def run(self, stopped: Callable[[], bool]) -> None:
        await until(stopped, 60)

    def notice(self, _: Any) -> None:
        pass


class Watching(Operator):
    """An operator without ports, routes and templates."""

    def __init__(self) -> None:
        super().__init__(None, None, None)  # type: ignore[arg-type]

    def loop(self, uid: str, body: Any) -> Any:
        return Idle()

    def route_changed(self, kind: str | None, body: Any) -> None:
        pass

    def template_changed(self, kind: Any, event: str | None, body: Any) -> None:
        pass


async def until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait for something that nobody tells of, or for the time to be over."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.1)


def connection(kubeconfig: Path) -> kopf.ConnectionInfo:
    """Return the account's connection for Kopf, which knows one kubeconfig only."""
    config = yaml.safe_load(kubeconfig.read_text("utf-8"))
    (server,), (user,) = config["clusters"], config["users"]
    trusted = server["cluster"].get("certificate-authority")
    return kopf.ConnectionInfo(
        server=server["cluster"]["server"], ca_path=trusted, scheme="Bearer", token=user["user"]["token"]
    )


async def watch(credentials: kopf.ConnectionInfo, name: str, stop: asyncio.Event) -> None:
    """Let Kopf look after the one labelled plan with our handlers and settings, as an account."""
    _whose.set(name)
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def login(**_: Any) -> kopf.ConnectionInfo:
        return credentials

    register(registry, Watching())
    settings = kopf_settings()
    settings.watching.label_selectors[(PLANS.group, PLANS.version, PLANS.plural)] = NAMESPACE
    await kopf.operator(registry=registry, settings=settings, standalone=True, clusterwide=True, stop_flag=stop)


async def test_each_right_of_kopf_is_needed(kubeconfigs: dict[Right | None, Path], stack: Stack) -> None:
    """All accounts at once: most of it is waiting for the API server."""
    kept, stop = ByAccount(), asyncio.Event()
    rights = [right for right in GRANTED if right.by_kopf]
    credentials = {right: connection(kubeconfigs[right]) for right in (None, *rights)}

    def missing(right: Right | None) -> set[str]:
        return refused("\n".join(kept.lines[account(right)]))

    def start(*some: Right | None) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(watch(credentials[right], account(right), stop)) for right in some]

    patching = Right(PLANS.group, PLANS.plural, "patch")
    plan = target("watched")
    stack.apply([{**plan, "metadata": {**plan["metadata"], "labels": {NAMESPACE: "watched"}}}])
    logging.getLogger().addHandler(kept)
    try:
        # First, or another one would have set the finalizer.
        running = start(patching)
        await until(lambda: bool(missing(patching)), 60)
        running += start(*(right for right in (None, *rights) if right != patching))
        await until(lambda: all(missing(right) for right in rights), 90)
        await asyncio.sleep(1)  # for what should not come
        stop.set()
        await asyncio.gather(*running)
    finally:
        logging.getLogger().removeHandler(kept)
    assert {right: missing(right) for right in rights} == {right: {str(right)} for right in rights}
    assert missing(None) == set()


# ------------------------------------------------------------------------------------------------------------ election


@pytest.mark.parametrize("missing", [None, *LEASE_GRANTED], ids=str)
async def test_each_right_of_the_election_is_needed(
    kubeconfigs: dict[Right | None, Path], missing: Right | None, api: Any
) -> None:
    name = account(missing)
    path = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
    if missing is not None and missing.verb == "update":
        # It is held by nobody, and there to be taken.
        held = {
            "leaseDurationSeconds": 1,
            "holderIdentity": "",
            "acquireTime": "2026-01-01T00:00:00.000000Z",
            "renewTime": "2026-01-01T00:00:00.000000Z",
        }
        api.call("POST", path, {"metadata": {"name": name, "namespace": NAMESPACE}, "spec": held})
    led = asyncio.Event()

    async def act() -> None:
        led.set()
        await asyncio.Event().wait()

    election = await Election.connect(kubeconfigs[missing], f"{NAMESPACE}/{name}")
    with structlog.testing.capture_logs() as logged:
        running = asyncio.create_task(election.run(act))
        await until(lambda: led.is_set() or any("problem" in line for line in logged), 60)
        running.cancel()
        await asyncio.wait((running,))
        await election.close()
    said = "\n".join(str(line.get("problem", "")) for line in logged)
    assert refused(said) == (set() if missing is None else {str(missing)})
    assert led.is_set() is (missing is None)
