"""The trial: the probes of both legs have a route, and users have none of the operator's.

The functions are pure: objects in, objects out. The plan's own probes are known by their token, so that nothing of others is
ever taken out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cutover.adapters.traffic.istio.adopt import as_users
from cutover.adapters.traffic.istio.rendering import adopts, probe_routes, probe_value
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio.legs import is_adopted, is_probe, plans_routes
from cutover.domain.preflight.checks.istio.names import PROBE_HEADER
from cutover.domain.resources import Json
from cutover.domain.revision import HEADER
from cutover.domain.traffic import Leg

#: Revision of the probes' routes in an object of the operator's after the trial: there has to be a route in it.
ENDED = "ended"


def trial_spec(wanted: Json, live: Mapping[str, Any], plan: Plan, probes: tuple[Json, Json]) -> Json:
    """Return the spec with the probes' routes first, and all routes that are there already.

    Parameters
    ----------
    wanted
        Spec of an object of the operator's.
    live
        Spec of the object as it is; empty if there is none.
    probes
        The routes of the probes of Heroku and of EKS.
    """
    others = others_of(live, plan, teams=adopts(plan))
    heroku, eks = probes
    if adopts(plan):
        return {**live, "http": [heroku, as_users(eks, others, plan), *others]}
    return {**wanted, "http": [heroku, eks, *others]}


def ended_spec(live: Mapping[str, Any], plan: Plan, cluster_domain: str, *, teams: bool) -> Json:
    """Return the spec without the probes' routes.

    An object of the operator's in which nothing is left gets no hosts and no gateways, and so no request: the operator
    deletes no routes, and has no right to.

    Parameters
    ----------
    teams
        Whether the object is the team's.
    """
    others = others_of(live, plan, teams=teams)
    if others or teams:
        return {**live, "http": others}
    return {"exportTo": ["."], "http": list(probe_routes(plan, ENDED, cluster_domain))}


def others_of(spec: Mapping[str, Any], plan: Plan, *, teams: bool) -> list[Json]:
    """Return the routes that are not for the plan's probes; in an object of the operator's, for no plan's."""
    routes: Sequence[Json] = spec.get("http") or ()
    if teams:
        return [route for route in routes if _probed_revision(route, plan) is None]
    return [route for route in routes if not is_probe(route)]


def trial_revision(spec: Mapping[str, Any], plan: Plan) -> str:
    """Return the revision that the plan's probes meet; ``""`` if they have no route, or no longer."""
    found = {_probed_revision(route, plan) for route in spec.get("http") or ()} - {None, ENDED}
    return str(found.pop()) if len(found) == 1 else ""


def users_have_it(spec: Mapping[str, Any], plan: Plan, *, teams: bool) -> bool:
    """Tell whether users' requests follow a route of the operator's in the object, of this plan or an earlier one."""
    if teams:
        return any(is_adopted(legs) for _, _, legs in plans_routes(spec, plan))
    # A shape that the operator does not write may route anything.
    return not spec.get("http") or bool(others_of(spec, plan, teams=False))


def _probed_revision(route: Mapping[str, Any], plan: Plan) -> str | None:
    """Return the revision of a route of the plan's probes; ``None`` for any other route."""
    try:
        revision = str(route["headers"]["response"]["set"][HEADER])
        tokens: Sequence[str] = [str(match["headers"][PROBE_HEADER]["exact"]) for match in route["match"]]
    except (KeyError, TypeError, AttributeError):
        return None
    own = {probe_value(plan, leg, revision) for leg in Leg}
    return revision if tokens and own.issuperset(tokens) else None
