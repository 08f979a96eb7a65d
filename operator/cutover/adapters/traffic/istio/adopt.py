"""Somebody else's VirtualService, for the ownerships ``Delegate`` and ``Adopt``.

What has to be so before the operator works with it, who else writes it, how its routes are taken over and how they are
given back. All of it is pure: objects in, objects or sentences out.

``Adopt`` works on the live object, not on a copy of it: a route of the plan is recognised by its destinations, and only
what the split needs is put into it. Whatever others change elsewhere stays, and the result of adopting what is adopted
already is the same again, so that *current* means: adopting it changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any

from cutover.adapters.traffic.istio.names import LEG_PREFIX, PROBE_PREFIX
from cutover.adapters.traffic.istio.reach import qualified
from cutover.api.v1alpha1 import Ownership
from cutover.domain.observation import Plan
from cutover.domain.revision import HEADER

#: A Kubernetes object, or a part of one, as JSON has it.
Json = dict[str, Any]

#: Annotation of an adopted VirtualService with its routes as they were, and what else was changed.
ORIGINAL_ANNOTATION = "cutover.dev/original"

#: Bytes of that annotation: the API server takes 256 KiB of annotations in all, and others need some of them.
ORIGINAL_LIMIT = 128 * 1024

#: What the operator writes in an adopted route; comes back from the original.
_TOUCHED = ("route", "headers", "timeout", "retries", "rewrite")

_FLUX = "kustomize.toolkit.fluxcd.io"

#: Put on an adopted VirtualService. Flux reads it from the live object: it neither applies nor prunes one that has it.
HANDS_OFF: Mapping[str, str] = {f"{_FLUX}/reconcile": "disabled"}

_ARGO_TRACKING = "argocd.argoproj.io/tracking-id"


# ------------------------------------------------------------------------------------------------------------ the legs


@dataclass(frozen=True, slots=True)
class _Legs:
    """Destinations of one route that goes to a leg, as indices into them.

    Parameters
    ----------
    weights
        Of each destination; Istio takes all of a lone one, whatever it says.
    """

    destinations: Sequence[Json]
    weights: Sequence[int]
    heroku: Sequence[int]
    eks: Sequence[int]

    @property
    def total(self) -> int:
        """Weight of both legs."""
        return sum(self.weights[index] for index in (*self.heroku, *self.eks))

    @property
    def eks_percent(self) -> int | None:
        """Share of the EKS leg in both, ``None`` where it is no whole number."""
        if self.total == 0:
            return None
        percent, rest = divmod(100 * sum(self.weights[index] for index in self.eks), self.total)
        return None if rest else percent

    @property
    def others(self) -> list[int]:
        """Third destinations."""
        return [index for index in range(len(self.weights)) if index not in (*self.heroku, *self.eks)]


def _legs(route: Mapping[str, Any], plan: Plan) -> _Legs | None:
    """Return the legs of a route of the plan, ``None`` for one that is none of its business."""
    destinations = route.get("route") or ()
    hosts = [str((one.get("destination") or {}).get("host", "")).lower() for one in destinations]
    weights = [100] if len(destinations) == 1 else [one.get("weight") or 0 for one in destinations]
    hostname, service = plan.spec.heroku.hostname.lower(), plan.spec.eks.service.name
    cluster = f"{service}.{plan.namespace}.svc."
    legs = _Legs(
        destinations,
        weights,
        [index for index, host in enumerate(hosts) if host == hostname or host.startswith(LEG_PREFIX)],
        [index for index, host in enumerate(hosts) if host == service or host.startswith(cluster)],
    )
    # A leg without weight in a route to elsewhere gets no request of it, unless somebody has taken it away from us.
    return legs if legs.total > 0 or _is_adopted(legs) else None


def _is_probe(route: Mapping[str, Any]) -> bool:
    return any(
        str((one.get("destination") or {}).get("host", "")).startswith(PROBE_PREFIX)
        for one in route.get("route") or ()
    )


def _is_adopted(legs: _Legs) -> bool:
    """Tell a route that the operator has written from one that somebody has put back.

    The app may have got another host name since, at weight 0.
    """
    return any(legs.destinations[index]["destination"]["host"].startswith(LEG_PREFIX) for index in legs.heroku)


def _plans_routes(spec: Mapping[str, Any], plan: Plan) -> Iterator[tuple[int, Json, _Legs]]:
    for index, route in enumerate(spec.get("http") or ()):
        legs = None if _is_probe(route) else _legs(route, plan)
        if legs is not None:
            yield index, route, legs


def live_weight(spec: Mapping[str, Any], plan: Plan) -> int | None:
    """Return the percent of the plan's requests that go to EKS; ``None`` where its routes do not agree, or are gone."""
    shares = {legs.eks_percent for _, _, legs in _plans_routes(spec, plan)}
    return shares.pop() if len(shares) == 1 else None


def eks_at_most(spec: Mapping[str, Any], plan: Plan) -> int:
    """Return the highest percent that any of the plan's routes sends to EKS, rounded up."""
    return max(
        (
            -(-100 * sum(legs.weights[one] for one in legs.eks) // (legs.total or 1))
            for _, _, legs in _plans_routes(spec, plan)
        ),
        default=0,
    )


def live_revision(spec: Mapping[str, Any], plan: Plan) -> str:
    """Return the revision that all of the plan's routes stamp on responses; ``""`` if they do not agree."""
    stamps = {_response_set(route).get(HEADER, "") for _, route, _ in _plans_routes(spec, plan)}
    return str(stamps.pop()) if len(stamps) == 1 else ""


def _response_set(route: Mapping[str, Any]) -> Mapping[str, Any]:
    headers = ((route.get("headers") or {}).get("response") or {}).get("set") or {}
    return headers if isinstance(headers, dict) else {}


# ------------------------------------------------------------------------------------------------- taking, giving back


@dataclass(frozen=True, slots=True)
class Shape:
    """What is put into adopted routes.

    Parameters
    ----------
    heroku, eks
        Destinations of the legs, with headers; their weight is worked out.
    probe
        The route of the operator's probes, the first of all.
    defaults
        What a route gets that says nothing of its own about it: time-out and retries.
    """

    heroku: Json
    eks: Json
    probe: Json
    revision: str
    defaults: Json


def adopt(spec: Json, plan: Plan, weight: int, shape: Shape, kept: Sequence[Json]) -> tuple[Json, list[Json]]:
    """Return the spec with the plan's routes at a weight, and those routes as they were.

    Never raises for what others have made of the object meanwhile: the way back must not depend on it.

    Parameters
    ----------
    spec
        Of the VirtualService, adopted already or not.
    weight
        Percent of the legs' requests to EKS; other destinations keep their part of the whole.
    kept
        Original routes from the adoption before.
    """
    originals, known = list[Json](), {_identity(route): route for route in kept}
    routes = [route for route in spec.get("http") or () if not _is_probe(route)]
    for index, route, legs in list(_plans_routes({"http": routes}, plan)):
        original = known.get(_identity(route)) if _is_adopted(legs) else route
        if original is not None:
            originals.append(original)
        # All weights of the route are ours: how much goes elsewhere is as it was, whatever was edited since.
        before = _legs(original, plan) if original is not None else None
        if before is None or len(before.others) != len(legs.others):
            before = legs
        routes[index] = _adopted(route, legs, before, plan, weight, shape)
    return {**spec, "http": [shape.probe, *routes]}, originals


def restore(spec: Json, plan: Plan, kept: Sequence[Json]) -> Json:
    """Return the spec with the plan's routes as they were, and all else as it is.

    A route whose name or match was edited meanwhile is not recognised, and stays as it is.
    """
    known = {_identity(route): route for route in kept}
    routes = [route for route in spec.get("http") or () if not _is_probe(route)]
    for index, route, legs in list(_plans_routes({"http": routes}, plan)):
        original = known.get(_identity(route))
        if original is not None and _is_adopted(legs):
            rest = {name: value for name, value in route.items() if name not in _TOUCHED}
            routes[index] = rest | {name: original[name] for name in _TOUCHED if name in original}
    return {**spec, "http": routes}


def _identity(route: Mapping[str, Any]) -> str:
    return json.dumps([route.get("name"), route.get("match")], sort_keys=True)


def _adopted(route: Json, legs: _Legs, before: _Legs, plan: Plan, weight: int, shape: Shape) -> Json:
    # In units in which all weights are whole, at every step the same for third destinations: with a tenth elsewhere,
    # 25 % are 9*75 to Heroku, 9*25 to EKS and 100 elsewhere.
    total, others = before.total or 100, [100 * before.weights[index] for index in before.others]
    unit = gcd(total, *others)
    # A subset or a spelling of the team's for the EKS leg stays; Heroku's is another name of ours.
    theirs = {"destination": legs.destinations[legs.eks[0]]["destination"]} if legs.eks else {}
    heroku = _leg(legs, legs.heroku, shape.heroku, total // unit * (100 - weight))
    eks = _leg(legs, legs.eks, {**shape.eks, **theirs}, total // unit * weight)
    destinations = list[Json]()
    for index, there in enumerate(legs.destinations):
        # A leg that is missing comes beside the other one.
        if index in legs.heroku[:1]:
            destinations += [heroku] if legs.eks else [heroku, eks]
        elif index in legs.eks[:1]:
            destinations += [eks] if legs.heroku else [heroku, eks]
        elif index in legs.others:
            share = others.pop(0) // unit
            destinations.append({**there, "weight": share} if share or there.get("weight") else there)
    result = {**shape.defaults, **route, "route": destinations}
    stamp = {"response": {"set": {HEADER: shape.revision}}}
    result["headers"] = _merged_headers(_without_host(route.get("headers") or {}, plan), stamp)
    if (route.get("rewrite") or {}).get("authority", "").lower() == plan.spec.heroku.hostname.lower():
        # Heroku's Host is the Heroku destination's business: the EKS leg gets the public one.
        rest = {name: value for name, value in route["rewrite"].items() if name != "authority"}
        result.pop("rewrite")
        if rest:
            result["rewrite"] = rest
    return result


def _leg(legs: _Legs, where: Sequence[int], wanted: Json, weight: int) -> Json:
    there = legs.destinations[where[0]] if where else {}
    headers = _merged_headers(there.get("headers") or {}, wanted["headers"])
    return {**there, "destination": wanted["destination"], "headers": headers, "weight": weight}


def _merged_headers(theirs: Json, ours: Json) -> Json:
    """Set our headers in theirs. Names of headers have no case: a spelling of theirs would be a second value."""
    merged = dict(theirs)
    for direction, operations in ours.items():
        there = dict(merged.get(direction) or {})
        names = {name.lower() for name in operations["set"]}
        kept = {name: value for name, value in (there.get("set") or {}).items() if name.lower() not in names}
        there["set"] = kept | operations["set"]
        merged[direction] = there
    return merged


def _without_host(headers: Json, plan: Plan) -> Json:
    wanted = (headers.get("request") or {}).get("set") or {}
    hostname = plan.spec.heroku.hostname.lower()
    kept = {n: v for n, v in wanted.items() if n.lower() not in _HOST or str(v).lower() != hostname}
    if kept == wanted:
        return headers
    request = {name: value for name, value in headers["request"].items() if name != "set"}
    if kept:
        request["set"] = kept
    rest = {name: value for name, value in headers.items() if name != "request"}
    return {**rest, "request": request} if request else rest


_HOST = ("host", ":authority")


# -------------------------------------------------------------------------------------------------------- the original


def read_original(annotations: Mapping[str, str]) -> Json:
    """Return what was noted at the adoption: ``routes``, and ``annotations`` that had another value; empty if nothing.

    People may have edited it. What is no route is left out: the way back must not depend on it.
    """
    try:
        noted = json.loads(annotations.get(ORIGINAL_ANNOTATION, "{}"))
    except ValueError:
        return {}
    if not isinstance(noted, dict) or not noted:
        return {}
    routes, before = noted.get("routes"), noted.get("annotations")
    return {
        "annotations": {name: str(value) for name, value in before.items()} if isinstance(before, dict) else {},
        "routes": [route for route in routes if _is_route(route)] if isinstance(routes, list) else [],
    }


def _is_route(value: Any) -> bool:
    """Tell whether it has the types of Istio's CRD, as far as they are relied on here."""
    destinations = value.get("route") if isinstance(value, dict) else None
    return isinstance(destinations, list) and all(
        isinstance(one, dict)
        and isinstance(one.get("destination"), dict)
        and isinstance(one.get("weight", 0), int)
        and one.get("weight", 0) >= 0
        for one in destinations
    )


def note_original(routes: Sequence[Json], annotations: Mapping[str, str]) -> str:
    """Return the annotation's value.

    Parameters
    ----------
    annotations
        Those of ``HANDS_OFF`` that were there already, with their values.
    """
    return json.dumps(
        {"annotations": dict(annotations), "routes": list(routes)}, separators=(",", ":"), sort_keys=True
    )


# ----------------------------------------------------------------------------------------------------------- the checks


def root_problem(
    plan: Plan, root: Mapping[str, Any] | None, *, gateways: Sequence[str], delegate: str, label: str, owner: str
) -> str:
    """Say what keeps the plan from working with the VirtualService of its ``virtualServiceRef``; ``""`` if nothing.

    Parameters
    ----------
    root
        The VirtualService, ``None`` where it does not exist.
    gateways
        The plan's, as ``namespace/name``.
    delegate
        Name of the operator's own VirtualService.
    label, owner
        Names of the label with the plan's name, and of the annotation with its UID, that an adopted object has.
    """
    istio = plan.spec.traffic.istio
    if istio.virtual_service_ref is None:
        return "write the name of the VirtualService in traffic.istio.virtualServiceRef"
    if istio.virtual_service_ref.name.startswith(("cutover-", "probe-cutover-")):
        return (
            f"virtualServiceRef {istio.virtual_service_ref.name}: names that begin with cutover- are for the operator's own"
            " objects; rename the team's"
        )
    name = f"VirtualService {plan.namespace}/{istio.virtual_service_ref.name}"
    delegating = istio.ownership is Ownership.DELEGATE
    line = f"- delegate: {{name: {delegate}, namespace: {plan.namespace}}}"
    if root is None:
        if delegating:
            spec = f"{{hosts: [{', '.join(istio.hosts)}], gateways: [{', '.join(gateways)}]}}"
            return f"{name} does not exist; create it with spec: {spec} and under its http: {line}"
        return f"{name} does not exist; create it, or let the operator make its own with ownership: Generate"
    found = [*_reach_problems(root.get("spec") or {}, plan, gateways)]
    if delegating:
        found += _delegate_problems(root.get("spec") or {}, plan, delegate, line)
    else:
        found += _adoption_problems(root, plan, label, owner)
    return f"{name}: {'; '.join(found)}" if found else ""


def _reach_problems(spec: Mapping[str, Any], plan: Plan, gateways: Sequence[str]) -> Iterator[str]:
    """Compare what the VirtualService is for with the plan: other requests would be moved with the plan's."""
    hosts, wanted = {host.lower() for host in spec.get("hosts") or ()}, set(plan.spec.traffic.istio.hosts)
    if missing := sorted(wanted - hosts):
        yield f"it does not route {', '.join(missing)}; add it to its hosts or take it out of traffic.istio.hosts"
    if more := sorted(hosts - wanted):
        yield f"it routes {', '.join(more)} too; add it to traffic.istio.hosts, or give it a VirtualService of its own"
    bound = {
        gateway if gateway == "mesh" else qualified(gateway, plan.namespace)
        for gateway in spec.get("gateways") or ["mesh"]
    }
    if "mesh" in bound:
        yield (
            "it is for callers inside the mesh too, whose requests cannot be compared; give gateway mesh a VirtualService"
            " of its own, and this one gateways: [" + ", ".join(gateways) + "]"
        )
    if missing := sorted(set(gateways) - bound):
        yield f"it is not bound to gateway {', '.join(missing)}; add it to its gateways"
    if more := sorted(bound - set(gateways) - {"mesh"}):
        yield f"it is bound to gateway {', '.join(more)} too; add it to traffic.istio.gateways"


def _delegate_problems(spec: Mapping[str, Any], plan: Plan, delegate: str, line: str) -> Iterator[str]:
    routes = spec.get("http") or ()
    first = f"add as the first item of spec.http, before the routes that serve until then: {line}"
    found = list[Json]()
    for route in routes:
        named = route.get("delegate") or {}
        if named.get("name") == delegate and named.get("namespace") in (None, "", plan.namespace):
            found.append(route)
        elif named.get("name") == delegate:
            yield f"it delegates to {delegate} of namespace {named['namespace']}; write namespace: {plan.namespace}"
            return
    if not found:
        yield f"it does not delegate to the operator's VirtualService; {first}"
        return
    before = next(index for index, route in enumerate(routes) if route is found[0])
    if any(not route.get("match") for route in routes[:before]):
        yield f"a route without match comes before the one that delegates, so that no request arrives there; {first}"
    for route in found:
        if route.get("headers"):
            yield "headers beside delegate do not act, as Istio takes the delegate's own; move them to the app"
        if (route.get("rewrite") or {}).get("authority"):
            yield "rewrite.authority beside delegate would give the EKS leg a foreign Host; take it out"
    path = plan.spec.traffic.istio.probe_path
    if not any(_reaches(route, path) for route in found):
        yield (
            f"traffic.istio.probePath {path} does not match the route that delegates, so that the way back cannot be tried"
            " out; write a path that does"
        )


def _reaches(route: Mapping[str, Any], path: str) -> bool:
    """Tell whether a plain GET of a path matches; what cannot be known from here counts as no."""
    return not route.get("match") or any(
        set(match) <= {"uri", "name", "gateways", "statPrefix"} and _uri_matches(match.get("uri") or {}, path)
        for match in route["match"]
    )


def _uri_matches(uri: Mapping[str, str], path: str) -> bool:
    if not uri:
        return True
    return path == uri.get("exact") or ("prefix" in uri and path.startswith(uri["prefix"]))


def _adoption_problems(root: Mapping[str, Any], plan: Plan, label: str, owner: str) -> Iterator[str]:
    metadata, spec = root["metadata"], root.get("spec") or {}
    other = (metadata.get("labels") or {}).get(label)
    if other not in (None, plan.name):
        yield f"plan {plan.namespace}/{other} has adopted it; delete that plan first"
    for reference in metadata.get("ownerReferences") or ():
        if reference.get("controller"):
            yield (
                f"{reference.get('kind')} {reference.get('name')} makes it, and would put the weights back; have the "
                "weights written there, or use ownership: Generate with a host that it does not route"
            )
    hostname, service = plan.spec.heroku.hostname, plan.spec.eks.service
    routes = list(_plans_routes(spec, plan))
    if not routes:
        yield f"none of its http routes goes to {hostname} or to Service {service.name}; write one that does"
    mine = (metadata.get("annotations") or {}).get(owner) == plan.uid
    for index, route, legs in routes:
        where = f"http[{index}]" + (f" ({route['name']})" if route.get("name") else "")
        if len(legs.heroku) > 1 or len(legs.eks) > 1:
            yield f"{where} has more than one destination for a leg, whose parts would be lost; write each leg once"
        if not mine and any(legs.weights[one] for one in legs.eks):
            yield (
                f"{where} sends requests to Service {service.name} already, which the takeover would send to {hostname}; "
                "give that destination weight 0 first, or a Service of its own"
            )
        for one in legs.eks:
            port = (legs.destinations[one]["destination"].get("port") or {}).get("number", service.port)
            if port != service.port:
                yield f"{where} goes to port {port} of Service {service.name}, not to eks.service.port {service.port}"
        yield from (f"{where} {problem}" for problem in _host_problems(route, legs, hostname))
    size = len(note_original([route for _, route, _ in routes], {}).encode())
    if size > ORIGINAL_LIMIT:
        yield f"its routes take {size} bytes, and no more than {ORIGINAL_LIMIT} can be kept for later; split it up"


def _host_problems(route: Mapping[str, Any], legs: _Legs, hostname: str) -> Iterator[str]:
    """Look at a Host that is set for all destinations of a route: Heroku needs its own, EKS the public one."""
    authority = (route.get("rewrite") or {}).get("authority")
    request = (route.get("headers") or {}).get("request") or {}
    setting = {name: value for part in ("set", "add") for name, value in (request.get(part) or {}).items()}
    hosts = [authority] if authority else []
    hosts += [value for name, value in setting.items() if name.lower() in _HOST]
    if any(str(host).lower() != hostname.lower() for host in hosts):
        yield "sets a Host for both legs (rewrite.authority or headers); set it in the destinations that need it"
    elif hosts and any(legs.weights[one] for one in legs.others):
        yield "sets Heroku's Host for a third destination too; set it in the destinations that need it"


# ---------------------------------------------------------------------------------------------------------- the writers


def writers_problem(root: Mapping[str, Any]) -> str:
    """Say which controllers write the routes of a VirtualService and would put its weights back; ``""`` if none.

    ``spec.http`` is one field to the API server, so that two cannot each own a part of it. People with kubectl are no
    controllers: what they edit of the weights is put back, once.
    """
    metadata = root["metadata"]
    name, annotations = metadata["name"], metadata.get("annotations") or {}
    marks = {**(metadata.get("labels") or {}), **annotations}
    writers = dict.fromkeys(entry.get("manager", "unknown") for entry in http_owners(root))
    if _ARGO_TRACKING in annotations:
        writers.setdefault("argocd-controller")
    flux_is_off = (
        marks.get(f"{_FLUX}/reconcile", "").lower() == "disabled" or marks.get(f"{_FLUX}/ssa", "").lower() == "ignore"
    )
    return "; ".join(
        f"{manager} {_advice(manager, name)}"
        for manager in writers
        if not manager.startswith("kubectl") and not (manager == "kustomize-controller" and flux_is_off)
    )


def http_owners(body: Mapping[str, Any], ours: str = "cutover") -> list[Mapping[str, Any]]:
    """Return the managed fields' entries of others that own ``spec.http``, the latest first."""
    entries = [
        entry
        for entry in body["metadata"].get("managedFields") or ()
        if entry.get("manager") != ours and "f:http" in ((entry.get("fieldsV1") or {}).get("f:spec") or {})
    ]
    return sorted(entries, key=lambda entry: str(entry.get("time", "")), reverse=True)


def _advice(manager: str, name: str) -> str:
    then = "and then skip this check with that as the reason"
    if manager == "kustomize-controller":
        return (
            "(Flux) applies spec.http and would put the weights back; write in Git under metadata.annotations "
            f"{_FLUX}/ssa: IfNotPresent {then}, or: kubectl annotate virtualservice {name} {_FLUX}/reconcile=disabled"
        )
    if manager.startswith("argocd"):
        return (
            "(Argo CD) syncs spec.http and would put the weights back; write in the Application's spec ignoreDifferences:"
            f" [{{group: networking.istio.io, kind: VirtualService, name: {name}, jsonPointers: [/spec/http]}}] and "
            f"syncPolicy: {{syncOptions: [RespectIgnoreDifferences=true]}} {then}"
        )
    if manager.lower().startswith("helm"):
        return (
            "(Helm) upgrades spec.http and would put the weights back; write in the HelmRelease's spec driftDetection: "
            f"{{ignore: [{{paths: [/spec/http], target: {{kind: VirtualService, name: {name}}}}}]}} {then}"
        )
    return f"writes spec.http and would put the weights back; have it leave spec.http of {name} alone {then}"
