"""The election by a Lease, which decides which of several operators acts.

The election is the library's. This module mends what the library lacks: its requests have no time limit, an answer that is
not the API server's ends it, it does not release the lease, a leader that lost acts until its retries are over, and it
measures time by the wall clock, which may be set.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol, Self

import structlog
from kubernetes.aio.client import CoordinationV1Api, V1Lease
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

from cutover.adapters.clocks import elapsed
from cutover.adapters.kube.answers import translate
from cutover.adapters.kube.connection import connect
from cutover.ports.errors import Conflict, Gone

log = structlog.get_logger("cutover")


class LeaseLost(Exception):
    """Another process may act by now, so this one must not."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of an election; the defaults are those of Kubernetes' own controllers.

    A leader's last requests are over (5 s) before another process may lead. Writes of a route and of the end of a rollback
    take longer (10 s), and are fenced by the resourceVersion.

    Parameters
    ----------
    lease
        Other processes take over when the lease was not renewed for so long.
    deadline
        A leader stops when it did not renew the lease for so long.
    retry
        Between two attempts to acquire or renew the lease.
    """

    lease: int = 15
    deadline: float = 10.0
    retry: float = 2.0


#: Not a setting: all candidates of a lease must agree on it.
TIMING = Timing()


class Leases(Protocol):
    """Requests for Leases, as the library's client makes them."""

    api_client: Any

    async def read_namespaced_lease(self, name: str, namespace: str) -> V1Lease:
        """Read a Lease."""

    async def create_namespaced_lease(self, namespace: str, body: V1Lease) -> V1Lease:
        """Create a Lease."""

    async def replace_namespaced_lease(self, name: str, namespace: str, body: V1Lease) -> V1Lease:
        """Replace a Lease, fenced by its resourceVersion."""


class Election:
    """One candidate.

    Parameters
    ----------
    leases
        The API server.
    lease
        The Lease, as ``namespace/name``.
    identity
        The candidate's own name in it.
    """

    def __init__(self, leases: Leases, lease: str, identity: str, timing: Timing | None = None) -> None:
        self._timing = timing = timing or TIMING
        self._leases = leases
        self._lease = lease
        self._identity = identity
        self._until = 0.0
        self._over = False
        self._renewing: asyncio.Task[None] | None = None
        self._released = False
        self._others = ""
        self._version: str | None = None
        self._changed = 0.0
        namespace, name = lease.split("/")
        self._lock = LeaseLock(name, namespace, identity, leases.api_client)
        self._requests = _Requests(leases, name, namespace, timing.deadline / 2, self._read, self._written)
        self._lock.api_instance = self._requests  # type: ignore[assignment]  # it has all that the lock uses
        self._library = LeaderElection(
            # Its run() is not used, and so the callbacks are not: it does not wait for the tasks that it cancels.
            Config(self._lock, timing.lease, timing.deadline, timing.retry, _nothing, _nothing)
        )

    @classmethod
    async def connect(cls, kubeconfig: Path | None, lease: str, *, scope: str = "") -> Self:
        """Return a candidate with connections of its own: requests about plans must not delay a renewal.

        Parameters
        ----------
        scope
            The selector and namespaces of the candidate; equal for all candidates that share a lease.
        """
        digest = hashlib.sha256(scope.encode()).hexdigest()[:8]
        identity = f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}_{digest}"
        return cls(CoordinationV1Api(await connect(kubeconfig)), lease, identity)

    async def close(self) -> None:
        """Close the connections."""
        await self._leases.api_client.close()

    @property
    def leading(self) -> bool:
        """Whether this process may act, by its own clock: true for no longer than the deadline after a renewal."""
        return not self._over and elapsed() < self._until

    async def run(self, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Wait for the lease, then act while it is held; release it at the end.

        Raises
        ------
        LeaseLost
            When the lease was lost. ``act`` is cancelled and not awaited.
        """
        log.info("waiting for the lease", lease=self._lease, identity=self._identity)
        await self._library.acquire()
        log.info("leading", lease=self._lease, identity=self._identity)
        keeping = asyncio.create_task(self._keep())
        acting = asyncio.create_task(act())
        try:
            await asyncio.wait((keeping, acting), return_when=asyncio.FIRST_COMPLETED)
            if keeping.done():
                keeping.result()
            acting.result()
        finally:
            keeping.cancel()
            acting.cancel()
            await self.release()

    async def _keep(self) -> NoReturn:
        renewing = self._renewing = asyncio.create_task(self._library.renew_loop())
        try:
            while self.leading and not renewing.done():
                await asyncio.wait((renewing,), timeout=self._until - elapsed())
            if self._released:
                await asyncio.Event().wait()  # until ``act`` has ended
            if renewing.done():
                renewing.result()
            problem = self._requests.problem
            raise LeaseLost(f"not renewed for {self._timing.deadline:g} s{'; ' if problem else ''}{problem}")
        finally:
            renewing.cancel()

    def _read(self, lease: V1Lease, wall: float) -> None:
        holder = lease.spec and lease.spec.holder_identity
        if self.leading and holder != self._identity:
            # The library would go on trying, and leading, until the deadline.
            self._over = True
            raise LeaseLost(f"taken by {holder or 'nobody'}")
        self._compare(holder or "")
        now, version = elapsed(), lease.metadata.resource_version if lease.metadata else None
        if version != self._version:
            self._version, self._changed = version, now
        # With the wall clock, setting it back by an hour would delay a takeover by an hour, and setting it forward would skip the wait.
        # The library compares with the wall clock before the request: a clock that is set meanwhile must not end the wait.
        self._library.observed_time_milliseconds = int((wall - (now - self._changed)) * 1000)

    def _compare(self, holder: str) -> None:
        """Warn once where the holder manages other plans: then no process manages the plans of this one."""
        others = holder if _scope(holder) not in ("", _scope(self._identity)) else ""
        if others and not self._others:
            log.warning(
                "the lease is held by an operator with another CUTOVER_SELECTOR or CUTOVER_NAMESPACES, so that no process"
                " reconciles the plans of this one: give each of them a lease of its own",
                lease=self._lease,
                holder=holder,
            )
        self._others = others

    def _written(self, lease: V1Lease, asked: float) -> None:
        if lease.spec and lease.spec.holder_identity == self._identity:
            # Counted from the request: no process can have seen the renewal earlier.
            self._until = asked + self._timing.deadline

    async def release(self) -> None:
        """Stop writing, and let another process lead at once; if that fails, it leads when the lease expires."""
        held, self._over = self.leading, True  # even if a renewal is answered later
        if not held:
            return
        self._released = True
        if self._renewing is not None:
            # It would acquire the lease again.
            self._renewing.cancel()
            await asyncio.wait((self._renewing,))
        name, namespace = self._lock.name, self._lock.namespace
        try:
            lease = await self._requests.read_namespaced_lease(name, namespace)
            if lease.spec and lease.spec.holder_identity == self._identity:
                lease.spec.holder_identity = ""
                await self._requests.replace_namespaced_lease(name, namespace, lease)
                log.info("lease released", lease=self._lease)
        except ApiException as failure:
            log.warning("lease not released", lease=self._lease, problem=failure.reason)


def _scope(identity: str) -> str:
    """Return the scope in a candidate's identity; ``""`` for the identity of another program or version."""
    return identity.rpartition("_")[2] if identity.count("_") == 2 else ""


class _Requests:
    """The lock's requests, with a time limit. Every failure becomes the exception that the library expects."""

    def __init__(
        self,
        leases: Leases,
        name: str,
        namespace: str,
        limit: float,
        read: Callable[[V1Lease, float], None],
        written: Callable[[V1Lease, float], None],
    ) -> None:
        self._leases = leases
        self._what = f"leases.coordination.k8s.io {namespace}/{name}"
        self._limit = limit
        self._read = read
        self._written = written
        self.problem = ""

    async def read_namespaced_lease(self, name: str, namespace: str) -> V1Lease:
        wall = time.time()
        lease = await self._request("get", self._leases.read_namespaced_lease(name, namespace))
        self._read(lease, wall)
        return lease

    # The lock also passes pretty=True, which the library's own client refuses.
    async def create_namespaced_lease(self, namespace: str, body: V1Lease, **_: Any) -> V1Lease:
        asked = elapsed()
        lease = await self._request("create", self._leases.create_namespaced_lease(namespace, body))
        self._written(lease, asked)
        return lease

    async def replace_namespaced_lease(self, name: str, namespace: str, body: V1Lease) -> V1Lease:
        asked = elapsed()
        lease = await self._request("update", self._leases.replace_namespaced_lease(name, namespace, body))
        self._written(lease, asked)
        return lease

    async def _request(self, verb: str, request: Awaitable[object]) -> V1Lease:
        what = f"{verb} {self._what}"
        try:
            async with asyncio.timeout(self._limit):
                lease = await request
            if not (isinstance(lease, V1Lease) and lease.metadata and lease.metadata.resource_version):
                raise ValueError("the answer is no Lease")
        except ApiException as refusal:
            _, error = translate(refusal.status or 0, refusal.headers or {}, str(refusal.body or "").encode(), what)
            # A lease that does not exist yet and a faster candidate are normal in an election.
            self._tell("" if isinstance(error, Conflict | Gone) else str(error))
            raise
        except TimeoutError:
            self._tell(problem := f"{what}: no answer from the API server within {self._limit:g} s")
            raise ApiException(reason=problem) from None
        except Exception as error:  # whatever the reason, the lease was not renewed
            self._tell(problem := f"{what}: {type(error).__name__}: {error}")
            raise ApiException(reason=problem) from error
        self._tell("")
        return lease

    def _tell(self, problem: str) -> None:
        """Log a problem once, not at every attempt."""
        if problem and problem != self.problem:
            log.warning("lease not reached", problem=problem)
        self.problem = problem


async def _nothing() -> None:
    pass
