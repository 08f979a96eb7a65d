"""Records of migrations, for reports: played by the world of the engine's tests, or made from whatever is given."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

from tests.kit.builders import UID, plan
from tests.kit.states import checked_world, judging_world
from tests.kit.world import START as START
from tests.kit.world import Leg, World

from cutover.api.v1alpha1 import LedgerEntry, MigrationPlanStatus, Phase
from cutover.domain.traffic import Leg as LegName
from cutover.report.history import Figures, History, Line, Measure
from cutover.report.record import Record
from cutover.report.sections.summary import axis
from cutover.report.spans import spans
from cutover.report.stages import stages

#: When the reports are made: a minute after what the worlds play.
AT = datetime(2027, 1, 11, 10, 30, tzinfo=UTC)


def record_of(status: MigrationPlanStatus, at: datetime = AT, **spec: Any) -> Record:
    """Return the record of a plan with a status."""
    return Record(plan(uid=UID, status=status, **spec), at)


@cache
def completed() -> Record:
    """Return the record of a migration that went well."""
    return _of(checked_world(soak="5m").until_phase(Phase.COMPLETED))


@cache
def rolled_back() -> Record:
    """Return the record of a migration that came back from 25 %, as EKS failed."""
    w = judging_world(25)
    w.eks = Leg(errors=0.2)
    return _of(w.until_phase(Phase.ROLLED_BACK))


def _of(world: World) -> Record:
    return Record(
        replace(plan(uid=UID, status=MigrationPlanStatus.model_validate(world.status.to_wire())), spec=world.spec), AT
    )


def with_lines(record: Record) -> Record:
    """Return a record with a history: a value each 5 s for each measure and leg, and figures for each span."""
    scale = axis(stages(record))
    assert scale is not None
    times = [scale.since + 5.0 * number for number in range(int((scale.until - scale.since) // 5))]
    levels = {Measure.RATE: 40.0, Measure.ERRORS: 0.002, Measure.P95: 180.0}
    lines = {
        measure: tuple(
            Line(
                leg,
                tuple((at, level * (1 + 0.1 * (int(at) % 3)) * (1 if leg is LegName.HEROKU else 0.8)) for at in times),
            )
            for leg in LegName
        )
        for measure, level in levels.items()
    }
    figures = tuple((one, Figures(1000.0, 0.002, 40.0, 180.0, 420.0)) for one in spans(record))
    throttled = tuple((at, 0.02) for at in times)
    return replace(record, history=History(lines, figures, throttled))


def entry(decision: str, *, at: datetime = AT, **fields: Any) -> LedgerEntry:
    """Return a decision, with weights that do not move unless they are given."""
    known: dict[str, Any] = {"attempt": 1, "from_weight": 0, "to_weight": 0, "reason": "Because"}
    return LedgerEntry(at=at, decision=decision, **{**known, **fields})
