"""Whose turn it is where several plans that have not taken over yet ask for the same."""

from __future__ import annotations

from collections.abc import Sequence

from cutover.api.v1alpha1 import Phase
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import Read
from cutover.domain.preflight.checks.istio.names import qualified
from cutover.domain.preflight.inventory import Inventory, key_of
from cutover.domain.resources import PLANS, Json


def turn_of(body: Json) -> Json:
    """Leave of a plan what says whose turn it is, and for what; a thousand whole ones are some 10 MiB."""
    metadata, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
    istio = (spec.get("traffic") or {}).get("istio") or {}
    return {
        "metadata": {
            name: metadata.get(name) for name in ("namespace", "name", "creationTimestamp", "deletionTimestamp")
        },
        "phase": status.get("phase") or Phase.PENDING,
        "suspended": bool(spec.get("suspend")),
        "hostname": (spec.get("heroku") or {}).get("hostname"),
        # With somebody else's route it takes no host.
        "hosts": () if istio.get("virtualServiceRef") else istio.get("hosts") or (),
        "gateways": [qualified(name, metadata["namespace"]) for name in istio.get("gateways") or ()],
    }


def _waits(plan: Plan) -> bool:
    return plan.status.weight is None


#: A plan that has taken over waits for no other.
OTHER_PLANS = Read(PLANS, keep=turn_of, wanted=_waits)


def plans_before(plan: Plan, inventory: Inventory) -> list[Json]:
    """Return the plans, as :func:`turn_of` has them, whose turn is before this plan's."""
    return before_in_turn(plan, inventory.all(PLANS)) if _waits(plan) else []


def before_in_turn(plan: Plan, plans: Sequence[Json]) -> list[Json]:
    """Return those of the plans, as :func:`turn_of` has them, that may take over before this one does.

    They are those in preflight that were made earlier; of two that were made in the same second the first by name, as
    with Istio's routes. A suspended plan does not begin.
    """

    def turn(item: Json) -> tuple[str, str, str]:
        metadata = item["metadata"]
        return metadata["creationTimestamp"], metadata["name"], metadata["namespace"]

    own = next((turn(item) for item in plans if key_of(item) == (plan.namespace, plan.name)), ("", "", ""))
    return [
        item
        for item in plans
        if turn(item) < own
        and item["phase"] in (Phase.PENDING, Phase.PREFLIGHT)
        and not item["suspended"]
        and item["metadata"]["deletionTimestamp"] is None
    ]
