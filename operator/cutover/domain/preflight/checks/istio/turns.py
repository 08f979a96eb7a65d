"""The order of plans that ask for the same hosts or app and have not taken over yet."""

from __future__ import annotations

from collections.abc import Sequence

from cutover.api.v1alpha1 import Phase
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import Read
from cutover.domain.preflight.inventory import Inventory, key_of
from cutover.domain.resources import PLANS, Json


def turn_of(body: Json) -> Json:
    """Keep only the part of a plan that decides the order; a thousand whole plans are some 10 MiB."""
    metadata, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
    istio = (spec.get("traffic") or {}).get("istio") or {}
    return {
        "metadata": {
            name: metadata.get(name) for name in ("namespace", "name", "creationTimestamp", "deletionTimestamp")
        },
        "phase": status.get("phase") or Phase.PENDING,
        "suspended": bool(spec.get("suspend")),
        "hostname": (spec.get("heroku") or {}).get("hostname"),
        # A plan that works with the team's route claims no hosts.
        "hosts": () if istio.get("virtualServiceRef") else istio.get("hosts") or (),
        "gateways": [
            name if "/" in name else f"{metadata['namespace']}/{name}" for name in istio.get("gateways") or ()
        ],
    }


def _waits(plan: Plan) -> bool:
    return plan.status.weight is None


#: A plan that has taken over waits for no other plan.
OTHER_PLANS = Read(PLANS, keep=turn_of, wanted=_waits)


def plans_before(plan: Plan, inventory: Inventory) -> list[Json]:
    """Return the plans, from :func:`turn_of`, that come before this plan; none if this plan has taken over."""
    return before_in_turn(plan, inventory.all(PLANS)) if _waits(plan) else []


def before_in_turn(plan: Plan, plans: Sequence[Json]) -> list[Json]:
    """Return the plans, from :func:`turn_of`, that may take over before this plan.

    These are earlier plans that are in preflight and not suspended. Of two plans created in the same second, the first by
    name is earlier, as with Istio's routes.
    """

    def turn(item: Json) -> tuple[str, str, str]:
        metadata = item["metadata"]
        return metadata["creationTimestamp"], metadata["name"], metadata["namespace"]

    this = next((turn(item) for item in plans if key_of(item) == (plan.namespace, plan.name)), ("", "", ""))
    return [
        item
        for item in plans
        if turn(item) < this
        and item["phase"] in (Phase.PENDING, Phase.PREFLIGHT)
        and not item["suspended"]
        and item["metadata"]["deletionTimestamp"] is None
    ]
