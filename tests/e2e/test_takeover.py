"""A takeover that would leave users worse off, beside users whom the team's own route serves well."""

from __future__ import annotations

import time

from demoapps.records import Record
from sandbox import manifests
from sandbox.environment import Environment
from sandbox.manifests import NAMESPACE, Json

from .observing import NAMED
from .playing import RATE, scenario, set_rate
from .team_routes import in_own, to_delegate, to_heroku, virtual_service

ROUTES = f"/apis/networking.istio.io/v1/namespaces/{NAMESPACE}/virtualservices"


def plan(service: str, ownership: str) -> Json:
    return manifests.plan(service, gates=NAMED, traffic=in_own(service, ownership))


def served(environment: Environment, service: str, *routes: Json) -> None:
    """Let users be served by a way of the team's own, which does not depend on Heroku."""
    way = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": f"team-{service}", "namespace": NAMESPACE},
        "spec": {
            "hosts": [manifests.heroku_hostname(service)],
            "location": "MESH_EXTERNAL",
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "resolution": "STATIC",
            "endpoints": [{"address": "127.0.0.1", "ports": {"http": environment.apps.eks_ports["bystander"]}}],
        },
    }
    route = virtual_service(service, *routes, annotations={"kustomize.toolkit.fluxcd.io/reconcile": "disabled"})
    environment.stack.apply([way, route], field_manager="kustomize-controller")
    set_rate(environment, service, RATE)
    time.sleep(3)


def spec(environment: Environment, name: str) -> Json:
    found: Json = environment.api.call(f"{ROUTES}/{name}")["spec"]
    return found


def requests(environment: Environment, service: str, since: float) -> list[Record]:
    load, host = environment.load, manifests.public_host(service)
    assert load is not None
    load.settle(time.time() - 1, host, timeout_s=60)
    return [record for record in load.records(host, since) if record.judged]


def until_taken_over(environment: Environment, service: str, route: str) -> None:
    """Wait until users' requests follow the operator's route."""

    def taken() -> bool:
        names = [body["metadata"]["name"] for body in environment.api.call(ROUTES)["items"]]
        if route not in names:
            return False
        first = spec(environment, route)["http"][0]
        stamped = (first.get("headers") or {}).get("response", {}).get("set", {}).get("x-cutover-revision")
        return bool(stamped == "a1-w0")

    environment.until(f"{service}: taken over", taken, 120, every=0.05)


def undo(environment: Environment, service: str, route: str) -> None:
    """Let Heroku refuse from the takeover on; see how long users wait for their own route, and that they get it whole."""
    began, heroku = time.time(), environment.knobs("heroku", service)
    until_taken_over(environment, service, route)
    # At once: after some good probes the takeover would be over.
    onset = heroku.set(down=True)
    environment.until_status(service, 30, reason="TakeoverFailed")
    time.sleep(3)
    # Those that came just before the onset may have met it.
    taken = [record for record in requests(environment, service, began) if record.at < onset - 1]
    assert [str(record) for record in taken if record.failed] == []
    records = requests(environment, service, onset)
    operators = [record for record in records if record.revision == "a1-w0"]
    back = max(record.at for record in operators)
    failed = [record for record in records if record.failed]
    print(f"{service}: users had their own route back after {back - onset:.1f} s; {len(failed)} of them failed")
    assert failed
    # Three probes a second apart, and the write: 3 s on an idle machine.
    assert back - onset <= 10
    assert [str(record) for record in failed if record not in operators] == []
    assert {record.revision for record in records if record.at > back} == {""}
    status = environment.status(service)
    assert (status["phase"], status.get("weight"), status["failedTakeover"]) == ("Preflight", None, 1)
    heroku.set(down=False)
    environment.patch(service, {"spec": {"attempt": 2}})
    environment.until_status(service, 60, phase="Baseline")
    environment.stack.kubectl("-n", NAMESPACE, "delete", "mplan", service, "--timeout=30s")


@scenario("undo-adopt", "bystander", minutes=0.9)
def test_an_adopted_route_comes_back_when_heroku_refuses(environment: Environment) -> None:
    other = {"match": [{"uri": {"prefix": "/elsewhere"}}], "route": [{"destination": {"host": "bystander"}}]}
    served(environment, "undo-adopt", other, {"route": [to_heroku("undo-adopt")]})
    before = spec(environment, "team-undo-adopt")
    environment.apply(plan("undo-adopt", "Adopt"))
    undo(environment, "undo-adopt", "team-undo-adopt")
    assert spec(environment, "team-undo-adopt") == before


@scenario("undo-hang", "bystander", minutes=1.0)
def test_an_adopted_route_comes_back_after_three_time_outs_of_a_probe_when_heroku_hangs(
    environment: Environment,
) -> None:
    service, route = "undo-hang", "team-undo-hang"
    served(environment, service, {"route": [to_heroku(service)]})
    before = spec(environment, route)
    environment.apply(plan(service, "Adopt"))
    until_taken_over(environment, service, route)
    onset = environment.knobs("heroku", service).set(hang=True)
    back = environment.until(
        f"{service}: the team's own route",
        lambda: spec(environment, route)["http"][2:] == before["http"],
        40,
        every=0.05,
    )
    print(f"{service}: users had their own route back after {back - onset:.1f} s")
    # A probe waits 5 s for an answer; the next one begins a second after it.
    assert back - onset <= 3 * 5 + 10
    environment.until_status(service, 10, reason="TakeoverFailed")
    time.sleep(3)
    records = requests(environment, service, back + 1)
    assert records
    assert [str(record) for record in records if record.failed or record.revision] == []
    environment.knobs("heroku", service).set(hang=False)
    environment.stack.kubectl("-n", NAMESPACE, "delete", "mplan", service, "--timeout=30s")
    assert spec(environment, route) == before


@scenario("undo-delegate", "bystander", minutes=0.9)
def test_users_fall_back_to_the_route_behind_the_delegate_when_heroku_refuses(environment: Environment) -> None:
    routes = to_delegate("undo-delegate"), {"route": [to_heroku("undo-delegate")]}
    served(environment, "undo-delegate", *routes)
    environment.apply(plan("undo-delegate", "Delegate"))
    undo(environment, "undo-delegate", "cutover-undo-delegate")


def found_first(environment: Environment, service: str, *said: str) -> None:
    """See that preflight finds it, and that no user's request changed meanwhile."""
    began = time.time()
    environment.until_status(service, 60, reason="PreflightFailed")

    def checks_of() -> dict[str, Json]:
        return {check["check"]: check for check in environment.status(service)["preflight"]}

    # The legs are asked side by side, and one may answer first.
    environment.until(
        f"{service}: Heroku answers", lambda: checks_of()["heroku-answers"]["result"] == "Passed", seconds=15
    )
    checks = checks_of()
    assert environment.status(service).get("weight") is None
    assert checks["eks-answers"]["result"] == "Failed"
    for words in (f"Service {service}", *said):
        assert words in checks["eks-answers"]["message"]
    print(f"{service}: {checks['eks-answers']['message']}")
    time.sleep(2)
    records = requests(environment, service, began)
    assert len(records) > RATE
    assert [str(record) for record in records if record.failed or record.revision] == []


@scenario("nobody", "bystander", minutes=0.6)
def test_a_service_that_nobody_answers_behind_is_found_before_users_meet_it(environment: Environment) -> None:
    served(environment, "nobody", {"route": [to_heroku("nobody")]})
    before = spec(environment, "team-nobody")
    environment.stack.kubectl("-n", NAMESPACE, "delete", "workloadentry", "nobody")
    environment.apply(plan("nobody", "Adopt"))
    found_first(environment, "nobody", "HTTP 503", "endpoints")
    assert spec(environment, "team-nobody")["http"][2:] == before["http"]
    environment.patch("nobody", {"spec": {"suspend": True}})
    environment.until("nobody: as before", lambda: spec(environment, "team-nobody") == before, 60)


@scenario("misnamed", "bystander", minutes=0.6)
def test_a_port_with_another_protocol_s_name_is_found_before_users_meet_it(environment: Environment) -> None:
    served(environment, "misnamed", to_delegate("misnamed"), {"route": [to_heroku("misnamed")]})
    *_, service, workload = manifests.target("misnamed", environment.apps.eks_ports["misnamed"])
    service["spec"]["ports"] = [{"name": "http2", "port": 80}]
    workload["spec"]["ports"] = {"http2": environment.apps.eks_ports["misnamed"]}
    environment.stack.apply([service, workload])
    environment.apply(plan("misnamed", "Delegate"))
    found_first(environment, "misnamed", "port 80", "named for its protocol")
