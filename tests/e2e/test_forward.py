"""Heroku is down in the middle of a cutover, with users on both legs: all of them go to EKS, and Heroku comes back."""

from __future__ import annotations

import time

from sandbox.environment import Environment
from sandbox.manifests import NAMESPACE

from .forwarding import ask, served, way_back_opens, without_way_back
from .observing import at_weight, plan
from .playing import decisions, path, scenario, start


@scenario("forwarded", minutes=2.25)
def test_a_person_sends_all_users_to_eks_while_heroku_hangs(environment: Environment) -> None:
    """At 25 % Heroku hangs; a person gives the word; then Heroku is well again, and the cutover ends on EKS."""
    service = "forwarded"
    steps = [{"weight": 25, "hold": "10m"}, {"weight": 50, "approval": "Manual"}, {"weight": 100, "hold": "5s"}]
    start(environment, plan(service, steps=steps, soak="60s"))
    at_weight(environment, service, 25)
    time.sleep(15)
    environment.knobs("heroku", service).set(hang=True)
    environment.until_status(service, 90, reason="HerokuCannotTakeBack")
    asked = ask(environment, service)
    print(f"{service}: users on EKS {served(environment, service, asked) - asked:.1f} s after the word")
    without_way_back(environment, service)
    status = environment.status(service)
    assert path(status) == [25]
    (entry,) = decisions(status, "Forward")
    assert (entry["reason"], entry["fromWeight"], entry["toWeight"]) == ("Requested", 25, 100)
    assert "by jane@example.com" in entry["message"]
    told = [event for event in environment.events(service) if event["reason"] == "Forward"]
    assert [event["type"] for event in told] == ["Warning"]
    environment.knobs("heroku", service).set(hang=False)
    way_back_opens(environment, service)
    environment.until_status(service, 180, phase="Completed")


@scenario("lifeboat", minutes=5.5)
def test_the_plan_sends_all_users_to_eks_while_heroku_answers_h99(environment: Environment) -> None:
    """EKS is proven at 25 %, then Heroku answers H99 for a minute; afterwards EKS dies, and Heroku takes all back."""
    service = "lifeboat"
    autoscaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": f"{service}-scaling", "namespace": NAMESPACE},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": service},
            "minReplicas": 2,
            "maxReplicas": 10,
        },
    }
    environment.stack.apply([autoscaler])
    steps = [{"weight": 25, "hold": "1h"}, {"weight": 50}, {"weight": 100}]
    forward = {"action": "Forward", "after": "1m"}
    start(environment, plan(service, steps=steps, soak="1h", onHerokuDown=forward))
    at_weight(environment, service, 25)
    environment.until(
        "EKS is proven at 25 %", lambda: bool(environment.status(service)["checkpoint"].get("provenAt")), 300
    )
    time.sleep(65)
    down = environment.knobs("heroku", service).set(platform_error=True)
    environment.until_status(service, 60, reason="HerokuCannotTakeBack")
    environment.until(
        "the hold says what comes",
        lambda: "all traffic goes to EKS in" in environment.status(service)["message"],
        60,
    )
    print(f"{service}: users on EKS {served(environment, service, down) - down:.1f} s after the first H99")
    status = without_way_back(environment, service)
    (entry,) = decisions(status, "Forward")
    assert entry["reason"] == "HerokuDown"
    assert "at most 10 by HorizontalPodAutoscaler lifeboat-scaling" in entry["message"]
    environment.knobs("heroku", service).set(platform_error=False)
    way_back_opens(environment, service)
    environment.knobs("eks", service).set(refuse=True)
    environment.until_status(service, 240, phase="RolledBack")
