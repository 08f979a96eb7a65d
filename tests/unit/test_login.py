"""Kopf's credentials: refused ones may be good the next time."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import kopf
import pytest

from cutover import main
from cutover.kopf_app import login as kopf_login
from cutover.settings import Settings, read_settings

KUBECONFIG = """
current-context: c
contexts: [{name: c, context: {cluster: k, user: u}}]
clusters: [{name: k, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: u, user: {token: TOKEN}}]
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    path = tmp_path / "kubeconfig"
    path.write_text(KUBECONFIG)
    monkeypatch.setenv("KUBECONFIG", str(path))
    return read_settings({"CUTOVER_PROMETHEUS_URL": "http://127.0.0.1:1", "CUTOVER_KUBECONFIG": str(path)})


def login_of(settings: Settings) -> Any:
    """Return the handler that is registered."""
    registry = kopf.OperatorRegistry()
    kopf_login.register_login(registry, settings)
    (handler,) = registry._activities.get_all_handlers()
    return lambda: handler.fn(settings=kopf.OperatorSettings())  # type: ignore[arg-type]


async def test_credentials_that_were_refused_are_tried_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An API server that refuses a good token for a while does not end the process."""
    monkeypatch.setattr(kopf_login, "LOGIN_SECONDS", 0.05)
    login = login_of(settings)
    vault = kopf._cogs.structs.credentials.Vault()
    for _ in range(10):
        await vault.populate({"login": await login()})
        ((key, info),) = [pair async for pair in vault]
        assert info.token == "TOKEN"
        refused = asyncio.create_task(vault.invalidate(key, info))
        await vault.wait_for_emptiness()
        await vault.populate({"login": await login()})
        await refused


async def test_it_is_not_done_faster_for_being_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kopf_login, "LOGIN_SECONDS", 0.2)
    login = login_of(settings)
    began = time.monotonic()
    for _ in range(3):
        await login()
    assert time.monotonic() - began >= 0.4


@pytest.mark.parametrize("text", [None, "", "clusters: [", "just words"])
def test_a_kubeconfig_that_cannot_be_used_is_said_in_one_line(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    if text is not None:
        kubeconfig.write_text(text)
    monkeypatch.setenv("CUTOVER_PROMETHEUS_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("CUTOVER_METRICS_PORT", "0")
    monkeypatch.setenv("CUTOVER_KUBECONFIG", str(kubeconfig))
    with pytest.raises(SystemExit, match=r"^settings: CUTOVER_KUBECONFIG: .*kubeconfig: "):
        main.main()
