"""The API server: raw objects in and out, errors as people read them, and the ports that need nothing else.

Objects are plain dicts. The generated models of the ``kubernetes`` package would check and rebuild every object on
both ways, which costs more than all the rest of a request; its transport, configuration and credentials are used.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlencode
from urllib.request import getproxies

import aiohttp
import yaml
from kubernetes.aio import config as kubernetes_config
from kubernetes.aio.client import ApiClient, Configuration
from pydantic import ValidationError

from cutover.adapters.masking import masked
from cutover.adapters.traffic.istio import reach
from cutover.adapters.traffic.istio.adopt import root_problem, writers_problem
from cutover.adapters.traffic.istio.names import probe_host
from cutover.api import v1alpha1
from cutover.api.problems import problem_text
from cutover.domain.holds import HoldReason
from cutover.domain.observation import Plan, WorkloadFacts
from cutover.ports import Conflict, Gone, Unavailable
from cutover.settings import SettingsError

logger = logging.getLogger(__name__)

#: A Kubernetes object as JSON has it.
Json = dict[str, Any]

#: Names the operator in ``metadata.managedFields`` of whatever it writes.
FIELD_MANAGER = "cutover"

#: What marks the operator's own objects; either is enough, as people take labels off.
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
PLAN_UID_ANNOTATION = "cutover.dev/plan-uid"

#: Label that names an object's plan.
PLAN_LABEL = "cutover.dev/plan"

#: Objects per page of a list: what ``kubectl`` asks for.
PAGE = 500

#: Requests that are made at the same time; a TLS connection has buffers of more than 256 KiB.
CONNECTIONS = 16
#: Urgent ones: many plans may go back at once. Connections are made when they are needed.
URGENT_CONNECTIONS = 128

#: Seconds for which a request waits for one of them, which is no time of its own; then it is given up, so that its plan
#: can look again at what has come meanwhile.
QUEUE_SECONDS = 10.0

#: Seconds that a request may take in all. An urgent one is worth waiting for: a slow API server still takes it.
REQUEST_SECONDS, URGENT_SECONDS = 5.0, 10.0
#: Seconds after which an urgent request without an answer is made again beside the first, on another connection: what was
#: sent on a line that has lost it is never answered, also when the line works again.
ASK_AGAIN_SECONDS = 2.0
#: Longest wait, in seconds, that the API server may ask for.
LONGEST_WAIT_SECONDS = 30.0

#: Equal Events of one plan within this many seconds are posted once.
EVENT_QUIET_SECONDS = 300.0

_METHODS = {
    "get": "GET",
    "list": "GET",
    "create": "POST",
    "update": "PUT",
}

_FORBIDDEN = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]*)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]*)")?'
)


@dataclass(frozen=True, slots=True)
class Resource:
    """A namespaced kind of object as the API server addresses it.

    Parameters
    ----------
    group
        API group; ``""`` for the core group.
    """

    group: str
    version: str
    kind: str
    plural: str

    @property
    def api_version(self) -> str:
        """What the objects carry as ``apiVersion``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """Return the URL's path; an empty namespace stands for all of them."""
        # Names come from people's manifests: quoted, they stay names.
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace:
            parts += ["namespaces", quote(namespace, safe="")]
        parts += [self.plural, quote(name, safe=""), subresource]
        return "/" + "/".join(part for part in parts if part)

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


PLANS = Resource(v1alpha1.GROUP, v1alpha1.VERSION, v1alpha1.KIND, v1alpha1.PLURAL)
SERVICES = Resource("", "v1", "Service", "services")
EVENTS = Resource("", "v1", "Event", "events")
DEPLOYMENTS = Resource("apps", "v1", "Deployment", "deployments")
GATEWAYS = Resource("networking.istio.io", "v1", "Gateway", "gateways")
VIRTUAL_SERVICES = Resource("networking.istio.io", "v1", "VirtualService", "virtualservices")
SERVICE_ENTRIES = Resource("networking.istio.io", "v1", "ServiceEntry", "serviceentries")
DESTINATION_RULES = Resource("networking.istio.io", "v1", "DestinationRule", "destinationrules")


#: What reading credentials raises. The library takes for granted that a file, which may be half written, is a kubeconfig.
_UNREADABLE = (OSError, kubernetes_config.ConfigException, yaml.YAMLError, AttributeError, KeyError, TypeError)

#: Status, headers, body.
_Answer = tuple[int, Mapping[str, str], bytes]
#: The limit is that of the whole request, with the credentials and all attempts.
_NO_LIMIT = aiohttp.ClientTimeout(total=None)


class NotServed(Unavailable):
    """The API server has no such kind: its CRD is not installed."""


async def connect(kubeconfig: Path | None = None, connections: int = CONNECTIONS) -> ApiClient:
    """Return a client of the kubeconfig's API server, or without one of that of the Pod that this runs in.

    Parameters
    ----------
    connections
        How many it may have; further requests wait.

    Raises
    ------
    SettingsError
        Where there is neither, or it cannot be read.
    """
    configuration = Configuration()
    try:
        await _load(configuration, kubeconfig)
    except _UNREADABLE as error:
        where = (
            f"CUTOVER_KUBECONFIG: {kubeconfig}" if kubeconfig else "no CUTOVER_KUBECONFIG, and not in a cluster's Pod"
        )
        raise SettingsError(f"{where}: {error}") from error
    # The checkpoints of all plans come at once. A TLS connection for each would cost more than they do.
    configuration.connection_pool_maxsize = connections
    # With each request the environment is looked at for a proxy, by another thread; it takes longer than the request.
    configuration.client_session_kwargs = {"trust_env": bool(getproxies())}
    return ApiClient(configuration)


async def _load(configuration: Configuration, kubeconfig: Path | None) -> None:
    if kubeconfig is not None:
        await kubernetes_config.load_kube_config(  # type: ignore[no-untyped-call]
            config_file=str(kubeconfig), client_configuration=configuration, persist_config=False
        )
    else:
        kubernetes_config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]


class Cluster:
    """Requests to the API server.

    All methods raise Gone where the object does not exist, Conflict where it changed or exists already, and
    Unavailable for everything else, with a text that says what to do. A write that ends in Unavailable may have been
    made all the same.

    Parameters
    ----------
    api
        Transport and credentials. In-cluster tokens are read again every minute, by the package itself.
    urgent
        The same for requests that move users: they do not queue behind the others.
    request_timeout
        Seconds that one request may take in all; an urgent one, twice that.
    may_write
        Asked before each write, which fails as Unavailable where the answer is no.
    login
        Reads the credentials again into a configuration, when the API server does not accept them.

    Attributes
    ----------
    requests
        Requests made, by RBAC verb.
    errors
        Requests that failed, by cause: conflict, gone, forbidden, unauthorized, throttled (or not made, as the API
        server asked to wait), invalid, server, timeout, unreachable, no-lease (was not made).
    """

    def __init__(
        self,
        api: ApiClient,
        urgent: ApiClient | None = None,
        *,
        request_timeout: float = REQUEST_SECONDS,
        may_write: Callable[[], bool] = lambda: True,
        login: Callable[[Configuration], Awaitable[None]] | None = None,
    ) -> None:
        self._api = api
        self._urgent = urgent or api
        self._timeout = request_timeout
        self._may_write = may_write
        self._login = login
        self._turns = asyncio.Semaphore(CONNECTIONS)
        self._wait_until = 0.0
        self._asked_to_wait = ""
        self.requests: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()

    @classmethod
    async def connect(
        cls,
        kubeconfig: Path | None = None,
        *,
        request_timeout: float = REQUEST_SECONDS,
        may_write: Callable[[], bool] = lambda: True,
    ) -> Self:
        """Use the kubeconfig, or without one the ServiceAccount of the Pod that this runs in; see :func:`connect`."""
        return cls(
            await connect(kubeconfig),
            await connect(kubeconfig, URGENT_CONNECTIONS),
            request_timeout=request_timeout,
            may_write=may_write,
            login=lambda configuration: _load(configuration, kubeconfig),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()  # type: ignore[no-untyped-call]
        await self._urgent.close()  # type: ignore[no-untyped-call]

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        """Read one object."""
        return await self._request("get", resource, namespace, name)

    async def list(
        self,
        resource: Resource,
        namespace: str = "",
        label_selector: str = "",
        *,
        name: str = "",
        keep: Callable[[Json], Json] | None = None,
    ) -> list[Json]:
        """Read all objects of a namespace, or of all namespaces; or, of all these, those by one name.

        They come without ``kind`` and ``apiVersion``.

        Parameters
        ----------
        keep
            Returns what is wanted of an object; of a page at a time there is more in memory.
        """
        items: list[Json] = []
        query: dict[str, str] = {"limit": str(PAGE)}
        if label_selector:
            query["labelSelector"] = label_selector
        if name:
            query["fieldSelector"] = f"metadata.name={name}"
        while True:
            page = await self._request("list", resource, namespace, query=query, urgent=bool(name))
            items += page["items"] if keep is None else map(keep, page["items"])
            following = page.get("metadata", {}).get("continue")
            if not following:
                return items
            query["continue"] = following

    async def create(self, resource: Resource, body: Json) -> Json:
        """Create the object in its own namespace; return what was stored."""
        return await self._request("create", resource, body["metadata"]["namespace"], body=body)

    async def replace(self, resource: Resource, body: Json, subresource: str = "", *, urgent: bool = False) -> Json:
        """Replace the object, or its subresource; fenced where ``metadata.resourceVersion`` is set.

        One that is ``urgent`` may be sent several times, of which the fence lets one pass; the answer may be that of
        another, a Conflict.
        """
        metadata = body["metadata"]
        return await self._request(
            "update", resource, metadata["namespace"], metadata["name"], subresource, body=body, urgent=urgent
        )

    async def _request(
        self,
        verb: str,
        resource: Resource,
        namespace: str,
        name: str = "",
        subresource: str = "",
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        urgent: bool = False,
    ) -> Json:
        what = f"{verb} {resource}{'/' + subresource if subresource else ''} {namespace}/{name}".rstrip("/ ")
        options = dict(query or {})
        if body is not None:
            options["fieldManager"] = FIELD_MANAGER
        # Those of the weights, by name.
        urgent = urgent or (bool(name) and (resource == VIRTUAL_SERVICES or (resource, verb) == (PLANS, "get")))
        if not urgent and time.monotonic() < self._wait_until:
            self.errors["throttled"] += 1
            raise Unavailable(f"{what}: {self._asked_to_wait}")
        path = resource.path(namespace, name, subresource)
        request = _Request(verb, f"{path}?{urlencode(options)}" if options else path, body)
        limit = self._timeout * URGENT_SECONDS / REQUEST_SECONDS if urgent else self._timeout
        api = self._urgent if urgent else self._api
        try:
            async with self._turn(what, urgent=urgent), asyncio.timeout(limit):
                status, headers, data = await self._ask(api, request, again=urgent)
                if status == HTTPStatus.UNAUTHORIZED and await self._has_new_credentials(api):
                    status, headers, data = await self._ask(api, request, again=urgent)
        except _MayNotWriteError:
            self.errors["no-lease"] += 1
            raise Unavailable(f"{what}: not written: this process does not hold the lease any more") from None
        except _CredentialsError as error:
            self.errors["unauthorized"] += 1
            raise Unavailable(f"{what}: the credentials for the API server cannot be read: {error}") from None
        except TimeoutError:
            self.errors["timeout"] += 1
            raise Unavailable(f"{what}: no answer from the API server within {limit:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            self.errors["unreachable"] += 1
            raise Unavailable(f"{what}: the API server cannot be reached: {error}") from error
        if 200 <= status < 300:
            try:
                answer: Json = json.loads(data)
            except ValueError:
                self.errors["invalid"] += 1
                raise Unavailable(f"{what}: the answer is no JSON: is a proxy before the API server?") from None
            return answer
        cause, failure = translate(status, headers, data, what)
        self.errors[cause] += 1
        if cause == "throttled":
            self._heed(headers)
        raise failure

    @asynccontextmanager
    async def _turn(self, what: str, *, urgent: bool) -> AsyncIterator[None]:
        """Wait until it is a request's turn; at once where it is urgent, as those have connections of their own."""
        if urgent:
            yield
            return
        try:
            async with asyncio.timeout(QUEUE_SECONDS):
                await self._turns.acquire()
        except TimeoutError:
            self.errors["timeout"] += 1
            busy = f"the API server has been busy with other requests for {QUEUE_SECONDS:g} s"
            raise Unavailable(f"{what}: not asked: {busy}") from None
        try:
            yield
        finally:
            self._turns.release()

    async def _ask(self, api: ApiClient, request: _Request, *, again: bool) -> _Answer:
        """Send a request; where ``again``, once more after every two seconds without an answer, until there is one."""
        if not again:
            return await self._send(api, request)
        # Two at a time: the first may be with a slow server, the latest is on a line that works.
        first = latest = asyncio.create_task(self._send(api, request))
        try:
            while True:
                done, _ = await asyncio.wait(
                    {first, latest}, timeout=ASK_AGAIN_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if done:
                    # A later one may meet the conflict that the first made.
                    return (first if first in done else latest).result()
                if latest is not first:
                    latest.cancel()
                latest = asyncio.create_task(self._send(api, request))
        finally:
            first.cancel()
            latest.cancel()
            # What became of the other is of no interest, as one answer is enough.
            await asyncio.gather(first, latest, return_exceptions=True)

    async def _send(self, api: ApiClient, request: _Request) -> _Answer:
        if request.verb not in ("get", "list") and not self._may_write():
            raise _MayNotWriteError
        self.requests[request.verb] += 1
        headers = {"Accept": "application/json", "Content-Type": "application/json", "User-Agent": FIELD_MANAGER}
        if token := await _token(api.configuration):
            headers["Authorization"] = token
        response = await api.call_api(
            _METHODS[request.verb],
            f"{api.configuration.host}{request.path}",
            header_params=headers,
            body=request.body,
            _request_timeout=_NO_LIMIT,
        )
        return response.status, response.headers, await response.read()  # type: ignore[no-untyped-call]

    async def _has_new_credentials(self, api: ApiClient) -> bool:
        """Read the credentials again; tell whether they are others than those that were not accepted."""
        if self._login is None:
            return False
        before = await _token(api.configuration)
        try:
            await self._login(api.configuration)
        except _UNREADABLE as error:
            raise _CredentialsError(str(error)) from error
        return await _token(api.configuration) != before

    def _heed(self, headers: Mapping[str, str]) -> None:
        """Make no requests but urgent ones for as long as the API server asks: all plans' retries would keep it down."""
        wait = headers.get("Retry-After", "")
        if wait.isdecimal():
            self._wait_until = time.monotonic() + min(int(wait), LONGEST_WAIT_SECONDS)
            self._asked_to_wait = f"the API server asks to wait {wait} s"


@dataclass(frozen=True, slots=True)
class _Request:
    """What is asked; ``path`` comes with the query."""

    verb: str
    path: str
    body: Json | None


class _MayNotWriteError(Exception):
    """Another process may act by now."""


class _CredentialsError(Exception):
    """The files with the credentials cannot be read, as while they are exchanged; its text is for people."""


async def _token(configuration: Configuration) -> str | None:
    try:
        return await configuration.get_api_key_with_prefix("BearerToken")
    except (OSError, kubernetes_config.ConfigException) as error:
        raise _CredentialsError(str(error)) from error


def translate(
    status: int, headers: Mapping[str, str], data: bytes, what: str
) -> tuple[str, Conflict | Gone | Unavailable]:
    """Turn an answer that is no success into a cause, for counting, and an exception, for people.

    Parameters
    ----------
    headers
        Of the answer, with case-insensitive keys.
    what
        The request in words.
    """
    try:
        answer = json.loads(data)
    except ValueError:
        answer = None
    body: Json = answer if isinstance(answer, dict) else {}
    # Whatever refuses a request may quote it, with its token.
    message = masked(body.get("message") or data[:400].decode(errors="replace").strip()[:200] or "no explanation")
    match status:
        case 404 if (body.get("details") or {}).get("name"):
            return "gone", Gone(f"{what}: {message}")
        case 404:
            return "invalid", NotServed(f"{what}: this API server does not serve it: is its CRD installed?")
        case 409:
            return "conflict", Conflict(f"{what}: {message}")
        case 401:
            return "unauthorized", Unavailable(
                f"{what}: the API server does not accept the credentials: is the ServiceAccount's token expired?"
            )
        case 403:
            return "forbidden", Unavailable(f"{what}: {_permission(message)}")
        case 429:
            wait = headers.get("Retry-After")
            asked = f"asks to wait {wait} s" if wait else "asks to wait"
            return "throttled", Unavailable(f"{what}: the API server {asked}: {message}")
        case 400 | 413 | 415 | 422:
            return "invalid", Unavailable(f"{what}: refused: {message}")
        case _:
            return "server", Unavailable(f"{what}: the API server answered {status}: {message}")


def _permission(message: str) -> str:
    """Say which permission is missing; other refusals, such as a quota's, speak for themselves."""
    found = _FORBIDDEN.search(message)
    if found is None:
        return f"forbidden: {message}"
    group = found["group"] or '""'
    where = f"in namespace {found['namespace']}" if found["namespace"] else "in all namespaces"
    return (
        f"missing permission: {found['user']} needs verb {found['verb']} on {found['resource']} "
        f"of API group {group} {where}"
    )


class KubernetesPlans:
    """:class:`cutover.ports.Plans` in the API server.

    Parameters
    ----------
    cluster
        The API server.
    instance
        Which operator posts Events: its Pod's name.
    selector
        Labels of the plans that this operator looks after; any other is Gone. The watch may tell of it later.
    """

    def __init__(self, cluster: Cluster, instance: str = "", selector: str | None = None) -> None:
        self._cluster = cluster
        self._instance = instance
        self._selector = selector
        self._posted: dict[tuple[str, str, str], float] = {}

    async def read(self, namespace: str, name: str) -> tuple[Plan, str]:
        """Return the plan and its resourceVersion. Raises Gone, Unavailable."""
        body = await self._get(namespace, name)
        try:
            plan = Plan.from_object(body)
        except ValidationError as error:
            raise Unavailable(
                f"{namespace}/{name} is not a plan that this operator understands: {problem_text(error)}"
            ) from error
        return plan, body["metadata"]["resourceVersion"]

    async def _get(self, namespace: str, name: str) -> Json:
        if self._selector is None:
            return await self._cluster.get(PLANS, namespace, name)
        found = await self._cluster.list(PLANS, namespace, self._selector, name=name)
        if not found:
            raise Gone(f"{namespace}/{name} does not exist, or has not the labels {self._selector}")
        return found[0]

    async def write_status(self, plan: Plan, status: v1alpha1.MigrationPlanStatus, resource_version: str) -> str:
        """Replace the status, fenced by the resourceVersion; return the new one. Raises Conflict, Gone, Unavailable."""
        # A PUT to /status takes nothing else from the body, so that there need be nothing else in it.
        body = {
            "apiVersion": PLANS.api_version,
            "kind": PLANS.kind,
            "metadata": {
                "namespace": plan.namespace,
                "name": plan.name,
                "uid": plan.uid,
                "resourceVersion": resource_version,
            },
            "status": status.to_wire(),
        }
        # What ends a rollback, after the route.
        back = (
            status.phase in (v1alpha1.Phase.ROLLING_BACK, v1alpha1.Phase.ROLLED_BACK)
            or status.reason == HoldReason.ROUTE_NOT_WRITTEN
        )
        stored = await self._cluster.replace(PLANS, body, "status", urgent=back)
        written: str = stored["metadata"]["resourceVersion"]
        return written

    async def event(self, plan: Plan, kind: str, reason: str, message: str) -> None:
        """Post an Event about the plan (``kind`` is Normal or Warning). Never raises: events are best effort.

        The same reason and message of a plan are posted once in five minutes.
        """
        now = time.monotonic()
        self._posted = {key: at for key, at in self._posted.items() if now - at < EVENT_QUIET_SECONDS}
        key = (plan.uid, reason, message)
        if key in self._posted:
            return
        self._posted[key] = now
        stamp = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        body = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"namespace": plan.namespace, "name": f"{plan.name}.{uuid.uuid4().hex[:16]}"},
            "involvedObject": {
                "apiVersion": PLANS.api_version,
                "kind": PLANS.kind,
                "namespace": plan.namespace,
                "name": plan.name,
                "uid": plan.uid,
            },
            "type": kind,
            "reason": reason,
            "message": message[:1024],  # the API server's limit
            "count": 1,
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "source": {"component": FIELD_MANAGER},
            "reportingComponent": FIELD_MANAGER,
            "reportingInstance": self._instance,
        }
        try:
            await self._cluster.create(EVENTS, body)
        except (Conflict, Gone, Unavailable) as error:
            logger.warning("Event %s about plan %s was not posted: %s", reason, plan.key, error)


class KubernetesWorkloads:
    """:class:`cutover.ports.Workloads` in the API server.

    Parameters
    ----------
    cluster
        The API server.
    gateway_namespaces
        Namespaces whose Gateways plans of other namespaces may use, with ``*`` and ``?``; any if empty.
    cluster_domain
        The cluster's DNS domain.
    """

    def __init__(
        self, cluster: Cluster, gateway_namespaces: Sequence[str] = (), cluster_domain: str = "cluster.local"
    ) -> None:
        self._cluster = cluster
        self._gateway_namespaces = gateway_namespaces
        self._lists: dict[Resource, asyncio.Task[list[Json]]] = {}  # under way
        self._following: dict[Resource, asyncio.Task[list[Json]]] = {}
        self._cluster_domain = cluster_domain

    async def facts(self, plan: Plan) -> WorkloadFacts:
        """Read what preflight judges. Raises Unavailable."""
        gateways = qualified_gateways(plan)
        service, workload, *found = await asyncio.gather(
            self._find(SERVICES, plan.namespace, plan.spec.eks.service.name),
            self._find(DEPLOYMENTS, plan.namespace, plan.spec.eks.workload_ref.name),
            *(self._find(GATEWAYS, *gateway.split("/", 1)) for gateway in gateways),
        )
        present = {name: gateway for name, gateway in zip(gateways, found, strict=True) if gateway is not None}
        # A host may be claimed from any namespace, so this lists all of them; only preflight asks. The plans come first:
        # whoever is past preflight by then has its route.
        before = before_in_turn(plan, await self._list(PLANS, _turn)) if plan.status.weight is None else []
        virtual_services = await self._list(VIRTUAL_SERVICES)
        entries = claiming(plan, await self._list(SERVICE_ENTRIES), virtual_services)
        hostname = plan.spec.heroku.hostname
        # With Delegate and Adopt the leg has a name of its own, so that the team may have an entry for the host name.
        generates = plan.spec.traffic.istio.ownership is v1alpha1.Ownership.GENERATE
        refused = {
            "gateway": reach.closed_gateways(gateways, plan.namespace, self._gateway_namespaces)
            or reach.unserved_hosts(plan, present),
            "host-unclaimed": reach.others_hosts(plan, virtual_services, present)
            or (reach.asked_hosts(plan, before, present, self._gateway_namespaces) if generates else ""),
            "heroku-unshared": reach.internal_name(hostname, self._cluster_domain)
            or reach.others_names(plan, (*((hostname,) if generates else ()), probe_host(hostname)), entries),
        }
        root = next((item for item in virtual_services if _key(item["metadata"]) == root_key(plan)), None)
        adopting = plan.spec.traffic.istio.ownership is v1alpha1.Ownership.ADOPT
        return WorkloadFacts(
            service_exists=service is not None,
            service_ports=tuple(port["port"] for port in (service or {}).get("spec", {}).get("ports") or ()),
            workload_exists=workload is not None,
            replicas_wanted=workload.get("spec", {}).get("replicas", 1) if workload is not None else 0,
            replicas_available=(workload or {}).get("status", {}).get("availableReplicas", 0),
            missing_gateways=tuple(name for name in gateways if name not in present),
            claimed_hosts=claimed_hosts(plan, virtual_services),
            heroku_shared_with=heroku_shared_with(plan, entries) or reach.asked_app(plan, before),
            route_problem=existing_route_problem(plan, root) if root_key(plan) else "",
            route_writers=writers_problem(root) if adopting and root is not None else "",
            refused={check: problem for check, problem in refused.items() if problem},
        )

    async def _list(self, resource: Resource, keep: Callable[[Json], Json] | None = None) -> list[Json]:
        """Read all objects of a kind, once for all plans that ask while the last reading is under way.

        A thousand plans that begin together would read each other's objects a million times.

        Parameters
        ----------
        keep
            As for :meth:`Cluster.list`; always the same for a kind.
        """
        following = self._following.get(resource)
        if following is None:
            following = asyncio.create_task(self._list_after(resource, self._lists.get(resource), keep))
            self._following[resource] = following
        return await asyncio.shield(following)

    async def _list_after(
        self, resource: Resource, before: asyncio.Task[list[Json]] | None, keep: Callable[[Json], Json] | None
    ) -> list[Json]:
        if before is not None:
            await asyncio.wait([before])
        # Whoever asks from now on wants to know more than this will say.
        mine = self._lists[resource] = self._following.pop(resource)
        try:
            return await self._cluster.list(resource, keep=keep)
        finally:
            if self._lists.get(resource) is mine:
                del self._lists[resource]

    async def _find(self, resource: Resource, namespace: str, name: str) -> Json | None:
        try:
            return await self._cluster.get(resource, namespace, name)
        except Gone:
            return None


_ROUTE_PREFIX = "cutover-"


def qualified_gateways(plan: Plan) -> tuple[str, ...]:
    """Return the plan's gateways as ``namespace/name``."""
    return tuple(reach.qualified(name, plan.namespace) for name in plan.spec.traffic.istio.gateways)


def route_name(plan: Plan) -> str:
    """Return the name of the plan's own VirtualService, ServiceEntry and DestinationRule."""
    return f"{_ROUTE_PREFIX}{plan.name}"


def root_key(plan: Plan) -> tuple[str, str] | None:
    """Return namespace and name of the team's own VirtualService that the plan works with, if there is one."""
    reference = plan.spec.traffic.istio.virtual_service_ref
    return (plan.namespace, reference.name) if reference is not None else None


def existing_route_problem(plan: Plan, root: Json | None) -> str:
    """Say what keeps the plan from working with that VirtualService; ``""`` if nothing."""
    return root_problem(
        plan,
        root,
        gateways=qualified_gateways(plan),
        delegate=route_name(plan),
        label=PLAN_LABEL,
        owner=PLAN_UID_ANNOTATION,
    )


def _key(metadata: Mapping[str, Any]) -> tuple[str, str]:
    return metadata["namespace"], metadata["name"]


def is_ours(metadata: Mapping[str, Any]) -> bool:
    """Tell whether an object is the operator's."""
    return (metadata.get("labels") or {}).get(MANAGED_BY_LABEL) == FIELD_MANAGER or PLAN_UID_ANNOTATION in (
        metadata.get("annotations") or {}
    )


def _turn(body: Json) -> Json:
    """Leave of a plan what says whose turn it is, and for what; a thousand whole ones are some 10 MiB."""
    metadata, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
    istio = (spec.get("traffic") or {}).get("istio") or {}
    return {
        "metadata": {
            name: metadata.get(name) for name in ("namespace", "name", "creationTimestamp", "deletionTimestamp")
        },
        "phase": status.get("phase") or v1alpha1.Phase.PENDING,
        "suspended": bool(spec.get("suspend")),
        "hostname": (spec.get("heroku") or {}).get("hostname"),
        # With somebody else's route it takes no host.
        "hosts": () if istio.get("virtualServiceRef") else istio.get("hosts") or (),
        "gateways": [reach.qualified(name, metadata["namespace"]) for name in istio.get("gateways") or ()],
    }


def before_in_turn(plan: Plan, plans: Sequence[Json]) -> list[Json]:
    """Return those of the plans, as :func:`_turn` has them, that may take over before this one does.

    They are those in preflight that were made earlier; of two that were made in one second that of the first name, as with
    Istio's routes. One that is suspended does not begin.
    """

    def turn(item: Json) -> tuple[str, str, str]:
        metadata = item["metadata"]
        return metadata["creationTimestamp"], metadata["name"], metadata["namespace"]

    own = next((turn(item) for item in plans if _key(item["metadata"]) == (plan.namespace, plan.name)), ("", "", ""))
    return [
        item
        for item in plans
        if turn(item) < own
        and item["phase"] in (v1alpha1.Phase.PENDING, v1alpha1.Phase.PREFLIGHT)
        and not item["suspended"]
        and item["metadata"]["deletionTimestamp"] is None
    ]


def claiming(plan: Plan, entries: list[Json], virtual_services: list[Json]) -> list[Json]:
    """Leave out the ServiceEntries that the operator made for plans of the namespace that have no route.

    Those of two plans that were made together may be there before it is clear which of them takes over.
    """

    def owner(item: Json) -> tuple[str, str | None]:
        metadata = item["metadata"]
        return metadata["namespace"], (metadata.get("labels") or {}).get(PLAN_LABEL)

    routed = {owner(item) for item in virtual_services}
    return [
        item
        for item in entries
        if item["metadata"]["namespace"] != plan.namespace or not is_ours(item["metadata"]) or owner(item) in routed
    ]


def heroku_shared_with(plan: Plan, entries: list[Json]) -> str:
    """Find another plan, as ``namespace/name``, whose ServiceEntry has the plan's Heroku host name."""
    others = (
        f"{item['metadata']['namespace']}/{item['metadata']['name'].removeprefix(_ROUTE_PREFIX)}"
        for item in entries
        if (item["metadata"]["namespace"], item["metadata"]["name"]) != (plan.namespace, route_name(plan))
        # Each has the name for probes; that of the leg depends on the ownership.
        and probe_host(plan.spec.heroku.hostname) in (item.get("spec", {}).get("hosts") or ())
    )
    return min(others, default="")


def claimed_hosts(plan: Plan, virtual_services: list[Json]) -> dict[str, str]:
    """Find the plan's hosts that somebody else's VirtualService routes on one of the plan's gateways.

    The one that the plan works with, by its ``virtualServiceRef``, claims nothing.
    Only equal hosts count: where one is a wildcard the more specific host wins, so that neither takes anything from
    the other.
    """
    hosts = {host.lower() for host in plan.spec.traffic.istio.hosts}
    gateways = set(qualified_gateways(plan))
    claimed: dict[str, str] = {}
    for item in virtual_services:
        namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]
        if (namespace, name) == (plan.namespace, route_name(plan)) and is_ours(item["metadata"]):
            continue
        if (namespace, name) == root_key(plan):
            continue
        spec = item.get("spec", {})
        # One without gateways is for sidecars only, as is the reserved gateway "mesh", which matches no name here.
        if gateways.intersection(reach.qualified(gateway, namespace) for gateway in spec.get("gateways") or ()):
            for host in hosts.intersection(host.lower() for host in spec.get("hosts") or ()):
                claimed.setdefault(host, f"{namespace}/{name}")
    return claimed
