"""The ConfigMap in which the operator keeps the report of a plan that has ended."""

from __future__ import annotations

from cutover.domain.marks import FIELD_MANAGER, MANAGED_BY_LABEL, PLAN_LABEL, PLAN_UID_ANNOTATION
from cutover.domain.resources import CONFIG_MAPS, Json


def config_map(name: str, documents: dict[str, str], *, plan: str, namespace: str, uid: str) -> Json:
    """Return the ConfigMap with a report.

    It cannot be changed, so that it is evidence, and so that the operator needs the right to create it and no other. It has no
    owner: it stays when the plan is deleted.

    Parameters
    ----------
    name
        See :func:`cutover.domain.journal.reports.report_name`.
    documents
        Texts by file name.
    plan, namespace, uid
        The plan's name, its namespace, and its UID.
    """
    return {
        "apiVersion": CONFIG_MAPS.api_version,
        "kind": CONFIG_MAPS.kind,
        "metadata": {
            "namespace": namespace,
            "name": name,
            "labels": {MANAGED_BY_LABEL: FIELD_MANAGER, PLAN_LABEL: plan},
            "annotations": {PLAN_UID_ANNOTATION: uid},
        },
        "immutable": True,
        "data": documents,
    }
