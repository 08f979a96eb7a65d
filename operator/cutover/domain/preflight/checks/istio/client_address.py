"""Check ``client-address``: what the app on Heroku hears of its users' addresses changes with the takeover."""

from __future__ import annotations

from cutover.api.v1alpha1 import Ownership
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import Check, Facts, Finding, warned
from cutover.domain.preflight.checks.istio.names import owned_by


def judge(plan: Plan, facts: Facts) -> Finding:  # noqa: ARG001
    """Warn of it: nothing shows whether the app looks at addresses."""
    return warned(
        "to Heroku all users come from the cluster's address: have the app trust it as a proxy (X-Forwarded-For), then skip"
        " this check"
    )


CHECK = Check(
    name="client-address",
    passes_when="never: with ownership `Generate` it warns that [all users come to Heroku from one"
    " address](traffic.md#addresses) from the takeover on. With the others they did before",
    applies=owned_by(Ownership.GENERATE),
    judge=judge,
)
