"""The plan's workload and its Pod template, as the audits look at them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cutover.domain.plan import Plan
from cutover.domain.preflight.caps import trimmed
from cutover.domain.preflight.check import Read
from cutover.domain.preflight.commands import Command, commands
from cutover.domain.preflight.inventory import Inventory, only_spec
from cutover.domain.resources import DEPLOYMENTS, HORIZONTAL_POD_AUTOSCALERS, SERVICES, Json

#: A number of CPUs or bytes with a suffix, see https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/.
_QUANTITY = re.compile(r"([0-9.]+(?:[eE][0-9]{1,2})?)([a-zA-Z]*)$")
_SUFFIXES = {"": 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12} | {
    f"{letter}i": 1024.0**power for power, letter in enumerate("KMGT", start=1)
}

#: Bytes of a MiB.
MEBIBYTE = 2**20

#: Annotations of Stakater's Reloader, on the Deployment: Pods are replaced when their ConfigMaps and Secrets change.
RELOADER = "reloader.stakater.com/"


def _kept(body: Json) -> Json:
    """Keep what of a Deployment is looked at. Of its annotations, whose size nothing bounds, that is those of Reloader."""
    kept = trimmed(body, "spec", "status")
    reloader = [name for name in body["metadata"].get("annotations") or () if name.startswith(RELOADER)][:10]
    return {**kept, "metadata": {**kept["metadata"], "annotations": dict.fromkeys(reloader, "")}} if reloader else kept


SERVICE = Read(SERVICES, names=lambda plan: [(plan.namespace, plan.spec.eks.service.name)])
DEPLOYMENT = Read(
    DEPLOYMENTS,
    names=lambda plan: [(plan.namespace, plan.spec.eks.workload_ref.name)],
    keep=_kept,
)
AUTOSCALERS = Read(HORIZONTAL_POD_AUTOSCALERS, keep=only_spec("scaleTargetRef", "minReplicas", "maxReplicas"))
#: What :func:`workload_of` needs.
WORKLOAD_READS = (SERVICE, DEPLOYMENT, AUTOSCALERS)


@dataclass(frozen=True, slots=True)
class Container:
    """A container of the Pod template.

    Parameters
    ----------
    name
        Its name.
    body
        The container as the template has it.
    """

    name: str
    body: Json

    @property
    def commands(self) -> tuple[Command, ...]:
        """The commands that start it; ``()`` if only its image knows them."""
        return commands(self.words)

    @property
    def words(self) -> tuple[str, ...]:
        """Its command and arguments."""
        return tuple(map(str, (*_list(self.body.get("command")), *_list(self.body.get("args")))))

    @property
    def main(self) -> Command | None:
        """The command that stays running."""
        found = self.commands
        return found[-1] if found else None

    @property
    def env(self) -> Mapping[str, str | None]:
        """Its variables; ``None`` for a value that comes from a ConfigMap, a Secret or the Pod."""
        return {
            str(one.get("name")): str(one["value"]) if "value" in one else None
            for one in _list(self.body.get("env"))
            if isinstance(one, Mapping)
        }

    @property
    def env_is_open(self) -> bool:
        """Whether variables may be set that the manifest does not name: by ``envFrom``."""
        return bool(self.body.get("envFrom"))

    @property
    def image(self) -> str:
        """Its image."""
        return str(self.body.get("image") or "")

    @property
    def restarts_always(self) -> bool:
        """Whether an init container is a sidecar that runs as long as the Pod."""
        return self.body.get("restartPolicy") == "Always"

    def resource(self, kind: str, name: str) -> float | None:
        """Return a request or limit, in CPUs or bytes; ``None`` if it is not set.

        Parameters
        ----------
        kind
            ``requests`` or ``limits``.
        name
            ``cpu`` or ``memory``.
        """
        given = _map(_map(self.body.get("resources")).get(kind)).get(name)
        return quantity(given) if given is not None else None

    def probe(self, kind: str) -> Json | None:
        """Return a probe, ``readinessProbe``, ``livenessProbe`` or ``startupProbe``; ``None`` if it is not set."""
        return self.body.get(kind) or None


@dataclass(frozen=True, slots=True)
class Workload:
    """The plan's workload, which has a container.

    Parameters
    ----------
    deployment
        The Deployment as read.
    replicas
        How many replicas it wants.
    most_replicas
        How many it can have, by its autoscaler.
    autoscaler
        Its autoscaler; ``None`` without.
    target_port
        The Service's ``targetPort``: a number, or the name of a container's port; ``None`` if it is not known.
    """

    deployment: Json
    replicas: int
    most_replicas: int
    autoscaler: Json | None
    target_port: int | str | None

    @property
    def spec(self) -> Json:
        """The Deployment's spec."""
        return _map(self.deployment.get("spec"))

    @property
    def template(self) -> Json:
        """The Pod template."""
        return _map(self.spec.get("template"))

    @property
    def pod(self) -> Json:
        """The Pod's spec."""
        return _map(self.template.get("spec"))

    @property
    def labels(self) -> Mapping[str, str]:
        """The Pods' labels."""
        return _map(_map(self.template.get("metadata")).get("labels"))

    @property
    def containers(self) -> tuple[Container, ...]:
        """The containers that run beside each other."""
        return _containers(self.pod.get("containers"))

    @property
    def init_containers(self) -> tuple[Container, ...]:
        """The containers that run before, sidecars among them."""
        return _containers(self.pod.get("initContainers"))

    @property
    def app(self) -> Container:
        """The container that gets the users' requests: the one with the Service's port, or else the first."""
        for container in self.containers:
            for port in _list(container.body.get("ports")):
                if self.target_port is not None and self.target_port in (port.get("containerPort"), port.get("name")):
                    return container
        return self.containers[0]

    def has_port(self, name: str) -> bool:
        """Tell whether a container has a port of a name. Containers that a webhook adds are not known."""
        every = (*self.containers, *self.init_containers)
        return any(port.get("name") == name for one in every for port in _list(one.body.get("ports")))

    @property
    def port(self) -> int | None:
        """The number of the port that gets the users' requests; ``None`` if it is not known."""
        return pods_port(self.deployment, self.target_port)


def pods_port(deployment: Json, target: int | str | None) -> int | None:
    """Return the number of a Service's ``targetPort``; ``None`` if no container of a Deployment has a port of its name."""
    if isinstance(target, int):
        return target
    template = _map(_map(deployment.get("spec")).get("template"))
    for container in _containers(_map(template.get("spec")).get("containers")):
        for port in _list(container.body.get("ports")):
            if port.get("name") == target and isinstance(port.get("containerPort"), int):
                return int(port["containerPort"])
    return None


def workload_of(plan: Plan, inventory: Inventory) -> Workload | None:
    """Return the plan's workload, from what :data:`WORKLOAD_READS` read; ``None`` if it is missing, or has no container.

    Parameters
    ----------
    plan
        The plan.
    inventory
        The objects.
    """
    deployment = inventory.get(DEPLOYMENTS, plan.namespace, plan.spec.eks.workload_ref.name)
    if deployment is None:
        return None
    replicas = int((deployment.get("spec") or {}).get("replicas", 1))
    autoscaler = autoscaler_of(plan, inventory)
    most = int(autoscaler["spec"].get("maxReplicas", replicas)) if autoscaler is not None else replicas
    workload = Workload(deployment, replicas, max(most, replicas), autoscaler, _target_port(plan, inventory))
    return workload if workload.containers else None


def app_of(plan: Plan, inventory: Inventory) -> Container | None:
    """Return the container that gets the users' requests, from what was read by name alone; ``None`` if there is none."""
    deployment = inventory.get(DEPLOYMENTS, plan.namespace, plan.spec.eks.workload_ref.name)
    workload = Workload(deployment or {}, 0, 0, None, _target_port(plan, inventory))
    return workload.app if workload.containers else None


def autoscaler_of(plan: Plan, inventory: Inventory) -> Json | None:
    """Return the autoscaler of the plan's workload, if there is one, from what :data:`AUTOSCALERS` reads."""
    reference = plan.spec.eks.workload_ref
    for body in inventory.all(HORIZONTAL_POD_AUTOSCALERS):
        target = body["spec"].get("scaleTargetRef") or {}
        if body["metadata"]["namespace"] == plan.namespace and (target.get("kind"), target.get("name")) == (
            reference.kind,
            reference.name,
        ):
            return body
    return None


def selects(selector: Json | None, labels: Mapping[str, str]) -> bool:
    """Tell whether a label selector selects Pods with the labels; an empty selector selects all.

    Parameters
    ----------
    selector
        A ``LabelSelector``.
    labels
        The Pods' labels.
    """
    exact = _map(_map(selector).get("matchLabels"))
    if any(labels.get(name) != value for name, value in exact.items()):
        return False
    for one in _list(_map(selector).get("matchExpressions")):
        value, values = labels.get(str(one.get("key"))), _list(one.get("values"))
        fits = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not fits.get(str(one.get("operator")), True):
            return False
    return True


def quantity(given: object) -> float | None:
    """Return a Kubernetes quantity as a number; ``None`` if it is not a quantity."""
    found = _QUANTITY.match(str(given))
    if found is None or found[2] not in _SUFFIXES:
        return None
    try:
        return float(found[1]) * _SUFFIXES[found[2]]
    except ValueError:
        return None


def _target_port(plan: Plan, inventory: Inventory) -> int | str | None:
    port = service_port(plan, inventory.get(SERVICES, plan.namespace, plan.spec.eks.service.name))
    return port.get("targetPort", port["port"]) if port is not None else None


def service_port(plan: Plan, service: Json | None) -> Json | None:
    """Return the Service's port that the plan names; ``None`` if there is none."""
    ports = _list(_map((service or {}).get("spec")).get("ports"))
    return next((port for port in ports if port.get("port") == plan.spec.eks.service.port), None)


def _containers(given: object) -> tuple[Container, ...]:
    return tuple(Container(str(one.get("name")), one) for one in _list(given))


def _list(given: object) -> Sequence[Any]:
    return given if isinstance(given, list) else ()


def _map(given: object) -> dict[str, Any]:
    return given if isinstance(given, dict) else {}
