"""The fingerprints of the values that a container's variables have, as far as they are known, and why they are not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cutover.domain.fingerprints import Fingerprint, Fingerprints
from cutover.domain.plan import Plan
from cutover.domain.preflight.caps import LONGEST_TEXT
from cutover.domain.preflight.inventory import Inventory
from cutover.domain.preflight.variables import single_sources, whole_sources
from cutover.domain.preflight.workload import Workload
from cutover.domain.resources import Json, Resource


@dataclass(frozen=True, slots=True)
class Value:
    """What is known of the value of a variable.

    Parameters
    ----------
    fingerprint
        Stands for the value; ``None`` if it is not known.
    source
        The object that has it, such as ``Secret pdf, made by ExternalSecret pdf``; ``""`` for the manifest itself.
    unknown
        Why it is not known; ``""`` if it is, or where it is set for each Pod anew, as from ``fieldRef``.
    """

    fingerprint: Fingerprint | None = None
    source: str = ""
    unknown: str = ""


def values_of(plan: Plan, workload: Workload, inventory: Inventory, fingerprints: Fingerprints) -> Mapping[str, Value]:
    """Return what is known of the values of the app container's variables, by their names.

    Parameters
    ----------
    plan
        The plan.
    workload
        Its workload.
    inventory
        The objects of :data:`~cutover.domain.preflight.variables.VALUES`, as far as they were read.
    fingerprints
        Makes fingerprints of the values that the manifest has itself.
    """
    app = workload.app
    values = dict[str, Value]()
    for kind, name, prefix in whole_sources(app):
        source = _Source(plan, inventory, kind, name)
        if source.body is None:
            # Of two sources with the same key, Kubernetes takes the later one.
            values = dict.fromkeys(values, Value(unknown=source.problem))
        for key in (source.body or {}).get("keys") or ():
            values[prefix + key] = source.value(key)
    values |= dict(_of_manifest(workload, fingerprints))
    for variable, kind, name, key in single_sources(app):
        if app.env.get(variable) is None:  # else it is set again further down
            values[variable] = _Source(plan, inventory, kind, name).value(key)
    return values


def _of_manifest(workload: Workload, fingerprints: Fingerprints) -> Iterator[tuple[str, Value]]:
    for name, value in workload.app.env.items():
        if value is None:
            yield name, Value()
        elif "$(" in value:
            yield name, Value(unknown="made of other variables")
        elif len(value) >= LONGEST_TEXT or workload.deployment.get("cut"):
            yield name, Value(unknown="the Deployment is too large to be looked at whole")
        else:
            yield name, Value(fingerprints.of(value))


class _Source:
    """A ConfigMap or Secret, as far as it was read."""

    def __init__(self, plan: Plan, inventory: Inventory, kind: Resource, name: str) -> None:
        self.body: Json | None = inventory.objects.get(kind, {}).get((plan.namespace, name))
        self._what = f"{kind.kind} {name}"
        refused = inventory.unread.get(kind)
        self.problem = f"{self._what} cannot be read: {refused}" if refused else f"{self._what} does not exist"

    def value(self, key: str) -> Value:
        """Return what is known of the value of a key."""
        if self.body is None:
            return Value(unknown=self.problem)
        makers = [owner for owner in self.body.get("owners") or () if owner.startswith("ExternalSecret ")]
        source = f"{self._what}, made by {makers[0]}" if makers else self._what
        if key not in self.body["keys"]:
            return Value(unknown=f"{self._what} has no key {key}")
        fingerprint = (self.body.get("values") or {}).get(key)
        return Value(fingerprint, source, "" if fingerprint else f"{self._what} was not read")
