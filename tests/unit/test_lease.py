"""The election against Leases in memory, with everything that may come instead of an answer."""

from __future__ import annotations

import asyncio
import copy
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from kubernetes.aio.client import ApiClient, V1Lease, V1ObjectMeta
from kubernetes.aio.client.exceptions import ApiException
from structlog.testing import capture_logs
from tests.kit.virtual_time import VirtualTime

from cutover.adapters.kube import lease as module
from cutover.adapters.kube.client import Cluster
from cutover.adapters.kube.lease import Election, LeaseLost, Timing
from cutover.domain.preflight.checks.istio.kinds import VIRTUAL_SERVICES
from cutover.ports.errors import Unavailable

#: Less than the library takes.
FAST = Timing(lease=2, deadline=1.5, retry=0.05)
LEASE = "cutover-system/cutover"


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch, virtual_time: VirtualTime) -> None:
    def config(lock: Any, lease: int, deadline: float, retry: float, *_: Any) -> SimpleNamespace:
        return SimpleNamespace(lock=lock, lease_duration=lease, renew_deadline=deadline, retry_period=retry)

    monkeypatch.setattr(module, "Config", config)
    monkeypatch.setattr(module, "elapsed", virtual_time.now)


def refusal(status: int, body: str) -> ApiException:
    return ApiException(status=status, reason="refused", body=body)


def answer(status: int, message: str = "") -> ApiException:
    return refusal(
        status, json.dumps({"kind": "Status", "code": status, "message": message, "details": {"name": "x"}})
    )


class FakeLeases:
    """One Lease, as the API server keeps it; ``fault`` comes instead of an answer."""

    api_client = None

    def __init__(self) -> None:
        self.stored: V1Lease | None = None
        self.fault: Callable[[], Awaitable[Any]] | None = None
        self.asked = 0
        self._version = 0

    @property
    def holder(self) -> str | None:
        return None if self.stored is None or self.stored.spec is None else self.stored.spec.holder_identity

    async def read_namespaced_lease(self, name: str, namespace: str) -> V1Lease:
        return await self._answer(lambda: None)

    async def create_namespaced_lease(self, namespace: str, body: V1Lease) -> V1Lease:
        def create() -> None:
            if self.stored is not None:
                raise answer(409, "exists")
            self._store(body)

        return await self._answer(create, new=True)

    async def replace_namespaced_lease(self, name: str, namespace: str, body: V1Lease) -> V1Lease:
        def replace() -> None:
            if body.metadata.resource_version != str(self._version):  # type: ignore[union-attr]
                raise answer(409, "the object has been modified")
            self._store(body)

        return await self._answer(replace)

    def take(self, holder: str) -> None:
        """Let somebody else write the Lease."""
        lease = copy.deepcopy(self.stored)
        assert lease is not None
        lease.spec.holder_identity = holder  # type: ignore[union-attr]
        self._store(lease)

    def _store(self, body: V1Lease) -> None:
        self._version += 1
        self.stored = copy.deepcopy(body)
        self.stored.metadata = V1ObjectMeta(name="cutover", resource_version=str(self._version))
        for field in ("acquire_time", "renew_time"):  # as read back: times, not their texts
            value = getattr(self.stored.spec, field)
            if isinstance(value, str):
                setattr(self.stored.spec, field, datetime.fromisoformat(value))

    async def _answer(self, do: Callable[[], None], *, new: bool = False) -> V1Lease:
        self.asked += 1
        await asyncio.sleep(0)
        if self.fault is not None:
            return cast("V1Lease", await self.fault())
        if self.stored is None and not new:
            raise answer(404, "not found")
        do()
        return copy.deepcopy(cast("V1Lease", self.stored))


class Actor:
    """What acts while the lease is held."""

    def __init__(self) -> None:
        self.acting = asyncio.Event()
        self.stop = asyncio.Event()

    async def __call__(self) -> None:
        self.acting.set()
        await self.stop.wait()


@asynccontextmanager
async def candidate(leases: FakeLeases, name: str) -> AsyncIterator[tuple[Election, Actor, asyncio.Task[None]]]:
    election, actor = Election(leases, LEASE, name, FAST), Actor()
    running = asyncio.create_task(election.run(actor))
    try:
        yield election, actor, running
    finally:
        running.cancel()
        await asyncio.wait((running,))


async def within(seconds: float, event: asyncio.Event) -> float:
    """Wait for something; return the seconds that it took."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    await asyncio.wait_for(event.wait(), seconds)
    return loop.time() - started


# ----------------------------------------------------------------------------------------------------------- the lease


async def test_the_first_acts_and_gives_the_lease_back_at_its_end() -> None:
    leases = FakeLeases()
    async with candidate(leases, "a") as (election, actor, running):
        assert not election.leading
        await within(1, actor.acting)
        assert (election.leading, leases.holder) == (True, "a")
        actor.stop.set()
        await running
        assert (election.leading, leases.holder) == (False, "")


async def test_a_second_waits_and_acts_when_the_first_has_ended() -> None:
    leases = FakeLeases()
    async with candidate(leases, "a") as (_, first, _), candidate(leases, "b") as (waiting, second, _):
        await within(1, first.acting)
        await asyncio.sleep(FAST.lease + 0.3)
        assert not second.acting.is_set()
        assert not waiting.leading
        first.stop.set()
        assert await within(1, second.acting) < FAST.lease - 0.2
        assert leases.holder == "b"


async def test_when_the_first_is_gone_a_second_acts_after_the_time_of_the_lease() -> None:
    leases = FakeLeases()
    async with candidate(leases, "a") as (first, actor, _):
        await within(1, actor.acting)
        async with candidate(leases, "b") as (_, second, _):
            await asyncio.sleep(0.2)
            first.release = _nothing  # type: ignore[method-assign]
            actor.stop.set()
            took = await within(3, second.acting)
            assert FAST.lease - 0.2 < took < FAST.lease + 1


async def test_of_many_one_acts() -> None:
    leases = FakeLeases()
    elections = [Election(leases, LEASE, name, FAST) for name in "abcde"]
    actors = [Actor() for _ in elections]
    tasks = [asyncio.create_task(e.run(a)) for e, a in zip(elections, actors, strict=True)]
    await asyncio.sleep(0.5)
    assert sum(election.leading for election in elections) == 1
    assert [a.acting.is_set() for a in actors] == [e.leading for e in elections]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_what_acts_may_fail() -> None:
    leases = FakeLeases()
    election = Election(leases, LEASE, "a", FAST)

    async def act() -> None:
        raise ValueError("fault")

    with pytest.raises(ValueError, match="fault"):
        await election.run(act)
    assert (election.leading, leases.holder) == (False, "")


async def test_a_lease_that_cannot_be_given_back_is_not_waited_for() -> None:
    leases = FakeLeases()
    async with candidate(leases, "a") as (election, actor, running):
        await within(1, actor.acting)
        leases.fault = FAULTS["refused connection"]
        actor.stop.set()
        await running
        assert (election.leading, leases.holder) == (False, "a")


# ------------------------------------------------------------------------------------------------------------- outages


def raising(error: Exception) -> Callable[[], Awaitable[Any]]:
    async def fail() -> Any:
        raise error

    return fail


async def _nothing() -> None:
    pass


async def _text() -> Any:
    return "<html>welcome</html>"


FAULTS: dict[str, Callable[[], Awaitable[Any]]] = {
    "refused connection": raising(OSError("connection refused")),
    "broken connection": raising(aiohttp.ServerDisconnectedError()),
    "no answer": lambda: asyncio.sleep(60),
    "a time-out": raising(TimeoutError()),
    "a gateway's page": raising(refusal(502, "<html>bad gateway</html>")),
    "a refusal without words": raising(ApiException(status=503)),
    "forbidden": raising(answer(403, "forbidden")),
    "a gateway's 404": raising(refusal(404, "<html>not found</html>")),
    "text": _text,
    "nothing": _nothing,
    "something else": raising(ValueError("Expecting value: line 1 column 1")),
}


async def in_each(check: Callable[[Callable[[], Awaitable[Any]]], Awaitable[None]]) -> None:
    """Check all faults at the same time."""
    results = await asyncio.gather(*map(check, FAULTS.values()), return_exceptions=True)
    assert dict(zip(FAULTS, results, strict=True)) == dict.fromkeys(FAULTS)


async def test_an_outage_shorter_than_the_deadline_changes_nothing() -> None:
    async def check(fault: Callable[[], Awaitable[Any]]) -> None:
        leases = FakeLeases()
        async with candidate(leases, "a") as (election, actor, running):
            await within(1, actor.acting)
            leases.fault = fault
            await asyncio.sleep(0.2)
            leases.fault = None
            await asyncio.sleep(FAST.deadline)
            assert election.leading
            assert not running.done()

    await in_each(check)


async def test_an_outage_longer_than_the_deadline_ends_it_in_time() -> None:
    async def check(fault: Callable[[], Awaitable[Any]]) -> None:
        leases = FakeLeases()
        async with candidate(leases, "a") as (election, actor, running):
            await within(1, actor.acting)
            leases.fault = fault
            await asyncio.sleep(FAST.deadline + 0.01)  # timers may be early by the clock's resolution
            assert not election.leading
            with pytest.raises(LeaseLost, match=r"not renewed for 1.5 s"):
                await asyncio.wait_for(running, 0.5)
            leases.fault, asked = None, leases.asked
            await asyncio.sleep(0.2)
            assert (leases.asked, election.leading) == (asked, False)

    await in_each(check)


async def test_who_waits_outlasts_every_outage() -> None:
    async def check(fault: Callable[[], Awaitable[Any]]) -> None:
        leases = FakeLeases()
        leases.fault = fault
        async with candidate(leases, "a") as (_, actor, running):
            await asyncio.sleep(0.3)
            assert not running.done()
            leases.fault = None
            await within(1, actor.acting)

    await in_each(check)


async def test_a_problem_is_logged_once() -> None:
    leases = FakeLeases()
    message = (
        'leases.coordination.k8s.io "cutover" is forbidden: User "operator" cannot get resource "leases" in API group '
        '"coordination.k8s.io" in the namespace "cutover-system"'
    )
    leases.fault = raising(answer(403, message))
    with capture_logs() as logs:
        async with candidate(leases, "a"):
            await asyncio.sleep(0.3)
    (problem,) = (line["problem"] for line in logs if line["event"] == "lease not reached")
    assert "missing permission: operator needs verb get on leases of API group coordination.k8s.io" in problem


async def test_who_lost_the_lease_says_why() -> None:
    leases = FakeLeases()
    async with candidate(leases, "a") as (_, actor, running):
        await within(1, actor.acting)
        leases.fault = FAULTS["refused connection"]
        with pytest.raises(
            LeaseLost, match=r"get leases.coordination.k8s.io cutover-system/cutover: OSError: connection"
        ):
            await running


async def test_an_election_as_it_goes_is_no_problem() -> None:
    leases = FakeLeases()
    with capture_logs() as logs:
        async with candidate(leases, "a") as (_, first, _), candidate(leases, "b") as (_, second, _):
            await within(1, first.acting)
            first.stop.set()
            await within(1, second.acting)
    assert {line["log_level"] for line in logs} == {"info"}


# ------------------------------------------------------------------------------------------------- leaders of yesterday


async def test_a_lease_that_was_taken_is_lost_at_the_next_look(virtual_time: VirtualTime) -> None:
    leases = FakeLeases()
    async with candidate(leases, "a") as (election, actor, running):
        await within(1, actor.acting)
        leases.take("b")
        started = virtual_time.now()
        with pytest.raises(LeaseLost, match="taken by b"):
            await running
        assert virtual_time.now() - started < FAST.deadline - 0.1
        assert (election.leading, leases.holder) == (False, "b")


async def test_a_process_that_was_frozen_knows_at_once(virtual_time: VirtualTime) -> None:
    """It looks at its own clock, before anything else that was due may run."""
    leases = FakeLeases()
    async with candidate(leases, "a") as (election, actor, running):
        await within(1, actor.acting)
        virtual_time.freeze(FAST.deadline)
        assert not election.leading
        with pytest.raises(LeaseLost):
            await running
        assert leases.holder == "a", "what is lost is not given back"


async def test_the_deadline_counts_from_when_a_renewal_was_sent() -> None:
    leases = FakeLeases()
    async with candidate(leases, "a") as (election, actor, _):

        async def slow() -> Any:
            await asyncio.sleep(0.2)
            return copy.deepcopy(leases.stored)

        await within(1, actor.acting)
        leases.fault = slow
        await asyncio.sleep(0.5)
        assert election.leading
        assert election._until < module.elapsed() + FAST.deadline - 0.1


async def test_a_suspended_machine_counts_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The monotonic clock of asyncio and of Linux does not."""
    leases = FakeLeases()
    async with candidate(leases, "a") as (election, actor, running):
        await within(1, actor.acting)
        slept = module.elapsed() + FAST.deadline
        monkeypatch.setattr(module, "elapsed", lambda: slept)
        assert not election.leading
        leases.take("b")
        with pytest.raises(LeaseLost):
            await running


# ------------------------------------------------------------------------------------------------------- the wall clock


@pytest.mark.parametrize("hours", [-1, 1])
async def test_who_waits_does_not_go_by_the_wall_clock(monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    """Set forward, it does not take what may still be held; set back, it does not wait for as long."""
    leases, wall = FakeLeases(), time.time
    async with candidate(leases, "a") as (leader, first, _), candidate(leases, "b") as (_, second, _):
        await within(1, first.acting)
        leader.release = _nothing  # type: ignore[method-assign]
        first.stop.set()
        await asyncio.sleep(4 * FAST.retry)
        monkeypatch.setattr(time, "time", lambda: wall() + 3600 * hours)
        took = await within(3, second.acting)
        assert FAST.lease / 2 < took < FAST.lease + 1


async def test_a_clock_that_is_set_back_while_the_lease_is_read_ends_no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    leases, wall = FakeLeases(), time.time
    read = leases.read_namespaced_lease

    async def set_back(name: str, namespace: str) -> V1Lease:
        lease = await read(name, namespace)
        monkeypatch.setattr(time, "time", lambda: wall() - 3600)
        return lease

    async with candidate(leases, "a") as (leader, first, _), candidate(leases, "b") as (_, second, _):
        await within(1, first.acting)
        leader.release = _nothing  # type: ignore[method-assign]
        first.stop.set()
        await asyncio.sleep(4 * FAST.retry)
        monkeypatch.setattr(leases, "read_namespaced_lease", set_back)
        took = await within(3, second.acting)
        assert FAST.lease / 2 < took < FAST.lease + 1


async def test_without_the_lease_nothing_is_written() -> None:
    allowed = False
    api = ApiClient()
    cluster = Cluster(api, may_write=lambda: allowed)
    body = {"metadata": {"namespace": "docs", "name": "pdf", "resourceVersion": "1"}}
    for write in (
        cluster.create(VIRTUAL_SERVICES, body),
        cluster.replace(VIRTUAL_SERVICES, body, "status"),
    ):
        with pytest.raises(Unavailable, match=r"docs.*not written: this process does not hold the lease any more"):
            await write
    assert cluster.requests.total() == 0
    assert cluster.errors == {"no-lease": 2}
    await cluster.close()
