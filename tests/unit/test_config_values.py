"""Values of config vars against those of a Deployment, by keyed digests: what differs is named, and no value is anywhere."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kit.heroku_api import KEYS, PlayedHerokuApi
from tests.kit.target import named
from tests.kit.world import plan_spec

from cutover.adapters.heroku.client import HerokuClient
from cutover.adapters.kube.answers import Forbidden
from cutover.adapters.kube.client import Cluster
from cutover.adapters.kube.inventory import KubernetesInventories
from cutover.api.v1alpha1 import CheckResult
from cutover.domain.fingerprints import Fingerprints
from cutover.domain.heroku import Addon, HerokuApp, HerokuReading
from cutover.domain.plan import Plan
from cutover.domain.preflight import registry
from cutover.domain.preflight.check import Facts, Finding
from cutover.domain.resources import CONFIG_MAPS, DEPLOYMENTS, SECRETS, SERVICES, Json, Resource
from cutover.ports.errors import Gone

CHECK = next(check for check in registry.CHECKS if check.name == "config-values")
FINGERPRINTS = Fingerprints(b"0123456789abcdef0123456789abcdef")
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
#: What is nowhere but on Heroku and in the cluster.
MARKED = "s3cret-"


def plan(**config: Any) -> Plan:
    return Plan("shop", "pdf", "1", 1, plan_spec(preflight={"config": {"compareValues": True, **config}}))


def deployment(container: Json, **metadata: Any) -> Json:
    spec = {"replicas": 2, "template": {"spec": {"containers": [{"name": "web", **container}]}}}
    body = named("shop", "pdf", spec=spec)
    return {**body, "metadata": {**body["metadata"], **metadata}}


class Served:
    """An API server with a Deployment, and the Secrets and ConfigMaps that it is given."""

    def __init__(self, body: Json, *, refuses: tuple[Resource, ...] = (), **objects: Json) -> None:
        self.body, self.refuses, self.objects = body, refuses, objects
        self.asked = list[tuple[Resource, str]]()

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        self.asked.append((resource, name))
        if resource == DEPLOYMENTS:
            return self.body
        if resource == SERVICES:
            return named(namespace, name, spec={"ports": [{"port": 80}]})
        if resource in self.refuses:
            raise Forbidden(f"missing permission: needs verb get on {resource.plural}")
        found = self.objects.get(name.replace("-", "_"))
        if found is None or found["kind"] != resource.kind:
            raise Gone(name)
        return found

    async def list(self, resource: Resource, *, keep: Any = None) -> list[Json]:
        return []


def secret(*, owner: str = "", **values: str) -> Json:
    data = {key: base64.b64encode(f"{MARKED}{value}".encode()).decode() for key, value in values.items()}
    owners = [{"kind": "ExternalSecret", "name": owner}] if owner else []
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": str(data) + str(values)}
    metadata = {"namespace": "shop", "name": "x", "ownerReferences": owners, "annotations": annotations}
    return {"kind": "Secret", "metadata": metadata, "data": data}


def config_map(**values: str) -> Json:
    data = {key: f"{MARKED}{value}" for key, value in values.items()}
    return {"kind": "ConfigMap", "metadata": {"namespace": "shop", "name": "x"}, "data": data}


@pytest.fixture(scope="module")
def server() -> Iterator[PlayedHerokuApi]:
    played = PlayedHerokuApi()
    yield played
    played.stop()


async def heroku(
    server: PlayedHerokuApi, values: dict[str, Any], *, scope: str = "read-protected", addons: Any = ()
) -> HerokuApp:
    """Return an app as it is read from Heroku's API, with such config vars."""
    server.answers["/config-vars"] = {
        name: f"{MARKED}{value}" if isinstance(value, str) and not value.startswith("*") else value
        for name, value in values.items()
    }
    client = HerokuClient(server.url, fingerprints=FINGERPRINTS)
    try:
        app = await client.app("acme-pdf", KEYS[scope], values=True)
    finally:
        await client.close()
    return replace(app, addons=addons)


async def found(of: HerokuApp, served: Served, asked: Plan | None = None) -> Finding:
    """Return what the check says of what is read of both."""
    asked = asked or plan()
    cluster = cast("Cluster", served)
    known = await KubernetesInventories(cluster, fingerprints=FINGERPRINTS).inventory(asked, registry.reads(asked))
    finding = CHECK.judge(asked, Facts(inventory=known, heroku=HerokuReading(of, at=NOW.timestamp())))
    read = [known.objects.get(kind) for kind in (SECRETS, CONFIG_MAPS)]  # the Deployment's own values anybody may see
    for text in (repr(read), repr(of), finding.message):
        assert MARKED not in text
        assert base64.b64encode(MARKED.encode()).decode()[:-1] not in text
    return finding


def env(**given: Any) -> Json:
    """Return variables: a text is a value of the manifest, a tuple of kind, name and key comes from an object."""
    entries: list[Json] = []
    for name, value in given.items():
        origin = {value[0]: {"name": value[1], "key": value[2]}} if isinstance(value, tuple) else {}
        entries.append({"name": name, "valueFrom": origin} if origin else {"name": name, "value": f"{MARKED}{value}"})
    return {"env": entries}


FROM = {"envFrom": [{"secretRef": {"name": "pdf"}}, {"configMapRef": {"name": "common"}, "prefix": "APP_"}]}


async def test_equal_values_from_everywhere_are_no_finding(server: PlayedHerokuApi) -> None:
    container = {
        **FROM,
        **env(
            MODE="production", TOKEN=("secretKeyRef", "tokens", "token"), LEVEL=("configMapKeyRef", "common", "LEVEL")
        ),
    }
    served = Served(
        deployment(container),
        pdf=secret(DATABASE_URL="postgres"),
        common=config_map(MAIL="a@b", LEVEL="info"),
        tokens=secret(token="t"),
    )
    of = await heroku(
        server,
        {"DATABASE_URL": "postgres", "APP_MAIL": "a@b", "MODE": "production", "TOKEN": "t", "LEVEL": "info"},
    )
    assert await found(of, served) == Finding(CheckResult.PASSED)
    assert {name for kind, name in served.asked if kind == SECRETS} == {"pdf", "tokens"}


async def test_what_differs_is_named_with_its_source_and_what_to_do(server: PlayedHerokuApi) -> None:
    served = Served(
        deployment({**FROM, **env(MODE="staging")}),
        pdf=secret(owner="pdf-settings", DATABASE_URL="old", SAME="x"),
        common=config_map(),
    )
    postgres = (Addon("heroku-postgresql", "standard-0", ("DATABASE_URL",)),)
    of = await heroku(
        server, {"DATABASE_URL": "new", "MODE": "production", "SAME": "x", "ONLY_HERE": "y"}, addons=postgres
    )
    finding = await found(of, served)
    assert finding.result is CheckResult.WARNED
    assert finding.message == (
        "container web has another value than acme-pdf for DATABASE_URL (Secret pdf, made by ExternalSecret pdf-settings), MODE;"
        " make them the same, or list what differs on purpose in preflight.config.differOnPurpose; DATABASE_URL may be from"
        " before Heroku changed the credentials, and such a copy stops working; a Secret or ConfigMap that changes reaches the"
        " app with its next Pods: restart them, or have Reloader do it"
    )


async def test_reloader_is_recognised_and_what_is_meant_is_listed(server: PlayedHerokuApi) -> None:
    reloaded = {"annotations": {"reloader.stakater.com/auto": "true"}}
    served = Served(deployment(FROM, **reloaded), pdf=secret(A="1", EU_B="1", C="1"), common=config_map())
    of = await heroku(server, {"A": "2", "EU_B": "2", "C": "2"})
    told = (await found(of, served, plan(differOnPurpose=["EU_*", "C"]))).message
    assert told.startswith("container web has another value than acme-pdf for A (Secret pdf); make")
    assert "Reloader" not in told
    assert (await found(of, served, plan(differOnPurpose=["EU_*", "C", "A"]))).message == ""


async def test_a_line_end_that_echo_added_is_told_as_such(server: PlayedHerokuApi) -> None:
    served = Served(deployment(FROM), pdf=secret(TOKEN="abc\n"), common=config_map())
    told = (await found(await heroku(server, {"TOKEN": "abc"}), served)).message
    assert told.startswith(
        "the values of container web and acme-pdf for TOKEN (Secret pdf) are the same but for white space"
    )
    assert "another value" not in told


async def test_what_each_platform_sets_itself_is_not_compared(server: PlayedHerokuApi) -> None:
    names = ("PORT", "WEB_CONCURRENCY", "RAILS_MAX_THREADS", "NODE_OPTIONS", "NPM_CONFIG_PRODUCTION", "DB_POOL")
    served = Served(deployment(env(**dict.fromkeys(names, "1"))))
    assert await found(await heroku(server, dict.fromkeys(names, "2")), served) == Finding(CheckResult.PASSED)


async def test_what_is_set_again_further_down_counts(server: PlayedHerokuApi) -> None:
    container = {
        "envFrom": [{"secretRef": {"name": "first"}}, {"secretRef": {"name": "second"}}],
        "env": [
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "first", "key": "B"}}},
            {"name": "B", "value": f"{MARKED}last"},
        ],
    }
    served = Served(deployment(container), first=secret(A="1", B="1"), second=secret(A="2"))
    assert (await found(await heroku(server, {"A": "2", "B": "last"}), served)).message == ""
    assert (await found(await heroku(server, {"A": "1", "B": "last"}), served)).message.startswith(
        "container web has another value than acme-pdf for A (Secret second);"
    )


@pytest.mark.parametrize(
    ("container", "values", "says"),
    [
        (env(A=("secretKeyRef", "gone", "a")), {"A": "1"}, "not compared: A (Secret gone does not exist)"),
        (env(A=("secretKeyRef", "pdf", "a")), {"A": "1"}, "not compared: A (Secret pdf has no key a)"),
        (env(A="$(B)/x"), {"A": "1"}, "not compared: A (made of other variables)"),
        (env(A="1"), {"A": None}, "not compared: A (masked on Heroku)"),
        (env(A="1"), {"A": "********"}, "not compared: A (masked on Heroku)"),
        (env(A="1"), {"A": 5}, "not compared: A (masked on Heroku)"),
        (
            {**FROM, "command": ["doppler", "run", "--", "puma"]},
            {"DATABASE_URL": "2"},
            "not compared: doppler run sets",
        ),
        ({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}, {"A": "1"}, ""),
        (
            {"envFrom": [{"secretRef": {"name": "pdf"}}, {"secretRef": {"name": "gone"}}]},
            {"DATABASE_URL": "2"},
            "gone",
        ),
    ],
)
async def test_what_cannot_be_known_is_told_and_is_no_difference(
    server: PlayedHerokuApi, container: Json, values: dict[str, Any], says: str
) -> None:
    served = Served(deployment(container), pdf=secret(DATABASE_URL="1"), common=config_map())
    finding = await found(await heroku(server, values), served)
    assert says in finding.message
    assert bool(says) == bool(finding.message)
    assert "another value" not in finding.message


async def test_without_the_right_to_read_them_it_is_told_which_right_is_missing(server: PlayedHerokuApi) -> None:
    container = {**FROM, **env(TOKEN=("secretKeyRef", "pdf", "token"), MODE="production")}
    served = Served(deployment(container), refuses=(SECRETS,), common=config_map())
    told = (await found(await heroku(server, {"TOKEN": "1", "MODE": "staging"}), served)).message
    assert "TOKEN (Secret pdf cannot be read: missing permission: needs verb get on secrets)" in told
    assert told.startswith("container web has another value than acme-pdf for MODE;"), (
        "what the manifest says itself is compared all the same"
    )


async def test_a_key_without_the_scope_is_told(server: PlayedHerokuApi) -> None:
    served = Served(deployment(FROM), pdf=secret(A="1"), common=config_map())
    finding = await found(await heroku(server, {"A": "1"}, scope="read"), served)
    assert finding.result is CheckResult.WARNED
    assert "its scope has to be read-protected" in finding.message


async def test_nothing_is_derived_of_values_that_no_plan_has_compared(server: PlayedHerokuApi) -> None:
    server.answers["/config-vars"] = {"A": f"{MARKED}1"}
    client = HerokuClient(server.url, fingerprints=FINGERPRINTS)
    try:
        assert (await client.app("acme-pdf", KEYS["read-protected"])).config_values is None
    finally:
        await client.close()
    silent = Plan("shop", "pdf", "1", 1, plan_spec(preflight={"config": {"readKeys": True}}))
    served = Served(deployment(FROM), pdf=secret(A="1"), common=config_map())
    known = await KubernetesInventories(cast("Cluster", served), fingerprints=FINGERPRINTS).inventory(
        silent, registry.reads(silent)
    )
    assert known.get(SECRETS, "shop", "pdf") == {"metadata": {"namespace": "shop", "name": "x"}, "keys": ["A"]}
    assert "values" not in (known.get(CONFIG_MAPS, "shop", "common") or {})
    assert CHECK.judge(silent, Facts(inventory=known)).result is CheckResult.PASSED


async def test_names_are_compared_with_what_was_read_for_values(server: PlayedHerokuApi) -> None:
    """A plan that has values compared needs no readKeys beside."""
    names = next(check for check in registry.CHECKS if check.name == "config-vars")
    served = Served(deployment(FROM), pdf=secret(A="1"), common=config_map())
    known = await KubernetesInventories(cast("Cluster", served)).inventory(plan(), registry.reads(plan()))
    of = await heroku(server, {"A": "1", "B": "2"})
    told = names.judge(plan(), Facts(inventory=known, heroku=HerokuReading(of, at=NOW.timestamp()))).message
    assert told.startswith("config vars B of acme-pdf are not set for container web")


async def test_no_value_and_no_fingerprint_is_logged(
    server: PlayedHerokuApi, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    served = Served(deployment(FROM), pdf=secret(A="1"), common=config_map())
    of = await heroku(server, {"A": "2"})
    await found(of, served)
    print_of = FINGERPRINTS.of(f"{MARKED}1")
    for text in (MARKED, print_of.whole.hex(), repr(print_of.whole)):
        assert text not in caplog.text


@settings(max_examples=50)
@given(first=st.text(max_size=40), second=st.text(max_size=40))
def test_fingerprints_are_equal_exactly_where_values_are(first: str, second: str) -> None:
    one, other = FINGERPRINTS.of(first), FINGERPRINTS.of(second)
    assert (one.whole == other.whole) == (first == second)
    encoded = [text.encode(errors="surrogatepass").strip() for text in (first, second)]
    assert (one.trimmed == other.trimmed) == (encoded[0] == encoded[1])
    assert one == FINGERPRINTS.of(first.encode(errors="surrogatepass")), "a Secret has bytes, a config var a text"


def test_fingerprints_of_another_process_tell_nothing() -> None:
    assert Fingerprints(b"x" * 32).of("a") != FINGERPRINTS.of("a")
    assert b"0123456789abcdef" not in repr(FINGERPRINTS).encode()
