"""Check ``baseline-capacity``: EKS has the replicas for its part of the busiest hour, beside Heroku's dynos."""

from __future__ import annotations

from cutover.domain.baseline.week import peak
from cutover.domain.plan import Plan
from cutover.domain.preflight.capacity import MOST_GROWTH, READS
from cutover.domain.preflight.check import PASSED, Check, Facts, Finding, warned
from cutover.domain.preflight.workload import autoscaler_of
from cutover.domain.resources import DEPLOYMENTS


def judge(plan: Plan, facts: Facts) -> Finding:
    """Compare what each replica would get in the busiest hour with what each web dyno gets.

    Nothing here knows how much a replica can do. What one dyno can do is known from the busiest hour, and a replica of the same
    app is given twice as much.
    """
    record, app = facts.record, facts.heroku.app if facts.heroku is not None else None
    if record is None or app is None or app.processes is None:
        return PASSED
    reference, busiest = plan.spec.eks.workload_ref, peak(record)
    workload = facts.inventory.get(DEPLOYMENTS, plan.namespace, reference.name)
    dynos = sum(one.quantity for one in app.processes if one.kind == "web")
    if workload is None or not dynos or not busiest.rate:
        return PASSED  # other checks say so
    autoscaler = autoscaler_of(plan, facts.inventory)
    replicas = (workload.get("spec") or {}).get("replicas", 1)
    most = autoscaler["spec"].get("maxReplicas", replicas) if autoscaler is not None else replicas
    each = busiest.rate / dynos
    first = next(
        (step.weight for step in plan.spec.steps if _each(busiest.rate, step.weight, most) > MOST_GROWTH * each), None
    )
    if first is None:
        return PASSED
    what = f"{reference.kind} {reference.name}"
    limit = f"HorizontalPodAutoscaler {autoscaler['metadata']['name']}" if autoscaler is not None else "its replicas"
    return warned(
        f"in the busiest hour ({busiest.hour} UTC) Heroku answered {busiest.rate:.3g} requests/s by {dynos} web dynos,"
        f" {each:.2g} each; at {first} % {what} gets {busiest.rate * first / 100:.3g}, which is"
        f" {_each(busiest.rate, first, most):.2g} for each of at most {most} replicas ({limit}): allow more, unless a replica does"
        " the work of several dynos"
    )


def _each(rate: float, weight: int, replicas: int) -> float:
    """Return the requests per second that each replica gets."""
    return rate * weight / 100.0 / max(replicas, 1)


CHECK = Check(
    name="baseline-capacity",
    passes_when="with [a record](baseline.md) and a key for Heroku's API: in the busiest hour no replica would get more than"
    " twice the requests of a web dyno",
    judge=judge,
    reads=READS,
    applies=lambda spec: spec.baseline.source is not None,
    advisory=True,
)
