"""Apps that insist on their public name: found before any user is moved, and mended by a line in the plan."""

from __future__ import annotations

import time

from tests.kit.routing import rendered

from cutover.adapters.traffic.istio.rendering import DevelopmentHeroku
from cutover.domain.plan import Plan
from sandbox import manifests
from sandbox.environment import Environment
from sandbox.manifests import Json

from .playing import RATE, scenario, set_rate
from .team_routes import in_own, own_heroku, virtual_service

#: The team's tool leaves the object alone.
DISABLED = {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}


def by_public_name(environment: Environment, service: str) -> list[Json]:
    """Return a team's way to Heroku that keeps Host, and with it the SNI."""
    address = {"app": f"acme-{service}", "hostname": manifests.heroku_hostname(service), "hostHeader": "Public"}
    manifest = manifests.plan(service, heroku=address)
    plan = Plan.from_object({**manifest, "metadata": {**manifest["metadata"], "uid": ""}})
    _, rule, *_ = rendered(plan, 0, development=DevelopmentHeroku("127.0.0.1", environment.apps.heroku_port))
    entry, own_rule = own_heroku(environment, service)
    own_rule["spec"]["trafficPolicy"] = rule["spec"]["trafficPolicy"]
    host = {"destination": {"host": manifests.heroku_hostname(service), "port": {"number": 80}}}
    return [entry, own_rule, virtual_service(service, {"route": [host]}, annotations=DISABLED)]


def heroku(service: str, host_header: str) -> Json:
    return {"app": f"acme-{service}", "hostname": manifests.heroku_hostname(service), "hostHeader": host_header}


def said(environment: Environment, service: str) -> tuple[str, str]:
    """Return the result and the message of the check."""
    checks = {one["check"]: one for one in environment.status(service).get("preflight", ())}
    found = checks.get("answers-alike", {})
    return found.get("result", ""), found.get("message", "")


@scenario("allowed-hosts", minutes=0.75)
def test_an_app_that_refuses_other_hosts(environment: Environment) -> None:
    """Users have it by the team's route, which keeps Host. With the operator's default way it would answer all of them 400."""
    service, host = "allowed-hosts", manifests.public_host("allowed-hosts")
    environment.knobs("heroku", service).set(allowed_host=host, build="monday")
    environment.knobs("eks", service).set(build="tuesday")
    environment.stack.apply(by_public_name(environment, service), field_manager="kustomize-controller")
    set_rate(environment, service, RATE)
    time.sleep(5)
    started = time.time()
    adopted = in_own(service, "Adopt")
    environment.apply(manifests.plan(service, ceiling=0, traffic=adopted, heroku=heroku(service, "App")))
    environment.until("the check fails", lambda: said(environment, service)[0] == "Failed", 60)
    message = said(environment, service)[1]
    assert environment.status(service)["reason"] == "PreflightFailed"
    assert message.startswith("/: Heroku answers through the gateway with HTTP 400 instead of HTTP 200")
    assert "set heroku.hostHeader: Public" in message
    assert environment.status(service).get("weight") is None
    environment.apply(manifests.plan(service, ceiling=0, traffic=adopted, heroku=heroku(service, "Public")))
    environment.until_status(service, 60, phase="Baseline")
    # The pages of two builds: told, and no reason to hold.
    result, message = said(environment, service)
    assert result == "Warned"
    assert "/: EKS answers with other assets (app-" in message
    time.sleep(3)
    _check_users(environment, host, started)


@scenario("canonical", minutes=0.75)
def test_an_app_that_redirects_to_its_public_name(environment: Environment) -> None:
    """Even where the public name cannot be asked, a redirect to itself is found. Values of cookies are told nowhere."""
    service, host = "canonical", manifests.public_host("canonical")
    environment.knobs("heroku", service).set(canonical_host=host, build="monday")
    environment.apply(manifests.plan(service, ceiling=0, heroku=heroku(service, "App")))
    environment.until("the check fails", lambda: said(environment, service)[0] == "Failed", 60)
    message = said(environment, service)[1]
    assert environment.status(service)["reason"] == "PreflightFailed"
    assert message.startswith(
        f"/: Heroku answers through the gateway with HTTP 301 to https://{host}/; what users get now is"
    )
    assert "set heroku.hostHeader: Public" in message
    environment.apply(manifests.plan(service, ceiling=0, heroku=heroku(service, "Public")))
    environment.until_status(service, 60, phase="Baseline")
    assert "/: EKS answers with the content type application/json" in said(environment, service)[1]
    assert "session=secret" not in environment.operator_log() + str(environment.plan(service))


def _check_users(environment: Environment, host: str, since: float) -> None:
    """See that every user's request was answered with 200, by the team's route and then by the operator's."""
    load = environment.load
    assert load is not None
    load.settle(time.time() - 1, host)
    records = [record for record in load.records(host) if record.at > since and record.judged]
    assert {record.status for record in records} == {200}
    assert {record.leg for record in records} == {"heroku"}
    assert {record.revision for record in records} == {"", "a1-w0"}
