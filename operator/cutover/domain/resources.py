"""Kinds of Kubernetes objects, as the API server addresses them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from cutover.api import v1alpha1

#: A Kubernetes object, or a part of one, as JSON has it.
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Resource:
    """A namespaced kind of object.

    Parameters
    ----------
    group
        API group; ``""`` for the core group.
    urgent
        RBAC verbs that move users, or that a rollback needs. A request with such a verb for one object by name does not
        queue behind others.
    """

    group: str
    version: str
    kind: str
    plural: str
    urgent: frozenset[str] = field(default=frozenset(), compare=False)

    @property
    def api_version(self) -> str:
        """The ``apiVersion`` of the objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """Return the URL's path; an empty namespace stands for all namespaces."""
        # Names come from manifests; quoted, they cannot change the path.
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace:
            parts += ["namespaces", quote(namespace, safe="")]
        parts += [self.plural, quote(name, safe=""), subresource]
        return "/" + "/".join(part for part in parts if part)

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


PLANS = Resource(v1alpha1.GROUP, v1alpha1.VERSION, v1alpha1.KIND, v1alpha1.PLURAL, urgent=frozenset({"get"}))
EVENTS = Resource("", "v1", "Event", "events")
SERVICES = Resource("", "v1", "Service", "services")
DEPLOYMENTS = Resource("apps", "v1", "Deployment", "deployments")
HORIZONTAL_POD_AUTOSCALERS = Resource("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
POD_DISRUPTION_BUDGETS = Resource("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
#: The operator creates them and reads none.
CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps")

# No check reads these yet, and the chart grants no right to read them. Without the right such a check is Unknown.
SECRETS = Resource("", "v1", "Secret", "secrets")
