"""Whether the target is ready to take traffic: judging facts, not collecting them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cutover.api.v1alpha1 import CheckStatus, MigrationPlanSpec, Ownership
from cutover.domain.observation import Probe, WorkloadFacts
from cutover.domain.slo.custom import CustomSlo, SloReading
from cutover.domain.verdicts import Verdict

#: Checks of the target, made before the takeover.
TARGET_CHECKS = ("service", "workload", "gateway", "host-unclaimed", "heroku-unshared")
#: Those of them that also look at what is other teams': where they fail for that, no plan can skip them.
GUARDED_CHECKS = ("gateway", "host-unclaimed", "heroku-unshared")
#: Checks of the team's own VirtualService, by ownership, made with the target's.
ROUTE_CHECKS: Mapping[Ownership, tuple[str, ...]] = {
    Ownership.GENERATE: (),
    Ownership.DELEGATE: ("route-delegates",),
    Ownership.ADOPT: ("route-adoptable", "route-writers"),
}
#: Made through the gateway once the takeover at weight 0 is live.
HEROKU_CHECK = "heroku-answers"
#: Made of Prometheus, before the takeover: each of the team's own queries is asked once.
QUERIES_CHECK = "gate-queries"
CHECKS = (*TARGET_CHECKS, *sum(ROUTE_CHECKS.values(), ()), QUERIES_CHECK, HEROKU_CHECK)

PASSED, FAILED, UNKNOWN, SKIPPED = "Passed", "Failed", "Unknown", "Skipped"


def check_target(spec: MigrationPlanSpec, facts: WorkloadFacts | None) -> tuple[CheckStatus, ...]:
    """Judge the target Service, its workload, the gateways, the hosts, and the team's own route where there is one."""
    route_checks = ROUTE_CHECKS[spec.traffic.istio.ownership]
    if facts is None:
        unknown = "the API server could not be asked"
        return tuple(
            CheckStatus(check=name, status=UNKNOWN, message=unknown)
            if name in GUARDED_CHECKS
            else _check(spec, name, status=UNKNOWN, message=unknown)
            for name in (*TARGET_CHECKS, *route_checks)
        )
    service, workload = spec.eks.service, spec.eks.workload_ref
    service_problem = ""
    if not facts.service_exists:
        service_problem = f"Service {service.name} does not exist; create it or correct eks.service.name"
    elif service.port not in facts.service_ports:
        ports = ", ".join(str(port) for port in facts.service_ports) or "none"
        service_problem = (
            f"Service {service.name} has no port {service.port} (it has {ports}); correct eks.service.port"
        )
    workload_problem = ""
    if not facts.workload_exists:
        workload_problem = f"{workload.kind} {workload.name} does not exist; create it or correct eks.workloadRef"
    elif facts.replicas_wanted == 0:
        workload_problem = f"{workload.kind} {workload.name} is scaled to zero; scale it up"
    elif facts.replicas_available < facts.replicas_wanted:
        workload_problem = (
            f"{workload.kind} {workload.name} has {facts.replicas_available} of {facts.replicas_wanted} replicas "
            "available; see its events"
        )
    gateway_problem = ""
    if facts.missing_gateways:
        gateway_problem = f"Gateway {', '.join(facts.missing_gateways)} does not exist; correct traffic.istio.gateways"
    claims = [f"{host} by VirtualService {owner}" for host, owner in sorted(facts.claimed_hosts.items())]
    host_problem = f"already routed: {', '.join(claims)}; take the host out of it first" if claims else ""
    shared_problem = ""
    if facts.heroku_shared_with:
        shared_problem = (
            f"plan {facts.heroku_shared_with} routes to {spec.heroku.hostname} too, and the gates could not tell them "
            "apart; give one plan both hosts, or move them one after the other"
        )
    target_problems = (service_problem, workload_problem, gateway_problem, host_problem, shared_problem)
    return (
        *(
            CheckStatus(check=name, status=FAILED, message=facts.refused[name])
            if facts.refused.get(name)
            else _judged(spec, name, problem)
            for name, problem in zip(TARGET_CHECKS, target_problems, strict=True)
        ),
        *(
            _judged(spec, name, problem)
            for name, problem in zip(route_checks, (facts.route_problem, facts.route_writers), strict=False)
        ),
    )


def check_queries(
    spec: MigrationPlanSpec, gates: Sequence[CustomSlo], readings: Mapping[str, SloReading]
) -> tuple[CheckStatus, ...]:
    """Judge whether Prometheus understands the team's own queries, where there are any.

    That there is nothing to see yet is no failure.
    """
    if not gates:
        return ()
    waiting, wrong = [], []
    for gate in gates:
        reading = readings.get(gate.name, SloReading())
        problem = reading.problem
        if problem is not None and problem.verdict in (Verdict.QUERY_ERROR, Verdict.AMBIGUOUS):
            wrong.append(f"gate {gate.name}: {problem.message}")
        elif not reading.asked_at:
            waiting.append(f"gate {gate.name}: {problem.message if problem else 'not asked yet'}")
    if wrong or not waiting:
        return (_judged(spec, QUERIES_CHECK, "; ".join(wrong)),)
    return (_check(spec, QUERIES_CHECK, status=UNKNOWN, message="; ".join(waiting)),)


def check_heroku(spec: MigrationPlanSpec, probe: Probe | None, revision: str) -> CheckStatus:
    """Judge whether the Heroku leg answers through the gateway, on the route that the takeover wrote."""
    if probe is None:
        return _check(spec, HEROKU_CHECK, status=UNKNOWN, message="not asked yet")
    if probe.revision != revision:
        seen = f"revision {probe.revision}" if probe.revision else "no revision"
        return _check(
            spec,
            HEROKU_CHECK,
            status=UNKNOWN,
            message=f"the gateway does not have the route yet ({seen}; {probe.detail})",
        )
    return _judged(spec, HEROKU_CHECK, "" if probe.healthy else f"Heroku's answer through the gateway: {probe.detail}")


def passed(checks: tuple[CheckStatus, ...]) -> bool:
    """Tell whether nothing stands in the way."""
    return all(check.status in (PASSED, SKIPPED) for check in checks)


def summary(checks: tuple[CheckStatus, ...]) -> str:
    """Say in a sentence what stands in the way."""
    return "; ".join(f"{check.check}: {check.message}" for check in checks if check.status in (FAILED, UNKNOWN))


def _judged(spec: MigrationPlanSpec, name: str, problem: str) -> CheckStatus:
    return _check(spec, name, status=FAILED if problem else PASSED, message=problem)


def _check(spec: MigrationPlanSpec, name: str, *, status: str, message: str) -> CheckStatus:
    if status != PASSED:
        reason = next((skip.reason for skip in spec.preflight.skip if skip.check == name), None)
        if reason is not None:
            return CheckStatus(check=name, status=SKIPPED, message=f"skipped: {reason}")
    return CheckStatus(check=name, status=status, message=message)
