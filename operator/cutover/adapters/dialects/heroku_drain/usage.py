"""What an app uses on Heroku, by the drain's gauges, and its releases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cutover.adapters.dialects.heroku_drain.counters import HerokuDrainDialect
from cutover.domain.baseline.used import Quantity
from cutover.domain.evidence.selectors import matcher, milliseconds
from cutover.domain.plan import Plan

#: Dynos of the type web, as the drain names them.
_WEB = 'dyno=~"web[.].+"'
#: The labels of a scrape target. A gauge counts only if it is the drain's own: whoever is scraped may write one of its name.
_TARGET = "namespace, pod, job, instance"


@dataclass(frozen=True, slots=True)
class DrainUsage:
    """:class:`cutover.ports.records.UsageQueries` of the drain's metrics.

    Parameters
    ----------
    dialect
        Knows where the drain runs.
    """

    dialect: HerokuDrainDialect

    def usage(self, plan: Plan, seconds: float) -> Mapping[Quantity, str]:
        """Return the query for each quantity, over seconds before their time."""
        window = milliseconds(seconds)
        serving = f"max_over_time({self.dialect.presence(self.dialect.namespaces)}[{window}])"
        own = f"{matcher('namespace', self.dialect.namespaces)},{matcher('app', [plan.spec.heroku.app])}"

        def most(metric: str, more: str = "") -> str:
            return f"max_over_time(heroku_{metric}{{{own}{more}}}[{window}]) and on ({_TARGET}) {serving}"

        web = f",{_WEB}"
        load = f"quantile_over_time(0.95, heroku_dyno_load_1m{{{own}{web}}}[{window}]) and on ({_TARGET}) {serving}"
        return {
            Quantity.MEMORY: f"max({most('dyno_memory_total_bytes', web)})",
            Quantity.QUOTA: f"max({most('dyno_memory_quota_bytes', web)})",
            Quantity.LOAD: f"max({load})",
            Quantity.CONNECTIONS: f"max by (addon) ({most('postgres_active_connections')})",
            Quantity.CONNECTION_LIMIT: f"max by (addon) ({most('postgres_max_connections')})",
            # The gauge is there after the first release that a replica has seen, the counter from the start.
            Quantity.VERSION: f"(max({most('release_version')}) or 0 * max({most('releases_total')}))",
        }
