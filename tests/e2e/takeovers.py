"""Plans for VirtualServices of teams, many at once, on the real API server, istiod and Envoy; no operator decides."""

from __future__ import annotations

import asyncio
import copy
import json
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tests.kit.advice import Json, Team, follow
from tests.kit.routing import RecordedTraffic

from cutover.adapters.kube.client import Cluster
from cutover.adapters.kube.inventory import KubernetesInventories
from cutover.api.v1alpha1 import MigrationPlanSpec, MigrationPlanStatus, OnDelete, Ownership
from cutover.domain.engine.actions import Try
from cutover.domain.plan import Plan
from cutover.domain.preflight import registry
from cutover.domain.preflight.checks.istio.kinds import VIRTUAL_SERVICES
from cutover.domain.revision import Trial
from devstack.stack import Stack

from .route_tables import (
    Routes,
    adopted_otherwise,
    delegated_otherwise,
    is_probe,
    revision_of,
    route_tables,
    split_otherwise,
    stamped,
)

#: The checks of preflight that judge objects of Istio; the others are about a workload, which there is none of.
CHECKS = {
    "exported",
    "gateway",
    "heroku-unshared",
    "host-unclaimed",
    "route-adoptable",
    "route-delegates",
    "route-writers",
    "service-unshared",
}
#: A cutover: phases and weights, in percent.
COURSE = (("Preflight", 0), ("Shifting", 10), ("Shifting", 50), ("Soaking", 100))
#: Seconds until the gateway has what was written.
PUSHED = 20.0


@dataclass
class Moving:
    """A team's VirtualService, and the plan that is to move its host.

    Parameters
    ----------
    name
        Of the case.
    namespace
        Of both.
    team
        What the team edits.
    fields
        The plan's spec, but for ``traffic.istio``, which is the team's.
    """

    name: str
    namespace: str
    team: Team
    fields: Json
    before: Routes = field(default_factory=list)
    traffic: RecordedTraffic | None = None

    def plan(self, phase: str = "Preflight", weight: int | None = None) -> Plan:
        """Return the plan in a phase, at a weight."""
        traffic = {**self.fields.get("traffic", {}), "istio": self.team.istio}
        status: Json = {"attempt": 1, "phase": phase} | ({} if weight is None else {"weight": weight})
        return Plan(
            namespace=self.namespace,
            name="moving",
            uid=f"uid-of-{self.namespace}",
            generation=1,
            spec=MigrationPlanSpec.model_validate({**self.fields, "traffic": traffic}),
            status=MigrationPlanStatus.model_validate(status),
        )

    @property
    def ownership(self) -> Ownership:
        return self.plan().spec.traffic.istio.ownership

    @property
    def hosts(self) -> Sequence[str]:
        return self.plan().spec.traffic.hosts

    def objects(self) -> list[Json]:
        """Return the team's objects as they are to be."""
        return [copy.deepcopy(body) for body in (self.team.route, *self.team.others.values())]

    def otherwise(self, now: Routes, weight: int) -> list[str]:
        """Return what is not as it has to be at the gateway."""
        plan = self.plan(weight=weight)
        match self.ownership:
            case Ownership.ADOPT:
                found = adopted_otherwise(self.before, now, plan, weight)
            case Ownership.DELEGATE:
                found = delegated_otherwise(self.before, now, plan, weight)
            case Ownership.GENERATE:
                found = split_otherwise(now, plan, weight)
        return [f"{self.name} ({self.ownership}) at {weight} %: {one}" for one in found]


def of_corpus(case: Json, number: int, ownership: str = "Adopt") -> Moving:
    """Return a case of the corpus with a namespace, a host and an app of its own."""
    namespace = f"team-{number}"
    text = json.dumps({name: case.get(name) for name in ("spec", "others", "traffic")})
    text = re.sub(r"(?i)(pdf)(\\*\.example\\*\.com)", rf"\1-{number}\2", text)
    text = re.sub(r"(?i)(acme-pdf)-1a2b3c", rf"\1-{number}", text)
    text = re.sub(r"\bdocs\b", namespace, text)
    # A wildcard of all cases' hosts would be the others' too.
    text = text.replace('"*.example.com"', f'"*.{number}.example.com"')
    renamed = json.loads(text)
    given = renamed["traffic"] or {}
    host = f"pdf-{number}.example.com"
    if f'"*.{number}.example.com"' in text:
        host = f"pdf.{number}.example.com"
    istio: Json = {"hosts": [host], "gateways": ["istio-ingress/public"], "ownership": ownership}
    istio |= {"virtualServiceRef": {"name": "theirs"}, **given.get("istio", {})}
    base = {"hosts": istio["hosts"], "gateways": istio["gateways"]}
    # What only Adopt's message is about is not in a root that delegates.
    spec = {**base, **renamed["spec"], **(base if ownership == "Delegate" else {})}
    route = virtual_service(namespace, "theirs", spec)
    others = {name: virtual_service(namespace, name, spec) for name, spec in (renamed["others"] or {}).items()}
    fields: Json = {
        "heroku": {"app": "acme-pdf", "hostname": f"acme-pdf-{number}.herokuapp.com"},
        "eks": {"service": {"name": "pdf", "port": 80}, "workloadRef": {"name": "pdf"}},
        "traffic": {name: value for name, value in given.items() if name != "istio"},
    }
    return Moving(str(case["case"]), namespace, Team(route, istio, others), fields)


def virtual_service(namespace: str, name: str, spec: Json) -> Json:
    """Return a team's VirtualService; fields that are null are left out."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {field: value for field, value in spec.items() if value is not None},
    }


class Takeovers:
    """Moves many hosts at once through the same weights.

    Parameters
    ----------
    cluster
        The API server, by the operator's account.
    """

    def __init__(self, stack: Stack, cluster: Cluster) -> None:
        self.stack, self.cluster = stack, cluster

    def write(self, moving: Iterable[Moving]) -> None:
        """Apply the teams' objects, as a person would."""
        objects = [body for one in moving for body in one.objects()]
        names = {body["metadata"]["namespace"] for body in objects}
        spaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in sorted(names)]
        self.stack.apply([*spaces, *objects], field_manager="kubectl-client-side-apply")

    async def problems(self, moving: Sequence[Moving]) -> list[str]:
        """Return what preflight has against each of them."""
        inventories = KubernetesInventories(self.cluster)

        async def problem(one: Moving) -> str:
            plan = one.plan()
            found = registry.before_takeover(plan, await inventories.inventory(plan))
            assert not [check for check in found if check.check in CHECKS and check.result == "Unknown"], found
            return "; ".join(check.message for check in found if check.check in CHECKS and check.result == "Failed")

        return list(await asyncio.gather(*map(problem, moving)))

    async def follow(self, moving: Sequence[Moving], rounds: int = 4) -> dict[str, list[str]]:
        """Do what preflight says until it says nothing more; return what was done, by the case.

        Raises
        ------
        AssertionError
            Where a message says nothing that can be done, or still more after some rounds.
        """
        done: dict[str, list[str]] = {one.name: [] for one in moving}
        left = list(moving)
        for _ in range(rounds):
            problems = await self.problems(left)
            left = [one for one, problem in zip(left, problems, strict=True) if problem]
            if not left:
                return done
            for one, problem in zip(left, filter(None, problems), strict=True):
                followed = list(follow(problem, one.team))
                assert followed, f"{one.name}: nothing to be done is said: {problem}"
                done[one.name] += followed
            self.write(left)
        raise AssertionError(f"still refused: {[(one.name, *await self.problems([one])) for one in left]}")

    async def at(self, moving: Sequence[Moving], phase: str, weight: int) -> list[str]:
        """Move all of them to a weight; return what is not as it has to be at the gateway then."""
        revision = ""

        async def move(one: Moving) -> None:
            nonlocal revision
            plan = one.plan(phase, weight)
            one.traffic = one.traffic or RecordedTraffic(self.cluster)
            await one.traffic.set(plan, weight)
            state = await one.traffic.get(plan, weight)
            assert (state.weight, state.current) == (weight, True), (one.name, state)
            revision = state.revision

        await asyncio.gather(*map(move, moving))
        hosts = [host for one in moving for host in one.hosts]
        tables = self.until(lambda tables: stamped(tables, hosts, revision))
        return [text for one in moving for host in one.hosts for text in one.otherwise(tables[host], weight)]

    async def tried(self, moving: Sequence[Moving]) -> list[str]:
        """Give probes alone a route; return what is not as it has to be at the gateway then, for users and for probes."""
        trial = Trial(1)

        async def begin(one: Moving) -> None:
            one.traffic = one.traffic or RecordedTraffic(self.cluster)
            plan = one.plan()
            await one.traffic.try_out(plan, Try(trial, (await one.traffic.get(plan, trial)).version))

        await asyncio.gather(*map(begin, moving))
        hosts = [host for one in moving for host in one.hosts]
        tables = self.until(
            lambda tables: all(
                any(revision_of(route) == trial.revision for route in tables.get(host, ())) for host in hosts
            )
        )
        return [
            f"{one.name} ({one.ownership}), in the trial: the users' routes have changed"
            for one in moving
            for host in one.hosts
            if [route for route in tables[host] if not is_probe(route)] != one.before
        ]

    async def give_back(self, moving: Sequence[Moving]) -> None:
        """End all plans with their traffic on Heroku, and have the teams take their lines out again."""

        async def end(one: Moving) -> None:
            assert one.traffic is not None
            await one.traffic.finalize(one.plan("Soaking", 100), OnDelete.HEROKU)

        await asyncio.gather(*map(end, moving))

    async def read(self, one: Moving) -> Json:
        """Return the team's VirtualService as it is."""
        return await self.cluster.get(VIRTUAL_SERVICES, one.namespace, one.team.route["metadata"]["name"])

    def until(self, ready: Callable[[dict[str, Routes]], bool]) -> dict[str, Routes]:
        """Return the gateway's route tables once they are as they have to be. Raises AssertionError."""
        end = time.monotonic() + PUSHED
        while not ready(tables := route_tables(self.stack)):
            assert time.monotonic() < end, "the gateway does not get what was written"
            time.sleep(0.1)
        return tables
