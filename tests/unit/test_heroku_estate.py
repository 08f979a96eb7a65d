"""What is configured on Heroku against what a Deployment has: config vars, add-ons, stack, dynos, connections."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from tests.kit.record import record
from tests.kit.target import named
from tests.kit.world import plan_spec

from cutover.adapters.kube.answers import Forbidden
from cutover.adapters.kube.client import Cluster
from cutover.adapters.kube.inventory import KubernetesInventories
from cutover.api.v1alpha1 import CheckResult
from cutover.domain.baseline.used import Used
from cutover.domain.heroku import Addon, HerokuApp, HerokuReading, Process
from cutover.domain.plan import Plan
from cutover.domain.preflight import registry
from cutover.domain.preflight.check import Facts
from cutover.domain.preflight.checks.heroku.database_connections import limit_of
from cutover.domain.preflight.inventory import Inventory, key_names
from cutover.domain.preflight.variables import KEYS
from cutover.domain.preflight.workload import WORKLOAD_READS
from cutover.domain.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    HORIZONTAL_POD_AUTOSCALERS,
    SECRETS,
    SERVICES,
    Json,
    Resource,
)
from cutover.ports.errors import Gone

ROOT = Path(__file__).resolve().parents[2]
CORPUS = list(yaml.safe_load_all((ROOT / "tests" / "corpus" / "deployments.yaml").read_text(encoding="utf-8")))
HEALTHY = [body for body in CORPUS if body["metadata"]["name"].startswith("healthy-")]
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
CHECKS = {check.name: check for check in registry.CHECKS}
PG = Addon("heroku-postgresql", "standard-0", ("DATABASE_URL",))


def plan(**preflight: Any) -> Plan:
    return Plan("shop", "pdf", "1", 1, plan_spec(preflight=preflight))


def deployment(container: Json, replicas: int = 2, **metadata: Any) -> Json:
    spec = {"replicas": replicas, "template": {"spec": {"containers": [{"name": "web", **container}]}}}
    body = named("shop", "pdf", spec=spec)
    return {**body, "metadata": {**body["metadata"], **metadata}}


def inventory(body: Json, most: int = 1, **keys: Any) -> Inventory:
    scaled = {"scaleTargetRef": {"kind": "Deployment", "name": "pdf"}, "maxReplicas": most}
    return Inventory(
        objects={
            DEPLOYMENTS: {("shop", "pdf"): body},
            SERVICES: {("shop", "pdf"): named("shop", "pdf", spec={"ports": [{"port": 80}]})},
            **keys,
        },
        lists={HORIZONTAL_POD_AUTOSCALERS: [named("shop", "pdf", spec=scaled)]},
    )


def app(**changes: Any) -> HerokuApp:
    known = HerokuApp(
        name="acme-pdf",
        maintenance=False,
        own_hostname="",
        processes=(Process("web", 2, "Standard-1X"),),
        addons=(),
        features=frozenset(),
        stack="heroku-24",
        config_vars=frozenset(),
        buildpacks=("heroku/ruby",),
    )
    return replace(known, **changes)


def found(check: str, of: HerokuApp, body: Json, asked: Plan | None = None, most: int = 1, **keys: Any) -> str:
    """Return what a check warns of; ``""`` if it passes."""
    facts = Facts(inventory=inventory(body, most, **keys), heroku=HerokuReading(of, at=NOW.timestamp()))
    finding = CHECKS[check].judge(asked or plan(), facts)
    assert (finding.result is CheckResult.WARNED) == bool(finding.message)
    assert finding.result in (CheckResult.PASSED, CheckResult.WARNED)
    return finding.message


def env(*names: str) -> Json:
    return {"env": [{"name": name, "value": "x"} for name in names]}


FROM_SECRET: Json = {"envFrom": [{"secretRef": {"name": "pdf"}}, {"configMapRef": {"name": "pdf"}, "prefix": "APP_"}]}
SET = app(config_vars=frozenset({"API_TOKEN", "MAIL_FROM", "DATABASE_URL", "NPM_CONFIG_PRODUCTION"}), addons=(PG,))


@pytest.mark.parametrize("body", HEALTHY, ids=lambda body: body["metadata"]["name"])
def test_a_healthy_estate_has_no_finding(body: Json) -> None:
    container = body["spec"]["template"]["spec"]["containers"][-1]
    names = {one["name"] for one in container.get("env") or ()} - {"PORT"}
    of = app(config_vars=frozenset(names), addons=(Addon("papertrail"),))
    facts = Facts(inventory=inventory(body, most=6), heroku=HerokuReading(of, at=NOW.timestamp()))
    checks = ("config-vars", "heroku-addons", "heroku-stack", "heroku-replicas", "database-connections")
    assert {name: CHECKS[name].judge(plan(), facts).message for name in checks} == dict.fromkeys(checks, "")


def test_a_config_var_without_a_variable_is_found_by_its_name() -> None:
    assert found("config-vars", SET, deployment(env("API_TOKEN", "MAIL_FROM"))) == ""
    missing = found("config-vars", SET, deployment(env("MAIL_FROM")))
    assert missing.startswith("config vars API_TOKEN of acme-pdf are not set for container web: set them")
    assert "DATABASE_URL" not in missing, "told with its add-on"


def test_differences_that_are_meant_are_in_the_plan() -> None:
    assert found("config-vars", SET, deployment({}), plan(config={"onlyOnHeroku": ["API_*", "MAIL_FROM"]})) == ""
    assert "API_TOKEN of" in found(
        "config-vars", SET, deployment({}), plan(config={"onlyOnHeroku": ["MAIL_FROM", "API"]})
    )


def test_a_key_that_may_not_see_config_vars_is_told() -> None:
    assert "read-protected" in found("config-vars", app(config_vars=None), deployment({}))


def test_variables_may_come_from_where_nobody_looked() -> None:
    told = found("config-vars", SET, deployment(FROM_SECRET))
    assert "API_TOKEN, MAIL_FROM of acme-pdf are not named" in told
    assert "keys of Secret pdf, ConfigMap pdf is not known" in told
    assert "preflight.config.readKeys" in told


@pytest.mark.parametrize(
    "container",
    [
        {"command": ["doppler", "run", "--", "puma"]},
        {"command": ["sh", "-c", "exec chamber exec pdf -- puma"]},
    ],
)
def test_what_sets_variables_at_the_start_is_recognised(container: Json) -> None:
    assert found("config-vars", SET, deployment(container)) == ""


def test_keys_that_were_read_count_with_their_prefix() -> None:
    keys: dict[Resource, Any] = {
        SECRETS: {("shop", "pdf"): {"keys": ["API_TOKEN"]}},
        CONFIG_MAPS: {("shop", "pdf"): {"keys": ["FROM"], "owners": ["ExternalSecret pdf-settings"]}},
    }
    body = deployment(copy.deepcopy(FROM_SECRET))
    facts = Facts(heroku=HerokuReading(SET, at=NOW.timestamp()), inventory=_with(inventory(body), keys))
    told = CHECKS["config-vars"].judge(plan(config={"readKeys": True}), facts).message
    assert "MAIL_FROM of acme-pdf are not set for container web: add them to ExternalSecret pdf-settings" in told
    assert "API_TOKEN" not in told
    keys[CONFIG_MAPS] = {("shop", "pdf"): {"keys": ["MAIL_FROM"]}}
    body["spec"]["template"]["spec"]["containers"][0]["envFrom"][1].pop("prefix")
    facts = replace(facts, inventory=_with(inventory(body), keys))
    assert CHECKS["config-vars"].judge(plan(config={"readKeys": True}), facts).message == ""


def _with(known: Inventory, objects: Any) -> Inventory:
    return replace(known, objects={**known.objects, **objects})


class Served:
    """An API server with a Deployment, a Secret and a ConfigMap, that may refuse Secrets."""

    def __init__(self, body: Json, *, refuses: bool = False) -> None:
        self.body, self.refuses, self.asked = body, refuses, list[tuple[Resource, str]]()

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        self.asked.append((resource, name))
        if resource == DEPLOYMENTS:
            return self.body
        if resource == SECRETS and self.refuses:
            raise Forbidden("missing permission: needs verb get on secrets")
        if resource in (SECRETS, CONFIG_MAPS):
            owner = {"kind": "ExternalSecret", "name": "pdf-settings"}
            return {
                "metadata": {"namespace": namespace, "name": name, "ownerReferences": [owner]},
                "data": {"API_TOKEN": "c2VjcmV0"},
            }
        raise Gone(name)

    async def list(self, resource: Resource, *, keep: Any = None) -> list[Json]:
        self.asked.append((resource, ""))
        return []


async def read(served: Served, asked: Plan) -> Inventory:
    reads = [read for read in (*WORKLOAD_READS, *KEYS) if read.wanted(asked)]
    return await KubernetesInventories(cast("Cluster", served)).inventory(asked, reads)


async def test_secrets_are_read_only_where_the_plan_asks_for_it_and_no_value_is_kept() -> None:
    served = Served(deployment(FROM_SECRET))
    await read(served, plan())
    assert not {SECRETS, CONFIG_MAPS} & {resource for resource, _ in served.asked}
    known = await read(served, plan(config={"readKeys": True}))
    assert known.get(SECRETS, "shop", "pdf") == {
        "metadata": {"namespace": "shop", "name": "pdf"},
        "keys": ["API_TOKEN"],
        "owners": ["ExternalSecret pdf-settings"],
    }
    assert "c2VjcmV0" not in repr(known)
    assert not {read.resource for check in registry.CHECKS for read in check.reads} & {SECRETS, CONFIG_MAPS}, (
        "the chart grants no right to them"
    )


async def test_without_the_right_to_read_secrets_all_else_is_judged() -> None:
    asked = plan(config={"readKeys": True})
    known = await read(Served(deployment(FROM_SECRET), refuses=True), asked)
    facts = Facts(inventory=known, heroku=HerokuReading(SET, at=NOW.timestamp()))
    told = CHECKS["config-vars"].judge(asked, facts).message
    assert "config vars API_TOKEN, MAIL_FROM of acme-pdf" in told
    assert "keys of Secret pdf is not known" in told


def test_key_names_without_owners_are_names_alone() -> None:
    assert key_names(named("shop", "pdf", data={"B": "1"}, binaryData={"A": "2"})) == named(
        "shop", "pdf", keys=["A", "B"]
    )


MAIL = Addon("mailgun", "starter", ("MAILGUN_API_KEY", "MAILGUN_DOMAIN"))


@pytest.mark.parametrize(
    ("addons", "container", "says"),
    [
        ((MAIL,), env("MAILGUN_DOMAIN"), ""),
        ((MAIL,), {}, "no variable of add-on mailgun starter (MAILGUN_API_KEY, MAILGUN_DOMAIN)"),
        ((MAIL,), FROM_SECRET, ""),
        ((Addon("papertrail"),), {}, ""),
        ((Addon("scheduler", "standard", ("X",)),), {}, ""),
        ((PG,), env("DATABASE_URL"), "keeps data in add-on heroku-postgresql standard-0 (DATABASE_URL)"),
        ((PG,), FROM_SECRET, "if EKS uses it too, each call goes to Heroku's region"),
        ((PG,), {}, "no variable of add-on heroku-postgresql standard-0"),
        (None, {}, ""),
    ],
)
def test_add_ons_without_a_counterpart_and_databases_that_stay(
    addons: tuple[Addon, ...] | None, container: Json, says: str
) -> None:
    told = found("heroku-addons", app(addons=addons), deployment(container))
    assert says in told
    assert bool(says) == bool(told)


def test_credentials_that_rotate_need_pods_that_are_replaced() -> None:
    plain = deployment(env("DATABASE_URL"))
    reloaded = deployment(env("DATABASE_URL"), annotations={"reloader.stakater.com/auto": "true"})
    assert "Heroku changes the credentials of heroku-postgresql" in found("heroku-addons", app(addons=(PG,)), plain)
    assert "credentials" not in found("heroku-addons", app(addons=(PG,)), reloaded)


@pytest.mark.parametrize(
    ("changes", "container", "says"),
    [
        ({"stack": "heroku-20"}, {}, "stack heroku-20 has its last day on 2025-04-30"),
        ({"stack": "heroku-22"}, {}, "stack heroku-22 has its last day on 2027-04-30"),
        ({"stack": "heroku-24"}, {}, ""),
        ({"stack": ""}, {}, ""),
        ({"buildpacks": ("heroku-community/apt", "heroku/ruby")}, {}, "buildpack heroku-community/apt put programs"),
        ({"buildpacks": ("heroku/pgbouncer",)}, {}, "the Pod has none"),
        ({"buildpacks": ("heroku/nodejs",)}, {}, "set NODE_ENV when a dyno starts"),
        ({"buildpacks": ("heroku/nodejs",)}, env("NODE_ENV"), ""),
        ({"buildpacks": ("heroku/nodejs",)}, FROM_SECRET, ""),
        ({"buildpacks": None}, {}, ""),
    ],
)
def test_the_stack_and_what_buildpacks_brought(changes: dict[str, Any], container: Json, says: str) -> None:
    told = found("heroku-stack", app(**changes), deployment(container))
    assert says in told
    assert bool(says) == bool(told)


@pytest.mark.parametrize(
    ("dynos", "size", "most", "memory", "warns"),
    [
        (10, "Standard-1X", 4, "256Mi", True),
        (10, "Standard-1X", 5, "256Mi", False),
        (10, "Standard-1X", 4, "1Gi", False),
        (10, "Standard-1X", 4, None, True),
        (10, "Fir-9", 1, None, False),
        (0, "Standard-1X", 1, None, False),
    ],
)
def test_replicas_against_the_formation(dynos: int, size: str, most: int, memory: str | None, *, warns: bool) -> None:
    container: Json = {"resources": {"limits": {"memory": memory}}} if memory else {}
    of = app(processes=(Process("web", dynos, size),))
    told = found("heroku-replicas", of, deployment(container, replicas=1), most=most)
    assert ("EKS can have" in told) is warns


def test_both_legs_share_the_databases_connections() -> None:
    pooled = {"env": [{"name": "DB_POOL", "value": "5"}, {"name": "WEB_CONCURRENCY", "value": "2"}]}
    of = app(addons=(PG,), processes=(Process("web", 4, "Standard-1X"), Process("worker", 2, "Standard-1X")))
    assert found("database-connections", of, deployment(pooled), most=6) == ""
    told = found("database-connections", of, deployment(pooled), most=8)
    assert told.startswith(
        "8 replicas open up to 80 connections and 6 dynos with the same pools 60, and heroku-postgresql standard-0 allows 120"
    )
    assert found("database-connections", of, deployment({}), most=50) == "", "the manifest names no pool"
    larger = replace(of, addons=(PG, Addon("heroku-postgresql", "premium-4")))
    assert found("database-connections", larger, deployment(pooled), most=8) == ""


@pytest.mark.parametrize(
    ("most", "says"),
    [
        (Used(connections=50.0, connection_limit=400.0, database="main"), ""),
        (Used(connections=50.0), "heroku-postgresql standard-0 allows 120 (heroku pg:info"),
        (
            Used(connections=50.0, connection_limit=100.0, database="main"),
            "main allows 100; in the record of the time before it had 50 at most",
        ),
    ],
)
def test_a_database_that_has_told_its_limit_is_believed(most: Used, says: str) -> None:
    pooled = {"env": [{"name": "DB_POOL", "value": "5"}, {"name": "WEB_CONCURRENCY", "value": "2"}]}
    of = app(addons=(PG,), processes=(Process("web", 6, "Standard-1X"),))
    facts = Facts(
        inventory=inventory(deployment(pooled), 8),
        heroku=HerokuReading(of, at=NOW.timestamp()),
        record=replace(record(1), most=most),
    )
    told = CHECKS["database-connections"].judge(plan(), facts).message
    assert bool(told) == bool(says)
    assert says in told


@pytest.mark.parametrize(
    ("name", "limit"),
    [("essential-0", 20), ("standard-0", 120), ("standard-5", 500), ("premium-l", 500), ("odd", None)],
)
def test_the_connections_of_a_database_plan(name: str, limit: int | None) -> None:
    assert limit_of(name) == limit
