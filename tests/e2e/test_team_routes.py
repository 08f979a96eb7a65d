"""VirtualServices as teams have them, at a real gateway: exact shares at each weight, and exactly back."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.corpus import load

from cutover.adapters.kube.client import Cluster
from cutover.api.v1alpha1 import Ownership
from sandbox.environment import Environment
from sandbox.manifests import OPERATOR_ACCOUNT, OPERATOR_NAMESPACE, Json

from .playing import scenario
from .route_tables import stamped
from .takeovers import COURSE, Moving, Takeovers, of_corpus

CORPUS: list[Json] = load(Path(__file__).parents[1] / "corpus" / "team_routes.yaml")


def cases() -> list[Moving]:
    """Return each case for Adopt and, where it has lines for it, once more for Delegate; and wildcards for Generate."""
    adopted = [of_corpus(case, number) for number, case in enumerate(CORPUS)]
    delegated = [of_corpus(case, 100 + number, "Delegate") for number, case in enumerate(CORPUS) if "lines" in case]
    beside = {"hosts": ["beside.made.example.com"], "http": [{"route": [{"destination": {"host": "pages"}}]}]}
    made = of_corpus({"case": "wildcards of a plan's own", "spec": beside}, 200)
    made.team.istio = {"hosts": ["*.made.example.com", "made.example.com"], "gateways": ["istio-ingress/public"]}
    return [*adopted, *delegated, made]


@scenario("corpus", minutes=0.75)
def test_a_teams_routes_are_moved_and_given_back(environment: Environment) -> None:
    """What is refused is first made as the message says, word by word, until it is accepted."""

    async def play() -> None:
        account = environment.stack.service_account_kubeconfig(OPERATOR_NAMESPACE, OPERATOR_ACCOUNT)
        cluster = await Cluster.connect(account)
        try:
            await moved_and_given_back(Takeovers(environment.stack, cluster))
        finally:
            await cluster.close()

    asyncio.run(play())


async def moved_and_given_back(takeovers: Takeovers) -> None:
    everybody = cases()
    takeovers.write(everybody)
    refused = {
        one.name for one, problem in zip(everybody, await takeovers.problems(everybody), strict=True) if problem
    }
    assert refused == {str(case["case"]) for case in CORPUS if "says" in case or "lines" in case}
    # A root serves until its lines are there, so the table before them is the one to compare with.
    await takeovers.follow([one for one in everybody if one.team.istio.get("ownership") == "Adopt"])
    served = [host for one in everybody if one.ownership is not Ownership.GENERATE for host in one.hosts]
    tables = takeovers.until(lambda tables: all(tables.get(host) for host in served))
    for one in everybody:
        one.before = tables.get(one.hosts[0], [])
    await takeovers.follow(everybody)
    adopted = [one for one in everybody if one.ownership is Ownership.ADOPT]
    given = {one.namespace: await takeovers.read(one) for one in adopted}
    assert len(adopted) >= 20
    assert await takeovers.tried(everybody) == []
    for phase, weight in COURSE:
        assert await takeovers.at(everybody, phase, weight) == []
    await takeovers.give_back(everybody)
    for one in adopted:
        back = await takeovers.read(one)
        assert back["spec"] == given[one.namespace]["spec"], one.name
        assert not {"labels", "annotations"} & back["metadata"].keys(), one.name
    gone = [host for one in adopted for host in one.hosts]
    tables = takeovers.until(lambda tables: not any(stamped(tables, [host], "a1-w100") for host in gone))
    assert {one.name for one in adopted if tables[one.hosts[0]] != one.before} == set()
