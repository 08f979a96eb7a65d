"""Check ``config-values``: variables that both legs have are the same on both, by keyed digests of their values.

A name that is there and a value that is not is what :mod:`~cutover.domain.preflight.checks.heroku.config_vars` cannot see:
the secret of a staging app, a password from before a rotation, a line end that ``echo`` has added. Nothing but names is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cutover.domain.fingerprints import ConfigValues
from cutover.domain.heroku import HerokuApp, HerokuReading
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import PASSED, Facts, Finding, unknown, warned
from cutover.domain.preflight.checks.heroku.config_vars import ONLY_BUILDS, is_named
from cutover.domain.preflight.checks.heroku.heroku_addons import ROTATED
from cutover.domain.preflight.heroku_check import heroku_check
from cutover.domain.preflight.parallel import SIZES
from cutover.domain.preflight.values import Value, values_of
from cutover.domain.preflight.variables import VALUES, is_reloaded, variables_of
from cutover.domain.preflight.workload import WORKLOAD_READS, Workload, workload_of
from cutover.domain.texts import listed

#: What is another value on each platform, or fits to the size of a dyno or container: other audits look at these.
EACH_ITS_OWN = ("PORT", "WEB_MEMORY", "NODE_OPTIONS", "JAVA_OPTS", "JAVA_TOOL_OPTIONS", "MALLOC_ARENA_MAX", *SIZES)


def judge(plan: Plan, app: HerokuApp, reading: HerokuReading, facts: Facts) -> Finding:  # noqa: ARG001
    """Compare the fingerprints of the values."""
    workload = workload_of(plan, facts.inventory)
    if workload is None or not plan.spec.preflight.config.compare_values:
        return PASSED
    if app.config_vars is None:
        return warned(
            f"not compared: the key may not see the config vars of {app.name}, for which its scope has to be read-protected"
        )
    if app.config_values is None:
        return unknown(f"the config vars of {app.name} have not been read again yet")
    if injected := variables_of(plan, workload, facts.inventory).injected:
        return warned(f"not compared: {injected} sets variables when the container starts")
    found = "; ".join(_found(plan, app, app.config_values, workload, facts))
    return warned(found) if found else PASSED


def _found(plan: Plan, app: HerokuApp, theirs: ConfigValues, workload: Workload, facts: Facts) -> Iterator[str]:
    ours = values_of(plan, workload, facts.inventory, theirs.fingerprints)
    meant = (*plan.spec.preflight.config.differ_on_purpose, *EACH_ITS_OWN, *ONLY_BUILDS)
    both = sorted(name for name in (app.config_vars or ()) if name in ours and not is_named(name, meant))
    other, blanks, unread = list[str](), list[str](), dict[str, list[str]]()
    for name in both:
        mine, yours = ours[name].fingerprint, theirs.known.get(name)
        if mine is None:
            unread.setdefault(ours[name].unknown, []).append(name)
        elif yours is None:
            unread.setdefault("masked on Heroku", []).append(name)
        elif mine != yours:
            (blanks if mine.trimmed == yours.trimmed else other).append(name)
    unread.pop("", None)  # set for each Pod anew, as from fieldRef
    if other or blanks:
        yield from _told(app, workload, ours, other, blanks)
    for why, names in unread.items():
        yield f"not compared: {listed(names)} ({why})"


def _told(
    app: HerokuApp, workload: Workload, ours: Mapping[str, Value], other: list[str], blanks: list[str]
) -> Iterator[str]:
    container = workload.app.name
    if other:
        yield f"container {container} has another value than {app.name} for {listed([_text(name, ours) for name in other])}"
    if blanks:
        yield (
            f"the values of container {container} and {app.name} for {listed([_text(name, ours) for name in blanks])} are the same"
            " but for white space at the ends, such as the line end that echo adds"
        )
    yield "make them the same, or list what differs on purpose in preflight.config.differOnPurpose"
    rotated = sorted(
        name
        for addon in app.addons or ()
        if addon.service in ROTATED
        for name in addon.config_vars
        if name in other and ours[name].source
    )
    if rotated:
        yield f"{listed(rotated)} may be from before Heroku changed the credentials, and such a copy stops working"
    if any(ours[name].source for name in (*other, *blanks)) and not is_reloaded(workload):
        yield "a Secret or ConfigMap that changes reaches the app with its next Pods: restart them, or have Reloader do it"


def _text(name: str, ours: Mapping[str, Value]) -> str:
    source = ours[name].source
    return f"{name} ({source})" if source else name


CHECK = heroku_check(
    "config-values",
    "with `preflight.config.compareValues`: variables that both legs have are the same, compared by keyed digests, or listed in"
    " `preflight.config.differOnPurpose` ([how](audits.md#config-values)); only names are told",
    judge,
    reads=WORKLOAD_READS,
    may_read=VALUES,
)
