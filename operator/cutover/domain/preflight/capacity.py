"""Whether EKS has the replicas for all users, by the Deployment and its HorizontalPodAutoscaler.

Nothing here knows how busy a replica is. What is known is by how much its part grows: all users are ``100 / weight`` times
as many as now, spread over as many replicas as there can be.
"""

from __future__ import annotations

from dataclasses import dataclass

from cutover.domain.plan import Plan
from cutover.domain.preflight.inventory import Inventory
from cutover.domain.preflight.workload import AUTOSCALERS, DEPLOYMENT, autoscaler_of
from cutover.domain.resources import DEPLOYMENTS

#: How many times its present requests a replica may get. Autoscalers aim at 50 to 80 % of what a replica can do, and what
#: is asked for is a rescue.
MOST_GROWTH = 2.0


@dataclass(frozen=True, slots=True)
class Capacity:
    """Whether EKS has the replicas for all users.

    Parameters
    ----------
    enough
        Whether it has; also false if that is not known.
    text
        Why, as a part of a sentence.
    """

    enough: bool
    text: str


#: What :func:`capacity_for_all` needs.
READS = (DEPLOYMENT, AUTOSCALERS)


def capacity_for_all(plan: Plan, inventory: Inventory | None, weight: int) -> Capacity:
    """Tell whether EKS has the replicas for all users.

    Parameters
    ----------
    plan
        The plan.
    inventory
        The objects of :data:`READS`; ``None`` if they have not been read.
    weight
        Percent of requests that EKS has now, above 0.
    """
    if inventory is None:
        return Capacity(False, "the replicas of EKS have not been read yet")
    if unread := [inventory.unread[read.resource] for read in READS if read.resource in inventory.unread]:
        return Capacity(False, "; ".join(unread))
    reference = plan.spec.eks.workload_ref
    what = f"{reference.kind} {reference.name}"
    workload = inventory.get(DEPLOYMENTS, plan.namespace, reference.name)
    if workload is None:
        return Capacity(False, f"{what} does not exist")
    wanted = (workload.get("spec") or {}).get("replicas", 1)
    ready = (workload.get("status") or {}).get("readyReplicas", 0)
    if ready < max(wanted, 1):
        return Capacity(False, f"{what} has {ready} of {wanted} replicas ready")
    autoscaler = autoscaler_of(plan, inventory)
    most = ready
    limit = "without a HorizontalPodAutoscaler"
    if autoscaler is not None:
        most = max(ready, autoscaler["spec"].get("maxReplicas", ready))
        limit = f"at most {most} by HorizontalPodAutoscaler {autoscaler['metadata']['name']}"
    growth = 100.0 / weight * ready / most
    said = f"{what} has {ready} replicas ready, {limit}, so that each gets {growth:.2g} times its present requests"
    if growth > MOST_GROWTH:
        return Capacity(False, f"{said}, and more than {MOST_GROWTH:g} times is too much")
    return Capacity(True, said)
