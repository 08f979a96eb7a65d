"""VirtualServices as teams have them: each is taken over and comes back exactly, or is refused with words to follow."""

from __future__ import annotations

import copy
import re
import textwrap
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from tests.corpus import load
from tests.kit.builders import GATEWAY, PUBLIC_HOST
from tests.kit.builders import plan as make_plan
from tests.kit.routing import FakeCluster, RecordedTraffic
from tests.kit.target import listed_routes

from cutover.adapters.kube.client import Cluster
from cutover.api.v1alpha1 import OnDelete
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio import route_adoptable, route_delegates, service_unshared
from cutover.domain.preflight.checks.istio.proxies import Proxies
from cutover.domain.resources import Json

ROOT = Path(__file__).parents[2]
CORPUS: list[Json] = load(ROOT / "tests" / "corpus" / "team_routes.yaml")
ACCEPTED = [one for one in CORPUS if "says" not in one]
REFUSED = [one for one in CORPUS if "says" in one]
#: Testers and users who are known by a header.
PINNED: Json = {
    "preview": {"header": {"name": "x-try-eks", "value": "1"}},
    "affinity": {"cookie": {"name": "cutover", "maxAge": "12h"}},
}
FOLLOWED = [one for one in REFUSED if "followed" in one]
DELEGATING = [one for one in CORPUS if "lines" in one]


def named(case: Any) -> str:
    return str(case["case"]).replace(" ", "-")


def plan(ownership: str = "Adopt", traffic: Json | None = None, **status: Any) -> Plan:
    given = traffic or {}
    istio = {"hosts": [PUBLIC_HOST], "gateways": [GATEWAY], "ownership": ownership}
    istio |= {"virtualServiceRef": {"name": "theirs"}, **given.get("istio", {})}
    return make_plan(traffic={**given, "istio": istio}, status={"attempt": 1} | status)


def body(*specs: Json) -> Json:
    """Return the team's object; later fields replace earlier ones, and null takes a field out."""
    spec: Json = {"hosts": [PUBLIC_HOST], "gateways": [GATEWAY]}
    for one in specs:
        spec |= copy.deepcopy(one)
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"namespace": "docs", "name": "theirs"},
        "spec": {name: value for name, value in spec.items() if value is not None},
    }


async def comes_back(given: Json, fields: Json | None = None) -> None:
    """Live through a whole cutover with a rollback in it, and give the object back."""
    cluster = FakeCluster()
    cluster.store(copy.deepcopy(given), "kubectl-client-side-apply")
    traffic = RecordedTraffic(cast("Cluster", cluster))
    for phase, weight in (("Preflight", 0), ("Shifting", 10), ("Soaking", 100), ("RollingBack", 0), ("Shifting", 25)):
        moved = plan("Adopt", fields, phase=phase, weight=weight)
        await traffic.set(moved, weight)
        state = await traffic.get(moved, weight)
        assert (state.weight, state.current) == (weight, True)
    await traffic.finalize(plan("Adopt", fields, phase="Shifting", weight=25), OnDelete.HEROKU)
    back = cluster.objects["VirtualService", "docs", "theirs"]
    assert back["spec"] == given["spec"]
    assert not back["metadata"].get("labels")
    assert not back["metadata"].get("annotations")


@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.parametrize("case", ACCEPTED, ids=named)
async def test_what_is_taken_over_comes_back_exactly(case: Json, pinned: bool) -> None:
    given, fields = body(case["spec"]), {**case.get("traffic", {}), **(PINNED if pinned else {})}
    assert route_adoptable.problem(plan("Adopt", fields), given) == ""
    await comes_back(given, fields)


@pytest.mark.parametrize("case", REFUSED, ids=named)
def test_what_is_refused_is_told(case: Json) -> None:
    problem = route_adoptable.problem(plan(), body(case["spec"]))
    for part in case["says"]:
        assert part in problem


@pytest.mark.parametrize("case", FOLLOWED, ids=named)
async def test_what_is_told_can_be_done(case: Json) -> None:
    given = body(case["spec"], case["followed"])
    assert route_adoptable.problem(plan(), given) == ""
    await comes_back(given)


@pytest.mark.parametrize("page", ["testers", "in-mesh", "leaving-flagger"])
def test_what_the_docs_show_can_be_taken_over(page: str) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    blocks = [textwrap.dedent(block) for block in re.findall(r"^ *```yml\n(.*?)```", text, re.DOTALL | re.MULTILINE)]
    objects = [one for block in blocks for one in yaml.safe_load_all(block) if "kind" in one]
    routes = [one for one in objects if one["kind"] == "VirtualService"]
    (whole,) = (one for one in routes if one["spec"]["hosts"] == ["pdf.example.com"])
    named_there: Json = {"virtualServiceRef": {"name": whole["metadata"]["name"]}, "hosts": ["pdf.example.com"]}
    taken = make_plan(
        namespace="documents",
        istio={"ownership": "Adopt", **named_there},
        heroku={"app": "acme-pdf", "hostname": "acme-pdf-1a2b3c.herokuapp.com"},
    )
    assert route_adoptable.problem(taken, whole) == ""
    assert service_unshared.others(taken, listed_routes(*routes), Proxies()) == []


@pytest.mark.parametrize("case", DELEGATING, ids=named)
def test_the_lines_for_a_root_are_put_where_they_say(case: Json) -> None:
    delegating = plan("Delegate", case.get("traffic"))
    given = body(case["spec"], {"hosts": [*delegating.spec.traffic.hosts], "gateways": [GATEWAY]})
    routes = given["spec"]["http"]
    items = re.findall(r"before http\[(\d+)\]: (- .*?)(?=; before http|$)", route_delegates.problem(delegating, given))
    assert [int(index) for index, _ in items] == case["lines"]
    for index, item in reversed(items):
        routes[int(index) : int(index)] = yaml.safe_load(item)
    assert route_delegates.problem(delegating, given) == ""
    # They are for the same requests as the routes that serve until then.
    lines = [(one, then) for one, then in pairwise(routes) if "cutover-" in str(one.get("delegate"))]
    assert all(one.get("match") == then.get("match") for one, then in lines)


@pytest.mark.parametrize("before", [{"match": [{"headers": {"x-try-new": {"exact": "1"}}}]}, {}])
def test_a_root_has_no_route_of_its_own_to_the_service(before: Json) -> None:
    to_eks = before | {"route": [{"destination": {"host": "pdf"}}]}
    delegates: Json = {"delegate": {"name": "cutover-pdf"}}
    problem = route_delegates.problem(plan("Delegate"), body({"http": [to_eks, delegates]}))
    assert "http[0] sends requests to Service pdf" in problem
    assert "a second Service with the selector of pdf" in problem
    assert route_delegates.problem(plan("Delegate"), body({"http": [delegates, to_eks]})) == ""
