"""Users who stay on a leg, and testers before them, as they see it at the gateway."""

from __future__ import annotations

import json
import re
from urllib.parse import urlencode

from devstack.api import fetch
from sandbox import manifests
from sandbox.environment import Environment
from sandbox.manifests import NAMESPACE

from .cohorts import User, come, drawn, try_eks
from .observing import at_weight
from .playing import RATE, scenario, set_rate

STEPS = [{"weight": weight, "hold": "5s"} for weight in (10, 25, 50, 100)]
#: Few requests prove a step: what is judged here is where users are.
GATES = {
    "block": "5s",
    "warmUp": "5s",
    "slos": [
        {"name": "errors", "errors": {"advance": {"ratio": 1.5, "margin": 0.05}}},
        {"name": "answers", "mode": "Observe", "answers": {}},
    ],
}
USERS = 1500


def counted(environment: Environment, destination: str) -> float:
    """Return the gateway's requests to a destination, by Prometheus."""
    query = urlencode({"query": f'sum(istio_requests_total{{destination_service="{destination}"}})'})
    found = json.loads(fetch(f"{environment.stack.prometheus_url}/api/v1/query?{query}"))["data"]["result"]
    return float(found[0]["value"][1]) if found else 0.0


@scenario("cohorts", minutes=5.75)
def test_users_stay_on_their_leg_until_a_step_moves_them(environment: Environment) -> None:
    """Shares are exact at each step, nobody goes back but by a rollback, which voids all cookies; testers count nowhere."""
    service, host = "cohorts", manifests.public_host("cohorts")
    traffic = {
        "istio": {"hosts": [host], "gateways": ["istio-ingress/public"]},
        "preview": {"header": {"name": "x-try-eks", "value": "1"}},
        "affinity": {"cookie": {"maxAge": "1h"}},
    }
    plan = manifests.plan(service, gates=GATES, steps=STEPS, soak="10m", traffic=traffic, ceiling=10)
    set_rate(environment, service, RATE)
    environment.apply({**plan, "spec": {**plan["spec"], "ceiling": 0}})
    environment.until_status(service, 120, reason="Ceiling")
    # Testers are on EKS before anybody, and their failures are nobody's.
    environment.knobs("eks", service).set(error_ratio=1.0)
    assert set(try_eks(environment, service, 50)) == {"500 eks"}
    environment.knobs("eks", service).set(error_ratio=0.0)
    assert set(try_eks(environment, service, 50)) == {"200 eks"}
    name = f"{service}.{NAMESPACE}.svc.cluster.local"
    testers = f"cutover-preview.{name}"
    environment.until("the testers' requests", lambda: counted(environment, testers) == 100, 30)
    assert counted(environment, name) < 20, "probes alone"
    assert environment.status(service)["share"]["observed"] == 0

    users = [User() for _ in range(USERS)]
    environment.apply(plan)
    at_weight(environment, service, 10, 120)
    come(environment, service, users, "a1-w10")
    drawn(users, 10)
    assert all(
        re.fullmatch(r"cutover=a1-[0-9a-f]{8}\.\d+; Path=/; Max-Age=3600; Secure; HttpOnly; SameSite=Lax", told)
        for user in users
        for told in user.told
    )
    assert all(len(user.told) == 1 for user in users)
    late = [User() for _ in range(USERS)]
    for weight in (25, 50, 100):
        environment.patch(service, {"spec": {"ceiling": weight}})
        at_weight(environment, service, weight, 180)
        # A half of them is away for a step.
        here = users if weight != 25 else users[::2]
        come(environment, service, here, f"a1-w{weight}")
        assert all((user.leg == "eks") is (user.cohort <= weight) for user in here)
        if weight == 25:
            come(environment, service, late, "a1-w25")
            drawn(late, 25)
            users += late
    assert all(len(user.told) == 1 for user in users), "nobody is drawn twice"

    environment.stack.kubectl("-n", NAMESPACE, "annotate", "mplan", service, "cutover.dev/rollback=a1")
    environment.until_status(service, 60, phase="RolledBack")
    assert come(environment, service, users, "a1-rollback") == {"heroku": len(users)}
    assert set(try_eks(environment, service, 10)) == {"200 eks"}, "testers stay: they are to see what it was"
    environment.patch(service, {"spec": {"attempt": 2, "ceiling": 10}})
    environment.until_status(service, 60, attempt=2)
    at_weight(environment, service, 10, 120)
    come(environment, service, users, "a2-w10")
    drawn(users, 10)
    assert all(len(user.told) == 2 for user in users), "all were drawn anew"
