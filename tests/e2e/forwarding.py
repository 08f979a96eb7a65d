"""What is looked at when all users go to EKS because Heroku is down."""

from __future__ import annotations

import time

from sandbox import manifests
from sandbox.environment import Environment
from sandbox.manifests import Json

FORWARD = "cutover.dev/forward"
JANE = "a1 by jane@example.com"


def ask(environment: Environment, service: str) -> float:
    """Give the command as a person does; return when, in unix seconds."""
    environment.patch(service, {"metadata": {"annotations": {FORWARD: JANE}}})
    return time.time()


def served(environment: Environment, service: str, since: float) -> float:
    """Wait until all users are on EKS by their own record; return since when, in unix seconds."""
    host, load = manifests.public_host(service), environment.load
    assert load is not None

    def first() -> float:
        records = load.records(host, since)
        return next((record.at for record in records if record.revision == "a1-w100"), 0.0)

    environment.until(f"{service}: users on a1-w100", lambda: first() > 0, 60)
    at = first()
    time.sleep(5)
    late = [record for record in load.records(host, at + 2) if record.at > at + 2]
    assert late
    assert {record.leg for record in late} == {"eks"}
    assert [record for record in late if record.failed] == []
    return at


def without_way_back(environment: Environment, service: str) -> Json:
    """Wait until the plan says that it is at 100 % without a way back; return its status."""
    environment.until(
        f"{service} says that there is no way back",
        lambda: environment.status(service)["message"].startswith(
            "all traffic was sent to EKS because Heroku was down"
        ),
        90,
    )
    status = environment.status(service)
    assert (status["weight"], status["reason"]) == (100, "HerokuCannotTakeBack")
    assert [c["status"] for c in status["conditions"] if c["type"] == "Held"] == ["True"]
    return status


def way_back_opens(environment: Environment, service: str) -> None:
    """Wait until Heroku is known to be well again, and the soak goes on."""
    environment.until(
        f"{service}: the way back is open",
        lambda: "the way back is open again" in environment.status(service)["message"],
        90,
    )
    status = environment.status(service)
    assert (status["phase"], status["weight"]) == ("Soaking", 100)
