"""Plans on the real API server as kubectl and Flux' health checks see them: kubectl wait, and CEL."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kit.builders import plan_body_of
from tests.kit.waiting import until
from tests.kit.world import DEAD, World, plan_spec

from cutover.adapters.kube.client import Cluster
from cutover.adapters.kube.plans import KubernetesPlans
from cutover.api.v1alpha1 import Phase
from devstack.stack import Stack
from sandbox.operator_process import OperatorProcess

ROOT = Path(__file__).parents[2]
PLANS = "/apis/cutover.dev/v1alpha1/namespaces/{}/migrationplans"
EXAMPLES = [*(ROOT / "examples").glob("*.yaml"), *(ROOT / "examples" / "flux" / "pdf-migration").glob("*.yaml")]

Json = dict[str, Any]


class Waiting:
    """A ``kubectl wait`` that runs."""

    def __init__(self, kubectl: Any, condition: str) -> None:
        command = [str(kubectl.api.kubectl), "--kubeconfig", str(kubectl.api.kubeconfig), "-n", kubectl.namespace]
        self.process = subprocess.Popen(
            [*command, "wait", "mplan/pdf", f"--for={condition}", "--timeout=60s"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def waits(self) -> bool:
        """Whether it still waits after a moment in which it could have seen what there is."""
        time.sleep(1.0)
        return self.process.poll() is None

    def met(self) -> None:
        """Let it come to its end, which is a good one."""
        said, _ = self.process.communicate(timeout=30)
        assert (self.process.returncode, "condition met" in said) == (0, True), said


# --------------------------------------------------------------------------------------------------------- kubectl wait


async def test_kubectl_wait_follows_a_cutover(cluster: Cluster, kubectl: Any, namespace: str) -> None:
    """The statuses are the core's own, as they come in a cutover and a rollback, written by the operator's adapter."""
    kubectl("apply", "-f", "-", stdin=json.dumps(plan_body_of(namespace)))
    plans, w = KubernetesPlans(cluster), World(spec=plan_spec())

    async def store() -> None:
        plan, version = await plans.read(namespace, "pdf")
        await plans.write_status(plan, w.stored, version)

    ready, weight = Waiting(kubectl, "condition=Ready"), Waiting(kubectl, "jsonpath={.status.weight}=25")
    back, done = Waiting(kubectl, "condition=RolledBack"), Waiting(kubectl, "condition=Completed")
    assert ready.waits, "nobody has looked at it"
    w.until_phase(Phase.PREFLIGHT)
    await store()
    assert ready.waits
    w.until_phase(Phase.BASELINE)
    await store()
    ready.met()
    assert weight.waits
    w.until_judging(25)
    await store()
    weight.met()
    # Whoever waits for the pace waits until then, and not for ever where it comes otherwise.
    w.eks = DEAD
    w.until_phase(Phase.ROLLED_BACK)
    assert back.waits
    await store()
    back.met()
    assert done.waits
    done.process.kill()
    done.process.wait()
    Waiting(kubectl, "jsonpath={.status.phase}=RolledBack").met()
    Waiting(kubectl, "condition=Reconciling=False").met()


async def test_kubectl_wait_does_not_believe_conditions_of_an_older_spec(
    cluster: Cluster, kubectl: Any, namespace: str
) -> None:
    kubectl("apply", "-f", "-", stdin=json.dumps(plan_body_of(namespace)))
    plans, w = KubernetesPlans(cluster), World(spec=plan_spec()).until_judging(10)
    plan, version = await plans.read(namespace, "pdf")
    await plans.write_status(plan, w.stored, version)
    Waiting(kubectl, "condition=Ready").met()
    kubectl("patch", "mplan", "pdf", "--type=merge", "--patch", '{"spec": {"soak": "2h"}}')
    again = Waiting(kubectl, "condition=Ready")
    assert again.waits, "that was about the spec before"
    w.edit(soak="2h")
    w.reconcile()
    plan, version = await plans.read(namespace, "pdf")
    await plans.write_status(plan, w.stored, version)
    again.met()


@pytest.fixture
def operator(stack: Stack, operator_kubeconfig: Path, namespace: str) -> Iterator[OperatorProcess]:
    """The operator as a process, for one namespace."""
    settings = {
        "CUTOVER_KUBECONFIG": str(operator_kubeconfig),
        "CUTOVER_PROMETHEUS_URL": "http://127.0.0.1:9",
        "CUTOVER_NAMESPACES": namespace,
    }
    process = OperatorProcess(stack, f"operator-{namespace}", lambda: settings)
    process.start()
    yield process
    process.stop()


@pytest.mark.usefixtures("istio_crds", "operator")
def test_kubectl_wait_with_the_operator_itself(kubectl: Any, namespace: str) -> None:
    """A plan that must not begin yet is ready, one whose target is not there is on its way, and one in error stalls."""
    kubectl("apply", "-f", "-", stdin=json.dumps(plan_body_of(namespace, suspend=True)))
    Waiting(kubectl, "condition=Ready").met()
    kubectl("apply", "-f", "-", stdin=json.dumps(plan_body_of(namespace, suspend=False)))
    Waiting(kubectl, "condition=Reconciling").met()
    ready = Waiting(kubectl, "condition=Ready")
    assert ready.waits, "there is no Service and no Deployment"
    kubectl("apply", "-f", "-", stdin=json.dumps(plan_body_of(namespace, schedule={"timeZone": "Europe/Atlantis"})))
    Waiting(kubectl, "condition=Stalled").met()
    assert ready.waits
    ready.process.kill()
    ready.process.wait()
    kubectl("delete", "mplan", "pdf", "--wait=false")
    kubectl("wait", "mplan/pdf", "--for=delete", "--timeout=30s")


# ------------------------------------------------------------------------------------------------------------- examples


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_pass_the_api_server(kubectl: Any, path: Path) -> None:
    """Field by field: what the CRD does not have is refused."""
    text = path.read_text(encoding="utf-8").replace("namespace: documents", f"namespace: {kubectl.namespace}")
    said = kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text)
    assert said.count("migrationplan.cutover.dev/pdf created (server dry run)") == 1


def expressions() -> dict[str, str]:
    """Return the health check of docs/gitops.md that also fails for a rollback."""
    page = (ROOT / "docs" / "gitops.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```yml\n(healthCheckExprs:.*?)```", page, re.DOTALL)
    (check,) = yaml.safe_load(text)["healthCheckExprs"]
    assert (check.pop("apiVersion"), check.pop("kind")) == ("cutover.dev/v1alpha1", "MigrationPlan")
    return {name: " ".join(check[name].split()) for name in ("inProgress", "failed", "current")}


class Evaluator:
    """Evaluates CEL over a plan in the API server itself: a policy that refuses each status and says what it found."""

    def __init__(self, api: Any, namespace: str) -> None:
        self.api, self.path = api, PLANS.format(namespace)
        # What Flux has at the top is in ``object`` here.
        found = [re.sub(r"\b(?<![.'])(metadata|status)\.", r"object.\1.", text) for text in expressions().values()]
        # In Flux' order: what comes first is not asked of a status that it has nothing to say about.
        says = "({}) ? 'InProgress' : ({}) ? 'Failed' : ({}) ? 'Current' : 'InProgress'".format(*found)
        self.policy = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
        rule = {"apiGroups": ["cutover.dev"], "apiVersions": ["*"], "operations": ["UPDATE"]}
        selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
        spec = {
            "matchConstraints": {
                "resourceRules": [{**rule, "resources": ["migrationplans/status"]}],
                "namespaceSelector": selector,
            },
            "validations": [{"expression": "false", "messageExpression": f"'found: ' + ({says})"}],
        }
        status, answer = api.call("POST", self.policy, {"metadata": {"name": namespace}, "spec": spec})
        assert status == 201, answer
        binding = {"policyName": namespace, "validationActions": ["Deny"]}
        status, answer = api.call(
            "POST", f"{self.policy[:-3]}ybindings", {"metadata": {"name": namespace}, "spec": binding}
        )
        assert status == 201, answer

    def __call__(self, plan: Json, status: Json) -> str:
        """Return what Flux makes of a plan with this status: the first of its expressions that is true."""
        body = {**plan, "status": status}
        code, answer = self.api.call("PUT", f"{self.path}/{plan['metadata']['name']}/status", body, dryRun="All")
        if code == 200:
            return "not in force yet"
        found = re.search(r"found: (\w+)", answer["message"])
        assert found is not None, answer["message"]
        return found[1]


def test_the_health_check_that_fails_for_a_rollback(api: Any, kubectl: Any, namespace: str) -> None:
    """Evaluated by the API server's own CEL, in each state that a cutover and a rollback go through."""
    kubectl("apply", "-f", "-", stdin=json.dumps(plan_body_of(namespace)))
    _, plan = api.call("GET", PLANS.format(namespace) + "/pdf")
    evaluate = Evaluator(api, namespace)
    until("the policy is in force", lambda: evaluate(plan, plan["status"]) != "not in force yet")
    w = World(spec=plan_spec())
    seen = {"unseen": evaluate(plan, {"observedGeneration": -1})}
    for phase in (Phase.PREFLIGHT, Phase.BASELINE, Phase.SHIFTING):
        seen[phase] = evaluate(plan, w.until_phase(phase).stored.to_wire())
    w.until_judging(25)
    stored = w.stored.to_wire()
    seen["an older spec"] = evaluate(plan, {**stored, "observedGeneration": 0})
    w.eks = DEAD
    for phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK):
        seen[phase] = evaluate(plan, w.until_phase(phase).stored.to_wire())
    w.edit(schedule={"timeZone": "Europe/Atlantis"})
    stalled = w.until_reason("InvalidSpec").stored.to_wire()
    seen["stalled"] = evaluate(plan, {**stalled, "observedGeneration": 1})
    assert seen == {
        "unseen": "InProgress",
        Phase.PREFLIGHT: "InProgress",
        Phase.BASELINE: "Current",
        Phase.SHIFTING: "Current",
        "an older spec": "InProgress",
        Phase.ROLLING_BACK: "InProgress",
        Phase.ROLLED_BACK: "Failed",
        "stalled": "Failed",
    }
