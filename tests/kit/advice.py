"""Does what preflight's messages about a team's VirtualService say, word by word, as somebody who knows nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

Json = dict[str, Any]


@dataclass
class Team:
    """What a team may edit.

    Parameters
    ----------
    route
        The VirtualService in the plan's ``virtualServiceRef``.
    istio
        ``traffic.istio`` of the plan.
    others
        Further VirtualServices of the team, by name.
    """

    route: Json
    istio: Json
    others: dict[str, Json]

    @property
    def spec(self) -> Json:
        found: Json = self.route["spec"]
        return found

    def destinations(self, index: int) -> list[Json]:
        found: list[Json] = self.spec["http"][index].get("route") or []
        return found

    def point_to(self, destination: Json, host: str) -> None:
        destination["destination"] = {"host": host}


Step = Callable[[Team, re.Match[str]], None]
_STEPS: list[tuple[re.Pattern[str], Step]] = []


def follow(message: str, team: Team) -> Iterator[str]:
    """Do each thing that a message asks for, in its order; yield what was done, in the message's words."""
    found = [(match.start(), match, step) for pattern, step in _STEPS for match in pattern.finditer(message)]
    # Routes that are taken out or put in move those behind them.
    for _, match, step in sorted(found, key=lambda one: one[0], reverse=True):
        step(team, match)
        yield match.group(0)


def _asked(pattern: str) -> Callable[[Step], Step]:
    def add(step: Step) -> Step:
        _STEPS.append((re.compile(pattern), step))
        return step

    return add


def _listed(text: str) -> list[str]:
    return [one.strip() for one in text.split(",")]


# ------------------------------------------------------------------------------------------------- hosts and gateways


@_asked(r"write hosts: \[(.*?)\]")
def _hosts(team: Team, match: re.Match[str]) -> None:
    team.spec["hosts"] = _listed(match[1])


@_asked(r"its hosts ([^;]*?) are names for callers inside the mesh; take them out")
def _inside(team: Team, match: re.Match[str]) -> None:
    team.spec["hosts"] = [host for host in team.spec["hosts"] if host.lower() not in _listed(match[1])]


@_asked(r"this one gateways: \[(.*?)\]")
def _gateways(team: Team, match: re.Match[str]) -> None:
    team.spec["gateways"] = _listed(match[1])


@_asked(r"it does not route ([^;]*?); add it to its hosts")
def _missing_hosts(team: Team, match: re.Match[str]) -> None:
    team.spec["hosts"] += _listed(match[1])


@_asked(r"it routes ([^;*]*?) too; add it to traffic.istio.hosts")
def _more_hosts(team: Team, match: re.Match[str]) -> None:
    team.istio["hosts"] += _listed(match[1])


@_asked(r"it is bound to gateway ([^;]*?) too; add it to traffic.istio.gateways")
def _more_gateways(team: Team, match: re.Match[str]) -> None:
    team.istio["gateways"] += _listed(match[1])


@_asked(r"it is not bound to gateway ([^;]*?); add it to its gateways")
def _missing_gateways(team: Team, match: re.Match[str]) -> None:
    team.spec["gateways"] += _listed(match[1])


@_asked(r"so that the gateways in ([^;]*?) do not see it; add \1 to it")
def _hidden(team: Team, match: re.Match[str]) -> None:
    team.spec["exportTo"] += _listed(match[1])


# ---------------------------------------------------------------------------------------------------- the plan's routes


@_asked(
    r"http\[(\d+)\](?: \([^)]*\))? sends requests to Service (\S+) and none to (\S+), .*?a second Service with the selector"
)
def _testers(team: Team, match: re.Match[str]) -> None:
    route = team.spec["http"][int(match[1])]
    # It says two ways: the second is for whom a condition sets apart.
    if route.get("match"):
        for one in route["route"]:
            team.point_to(one, f"{match[2]}-testers")
    else:
        route["route"] = [{"destination": {"host": match[3]}}]


@_asked(
    r"http\[(\d+)\](?: \([^)]*\))? sends requests to Service (\S+) already, .*?give that destination weight 0 first"
)
def _already(team: Team, match: re.Match[str]) -> None:
    for one in team.destinations(int(match[1])):
        if str(one["destination"]["host"]).split(".", 1)[0] == match[2]:
            one["weight"] = 0


@_asked(
    r"http\[(\d+)\](?: \([^)]*\))? has more than one destination for a leg, .*?write each leg once, with the sum of the weights"
)
def _once(team: Team, match: re.Match[str]) -> None:
    legs: dict[str, Json] = {}
    for one in team.destinations(int(match[1])):
        known = legs.setdefault(str(one["destination"]["host"]).lower(), {**one, "weight": 0})
        known["weight"] += one.get("weight", 0)
    team.spec["http"][int(match[1])]["route"] = list(legs.values())


@_asked(r"http\[(\d+)\](?: \([^)]*\))? is never reached, [^;]*?; take it out")
def _hidden_route(team: Team, match: re.Match[str]) -> None:
    del team.spec["http"][int(match[1])]


@_asked(r"http\[(\d+)\](?: \([^)]*\))? sets a Host for both legs [^;]*?; write (\S+) there, without a port")
def _without_port(team: Team, match: re.Match[str]) -> None:
    team.spec["http"][int(match[1])]["rewrite"]["authority"] = match[2]


@_asked(r"http\[(\d+)\](?: \([^)]*\))? goes to (\S+), which Istio does not complete; write (\w[-\w]*)")
def _incomplete(team: Team, match: re.Match[str]) -> None:
    for one in team.destinations(int(match[1])):
        if one["destination"]["host"] == match[2]:
            one["destination"]["host"] = match[3]


@_asked(
    r"none of its http routes goes to [^;]*?, but to ([^,;]+)[^;]*; if that is the way .*?write destination: \{host: (\S+)\} in its"
)
def _another_way(team: Team, match: re.Match[str]) -> None:
    for route in team.spec["http"]:
        for one in route.get("route") or ():
            if one["destination"]["host"] == match[1]:
                team.point_to(one, match[2])


@_asked(r"take spec\.(tls|tcp) out")
def _unopened(team: Team, match: re.Match[str]) -> None:
    team.spec.pop(match[1], None)


@_asked(r"copies requests to .*?; take the mirror out")
def _mirrored(team: Team, _: re.Match[str]) -> None:
    for route in team.spec["http"]:
        for field in ("mirror", "mirrors", "mirrorPercentage"):
            route.pop(field, None)


@_asked(r"makes it, and would put its own routes back; have it stop")
def _made(team: Team, _: re.Match[str]) -> None:
    del team.route["metadata"]["ownerReferences"]


@_asked(r"http\[(\d+)\] sends requests to Service (\S+), and the gates .*?; have them go to a second Service")
def _testers_of_a_root(team: Team, match: re.Match[str]) -> None:
    for one in team.destinations(int(match[1])):
        if one["destination"]["host"] == match[2]:
            team.point_to(one, f"{match[2]}-testers")


# ---------------------------------------------------------------------------------------------------- another ownership


@_asked(r"as it delegates them; use ownership: Delegate")
def _delegate(team: Team, _: re.Match[str]) -> None:
    team.istio["ownership"] = "Delegate"


@_asked(r"and a delegate would not; use ownership: Adopt")
def _adopt(team: Team, _: re.Match[str]) -> None:
    team.istio["ownership"] = "Adopt"


@_asked(r"write in virtualServiceRef the one that delegates to it and routes \S+ and ownership: Delegate")
def _root(team: Team, _: re.Match[str]) -> None:
    mine = team.route["metadata"]["name"]
    (root,) = (
        body
        for body in team.others.values()
        if any((route.get("delegate") or {}).get("name") == mine for route in body["spec"]["http"])
    )
    team.others[mine] = team.route
    team.route = team.others.pop(root["metadata"]["name"])
    team.istio |= {"ownership": "Delegate", "virtualServiceRef": {"name": root["metadata"]["name"]}}


@_asked(r"or, if there is none, ownership: Generate")
def _generate(team: Team, _: re.Match[str]) -> None:
    team.others[team.route["metadata"]["name"]] = team.route
    team.istio["ownership"] = "Generate"
    del team.istio["virtualServiceRef"]


@_asked(r"before http\[(\d+)\]: (- .*?)(?=; before http\[|; and likewise|; [^b]|$)")
def _line(team: Team, match: re.Match[str]) -> None:
    team.spec["http"][int(match[1]) : int(match[1])] = yaml.safe_load(match[2])


@_asked(r"add as the first item of spec\.http, before the routes that serve until then: (- .*)$")
def _first_line(team: Team, match: re.Match[str]) -> None:
    team.spec["http"][0:0] = yaml.safe_load(match[1])
