"""The objects of a platform team in its cluster, and the plans that it commits."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml

from devstack.support import documents

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "shop"
OPERATOR_NAMESPACE = "cutover-system"
OPERATOR_ACCOUNT = "cutover"

Json = dict[str, Any]


def heroku_hostname(service: str) -> str:
    """Return the name that Heroku's router knows a service's app by."""
    return f"acme-{service}-1a2b3c.herokuapp.com"


def public_host(service: str) -> str:
    """Return the name that users know a service by."""
    return f"{service}.example.com"


def domains(service: str) -> list[str]:
    """Return the names that a service's app has at Heroku's router: its own, the users', and one for each tenant."""
    return [heroku_hostname(service), public_host(service), f"*.{public_host(service)}"]


def target(service: str, port: int) -> list[Json]:
    """Return a service's Deployment and Service, with what answers for its pods on loopback.

    Parameters
    ----------
    port
        The loopback port that the EKS demo app listens on for the service.
    """
    # The Service selects the Deployment's Pods, as it should, and these have no address. So what the WorkloadEntry names answers.
    pods = {"app": service}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": service, "namespace": NAMESPACE},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": pods},
                "template": {
                    "metadata": {"labels": pods},
                    "spec": {
                        "terminationGracePeriodSeconds": 45,
                        "containers": [
                            {
                                "name": "app",
                                "image": f"{service}:1",
                                "resources": {"requests": {"cpu": "250m", "memory": "256Mi"}},
                                "readinessProbe": {"httpGet": {"path": "/healthz", "port": 80}},
                                "lifecycle": {"preStop": {"exec": {"command": ["sleep", "10"]}}},
                            }
                        ],
                    },
                },
            },
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": service, "namespace": NAMESPACE},
            "spec": {"selector": {"matchLabels": pods}, "maxUnavailable": 1},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": service, "namespace": NAMESPACE},
            "spec": {"selector": pods, "ports": [{"name": "http", "port": 80}]},
        },
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "WorkloadEntry",
            "metadata": {"name": service, "namespace": NAMESPACE},
            "spec": {"address": "127.0.0.1", "labels": pods, "ports": {"http": port}},
        },
    ]


def plan(service: str, **overrides: Any) -> Json:
    """Return a plan with the development stack's pace: short blocks, warm-up, holds and soak.

    Parameters
    ----------
    overrides
        Fields of ``spec`` that replace these.
    """
    spec: Json = {
        "heroku": {"app": f"acme-{service}", "hostname": heroku_hostname(service)},
        "eks": {
            "service": {"name": service, "port": 80},
            "workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": service},
        },
        "traffic": {"istio": {"hosts": [public_host(service)], "gateways": ["istio-ingress/public"]}},
        "steps": [{"weight": weight, "hold": "20s"} for weight in (10, 25, 50, 100)],
        "soak": "20s",
        "gates": {"block": "5s", "warmUp": "5s"},
    }
    return {
        "apiVersion": "cutover.dev/v1alpha1",
        "kind": "MigrationPlan",
        "metadata": {"name": service, "namespace": NAMESPACE},
        "spec": spec | overrides,
    }


@functools.cache
def crds() -> list[Json]:
    """Return the operator's CRDs."""
    files = sorted((ROOT / "crds").glob("*.yaml"))
    return [crd for file in files for crd in documents(file.read_text(encoding="utf-8"))]


def chart_rules() -> list[Json]:
    """Return all rules that the chart grants, where the operator manages all namespaces."""
    return chart_reads() + chart_writes()


def chart_reads() -> list[Json]:
    """Return what the chart lets the operator read, in all namespaces."""
    rules: list[Json] = yaml.safe_load((ROOT / "charts" / "cutover" / "files" / "clusterrole.yaml").read_text())
    return rules


def chart_writes() -> list[Json]:
    """Return what the chart lets the operator write, in the namespaces that it manages."""
    rules: list[Json] = yaml.safe_load((ROOT / "charts" / "cutover" / "files" / "writes.yaml").read_text())
    return rules


def operator_rights(rules: list[Json]) -> list[Json]:
    """Return the operator's account and some rules, bound to it."""
    account = {"name": OPERATOR_ACCOUNT, "namespace": OPERATOR_NAMESPACE}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATOR_NAMESPACE}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "cutover"},
            "rules": rules,
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "cutover"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cutover"},
            "subjects": [{"kind": "ServiceAccount", **account}],
        },
    ]
