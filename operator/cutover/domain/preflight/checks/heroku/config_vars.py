"""Check ``config-vars``: what is configured on Heroku is configured on EKS, too, by the names of the variables.

Most of what fails in a migration was never set. Values are compared by another check, and only where a plan asks for it.
"""

from __future__ import annotations

from collections.abc import Iterable

from cutover.domain.heroku import HerokuApp, HerokuReading
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import PASSED, Facts, Finding, warned
from cutover.domain.preflight.heroku_check import heroku_check
from cutover.domain.preflight.variables import KEYS, Variables, variables_of
from cutover.domain.preflight.workload import WORKLOAD_READS, workload_of
from cutover.domain.texts import listed

#: What builds read, and no process does. A name with ``*`` at the end stands for all that begin so.
ONLY_BUILDS = (
    *(
        "NPM_CONFIG_*",
        "NODE_MODULES_CACHE",
        "NODE_VERBOSE",
        "YARN_*",
        "PNPM_*",
        "BUNDLE_WITHOUT",
        "BUNDLE_GITHUB__COM",
    ),
    *("DISABLE_COLLECTSTATIC", "DEBUG_COLLECTSTATIC", "PIP_*", "UV_*", "POETRY_*", "GO_INSTALL_*", "GOVERSION"),
    *("MAVEN_*", "GRADLE_TASK", "COMPOSER_*", "PROJECT_PATH", "APP_BASE", "BUILDPACK_*", "APT_*", "HEROKU_*"),
)


def judge(plan: Plan, app: HerokuApp, reading: HerokuReading, facts: Facts) -> Finding:  # noqa: ARG001
    """Find config vars that the app's container does not have."""
    workload = workload_of(plan, facts.inventory)
    if app.config_vars is None:
        return warned(
            f"not looked at: the key may not see the config vars of {app.name}, for which its scope has to be read-protected"
        )
    if workload is None:
        return PASSED
    variables = variables_of(plan, workload, facts.inventory)
    # Those of add-ons are told with the add-ons.
    others = {name for addon in app.addons or () for name in addon.config_vars}
    meant = (*plan.spec.preflight.config.only_on_heroku, *ONLY_BUILDS)
    missing = [name for name in sorted(app.config_vars - variables.names - others) if not is_named(name, meant)]
    if not missing or variables.injected:
        return PASSED
    return warned(_told(app, workload.app.name, missing, variables))


def is_named(name: str, by: Iterable[str]) -> bool:
    """Tell whether a variable is among names, of which some end with ``*`` and stand for all that begin so."""
    return any(name.startswith(one[:-1]) if one.endswith("*") else name == one for one in by)


def _told(app: HerokuApp, container: str, missing: list[str], variables: Variables) -> str:
    names = f"config vars {listed(missing)} of {app.name}"
    on_purpose = "or list what EKS does without on purpose in preflight.config.onlyOnHeroku"
    if variables.unread:
        return (
            f"{names} are not named by container {container}; whether they are keys of {listed(variables.unread)} is not known:"
            f" let the operator read the names of their keys (preflight.config.readKeys), {on_purpose}"
        )
    makers = [owner for owner in variables.owners if owner.startswith("ExternalSecret ")]
    where = f"add them to {listed(makers)}" if makers else "set them"
    return f"{names} are not set for container {container}: {where}, {on_purpose}"


CHECK = heroku_check(
    "config-vars",
    "each config var of Heroku has a variable of the same name in the app's container, or is listed in"
    " `preflight.config.onlyOnHeroku` ([how](audits.md#config-vars))",
    judge,
    reads=WORKLOAD_READS,
    may_read=KEYS,
)
