"""Audit ``process-types``: what were dynos of their own share a Pod, or run inside the web process."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cutover.domain.preflight.audit import audit
from cutover.domain.preflight.workload import Workload

#: Images of stores that keep what users need.
_STORES = re.compile(
    r"(?:^|/)(?:redis|valkey|memcached|postgres|postgresql|mysql|mariadb|rabbitmq|mongo|keydb)(?:[:@-]|$)"
)
_CLOCKS = re.compile(r"^(?:clockwork|supercronic|crond?)(?:\s|$)|^celery\b.*\s(?:-B|--beat|beat)(?:\s|$)")
_CLOCK_ENV = re.compile(r"(?:^|_)(?:SCHEDULE|SCHEDULER|CRON|CLOCK)(?:$|_)")
_ON = frozenset({"1", "true", "yes", "on", "enabled"})


def find(workload: Workload) -> Iterator[str]:
    """Find workers beside the web process, stores in the Pod, and clocks that run once for each replica."""
    app = workload.app
    beside = [one for one in workload.containers if one.name != app.name]
    if same := [one.name for one in beside if one.image and one.image == app.image]:
        yield (
            f"containers {', '.join(same)} of the app's own image run beside {app.name}: if one crashes the Pod gets no"
            " requests, and each replica for the web adds them and their connections; give each process type a Deployment"
        )
    if stores := [one.name for one in beside if _STORES.search(one.image)]:
        yield (
            f"containers {', '.join(stores)} keep data inside each Pod: sessions and jobs of one Pod are unknown to the next"
            " and to Heroku, and are lost with it; use one store for all, the same as on Heroku while both run"
        )
    clocks = [one.name for one in workload.containers if any(_CLOCKS.search(each.text) for each in one.commands)]
    clocks += [
        f"{app.name} ({name})"
        for name, value in app.env.items()
        if _CLOCK_ENV.search(name) and (value or "").lower() in _ON
    ]
    if clocks:
        yield (
            f"a scheduler runs in {', '.join(clocks)}: each replica has one, and Heroku's runs on, so jobs run twice; use a"
            " CronJob or one replica of its own, and say which side runs it while both are up"
        )


CHECK = audit(
    "process-types",
    "the Pod has the web process alone: no workers of the same image, no store, no scheduler that each replica runs",
    find,
)
