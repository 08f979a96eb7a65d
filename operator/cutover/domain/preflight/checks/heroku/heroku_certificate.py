"""Check ``heroku-certificate``: until when DNS could send users back to Heroku.

Once DNS points elsewhere, Heroku cannot renew the certificates that it manages. The gateway's own way to Heroku uses the
app's ``herokuapp.com`` name by default, which has a certificate of Heroku's. With ``hostHeader: Public`` it asks by the host and
checks the certificate for it: without one that counts, all requests of the leg fail.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cutover.api.v1alpha1 import HostHeader
from cutover.domain.heroku import HerokuApp, HerokuReading
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import PASSED, Facts, Finding, judged, warned
from cutover.domain.preflight.heroku_check import heroku_check
from cutover.domain.texts import listed

#: Before that Heroku renews a managed certificate, where DNS points to it.
RENEWED_BEFORE = timedelta(days=30)
#: States of a managed certificate that will not be renewed as things are.
FAILING = ("failing", "failed")


def judge(plan: Plan, app: HerokuApp, reading: HerokuReading, facts: Facts) -> Finding:  # noqa: ARG001
    """Find certificates of the plan's hosts that end soon, or are not renewed."""
    now = datetime.fromtimestamp(reading.at, UTC)
    if plan.spec.heroku.host_header is HostHeader.PUBLIC and (harm := _refused(plan, app, now)):
        return judged(harm)
    found = []
    for host in plan.spec.traffic.hosts:
        ends = [one.expires for one in app.certificates or () if one.covers(host)]
        failing = any(one.hostname == host.lower() and one.certificate in FAILING for one in app.domains or ())
        if ends and (failing or max(ends) - now < RENEWED_BEFORE):
            found.append(
                f"Heroku's certificate for {host} ends on {max(ends):%Y-%m-%d}"
                + (" and is not being renewed" if failing else "")
                + ": until then DNS can send users back to Heroku, after that only the gateway can"
            )
        elif failing:
            found.append(f"Heroku cannot renew its certificate for {host}: see heroku certs:auto")
    return warned("; ".join(found)) if found else PASSED


def _refused(plan: Plan, app: HerokuApp, now: datetime) -> str:
    """Return for which hosts the gateway would refuse Heroku's certificate; ``""`` if for none, or if that is not known."""
    if app.certificates is None or not all(one.domains for one in app.certificates):
        return ""
    known = {host: [one.expires for one in app.certificates if one.covers(host)] for host in plan.spec.traffic.hosts}
    texts = [
        f"{host} (ended on {max(ends):%Y-%m-%d})" if ends else f"{host} (none is for it)"
        for host, ends in known.items()
        if not any(end > now for end in ends)
    ]
    if not texts:
        return ""
    return (
        f"with hostHeader: Public the gateway asks Heroku by the host and checks its certificate, and {app.name} has none that"
        f" counts for {listed(texts)}: all of its requests would fail; see heroku certs, or use hostHeader: App"
    )


CHECK = heroku_check(
    "heroku-certificate",
    "Heroku's certificates for the hosts are valid for 30 days or more and are renewed: their last day is the last day on"
    " which DNS can send users back; fails with `hostHeader: Public` where none is valid for a host",
    judge,
)
