"""Reads what the drain recorded of an app from Prometheus: the use of its dynos, and its last requests."""

from __future__ import annotations

import math
from collections.abc import Callable

from cutover.domain.dynos import DAYS, DynoUse
from cutover.domain.evidence.selectors import matcher
from cutover.domain.plan import Plan
from cutover.ports.prometheus import Prometheus, unavailable_if_malformed

MEMORY, LOAD = "heroku_dyno_memory_total_bytes", "heroku_dyno_load_1m"
REQUESTS = "heroku_router_requests_total"
#: Dynos of the type web, as the drain names them.
_WEB = 'dyno=~"web[.].+"'


class DrainRecord:
    """:class:`cutover.ports.heroku_record.HerokuRecord` in Prometheus.

    Parameters
    ----------
    prometheus
        Returns the client of a source by its name. Raises Unavailable.
    now
        Returns the time of a plan's Prometheus, in Unix seconds.
    """

    def __init__(self, prometheus: Callable[[str], Prometheus], now: Callable[[str], float]) -> None:
        self._prometheus, self._now = prometheus, now

    async def dynos(self, plan: Plan) -> DynoUse | None:
        """Return what the web dynos use; ``None`` if nothing is recorded. Raises Unavailable."""
        app = matcher("app", [plan.spec.heroku.app])
        memory, load = f"{MEMORY}{{{app},{_WEB}}}[{DAYS}d]", f"{LOAD}{{{app},{_WEB}}}[{DAYS}d]"
        parts = {
            "memory": f"max(quantile_over_time(0.95, {memory}))",
            "most": f"max(max_over_time({memory}))",
            "load": f"max(quantile_over_time(0.95, {load}))",
        }
        named = (f'label_replace({part}, "what", "{what}", "", "")' for what, part in parts.items())
        found = await self._numbers(plan, " or ".join(named))
        if "memory" not in found or "most" not in found:
            return None
        return DynoUse(found["memory"], found["most"], found.get("load"))

    async def requests_of_last_day(self, plan: Plan) -> float | None:
        """Return the requests at Heroku's router in the last 24 h; ``None`` if nothing is recorded. Raises Unavailable."""
        selector = f"{REQUESTS}{{{matcher('app', [plan.spec.heroku.app])}}}[1d]"
        return (await self._numbers(plan, f"sum(increase({selector}))")).get("")

    async def _numbers(self, plan: Plan, promql: str) -> dict[str, float]:
        """Return the values of an expression by their label ``what``, those that are numbers."""
        source = plan.spec.gates.prometheus or ""
        result = await self._prometheus(source).query(promql, self._now(source))
        with unavailable_if_malformed("the drain"):
            values = {one["metric"].get("what", ""): float(one["value"][1]) for one in result}
        return {what: value for what, value in values.items() if math.isfinite(value) and value >= 0}
