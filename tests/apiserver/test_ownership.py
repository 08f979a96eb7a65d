"""Each ownership of the VirtualService against those who write it too, in the real API server.

Flux, Argo CD and a person work all the time while the operator goes through a cutover and back; a watch sees every
version of the VirtualService that there ever was, as istiod would.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from tests.kit import builders
from tests.kit.routing import AskedTraffic, RecordedTraffic

from cutover.adapters.kube.client import Cluster
from cutover.adapters.kube.inventory import KubernetesInventories
from cutover.adapters.traffic.istio.adopt import live_weight
from cutover.adapters.traffic.istio.live import split_weight
from cutover.adapters.traffic.istio.rendering import adopts
from cutover.api.v1alpha1 import MigrationPlanStatus, OnDelete, Phase, RouteRecord
from cutover.domain.plan import Plan
from cutover.domain.preflight import registry
from cutover.domain.preflight.checks.istio.kinds import VIRTUAL_SERVICES
from cutover.domain.preflight.checks.istio.legs import is_probe
from cutover.domain.resources import Json
from cutover.ports.errors import Conflict, Unavailable

pytestmark = pytest.mark.usefixtures("istio_crds")

HEROKU = builders.HEROKU_HOST
DISABLED = {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}
#: Weights of a cutover and its rollback.
STEPS = (0, 10, 25, 50, 0)

CANARY = {"destination": {"host": "pdf-canary", "subset": "v2"}, "headers": {"request": {"add": {"a": "b"}}}}
STATIC = {
    "match": [{"uri": {"prefix": "/static"}}],
    "route": [{"destination": {"host": "cdn"}}],
    "corsPolicy": {"maxAge": "24h"},
    "timeout": "3s",
}
API = {
    "name": "api",
    "match": [{"uri": {"prefix": "/api"}}],
    "route": [{"destination": {"host": HEROKU}, "weight": 90}, {**CANARY, "weight": 10}],
    "mirror": {"host": "pdf-shadow"},
    "retries": {"attempts": 1},
}
REST = {"route": [{"destination": {"host": HEROKU}}], "rewrite": {"authority": HEROKU}}


def make_plan(namespace: str, ownership: str) -> Plan:
    istio: Json = {"hosts": [f"{namespace}.example.com"], "ownership": ownership}
    if ownership != "Generate":
        istio["virtualServiceRef"] = {"name": "pdf"}
    return builders.plan(namespace=namespace, istio=istio)


def at(plan: Plan, phase: Phase, weight: int | None) -> Plan:
    return replace(plan, status=MigrationPlanStatus(phase=phase, attempt=1, weight=weight))


def in_git(plan: Plan, name: str, *routes: Json, annotations: Json | None = None) -> Json:
    """Return the manifest that a tool applies, over and over."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name, "annotations": {"team": "docs", **(annotations or {})}},
        "spec": {
            "hosts": list(plan.spec.traffic.istio.hosts),
            "gateways": ["istio-ingress/public"],
            "http": list(routes),
        },
    }


# -------------------------------------------------------------------------------------------------------- the writers


class Writers:
    """Who else writes VirtualServices of the namespace. Each method is one round of one of them."""

    def __init__(self, api: Any, kubectl: Any, ca_file: Path, tmp_path: Path) -> None:
        self.api, self.kubectl, self.ca_file, self.tmp_path = api, kubectl, ca_file, tmp_path
        self.path = f"/apis/networking.istio.io/v1/namespaces/{kubectl.namespace}/virtualservices"
        self.applied = 0

    def read(self, name: str) -> Json:
        return self.api.call("GET", f"{self.path}/{name}")[1]

    def deaf(self, manifest: Json) -> None:
        """Apply on the server with force, whatever the object says."""
        answer = self.api.client.patch(
            f"{self.path}/{manifest['metadata']['name']}",
            params={"fieldManager": "kustomize-controller", "force": "true"},
            content=json.dumps(manifest),
            headers={"Content-Type": "application/apply-patch+yaml"},
        )
        assert answer.status_code in (200, 201), answer.text
        self.applied += 1

    def flux(self, manifest: Json) -> None:
        """Do as kustomize-controller (fluxcd/pkg/ssa): look at both objects' marks, then apply with force."""
        status, live = self.api.call("GET", f"{self.path}/{manifest['metadata']['name']}")
        marks = [body["metadata"].get("annotations") or {} for body in (manifest, live) if "metadata" in body]
        if any(one.get("kustomize.toolkit.fluxcd.io/reconcile") == "disabled" for one in marks):
            return
        if status == 200 and marks[0].get("kustomize.toolkit.fluxcd.io/ssa") == "IfNotPresent":
            return
        self.deaf(manifest)

    def argo(self, manifest: Json) -> None:
        """Do as Argo CD with RespectIgnoreDifferences for /spec/http: take that from live, and apply as kubectl does."""
        manifest = copy.deepcopy(manifest)
        if (live := self.read(manifest["metadata"]["name"])).get("spec"):
            manifest["spec"]["http"] = live["spec"]["http"]
        self.applied += 1
        manifest["metadata"].setdefault("labels", {})["round"] = str(self.applied)
        self.kubectl("apply", "--field-manager=argocd-controller", "-f", "-", stdin=json.dumps(manifest))

    def person(self, name: str, pattern: str) -> None:
        """Edit with ``kubectl edit``, in an editor that replaces a text."""
        editor = self.tmp_path / "editor"
        editor.write_text(f'#!/bin/sh\nsed -i "{pattern}" "$1"\n', encoding="utf-8")
        editor.chmod(0o755)
        done = subprocess.run(
            [self.api.kubectl, "--kubeconfig", self.api.kubeconfig, "-n", self.kubectl.namespace, "edit", "vs", name],
            env={**os.environ, "KUBE_EDITOR": str(editor)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        self.applied += 1


@pytest.fixture
def writers(api: Any, stack: Any, kubectl: Any, tmp_path: Path) -> Writers:
    return Writers(api, kubectl, stack.ca_file, tmp_path)


class Watch:
    """Every version of one VirtualService, in order."""

    def __init__(self, versions: list[Json]) -> None:
        self._versions = versions
        self._news = asyncio.Condition()

    async def follow(self, client: httpx.AsyncClient, path: str, query: dict[str, str]) -> None:
        """Take in what comes."""
        async with client.stream("GET", path, params=query) as answer:
            async for line in answer.aiter_lines():
                event = json.loads(line)
                assert event["type"] in ("ADDED", "MODIFIED"), event
                async with self._news:
                    self._versions.append(event["object"])
                    self._news.notify_all()

    async def seen(self, last: Json) -> list[Json]:
        """Return all versions up to one, which exists already."""

        def there() -> bool:
            return any(body["metadata"]["resourceVersion"] == version for body in self._versions)

        version = last["metadata"]["resourceVersion"]
        async with asyncio.timeout(120), self._news:
            await self._news.wait_for(there)
        return list(self._versions)


@asynccontextmanager
async def watching(writers: Writers, name: str) -> AsyncIterator[Watch]:
    """Watch one VirtualService from now on."""
    client = writers.api.client
    _, listed = writers.api.call("GET", writers.path)
    watch = Watch([body for body in listed["items"] if body["metadata"]["name"] == name])
    query = {
        "watch": "1",
        "fieldSelector": f"metadata.name={name}",
        "resourceVersion": listed["metadata"]["resourceVersion"],
    }
    tls = ssl.create_default_context(cafile=writers.ca_file)
    async with httpx.AsyncClient(
        base_url=client.base_url, headers=client.headers, verify=tls, timeout=None, trust_env=False
    ) as following:
        task = asyncio.create_task(watch.follow(following, writers.path, query))
        try:
            yield watch
            assert not task.done(), task.exception()
        finally:
            task.cancel()


@asynccontextmanager
async def working(write: Callable[[], None], pause: asyncio.Lock | None = None) -> AsyncIterator[None]:
    """Have somebody write all the time, three times at least; within ``pause``, if given."""
    often, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        for number in count(1):
            async with pause or asyncio.Lock():
                await asyncio.to_thread(write)
            if number == 3:
                often.set()
            if ended.is_set():
                return
            await asyncio.sleep(0.1)

    task, waiting = asyncio.create_task(work()), asyncio.create_task(often.wait())
    try:
        yield
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        assert not task.done(), task.exception()
    finally:
        waiting.cancel()
        # A write in its thread cannot be cancelled, and must not meet what comes next.
        ended.set()
        await asyncio.wait((task,))


async def keep(traffic: AskedTraffic, plan: Plan, weight: int, passes: int) -> None:
    """Do what the loop of a plan does: look, and put back what differs."""
    for _ in range(passes):
        state = await traffic.get(plan, weight, fresh=True)
        if not state.current:
            try:
                await traffic.set(plan, weight)
            except Conflict:
                continue
        await asyncio.sleep(0.05)


async def cut_over(traffic: AskedTraffic, plan: Plan, pause: asyncio.Lock | None = None) -> None:
    """Take over, step up, and roll back."""
    for index, weight in enumerate(STEPS):
        phase = Phase.PREFLIGHT if index == 0 else Phase.SHIFTING if weight else Phase.ROLLING_BACK
        decided = at(plan, phase, weight)
        async with pause or asyncio.Lock():
            await keep(traffic, decided, weight, 1)
        await keep(traffic, decided, weight, 12)
        assert (await traffic.get(decided, weight, fresh=True)).weight == weight


def weights(versions: list[Json], plan: Plan) -> list[int | None]:
    """Return the weights as they followed each other."""
    read = live_weight if adopts(plan) else lambda spec, plan: split_weight({"spec": spec}, plan)
    seen = [read(body["spec"], plan) for body in versions]
    return [one for index, one in enumerate(seen) if index == 0 or one != seen[index - 1]]


async def facts(cluster: Cluster, plan: Plan) -> dict[str, str]:
    """Return what preflight finds wrong, by check."""
    found = registry.before_takeover(plan, await KubernetesInventories(cluster).inventory(plan))
    return {check.check: check.message for check in found if check.result == "Failed"}


@pytest.fixture
def traffic(cluster: Cluster) -> AskedTraffic:
    return RecordedTraffic(cluster)


# ------------------------------------------------------------------------------------------------------------ Generate


async def test_generate_beside_a_stale_copy_in_git(
    traffic: AskedTraffic, cluster: Cluster, writers: Writers, namespace: str
) -> None:
    """Flux leaves alone what bears its mark; a person's labels are no drift."""
    plan = make_plan(namespace, "Generate")
    await traffic.set(at(plan, Phase.PREFLIGHT, 0), 0)
    stale = in_git(plan, "cutover-pdf", REST)
    number = count()

    def label() -> None:
        writers.kubectl("label", "--overwrite", "vs", "cutover-pdf", f"round=r{next(number)}")

    async with watching(writers, "cutover-pdf") as watch:
        async with working(lambda: writers.flux(stale)), working(label):
            await cut_over(traffic, plan)
        live = await cluster.get(VIRTUAL_SERVICES, namespace, "cutover-pdf")
        assert weights(await watch.seen(live), plan) == list(STEPS)
    assert writers.applied == 0
    assert live["metadata"]["labels"]["round"].startswith("r")


async def test_a_route_that_kubectl_replaced_is_rolled_back_and_put_to_rest(
    traffic: AskedTraffic, writers: Writers, namespace: str
) -> None:
    """``kubectl replace``, as Argo CD's ``Replace=true``, leaves no label and no annotation but those of its file."""
    plan = make_plan(namespace, "Generate")

    def written(phase: Phase, weight: int) -> Plan:
        decided = at(plan, phase, weight)
        record = RouteRecord(name="VirtualService cutover-pdf")
        return replace(decided, status=decided.status.evolve(route=record))

    def strip() -> None:
        live = writers.read("cutover-pdf")
        bare = {**live, "metadata": {"name": "cutover-pdf"}}
        writers.kubectl("replace", "-f", "-", stdin=json.dumps(bare))
        assert not {"labels", "annotations"} & set(writers.read("cutover-pdf")["metadata"])

    await traffic.set(at(plan, Phase.PREFLIGHT, 0), 0)
    await traffic.set(written(Phase.SHIFTING, 50), 50)
    strip()
    state = await traffic.get(written(Phase.SHIFTING, 50), 50, fresh=True)
    assert (state.weight, state.current) == (50, False)
    # An object that was never the plan's is refused, however much it looks like the plan's.
    with pytest.raises(Unavailable, match="is not the operator's"):
        await traffic.set(at(plan, Phase.ROLLING_BACK, 0), 0)
    await traffic.set(written(Phase.ROLLING_BACK, 0), 0)
    assert split_weight(writers.read("cutover-pdf"), plan) == 0
    await traffic.set(written(Phase.SHIFTING, 50), 50)
    strip()
    await traffic.finalize(written(Phase.SHIFTING, 50), OnDelete.HEROKU)
    assert split_weight(writers.read("cutover-pdf"), plan) == 0


@pytest.mark.parametrize("ownership", ["Generate", "Adopt"])
async def test_a_route_that_is_full_of_others_annotations_is_rolled_back(
    traffic: AskedTraffic, writers: Writers, namespace: str, ownership: str
) -> None:
    """The API server refuses an object with more than 256 KiB of annotations, ours among them."""
    plan = make_plan(namespace, ownership)
    name = "cutover-pdf" if ownership == "Generate" else "pdf"

    def written(phase: Phase, weight: int) -> Plan:
        decided = at(plan, phase, weight)
        return replace(decided, status=decided.status.evolve(route=RouteRecord(name=f"VirtualService {name}")))

    if ownership == "Adopt":
        writers.deaf(in_git(plan, "pdf", REST))
    await traffic.set(at(plan, Phase.PREFLIGHT, 0), 0)
    await traffic.set(written(Phase.SHIFTING, 50), 50)
    live = writers.read(name)
    filled = {**live, "metadata": {"name": name, "annotations": {"note": "x" * (256 * 1024 - 20)}}}
    writers.kubectl("replace", "-f", "-", stdin=json.dumps(filled))
    state = await traffic.get(written(Phase.SHIFTING, 50), 50, fresh=True)
    assert state.weight == 50
    await traffic.set(written(Phase.ROLLING_BACK, 0), 0)
    assert (await traffic.get(written(Phase.ROLLING_BACK, 0), 0, fresh=True)).weight == 0
    assert ("note" in writers.read(name)["metadata"]["annotations"]) is (ownership == "Adopt")


# ------------------------------------------------------------------------------------------------------------ Delegate

DELEGATING = {"delegate": {"name": "cutover-pdf"}}


@pytest.mark.parametrize("writer", ["flux", "argo", "person"])
async def test_delegate_shares_no_field_with_anybody(
    traffic: AskedTraffic, cluster: Cluster, writers: Writers, namespace: str, writer: str
) -> None:
    plan = make_plan(namespace, "Delegate")
    manifest = in_git(plan, "pdf", STATIC, {**DELEGATING, "match": [{"uri": {"prefix": "/"}}]}, REST)
    writers.deaf(manifest)
    assert set(await facts(cluster, plan)).isdisjoint({"route-delegates", "host-unclaimed"})
    seconds = count(100)
    rounds: dict[str, Callable[[], None]] = {
        "flux": lambda: writers.deaf(manifest),
        "argo": lambda: writers.argo(manifest),
        "person": lambda: writers.person("pdf", f"s/timeout: .*/timeout: {next(seconds)}s/"),
    }
    async with watching(writers, "pdf") as root, watching(writers, "cutover-pdf") as watch:
        async with working(rounds[writer]):
            await cut_over(traffic, plan)
        live = writers.read("cutover-pdf")
        assert weights(await watch.seen(live), plan) == list(STEPS)
        roots = await root.seen(writers.read("pdf"))
    assert {"hosts", "gateways"}.isdisjoint(live["spec"])
    assert writers.applied > 2
    for body in roots:
        assert "cutover" not in {entry["manager"] for entry in body["metadata"]["managedFields"]}
        assert body["spec"]["http"][1:] == manifest["spec"]["http"][1:]


@pytest.mark.parametrize("routes", [(REST,), (REST, DELEGATING), ({"delegate": {"name": "cutover"}}, REST)])
async def test_a_root_without_the_delegate_is_told_the_line(
    cluster: Cluster, writers: Writers, namespace: str, routes: tuple[Json, ...]
) -> None:
    plan = make_plan(namespace, "Delegate")
    assert "does not exist; create it" in (await facts(cluster, plan))["route-delegates"]
    writers.deaf(in_git(plan, "pdf", *routes))
    problem = (await facts(cluster, plan))["route-delegates"]
    line = f"- delegate: {{name: cutover-pdf, namespace: {namespace}}}"
    assert problem.endswith(line)
    # Who adds that line, there, is let in.
    (route,) = yaml.safe_load(line)
    writers.deaf(in_git(plan, "pdf", route, *[one for one in routes if one != DELEGATING]))
    assert "route-delegates" not in await facts(cluster, plan)


# --------------------------------------------------------------------------------------------------------------- Adopt


def check_adopted(versions: list[Json]) -> None:
    """See that nothing of the team's was ever touched beside the plan's own part."""
    for body in versions:
        http = [route for route in body["spec"]["http"] if not is_probe(route)]
        static, api, rest = http
        assert {**static, "corsPolicy": STATIC["corsPolicy"]} == STATIC
        assert {name: api[name] for name in ("name", "match", "mirror", "retries")} == {
            name: API[name] for name in ("name", "match", "mirror", "retries")
        }
        (third,) = [one for one in api["route"] if one["destination"]["host"] == "pdf-canary"]
        assert {**third, "weight": 10} == {**CANARY, "weight": 10}
        assert third["weight"] * 10 == sum(one["weight"] for one in api["route"])
        assert {"match", "mirror"}.isdisjoint(rest)


@pytest.mark.parametrize("writer", ["flux", "argo", "person", "nobody"])
async def test_adopt_beside_those_who_leave_the_routes_alone(
    traffic: AskedTraffic, cluster: Cluster, writers: Writers, namespace: str, writer: str
) -> None:
    plan = make_plan(namespace, "Adopt")
    told = {"kustomize.toolkit.fluxcd.io/ssa": "IfNotPresent"} if writer == "flux" else None
    manifest = in_git(plan, "pdf", STATIC, API, REST)
    if writer == "argo":
        writers.argo(manifest)
    else:
        writers.deaf(manifest) if writer == "flux" else writers.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    wrong = await facts(cluster, plan)
    assert "route-adoptable" not in wrong
    assert ("route-writers" in wrong) == (writer in ("flux", "argo"))
    before = writers.read("pdf")
    manifest["metadata"]["annotations"] |= told or {}
    pause, seconds = asyncio.Lock(), count(100)
    rounds: dict[str, Callable[[], None]] = {
        "flux": lambda: writers.flux(manifest),
        "argo": lambda: writers.argo(manifest),
        "person": lambda: writers.person("pdf", f"s/maxAge: .*/maxAge: {next(seconds)}h/"),
        "nobody": lambda: None,
    }
    # kubectl sends back all routes as it has read them: whoever writes in the very moment of a step writes an old
    # weight, see the editor that is left open.
    begun = writers.applied
    async with watching(writers, "pdf") as watch:
        async with working(rounds[writer], pause):
            await cut_over(traffic, plan, pause)
        rolled_back = writers.read("pdf")
        versions = await watch.seen(rolled_back)
    assert weights(versions, plan) == list(STEPS)
    check_adopted(versions)
    # Flux applies no more once it was told so; the others have written all the time.
    written = writers.applied - begun
    assert written >= 3 if writer in ("argo", "person") else written == 0

    await traffic.finalize(at(plan, Phase.ROLLED_BACK, 0), OnDelete.HEROKU)
    after = writers.read("pdf")
    if writer == "person":
        assert after["spec"]["http"][0]["corsPolicy"]["maxAge"] != "24h"
        after["spec"]["http"][0]["corsPolicy"]["maxAge"] = "24h"
    assert after["spec"] == before["spec"]
    for name in DISABLED | {"cutover.dev/original": "", "cutover.dev/plan-uid": ""}:
        assert name not in after["metadata"]["annotations"]


async def test_flux_is_stopped_by_the_mark_that_the_takeover_leaves(
    traffic: AskedTraffic, writers: Writers, namespace: str
) -> None:
    """Where people have skipped the check without telling Flux, it may apply once more, at weight 0."""
    plan = make_plan(namespace, "Adopt")
    manifest = in_git(plan, "pdf", STATIC, API, REST)
    writers.deaf(manifest)
    async with watching(writers, "pdf") as watch:
        async with working(lambda: writers.flux(manifest)):
            await cut_over(traffic, plan)
        versions = await watch.seen(writers.read("pdf"))
    assert weights(versions, plan) == list(STEPS)
    check_adopted(versions)


@pytest.mark.parametrize("writer", ["flux", "argo"])
async def test_a_writer_that_was_not_told_is_refused_before_anything_is_written(
    cluster: Cluster, writers: Writers, namespace: str, writer: str
) -> None:
    plan = make_plan(namespace, "Adopt")
    manifest = in_git(plan, "pdf", STATIC, API, REST)
    getattr(writers, writer)(manifest)
    wrong = await facts(cluster, plan)
    names = {"flux": ("kustomize-controller", "ssa: IfNotPresent"), "argo": ("argocd-controller", "ignoreDifferences")}
    assert all(part in wrong["route-writers"] for part in names[writer])
    # The command that the message gives is one that lets the plan in.
    if writer == "flux":
        command = wrong["route-writers"].partition("kubectl ")[2]
        writers.kubectl(*command.split())
        assert "route-writers" not in await facts(cluster, plan)


async def test_a_deaf_writer_is_named_and_never_sees_the_plan_start(
    traffic: AskedTraffic, cluster: Cluster, writers: Writers, namespace: str
) -> None:
    """It applies with force whatever it was told: what can be done is not to raise a weight, and to say who it is."""
    plan = at(make_plan(namespace, "Adopt"), Phase.PREFLIGHT, 0)
    manifest = in_git(plan, "pdf", STATIC, API, REST)
    manifest["metadata"]["annotations"] |= DISABLED
    writers.deaf(manifest)
    assert "route-writers" not in await facts(cluster, plan)
    edited = set[str]()
    async with watching(writers, "pdf") as watch:
        async with working(lambda: writers.deaf(manifest)):
            for number in count():
                state = await traffic.get(plan, 0, fresh=True)
                edited.update(() if state.current else state.foreign)
                await keep(traffic, plan, 0, 1)
                if edited and number > 30:
                    break
        versions = await watch.seen(writers.read("pdf"))
    assert edited == {"kustomize-controller"}
    assert weights(versions, plan) == [0]
    check_adopted(versions)


async def test_an_editor_left_open_brings_an_old_weight_which_is_put_back(
    traffic: AskedTraffic, writers: Writers, namespace: str
) -> None:
    """``spec.http`` is one field: whoever saves an edit of another route saves the weights as they were."""
    plan = at(make_plan(namespace, "Adopt"), Phase.SHIFTING, 50)
    writers.kubectl("apply", "-f", "-", stdin=json.dumps(in_git(plan, "pdf", STATIC, API, REST)))
    await traffic.set(at(plan, Phase.PREFLIGHT, 0), 0)
    opened = writers.read("pdf")["spec"]["http"]
    await traffic.set(plan, 50)
    opened[2]["timeout"] = "4s"
    writers.kubectl("patch", "vs", "pdf", "--type=merge", "--field-manager=kubectl-edit", "-p", json.dumps({"spec": {"http": opened}}))  # fmt: skip
    state = await traffic.get(plan, 50, fresh=True)
    assert (state.weight, state.current, state.foreign) == (0, False, ("kubectl-edit",))
    await keep(traffic, plan, 50, 2)
    live = writers.read("pdf")
    assert (live_weight(live["spec"], plan), live["spec"]["http"][2]["timeout"]) == (50, "4s")


@pytest.mark.parametrize(("end", "weight"), [(OnDelete.EKS, 100), (OnDelete.LEAVE, 50), (OnDelete.HEROKU, 0)], ids=str)
async def test_deletion_of_an_adopting_plan(
    traffic: AskedTraffic, cluster: Cluster, writers: Writers, namespace: str, end: OnDelete, weight: int
) -> None:
    plan = make_plan(namespace, "Adopt")
    manifest = in_git(plan, "pdf", STATIC, API, REST)
    writers.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    await traffic.set(at(plan, Phase.PREFLIGHT, 0), 0)
    await traffic.set(at(plan, Phase.SHIFTING, 50), 50)
    await traffic.finalize(at(plan, Phase.SHIFTING, 50), end)
    live = writers.read("pdf")
    assert live_weight(live["spec"], plan) == weight
    assert (live["spec"] == manifest["spec"]) == (end is OnDelete.HEROKU)
    # Deleted by the operator's label, as the documentation says, the team's object stays.
    writers.kubectl("delete", "virtualservice,serviceentry,destinationrule", "-l", "cutover.dev/plan=pdf")
    assert writers.read("pdf")["spec"] == live["spec"]
    # What rests on EKS is not taken back to Heroku by a new plan.
    if end is not OnDelete.HEROKU:
        anew = replace(at(plan, Phase.PREFLIGHT, None), uid="another")
        assert "already" in (await facts(cluster, anew))["route-adoptable"]
        with pytest.raises(Unavailable, match="already"):
            await traffic.set(at(anew, Phase.PREFLIGHT, 0), 0)
