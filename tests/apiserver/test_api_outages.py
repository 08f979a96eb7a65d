"""The adapter's client while the API server, or the line to it, misbehaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import yaml
from tests.kit import builders

from cutover.adapters.kube import client as kubernetes
from cutover.adapters.kube.client import Cluster
from cutover.adapters.kube.connection import CONNECTIONS
from cutover.domain.resources import SERVICES, Json
from cutover.ports.errors import Unavailable
from devstack.stack import Stack
from sandbox.interposer import Fault, Interposer
from sandbox.operator_process import OperatorProcess

from .conftest import Api


@pytest.fixture
def interposer(stack: Stack, api: Api, tmp_path: Path) -> Iterator[Interposer]:
    """A proxy before the API server."""
    with Interposer(tmp_path, stack.kubeconfig) as started:
        yield started


@pytest.fixture
def kubeconfig(interposer: Interposer, stack: Stack) -> Path:
    """The administrator's kubeconfig, through the proxy."""
    return interposer.through(stack.kubeconfig)


@pytest.fixture
async def through(kubeconfig: Path) -> AsyncIterator[Cluster]:
    """A client with that."""
    cluster = await Cluster.connect(kubeconfig)
    yield cluster
    await cluster.close()


@pytest.fixture
async def stored(through: Cluster, namespace: str) -> Json:
    """A Service."""
    metadata = {"namespace": namespace, "name": "web"}
    return await through.create(SERVICES, {"metadata": metadata, "spec": {"ports": [{"port": 80}]}})


def marked(body: Json, mark: str) -> Json:
    """Return the object with an annotation."""
    return {**body, "metadata": {**body["metadata"], "annotations": {"mark": mark}}}


async def test_an_urgent_write_does_not_wait_for_an_answer_that_was_lost(
    through: Cluster, interposer: Interposer, stored: Json
) -> None:
    interposer.tell("hang")
    write = asyncio.create_task(through.replace(SERVICES, marked(stored, "a"), urgent=True))
    await asyncio.sleep(0.5)
    back = interposer.tell("pass")
    assert (await write)["metadata"]["annotations"] == {"mark": "a"}
    assert time.time() - back < kubernetes.ASK_AGAIN_SECONDS + 1
    assert [one.status for one in interposer.seen() if one.method == "PUT"] == [0, 200]


async def test_of_an_urgent_write_that_is_sent_twice_one_is_made(
    through: Cluster, interposer: Interposer, stored: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes, "ASK_AGAIN_SECONDS", 0.2)
    interposer.inject(Fault("delay", ("PUT",), seconds=1.0))
    written = await through.replace(SERVICES, marked(stored, "a"), urgent=True)
    assert len([one for one in interposer.seen() if one.method == "PUT"]) > 1
    await asyncio.sleep(1.5)
    found = await through.get(SERVICES, stored["metadata"]["namespace"], "web")
    assert found["metadata"]["resourceVersion"] == written["metadata"]["resourceVersion"]


async def test_who_loses_the_lease_meanwhile_does_not_send_it_again(
    kubeconfig: Path, interposer: Interposer, stored: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes, "ASK_AGAIN_SECONDS", 0.3)
    leading = True
    cluster = await Cluster.connect(kubeconfig, may_write=lambda: leading)
    interposer.inject(Fault("hang", ("PUT",)))
    write = asyncio.create_task(cluster.replace(SERVICES, marked(stored, "a"), urgent=True))
    await asyncio.sleep(0.1)
    leading = False
    with pytest.raises(Unavailable, match="does not hold the lease any more"):
        await write
    assert len([one for one in interposer.seen() if one.method == "PUT"]) == 1
    await cluster.close()


async def test_an_urgent_write_does_not_queue_behind_others(
    through: Cluster, interposer: Interposer, stored: Json
) -> None:
    namespace = stored["metadata"]["namespace"]
    interposer.inject(Fault("hang", ("GET",)))
    others = [asyncio.create_task(through.get(SERVICES, namespace, "web")) for _ in range(2 * CONNECTIONS)]
    await asyncio.sleep(0.5)
    async with asyncio.timeout(1):
        written = await through.replace(SERVICES, marked(stored, "a"), urgent=True)
    assert written["metadata"]["annotations"] == {"mark": "a"}
    assert not any(other.done() for other in others)
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def test_who_is_asked_to_wait_waits_but_for_what_is_urgent(
    through: Cluster, interposer: Interposer, stored: Json
) -> None:
    namespace = stored["metadata"]["namespace"]
    interposer.inject(Fault("answer", ("GET",), status=429, retry_after=1, times=1))
    since = time.time()
    for _ in range(5):
        with pytest.raises(Unavailable, match="the API server asks to wait 1 s"):
            await through.get(SERVICES, namespace, "web")
    await through.replace(SERVICES, marked(stored, "a"), urgent=True)
    assert [one.method for one in interposer.seen(since)] == ["GET", "PUT"]
    assert through.errors == {"throttled": 5}
    await asyncio.sleep(1.1)
    await through.get(SERVICES, namespace, "web")


def exchange(kubeconfig: Path, token: str) -> str:
    """Write another token into a kubeconfig; return the one before."""
    config = yaml.safe_load(kubeconfig.read_text())
    user = config["users"][0]["user"]
    before: str = user["token"]
    user["token"] = token
    kubeconfig.write_text(yaml.safe_dump(config))
    return before


@pytest.mark.parametrize("urgent", [False, True])
async def test_a_new_token_is_read_when_the_old_one_is_refused(
    through: Cluster, interposer: Interposer, stored: Json, kubeconfig: Path, *, urgent: bool
) -> None:
    right = exchange(kubeconfig, "wrong-token")
    interposer.inject(Fault("answer", status=401, times=1))
    with pytest.raises(Unavailable, match="does not accept the credentials") as refused:
        await through.replace(SERVICES, stored, urgent=urgent)
    assert "wrong-token" not in str(refused.value)
    exchange(kubeconfig, right)
    await through.replace(SERVICES, stored, urgent=urgent)
    assert through.errors == {"unauthorized": 1}


async def test_a_file_that_cannot_be_read_is_told(
    through: Cluster, interposer: Interposer, stored: Json, kubeconfig: Path
) -> None:
    kubeconfig.write_bytes(b"users: [{token: half-a-tok")  # noqa: ASYNC240
    interposer.inject(Fault("answer", status=401))
    with pytest.raises(Unavailable, match="credentials for the API server cannot be read") as told:
        await through.get(SERVICES, stored["metadata"]["namespace"], "web")
    assert "half-a-tok" not in str(told.value)


async def test_the_process_outlives_a_server_that_refuses_its_token(
    stack: Stack, istio_crds: None, operator_kubeconfig: Path, tmp_path: Path, api: Api, namespace: str
) -> None:
    """First the very token that is good again afterwards, then one that is renewed: people's plans are seen after both."""
    with Interposer(tmp_path, stack.kubeconfig) as interposer:
        kubeconfig = interposer.through(operator_kubeconfig)
        right = exchange(kubeconfig, "unused")
        exchange(kubeconfig, right)
        settings = {"CUTOVER_KUBECONFIG": str(kubeconfig), "CUTOVER_PROMETHEUS_URL": "http://127.0.0.1:1"}
        process = OperatorProcess(stack, f"refused-{namespace}", lambda: settings)
        process.start()
        try:
            for name, token in (("same", right), ("renewed", "expired")):
                exchange(kubeconfig, token)
                interposer.inject(Fault("answer", status=401))
                # What is under way ends as well, so that the watches are refused, too.
                interposer.tell("refuse")
                interposer.tell("pass")
                await asyncio.sleep(8)
                assert process.pid is not None, process.log()[-3000:]
                exchange(kubeconfig, right)
                back = interposer.inject()
                seen(api, namespace, name)
                print(f"{name} token: a new plan has a status {time.time() - back:.1f} s after")
        finally:
            process.stop()


def seen(api: Api, namespace: str, name: str) -> None:
    """Create a plan and wait until the operator has a status for it."""
    path = f"/apis/cutover.dev/v1alpha1/namespaces/{namespace}/migrationplans"
    assert api.call("POST", path, builders.plan_body(name, namespace))[0] == 201
    end = time.monotonic() + 90
    while not api.call("GET", f"{path}/{name}")[1].get("status", {}).get("phase"):
        assert time.monotonic() < end, "the operator does not see the plan"
        time.sleep(0.1)
