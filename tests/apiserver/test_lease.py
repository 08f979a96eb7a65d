"""The election against the real API server, under the chart's own rights; also by whole processes of the operator."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.kit.builders import plan_body_of
from tests.kit.chart import lease_rights
from tests.kit.waiting import until

from cutover.adapters.kube.client import Cluster
from cutover.adapters.kube.lease import Election, LeaseLost, Timing
from cutover.adapters.kube.plans import KubernetesPlans
from cutover.api.v1alpha1 import MigrationPlanStatus, Phase
from cutover.domain.resources import Resource
from cutover.main import EXIT_LEASE_LOST
from cutover.ports.errors import Conflict, Unavailable
from devstack.api import KubeApi
from devstack.stack import Stack
from devstack.support import StackError, free_port
from sandbox.interposer import Interposer
from sandbox.manifests import OPERATOR_ACCOUNT, OPERATOR_NAMESPACE

ROOT = Path(__file__).parents[2]
#: Shorter than in production, and long enough for a busy machine.
TIMING = Timing(lease=5, deadline=3.5, retry=1)
LEASES = Resource("coordination.k8s.io", "v1", "Lease", "leases")
LEASE = f"{OPERATOR_NAMESPACE}/{OPERATOR_ACCOUNT}"
PATH = f"/apis/coordination.k8s.io/v1/namespaces/{OPERATOR_NAMESPACE}/leases/{OPERATOR_ACCOUNT}"


@pytest.fixture
def lease(stack: Stack, operator_kubeconfig: Path, api: Any) -> str:
    """No Lease yet, and the rights to make it."""
    stack.apply(lease_rights())
    api.call("DELETE", PATH)
    return LEASE


def holder(api: Any) -> str:
    found: str = api.call("GET", PATH)[1]["spec"].get("holderIdentity", "")
    return found


# -------------------------------------------------------------------------------------------------------- candidates


class Candidate:
    """An election in this process."""

    def __init__(self, election: Election) -> None:
        self.election = election
        self.acting, self.stop = asyncio.Event(), asyncio.Event()
        self.running = asyncio.create_task(election.run(self._act))

    async def _act(self) -> None:
        self.acting.set()
        await self.stop.wait()


@contextlib.asynccontextmanager
async def candidate(kubeconfig: Path, lease: str) -> AsyncIterator[Candidate]:
    connected = await Election.connect(kubeconfig, lease)
    one = Candidate(Election(connected._leases, lease, connected._identity, TIMING))
    try:
        yield one
    finally:
        one.running.cancel()
        await asyncio.wait((one.running,))
        await connected.close()


async def test_one_acts_and_hands_over_when_it_ends(operator_kubeconfig: Path, lease: str, api: Any) -> None:
    async with candidate(operator_kubeconfig, lease) as first:
        await first.acting.wait()
        async with candidate(operator_kubeconfig, lease) as second:
            await _hand_over(first, second, api)


async def _hand_over(first: Candidate, second: Candidate, api: Any) -> None:
    assert holder(api) == first.election._identity
    await asyncio.sleep(TIMING.retry + 0.5)  # one renewal
    assert (first.election.leading, second.election.leading) == (True, False)
    first.stop.set()
    async with asyncio.timeout(TIMING.retry + 1):
        await first.running
        await second.acting.wait()
    assert holder(api) == second.election._identity


async def test_it_may_do_no_more_than_it_needs(operator_kubeconfig: Path, lease: str, api: Any) -> None:
    other = {"metadata": {"namespace": OPERATOR_NAMESPACE, "name": "other"}, "spec": {"holderIdentity": "x"}}
    api.call("POST", PATH.rpartition("/")[0], other)
    cluster = await Cluster.connect(operator_kubeconfig)
    with pytest.raises(Unavailable, match=r"missing permission.* verb update on leases"):
        await cluster.replace(LEASES, other)
    with pytest.raises(Unavailable, match=r"missing permission.* verb list on leases"):
        await cluster.list(LEASES, OPERATOR_NAMESPACE)
    with pytest.raises(StackError, match="cannot delete resource"):
        KubeApi(operator_kubeconfig).call(PATH, method="DELETE")
    with pytest.raises(Unavailable, match=r"missing permission.* verb create on leases"):
        await cluster.create(LEASES, {"metadata": {"namespace": "default", "name": "other"}})
    await cluster.close()


@pytest.fixture
def line(stack: Stack, tmp_path: Path) -> Iterator[Interposer]:
    """The way to the API server."""
    with Interposer(tmp_path, stack.kubeconfig) as started:
        yield started


async def test_who_cannot_reach_the_api_server_writes_no_more(
    operator_kubeconfig: Path, lease: str, api: Any, namespace: str, line: Interposer
) -> None:
    """Also when it is reached again, but by somebody else first; and the fence holds beneath."""
    api.call("POST", f"/apis/cutover.dev/v1alpha1/namespaces/{namespace}/migrationplans", plan_body_of(namespace))
    through_line = line.through(operator_kubeconfig)
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(candidate(through_line, lease))
        await first.acting.wait()
        second = await stack.enter_async_context(candidate(operator_kubeconfig, lease))
        guarded = await Cluster.connect(through_line, may_write=lambda: first.election.leading)
        stale = await Cluster.connect(operator_kubeconfig)
        plans = KubernetesPlans(guarded)
        plan, version = await plans.read(namespace, "pdf")
        line.tell("hang")
        cut = time.monotonic()
        with pytest.raises(LeaseLost, match="no answer from the API server"):
            await first.running
        lost = time.monotonic() - cut
        assert lost < TIMING.deadline + 0.5
        assert not second.acting.is_set(), "the first was still allowed to act a moment ago"
        async with asyncio.timeout(TIMING.lease):
            await second.acting.wait()
        took = time.monotonic() - cut
        assert took < TIMING.lease + 2 * TIMING.retry + 1
        line.tell("pass")
        status = MigrationPlanStatus(observed_generation=1, phase=Phase.SHIFTING, weight=25)
        with pytest.raises(Unavailable, match="does not hold the lease any more"):
            await plans.write_status(plan, status, version)
        # If its write was on its way, the status that the new one has written since refuses it.
        rolled_back = MigrationPlanStatus(observed_generation=1, phase=Phase.ROLLED_BACK, weight=0)
        await KubernetesPlans(stale).write_status(plan, rolled_back, version)
        with pytest.raises(Conflict):
            await KubernetesPlans(stale).write_status(plan, status, version)
        assert (await plans.read(namespace, "pdf"))[0].status == rolled_back
        await guarded.close()
        await stale.close()
    print(f"lost after {lost:.1f} s, taken over after {took:.1f} s")


# --------------------------------------------------------------------------------------------------------- processes

SCRIPT = f"""
from cutover.adapters.kube import lease
lease.TIMING = lease.{TIMING!r}
from cutover.main import main
main()
"""


class Process:
    """The operator as a process."""

    def __init__(self, kubeconfig: Path, namespace: str, log: Path) -> None:
        self.health, self.metrics = free_port(), free_port()
        self.log = log
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT / "operator"),
            "CUTOVER_KUBECONFIG": str(kubeconfig),
            "CUTOVER_LEASE": LEASE,
            "CUTOVER_NAMESPACES": namespace,
            "CUTOVER_PROMETHEUS_URL": "http://127.0.0.1:9",
            "CUTOVER_LISTEN_ADDRESS": "127.0.0.1",
            "CUTOVER_HEALTH_PORT": str(self.health),
            "CUTOVER_METRICS_PORT": str(self.metrics),
        }
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SCRIPT], env=environment, stdout=output, stderr=subprocess.STDOUT
            )

    @property
    def leading(self) -> float | None:
        """What it says of itself, ``None`` where it says nothing."""
        text = _get(f"http://127.0.0.1:{self.metrics}/metrics")
        families = text_string_to_metric_families(text or "")
        return next((f.samples[0].value for f in families if f.name == "cutover_leader"), None)

    @property
    def healthy(self) -> bool:
        return _get(f"http://127.0.0.1:{self.health}/healthz") is not None

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def ended(self, signal_number: signal.Signals, seconds: float = 10) -> int:
        self.process.send_signal(signal_number)
        return self.process.wait(seconds)


@pytest.fixture
def start(operator_kubeconfig: Path, namespace: str, tmp_path: Path) -> Iterator[Callable[[], Process]]:
    processes: list[Process] = []

    def begin() -> Process:
        processes.append(Process(operator_kubeconfig, namespace, tmp_path / f"operator-{len(processes)}.log"))
        return processes[-1]

    yield begin
    for one in processes:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()
        print(one.log.read_text())


@pytest.mark.usefixtures("istio_crds", "lease")
def test_operators_take_over_from_each_other(
    start: Callable[[], Process], kubectl: Any, api: Any, namespace: str
) -> None:
    kubectl("apply", "-f", "-", stdin=json.dumps(plan_body_of(namespace)))

    def observed(generation: int) -> bool:
        return bool(api.plan(namespace).get("status", {}).get("observedGeneration") == generation)

    first = start()
    until("the first acts", lambda: first.leading == 1 and first.healthy)
    second, third = start(), start()
    until("the others wait", lambda: all(one.leading == 0 and one.healthy for one in (second, third)))
    until("the plan is looked after", lambda: observed(1))

    # It ends in order: the lease is free as soon as it looks after no plan, which is before the process has ended.
    first.process.send_signal(signal.SIGTERM)
    handed = until("another acts", lambda: 1 in (second.leading, third.leading), TIMING.retry + 3)
    assert first.process.wait(10) == 0
    if second.leading != 1:
        second, third = third, second
    assert third.leading == 0
    kubectl("patch", "mplan", "pdf", "--type=merge", "--patch", '{"spec": {"soak": "1h"}}')
    until("the plan is looked after by the second", lambda: observed(2))

    # It freezes: the other acts when the lease is over, and the frozen one is not to.
    second.process.send_signal(signal.SIGSTOP)
    taken = until("the third acts", lambda: third.leading == 1, TIMING.lease + TIMING.retry + 3)
    kubectl("patch", "mplan", "pdf", "--type=merge", "--patch", '{"spec": {"soak": "2h"}}')
    until("the plan is looked after by the third", lambda: observed(3))
    assert second.ended(signal.SIGCONT) == EXIT_LEASE_LOST
    last = second.lines()[-1]
    assert (last["event"], last["code"]) == ("lease lost: this process ends", EXIT_LEASE_LOST)

    # Who waits ends when it is told to.
    fourth = start()
    until("the fourth waits", lambda: fourth.leading == 0)
    assert fourth.ended(signal.SIGTERM) == 0
    assert [line for one in (first, second, third, fourth) for line in one.lines() if "exception" in line] == []
    print(f"handed over after {handed:.1f} s, taken over after {taken:.1f} s")


def _get(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return str(answer.read().decode())
    except (OSError, urllib.error.URLError):
        return None
