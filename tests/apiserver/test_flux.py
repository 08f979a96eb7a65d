"""Flux' own kustomize-controller applies plans on the real API server, and waits for them as docs/gitops.md says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from tests.kit import flux_examples
from tests.kit.builders import plan_body_of
from tests.kit.states import HOLD_CASES, PHASE_CASES
from tests.kit.waiting import until
from tests.kit.world import World

from cutover.domain.holds import HoldReason
from devstack.stack import Stack
from sandbox.flux import NAMESPACE, Flux
from sandbox.manifests import Json

PLANS = "/apis/cutover.dev/v1alpha1/namespaces/{}/migrationplans"
DISABLED = "kustomize.toolkit.fluxcd.io/reconcile"


@pytest.fixture(scope="module")
def flux(stack: Stack, api: Any) -> Iterator[Flux]:
    with Flux(stack) as running:
        yield running


# ------------------------------------------------------------------------------------------------------------- examples

OF_FLUX = [one for one in flux_examples.documents() if ".toolkit.fluxcd.io/" in one["apiVersion"]]


@pytest.mark.usefixtures("flux")
@pytest.mark.parametrize("one", OF_FLUX, ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_examples_fit_the_schemas_of_flux(kubectl: Any, one: Json) -> None:
    """Field by field, by CRDs that are made of the types of Flux' APIs: HelmRelease, Kustomization and what they lean on."""
    one["metadata"]["namespace"] = kubectl.namespace
    said = kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=json.dumps(one))
    assert "created (server dry run)" in said
    one["spec"]["intervall"] = "1m"
    said = kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=json.dumps(one), check=False)
    assert 'unknown field "spec.intervall"' in said


# ---------------------------------------------------------------------------------------------------------- health checks

#: Each phase, and a hold for each row of the table in docs/gitops.md; what Flux makes of it.
EXPECTED = {
    **{f"phase {name}": (case.make, case.kstatus) for name, case in PHASE_CASES.items()},
    **{
        f"hold {reason}": (lambda reason=reason: HOLD_CASES[reason].make().until_reason(reason), answer)
        for reason, answer in {
            HoldReason.PREFLIGHT_FAILED: "InProgress",
            HoldReason.SUSPENDED: "Current",
            HoldReason.CEILING: "Current",
            HoldReason.NO_DATA: "Current",
            HoldReason.DRIFT_DETECTED: "Current",
            HoldReason.BREACH: "Current",
            HoldReason.PROMETHEUS_UNAVAILABLE: "Current",
            HoldReason.SHARE_NOT_OBSERVED: "InProgress",
            HoldReason.INVALID_SPEC: "Failed",
        }.items()
    },
    "nobody has seen it": (None, "InProgress"),
}
#: What is in progress is given up after this, which is the least that the controller takes.
TIMEOUT_SECONDS = 30


def status_of(world: World) -> Json:
    """Return the status as it is of the first generation, which is all that the API server has seen."""
    status = world.stored.to_wire()
    told = [{**condition, "observedGeneration": 1} for condition in status["conditions"]]
    return {**status, "observedGeneration": 1, "conditions": told}


def test_the_health_check_says_what_the_docs_say(api: Any, flux: Flux, namespace: str) -> None:
    """All at once, as most of it is waiting; each plan with a Kustomization of its own, as the example has it."""
    names = {case: f"case-{number}" for number, case in enumerate(EXPECTED)}
    statuses = {case: status_of(make()) for case, (make, _) in EXPECTED.items() if make is not None}
    plans = {f"{name}/plan.yaml": yaml.safe_dump(plan_body_of(namespace, name)) for name in names.values()}
    revision = flux.commit(plans)
    flux.apply(*(flux_examples.migration(name, timeout=f"{TIMEOUT_SECONDS}s") for name in names.values()))
    for case, status in statuses.items():
        path = f"{PLANS.format(namespace)}/{names[case]}"
        until(f"{case} is applied", lambda path=path: api.call("GET", path)[0] == 200)  # type: ignore[misc]
        _, plan = api.call("GET", path)
        code, answer = api.call("PUT", f"{path}/status", {**plan, "status": status})
        assert code == 200, answer

    def settled() -> bool:
        return all(flux.ready(name)[0] in ("True", "False") for name in names.values())

    until("Flux has made up its mind", settled)
    found = {case: verdict(flux, name, revision) for case, name in names.items()}
    assert found == {case: answer for case, (_, answer) in EXPECTED.items()}


def verdict(flux: Flux, name: str, revision: str) -> str:
    """Return what Flux made of a plan, by the Ready condition of its Kustomization."""
    status, reason, message = flux.ready(name)
    if status == "True":
        assert flux.applied(name) == revision
        return "Current"
    assert (reason, flux.applied(name)) == ("HealthCheckFailed", ""), message
    found = re.search(r"status: '(\w+)'", message)
    assert found is not None, message
    return found[1]


# ------------------------------------------------------------------------------------------------- what Flux puts back


def test_edits_by_hand_are_undone_and_other_managers_are_left(
    api: Any, kubectl: Any, flux: Flux, namespace: str
) -> None:
    name = f"drift-{namespace}"
    flux.commit({f"{name}/plan.yaml": yaml.safe_dump(plan_body_of(namespace, ceiling=10, suspend=True))})
    flux.apply(flux_examples.migration(name, wait=False))
    until("it is applied", lambda: flux.ready(name)[0] == "True")

    def read() -> Json:
        found: Json = api.call("GET", f"{PLANS.format(namespace)}/pdf")[1]
        return found

    # The operator's own writes: a finalizer, and the status.
    kubectl("patch", "mplan", "pdf", "--type=merge", "--field-manager=cutover", "--patch", FINALIZER)
    _, answer = api.call("PUT", f"{PLANS.format(namespace)}/pdf/status", {**read(), "status": {"weight": 10}})
    assert answer["status"]["weight"] == 10
    kubectl("annotate", "mplan", "pdf", "cutover.dev/approve=a1-w25")
    kubectl("annotate", "mplan", "pdf", "--field-manager=approval", "cutover.dev/skip-hold=a1-w25/Undecided")
    kubectl("patch", "mplan", "pdf", "--type=merge", "--patch", '{"spec": {"ceiling": 100}}')
    flux.reconcile(name)
    found = read()
    assert found["metadata"]["annotations"] == {"cutover.dev/skip-hold": "a1-w25/Undecided"}
    assert found["spec"]["ceiling"] == 10, "Git is what counts"
    assert (found["metadata"]["finalizers"], found["status"]["weight"]) == (["cutover.dev/traffic"], 10)

    # `flux suspend kustomization`: from then on nobody puts anything back, until it is resumed.
    kubectl("-n", NAMESPACE, "patch", "kustomization", name, "--type=merge", "--patch", '{"spec": {"suspend": true}}')
    kubectl("patch", "mplan", "pdf", "--type=merge", "--patch", '{"spec": {"ceiling": 50}}')
    flux.commit({f"{name}/plan.yaml": yaml.safe_dump(plan_body_of(namespace, ceiling=25, suspend=True))})
    kubectl("-n", NAMESPACE, "annotate", "kustomization", name, "reconcile.fluxcd.io/requestedAt=now", "--overwrite")
    other = f"other-{namespace}"
    flux.apply(flux_examples.migration(other, path=f"./{name}", wait=False, prune=False))
    until("another one of the same commit is done", lambda: flux.ready(other)[0] == "True")
    assert read()["spec"]["ceiling"] == 25, "the other one applied it"
    assert flux.applied(name) != flux.applied(other), "and the suspended one did not"
    kubectl("patch", "mplan", "pdf", "--type=merge", "--patch", '{"metadata": {"finalizers": null}}')


FINALIZER = '{"metadata": {"finalizers": ["cutover.dev/traffic"]}}'


@pytest.mark.usefixtures("istio_crds")
def test_a_route_in_git_is_left_alone_from_its_mark_on(api: Any, flux: Flux, namespace: str) -> None:
    """A team's VirtualService in the same folder: Flux puts weights back until the takeover has marked it, and then no more."""
    name = f"route-{namespace}"
    route: Json = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "pdf", "namespace": namespace},
        "spec": {"hosts": ["pdf.example.com"], "http": [{"route": legs(0)}]},
    }
    flux.commit({f"{name}/route.yaml": yaml.safe_dump(route)})
    flux.apply(flux_examples.migration(name, wait=False))
    until("it is applied", lambda: flux.ready(name)[0] == "True")

    path = f"/apis/networking.istio.io/v1/namespaces/{namespace}/virtualservices/pdf"

    def written(weight: int, **annotations: str) -> None:
        _, live = api.call("GET", path)
        live["metadata"].setdefault("annotations", {}).update(annotations)
        live["spec"]["http"][0]["route"] = legs(weight)
        code, answer = api.call("PUT", path, live, fieldManager="cutover")
        assert code == 200, answer

    def weight() -> int:
        return int(api.call("GET", path)[1]["spec"]["http"][0]["route"][1]["weight"])

    written(10)
    flux.reconcile(name)
    assert weight() == 0, "the reason for preflight's check route-writers"
    written(10, **{DISABLED: "disabled"})
    flux.reconcile(name)
    assert weight() == 10
    flux.commit({f"{name}/route.yaml": None, f"{name}/empty.yaml": "# no route any more\n"})
    until("the commit is applied", lambda: flux.applied(name) == flux.attempted(name) == flux.head)
    assert weight() == 10, "nor is it pruned"


def legs(weight: int) -> list[Json]:
    hosts = {"heroku": 100 - weight, "eks": weight}
    return [{"destination": {"host": f"{host}.example.com"}, "weight": share} for host, share in hosts.items()]
