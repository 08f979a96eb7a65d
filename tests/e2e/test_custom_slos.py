"""Gates of a team's own, held against the load generator's record and the real containers' and apps' metrics."""

from __future__ import annotations

import re
import time
from typing import Any

import yaml

from sandbox import manifests
from sandbox.environment import Environment
from sandbox.manifests import NAMESPACE, Json

from .observing import NAMED, at_weight, plan
from .playing import BUSY, decisions, path, rolled_back, scenario, set_rate, start


def _with(*slos: Json) -> dict[str, Any]:
    return {**NAMED, "slos": [*NAMED["slos"], *slos]}


def _throttled(selector: str, **bound: object) -> Json:
    """Return a bound on the share of throttled CFS periods, quick enough for a test."""
    rates = [f"sum(rate(container_cpu_cfs_{which}periods_total{{{selector}}}[15s]))" for which in ("throttled_", "")]
    return {"query": " / ".join(rates), "max": 0.25, "for": "15s", "scrapeInterval": "5s", **bound}


_OWN_CONTAINER = 'namespace="{{ namespace }}", container="{{ workload }}"'


def _checkouts(more: str = "") -> str:
    return f'checkout_attempts_total{{app="{{{{ service }}}}", platform="{{{{ leg }}}}"{more}}}'


CHECKOUT = {
    "name": "checkout",
    "ratio": {"bad": _checkouts(', result="failed"'), "total": _checkouts(), "scrapeInterval": "5s"},
}


def _gate(status: Json, name: str) -> Json:
    found: Json = next((gate for gate in status.get("gates", []) if gate["name"] == name), {})
    return found


def _nothing_failed(environment: Environment, service: str) -> None:
    """Users of the service have seen nothing of what its custom SLO saw."""
    assert environment.load is not None
    host = manifests.public_host(service)
    environment.load.settle(time.time() - 1, host)
    # Before the takeover nobody routes the host.
    seen = [record for record in environment.load.records(host) if record.revision]
    assert len(seen) > 200
    assert [record for record in seen if record.failed and record.judged] == []


def _tells(entry: Json, gate: str, *, between: tuple[float, float]) -> None:
    """Check that a ledger entry has a bound, and its value at that moment."""
    [said] = [one for one in entry["gates"] if one["name"] == gate]
    low, high = between
    assert low < said["value"] <= high, said


@scenario("drought", minutes=4.75)
def test_a_drought_is_waited_out(environment: Environment) -> None:
    """50 requests/s, then 0.2, then 100: nothing moves in between, in either direction."""
    manifest = plan("drought", steps=[{"weight": 10, "hold": "10s"}, {"weight": 100, "hold": "5s"}])
    start(environment, manifest)
    at_weight(environment, "drought", 10)
    set_rate(environment, "drought", 0.2)
    environment.until_status("drought", 240, reason="InsufficientTraffic")
    time.sleep(30)
    status = environment.status("drought")
    assert (status["phase"], status["weight"], status["reason"]) == ("Shifting", 10, "InsufficientTraffic")
    assert environment.routed_weight("drought") == 10
    print("drought:", status["message"])
    set_rate(environment, "drought", BUSY)
    environment.until_status("drought", 240, phase="Completed")
    assert path(environment.status("drought")) == [10, 100]


@scenario("checkout", minutes=4)
def test_failing_checkouts_roll_back(environment: Environment) -> None:
    """Well, the service moves on; when a fifth of its checkouts fail on EKS, with 200, it comes back."""
    steps = [{"weight": 10, "hold": "20s"}, {"weight": 25, "hold": "10m"}, {"weight": 100}]
    start(environment, plan("checkout", gates=_with(CHECKOUT), steps=steps))
    at_weight(environment, "checkout", 25)
    [_, moved] = decisions(environment.status("checkout"), "Advance")
    [said] = [one for one in moved["gates"] if one["name"] == "checkout"]
    assert said["counts"]["eks"]["total"] > 0, said
    onset = environment.knobs("eks", "checkout").set(failed_checkout_ratio=0.2)
    status = rolled_back(environment, "checkout", 300)
    print(f"20 % of checkouts fail at 25 %: back after {time.time() - onset:.1f} s")
    assert "checkout" in status["message"]
    assert _gate(status, "checkout")["verdict"] == "Fail"
    [back] = decisions(status, "RollBack")
    assert any('platform="eks"' in text and 'result="failed"' in text for text in back["queries"]), back["queries"]
    assert path(status) == [10, 25, 0]
    _nothing_failed(environment, "checkout")


@scenario("throttled", minutes=1.25)
def test_a_breached_bound_rolls_back(environment: Environment) -> None:
    """40 % of CFS periods are throttled at 25 %, and no request fails or is slow: only the bound sees it."""
    slo = {"name": "throttling", "bound": _throttled(_OWN_CONTAINER)}
    steps = [{"weight": 25, "hold": "10m"}, {"weight": 100}]
    start(environment, plan("throttled", gates=_with(slo), steps=steps))
    at_weight(environment, "throttled", 25)
    onset = environment.knobs("eks", "throttled").set(throttled_ratio=0.4)
    status = rolled_back(environment, "throttled", 150)
    print(f"40 % throttled at 25 %: back after {time.time() - onset:.1f} s")
    assert "throttling" in status["message"]
    [back] = decisions(status, "RollBack")
    _tells(back, "throttling", between=(0.25, 0.45))
    [query] = [text for text in back["queries"] if text.startswith("throttling")]
    assert f'namespace="{NAMESPACE}"' in query
    assert 'container="throttled"' in query
    assert "{{" not in query
    _nothing_failed(environment, "throttled")


@scenario("observed", minutes=3.5)
def test_an_observing_gate_moves_nothing(environment: Environment) -> None:
    """Its bound is breached from the first moment on: shown as failed, and the cutover goes to its end."""
    slo = {"name": "throttling", "mode": "Observe", "bound": _throttled(_OWN_CONTAINER)}
    environment.knobs("eks", "observed").set(throttled_ratio=0.4)
    steps = [{"weight": 25, "hold": "60s"}, {"weight": 100, "hold": "5s"}]
    start(environment, plan("observed", gates=_with(slo), steps=steps))
    at_weight(environment, "observed", 25)

    def shown() -> bool:
        gate = _gate(environment.status("observed"), "throttling")
        return (gate.get("mode"), gate.get("verdict")) == ("Observe", "Fail")

    environment.until("the observing gate fails", shown, 150)
    environment.until_status("observed", 240, phase="Completed")
    assert path(environment.status("observed")) == [25, 100]


@scenario("templated", minutes=2.75)
def test_a_changed_template_waits_for_the_next_step(environment: Environment) -> None:
    """A template of the library, made stricter in mid-step: in force with the next step, and the ledger says so.

    A tenth of the CFS periods is throttled all the time. That is within the template's bound at first; by the changed
    one it is a breach, which must not show before 25 %.
    """
    template = yaml.safe_load((manifests.ROOT / "examples" / "gate-templates" / "cpu-throttling.yaml").read_text())
    environment.stack.apply([template])
    pods = environment.api.call(f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app=templated")["items"]
    environment.apps.label_pod("templated", pods[0]["metadata"]["name"])
    environment.knobs("eks", "templated").set(throttled_ratio=0.1)
    values = {"for": "10s", "window": "20s", "scrapeInterval": "5s"}
    parameters = [{"name": name, "value": value} for name, value in values.items()]
    reference = {"kind": "ClusterGateTemplate", "name": "cpu-throttling", "parameters": parameters}
    slo = {"name": "throttling", "template": reference}
    steps = [{"weight": 10, "hold": "60s"}, {"weight": 25, "hold": "10m"}, {"weight": 100}]
    start(environment, plan("templated", gates=_with(slo), steps=steps))
    at_weight(environment, "templated", 10)
    time.sleep(10)
    for parameter in template["spec"]["parameters"]:
        if parameter["name"] == "max":
            parameter["default"] = "0.05"
    environment.stack.apply([template])
    changed = time.time()
    at_weight(environment, "templated", 25)
    assert time.time() - changed > 30
    status = rolled_back(environment, "templated", 120)
    assert path(status) == [10, 25, 0]
    [said] = decisions(status, "Gates")
    print("templated:", said["message"])
    assert "ClusterGateTemplate/cpu-throttling generation 1 → 2" in said["message"]
    kinds = [entry["decision"] for entry in status["ledger"]]
    assert kinds[kinds.index("Gates") + 1] == "Advance"
    _tells(decisions(status, "RollBack")[0], "throttling", between=(0.08, 0.15))


@scenario("typo", minutes=0.75)
def test_a_typo_is_refused_before_anything_moves(environment: Environment) -> None:
    """A query that cannot be parsed keeps the plan in preflight, with the place; correcting it starts the plan."""
    wrong = 'sum(rate(container_cpu_cfs_periods_total{namespace="{{ namespace }}"[1m]))'
    slo = {"name": "throttling", "bound": _throttled(_OWN_CONTAINER, query=wrong)}
    steps = [{"weight": 10, "hold": "10m"}, {"weight": 100}]
    start(environment, plan("typo", gates=_with(slo), steps=steps))
    environment.until_status("typo", 60, reason="PreflightFailed")
    time.sleep(15)
    status = environment.status("typo")
    assert status["phase"] == "Preflight"
    assert status.get("weight") is None
    [check] = [check for check in status["preflight"] if check["check"] == "gate-queries"]
    print("typo:", check["message"])
    assert check["result"] == "Failed"
    assert "throttling" in check["message"]
    assert re.search(r"\b(position|character|column|line) \d+|\b\d+:\d+\b", check["message"]), check["message"]
    condition = environment.stack.kubectl(
        "-n", NAMESPACE, "get", "migrationplan", "typo",
        "-o", 'jsonpath={.status.conditions[?(@.type=="Held")].message}',
    )  # fmt: skip
    assert check["message"] in condition
    assert any(check["message"] in event["message"] for event in environment.events("typo"))
    route = environment.stack.kubectl("-n", NAMESPACE, "get", "virtualservice", "cutover-typo", "--ignore-not-found")
    assert route == ""
    slo["bound"] = _throttled(_OWN_CONTAINER)
    environment.patch("typo", {"spec": {"gates": _with(slo)}})
    at_weight(environment, "typo", 10, 120)
