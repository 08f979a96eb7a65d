"""A release on one side in mid-step: Heroku's API is played, all else is real."""

from __future__ import annotations

import base64
import json

from tests.kit.heroku_api import KEY, app_answers, release

from sandbox import manifests
from sandbox.environment import Environment
from sandbox.manifests import NAMESPACE, OPERATOR_ACCOUNT, OPERATOR_NAMESPACE, Json

from .heroku_api import SERVICE, heroku_api
from .observing import UNHURRIED, at_weight, plan
from .playing import decisions, scenario, start

SECRET = "heroku-key"
#: Both legs are looked at once in 60 to 75 s.
NOTICED_SECONDS = 150.0


def key() -> list[Json]:
    """Return the Secret that the plan names, and the right to read it by its name, as the chart grants it."""
    metadata = {"name": SECRET, "namespace": NAMESPACE}
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata,
            "data": {"api-key": base64.b64encode(KEY.encode()).decode()},
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": metadata,
            "rules": [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": [SECRET], "verbs": ["get"]}],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": SECRET},
            "subjects": [{"kind": "ServiceAccount", "name": OPERATOR_ACCOUNT, "namespace": OPERATOR_NAMESPACE}],
        },
    ]


@scenario(SERVICE, minutes=2.8)
def test_a_release_on_one_side_holds_the_step_until_eks_rolls_out(environment: Environment) -> None:
    """Also what the plan's key shows of the app passes preflight, and neither the key nor a value is in the status."""
    played, hostname = heroku_api(), manifests.heroku_hostname(SERVICE)
    played.answers = app_answers()
    played.answers[""] |= {"name": f"acme-{SERVICE}", "web_url": f"https://{hostname}/"}
    played.answers["/domains"] = [{"hostname": hostname, "kind": "heroku"}]
    environment.stack.apply(key())
    heroku = {
        "app": f"acme-{SERVICE}",
        "hostname": hostname,
        "apiKeySecretRef": {"name": SECRET, "key": "api-key"},
    }
    steps = [{"weight": 10, "hold": "10s"}, {"weight": 100}]
    start(environment, plan(SERVICE, UNHURRIED, heroku=heroku, steps=steps), rate=10.0)

    def known() -> Json:
        found: Json = environment.status(SERVICE).get("releases", {})
        return found

    environment.until("what the legs run", lambda: {"herokuVersion", "eks"} <= known().keys(), 120)
    played.answers["/releases"].append(release(43, "Deploy 5e6f7a8b", slug="s-2"))
    at_weight(environment, SERVICE, 10)
    environment.until_status(SERVICE, NOTICED_SECONDS, reason="LegsDiffer", weight=10)
    assert "v43 (Deploy 5e6f7a8b)" in environment.status(SERVICE)["message"]

    deployment = manifests.target(SERVICE, 0)[0]
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = f"{SERVICE}:2"
    environment.stack.apply([deployment])
    environment.until(
        "EKS has rolled out", lambda: not known().get("ahead") and not known().get("rolling"), NOTICED_SECONDS
    )
    status = environment.status(SERVICE)
    assert [entry["reason"] for entry in decisions(status, "Change")] == ["HerokuReleased", "EksRolledOut"]
    assert status["weight"] == 10

    def told() -> list[int]:
        reasons = [event["reason"] for event in environment.events(SERVICE)]
        return [reasons.count(one) for one in ("HerokuReleased", "EksRolledOut")]

    # Events are written after the status.
    environment.until("an Event of each change", lambda: min(told()) > 0, 30)
    assert told() == [1, 1]
    assert KEY not in json.dumps(environment.plan(SERVICE)) + environment.operator_log()
