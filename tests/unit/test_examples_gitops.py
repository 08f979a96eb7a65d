"""The examples for Flux and Argo CD hang together, and Argo CD's health check says of each state what it should."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from lupa.lua51 import LuaRuntime
from tests.kit.states import HOLD_CASES, PHASE_CASES, manifest
from tests.kit.world import World, plan_spec

from cutover.api.v1alpha1 import MigrationPlan, Phase
from cutover.domain.engine.actions import Decision
from cutover.domain.engine.decide import not_written, refuse
from cutover.domain.holds import ALARMING, HoldReason
from cutover.domain.plan import Plan

ROOT = Path(__file__).parents[2]
FLUX, ARGO = ROOT / "examples" / "flux", ROOT / "examples" / "argocd"
HEALTH = (ARGO / "health.lua").read_text(encoding="utf-8")

Json = dict[str, Any]

#: What the kind's API reference knows in ``spec``, as far as it is used here: its CRD is not on this machine. Flux' kinds are
#: checked by their CRDs, in tests/apiserver/test_flux.py.
FIELDS = {
    "argoproj.io/v1alpha1/Application": {"project", "source", "destination", "syncPolicy", "ignoreDifferences"},
}
OWN = {"v1/Namespace", "v1/Service", "v1/ConfigMap", "apps/v1/Deployment", "cutover.dev/v1alpha1/MigrationPlan"}


def documents(folder: Path) -> Iterator[Json]:
    for path in sorted(folder.rglob("*.yaml")):
        yield from yaml.safe_load_all(path.read_text(encoding="utf-8"))


def of_kind(folder: Path, kind: str) -> dict[str, Json]:
    return {one["metadata"]["name"]: one for one in documents(folder) if one["kind"] == kind}


# ------------------------------------------------------------------------------------------------------------ manifests


@pytest.mark.parametrize("one", list(documents(ARGO)), ids=lambda one: one["metadata"]["name"])
def test_kinds_and_fields_are_known(one: Json) -> None:
    kind = f"{one['apiVersion']}/{one['kind']}"
    assert kind in FIELDS.keys() | OWN
    assert set(one.get("spec", {})) <= FIELDS.get(kind, one.get("spec", {}).keys())


def test_plans_are_valid() -> None:
    plans = [one for one in (*documents(FLUX), *documents(ARGO)) if one["kind"] == "MigrationPlan"]
    assert plans
    for plan in plans:
        MigrationPlan.from_wire(plan)


def test_flux_finds_what_it_is_told_to_apply() -> None:
    sources, steps = of_kind(FLUX, "GitRepository"), of_kind(FLUX, "Kustomization")
    for name, step in steps.items():
        spec = step["spec"]
        assert spec["sourceRef"]["name"] in sources
        assert {one["name"] for one in spec.get("dependsOn", ())} <= set(steps) - {name}
        applied = [(one["kind"], one["metadata"]["name"]) for one in documents(FLUX / spec["path"])]
        assert applied, spec["path"]
        assert spec["wait"], "whoever depends on it would not wait"
    releases = of_kind(FLUX, "HelmRelease")
    assert releases["cutover"]["spec"]["dependsOn"] == [{"name": "cutover-crds"}]
    for release in releases.values():
        assert release["spec"]["chart"]["spec"]["sourceRef"]["name"] in sources
        assert (ROOT / release["spec"]["chart"]["spec"]["chart"] / "Chart.yaml").exists()
    (alert,) = of_kind(FLUX, "Alert").values()
    known = {(kind, name) for kind in ("Kustomization", "HelmRelease") for name in of_kind(FLUX, kind)}
    assert {(one["kind"], one["name"]) for one in alert["spec"]["eventSources"]} <= known
    assert alert["spec"]["providerRef"]["name"] in of_kind(FLUX, "Provider")


def test_flux_brings_the_app_before_its_migration_and_never_holds_a_release_for_it() -> None:
    """Preflight waits for the Deployment: an app that waited for the plan would never come."""
    steps = of_kind(FLUX, "Kustomization")
    depends = {name: {one["name"] for one in step["spec"].get("dependsOn", ())} for name, step in steps.items()}
    assert depends == {"cutover": set(), "pdf": set(), "pdf-migration": {"cutover", "pdf"}}


def test_no_application_takes_the_crds_with_it() -> None:
    """Every plan would be deleted with them, and by then perhaps without an operator."""
    applications = of_kind(ARGO, "Application")
    crds, operator = applications["cutover-crds"], applications["cutover"]
    assert "finalizers" not in crds["metadata"]
    assert not crds["spec"]["syncPolicy"]["automated"]["prune"]
    assert crds["spec"]["source"]["path"] == "crds"
    assert operator["spec"]["source"]["path"] == "charts/cutover"


@pytest.mark.parametrize("page", [FLUX / "README.md", ARGO / "README.md"], ids=["flux", "argocd"])
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


# --------------------------------------------------------------------------------------------------- Argo CD's health


def health(found: Json) -> tuple[str, str]:
    """Run the script as Argo CD does: Lua 5.1 without the string and math libraries, ``obj`` as a global."""
    lua = LuaRuntime(unpack_returned_tuples=True)
    lua.execute('debug.setmetatable("", nil)')
    for library in ("string", "math", "io", "os", "debug", "coroutine", "python", "package", "require"):
        lua.globals()[library] = None
    lua.globals()["obj"] = lua.table_from(found, recursive=True)
    result = lua.execute(HEALTH)
    assert set(result.keys()) == {"status", "message"}
    return result["status"], result["message"]


def test_the_config_map_has_the_script() -> None:
    (config,) = of_kind(ARGO, "ConfigMap").values()
    assert config["data"] == {"resource.customizations.health.cutover.dev_MigrationPlan": HEALTH}


HEALTH_OF_PHASES = {
    "preflight": "Progressing",
    "rolling back": "Progressing",
    "rolled back": "Degraded",
    "tried again": "Progressing",
}


@pytest.mark.parametrize("name", PHASE_CASES)
def test_health_of_each_phase(name: str) -> None:
    make, _, _ = PHASE_CASES[name]
    assert health(manifest(make()))[0] == HEALTH_OF_PHASES.get(name, "Healthy")


PEOPLES = (
    "Suspended",
    "AwaitingApproval",
    "AwaitingDecision",
    "OutsideWindow",
    "Frozen",
    "Ceiling",
    "BaselineIncomplete",
    "LegsDiffer",
)
HEALTH_OF_HOLDS = {
    **dict.fromkeys(map(HoldReason, PEOPLES), "Suspended"),
    **dict.fromkeys(ALARMING, "Degraded"),
    # A target that is not ready yet is on its way there; and what was put back is waited for, for a moment.
    HoldReason.PREFLIGHT_FAILED: "Progressing",
    HoldReason.DRIFT_DETECTED: "Healthy",
}


@pytest.mark.parametrize("reason", HOLD_CASES)
def test_health_of_each_hold(reason: HoldReason) -> None:
    w = HOLD_CASES[reason].make().until_reason(reason)
    status, message = health(manifest(w))
    assert status == HEALTH_OF_HOLDS.get(reason, "Healthy")
    assert f", {reason}: {w.stored.message}" in message


def test_health_of_a_route_that_cannot_be_written_and_of_a_spec_that_cannot_be_read() -> None:
    w = World(spec=plan_spec()).until_judging(10)
    told = not_written(w.plan(), Decision(w.status, ()), "missing permission", w.now)
    assert health(manifest(w, told.status))[0] == "Degraded"
    unreadable = {"metadata": {"namespace": "shop", "name": "pdf", "uid": "1", "generation": 1}, "spec": {}}
    refused = refuse(Plan.refused(unreadable, "heroku: Field required"), w.now).status
    assert health(manifest(w, refused)) == ("Degraded", "Pending, InvalidSpec: heroku: Field required")


@pytest.mark.parametrize(
    "found",
    [
        {"metadata": {"generation": 1}},
        {"metadata": {"generation": 1}, "status": {}},
        {"metadata": {"generation": 1}, "status": {"observedGeneration": -1}},
        {"metadata": {"generation": 1}, "status": {"observedGeneration": 1}},
    ],
    ids=["no status", "empty", "the CRD's default", "without conditions"],
)
def test_health_of_a_plan_that_nobody_has_seen(found: Json) -> None:
    assert health(found)[0] == "Progressing"


def test_health_of_an_edit_that_nobody_has_seen() -> None:
    w = World(spec=plan_spec()).until_judging(10)
    assert health(manifest(w))[0] == "Healthy"
    w.edit(soak="2h")
    assert health(manifest(w))[0] == "Progressing"


def test_health_tells_the_weight() -> None:
    w = World(spec=plan_spec(ceiling=25)).until_reason(HoldReason.CEILING)
    message = health(manifest(w))[1]
    assert message.startswith(f"{Phase.SHIFTING}, 25 % on EKS, Ceiling: ready for 50 %")
