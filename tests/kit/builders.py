"""Plans, as people write them and as the operator has them: one service and one host name, the rest as a test says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cutover.api.v1alpha1 import MigrationPlanSpec, MigrationPlanStatus
from cutover.domain.plan import Plan
from sandbox.manifests import heroku_hostname, public_host

Json = dict[str, Any]

#: Where the service's namespace is, and what its users and Heroku's router know it by.
NAMESPACE, PUBLIC_HOST, HEROKU_HOST = "docs", public_host("pdf"), heroku_hostname("pdf")
GATEWAY = "istio-ingress/public"
UID = "8f14e45f-ceea-467f-9575-1f2d3c4b5a69"


def spec_fields(name: str = "pdf", *, istio: Mapping[str, Any] | None = None, **fields: Any) -> Json:
    """Return a plan's ``spec`` with what every plan has to say.

    Parameters
    ----------
    name
        The service, which is called the same everywhere.
    istio
        Fields of ``traffic.istio``, besides or in place of the host and the gateway.
    fields
        Fields of the spec, by the API's own names.
    """
    route = {"hosts": [public_host(name)], "gateways": [GATEWAY], **(istio or {})}
    return {
        "heroku": {"app": f"acme-{name}", "hostname": heroku_hostname(name)},
        "eks": {"service": {"name": name, "port": 80}, "workloadRef": {"name": name}},
        "traffic": {"istio": route},
        **fields,
    }


def plan_body(
    name: str = "pdf",
    namespace: str = NAMESPACE,
    *,
    status: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    istio: Mapping[str, Any] | None = None,
    **spec: Any,
) -> Json:
    """Return a plan as a person applies it, or as the operator has left it, with a status."""
    body: Json = {
        "apiVersion": "cutover.dev/v1alpha1",
        "kind": "MigrationPlan",
        "metadata": {"namespace": namespace, "name": name, **(metadata or {})},
        "spec": spec_fields(name, istio=istio, **spec),
    }
    return body if status is None else {**body, "status": dict(status)}


def plan_body_of(namespace: str, name: str = "pdf", **spec: Any) -> Json:
    """Return a plan for a host of the namespace's own: beside other namespaces' plans it claims nothing of theirs."""
    return plan_body(name, namespace, istio={"hosts": [public_host(f"{name}.{namespace}")]}, **spec)


def plan(
    name: str = "pdf",
    namespace: str = NAMESPACE,
    *,
    uid: str = UID,
    status: MigrationPlanStatus | Mapping[str, Any] | None = None,
    istio: Mapping[str, Any] | None = None,
    **spec: Any,
) -> Plan:
    """Return a plan as the operator has it, with a status that is none yet unless it is given."""
    known = status if isinstance(status, MigrationPlanStatus) else MigrationPlanStatus.model_validate(status or {})
    return Plan(
        namespace=namespace,
        name=name,
        uid=uid,
        generation=1,
        spec=MigrationPlanSpec.model_validate(spec_fields(name, istio=istio, **spec)),
        status=known,
    )


def with_traffic(plan: Plan, **fields: Any) -> Plan:
    """Return a plan with further fields of ``traffic``, by the API's own names."""
    spec = plan.spec.model_dump(by_alias=True, mode="json", exclude_none=True)
    return replace(plan, spec=MigrationPlanSpec.model_validate(spec | {"traffic": spec["traffic"] | fields}))
