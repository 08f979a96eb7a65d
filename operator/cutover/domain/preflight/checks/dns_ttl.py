"""Check ``dns-ttl``: users come through the gateway, and a change of DNS reaches them soon."""

from __future__ import annotations

from collections.abc import Iterator

from cutover.domain.dns import HostRecord
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import PASSED, Check, Facts, Finding, warned

#: Seconds for which a record may be kept: the way back by DNS takes so long.
MOST_SECONDS = 300


def judge(plan: Plan, facts: Facts) -> Finding:  # noqa: ARG001
    """Judge the records of the hosts, as far as there are answers."""
    found = "; ".join(text for record in facts.dns for text in _found(record))
    return warned(found) if found else PASSED


def _found(record: HostRecord) -> Iterator[str]:
    if target := record.at_heroku:
        yield (
            f"DNS leads {record.host} to {target}, so that its users do not come through the gateway, and no step moves them:"
            " point it at the gateway, where all requests go to Heroku until the first step"
        )
    if record.ttl is not None and record.ttl > MOST_SECONDS:
        yield (
            f"the DNS TTL of {record.host} is {record.ttl} s or more: for so long after a change users go to the old address;"
            " lower it to 60 s before you change the record"
        )


CHECK = Check(
    name="dns-ttl",
    passes_when="as far as the operator's resolver answers: no host leads to Heroku's router by DNS, past the gateway, and"
    " none may be kept for more than 300 s ([why](audits.md#dns-ttl))",
    judge=judge,
    advisory=True,
)
