"""The proxy that asks for a token, before something that does not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from demoapps.apps import DemoApps
from demoapps.child import ChildError
from sandbox.guard import Guard


@pytest.fixture
def guard(apps: DemoApps, tmp_path: Path) -> Iterator[Guard]:
    """A guard of the EKS leg's admin port."""
    with Guard(tmp_path, f"http://127.0.0.1:{apps.eks_admin_port}", "right") as started:
        yield started


def ask(guard: Guard, token: str | None, path: str = "/metrics") -> httpx.Response:
    """Ask for something with a token."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return httpx.get(guard.url + path, headers=headers, trust_env=False)


def test_only_the_right_token_passes(guard: Guard) -> None:
    tokens = (None, "wrong", "righ", "rightly", "right")
    assert [ask(guard, token).status_code for token in tokens] == [401, 401, 401, 401, 200]
    assert "checkout_attempts_total" in ask(guard, "right").text
    assert ask(guard, "right", "/nothing").status_code == 404
    guard.set_token("new")
    assert (ask(guard, "right").status_code, ask(guard, "new").status_code) == (401, 200)
    assert guard.requests() == {"passed": 4, "refused": 5}


def test_a_post_arrives_whole(guard: Guard, apps: DemoApps) -> None:
    headers = {"Authorization": "Bearer right", "Content-Type": "application/json"}
    answer = httpx.put(guard.url + "/knobs/pdf", content=b'{"error_ratio": 0.25}', headers=headers, trust_env=False)
    assert answer.json()["knobs"]["error_ratio"] == 0.25
    assert apps.knobs("eks", "pdf").get().error_ratio == 0.25


def test_it_misbehaves_as_told(guard: Guard) -> None:
    guard.tell(status=503)
    assert ask(guard, "right").status_code == 503
    guard.tell(status=0, cut=True)
    with pytest.raises(httpx.RemoteProtocolError):
        ask(guard, "right")
    guard.tell(cut=False, delay_s=0.5)
    began = time.monotonic()
    assert ask(guard, "right").status_code == 200
    assert time.monotonic() - began >= 0.5
    with pytest.raises(ChildError, match="there is no rude"):
        guard.tell(rude=True)


def test_nobody_behind_it_is_no_answer(tmp_path: Path) -> None:
    with Guard(tmp_path, "http://127.0.0.1:1", "right") as guard, pytest.raises(httpx.RemoteProtocolError):
        ask(guard, "right")
