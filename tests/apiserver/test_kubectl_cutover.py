"""kubectl-cutover at the real API server: with the rights of each of the chart's roles, and with what can go wrong.

Vic looks on, eve edits, jane approves, and nobody has no role. The policy for approvals is in force.
"""

from __future__ import annotations

import itertools
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kit import builders
from tests.kit.chart import Json, rendered
from tests.kit.waiting import until
from typer.testing import CliRunner, Result

from cutover.api.v1alpha1 import AuditStatus, CheckResult, CheckStatus, LedgerEntry, MigrationPlanStatus, Phase
from cutover.cli import cluster as cli_cluster
from cutover.cli import get as cli_get
from cutover.cli.app import app
from cutover.cli.cluster import FIELD_MANAGER, Cluster, Target
from cutover.cli.exits import CliError, Exit
from cutover.cli.live import Feed
from cutover.domain.commands.annotations import (
    APPROVE_ANNOTATION,
    AUDIT_ANNOTATION,
    ROLLBACK_ANNOTATION,
    audit_request,
    read,
)
from cutover.domain.plan import Plan
from cutover.domain.resources import PLANS
from devstack.stack import Stack

from .conftest import Api

RBAC = "rbac.authorization.k8s.io"
NAMESPACE = "kubectl-cutover"
OBJECTS = f"/apis/cutover.dev/v1alpha1/namespaces/{NAMESPACE}/migrationplans"
JANE = "jane@example.com"
PEOPLE = {"view": "vic", "edit": "eve", "approve": JANE}
STEPS = [{"weight": 10, "hold": "10s"}, {"weight": 25, "approval": "Manual"}, {"weight": 100}]
HELD = MigrationPlanStatus(
    observed_generation=1,
    phase=Phase.SHIFTING,
    attempt=1,
    step="1/3",
    weight=10,
    eks="10",
    reason="AwaitingApproval",
    message="ready for 25 %; annotate the plan cutover.dev/approve=a1-w25",
    held={"reason": "AwaitingApproval", "since": datetime(2027, 1, 11, 10, tzinfo=UTC)},  # type: ignore[arg-type]
)


class Program:
    """The program, as somebody runs it in the namespace."""

    def __init__(self, api: Api, stack: Stack) -> None:
        self.api, self.stack = api, stack

    def __call__(self, *arguments: str, user: str = "", stdin: str = "", namespace: str = NAMESPACE) -> Result:
        options = ["--kubeconfig", str(self.api.kubeconfig), "-n", namespace, *(["--as", user] if user else [])]
        return CliRunner().invoke(
            app, [*arguments, *options], input=stdin, env={"COLUMNS": "200"}, catch_exceptions=False
        )

    def plan(self, name: str = "pdf", **spec: Any) -> None:
        """Make a plan that the operator has brought to its second step."""
        self.api.client.delete(f"{OBJECTS}/{name}")
        until("the plan is gone", lambda: self.api.call("GET", f"{OBJECTS}/{name}")[0] == 404)
        body: Json = builders.plan_body(name, NAMESPACE, **{"steps": STEPS, **spec})
        assert self.api.call("POST", OBJECTS, body)[0] == 201
        self.status(name, HELD)

    def status(self, name: str, status: MigrationPlanStatus) -> None:
        """Write a status, as the operator does."""
        answer = self.api.client.patch(
            f"{OBJECTS}/{name}/status",
            json={"status": status.to_wire()},
            headers={"Content-Type": "application/merge-patch+json"},
        )
        assert answer.status_code == 200, answer.text

    def body(self, name: str = "pdf") -> Json:
        return self.api.call("GET", f"{OBJECTS}/{name}")[1]


@pytest.fixture(scope="module")
def program(api: Api, stack: Stack, istio_crds: None) -> Iterator[Program]:
    """The program, three people with their roles, and the policy for this namespace."""
    policy = rendered("approvals.yaml", approvals={"policy": True}, namespaces=[NAMESPACE])
    bindings = [
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": role, "namespace": NAMESPACE},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": f"cutover-{role}"},
            "subjects": [{"apiGroup": RBAC, "kind": "User", "name": name}],
        }
        for role, name in PEOPLE.items()
    ]
    stack.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}])
    stack.apply([*rendered("roles.yaml"), *bindings, *policy])
    program = Program(api, stack)
    program.plan()
    tries = itertools.count()
    cluster = Cluster.connect(Target(api.kubeconfig, namespace=NAMESPACE, user="eve"))

    def in_force() -> bool:
        # Another one each time: what is there already, taken before the policy was seen, is no change that it would judge.
        wrong = {"metadata": {"annotations": {ROLLBACK_ANNOTATION: f"a1 by somebody {next(tries)}"}}}
        try:
            cluster.patch(PLANS, NAMESPACE, "pdf", wrong)
        except Exception as error:  # noqa: BLE001 - whatever refuses it
            return "has to name" in str(error)
        return False

    until("the policy is in force", in_force)
    yield program
    stack.delete(reversed(policy))


@pytest.fixture
def run(program: Program) -> Program:
    """The program, and a plan that waits for an approval."""
    program.plan()
    return program


# ------------------------------------------------------------------------------------------------------------- rights


@pytest.mark.parametrize("user", PEOPLE.values())
def test_every_role_may_look(run: Program, user: str) -> None:
    for arguments in (
        ("get",),
        ("get", "pdf", "-o", "wide"),
        ("status", "pdf"),
        ("explain", "pdf"),
        ("history", "pdf"),
    ):
        done = run(*arguments, user=user)
        assert (done.exit_code, done.stderr) == (0, ""), arguments
    assert "held AwaitingApproval for" in run("status", "pdf", user=user).stdout
    assert json.loads(run("get", "pdf", "-o", "json", user=user).stdout)["metadata"]["name"] == "pdf"
    assert yaml.safe_load(run("get", "-o", "yaml", user=user).stdout)["kind"] == "List"
    assert run("get", "-o", "name", user=user).stdout == "migrationplan.cutover.dev/pdf\n"
    assert run("status", "pdf", "--exit-code", user=user).exit_code == Exit.FOUND


DECISIONS = [
    ("rollback", "pdf"),
    ("approve", "pdf"),
    ("skip", "pdf", "HoldTime"),
    ("suspend", "pdf"),
    ("ceiling", "pdf", "25"),
]


@pytest.mark.parametrize("arguments", DECISIONS)
def test_who_may_only_look_is_told_which_right_is_missing(run: Program, arguments: tuple[str, ...]) -> None:
    before = run.body()
    done = run(*arguments, "--yes", user="vic")
    assert done.exit_code == Exit.ERROR
    said = " ".join(done.stderr.split())
    assert "missing permission: vic needs verb patch on migrationplans" in said
    assert "cutover-view (look), cutover-edit (write plans, roll back) and cutover-approve (decide)" in said
    assert run.body() == before


def test_who_has_no_role_is_told(run: Program) -> None:
    for arguments in (("get",), ("status", "pdf"), ("watch",), ("rollback", "pdf", "--yes")):
        done = run(*arguments, user="nobody")
        assert done.exit_code == Exit.ERROR
        assert "missing permission: nobody needs verb" in " ".join(done.stderr.split())
        assert done.stdout == ""


def test_an_editor_rolls_back_and_edits_and_does_not_approve(run: Program) -> None:
    done = run("approve", "pdf", "--yes", user="eve")
    assert done.exit_code == Exit.ERROR
    assert (
        f"{APPROVE_ANNOTATION} needs the verb approve on migrationplans.cutover.dev, which eve does not have"
        in " ".join(done.stderr.split())
    )
    assert APPROVE_ANNOTATION not in run.body()["metadata"].get("annotations", {})
    assert run("ceiling", "pdf", "10", "--yes", "--timeout", "0s", user="eve").exit_code == 0
    assert run.body()["spec"]["ceiling"] == 10
    assert run("rollback", "pdf", "--yes", "--timeout", "0s", user="eve").exit_code == 0
    command = read(ROLLBACK_ANNOTATION, run.body()["metadata"]["annotations"][ROLLBACK_ANNOTATION])
    assert command is not None
    assert (command.attempt, command.name) == (1, "eve")


def test_an_approver_approves_in_their_own_name_and_edits_nothing(run: Program) -> None:
    assert run("approve", "pdf", "--yes", "--timeout", "0s", user=JANE).exit_code == 0
    body = run.body()
    command = read(APPROVE_ANNOTATION, body["metadata"]["annotations"][APPROVE_ANNOTATION])
    assert command is not None
    assert (command.attempt, command.weight, command.name) == (1, 25, JANE)
    assert command.at is not None
    # Flux would drop the annotation of a manager whose name begins with kubectl.
    assert Plan.from_object(body).writers[APPROVE_ANNOTATION].manager == FIELD_MANAGER
    done = run("suspend", "pdf", "--yes", user=JANE)
    assert done.exit_code == Exit.ERROR
    assert "a change of the spec needs the verb update on migrationplans" in " ".join(done.stderr.split())
    assert not run.body()["spec"].get("suspend")
    again = run("approve", "pdf", "--yes", user=JANE)
    assert again.exit_code == 0
    assert f"says so already, by {JANE} at 20" in again.stderr


# ------------------------------------------------------------------------------------------------------------ deciding


def test_it_asks_once_and_a_no_writes_nothing(run: Program) -> None:
    before = run.body()
    assert run("rollback", "pdf").exit_code == Exit.DECLINED
    assert "--yes does it without" in run("rollback", "pdf").stderr
    assert run.body() == before


def test_an_effect_that_does_not_come_is_told_and_the_word_stays(run: Program) -> None:
    done = run("rollback", "pdf", "--yes", "--timeout", "1s")
    assert done.exit_code == Exit.NOT_YET
    said = " ".join(done.stderr.split())
    assert "10 % of users' requests go back to Heroku, at once" in said
    assert "its effect was not seen within 1 s" in said
    assert "see whether an operator runs" in said
    assert ROLLBACK_ANNOTATION in run.body()["metadata"]["annotations"]


class Operator:
    """Answers a command with a status, as soon as it is written."""

    def __init__(self, run: Program, monkeypatch: pytest.MonkeyPatch, status: MigrationPlanStatus) -> None:
        patch = Cluster.patch

        def written(cluster: Cluster, *arguments: Any) -> Json:
            done = patch(cluster, *arguments)
            run.status("pdf", status)
            return done

        monkeypatch.setattr(Cluster, "patch", written)


def test_the_effect_is_told(run: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    Operator(run, monkeypatch, HELD.evolve(weight=25, step="2/3", message="10 % → 25 %: approved", held=None))
    done = run("approve", "pdf", "--yes", user=JANE)
    assert done.exit_code == Exit.DONE
    assert "Done: the step at 25 % has begun. Shifting: 10 % → 25 %: approved" in " ".join(done.stderr.split())


def test_a_refusal_of_the_operator_is_told(run: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = LedgerEntry(
        at=datetime(2027, 1, 11, 11, tzinfo=UTC),
        attempt=1,
        decision="Refuse",
        from_weight=10,
        to_weight=10,
        reason="Forward",
        message="Heroku answers: nothing is sent to EKS",
        subject="cutover.dev/forward=a1 by jane@example.com",
    )
    Operator(run, monkeypatch, HELD.evolve(ledger=(entry,)))
    done = run("forward", "pdf", "--yes", user=JANE)
    assert done.exit_code == Exit.REFUSED
    assert "The operator refuses it: Heroku answers: nothing is sent to EKS" in " ".join(done.stderr.split())


def test_git_gets_the_change_and_the_cluster_nothing(run: Program) -> None:
    before = run.body()
    for arguments in (("ceiling", "pdf", "25"), ("approve", "pdf"), ("rollback", "pdf"), ("suspend", "pdf")):
        done = run(*arguments, "--git", user="vic")
        assert done.exit_code == 0, done.stderr
        assert done.stdout.startswith(f"# MigrationPlan {NAMESPACE}/pdf, in its file in Git:")
    assert run("forward", "pdf", "--git", user="vic").exit_code == Exit.REFUSED
    assert run.body() == before


def test_who_applies_the_plan_is_said_before_an_edit(run: Program) -> None:
    labels = {
        "kustomize.toolkit.fluxcd.io/name": "pdf-migration",
        "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
    }
    Cluster.connect(Target(run.api.kubeconfig)).patch(PLANS, NAMESPACE, "pdf", {"metadata": {"labels": labels}})
    said = " ".join(run("suspend", "pdf").stderr.split())
    assert "Flux (Kustomization flux-system/pdf-migration) applies this plan from Git, and undoes an edit" in said


# -------------------------------------------------------------------------------------------------- what can go wrong


def test_a_plan_that_is_not_there(run: Program) -> None:
    done = run("status", "nosuch")
    assert done.exit_code == Exit.ERROR
    assert f"no plan nosuch in namespace {NAMESPACE}: there are pdf" in done.stderr
    assert "it has no plans; -n names another namespace" in " ".join(
        run("status", "x", namespace="default").stderr.split()
    )
    assert "-A looks in all namespaces" in run("get", namespace="default").stderr


def test_a_cluster_without_the_crds(run: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = replace(PLANS, group="nosuch.cutover.dev")
    monkeypatch.setattr(cli_cluster, "PLANS", unknown)
    monkeypatch.setattr(cli_get, "PLANS", unknown)
    done = run("get")
    assert done.exit_code == Exit.ERROR
    said = " ".join(done.stderr.split())
    assert "this cluster knows no MigrationPlans: is it the right --context? If it is, install the CRDs first" in said


def test_credentials_that_do_not_count(run: Program, tmp_path: Path) -> None:
    config = yaml.safe_load(run.api.kubeconfig.read_text(encoding="utf-8"))
    config["users"][0]["user"]["token"] = "wrong"
    (tmp_path / "config").write_text(yaml.safe_dump(config), encoding="utf-8")
    done = CliRunner().invoke(app, ["get", "--kubeconfig", str(tmp_path / "config")])
    assert done.exit_code == Exit.ERROR
    assert "does not accept your credentials: log in again" in " ".join(done.stderr.split())
    done = CliRunner().invoke(app, ["get", "--kubeconfig", str(tmp_path / "config"), "--context", "nosuch"])
    assert done.exit_code == Exit.ERROR
    assert "no cluster: " in done.stderr


def test_the_namespace_is_the_contexts(run: Program, tmp_path: Path) -> None:
    config = yaml.safe_load(run.api.kubeconfig.read_text(encoding="utf-8"))
    config["contexts"][0]["context"]["namespace"] = NAMESPACE
    (tmp_path / "config").write_text(yaml.safe_dump(config), encoding="utf-8")
    done = CliRunner().invoke(app, ["get"], env={"KUBECONFIG": str(tmp_path / "config")})
    assert "pdf" in done.stdout
    assert "NAMESPACE" not in done.stdout
    everywhere = CliRunner().invoke(app, ["get", "-A"], env={"KUBECONFIG": str(tmp_path / "config")})
    assert everywhere.stdout.startswith("NAMESPACE")


# ------------------------------------------------------------------------------------------------------------ following


def test_a_feed_follows_the_plans(run: Program) -> None:
    feed = Feed(Cluster.connect(Target(run.api.kubeconfig)), NAMESPACE, "pdf").start()
    assert feed.only()["status"]["weight"] == 10
    run.status("pdf", HELD.evolve(weight=25))
    until("the change is seen", lambda: feed.only()["status"]["weight"] == 25)
    run.plan("other")
    assert [body["metadata"]["name"] for body in feed.plans()] == ["pdf"]
    run.api.client.delete(f"{OBJECTS}/pdf")
    until("the plan is gone", lambda: not feed.plans())
    with pytest.raises(CliError, match="plan pdf is gone"):
        feed.only()
    run.api.client.delete(f"{OBJECTS}/other")
    assert feed.problem == ""


# --------------------------------------------------------------------------------------------- init, audit, the bundle

APP = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": NAMESPACE},
    "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "containers": [
                    {
                        "name": "app",
                        "image": "registry.example.com/web:1",
                        "env": [{"name": "DATABASE_URL", "value": "postgres://me:S3CRET@db/x"}],
                        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}},
                    }
                ]
            },
        },
    },
}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web-http", "namespace": NAMESPACE},
    "spec": {"selector": {"app": "web"}, "ports": [{"port": 8080, "name": "http"}]},
}
GATEWAY = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "Gateway",
    "metadata": {"name": "public", "namespace": NAMESPACE},
    "spec": {
        "selector": {"istio": "ingress"},
        "servers": [
            {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["web.kubectl-cutover.example.com"]}
        ],
    },
}
INIT = (
    "init",
    "web",
    "--app",
    "acme-web",
    "--hostname",
    "acme-web-1a2b3c.herokuapp.com",
    "--host",
    "web.kubectl-cutover.example.com",
)


def test_a_draft_is_made_of_what_is_there_and_the_api_server_takes_it(run: Program, tmp_path: Path) -> None:
    run.stack.apply([APP, SERVICE, GATEWAY])
    done = run(*INIT, "--rate", "40")
    assert done.exit_code == 0, done.stderr
    assert "has not judged" not in done.stderr
    plan = yaml.safe_load(done.stdout)
    assert plan["spec"]["eks"]["service"] == {"name": "web-http", "port": 8080}
    assert plan["spec"]["traffic"]["istio"]["gateways"] == [f"{NAMESPACE}/public"]
    assert plan["spec"]["traffic"]["probe"]["paths"] == ["/ready"]
    taken = run.stack.kubectl("apply", "--dry-run=server", "-f", "-", stdin=done.stdout)
    assert "migrationplan.cutover.dev/web created (server dry run)" in taken
    assert run.api.call("GET", f"{OBJECTS}/web")[0] == 404, "nothing is stored"
    # For Flux, once.
    fleet = run(*INIT, "--flux", str(tmp_path))
    assert fleet.exit_code == 0, fleet.stderr
    assert (
        yaml.safe_load((tmp_path / "web-migration" / "plan.yaml").read_text(encoding="utf-8"))["spec"]["ceiling"] == 10
    )
    assert (tmp_path / "clusters" / "web-migration.yaml").exists()
    assert "exists already; nothing was written" in " ".join(run(*INIT, "--flux", str(tmp_path)).stderr.split())
    # The draft can be audited before anybody applies it.
    (tmp_path / "plan.yaml").write_text(done.stdout, encoding="utf-8")
    audited = run("audit", "-f", str(tmp_path / "plan.yaml"), "--all")
    assert audited.exit_code == Exit.FOUND
    assert "workload" in audited.stdout
    assert "Failed" in audited.stdout


def test_a_draft_of_what_is_not_there(run: Program) -> None:
    done = run(*INIT, "--deployment", "nosuch")
    assert done.exit_code == Exit.ERROR
    assert f"namespace {NAMESPACE} has no Deployment nosuch" in done.stderr
    run.stack.apply([APP, SERVICE, GATEWAY])
    refused = run(*INIT, "--service", "web-http", "--port", "70000")
    assert refused.exit_code == Exit.ERROR
    assert "that makes no valid plan: spec.eks.service.port" in refused.stderr


def test_an_audit_with_few_rights_says_what_could_not_be_read(run: Program) -> None:
    done = run("audit", "pdf", "--cached", "-o", "json", user="vic")
    assert done.exit_code == 0, "what is unknown has not failed"
    found = {one["check"]: one for one in json.loads(done.stdout)["now"]}
    assert found["service"]["result"] == "Unknown"
    assert "vic needs verb get on services" in found["service"]["message"]
    mine = run("audit", "pdf", "--cached", "-o", "json")
    assert mine.exit_code == Exit.FOUND
    found = {one["check"]: one for one in json.loads(mine.stdout)["now"]}
    assert found["service"]["result"] == "Failed"
    assert "gate-queries" not in found


@contextmanager
def answering(run: Program, result: str, message: str = "") -> Iterator[None]:
    """Answer the next request for audits, as the operator does."""

    def answer() -> None:
        until(
            "the request is written",
            lambda: AUDIT_ANNOTATION in (run.body()["metadata"].get("annotations") or {}),
        )
        request = audit_request(run.body()["metadata"]["annotations"][AUDIT_ANNOTATION])
        asked = AuditStatus(request=request, asked_at=datetime.now(UTC))
        run.status("pdf", HELD.evolve(audit=asked))
        alike = CheckStatus(check="answers-alike", result=CheckResult(result), message=message)
        answered = asked.evolve(answered_at=datetime.now(UTC))
        run.status("pdf", HELD.evolve(audit=answered, preflight=(alike,)))

    operator = threading.Thread(target=answer)
    operator.start()
    yield
    operator.join()


@pytest.mark.parametrize("user", ["eve", JANE])
def test_who_may_write_has_the_operator_compare_both_legs(run: Program, user: str) -> None:
    with answering(run, "Warned", "/: EKS answers with HTTP 404 instead of HTTP 200"):
        done = run("diff", "pdf", user=user)
    assert (done.exit_code, done.stderr.count("Traceback")) == (Exit.FOUND, 0)
    assert "Both legs, asked by the operator now" in done.stdout
    assert "EKS answers with HTTP 404" in done.stdout
    body = run.body()
    assert body["metadata"]["annotations"][AUDIT_ANNOTATION].startswith(f"by {user} at 20")
    (entry,) = [one for one in body["metadata"]["managedFields"] if one["manager"] == FIELD_MANAGER]
    assert f"f:{AUDIT_ANNOTATION}" in json.dumps(entry)
    last = run("diff", "pdf", "--cached", "-o", "json", user="vic")
    assert last.exit_code == Exit.FOUND
    found = json.loads(last.stdout)
    assert found["checks"][0]["result"] == "Warned"
    assert found["audit"]["answeredAt"] >= found["audit"]["askedAt"]


def test_legs_that_answer_alike_and_an_audit_by_both(run: Program) -> None:
    with answering(run, "Passed"):
        assert run("diff", "pdf", user="eve").exit_code == Exit.DONE
    run.plan()
    with answering(run, "Passed"):
        done = run("audit", "pdf", "--all", user="eve")
    assert "Now, by the operator" in done.stdout
    assert "answers-alike" in done.stdout


def test_who_may_only_look_has_nobody_asked(run: Program) -> None:
    done = run("diff", "pdf", user="vic")
    assert done.exit_code == Exit.ERROR
    said = " ".join(done.stderr.split())
    assert "vic needs verb patch on migrationplans" in said
    assert "--cached shows what the operator saw last" in said
    assert AUDIT_ANNOTATION not in (run.body()["metadata"].get("annotations") or {})
    assert "the operator was not asked anew: " in " ".join(run("audit", "pdf", user="vic").stderr.split())


def test_without_an_operator_nobody_answers(run: Program) -> None:
    for command in ("diff", "audit"):
        done = run(command, "pdf", "--timeout", "1s", user="eve")
        assert done.exit_code == Exit.NOT_YET, done.stderr
        assert "the operator has not taken note within 1 s" in " ".join(done.stderr.split())
    assert run("diff", "pdf", "--timeout", "soon").exit_code == Exit.USAGE


def test_a_bundle_has_what_helps_and_nothing_secret(run: Program, tmp_path: Path) -> None:
    run.stack.apply([APP, SERVICE])
    run.plan("web", eks={"service": {"name": "web-http", "port": 8080}, "workloadRef": {"name": "web"}})
    file = tmp_path / "bundle.tar.gz"
    done = run("support-bundle", "web", "--file", str(file))
    assert done.exit_code == 0, done.stderr
    with tarfile.open(file) as archive:
        found = {one.name: archive.extractfile(one).read().decode() for one in archive}  # type: ignore[union-attr]
    assert {"plan.yaml", "events.yaml", "services.yaml", "deployments.yaml", "about.yaml"} <= found.keys()
    assert "S3CRET" not in "".join(found.values())
    assert "DATABASE_URL" in found["deployments.yaml"]
    few = run("support-bundle", "web", "--file", str(tmp_path / "few.tar.gz"), user="vic")
    assert few.exit_code == 0
    assert "not in it: deployments.yaml: " in few.stderr
    run.api.client.delete(f"{OBJECTS}/web")
