"""The configuration files of the stack's programs, as plain data. Nothing here does I/O."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ISTIO_NAMESPACE = "istio-system"
INGRESS_NAMESPACE = "istio-ingress"
GATEWAY_NAME = "public"
# What the mesh's metrics call the gateway's Deployment; the name of Istio's own chart.
GATEWAY_WORKLOAD = "istio-ingressgateway"
# What istiod takes the proxy for; it tailors what it sends to that version.
_ISTIO_VERSION = "1.31.0"
_INGRESS_LABELS = {"app": GATEWAY_WORKLOAD, "istio": "ingress"}
_CLUSTER = r"outbound[|]\d+[|][^|]*[|](.*)"


def kubeconfig(api_url: str, ca_file: Path, user: str, token: str) -> dict[str, Any]:
    """Return a kubeconfig with one cluster and one bearer token.

    Parameters
    ----------
    api_url, ca_file
        The API server and the file of the authority that signed its certificate.
    user, token
        Who it is for.
    """
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "devstack",
        "clusters": [
            {"name": "devstack", "cluster": {"server": api_url, "certificate-authority": str(ca_file)}},
        ],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "devstack", "context": {"cluster": "devstack", "user": user, "namespace": "default"}}],
    }


def mesh(discovery_port: int) -> dict[str, Any]:
    """Return istiod's mesh configuration, for a proxy without Istio's agent and filters.

    Parameters
    ----------
    discovery_port
        Where istiod serves xDS.
    """
    return {
        # Mutual TLS waits for a secret socket that only Istio's agent has.
        "enableAutoMtls": False,
        # The default metrics provider is a filter that only Istio's own proxy knows.
        "defaultProviders": {},
        "enablePrometheusMerge": False,
        "defaultConfig": {"discoveryAddress": f"127.0.0.1:{discovery_port}"},
    }


def envoy(number: int, discovery_port: int, admin_port: int, flush_seconds: float) -> dict[str, Any]:
    """Return the bootstrap of one gateway proxy.

    Parameters
    ----------
    number
        Which of the gateway's proxies it is, from 0.
    discovery_port, admin_port
        Where istiod serves xDS, and where this proxy's administration goes.
    flush_seconds
        How often histograms are merged into what is scraped.
    """
    pod = f"gw-{number}"
    ads = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    return {
        "node": {
            "id": f"router~127.0.0.1~{pod}.{INGRESS_NAMESPACE}~{INGRESS_NAMESPACE}.svc.cluster.local",
            "cluster": f"{GATEWAY_WORKLOAD}.{INGRESS_NAMESPACE}",
            "metadata": {
                "NAMESPACE": INGRESS_NAMESPACE,
                "CLUSTER_ID": "Kubernetes",
                "ISTIO_VERSION": _ISTIO_VERSION,
                "LABELS": _INGRESS_LABELS,
                "NAME": pod,
                "WORKLOAD_NAME": GATEWAY_WORKLOAD,
            },
        },
        "admin": {"address": _address(admin_port)},
        "stats_flush_interval": f"{flush_seconds:g}s",
        "stats_config": {
            "use_all_default_tags": True,
            "stats_tags": [
                # istiod ends its cluster names with ";" in statistics, as they contain dots.
                {"tag_name": "cluster_name", "regex": r"^cluster\.((.+?);\.)"},
                {"tag_name": "response_code", "regex": r"upstream_rq(_(\d{3}))$"},
            ],
        },
        "dynamic_resources": {
            "ads_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [
                    {
                        "envoy_grpc": {
                            "cluster_name": "xds-grpc",
                            # Envoy's own pause grows to 30 s: too long after a restart of istiod.
                            "retry_policy": {
                                "retry_back_off": {"base_interval": "0.2s", "max_interval": "1s"},
                            },
                        }
                    }
                ],
            },
            "cds_config": ads,
            "lds_config": ads,
        },
        "static_resources": {
            "clusters": [
                {
                    "name": "xds-grpc",
                    "type": "STATIC",
                    "connect_timeout": "1s",
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                            "@type": ("type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"),
                            "explicit_http_config": {
                                "http2_protocol_options": {
                                    # A stopped istiod keeps its socket open; only this notices. istiod
                                    # hangs up on pings that come more often than every 15 s.
                                    "connection_keepalive": {"interval": "20s", "timeout": "5s"},
                                }
                            },
                        }
                    },
                    "load_assignment": {
                        "cluster_name": "xds-grpc",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(discovery_port)}}]}],
                    },
                }
            ]
        },
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def prometheus(scrape_seconds: float, admin_ports: list[int], targets: Path, backfill: str = "") -> dict[str, Any]:
    """Return Prometheus' configuration.

    The gateway's own statistics are renamed to what Istio's proxy calls them, so that queries made
    for a mesh in production run here unchanged.

    Parameters
    ----------
    scrape_seconds
        The interval for every target that does not say otherwise.
    admin_ports
        The gateway proxies' administration ports.
    targets
        The folder whose ``*.json`` files name further targets.
    backfill
        How old samples may be that are written to it; ``""`` for no older than the newest.
    """
    keep = "envoy_cluster_upstream_rq|envoy_cluster_upstream_rq_time_(bucket|sum|count)"
    return {
        **({"storage": {"tsdb": {"out_of_order_time_window": backfill}}} if backfill else {}),
        "global": {
            "scrape_interval": _milliseconds(scrape_seconds),
            "scrape_timeout": _milliseconds(min(scrape_seconds, 10.0)),
            "evaluation_interval": _milliseconds(max(scrape_seconds, 5.0)),
        },
        "scrape_configs": [
            {
                "job_name": "istio-ingress",
                "metrics_path": "/stats/prometheus",
                "fallback_scrape_protocol": "PrometheusText0.0.4",
                # Cuts what Envoy has to print to what is kept below.
                "params": {"filter": [r"^cluster\.outbound.*\.upstream_rq(_time|_\d{3})$"]},
                "static_configs": [
                    {
                        "targets": [f"127.0.0.1:{port}"],
                        "labels": {"namespace": INGRESS_NAMESPACE, "pod": f"gw-{number}"},
                    }
                    for number, port in enumerate(admin_ports)
                ],
                "metric_relabel_configs": [
                    {"source_labels": ["__name__"], "regex": keep, "action": "keep"},
                    {"source_labels": ["cluster_name"], "regex": _CLUSTER, "action": "keep"},
                    {
                        "source_labels": ["cluster_name"],
                        "regex": _CLUSTER,
                        "target_label": "destination_service",
                    },
                    {
                        "source_labels": ["__name__"],
                        "regex": "envoy_cluster_upstream_rq",
                        "target_label": "__name__",
                        "replacement": "istio_requests_total",
                    },
                    {
                        "source_labels": ["__name__"],
                        "regex": "envoy_cluster_upstream_rq_time_(.*)",
                        "target_label": "__name__",
                        "replacement": "istio_request_duration_milliseconds_$1",
                    },
                    # Envoy's own labels for the same, which Istio's counters do not have: some are cut at the first dot, and
                    # `cluster_name` would tell destinations apart as if they were Kubernetes clusters.
                    {"regex": "envoy_.*|cluster_name", "action": "labeldrop"},
                    *(
                        {"target_label": label, "replacement": value}
                        for label, value in (
                            ("reporter", "source"),
                            ("source_workload", GATEWAY_WORKLOAD),
                            ("source_workload_namespace", INGRESS_NAMESPACE),
                        )
                    ),
                ],
            },
            {
                "job_name": "devstack",
                # The targets stand for kubelets and the like, whose own labels are to be seen.
                "honor_labels": True,
                "fallback_scrape_protocol": "PrometheusText0.0.4",
                "file_sd_configs": [{"files": [f"{targets}/*.json"], "refresh_interval": "5s"}],
            },
        ],
    }


def _milliseconds(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"


def mesh_objects(gateway_port: int) -> list[dict[str, Any]]:
    """Return the objects of a fresh stack: the ingress Gateway.

    Parameters
    ----------
    gateway_port
        The port on loopback on which the gateway's proxies listen.
    """
    return [
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "Gateway",
            "metadata": {"name": GATEWAY_NAME, "namespace": INGRESS_NAMESPACE},
            "spec": {
                "selector": {"istio": "ingress"},
                "servers": [
                    {
                        "port": {"number": gateway_port, "name": "http", "protocol": "HTTP"},
                        "bind": "127.0.0.1",
                        "hosts": ["*"],
                    }
                ],
            },
        }
    ]
