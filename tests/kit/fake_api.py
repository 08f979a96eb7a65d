"""A small API server over real HTTP: kmock's discovery, lists and watches, with writes that keep Kubernetes' rules.

kmock itself never counts resourceVersions, knows no PUT and no conflict, and lets anything edit the status. What it does
not do here either (schemas, CEL, permissions) is tested against the real one in ``tests/apiserver``.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp.web
import attrs
import jsonpatch

from kmock import KubernetesEmulator, Request, resource

Json = dict[str, Any]
Key = tuple[resource, str | None, str]

PLANS = resource("cutover.dev", "v1alpha1", "migrationplans")
TEMPLATES = resource("cutover.dev", "v1alpha1", "gatetemplates")
CLUSTER_TEMPLATES = resource("cutover.dev", "v1alpha1", "clustergatetemplates")
SERVICES = resource("", "v1", "services")
DEPLOYMENTS = resource("apps", "v1", "deployments")
GATEWAYS = resource("networking.istio.io", "v1", "gateways")
VIRTUAL_SERVICES = resource("networking.istio.io", "v1", "virtualservices")

_ISTIO = {
    "virtualservices": "VirtualService",
    "serviceentries": "ServiceEntry",
    "destinationrules": "DestinationRule",
    "gateways": "Gateway",
}
_VERBS = ["get", "list", "watch", "create", "update", "patch", "delete"]


@dataclass
class Fault:
    """What goes wrong with requests of one method whose path contains a text.

    Parameters
    ----------
    name
        Of the object that is written, for those that are created.
    kind
        The status of the answer, or ``hang`` for none at all, or ``reset`` for a broken connection.
    times
        How many requests it hits.
    made
        Whether the write is made all the same.
    whole
        Whether the text is the whole path.
    """

    method: str
    path: str
    kind: int | Literal["hang", "reset"]
    times: int = 1_000_000
    made: bool = False
    whole: bool = False
    name: str = ""
    hits: int = 0

    def concerns(self, request: Request) -> bool:
        path = request.url.path
        if request.method.value != self.method or self.hits >= self.times:
            return False
        if not (path == self.path if self.whole else self.path in path):
            return False
        return not self.name or request.data["metadata"]["name"] == self.name


@attrs.define(kw_only=True)
class FakeApi(KubernetesEmulator):
    """The API server."""

    faults: list[Fault] = attrs.field(factory=list)
    _versions: Iterator[int] = attrs.field(factory=lambda: itertools.count(100))

    def __attrs_post_init__(self) -> None:
        KubernetesEmulator.__attrs_post_init__(self)
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            self.resources.load_bundled()  # without it Kopf never starts watching
        self.resources[PLANS] = _served("MigrationPlan", "migrationplan", ["status"])
        self.resources[TEMPLATES] = _served("GateTemplate", "gatetemplate", [])
        self.resources[CLUSTER_TEMPLATES] = _served("ClusterGateTemplate", "clustergatetemplate", [], namespaced=False)
        self.serve_istio()

    def serve_istio(self) -> None:
        for plural, kind in _ISTIO.items():
            self.resources[resource("networking.istio.io", "v1", plural)] = _served(kind, kind.lower(), [])

    # ------------------------------------------------------------------------------------------------- for the tests

    def fail(self, method: str, path: str, kind: int | Literal["hang", "reset"], **more: Any) -> Fault:
        """Let requests fail from now on."""
        self.faults.append(Fault(method, path, kind, **more))
        return self.faults[-1]

    def forbid(self, path: str) -> None:
        """Refuse to list or watch."""
        self.faults.append(Fault("GET", path, 403, whole=True))

    def disconnect(self) -> None:
        """Break off all watches."""
        for request in self._requests:
            if request.params.get("watch") == "true" and request._raw_request and request._raw_request.transport:
                request._raw_request.transport.abort()

    def events(self) -> list[Json]:
        """Return the Events that were posted."""
        return [
            request.data
            for request in self._requests
            if request.method.value == "POST" and request.url.path.endswith("/events")
        ]

    async def replace_status(self, namespace: str, name: str, status: Json) -> Json:
        """Write the status as another operator would."""
        body = self.raw(PLANS, namespace, name)
        assert body is not None
        return await self._store((PLANS, namespace, name), {**body, "status": status}, status=True)

    @property
    def seen(self) -> list[Request]:
        """The requests that came in."""
        return list(self._requests)

    def calls(self, method: str, path: str = "") -> int:
        """Count the requests that came in."""
        return sum(request.method.value == method and path in request.url.path for request in self._requests)

    def raw(self, kind: resource, namespace: str, name: str) -> Json | None:
        """Return an object as it is stored."""
        try:
            found = self._objects[kind, namespace, name]
        except KeyError:
            return None
        return None if found.deleted else copy.deepcopy(found.raw)

    async def write(self, kind: resource, body: Json) -> Json:
        """Create or change an object as a person would: the status is kept, versions count up."""
        metadata = body["metadata"]
        return await self._store((kind, metadata["namespace"], metadata["name"]), copy.deepcopy(body))

    async def merge(self, kind: resource, namespace: str, name: str, patch: Json) -> Json:
        """Change a part of an object."""
        body = self.raw(kind, namespace, name)
        assert body is not None
        return await self._store((kind, namespace, name), _merged(body, patch))

    async def remove(self, kind: resource, namespace: str, name: str) -> None:
        """Delete an object, at once or as soon as its finalizers are gone."""
        await self._remove((kind, namespace, name))

    # ------------------------------------------------------------------------------------------------------ requests

    async def _handle(self, request: Request) -> aiohttp.web.StreamResponse:
        fault = next((fault for fault in self.faults if fault.concerns(request)), None)
        if fault is not None:
            fault.hits += 1
            if fault.made:
                await self._write(request)
            return await _failed(request, fault)
        if request.resource is not None and request.method.value in ("POST", "PUT", "PATCH", "DELETE"):
            return await self._write(request)
        if request.resource is not None and request.name and self.raw(*_key(request)) is None:
            return _status(404, f"{request.name} not found", request.name)
        return await KubernetesEmulator._handle(self, request)

    async def _write(self, request: Request) -> aiohttp.web.Response:
        assert request.resource is not None
        name = request.name or request.data["metadata"]["name"]
        key = (request.resource, request.namespace, name)
        stored = self.raw(request.resource, str(request.namespace), name)
        match request.method.value:
            case "POST" if stored is not None:
                return _status(409, f"{name} already exists")
            case "POST":
                return aiohttp.web.json_response(await self._store(key, request.data), status=201)
            case _ if stored is None:
                return _status(404, f"{name} not found", name)
            case "DELETE":
                await self._remove(key)
                return aiohttp.web.json_response(stored)
            case "PUT":
                asked = request.data["metadata"]
                for fence in ("resourceVersion", "uid"):
                    if asked.get(fence, stored["metadata"][fence]) != stored["metadata"][fence]:
                        return _status(409, f"{name} was modified")
                body = request.data
            case _:
                body = _patched(stored, request)
        if body is None:
            return _status(422, "the patch does not apply")
        if request.subresource == "status":
            body = {**stored, "status": body.get("status")}
        else:
            body = {**body, "status": stored.get("status")}
            body["metadata"] = {**body["metadata"], "uid": stored["metadata"]["uid"]}
        return aiohttp.web.json_response(await self._store(key, body, status=True))

    async def _store(self, key: Key, body: Json, *, status: bool = False) -> Json:
        before = self.raw(key[0], str(key[1]), key[2])
        metadata = body["metadata"]
        if before is None:
            metadata.setdefault("uid", f"uid-{next(self._versions)}")
            metadata["generation"] = 1
        else:
            metadata["uid"] = before["metadata"]["uid"]
            metadata["generation"] = before["metadata"]["generation"] + (before.get("spec") != body.get("spec"))
            if not status and "status" in before:
                body = {"status": before["status"], **body}
        if body.get("status", 0) is None:
            del body["status"]
        metadata["resourceVersion"] = str(next(self._versions))
        gone = metadata.get("deletionTimestamp") and not metadata.get("finalizers")
        async with self._lock:
            self._objects[key] = body
            if gone:
                self._objects[key].delete()
            kind = "DELETED" if gone else "ADDED" if before is None else "MODIFIED"
            await self._buses[key[0]].put({"type": kind, "object": copy.deepcopy(body)})
        return copy.deepcopy(body)

    async def _remove(self, key: Key) -> None:
        body = self.raw(key[0], str(key[1]), key[2])
        assert body is not None
        if body["metadata"].get("finalizers"):
            body["metadata"]["generation"] += 1
            body["metadata"].setdefault("deletionTimestamp", "2026-01-01T00:00:00Z")
            await self._store(key, body)
            return
        body["metadata"]["resourceVersion"] = str(next(self._versions))
        async with self._lock:
            self._objects[key].delete()
            await self._buses[key[0]].put({"type": "DELETED", "object": body})


def _key(request: Request) -> tuple[resource, str, str]:
    assert request.resource is not None
    return request.resource, str(request.namespace), str(request.name)


def _served(kind: str, singular: str, subresources: list[str], *, namespaced: bool = True) -> Any:
    return {
        "namespaced": namespaced,
        "kind": kind,
        "singular": singular,
        "verbs": _VERBS,
        "shortnames": [],
        "categories": [],
        "subresources": subresources,
    }


async def _failed(request: Request, fault: Fault) -> aiohttp.web.Response:
    if fault.kind == "reset":
        raw = request._raw_request
        assert raw is not None
        assert raw.transport is not None
        raw.transport.abort()
        return aiohttp.web.Response()
    if fault.kind == "hang":
        await asyncio.sleep(1.0)  # longer than the operator waits
        return aiohttp.web.Response(status=504)
    return _status(fault.kind, "injected")


def _status(code: int, message: str, name: str = "") -> aiohttp.web.Response:
    details = {"name": name} if name else {}
    body = {"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "code": code}
    return aiohttp.web.json_response({**body, "message": message, "details": details}, status=code)


def _patched(stored: Json, request: Request) -> Json | None:
    if "json-patch+json" in request.headers["Content-Type"]:
        try:
            patched: Json = jsonpatch.apply_patch(stored, request.data)
        except jsonpatch.JsonPatchException:
            return None
        return patched
    return _merged(stored, request.data)


def _merged(body: Json, patch: Json) -> Json:
    merged = dict(body)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            merged[name] = _merged(merged.get(name) or {}, value)
        else:
            merged[name] = value
    return merged
