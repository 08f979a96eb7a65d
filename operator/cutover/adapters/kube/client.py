"""Requests to the API server: raw objects in and out, of any kind; errors as people read them.

Objects are plain dicts. The generated models of the ``kubernetes`` package would check and rebuild every object on
both ways, which costs more than all the rest of a request; its transport, configuration and credentials are used.
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
from cutover.ports import Unavailable

#: Objects per page of a list: what ``kubectl`` asks for.
PAGE = 500

#: Connections for urgent requests: many plans may go back at once. Each is made when it is needed.
URGENT_CONNECTIONS = 128

#: Seconds for which a request that is not urgent waits for a connection, which is no time of its own; then it is given up,
#: so that its plan can look again at what has come meanwhile.
QUEUE_SECONDS = 10.0

#: Seconds that a request may take in all. An urgent one is worth waiting for: a slow API server still takes it.
REQUEST_SECONDS, URGENT_SECONDS = 5.0, 10.0
#: Seconds after which an urgent request without an answer is made again beside the first, on another connection: what was
#: sent on a line that has lost it is never answered, also when the line works again.
ASK_AGAIN_SECONDS = 2.0
#: Longest wait, in seconds, that the API server may ask for.
LONGEST_WAIT_SECONDS = 30.0

_METHODS = {
    "get": "GET",
    "list": "GET",
    "create": "POST",
    "update": "PUT",
}

#: Status, headers, body.
_Answer = tuple[int, Mapping[str, str], bytes]
#: The limit is that of the whole request, with the credentials and all attempts.
_NO_LIMIT = aiohttp.ClientTimeout(total=None)


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
        urgent = urgent or (bool(name) and verb in resource.urgent)
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
        if bearer := await token(api.configuration):
            headers["Authorization"] = bearer
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
        before = await token(api.configuration)
        try:
            await self._login(api.configuration)
        except UNREADABLE as error:
            raise CredentialsError(str(error)) from error
        return await token(api.configuration) != before

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
