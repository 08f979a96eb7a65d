"""A first plan for a service: what is chosen from the objects that exist, which steps suit its traffic, and the text. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import jinja2
import yaml
from pydantic import ValidationError

from cutover.api.durations import format_duration, span
from cutover.api.hosts import covers
from cutover.api.problems import problem_text
from cutover.api.v1alpha1 import MigrationPlan, Step
from cutover.cli.exits import CliError
from cutover.domain.backtest.few_requests import needs
from cutover.domain.evidence.rules import GateRules
from cutover.domain.resources import Json

#: Steps, the most careful first. With few requests a first step of 10 % takes days to prove.
LADDERS = ((10, 25, 50, 100), (25, 50, 100))
#: Seconds until 100 % that are worth a more careful first step, and after which people may be asked in place of evidence.
PATIENT_SECONDS, LONG_SECONDS = 12 * 3600.0, 48 * 3600.0
_HOLD, _LONG_HOLD = timedelta(minutes=15), timedelta(hours=1)
_WEB_PORTS = ("http", "web", "http-web")


@dataclass(frozen=True, slots=True)
class Draft:
    """What a plan is made of.

    Parameters
    ----------
    name, namespace
        Of the plan.
    app, hostname
        Heroku's name of the app, and its ``*.herokuapp.com`` name.
    hosts, gateways
        Names that users ask for, and Istio Gateways as ``namespace/name``.
    kind, workload
        What runs the Pods on EKS.
    service, port
        The Service in front of them.
    paths
        Paths for probes of both legs.
    probed
        Whether they are those of the workload's readiness probe.
    rate
        Requests a second of the service; ``None`` if nobody said.
    manual
        Whether a person approves each step.
    flux
        Whether Flux applies the plan.
    """

    name: str
    namespace: str
    app: str
    hostname: str
    hosts: tuple[str, ...]
    gateways: tuple[str, ...] = ()
    kind: str = "Deployment"
    workload: str = ""
    service: str = ""
    port: int = 0
    paths: tuple[str, ...] = ("/",)
    probed: bool = False
    rate: float | None = None
    manual: bool = False
    flux: bool = False


# ----------------------------------------------------------------------------------------------------------- choosing


def with_workload(draft: Draft, workload: Json) -> Draft:
    """Take the path of the readiness probe, if the plan's author named none."""
    if draft.paths != ("/",):
        return draft
    containers = ((((workload.get("spec") or {}).get("template") or {}).get("spec") or {}).get("containers")) or ()
    for container in containers:
        path = ((container.get("readinessProbe") or {}).get("httpGet") or {}).get("path")
        if isinstance(path, str) and path.startswith("/"):
            return replace(draft, paths=(path,), probed=True)
    return draft


def service_of(draft: Draft, workload: Json, services: Sequence[Json]) -> Draft:
    """Choose the Service that selects the workload's Pods, and its port.

    Raises
    ------
    CliError
        If there is none, or more than one.
    """
    if draft.service:
        found = [one for one in services if one["metadata"]["name"] == draft.service]
        if not found:
            there = ", ".join(sorted(one["metadata"]["name"] for one in services)) or "none"
            raise CliError(f"namespace {draft.namespace} has no Service {draft.service}; there are: {there}")
    else:
        template = ((workload.get("spec") or {}).get("template") or {}).get("metadata") or {}
        labels = template.get("labels") or {}
        found = [one for one in services if _selects((one.get("spec") or {}).get("selector"), labels)]
        if len(found) != 1:
            there = ", ".join(sorted(one["metadata"]["name"] for one in found or services)) or "none"
            several = f"several Services select the Pods of {draft.workload}: {there}"
            none = f"no Service selects the Pods of {draft.workload}; namespace {draft.namespace} has: {there}"
            raise CliError(f"{several if found else none}; choose one by --service")
    spec = found[0].get("spec") or {}
    port = draft.port or _port(found[0]["metadata"]["name"], spec.get("ports") or ())
    return replace(draft, service=found[0]["metadata"]["name"], port=port)


def _selects(selector: Mapping[str, str] | None, labels: Mapping[str, str]) -> bool:
    return bool(selector) and all(labels.get(name) == value for name, value in (selector or {}).items())


def _port(service: str, ports: Sequence[Json]) -> int:
    named = [one for one in ports if one.get("name") in _WEB_PORTS or one.get("appProtocol") == "http"]
    usual = [one for one in ports if one.get("port") == 80]
    for some in (named, usual, list(ports)):
        if len(some) == 1:
            return int(some[0]["port"])
    there = ", ".join(str(one.get("port")) for one in ports) or "none"
    raise CliError(f"Service {service} has the ports {there}; choose one by --port")


def gateways_of(draft: Draft, gateways: Iterable[Json]) -> Draft:
    """Choose the Gateway that serves the hosts.

    Raises
    ------
    CliError
        If there is none, or more than one.
    """
    if draft.gateways:
        return draft
    found = [
        f"{one['metadata']['namespace']}/{one['metadata']['name']}"
        for one in gateways
        if all(_serves(one, host, draft.namespace) for host in draft.hosts)
    ]
    if len(found) == 1:
        return replace(draft, gateways=(found[0],))
    raise CliError(
        f"Gateways that serve {', '.join(draft.hosts)}: {', '.join(sorted(found)) or 'none'}; choose one by --gateway"
    )


def _serves(gateway: Json, host: str, namespace: str) -> bool:
    for server in (gateway.get("spec") or {}).get("servers") or ():
        for entry in server.get("hosts") or ():
            space, _, name = str(entry).rpartition("/")
            there = {"": True, "*": True, ".": gateway["metadata"]["namespace"] == namespace}.get(
                space, space == namespace
            )
            if there and (name in ("*", host) or covers(name, host)):
                return True
    return False


# -------------------------------------------------------------------------------------------------------------- steps


@dataclass(frozen=True, slots=True)
class DraftStep:
    """A step as it is written."""

    weight: int
    hold: str = ""
    manual: bool = False
    note: str = ""


def steps_for(rate: float | None, *, manual: bool = False) -> tuple[tuple[DraftStep, ...], bool]:
    """Return steps that suit a service's traffic, and whether people should be asked in place of evidence."""
    if rate is None:
        return _written(LADDERS[0], _HOLD, None, manual), False
    for weights in LADDERS:
        if _seconds(weights, _HOLD, rate) <= PATIENT_SECONDS:
            return _written(weights, _HOLD, rate, manual), False
    # All take long. People may decide then, and decide best about few users.
    few = _seconds(LADDERS[-1], _LONG_HOLD, rate) > LONG_SECONDS
    weights = LADDERS[0] if few else LADDERS[-1]
    return _written(weights, _LONG_HOLD, rate, manual), few


def _steps(weights: Sequence[int], hold: timedelta) -> list[Step]:
    return [Step(weight=weight, hold=hold) for weight in weights]


def _seconds(weights: Sequence[int], hold: timedelta, rate: float) -> float:
    return sum(need.seconds for need in needs(_steps(weights, hold), GateRules(), rate))


def _written(weights: Sequence[int], hold: timedelta, rate: float | None, manual: bool) -> tuple[DraftStep, ...]:
    notes: dict[int, str] = {}
    if rate is not None:
        for need in needs(_steps(weights, hold), GateRules(), rate):
            notes[need.weight] = (
                f"at least {span(need.seconds)}, with {need.requests:,.0f} requests to EKS or more, prove the next one"
            )
    return tuple(
        DraftStep(weight, "" if weight == 100 else format_duration(hold), manual, notes.get(weight, ""))
        for weight in weights
    )


# --------------------------------------------------------------------------------------------------------------- text


def plan_text(draft: Draft) -> str:
    """Return the plan as YAML with comments.

    Raises
    ------
    CliError
        If it is no valid plan, with the field that is wrong.
    """
    steps, ask_people = steps_for(draft.rate, manual=draft.manual)
    values: dict[str, Any] = {name: getattr(draft, name) for name in draft.__dataclass_fields__}
    text = _rendered(
        "plan.yaml.j2",
        **values,
        rate_text=f"{draft.rate:g}" if draft.rate is not None else "",
        steps=steps,
        ask_people=ask_people,
        ceiling=steps[0].weight,
    )
    try:
        MigrationPlan.from_wire(yaml.safe_load(text))
    except ValidationError as error:
        raise CliError(f"that makes no valid plan: {problem_text(error)}") from None
    return text


def kustomization_text(draft: Draft, *, source: str, path: str) -> str:
    """Return Flux' Kustomization for a folder with the plan.

    Parameters
    ----------
    source
        Name of the GitRepository.
    path
        The folder, from the repository's root.
    """
    return _rendered("kustomization.yaml.j2", name=draft.name, source=source, path=path)


def _rendered(template: str, **values: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # YAML is quoted by the filter
    )
    environment.filters["quoted"] = quoted
    return environment.get_template(template).render(**values)


def quoted(text: str) -> str:
    """Return a text as a YAML scalar: plain where it reads the same so, otherwise in double quotes."""
    plain_enough = (
        text and (text[0].isalpha() or text[0] == "/") and all(one.isalnum() or one in "-._/" for one in text)
    )
    return text if plain_enough and yaml.safe_load(text) == text else _in_quotes(text)


def _in_quotes(text: str) -> str:
    return str(yaml.safe_dump(text, default_style='"', allow_unicode=True, width=float("inf"))).rstrip("\n")
