"""The headers by which testers' requests, and those of users who were drawn, are known; and team's routes that ask for them too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cutover.domain.plan import Plan

#: Most of a team's routes that can be split with ``traffic.affinity``: each becomes three, with a destination for each step, and
#: the API server takes objects of about 1.5 MB.
MOST_ROUTES = 32


def asked_headers(plan: Plan) -> Mapping[str, str]:
    """Return the headers in lower case, each with the field of the spec that asks for it."""
    preview, found = plan.spec.traffic.preview, dict[str, str]()
    if preview is not None:
        found[preview.header.name if preview.header is not None else "cookie"] = "traffic.preview"
    if plan.spec.traffic.affinity is not None:
        found["cookie"] = "traffic.affinity"
    return found


def asked_twice(route: Mapping[str, Any], plan: Plan) -> Iterator[str]:
    """Find matches of a route for such a header: a match has one condition for each header."""
    asked = asked_headers(plan)
    there = dict.fromkeys(
        str(name).lower() for match in route.get("match") or () for name in match.get("headers") or ()
    )
    for name in there:
        if field := asked.get(name):
            yield (
                f"matches the header {name}, by which {field} tells requests apart, and one match cannot ask for both; match"
                f" something else there, or take {field} out"
            )


def sets_cookies(route: Mapping[str, Any], plan: Plan) -> bool:
    """Tell whether a destination adds a cookie to answers, where ``traffic.affinity`` has to add one: there is room for one."""
    return plan.spec.traffic.affinity is not None and any(
        str(name).lower() == "set-cookie"
        for one in route.get("route") or ()
        for name in ((one.get("headers") or {}).get("response") or {}).get("add") or ()
    )
