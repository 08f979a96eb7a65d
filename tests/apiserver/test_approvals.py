"""Who may command at the real API server: the chart's roles for people, and the policy that binds a name to who sends it.

Three people in one namespace: eve edits, jane approves, vic looks on. Git's account has nothing to prove.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.kit import builders
from tests.kit.chart import Json, rendered
from tests.kit.waiting import until

from cutover.domain.commands.annotations import ANNOTATIONS, read
from devstack.stack import Stack

from .conftest import Api

RBAC = "rbac.authorization.k8s.io"
NAMESPACE = "approvals"
PLANS = f"/apis/cutover.dev/v1alpha1/namespaces/{NAMESPACE}/migrationplans"
VALUES = {
    "cutover.dev/rollback": "a1",
    "cutover.dev/forward": "a1",
    "cutover.dev/approve": "a1-w25",
    "cutover.dev/skip-hold": "a1-w25/OutsideWindow",
    "cutover.dev/proceed": "a1-w25",
}
FLUX = "system:serviceaccount:flux-system:kustomize-controller"
#: Users whose names no command can have.
UNNAMEABLE = ("auth0|jane", "Ann at work")
PEOPLE = {
    "view": ["vic"],
    "edit": ["eve", FLUX],
    "approve": ["jane@example.com", *UNNAMEABLE, "arn:aws:sts::1:assumed-role/Admin/jane", "Jane by night"],
}
JANE = "jane@example.com"


class Person:
    """A user at the API server, by impersonation."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def patch(self, user: str, body: Json, *, keep: bool = False, status: bool = False) -> str:
        """Patch the plan; return why it was refused, ``""`` if it was not. Nothing is kept unless it is to be."""
        answer = self._api.client.patch(
            f"{PLANS}/pdf{'/status' if status else ''}",
            json=body,
            params={} if keep else {"dryRun": "All"},
            headers={"Content-Type": "application/merge-patch+json", "Impersonate-User": user},
        )
        message: str = "" if answer.status_code == 200 else answer.json()["message"]
        return message

    def annotate(self, user: str, annotations: dict[str, str | None], *, keep: bool = False) -> str:
        return self.patch(user, {"metadata": {"annotations": annotations}}, keep=keep)


def binding(role: str, people: list[str]) -> Json:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": role, "namespace": NAMESPACE},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": f"cutover-{role}"},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": name} for name in people],
    }


@pytest.fixture(scope="module")
def people(api: Api, stack: Stack) -> Iterator[Person]:
    """The people, their roles and a plan, with the policy in force."""
    policy = rendered("approvals.yaml", approvals={"policy": True})
    stack.apply(
        [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
            builders.plan_body("pdf", NAMESPACE),
            *rendered("roles.yaml"),
            *(binding(role, names) for role, names in PEOPLE.items()),
            *policy,
        ]
    )
    found = Person(api)

    def in_force() -> bool:
        return "has to name" in found.annotate("admin-of-all", {"cutover.dev/rollback": "a1 by somebody"})

    admin = {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "admin-of-all"}}
    subjects = [{"apiGroup": RBAC, "kind": "User", "name": "admin-of-all"}]
    reference = {"apiGroup": RBAC, "kind": "ClusterRole", "name": "cluster-admin"}
    stack.apply([{**admin, "roleRef": reference, "subjects": subjects}])
    until("the policy is in force", in_force)
    yield found
    stack.delete((*reversed(policy), admin))
    until("the policy is gone", lambda: not in_force())


def named(annotation: str, user: str) -> str:
    return f"{VALUES[annotation]} by {user}"


DECISIONS = [annotation for annotation in ANNOTATIONS if annotation != "cutover.dev/rollback"]


@pytest.mark.parametrize("annotation", DECISIONS)
def test_only_approvers_move_users_to_eks(people: Person, annotation: str) -> None:
    assert people.annotate(JANE, {annotation: named(annotation, JANE)}) == ""
    said = people.annotate("eve", {annotation: named(annotation, "eve")})
    assert f"{annotation} needs the verb approve on migrationplans.cutover.dev, which eve does not have" in said
    assert "cannot patch resource" in people.annotate("vic", {annotation: named(annotation, "vic")})


def test_whoever_may_write_the_plan_may_roll_back(people: Person) -> None:
    for user in ("eve", JANE):
        for value in ("a1", f"a1 by {user}"):
            assert people.annotate(user, {"cutover.dev/rollback": value}) == ""
    assert "cannot patch resource" in people.annotate("vic", {"cutover.dev/rollback": "a1"})


@pytest.mark.parametrize("annotation", ANNOTATIONS)
@pytest.mark.parametrize(
    "claim",
    [
        *(
            "by bob",
            "by bob at 2027-01-11T10:00:00Z",
            f"by bob by {JANE}",
            f"by {JANE} by bob",
            f"by {JANE}.",
            "by Jane",
        ),
        *(f"by {JANE} x", f" by {JANE}", f"by  {JANE}", f"by bob at 2027-01-11T10:00:00Z by {JANE}"),
    ],
)
def test_nobody_writes_in_anothers_name(people: Person, annotation: str, claim: str) -> None:
    """Whatever the operator would read as another name is refused; what it cannot read may pass, as it does nothing."""
    value = f"{VALUES[annotation]} {claim}"
    said = people.annotate(JANE, {annotation: value})
    command = read(annotation, value)
    if command is None:
        assert said == "" or "has to name who sends it" in said
    else:
        assert command.name not in ("", JANE)
        assert f'{annotation} has to name who sends it: write {annotation}="{VALUES[annotation]} by {JANE}"' in said


@pytest.mark.parametrize("user", PEOPLE["approve"])
def test_the_own_name_is_taken_whatever_it_looks_like(people: Person, user: str) -> None:
    for annotation in DECISIONS:
        plain, own = VALUES[annotation], named(annotation, user)
        if user in UNNAMEABLE:
            assert read(annotation, own) is None
            assert people.annotate(user, {annotation: plain}) == "", "it could not be named"
            assert "has to name" in people.annotate(user, {annotation: f"{plain} by jane"})
            continue
        command = read(annotation, own)
        assert command is not None
        assert command.name == user
        for value in (own, f"{own} at 2027-01-11T10:00:00Z", f" {own} "):
            assert people.annotate(user, {annotation: value}) == ""
        assert "has to name who sends it" in people.annotate(user, {annotation: plain})


def test_what_was_there_before_is_nobodys_claim(people: Person) -> None:
    """Another edit of the plan keeps a command; a changed one is its author's; and all may take one back."""
    approval = {"cutover.dev/approve": named("cutover.dev/approve", JANE)}
    assert people.annotate(JANE, dict(approval), keep=True) == ""
    try:
        assert people.annotate("eve", {"note": "x"}) == ""
        assert people.annotate("eve", {**approval, "note": "y"}) == ""
        assert "needs the verb approve" in people.annotate("eve", {"cutover.dev/approve": f"a1-w50 by {JANE}"})
        assert people.annotate("eve", {"cutover.dev/approve": None}) == ""
    finally:
        people.annotate(JANE, {"cutover.dev/approve": None}, keep=True)


def test_an_approver_decides_and_does_not_edit(people: Person) -> None:
    said = people.patch(JANE, {"spec": {"ceiling": 50}})
    assert (
        "a change of the spec needs the verb update on migrationplans.cutover.dev, which jane@example.com does not"
        in said
    )
    assert people.patch("eve", {"spec": {"ceiling": 50}}) == ""
    assert people.patch(JANE, {"metadata": {"labels": {"team": "docs"}}}) == ""


def test_what_comes_from_git_was_reviewed_there(people: Person) -> None:
    for annotation in ANNOTATIONS:
        assert people.annotate(FLUX, {annotation: named(annotation, "bob")}) == ""
    assert people.patch(FLUX, {"spec": {"ceiling": 50}}) == ""


def test_a_new_plan_is_checked_as_well(people: Person, api: Api) -> None:
    body: Any = builders.plan_body("new", NAMESPACE)
    for value, refused in ((None, ""), ("a1-w25 by eve", "needs the verb approve")):
        body["metadata"]["annotations"] = {"cutover.dev/approve": value} if value else {}
        answer = api.client.post(PLANS, json=body, params={"dryRun": "All"}, headers={"Impersonate-User": "eve"})
        assert (answer.status_code == 201) == (not refused), answer.text
        assert refused in answer.text


@pytest.mark.parametrize("user", [name for names in PEOPLE.values() for name in names])
def test_no_role_may_write_the_status(people: Person, user: str) -> None:
    assert "cannot patch resource" in people.patch(user, {"status": {"weight": 100}}, status=True)


def test_names_and_verbs_are_those_of_the_operator() -> None:
    """A command that is added has to be in the policy."""
    policy, _ = rendered("approvals.yaml", approvals={"policy": True})
    (given,) = [one["expression"] for one in policy["spec"]["variables"] if one["name"] == "given"]
    assert all(f"'{annotation}'" in given for annotation in ANNOTATIONS)
    assert VALUES.keys() == set(ANNOTATIONS)


def test_the_policy_is_for_the_namespaces_of_the_release_and_off_by_default() -> None:
    assert rendered("approvals.yaml") == []
    _, binding = rendered("approvals.yaml", approvals={"policy": True}, namespaces=["docs", "shop"])
    (one,) = binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
    assert one == {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["docs", "shop"]}
