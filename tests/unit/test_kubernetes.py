"""What people read when the API server says no."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cutover.adapters.kube.answers import Forbidden, NotServed, translate
from cutover.adapters.kube.client import Cluster
from cutover.domain.preflight.checks.istio.kinds import GATEWAYS
from cutover.domain.resources import SERVICES, Resource
from cutover.ports.errors import Conflict, Gone, Unavailable

WHAT = "update virtualservices.networking.istio.io docs/cutover-pdf"


def status(message: str, **more: Any) -> bytes:
    return json.dumps({"kind": "Status", "message": message, **more}).encode()


@pytest.mark.parametrize(
    ("code", "data", "kind", "cause", "text"),
    [
        (404, status("x not found", details={"name": "x"}), Gone, "gone", "x not found"),
        (404, b"404 page not found", NotServed, "invalid", "is its CRD installed?"),
        (409, status("the object has been modified"), Conflict, "conflict", "has been modified"),
        (401, status("Unauthorized"), Unavailable, "unauthorized", "token expired?"),
        (
            403,
            status(
                'virtualservices.networking.istio.io "cutover-pdf" is forbidden: User '
                '"system:serviceaccount:cutover:operator" cannot update resource "virtualservices" in API group '
                '"networking.istio.io" in the namespace "docs"'
            ),
            Forbidden,
            "forbidden",
            (
                "missing permission: system:serviceaccount:cutover:operator needs verb update on virtualservices of API"
                " group networking.istio.io in namespace docs"
            ),
        ),
        (
            403,
            status(
                'services is forbidden: User "me" cannot list resource "services" in API group "" at the cluster scope'
            ),
            Forbidden,
            "forbidden",
            'missing permission: me needs verb list on services of API group "" in all namespaces',
        ),
        (403, status("exceeded quota: count"), Forbidden, "forbidden", "forbidden: exceeded quota"),
        (422, status("spec.http: Required value"), Unavailable, "invalid", "refused: spec.http: Required value"),
        (429, status("slow down"), Unavailable, "throttled", "asks to wait 7 s: slow down"),
        (500, b"etcdserver: request timed out", Unavailable, "server", "answered 500: etcdserver: request timed out"),
        (503, b"", Unavailable, "server", "answered 503: no explanation"),
        (502, b"[]", Unavailable, "server", "answered 502"),
    ],
)
def test_refusals(code: int, data: bytes, kind: type[Exception], cause: str, text: str) -> None:
    counted, error = translate(code, {"Retry-After": "7"}, data, WHAT)
    assert (counted, type(error)) == (cause, kind)
    assert str(error).startswith(WHAT)
    assert text in str(error)


@pytest.mark.parametrize(
    ("resource", "arguments", "path"),
    [
        (SERVICES, ("docs", "pdf"), "/api/v1/namespaces/docs/services/pdf"),
        (SERVICES, ("",), "/api/v1/services"),
        (GATEWAYS, ("a", "b"), "/apis/networking.istio.io/v1/namespaces/a/gateways/b"),
        (GATEWAYS, ("a", "b/c?d"), "/apis/networking.istio.io/v1/namespaces/a/gateways/b%2Fc%3Fd"),
        (Resource("g", "v1", "K", "ks"), ("n", "x", "status"), "/apis/g/v1/namespaces/n/ks/x/status"),
    ],
)
def test_paths(resource: Resource, arguments: tuple[str, ...], path: str) -> None:
    assert resource.path(*arguments) == path


async def test_no_cluster_is_an_error_that_says_so(tmp_path: Any) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text(
        json.dumps(
            {
                "current-context": "x",
                "clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:9"}}],
                "users": [{"name": "x", "user": {"token": "t"}}],
                "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            }
        )
    )
    cluster = await Cluster.connect(config)
    with pytest.raises(Unavailable, match="get services docs/pdf: the API server cannot be reached"):
        await cluster.get(SERVICES, "docs", "pdf")
    await cluster.close()
    assert (cluster.requests, cluster.errors) == ({"get": 1}, {"unreachable": 1})
