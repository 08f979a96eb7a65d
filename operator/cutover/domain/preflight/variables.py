"""The names of the variables that a container gets, as far as its manifest tells, and where others may come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cutover.domain.plan import Plan
from cutover.domain.preflight.check import Read
from cutover.domain.preflight.inventory import Inventory, Key, key_fingerprints, key_names
from cutover.domain.preflight.workload import RELOADER, Container, Workload, app_of
from cutover.domain.resources import CONFIG_MAPS, SECRETS, Resource

#: Fields of ``envFrom``, and the kinds that they name.
_SOURCES = {"configMapRef": CONFIG_MAPS, "secretRef": SECRETS}
#: The same for ``valueFrom``.
_SINGLE_SOURCES = {"configMapKeyRef": CONFIG_MAPS, "secretKeyRef": SECRETS}
#: Programs that set variables and then run the app, by how the command begins.
_INJECTORS = (
    *("doppler run", "chamber exec", "sops exec-env", "op run", "berglas exec", "infisical run", "teller run"),
    *("vault-env", "envconsul", "aws-env", "ssm-env", "dotenv", "summon"),
)
#: Annotations of Pods by which others add variables or files of variables.
_INJECTING = ("vault.hashicorp.com/agent-inject", "vault.security.banzaicloud.io/", "operator.1password.io/inject")


@dataclass(frozen=True, slots=True)
class Variables:
    """The variables of a container.

    Parameters
    ----------
    names
        The names that are known.
    unread
        ConfigMaps and Secrets all of whose keys become variables, and whose keys are not known, such as ``Secret pdf``.
    owners
        What makes the Secrets and ConfigMaps that were read, such as ``ExternalSecret pdf``.
    injected
        What may set more at the start, such as ``doppler run``; ``""`` if nothing shows it.
    """

    names: frozenset[str]
    unread: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    injected: str = ""


def variables_of(plan: Plan, workload: Workload, inventory: Inventory) -> Variables:
    """Return the variables of the app's container.

    Parameters
    ----------
    plan
        The plan.
    workload
        Its workload.
    inventory
        The objects of :data:`KEYS`, as far as they were read.
    """
    app = workload.app
    names, unread, owners = set(app.env), list[str](), list[str]()
    for kind, name, prefix in whole_sources(app):
        body = inventory.objects.get(kind, {}).get((plan.namespace, name))
        if body is None:
            unread.append(f"{kind.kind} {name}")
        else:
            names |= {prefix + key for key in body.get("keys") or ()}
            owners += body.get("owners") or ()
    return Variables(frozenset(names), tuple(unread), tuple(dict.fromkeys(owners)), _injected(workload))


def is_reloaded(workload: Workload) -> bool:
    """Tell whether something replaces the Pods when their ConfigMaps and Secrets change, as far as the manifest tells."""
    metadata = workload.deployment.get("metadata") or {}
    return any(str(name).startswith(RELOADER) for name in metadata.get("annotations") or ())


def whole_sources(app: Container) -> Iterator[tuple[Resource, str, str]]:
    """Return the ConfigMaps and Secrets all of whose keys become variables, with their prefixes."""
    for one in app.body.get("envFrom") or ():
        for field, kind in _SOURCES.items():
            if name := (one.get(field) or {}).get("name"):
                yield kind, str(name), str(one.get("prefix") or "")


def _injected(workload: Workload) -> str:
    texts = [command.text for command in workload.app.commands]
    # A wrapper that is known runs the app as its last words.
    texts.append(
        " ".join(map(str, [*(workload.app.body.get("command") or ()), *(workload.app.body.get("args") or ())]))
    )
    found = (name for name in _INJECTORS if any(f"{name} " in f"{text} " for text in texts))
    annotations = (workload.template.get("metadata") or {}).get("annotations") or {}
    marked = (str(name) for name in annotations if str(name).startswith(_INJECTING))
    return next(found, "") or next(marked, "")


def single_sources(app: Container) -> Iterator[tuple[str, Resource, str, str]]:
    """Return the variables that are one key of a ConfigMap or Secret: variable, kind, name of the object, key."""
    for one in app.body.get("env") or ():
        origin = one.get("valueFrom") or {}
        for field, kind in _SINGLE_SOURCES.items():
            if name := (origin.get(field) or {}).get("name"):
                yield str(one.get("name")), kind, str(name), str(origin[field].get("key"))


def _keys_of(kind: Resource) -> Read:
    def follows(plan: Plan, known: Inventory) -> list[Key]:
        app = app_of(plan, known)
        return [(plan.namespace, name) for of, name, _ in whole_sources(app) if of == kind] if app is not None else []

    def wanted(plan: Plan) -> bool:
        config = plan.spec.preflight.config
        return config.read_keys and not config.compare_values

    return Read(kind, keep=key_names, wanted=wanted, follows=follows)


def _values_of(kind: Resource) -> Read:
    def follows(plan: Plan, known: Inventory) -> list[Key]:
        app = app_of(plan, known)
        if app is None:
            return []
        found = [name for of, name, _ in whole_sources(app) if of == kind]
        found += [name for _, of, name, _ in single_sources(app) if of == kind]
        return [(plan.namespace, name) for name in dict.fromkeys(found)]

    return Read(
        kind, keep=key_fingerprints, wanted=lambda plan: plan.spec.preflight.config.compare_values, follows=follows
    )


#: The ConfigMaps and Secrets of ``envFrom``: the names of their keys only, and only where the plan asks for it.
KEYS = (_keys_of(CONFIG_MAPS), _keys_of(SECRETS))
#: All ConfigMaps and Secrets that variables come from, with fingerprints of their values, where the plan asks for that.
VALUES = (_values_of(CONFIG_MAPS), _values_of(SECRETS))
