"""The API server as ``kubectl`` reaches it: the person's kubeconfig, context, namespace and rights."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from cutover.adapters.kube.answers import Forbidden, NotServed, translate
from cutover.adapters.masking import masked
from cutover.cli.exits import CliError
from cutover.domain.resources import PLANS, Json, Resource
from cutover.domain.texts import plain
from cutover.ports.errors import Conflict, Gone, Unavailable

#: Flux takes the fields of managers whose name begins with ``kubectl`` for its own, and drops them.
FIELD_MANAGER = "cutover-cli"
#: Seconds to connect, and between two parts of an answer.
CONNECT_SECONDS, READ_SECONDS = 10.0, 30.0
#: Seconds after which the API server ends a watch, which then begins anew.
WATCH_SECONDS = 300
PAGE = 250
_JSON, _MERGE = "application/json", "application/merge-patch+json"


@dataclass(frozen=True, slots=True)
class Target:
    """Which cluster, as whom, and in which namespace; each as kubectl's option of the same name.

    Parameters
    ----------
    kubeconfig
        Path; ``None`` for ``KUBECONFIG`` or ``~/.kube/config``, and in a Pod its ServiceAccount.
    context
        Context of the kubeconfig; ``None`` for the current one.
    namespace
        Namespace; ``None`` for the context's.
    user
        Whom to impersonate.
    """

    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str | None = None
    user: str | None = None


class Cluster:
    """Requests to the API server, one at a time.

    Methods raise :class:`~cutover.ports.errors.Gone`, :class:`~cutover.ports.errors.Conflict` and
    :class:`~cutover.ports.errors.Unavailable` with texts for people.

    Attributes
    ----------
    namespace
        The namespace that is meant where none is named.
    """

    def __init__(self, api: Any, namespace: str, headers: Mapping[str, str] | None = None) -> None:
        self._api = api
        self.namespace = namespace
        self._headers = dict(headers or {})

    @classmethod
    def connect(cls, target: Target) -> Self:
        """Read the kubeconfig. Nothing is asked yet.

        Raises
        ------
        CliError
            If there is no kubeconfig that can be used.
        """
        # More than a second, which neither help nor completion waits for.
        from kubernetes import client, config

        configuration = client.Configuration()
        file = str(target.kubeconfig) if target.kubeconfig else os.environ.get("KUBECONFIG") or None
        try:
            namespace = _load(config, configuration, file, target.context)
        except (
            config.ConfigException,
            OSError,
            yaml.YAMLError,
            AttributeError,
            KeyError,
            TypeError,
            ValueError,
        ) as no:
            said = plain(masked(" ".join(str(no).split()))).rstrip(".")
            raise CliError(
                f"no cluster: {said}; name a kubeconfig by --kubeconfig or KUBECONFIG, and a context by --context"
            ) from None
        configuration.retries = False
        api = client.ApiClient(configuration)
        headers = {"User-Agent": FIELD_MANAGER}
        if target.user:
            headers["Impersonate-User"] = target.user
        return cls(api, target.namespace or namespace or "default", headers)

    @property
    def server(self) -> str:
        """The API server's address."""
        return str(self._api.configuration.host)

    def get(self, resource: Resource, namespace: str, name: str) -> Json:
        """Read one object."""
        return self._ask("GET", f"get {resource} {namespace}/{name}", resource.path(namespace, name))

    def objects(self, resource: Resource, namespace: str = "", **query: str) -> list[Json]:
        """Read all objects of a namespace, or of all namespaces; ``query`` as in the API, such as ``labelSelector``."""
        return self._pages(resource, namespace, query)[0]

    def _pages(self, resource: Resource, namespace: str, query: Mapping[str, str]) -> tuple[list[Json], str]:
        """Return all objects, and the resourceVersion of the list."""
        items: list[Json] = []
        asked = {**query, "limit": str(PAGE)}
        while True:
            page = self._ask("GET", f"list {resource} {namespace}".rstrip(), resource.path(namespace), query=asked)
            items += page.get("items") or ()
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                return items, str(metadata.get("resourceVersion", ""))
            asked["continue"] = metadata["continue"]

    def patch(self, resource: Resource, namespace: str, name: str, body: Json) -> Json:
        """Merge a patch into an object, under :data:`FIELD_MANAGER`."""
        what, path = f"patch {resource} {namespace}/{name}", resource.path(namespace, name)
        return self._ask("PATCH", what, path, query={"fieldManager": FIELD_MANAGER}, body=body, kind=_MERGE)

    def create(self, resource: Resource, body: Json, *, dry_run: bool = False) -> Json:
        """Create an object in its own namespace, or have the API server only judge it."""
        namespace = body["metadata"]["namespace"]
        query = {"fieldManager": FIELD_MANAGER} | ({"dryRun": "All"} if dry_run else {})
        return self._ask("POST", f"create {resource} {namespace}", resource.path(namespace), query=query, body=body)

    def who(self) -> str:
        """Return the person's name as the API server knows it; ``""`` if it does not tell."""
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        try:
            answer = self._ask("POST", "create selfsubjectreviews", path, body=body)
            return str(answer["status"]["userInfo"]["username"])
        except (Conflict, Gone, Unavailable, KeyError, TypeError):
            return ""

    def text(self, path: str, **query: str) -> str:
        """Return an answer that is no JSON, such as a Pod's log."""
        return self._send("GET", f"get {path}", path, query=query).decode(errors="replace")

    def changes(self, resource: Resource, namespace: str = "", name: str = "") -> Iterator[Json]:
        """Follow objects: first ``{"type": "LIST", "items": […]}``, then the API server's events, until the watch ends."""
        query = {"fieldSelector": f"metadata.name={name}"} if name else {}
        items, version = self._pages(resource, namespace, query)
        yield {"type": "LIST", "items": items}
        asked = {**query, "watch": "true", "resourceVersion": version, "timeoutSeconds": str(WATCH_SECONDS)}
        what = f"watch {resource} {namespace}".rstrip()
        answer = self._open("GET", what, resource.path(namespace), query=asked, read=WATCH_SECONDS + READ_SECONDS)
        rest = b""
        with _reasons(what):
            for part in answer.response.stream():
                *lines, rest = (rest + part).split(b"\n")
                yield from map(json.loads, filter(None, lines))

    def _ask(self, verb: str, what: str, path: str, **more: Any) -> Json:
        data = self._send(verb, what, path, **more)
        try:
            answer: Json = json.loads(data)
        except ValueError:
            raise Unavailable(f"{what}: the answer is no JSON: is a proxy before the API server?") from None
        return answer

    def _send(self, verb: str, what: str, path: str, **more: Any) -> bytes:
        answer = self._open(verb, what, path, **more)
        with _reasons(what):
            data: bytes = answer.read()
        return data

    def _open(
        self,
        verb: str,
        what: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        kind: str = _JSON,
        read: float = READ_SECONDS,
    ) -> Any:
        headers = {"Accept": "application/json, */*", **self._headers}
        if body is not None:
            headers["Content-Type"] = kind
        with _reasons(what):
            request = self._api.param_serialize(
                verb,
                path,
                query_params=list((query or {}).items()),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            answer = self._api.call_api(*request, _request_timeout=(CONNECT_SECONDS, read))
            if 200 <= answer.status < 300:
                return answer
            status, data = answer.status, answer.read()
        if status == 401:
            raise Unavailable(
                f"{what}: the API server does not accept your credentials: log in again, or choose another --context"
            )
        _, failure = translate(status, answer.headers, data, what)
        if isinstance(failure, NotServed) and PLANS.group in path.split("/"):
            raise NotServed(
                "this cluster knows no MigrationPlans: is it the right --context? If it is, install the CRDs first"
                " (charts/cutover-crds)"
            )
        raise failure


def _load(config: Any, configuration: Any, file: str | None, context: str | None) -> str:
    """Read address and credentials; return the context's namespace, ``""`` if it has none."""
    default = file or "~/.kube/config"
    found = any(Path(one).expanduser().exists() for one in default.split(os.pathsep) if one)
    if not found and file is None and context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
        config.load_incluster_config(configuration)
        try:
            return Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace").read_text(encoding="utf-8").strip()
        except OSError:
            return ""
    config.load_kube_config(file, context=context, client_configuration=configuration, persist_config=False)
    contexts, current = config.list_kube_config_contexts(file)
    chosen = current if context is None else next(one for one in contexts if one["name"] == context)
    return str(chosen["context"].get("namespace") or "")


class _reasons:  # noqa: N801 - reads as a word of the language
    """Turns what the transport raises into reasons for people."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        if isinstance(error, HTTPError | OSError | ApiException):
            said = " ".join(str(getattr(error, "reason", None) or error).split())
            raise Unavailable(
                f"{self._what}: the API server cannot be reached: {plain(masked(said))[:300]}"
            ) from error


def hint(error: Exception) -> str:
    """Return what a person can do about an answer of the API server, as the end of a sentence; ``""`` for nothing more."""
    if isinstance(error, Forbidden) and "migrationplans" in str(error):
        return "; the chart's roles are cutover-view (look), cutover-edit (write plans, roll back) and cutover-approve (decide)"
    return ""
