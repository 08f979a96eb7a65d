"""The chart as the real Helm renders it: rights, guards, pods, and the values that it takes and refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kit.chart import CHART, NAMESPACE, RELEASE, Json, Refused, rendered, values

from cutover.adapters.dialects.istio.counters import LATENCIES, REQUESTS
from cutover.settings import read_settings

ROOT = CHART.parents[1]
WRITES = {"create", "update", "patch", "delete", "deletecollection"}


def of_kind(items: list[Json], kind: str) -> list[Json]:
    return [item for item in items if item["kind"] == kind]


def rights(role: Json) -> set[tuple[str, str]]:
    return {(resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}


# -------------------------------------------------------------------------------------------------------------- rights


def test_rights_to_write_are_apart_and_nothing_is_deleted() -> None:
    reads, writes = of_kind(rendered("rbac.yaml"), "ClusterRole")
    assert not {verb for _, verb in rights(reads)} & WRITES
    assert {verb for _, verb in rights(writes)} == {"create", "update", "patch"}
    everything = {resource for resource, _ in rights(reads) | rights(writes)}
    assert not everything & {"secrets", "pods", "roles", "rolebindings", "*"}
    assert rights(writes) == {
        ("migrationplans", "patch"),
        ("migrationplans/status", "update"),
        ("events", "create"),
        ("configmaps", "create"),
        *((kind, verb) for kind in ("virtualservices", "serviceentries", "destinationrules") for verb in ("create", "update")),
    }  # fmt: skip


def test_reports_are_a_setting() -> None:
    (environment,) = (one["spec"]["template"]["spec"]["containers"][0]["env"] for one in [deployment(reports=True)])
    assert {"name": "CUTOVER_REPORTS", "value": "true"} in environment


def test_reports_are_kept_on_a_volume_that_is_there() -> None:
    pod = deployment(reportsVolume={"claim": "reports", "url": "https://reports.example/"})["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    settings = {
        one["name"]: one.get("value") for one in container["env"] if one["name"].startswith("CUTOVER_REPORTS_")
    }
    mounts = {one["name"]: one for one in container["volumeMounts"]}
    assert mounts["reports"] == {"name": "reports", "mountPath": settings["CUTOVER_REPORTS_FOLDER"]}
    assert {"name": "reports", "persistentVolumeClaim": {"claimName": "reports"}} in pod["volumes"]
    # Whose account is no administrator's: without the group it could not write to a new disk.
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]
    read = read_settings(settings)
    assert (read.reports_folder, read.reports_url) == (Path(mounts["reports"]["mountPath"]), "https://reports.example")

    without = deployment()["spec"]["template"]["spec"]
    assert "fsGroup" not in without["securityContext"]
    assert "reports" not in {one["name"] for one in without["volumes"]}
    assert {
        one.get("value") for one in without["containers"][0]["env"] if one["name"].startswith("CUTOVER_REPORTS_")
    } == {""}
    with pytest.raises(Refused, match=r"reportsVolume\.claim"):
        deployment(reportsVolume={"claim": "", "url": "https://reports.example"})
    with pytest.raises(Refused, match="claim"):
        deployment(reportsVolume={"claim": "not a name", "url": ""})


def test_without_namespaces_writes_are_bound_everywhere() -> None:
    items = rendered("rbac.yaml")
    assert [item["roleRef"]["name"] for item in of_kind(items, "ClusterRoleBinding")] == [RELEASE, f"{RELEASE}-writes"]
    assert not of_kind(items, "RoleBinding")


def test_with_namespaces_writes_are_bound_only_there() -> None:
    items = rendered("rbac.yaml", namespaces=["docs", "shop"])
    assert [item["roleRef"]["name"] for item in of_kind(items, "ClusterRoleBinding")] == [RELEASE]
    bindings = of_kind(items, "RoleBinding")
    assert [item["metadata"]["namespace"] for item in bindings] == ["docs", "shop"]
    for binding in bindings:
        assert binding["roleRef"] == {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": f"{RELEASE}-writes",
        }
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": RELEASE, "namespace": NAMESPACE}]


def test_keys_of_heroku_are_read_by_name_only_where_that_is_asked_for() -> None:
    """Without it the operator reads no Secret at all: see the test of all rights."""
    named = [("shop", "heroku"), ("docs", "keys"), ("shop", "other"), ("shop", "heroku")]
    items = rendered("rbac.yaml", heroku={"planSecrets": [{"namespace": ns, "name": name} for ns, name in named]})
    found = {role["metadata"]["namespace"]: role["rules"] for role in of_kind(items, "Role")}
    assert found == {
        namespace: [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": names, "verbs": ["get"]}]
        for namespace, names in (("docs", ["keys"]), ("shop", ["heroku", "other"]))
    }
    for binding in of_kind(items, "RoleBinding"):
        assert binding["metadata"]["namespace"] in found
        assert binding["roleRef"]["kind"] == "Role"
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": RELEASE, "namespace": NAMESPACE}]


def test_what_apps_take_variables_from_is_read_by_name_only_where_that_is_asked_for() -> None:
    sources = [
        {"namespace": "shop", "secrets": ["pdf"], "configMaps": ["pdf", "common"]},
        {"namespace": "shop", "secrets": ["pdf", "mail"]},
        {"namespace": "docs", "configMaps": ["docs"]},
        {"namespace": "empty"},
    ]
    items = rendered("rbac.yaml", heroku={"configSources": sources})
    found = {
        role["metadata"]["namespace"]: {rule["resources"][0]: rule["resourceNames"] for rule in role["rules"]}
        for role in of_kind(items, "Role")
    }
    assert found == {
        "docs": {"configmaps": ["docs"]},
        "shop": {"configmaps": ["pdf", "common"], "secrets": ["pdf", "mail"]},
    }
    rules = [rule for role in of_kind(items, "Role") for rule in role["rules"]]
    assert all(rule["verbs"] == ["get"] and rule["resourceNames"] for rule in rules)
    assert {one["metadata"]["namespace"] for one in of_kind(items, "RoleBinding")} == {"docs", "shop"}


def test_the_account_mounts_its_token_nowhere_else() -> None:
    (account,) = of_kind(rendered("rbac.yaml"), "ServiceAccount")
    assert account["automountServiceAccountToken"] is False


# ------------------------------------------------------------------------------------------------------------- network


def test_only_health_and_metrics_can_be_connected_to() -> None:
    (policy,) = rendered("networkpolicy.yaml")
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    assert policy["spec"]["podSelector"]["matchLabels"]
    assert policy["spec"]["ingress"] == [
        {"ports": [{"port": "health", "protocol": "TCP"}]},
        {"ports": [{"port": "metrics", "protocol": "TCP"}]},
    ]


def test_metrics_may_be_for_some_and_egress_limited() -> None:
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    rule = {"ports": [{"port": 443}]}
    (policy,) = rendered(
        "networkpolicy.yaml", networkPolicy={"ingress": True, "metricsFrom": [peer], "egress": [rule]}
    )
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    tests = {"podSelector": {"matchLabels": rendered("tests/acting.yaml")[0]["metadata"]["labels"]}}
    assert policy["spec"]["ingress"][1]["from"] == [peer, tests]
    assert "from" not in policy["spec"]["ingress"][0]
    assert policy["spec"]["egress"] == [rule]
    assert rendered("networkpolicy.yaml", networkPolicy={"ingress": False, "metricsFrom": [], "egress": []}) == []


# -------------------------------------------------------------------------------------------------- priority and guard


def test_lease_and_rollback_have_a_priority_of_their_own() -> None:
    schema, level = rendered("flowcontrol.yaml")
    assert schema["spec"]["priorityLevelConfiguration"]["name"] == level["metadata"]["name"]
    assert schema["spec"]["matchingPrecedence"] < 9000
    (rule,) = schema["spec"]["rules"]
    assert rule["subjects"] == [
        {"kind": "ServiceAccount", "serviceAccount": {"name": RELEASE, "namespace": NAMESPACE}}
    ]
    granted = {
        (resource, verb) for one in rule["resourceRules"] for resource in one["resources"] for verb in one["verbs"]
    }
    assert {("leases", "update"), ("virtualservices", "update"), ("virtualservices", "get")} <= granted
    assert ("migrationplans/status", "update") in granted
    assert not {verb for _, verb in granted} & {"list", "watch", "*"}
    assert rendered("flowcontrol.yaml", flowControl=False) == []


def test_the_guard_is_optional_and_for_the_operators_account() -> None:
    assert rendered("admission.yaml") == []
    policy, binding = rendered("admission.yaml", admissionPolicy=True)
    (condition,) = policy["spec"]["matchConditions"]
    assert condition["expression"] == f"request.userInfo.username == 'system:serviceaccount:{NAMESPACE}:{RELEASE}'"
    assert binding["spec"] == {"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]}
    assert policy["spec"]["matchConstraints"]["resourceRules"][0]["operations"] == ["CREATE", "UPDATE"]
    assert len(policy["spec"]["validations"]) == 4


# ----------------------------------------------------------------------------------------------------------------- pods


def deployment(**given: Any) -> Json:
    (found,) = rendered("deployment.yaml", **given)
    return found


def test_pods_keep_to_the_restricted_standard() -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted."""
    pod = deployment()["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for forbidden in ("hostNetwork", "hostPID", "hostIPC"):
        assert forbidden not in pod
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "hostPort" not in str(container["ports"])
    stated: dict[str, Any] = values()["resources"]
    assert stated["requests"].keys() == {"cpu", "memory", "ephemeral-storage"}
    assert stated["limits"].keys() == {"memory", "ephemeral-storage"}, "a limit of CPU would delay a rollback"


def test_no_template_reads_or_holds_a_secret() -> None:
    for path in (CHART / "templates").glob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        assert "kind: Secret" not in text
        assert "secretKeyRef" not in text, f"{path.name}: secrets are files, which processes do not inherit"


def image(item: Json) -> str:
    (container,) = item.get("template", item)["spec"]["containers"]
    name: str = container["image"]
    return name


def test_the_image_can_be_named_by_its_digest() -> None:
    digest = f"sha256:{'ab' * 32}"
    for given, said in (({}, ":0.1.0"), ({"tag": "1.2"}, ":1.2"), ({"tag": "1.2", "digest": digest}, f"@{digest}")):
        full = {"image": {"repository": "registry.example/cutover", **given}}
        (test,) = rendered("tests/acting.yaml", **full)
        assert image(deployment(**full)["spec"]) == image(test) == f"registry.example/cutover{said}"


def test_replicas_are_spread_by_default_and_as_a_platform_team_says() -> None:
    spec = deployment()["spec"]["template"]["spec"]
    assert "podAntiAffinity" in spec["affinity"]
    assert "topologySpreadConstraints" not in spec
    constraint = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    spec = deployment(topologySpreadConstraints=[constraint])["spec"]["template"]["spec"]
    assert "affinity" not in spec
    assert spec["topologySpreadConstraints"] == [constraint]


def test_the_image_that_runs_installs_nothing() -> None:
    stages = (ROOT / "Dockerfile").read_text(encoding="utf-8").split("\nFROM ")
    assert len(stages) == 3  # what comes before the first, the build, and what runs
    last = stages[-1]
    assert "pip uninstall" in last
    assert "ensurepip" in last
    assert "pip install" not in last
    assert re.search(r"^USER 10001:10001$", last, re.MULTILINE)
    assert "ADD http" not in last


# ---------------------------------------------------------------------------------------------------------- monitoring


def test_alerts_are_those_of_the_file() -> None:
    assert of_kind(rendered(), "PrometheusRule") == []
    (rule,) = rendered("prometheusrule.yaml", alerts={"prometheusRule": True, "labels": {"release": "prom"}})
    assert rule["metadata"]["labels"]["release"] == "prom"
    assert rule["spec"] == yaml.safe_load((CHART / "files" / "alerts.yaml").read_text(encoding="utf-8"))


def test_alerts_can_be_labelled_and_their_runbooks_linked() -> None:
    alerts = {"prometheusRule": True, "ruleLabels": {"team": "platform", "severity": "loud"}}
    (rule,) = rendered("prometheusrule.yaml", alerts={**alerts, "runbooks": "https://git.example/main/"})
    found = [one for group in rule["spec"]["groups"] for one in group["rules"]]
    assert {one["labels"]["team"] for one in found} == {"platform"}
    assert {one["labels"]["severity"] for one in found} == {"page", "ticket", "info"}, "the alert's own label stays"
    for one in found:
        assert one["annotations"]["runbook_url"] == f"https://git.example/main/{one['annotations']['runbook']}"


def test_dashboards_are_where_grafanas_sidecar_finds_them() -> None:
    assert of_kind(rendered(), "ConfigMap") == of_kind(rendered(dashboards={"enabled": False}), "ConfigMap")
    told = {"enabled": True, "namespace": "monitoring", "annotations": {"grafana_folder": "Cutover"}}
    found = rendered("dashboards.yaml", dashboards=told)
    assert [one["metadata"]["name"] for one in found] == ["cutover-dashboard-fleet", "cutover-dashboard-plan"]
    for one in found:
        assert one["kind"] == "ConfigMap"
        assert one["metadata"]["namespace"] == "monitoring"
        assert one["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert one["metadata"]["annotations"] == {"grafana_folder": "Cutover"}
        ((name, text),) = one["data"].items()
        file = CHART / "files" / "dashboards" / name.removeprefix("cutover-")
        assert json.loads(text) == json.loads(file.read_text(encoding="utf-8"))
        assert len(text) < 500_000, "a ConfigMap takes a megabyte"
    (fleet, _) = rendered("dashboards.yaml", dashboards={"enabled": True, "labels": {"grafana": "yes"}})
    assert fleet["metadata"]["namespace"] == "cutover-system"
    assert fleet["metadata"]["labels"]["grafana"] == "yes"
    assert "annotations" not in fleet["metadata"]


def test_the_operators_own_labels_are_honoured() -> None:
    assert of_kind(rendered(), "ServiceMonitor") == []
    (monitor,) = rendered("servicemonitor.yaml", serviceMonitor={"install": True, "labels": {"release": "prom"}})
    (service,) = rendered("service.yaml")
    assert monitor["metadata"]["labels"]["release"] == "prom"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint == {"port": service["spec"]["ports"][0]["name"], "honorLabels": True}
    (test,) = rendered("tests/acting.yaml")
    assert not service["spec"]["selector"].items() <= test["metadata"]["labels"].items(), (
        "it would be asked as a replica"
    )


# -------------------------------------------------------------------------------------------------------------- values


def test_keys_of_heroku_keep_their_order() -> None:
    """The first pattern that fits counts."""
    keys = [{"namespaces": name, "file": f"/key-{number}"} for number, name in enumerate(("shop-*", "a?", "*"))]
    (container,) = deployment(heroku={"keys": keys})["spec"]["template"]["spec"]["containers"]
    (text,) = [one["value"] for one in container["env"] if one["name"] == "CUTOVER_HEROKU_KEY_FILES"]
    assert list(json.loads(text).items()) == [("shop-*", "/key-0"), ("a?", "/key-1"), ("*", "/key-2")]


DIGEST = f"sha256:{'0' * 64}"
FILE = "/etc/cutover/secrets/x"
GOOD: list[Json] = [
    {},
    {"global": {"anything": 1}},
    {"prometheus": {"url": "https://prometheus.example:9090/prefix/"}},
    {"prometheus": {"default": {"url": "http://p", "timeout": "30s", "matchers": {"cluster": "prod"}}, "url": ""}},
    {"prometheus": {"default": {"url": "https://p", "timeout": 30, "sigv4": {"region": "eu-west-1"}}, "url": ""}},
    {
        "prometheus": {
            "url": "http://p",
            "settle": 2.5,
            "sources": [{"name": "amp", "url": "http://p", "namespaces": ["*"]}],
        }
    },
    {
        "notifications": {
            "receivers": [{"name": "chat", "kind": "Slack", "urlFile": FILE, "throttle": {"every": "1m"}}]
        }
    },
    {"gatewayUrls": {"istio-ingress/public": "http://127.0.0.1"}, "gatewayNamespaces": ["istio-*"]},
    {"gatewayUrls": {"istio-ingress/public": {"url": "http://127.0.0.1", "proxyProtocol": True}}},
    {"selector": "cutover.dev/shard notin (a, b)", "namespaces": ["shop"], "logLevel": "DEBUG", "replicas": 1},
    {"image": {"repository": "r", "digest": DIGEST}, "resources": {}, "tolerations": [{"operator": "Exists"}]},
]
BAD: list[tuple[Json, str]] = [
    ({"heroku": {"keys": {"shop-*": FILE}}}, "/heroku/keys"),
    ({"heroku": {"keys": [{"namespaces": "shop-*", "file": "key"}]}}, "/heroku/keys/0/file"),
    ({"prometheus": {"url": "p:9090"}}, "/prometheus/url"),
    ({"prometheus": {"url": "http://user:word@p"}}, "/prometheus/url"),
    ({"prometheus": {"url": "http://p", "scrapeInterval": "30s"}}, "scrapeInterval"),
    ({"prometheus": {"url": "http://p", "settle": 61}}, "/prometheus/settle"),
    ({"prometheus": {"url": "http://p", "settle": "1s"}}, "/prometheus/settle"),
    ({"prometheus": {"default": {"url": "http://p", "timeout": "90"}, "url": ""}}, "/prometheus/default/timeout"),
    ({"prometheus": {"default": {"url": "http://p", "timeout": 90}, "url": ""}}, "/prometheus/default/timeout"),
    ({"prometheus": {"default": {"url": "http://p", "scrapeInterval": "30s"}, "url": ""}}, "scrapeInterval"),
    ({"prometheus": {"url": "http://p", "sources": [{"name": "amp"}]}}, "/prometheus/sources/0"),
    (
        {"notifications": {"receivers": [{"name": "chat", "kind": "IRC", "urlFile": FILE}]}},
        "/notifications/receivers/0/kind",
    ),
    ({"gatewayUrls": {"istio-ingress/public": "gateway"}}, "/gatewayUrls"),
    ({"gatewayUrls": {"istio-ingress/public": {"proxyProtocol": True}}}, "/gatewayUrls"),
    ({"namespaces": "shop"}, "/namespaces"),
    ({"selector": "shard in a"}, "/selector"),
    ({"logLevel": "LOUD"}, "/logLevel"),
    ({"replicas": "two"}, "/replicas"),
    ({"image": {"repository": "r", "digest": "latest"}}, "/image/digest"),
    ({"flowControl": "yes"}, "/flowControl"),
    ({"drain": {"otlp": {"requests": "router.requests"}}}, "/drain/otlp"),
    ({"promtheus": {"url": "http://p"}}, "promtheus"),
    ({"alerts": {"prometheusRules": True}}, "prometheusRules"),
]


def documented() -> Iterator[Any]:
    """Yield the values in documentation and examples."""
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for text in re.findall(
            r"^```yaml\n(# values.yaml.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        ):
            yield pytest.param(yaml.safe_load(text), id=page.name)
    (release,) = [one for one in examples("flux/operator") if one.get("spec", {}).get("values")]
    yield pytest.param(release["spec"]["values"], id="Flux")
    (application,) = [one for one in examples("argocd") if one.get("spec", {}).get("source", {}).get("helm")]
    yield pytest.param(application["spec"]["source"]["helm"]["valuesObject"], id="Argo CD")


def examples(folder: str) -> Iterator[Json]:
    for path in sorted((ROOT / "examples" / folder).glob("*.yaml")):
        yield from yaml.safe_load_all(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("given", list(documented()))
def test_documented_values_are_taken(given: Json) -> None:
    assert deployment(**given)


def test_the_example_of_a_service_monitor_is_the_charts() -> None:
    (example,) = [one for one in examples("monitoring") if one["kind"] == "ServiceMonitor"]
    (monitor,) = rendered("servicemonitor.yaml", serviceMonitor={"install": True})
    assert example["spec"]["endpoints"] == monitor["spec"]["endpoints"]
    assert example["spec"]["selector"]["matchLabels"].items() <= monitor["spec"]["selector"]["matchLabels"].items()


def test_the_example_for_gateways_keeps_what_the_operator_reads() -> None:
    (example,) = [one for one in examples("monitoring") if one["kind"] == "PodMonitor"]
    (endpoint,) = example["spec"]["podMetricsEndpoints"]
    (kept,) = endpoint["metricRelabelings"]
    for name in (REQUESTS, LATENCIES, LATENCIES.replace("_bucket", "_count")):
        assert re.fullmatch(kept["regex"], name)
    assert endpoint["honorLabels"] is False, "a process could play a gateway"


@pytest.mark.parametrize("given", GOOD, ids=str)
def test_right_values_are_taken(given: Json) -> None:
    assert deployment(**given)


@pytest.mark.parametrize(("given", "where"), BAD, ids=lambda one: one if isinstance(one, str) else "")
def test_wrong_values_are_refused_with_their_path(given: Json, where: str) -> None:
    with pytest.raises(Refused, match="don't meet the specifications of the schema") as refused:
        deployment(**given)
    assert where in str(refused.value)


def test_what_has_no_default_is_asked_for() -> None:
    for missing in ("prometheus", "image"):
        with pytest.raises(Refused, match=rf"{missing}\.\w+: where"):
            rendered(**{missing: {}})
