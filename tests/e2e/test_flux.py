"""A plan that lives in Git, applied by Flux' own controller while users come."""

from __future__ import annotations

from typing import Any

import yaml
from tests.kit import flux_examples

from sandbox import manifests
from sandbox.environment import Environment
from sandbox.flux import Flux
from sandbox.manifests import Json

from .playing import RATE, decisions, path, scenario, set_rate

SERVICE, FILE = "git", "git/plan.yaml"
#: Something that stays in the folder when the plan goes: Flux takes an empty one for a mistake.
NOTE = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "git-note", "namespace": manifests.NAMESPACE},
    "data": {"team": "documents"},
}


def in_git(**spec: Any) -> dict[str, str | None]:
    return {FILE: yaml.safe_dump(manifests.plan(SERVICE, **spec))}


def managers(live: Json) -> set[str]:
    return {entry["manager"] for entry in live["metadata"]["managedFields"]}


@scenario(SERVICE, minutes=4)
def test_a_plan_in_git(environment: Environment) -> None:
    """From the first commit to 10 %, up and down by commits, and out of Git again."""
    with Flux(environment.stack) as flux:
        set_rate(environment, SERVICE, RATE)
        first = flux.commit({**in_git(ceiling=10), "git/note.yaml": yaml.safe_dump(NOTE)})
        flux.apply(flux_examples.migration(SERVICE))
        environment.until("Flux is done", lambda: flux.applied(SERVICE) == first, 120)
        begun = environment.status(SERVICE)
        assert begun["phase"] in ("Baseline", "Shifting"), "from the takeover on, and not after the migration"
        environment.until_status(SERVICE, 180, reason="Ceiling", weight=10)
        _edits_are_undone(environment, flux)

        flux.commit(in_git(ceiling=25))
        environment.until_status(SERVICE, 180, weight=25)
        _a_commit_in_mid_step(environment, flux)

        # A revert of the pull request that raised the ceiling.
        reverted = flux.commit(in_git(ceiling=10))
        environment.until_status(SERVICE, 60, weight=10)
        environment.until("the gateway's route follows", lambda: environment.routed_weight(SERVICE) == 10, 30)
        environment.until("Flux is done", lambda: flux.applied(SERVICE) == reverted, 60)
        status = environment.status(SERVICE)
        (lowered,) = decisions(status, "Lower")
        assert (lowered["fromWeight"], lowered["toWeight"], path(status)) == (25, 10, [10, 25])

        _pruned(environment, flux)


def _edits_are_undone(environment: Environment, flux: Flux) -> None:
    route = environment.virtual_service(SERVICE)
    before = environment.plan(SERVICE)
    environment.patch(SERVICE, {"spec": {"soak": "3h"}})
    flux.reconcile(SERVICE)
    after = environment.plan(SERVICE)
    assert after["spec"] == before["spec"], "an edit by hand is undone"
    # What is the operator's stays: its finalizer, its status, and the route, which nobody but it has ever written.
    assert after["metadata"]["finalizers"] == before["metadata"]["finalizers"] != []
    assert after["status"]["weight"] == 10
    found = environment.virtual_service(SERVICE)
    assert (found["metadata"]["resourceVersion"], managers(found)) == (
        route["metadata"]["resourceVersion"],
        {"cutover"},
    )


def _a_commit_in_mid_step(environment: Environment, flux: Flux) -> None:
    environment.until("the step is judged", lambda: "observedAt" in environment.status(SERVICE)["checkpoint"], 60)
    began = environment.status(SERVICE)["checkpoint"]["weightSince"]
    revision = flux.commit(in_git(ceiling=25, soak="45s"))
    environment.until("Flux is done", lambda: flux.applied(SERVICE) == revision, 60)
    plan = environment.plan(SERVICE)
    assert (plan["spec"]["soak"], plan["status"]["observedGeneration"]) == ("45s", plan["metadata"]["generation"])
    assert (plan["status"]["weight"], plan["status"]["checkpoint"]["weightSince"]) == (25, began), "the step goes on"


def _pruned(environment: Environment, flux: Flux) -> None:
    """The finalizer puts the traffic to rest first; Flux does not wait for that."""
    removed = flux.commit({FILE: None})
    environment.until("Flux is done", lambda: flux.applied(SERVICE) == removed, 60)

    def gone() -> bool:
        plans = environment.api.call("/apis/cutover.dev/v1alpha1/migrationplans")["items"]
        return SERVICE not in [plan["metadata"]["name"] for plan in plans]

    environment.until("the plan is gone", gone, 30)
    assert environment.routed_weight(SERVICE) == 0, "it was not Completed, so it rests on Heroku"
    note = environment.api.call(f"/api/v1/namespaces/{manifests.NAMESPACE}/configmaps/git-note")
    assert note["data"] == NOTE["data"]
