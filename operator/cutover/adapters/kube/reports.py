"""Keeps reports in ConfigMaps beside their plans."""

from __future__ import annotations

from collections.abc import Mapping

from cutover.adapters.kube.client import Cluster
from cutover.domain.plan import Plan
from cutover.domain.resources import CONFIG_MAPS
from cutover.ports.errors import Gone
from cutover.report.config_map import config_map


class ConfigMapReports:
    """:class:`cutover.ports.reports.ReportStore` in ConfigMaps.

    Parameters
    ----------
    cluster
        The API server.
    """

    kind = CONFIG_MAPS.kind

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def place(self, plan: Plan, name: str) -> str:  # noqa: ARG002
        """Return where a report is kept, for people."""
        return f"ConfigMap {name}"

    async def keep(self, plan: Plan, name: str, documents: Mapping[str, str]) -> None:
        """Create the ConfigMap. Raises Conflict where it exists, Gone where its namespace does not, Unavailable."""
        body = config_map(name, dict(documents), plan=plan.name, namespace=plan.namespace, uid=plan.uid)
        try:
            await self._cluster.create(CONFIG_MAPS, body)
        except Gone:
            raise Gone(f"the namespace {plan.namespace} does not exist any more") from None
