"""Which kinds are served, by what the API server says of itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog

from cutover.adapters.kube import discovery as kinds
from cutover.adapters.kube.answers import NotServed
from cutover.adapters.kube.client import Cluster
from cutover.adapters.kube.discovery import named, served, until_served
from cutover.domain.preflight.checks.istio.kinds import VIRTUAL_SERVICES
from cutover.domain.resources import PLANS, Json, Resource
from cutover.kopf_app import running
from cutover.kopf_app.watched import WATCHED
from cutover.ports.errors import Unavailable
from cutover.services.operator import Operator

VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]


class Server:
    """Answers discovery, with all kinds, until told otherwise."""

    def __init__(self) -> None:
        self.kinds: dict[str, dict[str, Any]] = {}
        for kind in WATCHED:
            self.kinds.setdefault(f"{kind.group}/{kind.version}", {})[kind.plural] = VERBS
        self.groups: Any = [{"name": name} for name in ("apps", "cutover.dev", "networking.istio.io")]
        self.answers: list[Json | Exception] = []
        self.asked: list[str] = []

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        path = resource.path(namespace, name)
        self.asked.append(path)
        if path == "/apis":
            if self.answers:
                answer = self.answers.pop(0)
                if isinstance(answer, Exception):
                    raise answer
                return answer
            return {"groups": self.groups}
        found = self.kinds.get(path.removeprefix("/apis/"))
        if found is None:
            raise NotServed(str(resource))
        return {"resources": [{"name": name, "verbs": verbs} for name, verbs in found.items()]}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(kinds, "LOOK_SECONDS", 0.001)
    return Server()


def cluster(server: Server) -> Cluster:
    return cast("Cluster", server)


async def test_all_kinds_are_asked_for_by_their_groups(server: Server) -> None:
    assert await served(cluster(server), WATCHED) == WATCHED
    assert sorted(server.asked) == ["/apis", "/apis/cutover.dev/v1alpha1", "/apis/networking.istio.io/v1"]


@pytest.mark.parametrize(
    ("plural", "verbs", "there"),
    [
        ("migrationplans", ["delete", "get", "list", "watch"], False),  # as while its CRD is being deleted
        ("migrationplans", ["list", "watch", "patch"], True),
        ("migrationplans", None, False),
        ("gatetemplates", ["delete", "get", "list", "watch"], True),
        ("gatetemplates", ["list"], False),
    ],
)
async def test_what_can_be_done_decides(server: Server, plural: str, verbs: list[str] | None, there: bool) -> None:
    server.kinds["cutover.dev/v1alpha1"][plural] = verbs
    assert {kind.plural for kind in WATCHED - await served(cluster(server), WATCHED)} == (set() if there else {plural})


async def test_a_group_that_is_not_listed_or_has_not_the_version_is_not_served(server: Server) -> None:
    del server.kinds["networking.istio.io/v1"]
    assert {kind.group for kind in await served(cluster(server), WATCHED)} == {"cutover.dev"}
    server.groups = server.groups[-1:]
    assert await served(cluster(server), WATCHED) == frozenset()


@pytest.mark.parametrize("groups", [None, [{}], "x", [None]])
async def test_an_answer_that_is_not_understood_is_an_outage(server: Server, groups: Any) -> None:
    server.groups = groups
    with pytest.raises(Unavailable, match="not understood"):
        await served(cluster(server), WATCHED)


async def test_it_waits_and_says_once_for_what(server: Server) -> None:
    without = {"groups": [{"name": "networking.istio.io"}]}
    server.answers = [Unavailable("away"), Unavailable("away"), without, without]
    with structlog.testing.capture_logs() as logged:
        assert await until_served(cluster(server), WATCHED, PLANS) == WATCHED
    said = [line["problem"] for line in logged]
    assert said == ["away", "migrationplans.cutover.dev: not served; is the CRD installed?"]
    # One that has just come is looked at twice.
    assert server.asked.count("/apis") == 6


async def test_it_does_not_wait_for_others(server: Server) -> None:
    del server.kinds["networking.istio.io/v1"]
    assert VIRTUAL_SERVICES not in await until_served(cluster(server), WATCHED, PLANS)


async def test_who_waits_for_the_plans_does_not_say_that_they_are_looked_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    operator, said = Operator(*cast("Any", (None, None, None))), list[bool]()

    async def wait(*_: object) -> frozenset[Resource]:
        said.append(operator.serving)
        return WATCHED

    async def serve(*_: object, **__: object) -> None:
        said.append(operator.serving)

    monkeypatch.setattr(running, "until_served", wait)
    monkeypatch.setattr(running, "serve", serve)
    settings = cast("Any", SimpleNamespace(health_port=None))
    await running.look_after(settings, cast("Cluster", None), operator, at_end=None)
    assert [*said, operator.serving] == [False, True, False]


def test_names_for_people() -> None:
    assert (
        named(frozenset((VIRTUAL_SERVICES, PLANS)))
        == "migrationplans.cutover.dev, virtualservices.networking.istio.io"
    )
