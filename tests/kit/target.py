"""What a team has in the cluster before it writes a plan, as preflight reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cutover.api.v1alpha1 import Ownership
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio.heroku_unshared import services_named
from cutover.domain.preflight.checks.istio.indexed import Hosts, Routes
from cutover.domain.preflight.checks.istio.kinds import GATEWAYS, SERVICE_ENTRIES, VIRTUAL_SERVICES
from cutover.domain.preflight.checks.istio.listed import entry_claims, route_claims
from cutover.domain.preflight.checks.istio.names import gateway_keys, qualified_gateways, root_key, route_name
from cutover.domain.preflight.inventory import ClusterSettings, Inventory
from cutover.domain.resources import (
    DEPLOYMENTS,
    HORIZONTAL_POD_AUTOSCALERS,
    PLANS,
    POD_DISRUPTION_BUDGETS,
    SERVICES,
    Json,
)


def named(namespace: str, name: str, **parts: Any) -> Json:
    return {"metadata": {"namespace": namespace, "name": name}, **parts}


def listed_routes(*bodies: Json) -> Routes:
    """Return VirtualServices as checks look them up."""
    return Routes.of([route_claims(body) for body in bodies])


def listed_entries(*bodies: Json) -> Hosts:
    """Return ServiceEntries as checks look them up."""
    return Hosts.of([entry_claims(body) for body in bodies])


#: A Gateway's server that takes all hosts from all namespaces.
OPEN_SERVER = {"port": {"number": 80, "protocol": "HTTP"}, "hosts": ["*"]}


#: A Pod template that no audit finds anything in.
POD_TEMPLATE: Json = {
    "metadata": {"labels": {"app": "pdf"}},
    "spec": {
        "terminationGracePeriodSeconds": 45,
        "containers": [
            {
                "name": "app",
                "image": "pdf:1",
                "resources": {"requests": {"cpu": "250m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}},
                "readinessProbe": {"httpGet": {"path": "/healthz", "port": 80}},
                "lifecycle": {"preStop": {"sleep": {"seconds": 10}}},
            }
        ],
    },
}
#: A PodDisruptionBudget for its Pods.
BUDGET: Json = named("shop", "pdf", spec={"selector": {"matchLabels": {"app": "pdf"}}, "maxUnavailable": 1})


@dataclass(frozen=True)
class Target:
    """By default all is as the plan needs it.

    Parameters
    ----------
    ports
        Of the Service; ``None``: there is no Service.
    replicas
        Of the Deployment, wanted and available; ``None``: there is no Deployment.
    gateways
        Whether the plan's Gateways exist.
    servers
        Of each of them.
    team_route
        Whether the team's own VirtualService exists, where the plan works with one.
    team_http
        Its routes; ``None``: as the plan's ownership needs them.
    writers
        Field managers that own these routes.
    autoscaled_to
        Most replicas by its HorizontalPodAutoscaler; ``None``: there is none.
    virtual_services, entries, plans, other_gateways
        Other objects; plans as :func:`~cutover.domain.preflight.checks.istio.turns.turn_of` has them.
    """

    ports: tuple[int, ...] | None = (80,)
    replicas: tuple[int, int] | None = (2, 2)
    autoscaled_to: int | None = None
    gateways: bool = True
    servers: tuple[Json, ...] = (OPEN_SERVER,)
    team_route: bool = True
    team_http: tuple[Json, ...] | None = None
    writers: tuple[str, ...] = ()
    virtual_services: tuple[Json, ...] = ()
    entries: tuple[Json, ...] = ()
    plans: tuple[Json, ...] = ()
    other_gateways: tuple[Json, ...] = ()
    settings: ClusterSettings = field(default_factory=ClusterSettings)

    def inventory(self, plan: Plan) -> Inventory:
        """Return it as it is read for a plan."""
        eks, root = plan.spec.eks, root_key(plan)
        service = deployment = None
        if self.ports is not None:
            service = named(plan.namespace, eks.service.name, spec={"ports": [{"port": port} for port in self.ports]})
        if self.replicas is not None:
            wanted, available = self.replicas
            deployment = named(
                plan.namespace,
                eks.workload_ref.name,
                spec={"replicas": wanted, "template": POD_TEMPLATE},
                status={"availableReplicas": available, "readyReplicas": available},
            )
        scaling = []
        if self.autoscaled_to is not None:
            reference = {"kind": "Deployment", "name": eks.workload_ref.name}
            limits = {"scaleTargetRef": reference, "maxReplicas": self.autoscaled_to}
            scaling = [named(plan.namespace, "pdf", spec=limits)]
        gateways = (
            {key: named(*key, spec={"servers": list(self.servers)}) for key in gateway_keys(plan)}
            if self.gateways
            else {}
        )
        team = [self._team(plan, *root)] if root is not None and self.team_route else []
        return Inventory(
            objects={
                SERVICES: {**dict.fromkeys(services_named(plan)), (plan.namespace, eks.service.name): service},
                DEPLOYMENTS: {(plan.namespace, eks.workload_ref.name): deployment},
                GATEWAYS: {key: gateways.get(key) for key in gateway_keys(plan)},
                VIRTUAL_SERVICES: {root: next(iter(team), None)} if root is not None else {},
            },
            lists={
                PLANS: self.plans,
                VIRTUAL_SERVICES: [route_claims(body) for body in (*team, *self.virtual_services)],
                SERVICE_ENTRIES: [entry_claims(body) for body in self.entries],
                HORIZONTAL_POD_AUTOSCALERS: scaling,
                POD_DISRUPTION_BUDGETS: [{**BUDGET, "metadata": {**BUDGET["metadata"], "namespace": plan.namespace}}],
                GATEWAYS: [*gateways.values(), *self.other_gateways],
            },
            settings=self.settings,
        )

    def _team(self, plan: Plan, namespace: str, name: str) -> Json:
        istio = plan.spec.traffic.istio
        fit: Json = {"delegate": {"name": route_name(plan)}}
        if istio.ownership is Ownership.ADOPT:
            fit = {"route": [{"destination": {"host": plan.spec.heroku.hostname}}]}
        spec: Json = {"hosts": list(istio.hosts), "gateways": list(qualified_gateways(plan))}
        spec["http"] = [fit] if self.team_http is None else list(self.team_http)
        owned = [{"manager": writer, "fieldsV1": {"f:spec": {"f:http": {}}}} for writer in self.writers]
        body = named(namespace, name, spec=spec)
        return {**body, "metadata": {**body["metadata"], "managedFields": owned}}


READY = Target()
