"""The client of the API server: raw objects of any kind in and out, and errors with texts for people.

Objects are plain dicts. The generated models of the ``kubernetes`` package would validate and rebuild every object in both
directions, which costs more than the rest of a request. Its transport, configuration and credentials are used.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Self
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration

from cutover.adapters.kube.answers import translate
from cutover.adapters.kube.connection import CONNECTIONS, UNREADABLE, CredentialsError, connect, load, token
from cutover.domain.marks import FIELD_MANAGER
from cutover.domain.resources import Json, Resource
from cutover.ports.errors import Unavailable

#: Objects per page of a list, as in ``kubectl``, and most bytes of a page with more than one. A page takes some times its
#: length in memory, and is parsed in the event loop; a single object cannot have more than etcd takes, 1.5 MiB.
PAGE, PAGE_BYTES = 500, 2 << 20

#: Connections for urgent requests: many plans may roll back at once. Each is opened when it is needed.
URGENT_CONNECTIONS = 128

#: Seconds for which a request that is not urgent waits for a connection, beside its own time limit; then it fails, so that its
#: plan can observe again.
QUEUE_SECONDS = 10.0

#: Time limit of a request in seconds. Urgent requests get more: a slow API server may still accept them.
REQUEST_SECONDS, URGENT_SECONDS = 5.0, 10.0
#: Seconds after which an urgent request without an answer is repeated beside the first, on another connection: a connection
#: that lost the request never delivers an answer, even when the network works again.
ASK_AGAIN_SECONDS = 2.0
#: Longest ``Retry-After`` of the API server that is obeyed, in seconds.
LONGEST_WAIT_SECONDS = 30.0

_METHODS = {
    "get": "GET",
    "list": "GET",
    "create": "POST",
    "update": "PUT",
}

#: Status, headers, body.
_Answer = tuple[int, Mapping[str, str], bytes]
#: The time limit covers the whole request, with the credentials and all attempts.
_NO_LIMIT = aiohttp.ClientTimeout(total=None)


class Cluster:
    """Requests to the API server.

    All methods raise Gone where the object does not exist, Conflict where it changed or exists already, and
    Unavailable for everything else, with a text that says what to do. After Unavailable a write may have been made
    nevertheless.

    Parameters
    ----------
    api
        Transport and credentials. In-cluster tokens are read again every minute, by the package itself.
    urgent
        The same for requests that move users, which do not queue behind others.
    request_timeout
        Time limit of one request in seconds; twice that for an urgent request.
    may_write
        Called before each write, which fails as Unavailable where this returns false.
    login
        Reads the credentials into a configuration again, when the API server rejects them.

    Attributes
    ----------
    requests
        Requests made, by RBAC verb.
    errors
        Requests that failed, by cause: conflict, gone, forbidden, unauthorized, throttled (also requests that were not
        sent because the API server asked to wait), invalid, server, timeout, unreachable, no-lease (not sent).
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
        """Use the kubeconfig, or without a kubeconfig the ServiceAccount of this Pod; see :func:`connect`."""
        return cls(
            await connect(kubeconfig),
            await connect(kubeconfig, URGENT_CONNECTIONS),
            request_timeout=request_timeout,
            may_write=may_write,
            login=lambda configuration: load(configuration, kubeconfig),
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
        """Read all objects of a namespace, or of all namespaces; with ``name``, only the objects of that name.

        Objects in a list have no ``kind`` and no ``apiVersion``.

        Parameters
        ----------
        keep
            Returns the part of an object that is kept. Only one page of whole objects is in memory.
        """
        items: list[Json] = []
        limit, query = PAGE, dict[str, str]()
        if label_selector:
            query["labelSelector"] = label_selector
        if name:
            query["fieldSelector"] = f"metadata.name={name}"
        while True:
            query["limit"] = str(limit)
            longest = PAGE_BYTES if limit > 1 else None
            try:
                page = await self._request(
                    "list", resource, namespace, query=query, urgent=bool(name), longest=longest
                )
            except _LongPageError:
                limit = max(1, limit // 5)
                continue
            items += page["items"] if keep is None else map(keep, page["items"])
            following = page.get("metadata", {}).get("continue")
            if not following:
                return items
            query["continue"] = following

    async def create(self, resource: Resource, body: Json) -> Json:
        """Create the object in its own namespace; return the stored object."""
        return await self._request("create", resource, body["metadata"]["namespace"], body=body)

    async def replace(self, resource: Resource, body: Json, subresource: str = "", *, urgent: bool = False) -> Json:
        """Replace the object, or its subresource; fenced where ``metadata.resourceVersion`` is set.

        An ``urgent`` request may be sent several times. The fence accepts one of them; the answer may be another's
        Conflict.
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
        longest: int | None = None,
    ) -> Json:
        what = f"{verb} {resource}{'/' + subresource if subresource else ''} {namespace}/{name}".rstrip("/ ")
        options = dict(query or {})
        if body is not None:
            options["fieldManager"] = FIELD_MANAGER
        urgent = urgent or (bool(name) and verb in resource.urgent)
        if not urgent and time.monotonic() < self._wait_until:
            self.errors["throttled"] += 1
            raise Unavailable(f"{what}: {self._asked_to_wait}")
        path = resource.path(namespace, name, subresource)
        request = _Request(verb, f"{path}?{urlencode(options)}" if options else path, body, longest)
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
        except CredentialsError as error:
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
        """Wait for a slot. Urgent requests do not wait, as they have connections of their own."""
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
        """Send a request; with ``again``, repeat it every two seconds until there is an answer."""
        if not again:
            return await self._send(api, request)
        # Two at a time: the first may wait for a slow server, the latest has a new connection.
        first = latest = asyncio.create_task(self._send(api, request))
        try:
            while True:
                done, _ = await asyncio.wait(
                    {first, latest}, timeout=ASK_AGAIN_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if done:
                    # A later request may get the conflict that the first one caused.
                    return (first if first in done else latest).result()
                if latest is not first:
                    latest.cancel()
                latest = asyncio.create_task(self._send(api, request))
        finally:
            first.cancel()
            latest.cancel()
            # One answer is enough: the other request's result is ignored.
            await asyncio.gather(first, latest, return_exceptions=True)

    async def _send(self, api: ApiClient, request: _Request) -> _Answer:
        if request.verb not in ("get", "list") and not self._may_write():
            raise _MayNotWriteError
        self.requests[request.verb] += 1
        headers = {"Accept": "application/json", "Content-Type": "application/json", "User-Agent": FIELD_MANAGER}
        if bearer := await token(api.configuration):
            headers["Authorization"] = bearer
        response = await api.call_api(
            _METHODS[request.verb],
            f"{api.configuration.host}{request.path}",
            header_params=headers,
            body=request.body,
            _request_timeout=_NO_LIMIT,
        )
        if request.longest is None:
            return response.status, response.headers, await response.read()  # type: ignore[no-untyped-call]
        data = bytearray()
        async for part in response.response.content.iter_any():
            data += part
            if len(data) > request.longest:
                response.response.close()
                raise _LongPageError
        return response.status, response.headers, bytes(data)

    async def _has_new_credentials(self, api: ApiClient) -> bool:
        """Read the credentials again; tell whether they differ from the rejected ones."""
        if self._login is None:
            return False
        before = await token(api.configuration)
        try:
            await self._login(api.configuration)
        except UNREADABLE as error:
            raise CredentialsError(str(error)) from error
        return await token(api.configuration) != before

    def _heed(self, headers: Mapping[str, str]) -> None:
        """Send only urgent requests for as long as the API server asks: all plans' retries would keep it overloaded."""
        wait = headers.get("Retry-After", "")
        if wait.isdecimal():
            self._wait_until = time.monotonic() + min(int(wait), LONGEST_WAIT_SECONDS)
            self._asked_to_wait = f"the API server asks to wait {wait} s"


@dataclass(frozen=True, slots=True)
class _Request:
    """One request; ``path`` includes the query. The answer must not have more than ``longest`` bytes."""

    verb: str
    path: str
    body: Json | None
    longest: int | None


class _LongPageError(Exception):
    """A page of a list is longer than is read at once."""


class _MayNotWriteError(Exception):
    """Another process may hold the lease by now."""
