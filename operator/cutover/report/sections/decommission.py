"""The decommission checklist: that of the status, or what is known without Heroku's API while there is none."""

from __future__ import annotations

from cutover.api.v1alpha1 import Phase
from cutover.domain.decommission import checklist
from cutover.report.page import Block, Prose, Section, Table
from cutover.report.record import Record

#: Phases in which the end is near enough to plan for it.
_NEAR = (Phase.SOAKING, Phase.COMPLETED)


def decommission(record: Record) -> Section:
    """Return the section."""
    plan, blocks = record.plan, list[Block]()
    if plan.status.phase is not Phase.COMPLETED:
        blocks.append(Prose("The migration is not completed. Switch nothing off on Heroku yet: it is the way back."))
    if plan.status.phase in _NEAR:
        items = plan.status.decommission or checklist(plan, None, (), None)
        rows = tuple((item.item, item.state, item.message) for item in items)
        blocks.append(
            Table("In the order in which to do it", ("What", "State", "What is there, and what to do"), rows)
        )
    return Section("Decommission checklist", tuple(blocks))
