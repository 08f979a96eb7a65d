"""Routes of requests that are not drawn: testers' (``traffic.preview``), and those of users who were (``traffic.affinity``).

Each comes directly before the route whose requests are split, and matches what that one matches and a header more. Users carry
their cohort (:mod:`cutover.domain.cohorts`) in a cookie, which the gateway sets with the answer to the request that was drawn.
So a step changes which cohorts go to EKS, and no cookie.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cutover.domain.cohorts import Cohort, cohorts, ladder
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio.names import ON_EKS_ROUTE, ON_HEROKU_ROUTE, PREVIEW_ROUTE
from cutover.domain.resources import Json
from cutover.domain.revision import Split
from cutover.domain.traffic import Leg

#: A cohort's cookie in an answer, whatever its name is: of an adopted route only the operator's own are taken out.
_OURS = re.compile(r"[^=;]+=a[0-9]+-[0-9a-f]{8}\.[0-9]+;.*")


@dataclass(frozen=True, slots=True)
class Pinned:
    """Requests that one header sends to one leg.

    Parameters
    ----------
    name
        Name of their route.
    leg
        The leg.
    header, match
        The header's name, and what Istio has to find in it.
    """

    name: str
    leg: Leg
    header: str
    match: Json

    def of(self, matches: Iterable[Mapping[str, Any]] | None) -> list[Json]:
        """Return the matches of such requests among those of a route.

        A match that asks for the same header already is left out, as it could not ask for both: such requests are drawn.
        """
        return [
            {**one, "headers": {**(one.get("headers") or {}), self.header: self.match}}
            for one in (matches or ({},))
            if self.header not in (one.get("headers") or {})
        ]


def pinned(plan: Plan, split: Split) -> tuple[Pinned, ...]:
    """Return which requests are not drawn, testers' first."""
    found: list[Pinned] = []
    if (preview := plan.spec.traffic.preview) is not None:
        if preview.header is not None:
            found.append(Pinned(PREVIEW_ROUTE, Leg.EKS, preview.header.name, {"exact": preview.header.value}))
        elif preview.cookie is not None:
            cookie = _cookie(preview.cookie.name, re.escape(preview.cookie.value))
            found.append(Pinned(PREVIEW_ROUTE, Leg.EKS, "cookie", cookie))
    drawn, affinity = cohorts(plan, split), plan.spec.traffic.affinity
    if drawn and affinity is not None:
        name, value = affinity.cookie.name, re.escape(f"{ladder(plan, split)}.")
        moved = "|".join(str(cohort.weight) for cohort in drawn if cohort.on_eks(split.weight))
        found.append(Pinned(ON_EKS_ROUTE, Leg.EKS, "cookie", _cookie(name, f"{value}(?:{moved})")))
        # The cohorts that have moved are gone by the route before.
        found.append(Pinned(ON_HEROKU_ROUTE, Leg.HEROKU, "cookie", _cookie(name, f"{value}[0-9]+")))
    return tuple(found)


def _cookie(name: str, value: str) -> Json:
    """Return what finds a cookie among others. Istio's expressions have to match the whole header."""
    return {"regex": rf"(?:.*;\s*)?{re.escape(name)}={value}(?:\s*;.*)?"}


def _set_cookie(plan: Plan, split: Split, cohort: Cohort) -> str:
    """Return the cookie by which a new user learns the cohort. No script of the app's can read it."""
    affinity = plan.spec.traffic.affinity
    assert affinity is not None, "there are no cohorts without"
    name, seconds = affinity.cookie.name, int(affinity.cookie.max_age.total_seconds())
    value = f"{ladder(plan, split)}.{cohort.weight}"
    return f"{name}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax"


def is_ours(name: str, value: str) -> bool:
    """Tell whether a header that a destination adds to answers is a cohort's cookie."""
    return name.lower() == "set-cookie" and _OURS.fullmatch(value) is not None


def drawn(destinations: Mapping[Leg, Json], plan: Plan, split: Split) -> dict[Leg, list[Json]]:
    """Return each leg's destinations among which requests are drawn; all weights add up to 100.

    Without cohorts both legs are listed at every weight, so that a step changes only two numbers and the revision.

    Parameters
    ----------
    destinations
        Each leg's destination, without a weight.
    """
    users = cohorts(plan, split)
    if not users:
        percents = {Leg.HEROKU: 100 - split.weight, Leg.EKS: split.weight}
        return {leg: [{**there, "weight": percents[leg]}] for leg, there in destinations.items()}
    found: dict[Leg, list[Json]] = {leg: [] for leg in destinations}
    for cohort in users:
        leg = Leg.EKS if cohort.on_eks(split.weight) else Leg.HEROKU
        there = destinations[leg]
        headers = _adding(there["headers"], "Set-Cookie", _set_cookie(plan, split, cohort))
        found[leg].append({**there, "headers": headers, "weight": cohort.percent})
    return found


def _adding(headers: Json, name: str, value: str) -> Json:
    """Return headers that also add one to answers."""
    response = headers.get("response") or {}
    return {**headers, "response": {**response, "add": {**(response.get("add") or {}), name: value}}}
