"""A gateway behind a network load balancer that sends the PROXY protocol, as istiod configures it (docs/ingress.md)."""

from __future__ import annotations

import json
import re
import socket

import pytest
import yaml
from tests.kit.routing import rendered

from cutover.adapters.kube.client import Cluster
from cutover.adapters.traffic.istio.leg_probe import HttpLegProbe
from cutover.adapters.traffic.istio.rendering import probe_value
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio.names import PROBE_HEADER
from cutover.domain.traffic import Leg
from devstack import config, supervisor
from devstack.support import free_port
from sandbox import manifests
from sandbox.environment import Environment
from sandbox.manifests import Json

NAME, SERVICE = "behind-nlb", "balanced"
GATEWAY = f"{config.INGRESS_NAMESPACE}/{NAME}"
PAGE = (manifests.ROOT / "docs" / "ingress.md").read_text(encoding="utf-8")
#: What the load balancer says of the user's connection, in the version of the protocol that is text.
PROXIED = b"PROXY TCP4 198.51.100.7 192.0.2.1 40000 443\r\n"


def start_gateway(environment: Environment) -> int:
    """Start a further gateway, whose proxy has the topology; return its port."""
    stack, port = environment.stack, free_port()
    bootstrap = config.envoy(9, stack.ports["istiod-grpc"], free_port(), 1.0)
    bootstrap["node"]["metadata"] |= {"LABELS": {"istio": NAME}, "PROXY_CONFIG": topology()}
    file = stack.state_dir / f"{NAME}.yaml"
    file.write_text(yaml.safe_dump(bootstrap))
    server = {"port": {"number": port, "name": "http", "protocol": "HTTP"}, "bind": "127.0.0.1", "hosts": ["*"]}
    metadata = {"name": NAME, "namespace": config.INGRESS_NAMESPACE}
    spec = {"selector": {"istio": NAME}, "servers": [server]}
    gateway = {"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": metadata, "spec": spec}
    stack.apply([gateway])
    argv = [str(stack.programs.envoy), "-c", str(file), "--concurrency", "1", "--disable-hot-restart"]
    supervisor.call(stack.state_dir, {"do": "spawn", "name": NAME, "argv": argv, "env": {}})
    return port


def topology() -> Json:
    """Return what docs/ingress.md has the gateway's Pods annotated with."""
    (text,) = re.findall(r"^    proxy\.istio\.io/config: '(.*)'$", PAGE, re.MULTILINE)
    found: Json = json.loads(text)
    return found


def asked(port: int, first: bytes, host: str, **headers: str) -> Json:
    """Send a request on a connection that begins with something; return what reached the app, or nothing."""
    lines = [f"host: {host}", "connection: close", *(f"{name}: {value}" for name, value in headers.items())]
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(first + "\r\n".join(["GET /seen HTTP/1.1", *lines, "", ""]).encode())
        answer = b""
        try:
            while data := connection.recv(65_536):
                answer += data
        except ConnectionResetError:
            return {}
    head, _, body = answer.partition(b"\r\n\r\n")
    found: Json = json.loads(body) if head.startswith(b"HTTP/1.1 200") else {}
    return found


@pytest.mark.uses(SERVICE, minutes=0.5)
async def test_the_probe_and_users_through_the_proxy_protocol(alone: Environment) -> None:
    port = start_gateway(alone)
    host = manifests.public_host(SERVICE)
    manifest = manifests.plan(SERVICE, traffic={"istio": {"hosts": [host], "gateways": [GATEWAY]}})
    manifest["metadata"]["uid"] = "8f14e45f"
    plan = Plan.from_object(manifest | TAKEN_OVER)
    alone.stack.apply(rendered(plan, 0))
    token = {PROBE_HEADER: probe_value(plan, Leg.EKS, "a1-w0"), "x-forwarded-proto": "https"}
    alone.until("the route is there", lambda: bool(asked(port, PROXIED, host, **token)), 30)

    seen = asked(port, PROXIED, host, **token)
    assert seen["x-forwarded-for"] == "198.51.100.7", "the user's address, of the header"
    assert seen["x-forwarded-proto"] == "https", "the word of a trusted proxy: what keeps force_ssl from looping"
    assert asked(port, b"", host, **token) == {}, "the gateway takes no other connection"

    cluster = await Cluster.connect(alone.stack.kubeconfig)
    urls = {GATEWAY: f"http://127.0.0.1:{port}"}
    for proxied, healthy in (([GATEWAY], True), ([], False)):
        prober = HttpLegProbe(cluster, urls, proxied=proxied)
        assert (await prober.probe(plan, Leg.EKS, "/healthz")).healthy is healthy
        await prober.close()
    await cluster.close()


TAKEN_OVER: Json = {"status": {"observedGeneration": 1, "phase": "Baseline", "attempt": 1, "weight": 0}}
