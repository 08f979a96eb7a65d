"""Objects of the team that the plan's gateways do not see."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.kit.builders import plan
from tests.kit.target import READY

from cutover.domain.preflight.check import Facts
from cutover.domain.preflight.checks.istio.exported import CHECK, EXPORT_ANNOTATION
from cutover.domain.preflight.checks.istio.kinds import VIRTUAL_SERVICES
from cutover.domain.resources import SERVICES, Json

OWN = plan(istio={"ownership": "Adopt", "virtualServiceRef": {"name": "team"}})


def told(route: Json, annotation: str | None = None) -> str:
    there = READY.inventory(OWN)
    metadata: Json = {"namespace": "docs", "name": "pdf"}
    if annotation is not None:
        metadata["annotations"] = {EXPORT_ANNOTATION: annotation}
    objects = {
        **there.objects,
        SERVICES: {("docs", "pdf"): {"metadata": metadata}},
        VIRTUAL_SERVICES: {("docs", "team"): {"metadata": {"namespace": "docs", "name": "team"}, "spec": route}},
    }
    return CHECK.judge(OWN, Facts(inventory=replace(there, objects=objects))).message


@pytest.mark.parametrize("targets", [["*"], ["istio-ingress"], [".", "istio-ingress"], [".", "*"], [], None])
def test_what_the_gateways_see_is_fine(targets: list[str] | None) -> None:
    assert told({"exportTo": targets}, ", ".join(targets) if targets else None) == ""


@pytest.mark.parametrize("targets", [["."], ["docs", "other"], ["~"]])
def test_what_they_do_not_see_is_told_with_what_to_add(targets: list[str]) -> None:
    assert told({"exportTo": targets}) == (
        f"VirtualService docs/team has exportTo: [{', '.join(targets)}], so that the gateways in istio-ingress do not see"
        " it; add istio-ingress to it"
    )
    assert told({}, ",".join(targets)).startswith("Service pdf has the annotation networking.istio.io/exportTo: ")
    assert told({"exportTo": [*(one for one in targets if one != "~"), "istio-ingress"]}) == ""


def test_a_plan_without_a_route_of_the_teams_has_its_service_looked_at() -> None:
    generating = plan()
    there = READY.inventory(generating)
    hidden = {"metadata": {"namespace": "docs", "name": "pdf", "annotations": {EXPORT_ANNOTATION: "."}}}
    there = replace(there, objects={**there.objects, SERVICES: {("docs", "pdf"): hidden}})
    assert CHECK.judge(generating, Facts(inventory=there)).result == "Failed"
    assert CHECK.judge(generating, Facts(inventory=READY.inventory(generating))).result == "Passed"
