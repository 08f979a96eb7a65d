"""Answers that do not begin in time; those that do may last (`test_unnoticed.py`)."""

from __future__ import annotations

import aiohttp
import pytest

from sandbox import manifests
from sandbox.environment import Environment

from .team_routes import in_own


@pytest.mark.uses("late")
async def test_an_answer_has_to_begin_in_time(alone: Environment) -> None:
    """What does not is given up once: neither leg is asked again."""
    route = in_own("late", "Generate", firstByteTimeout="2s")["istio"]
    del route["virtualServiceRef"]
    alone.apply(manifests.plan("late", ceiling=0, traffic={"istio": route}))
    alone.until_status("late", 60, phase="Baseline")
    host = manifests.public_host("late")
    before = alone.apps.stats("heroku")["acme-late"]
    async with aiohttp.ClientSession(alone.stack.gateway_url, headers={"host": host}) as session:
        async with session.get("/after/5") as response:
            assert (response.status, response.headers["x-cutover-revision"]) == (504, "a1-w0")
        # More than a proxy keeps for a retry, which there is none of.
        async with session.post("/after/5", data=bytes(4 << 20)) as response:
            assert response.status == 504
        async with session.get("/status/503") as response:
            assert (response.status, response.headers["x-leg"]) == (503, "heroku")
    after = alone.apps.stats("heroku")["acme-late"]
    assert after["statuses"].get("503", 0) - before["statuses"].get("503", 0) == 1
