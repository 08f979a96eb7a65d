"""The stack breaks under a running cutover: nothing is lost, nothing moves on its own."""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path

import pytest

from devstack.api import fetch
from sandbox.environment import Environment
from sandbox.manifests import Json

from .forwarding import FORWARD, ask, served, way_back_opens, without_way_back
from .observing import UNHURRIED, at_weight, judged_until, plan, rescue
from .playing import BUSY, decisions, path, start


@pytest.mark.uses("survivor", minutes=4)
@pytest.mark.timeout(900)  # each wait has an end of its own
def test_a_cutover_outlives_prometheus_operator_and_api_server(alone: Environment) -> None:
    """Prometheus stopped at 10 %, the operator killed at 25 %, the API server away for 30 s at 50 %."""
    environment, load = alone, alone.load
    assert load is not None
    # What takes longer than its hold at 10 % and 25 % is the outage and the ceiling.
    steps = [{"weight": weight, "hold": hold} for weight, hold in ((10, "20s"), (25, "20s"), (50, "40s"), (100, "5s"))]
    start(environment, plan("survivor", UNHURRIED, steps=steps, ceiling=25, soak="5s"), rate=BUSY)

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
    assert path(environment.status("survivor")) == [10, 25, 50, 100]
    records = load.records("survivor.example.com")
    assert [record for record in records if record.failed and record.judged and record.revision] == []


def _judged(status: Json) -> int:
    return max(gate["samples"] for gate in status["gates"] if gate["name"] == "errors")


@pytest.mark.uses("relapse", minutes=1.25)
def test_a_rollback_outlives_the_operator(alone: Environment) -> None:
    """``kill -9`` as soon as the route is rolled back: the next operator finishes and says why."""
    environment = alone
    start(environment, plan("relapse", steps=[{"weight": 10, "hold": "10m"}, {"weight": 100}]))
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


@pytest.mark.uses("keeper", minutes=5)
@pytest.mark.timeout(900)  # each wait has an end of its own
def test_a_cutover_outlives_a_gateway_and_the_data_of_prometheus(alone: Environment) -> None:
    """At 10 % one of two gateways ends and Prometheus is restarted, at 50 % it loses its data.

    Nothing moves on any of that, in either direction, and no request is judged that users did not send.
    """
    environment, load = alone, alone.load
    assert load is not None
    steps = [{"weight": weight, "hold": hold} for weight, hold in ((10, "100s"), (50, "60s"), (100, "5s"))]
    start(environment, plan("keeper", UNHURRIED, steps=steps, soak="5s"), rate=BUSY)

    environment.stack.start_process("envoy-1")
    at_weight(environment, "keeper", 10)
    _until_both_gateways_serve(environment, "keeper")
    lost = time.time()
    environment.stack.stop_process("envoy-1")
    judged = judged_until(environment, "keeper", lost + 20)
    print("one gateway of two gone at 10 %:", judged)
    assert 0.9 * judged.sent <= judged.samples <= judged.most
    environment.stack.start_process("envoy-1")
    environment.stack.restart_prometheus()

    at_weight(environment, "keeper", 50)
    # Evidence of this step, before it is lost to Prometheus.
    time.sleep(15)
    environment.stack.restart_prometheus(keep_data=False, away_seconds=20)
    back = time.time()
    status = environment.status("keeper")
    assert (status["phase"], status["weight"]) == ("Shifting", 50)
    assert "PrometheusUnavailable" in [entry["reason"] for entry in decisions(status, "Hold")]
    assert environment.routed_weight("keeper") == 50
    judged = judged_until(environment, "keeper", back)
    print("data of Prometheus lost at 50 %:", judged)
    assert 0 < judged.samples <= judged.most
    environment.until_status("keeper", 240, phase="Completed")
    status = environment.status("keeper")
    assert path(status) == [10, 50, 100]
    assert datetime.fromisoformat(decisions(status, "Advance")[-1]["at"]).timestamp() >= back - 1
    records = load.records("keeper.example.com")
    moved = next(record.at for record in records if record.revision == "a1-w10")
    failed = [record for record in records if record.failed and record.judged and record.at > moved]
    # Those that were under way in the gateway that ended.
    ended = [record for record in failed if record.status == 0 and lost - 1 <= record.at <= lost + 1]
    print("cut off with the gateway:", len(ended))
    assert len(ended) <= BUSY / 2
    assert failed == ended


@pytest.mark.uses("locked", minutes=1.5)
def test_a_wrong_token_for_prometheus_holds(alone: Environment, tmp_path: Path) -> None:
    """The token is exchanged for a wrong one in mid-step: held with a reason, told to nobody, and forgiven."""
    environment = alone
    right, wrong = "tok-7f3a-right-e2e", "tok-91bc-wrong-e2e"
    token = tmp_path / "token"
    token.write_text(right)
    with environment.guard(right) as guard:
        environment.restart_operator(CUTOVER_PROMETHEUS_URL=guard.url, CUTOVER_PROMETHEUS_TOKEN_FILE=str(token))
        try:
            start(environment, plan("locked", steps=[{"weight": 25, "hold": "10m"}, {"weight": 100}]))
            at_weight(environment, "locked", 25)
            token.write_text(wrong)
            environment.until_status("locked", 60, reason="PrometheusUnavailable")
            time.sleep(20)
            status = environment.status("locked")
            assert (status["phase"], status["weight"]) == ("Shifting", 25)
            assert (status["reason"], environment.routed_weight("locked")) == ("PrometheusUnavailable", 25)
            print("wrong token:", status["message"])
            assert "401" in status["message"]
            assert guard.requests()["refused"] > 0
            token.write_text(right + "\n")
            corrected = time.time()
            environment.until(
                "judging goes on",
                lambda: environment.status("locked")["checkpoint"]["consumedUntil"] > corrected,
                60,
            )
            status = environment.status("locked")
            assert status["reason"] in ("Judging", "AwaitingEvidence")
            assert path(status) == [25]
            metrics = fetch(f"http://127.0.0.1:{environment.metrics_port}/metrics").decode()
            told = json.dumps([environment.plan("locked"), environment.events("locked")])
            for where, text in (("plan and events", told), ("log", environment.operator_log()), ("metrics", metrics)):
                assert right not in text, where
                assert wrong not in text, where
        finally:
            environment.restart_operator()


@pytest.mark.uses("castaway", minutes=2)
def test_a_person_sends_all_users_to_eks_while_heroku_refuses(alone: Environment) -> None:
    """Heroku's router refuses connections as a whole; a command from before that, when Heroku answered, does not count."""
    environment, service = alone, "castaway"
    start(environment, plan(service, steps=[{"weight": 25, "hold": "10m"}, {"weight": 100, "hold": "5s"}], soak="20s"))
    at_weight(environment, service, 25)
    time.sleep(15)
    ask(environment, service)
    environment.until("refused", lambda: bool(decisions(environment.status(service), "Refuse")), 60)
    environment.apps.refuse_heroku(refuse=True)
    try:
        environment.until_status(service, 60, reason="HerokuCannotTakeBack")
        time.sleep(15)
        assert environment.routed_weight(service) == 25
        environment.patch(service, {"metadata": {"annotations": {FORWARD: None}}})
        time.sleep(2)
        asked = ask(environment, service)
        print(f"{service}: users on EKS {served(environment, service, asked) - asked:.1f} s after the word")
        without_way_back(environment, service)
    finally:
        environment.apps.refuse_heroku(refuse=False)
    way_back_opens(environment, service)
    environment.until_status(service, 120, phase="Completed")


def _until_both_gateways_serve(environment: Environment, service: str) -> None:
    query = f'sum by (pod) (increase(istio_requests_total{{destination_service=~".*{service}.*"}}[20s])) > 20'
    environment.until("both gateways serve", lambda: len(environment.stack.query(query)) == 2, 60)
