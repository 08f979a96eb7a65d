"""Finds out which of the kinds that the operator watches the API server serves."""

from __future__ import annotations

import asyncio

import structlog

from cutover.adapters.kube.answers import NotServed
from cutover.adapters.kube.client import Cluster
from cutover.api import v1alpha1
from cutover.api.v1alpha1 import templates
from cutover.domain.resources import PLANS, Resource
from cutover.ports.errors import Conflict, Gone, Unavailable

log = structlog.get_logger("cutover")

_TEMPLATES = {
    v1alpha1.TemplateKind.GATE_TEMPLATE: templates.GATE_TEMPLATES,
    v1alpha1.TemplateKind.CLUSTER_GATE_TEMPLATE: templates.CLUSTER_GATE_TEMPLATES,
}
#: The operator's own kinds, which Kopf watches for it.
OWN_KINDS = frozenset(
    (
        PLANS,
        *(Resource(v1alpha1.GROUP, v1alpha1.VERSION, kind, plural) for kind, plural in _TEMPLATES.items()),
    )
)
#: Seconds between two checks for kinds that are not served.
LOOK_SECONDS = 2.0


class _Discovery(Resource):
    """The API server's discovery: its groups, or with a group and a version the kinds in them."""

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:  # noqa: ARG002
        return "/" + "/".join(part for part in ("apis", self.group, self.version) if part)

    def __str__(self) -> str:
        return self.path()


async def served(cluster: Cluster, watched: frozenset[Resource]) -> frozenset[Resource]:
    """Return the kinds that can be watched; plans have to be patchable, too. Raises Unavailable.

    The requests are the same as Kopf's. While the CRD of plans is being deleted, discovery says that they cannot be patched.
    """
    try:
        listed = await cluster.get(_Discovery("", "", "APIGroupList", ""), "", "")
        groups = {group["name"] for group in listed["groups"]}
        found: set[Resource] = set()
        for group, version in {(kind.group, kind.version) for kind in watched if kind.group in groups}:
            try:
                answer = await cluster.get(_Discovery(group, version, "APIResourceList", ""), "", "")
            except NotServed:
                continue
            verbs = {kind["name"]: set(kind.get("verbs") or ()) for kind in answer["resources"]}
            found.update(
                kind
                for kind in watched
                if (kind.group, kind.version) == (group, version)
                and {"list", "watch", *(["patch"] if kind == PLANS else [])} <= verbs.get(kind.plural, set())
            )
    except (Conflict, Gone) as strange:
        raise Unavailable(str(strange)) from strange
    except (KeyError, TypeError, AttributeError) as strange:
        raise Unavailable(f"the API server's discovery is not understood: {strange!r}") from strange
    return frozenset(found)


async def until_served(cluster: Cluster, watched: frozenset[Resource], *wanted: Resource) -> frozenset[Resource]:
    """Wait until the wanted kinds are served; return all served kinds. The reason for waiting is logged once."""
    said = ""
    while True:
        try:
            there = await served(cluster, watched)
            missing = frozenset(wanted) - there
            problem = f"{named(missing)}: not served; is the CRD installed?" if missing else ""
        except Unavailable as outage:
            problem = str(outage)
        # Not all API servers may know a new kind yet, and Kopf would miss it: check once more.
        if not problem and not said:
            return there
        if problem not in ("", said):
            log.warning("waiting for the kinds to watch", problem=problem)
        said = problem
        await asyncio.sleep(LOOK_SECONDS)


def named(kinds: frozenset[Resource]) -> str:
    """Return the kinds' names for people."""
    return ", ".join(sorted(str(kind) for kind in kinds))
