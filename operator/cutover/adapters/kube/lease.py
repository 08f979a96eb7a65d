"""Which of several operators acts: an election by a Lease.

The election is the library's. Added is what it leaves open: its requests have no time limit, an answer that is none of
the API server's would end it, it gives nothing back, a leader that lost would go on for as long as it still hopes, and
it measures time by the wall clock, which others set.
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
    """Another process may act by now, so that this one must not."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of an election; the defaults are those of Kubernetes' own controllers.

    What a leader sent before its deadline is answered or given up (5 s) before anybody else may lead; but a route and the
    end of a rollback (10 s), which the resourceVersion fences.

    Parameters
    ----------
    lease
        Others take over when they have not seen the lease renewed for so long.
    deadline
        A leader stops when it has not renewed the lease for so long.
    retry
        Between two attempts, to get the lease or to renew it.
    """

    lease: int = 15
    deadline: float = 10.0
    retry: float = 2.0


#: Not a setting: all that share a lease must agree on it.
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
        self._lock.api_instance = self._requests  # type: ignore[assignment]  # all of it that the lock uses
        self._library = LeaderElection(
            # Its run(), and with it the callbacks, is not used: it does not wait for what it cancels.
            Config(self._lock, timing.lease, timing.deadline, timing.retry, _nothing, _nothing)
        )

    @classmethod
    async def connect(cls, kubeconfig: Path | None, lease: str, *, scope: str = "") -> Self:
        """Become a candidate, with connections of its own: no plan's requests are to delay a renewal.

        Parameters
        ----------
        scope
            Says what the candidate would look after; the same for all that should share a lease.
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
        """Wait for the lease, then act for as long as it is held; give it back at the end.

        Raises
        ------
        LeaseLost
            When it was lost. What acts is told to stop, and is not waited for.
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
                await asyncio.Event().wait()  # for what acts to end
            if renewing.done():
                renewing.result()
            problem = self._requests.problem
            raise LeaseLost(f"not renewed for {self._timing.deadline:g} s{'; ' if problem else ''}{problem}")
        finally:
            renewing.cancel()

    def _read(self, lease: V1Lease) -> None:
        holder = lease.spec and lease.spec.holder_identity
        if self.leading and holder != self._identity:
            # The library would go on trying, and believing, until the deadline.
            self._over = True
            raise LeaseLost(f"taken by {holder or 'nobody'}")
        self._compare(holder or "")
        now, version = elapsed(), lease.metadata.resource_version if lease.metadata else None
        if version != self._version:
            self._version, self._changed = version, now
        # A clock set back by an hour would have it wait for an hour, one set forward not at all.
        self._library.observed_time_milliseconds = int((time.time() - (now - self._changed)) * 1000)

    def _compare(self, holder: str) -> None:
        """Say it, once, where the lease is held by one that looks after other plans: nobody would look after ours."""
        others = holder if _scope(holder) not in ("", _scope(self._identity)) else ""
        if others and not self._others:
            log.warning(
                "the lease is held by an operator with another CUTOVER_SELECTOR or CUTOVER_NAMESPACES, and nobody looks"
                " after the plans of this one meanwhile: give each of them a lease of its own",
                lease=self._lease,
                holder=holder,
            )
        self._others = others

    def _written(self, lease: V1Lease, asked: float) -> None:
        if lease.spec and lease.spec.holder_identity == self._identity:
            # From when it was asked for: nobody can have seen it earlier.
            self._until = asked + self._timing.deadline

    async def release(self) -> None:
        """Let another one lead at once, and write nothing any more; if that fails, it does when the lease is over."""
        held, self._over = self.leading, True  # also if a renewal is still answered
        if not held:
            return
        self._released = True
        if self._renewing is not None:
            # It would take it again.
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
    """Return what an identity says of its candidate's scope; ``""`` for that of another program or version."""
    return identity.rpartition("_")[2] if identity.count("_") == 2 else ""


class _Requests:
    """The lock's requests, each with a time limit, and each failure as the one kind of exception that it expects."""

    def __init__(
        self,
        leases: Leases,
        name: str,
        namespace: str,
        limit: float,
        read: Callable[[V1Lease], None],
        written: Callable[[V1Lease, float], None],
    ) -> None:
        self._leases = leases
        self._what = f"leases.coordination.k8s.io {namespace}/{name}"
        self._limit = limit
        self._read = read
        self._written = written
        self.problem = ""

    async def read_namespaced_lease(self, name: str, namespace: str) -> V1Lease:
        lease = await self._request("get", self._leases.read_namespaced_lease(name, namespace))
        self._read(lease)
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
            # That there is none yet, or that another one was faster, is how elections go.
            self._tell("" if isinstance(error, Conflict | Gone) else str(error))
            raise
        except TimeoutError:
            self._tell(problem := f"{what}: no answer from the API server within {self._limit:g} s")
            raise ApiException(reason=problem) from None
        except Exception as error:  # whatever it was, the lease was not renewed
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
