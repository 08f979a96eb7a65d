"""The operator's own process, killed with SIGKILL before and after each write that it makes, and started again.

What ends must be what would have been without it. The fake API server finds the points: it is what the writes come to.
All phases, evidence and time are in ``tests/unit/test_kill_matrix.py``; here it is the process that dies, with Kopf,
its finalizer, its connections and its watches. ``KILL_MATRIX=full`` kills at all points, otherwise every fourth. In the
same way the process' clock is set (``tests/unit/test_clock.py`` has the rest of that).
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp.web
import pytest
import yaml
from tests.kit.builders import NAMESPACE, plan_body
from tests.kit.fake_api import PLANS, VIRTUAL_SERVICES, FakeApi, Json
from tests.kit.kopf_harness import make_target, parsed, route, shifting
from tests.kit.operator_forks import OperatorForks
from tests.kit.trust import one_authority

import kmock
from cutover.adapters.traffic.istio.live import split_weight, stamped_revision
from cutover.domain.preflight.checks.istio.names import LEG_HEADER, PROBE_HEADER
from cutover.domain.revision import HEADER
from kmock import Request

STRIDE = 1 if os.environ.get("KILL_MATRIX") == "full" else 4
#: Runs side by side: each is a process that mostly waits.
AT_ONCE = 3


@pytest.fixture(scope="module")
def forks() -> Iterator[OperatorForks]:
    with OperatorForks() as started:
        yield started


class KillingApi(FakeApi):
    """Numbers the writes that come in, and kills who makes one."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.numbered: list[str] = []
        self.kill_at: tuple[int, str] | None = None
        self.kill: Callable[[], None] = lambda: None
        self.weights: list[int | None] = []

    async def _write(self, request: Request) -> aiohttp.web.Response:
        number = len(self.numbered)
        self.numbered.append(f"{request.method.value} {request.url.path}")
        if self.kill_at == (number, "before"):
            self.kill()
            return aiohttp.web.Response(status=500)
        answer = await super()._write(request)
        body = self.raw(VIRTUAL_SERVICES, NAMESPACE, "cutover-pdf")
        weight = split_weight(body, parsed(plan_body())) if body else None
        if not self.weights or self.weights[-1] != weight:
            self.weights.append(weight)
        if self.kill_at == (number, "after"):
            self.kill()
        return answer


@dataclass(frozen=True)
class Story:
    """What is asked of the operator, and the phase or reason that ends it."""

    name: str
    begin: Mapping[str, Any] | None
    weight: int
    command: Mapping[str, Any] | None
    ended: Callable[[Json], bool]
    spec: Mapping[str, Any] = field(default_factory=dict)


STORIES = (
    Story("takeover", None, 0, None, lambda status: status.get("phase") == "Baseline"),
    Story(
        "rollback",
        shifting(25),
        25,
        {"metadata": {"annotations": {"cutover.dev/rollback": "a1"}}},
        lambda status: status.get("phase") == "RolledBack",
    ),
    Story(
        "lower",
        shifting(50),
        50,
        {"spec": {"ceiling": 25}},
        lambda status: status.get("weight") == 25 and status.get("observedGeneration") == 2,
    ),
)


@dataclass(frozen=True)
class Ending:
    """What is left of a story."""

    phase: str
    weight: int | None
    revision: str
    weights: tuple[int | None, ...]
    ledger: tuple[tuple[str, int, int], ...]
    finalizers: tuple[str, ...]


@asynccontextmanager
async def gateway(api: KillingApi) -> AsyncIterator[str]:
    """Answer probes as the gateway does that has the route which the API server has."""

    async def answer(request: aiohttp.web.Request) -> aiohttp.web.Response:
        leg = request.headers[PROBE_HEADER].partition("-")[0]
        body = api.raw(VIRTUAL_SERVICES, NAMESPACE, "cutover-pdf")
        # The probes' routes come first; in a trial there are no others.
        revision = body["spec"]["http"][0]["headers"]["response"]["set"][HEADER] if body else ""
        return aiohttp.web.Response(headers={HEADER: revision, LEG_HEADER: leg})

    application = aiohttp.web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = aiohttp.web.AppRunner(application, access_log=None)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def serving() -> AsyncIterator[KillingApi]:
    async with KillingApi() as api, kmock.Server(api):
        yield api


async def tell(
    forks: OperatorForks,
    story: Story,
    api: KillingApi,
    folder: Path,
    kill_at: tuple[int, str] | None = None,
    set_clock: float | None = None,
) -> tuple[Ending, list[str]]:
    """Play a story; return how it ends, and the writes that the operator made.

    The clock is set where it would be killed otherwise, if ``set_clock`` has seconds.
    """
    async with gateway(api) as url:
        await make_target(api, "pdf")
        await api.write(PLANS, plan_body(status=story.begin, **story.spec))
        if story.begin is not None:
            await api.write(VIRTUAL_SERVICES, route("pdf", story.weight))
        if story.command is not None:
            await api.merge(PLANS, NAMESPACE, "pdf", dict(story.command))
        environment = _environment(api, url, folder)
        process, before = forks.start(environment), 0
        api.kill_at, api.kill = kill_at, lambda: process.kill()
        if set_clock is not None:
            api.kill = functools.partial(_set_clock, folder, set_clock)
        try:
            async with asyncio.timeout(120):
                # Quiet for a while: neither a write that is still to come nor one that is repeated.
                quiet, writes = 0, -1
                while quiet < 10:
                    await asyncio.sleep(0.1)
                    if process.returncode is not None:
                        assert process.returncode == -9, f"the operator ended with {process.returncode}"
                        process, before = forks.start(environment), api.calls("GET", "migrationplans")
                    # Whoever was started last has to have seen how things are.
                    there = _ended(api, story) and api.calls("GET", "migrationplans") > before
                    quiet = quiet + 1 if there and len(api.numbered) == writes else 0
                    writes = len(api.numbered)
        finally:
            process.kill()
            await process.wait()
        return _ending(api), api.numbered


def _ended(api: KillingApi, story: Story) -> bool:
    status = (api.raw(PLANS, NAMESPACE, "pdf") or {}).get("status") or {}
    return story.ended(status) and api.weights[-1:] == [status.get("weight")]


def _ending(api: KillingApi) -> Ending:
    plan, body = api.raw(PLANS, NAMESPACE, "pdf"), api.raw(VIRTUAL_SERVICES, NAMESPACE, "cutover-pdf")
    assert plan is not None
    assert body is not None
    status = plan["status"]
    ledger = ((entry["decision"], entry["fromWeight"], entry["toWeight"]) for entry in status.get("ledger", ()))
    return Ending(
        status["phase"],
        split_weight(body, parsed(plan)),
        stamped_revision(body),
        tuple(api.weights),
        tuple(one for one in ledger if one[0] != "Hold"),
        tuple(plan["metadata"].get("finalizers", ())),
    )


def _environment(api: KillingApi, gateway_url: str, folder: Path) -> dict[str, str]:
    folder.mkdir(parents=True)
    _set_clock(folder, 0.0)
    kubeconfig = folder / "kubeconfig"
    config = {
        "current-context": "fake",
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
        "clusters": [{"name": "fake", "cluster": {"server": str(api.url).rstrip("/")}}],
        "users": [{"name": "fake", "user": {"token": "s3cr3t-t0ken"}}],
    }
    kubeconfig.write_text(yaml.safe_dump(config), encoding="utf-8")
    return {
        "PATH": os.environ["PATH"],
        "CLOCK": str(folder / "clock"),
        **one_authority(folder),
        "CUTOVER_KUBECONFIG": str(kubeconfig),
        "CUTOVER_PROMETHEUS_URL": "http://127.0.0.1:9",  # nobody is there, and nobody is asked for these stories
        "CUTOVER_GATEWAY_URLS": f'{{"istio-ingress/public": "{gateway_url}"}}',
        "CUTOVER_HEALTH_PORT": "0",
        "CUTOVER_METRICS_PORT": "0",
    }


def _set_clock(folder: Path, seconds: float) -> None:
    new = folder / "clock.new"
    new.write_text(str(seconds), encoding="utf-8")
    new.replace(folder / "clock")


#: How stories end that nobody disturbs, by their names.
_undisturbed: dict[str, tuple[Ending, list[str]]] = {}


async def left_alone(forks: OperatorForks, story: Story, folder: Path) -> tuple[Ending, list[str]]:
    """Play a story without disturbance, once for all tests."""
    if story.name not in _undisturbed:
        async with serving() as api:
            _undisturbed[story.name] = await tell(forks, story, api, folder / "undisturbed")
    return _undisturbed[story.name]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
async def test_a_killed_process_changes_nothing(story: Story, forks: OperatorForks, tmp_path: Path) -> None:
    undisturbed, writes = await left_alone(forks, story, tmp_path)
    points = [(number, when) for number in range(len(writes)) for when in ("before", "after")][::STRIDE]
    slots, found = asyncio.Semaphore(AT_ONCE), list[str]()

    async def killed(api: KillingApi, number: int, when: str) -> None:
        async with slots:
            ending, _ = await tell(forks, story, api, tmp_path / f"{number}-{when}", (number, when))
        if ending != undisturbed:
            found.append(f"{when} {writes[number]}: {ending}")

    # They have to end in the reverse of the order in which they began.
    async with AsyncExitStack() as servers, asyncio.TaskGroup() as runs:
        for point in points:
            runs.create_task(killed(await servers.enter_async_context(serving()), *point))
    print(f"\n{story.name}: {len(writes)} writes, {2 * len(writes)} points, {len(points)} runs, {len(found)} differ")
    assert found == [], f"undisturbed: {undisturbed}"


@pytest.mark.parametrize("seconds", [3600.0, -3600.0])
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
async def test_a_clock_that_is_set_changes_nothing(
    story: Story, seconds: float, forks: OperatorForks, tmp_path: Path
) -> None:
    undisturbed, writes = await left_alone(forks, story, tmp_path)
    for number in range(len(writes))[:: 2 * STRIDE]:
        async with serving() as api:
            ending, _ = await tell(forks, story, api, tmp_path / str(number), (number, "after"), seconds)
        assert ending == undisturbed, writes[number]
