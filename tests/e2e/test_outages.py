"""The stack breaks under a running cutover: nothing is lost, nothing moves on its own."""

from __future__ import annotations

import time

from sandbox import manifests
from sandbox.environment import Environment
from sandbox.manifests import Json

from .conftest import RATE
from .observing import at_weight, plan, rescue


def test_a_cutover_outlives_prometheus_operator_and_api_server(environment: Environment) -> None:
    """Prometheus stopped at 10 %, the operator killed at 25 %, the API server away for 30 s at 50 %."""
    load = environment.load
    assert load is not None
    for service in environment.services:
        load.set_rate(manifests.public_host(service), 0)
    load.set_rate("survivor.example.com", RATE)
    steps = [{"weight": weight, "hold": "40s"} for weight in (10, 25, 50, 100)]
    environment.apply(plan("survivor", steps=steps, ceiling=25))

    at_weight(environment, "survivor", 10)
    environment.stack.stop_process("prometheus")
    environment.until_status("survivor", 60, reason="PrometheusUnavailable")
    time.sleep(20)
    status = environment.status("survivor")
    assert (status["phase"], status["weight"]) == ("Shifting", 10)
    assert environment.routed_weight("survivor") == 10
    environment.stack.start_process("prometheus")

    at_weight(environment, "survivor", 25)
    # A checkpoint that holds evidence of this step: one is due a minute after the last.
    environment.until(
        "a checkpoint in mid-step",
        lambda: (
            environment.status("survivor")["checkpoint"]["consumedUntil"]
            > environment.status("survivor")["checkpoint"]["observedAt"]
        ),
        90,
    )
    before = environment.status("survivor")
    environment.stop_operator()
    time.sleep(10)
    environment.start_operator()
    environment.until(
        "judging goes on after the checkpoint",
        lambda: environment.status("survivor")["checkpoint"]["consumedUntil"] > before["checkpoint"]["consumedUntil"],
        90,
    )
    after = environment.status("survivor")
    assert (after["weight"], after["since"]) == (25, before["since"])
    assert after["checkpoint"]["observedAt"] == before["checkpoint"]["observedAt"]
    assert _judged(after) > _judged(before)
    environment.patch("survivor", {"spec": {"ceiling": 100}})

    at_weight(environment, "survivor", 50)
    environment.stack.stop_process("kube-apiserver")
    time.sleep(30)
    environment.stack.start_process("kube-apiserver")
    environment.until_status("survivor", 420, phase="Completed")
    path = [entry["toWeight"] for entry in environment.status("survivor")["ledger"] if entry["decision"] == "Advance"]
    assert path == [10, 25, 50, 100]
    records = load.records("survivor.example.com")
    assert [record for record in records if record.failed and record.judged and record.revision] == []


def _judged(status: Json) -> int:
    return max(gate["samples"] for gate in status["gates"] if gate["name"] == "errors")


def test_a_rollback_outlives_the_operator(environment: Environment) -> None:
    """``kill -9`` as soon as the route is rolled back: the next operator finishes and says why."""
    load = environment.load
    assert load is not None
    load.set_rate("relapse.example.com", RATE)
    environment.apply(plan("relapse", steps=[{"weight": 10, "hold": "10m"}, {"weight": 100}]))
    at_weight(environment, "relapse", 10)
    time.sleep(10)
    onset = environment.knobs("eks", "relapse").set(refuse=True)
    environment.until("the route is rolled back", lambda: environment.routed_weight("relapse") == 0, 60, every=0.01)
    environment.stop_operator()
    time.sleep(5)
    assert environment.routed_weight("relapse") == 0
    environment.start_operator()
    environment.until_status("relapse", 60, phase="RolledBack")
    assert environment.routed_weight("relapse") == 0
    ledger = [entry["decision"] for entry in environment.status("relapse")["ledger"]]
    assert ledger.count("RollBack") == 1
    print("killed in mid-rollback:", rescue(environment, "relapse", onset))
