"""What the plan's workload runs, and whether it is rolling out, by its Deployment alone.

A Deployment says neither which Secret's values its Pods began with nor whether they are those of Heroku. That it rolled out
is known, and which part of its Pod template changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cutover.api.v1alpha1 import TemplateDigests
from cutover.domain.resources import Json
from cutover.domain.texts import digest

#: Fields of a container that are its code, and that are its configuration; and lists of containers in a Pod.
_CODE, _CONFIG = ("name", "image", "command", "args"), ("name", "env", "envFrom")
_CONTAINERS = ("initContainers", "containers")
#: What ``kubectl rollout restart`` writes.
_RESTARTED = "kubectl.kubernetes.io/restartedAt"


@dataclass(frozen=True, slots=True)
class Rollout:
    """The newest Pod template of the workload.

    Parameters
    ----------
    template
        Digests of its parts.
    complete
        Whether all Pods are of this template.
    progress
        How many are, in words for people.
    """

    template: TemplateDigests
    complete: bool
    progress: str = ""


def rollout_of(deployment: Json) -> Rollout:
    """Return what a Deployment runs; whatever it has in place of what it should is part of the digests."""
    spec, status, metadata = (_map(deployment.get(name)) for name in ("spec", "status", "metadata"))
    template = _map(spec.get("template"))
    pod = _map(template.get("spec"))
    containers = [(kind, one) for kind in _CONTAINERS for one in _maps(pod.get(kind))]
    # Tools that restart Pods for new configuration write an annotation; labels are for selectors.
    annotations = dict(_map(_map(template.get("metadata")).get("annotations")))
    restarted = annotations.pop(_RESTARTED, None)
    config = [[_only(one, _CONFIG) for _, one in containers], pod.get("volumes"), annotations]
    rest = [
        {name: value for name, value in pod.items() if name not in (*_CONTAINERS, "volumes")},
        [
            {name: value for name, value in one.items() if name not in (*_CODE[1:], *_CONFIG[1:])}
            for _, one in containers
        ],
    ]
    everywhere, new = _number(status.get("replicas")), _number(status.get("updatedReplicas"))
    seen = _number(status.get("observedGeneration")) >= _number(metadata.get("generation"))
    return Rollout(
        TemplateDigests(
            code=_digest([(kind, _only(one, _CODE)) for kind, one in containers]),
            config=_digest(config),
            rest=_digest(rest),
            restart=_digest(restarted) if restarted is not None else "",
        ),
        complete=seen and new >= everywhere,
        progress=f"{new if seen else 0} of {everywhere} Pods are new",
    )


def parts_changed(before: TemplateDigests, after: TemplateDigests) -> tuple[str, ...]:
    """Return which parts of two templates differ, in words for people, such as ``code``."""
    names = {
        CODE: (before.code, after.code),
        CONFIG: (before.config, after.config),
        REST: (before.rest, after.rest),
        RESTART: (before.restart, after.restart),
    }
    return tuple(name for name, (old, new) in names.items() if old != new)


#: Parts of a Pod template.
CODE, CONFIG, REST, RESTART = "code", "configuration", "settings", "time of the last restart"


def _only(body: Json, names: Iterable[str]) -> Json:
    return {name: body[name] for name in names if name in body}


def _digest(value: object) -> str:
    return digest(json.dumps(value, sort_keys=True, default=str))


def _number(given: object) -> int:
    return given if isinstance(given, int) else 0


def _map(given: object) -> Mapping[str, Any]:
    return given if isinstance(given, dict) else {}


def _maps(given: object) -> Iterable[Json]:
    return [one for one in given if isinstance(one, dict)] if isinstance(given, list) else ()
