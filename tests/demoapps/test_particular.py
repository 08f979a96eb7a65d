"""Apps that are particular about the name and the scheme they are asked by, and the pages of their builds."""

from __future__ import annotations

import http.client
import socket
import ssl

import pytest

from demoapps.apps import DemoApps
from demoapps.child import ChildError

PDF, PUBLIC = "acme-pdf-1a2b3c.herokuapp.com", "pdf.acme.example"


def of_heroku(apps: DemoApps, host: str) -> http.client.HTTPResponse:
    context = ssl.create_default_context(cafile=str(apps.ca_file))
    context.check_hostname = False
    connection = http.client.HTTPSConnection("127.0.0.1", apps.heroku_port, timeout=5, context=context)
    try:
        raw = socket.create_connection(("127.0.0.1", apps.heroku_port), timeout=5)
        connection.sock = context.wrap_socket(raw, server_hostname=host)
        connection.request("GET", "/", headers={"Host": host})
        return connection.getresponse()
    finally:
        connection.close()


def of_eks(apps: DemoApps, **headers: str) -> tuple[http.client.HTTPResponse, str]:
    connection = http.client.HTTPConnection("127.0.0.1", apps.eks_ports["pdf"], timeout=5)
    try:
        connection.request("GET", "/", headers=headers)
        response = connection.getresponse()
        return response, response.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize("leg", ["heroku", "eks"])
def test_an_app_may_insist_on_its_public_name(apps: DemoApps, leg: str) -> None:
    ask = of_heroku if leg == "heroku" else lambda apps, host: of_eks(apps, Host=host)[0]
    knobs = apps.knobs("heroku" if leg == "heroku" else "eks", "pdf")
    knobs.set(canonical_host=PUBLIC)
    moved = ask(apps, PDF)
    assert (moved.status, moved.getheader("location")) == (301, f"https://{PUBLIC}/")
    assert ask(apps, PUBLIC).status == 200
    knobs.set(canonical_host="", allowed_host=PUBLIC)
    assert (ask(apps, PDF).status, ask(apps, PUBLIC).status) == (400, 200)


def test_an_app_may_insist_on_tls(apps: DemoApps) -> None:
    for leg in ("heroku", "eks"):
        apps.knobs(leg, "pdf").set(insists_on_tls=True)
    assert of_heroku(apps, PDF).status == 200, "Heroku's router says https"
    response, _ = of_eks(apps, Host=PUBLIC)
    assert (response.status, response.getheader("location")) == (301, f"https://{PUBLIC}/")
    assert of_eks(apps, Host=PUBLIC, **{"x-forwarded-proto": "https"})[0].status == 200


def test_each_build_has_assets_of_its_own(apps: DemoApps) -> None:
    pages = set()
    for build in ("monday", "tuesday"):
        apps.knobs("eks", "pdf").set(build=build)
        response, text = of_eks(apps)
        assert response.getheader("content-type") == "text/html; charset=utf-8"
        assert "session=" in (response.getheader("set-cookie") or "")
        pages.add(text)
    assert len(pages) == 2


def test_a_name_is_a_text(apps: DemoApps) -> None:
    with pytest.raises(ChildError, match="canonical_host is a text, not 7"):
        apps.knobs("eks", "pdf").set(canonical_host=7)  # type: ignore[arg-type]
