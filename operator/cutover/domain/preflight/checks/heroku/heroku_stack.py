"""Check ``heroku-stack``: Heroku can still be deployed to while it is the way back, and what built the slug is known."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

from cutover.domain.heroku import HerokuApp, HerokuReading
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import PASSED, Facts, Finding, warned
from cutover.domain.preflight.heroku_check import heroku_check
from cutover.domain.preflight.variables import variables_of
from cutover.domain.preflight.workload import WORKLOAD_READS, Workload, workload_of
from cutover.domain.texts import listed

#: The last day of each stack (https://devcenter.heroku.com/articles/stack). Builds end some time after it.
ENDS = {
    "cedar-14": date(2020, 11, 2),
    "heroku-16": date(2021, 5, 1),
    "heroku-18": date(2023, 4, 30),
    "heroku-20": date(2025, 4, 30),
    "heroku-22": date(2027, 4, 30),
}
#: How long before a stack's last day it is told of.
TOLD_BEFORE = timedelta(days=180)
#: What buildpacks put beside the app, by parts of their names.
_BRING = (
    *("apt", "chrome", "puppeteer", "playwright", "ffmpeg", "imagemagick", "wkhtmltopdf", "jemalloc", "tesseract"),
    *("ghostscript", "geo-buildpack", "libvips", "nginx", "datadog", "xvfb", "poppler"),
)
#: Variables that buildpacks set when a dyno starts, and that are no config vars.
_SET = {"heroku/nodejs": ("NODE_ENV",), "heroku/python": ("PYTHONUNBUFFERED",)}


def judge(plan: Plan, app: HerokuApp, reading: HerokuReading, facts: Facts) -> Finding:
    """Find a stack that ends soon, and buildpacks that brought what an image has to bring now."""
    workload = workload_of(plan, facts.inventory)
    found = "; ".join(_found(plan, app, workload, reading, facts))
    return warned(found) if found else PASSED


def _found(
    plan: Plan, app: HerokuApp, workload: Workload | None, reading: HerokuReading, facts: Facts
) -> Iterator[str]:
    ends = ENDS.get(app.stack)
    if ends is not None and ends - datetime.fromtimestamp(reading.at, UTC).date() < TOLD_BEFORE:
        yield (
            f"stack {app.stack} has its last day on {ends}: builds on it fail from then on, or earlier, and a fix of"
            f" {app.name} while it is the way back needs a build; end the migration before, or move the app to a newer stack"
        )
    packs = app.buildpacks or ()
    if bring := [pack for pack in packs if any(part in pack.lower() for part in _BRING)]:
        yield f"buildpack {listed(bring)} put programs beside the app: have them in the image, and try what needs them"
    if workload is None:
        return
    pooled = any("pgbouncer" in pack.lower() for pack in packs)
    if pooled and not any("pgbouncer" in one.name for one in (*workload.containers, *workload.init_containers)):
        yield (
            "a buildpack ran PgBouncer in each dyno, and the Pod has none: each process opens its connections itself, so that"
            " there are many more of them; have PgBouncer beside the app or in the cluster"
        )
    variables = variables_of(plan, workload, facts.inventory)
    known = not variables.unread and not variables.injected
    unset = [name for pack, names in _SET.items() if pack in packs for name in names if name not in variables.names]
    if known and unset:
        yield f"Heroku's buildpacks set {listed(unset)} when a dyno starts: set it here, unless the image does"


CHECK = heroku_check(
    "heroku-stack",
    "the app's stack has half a year left, and its buildpacks brought nothing that the image has to bring now",
    judge,
    reads=WORKLOAD_READS,
)
