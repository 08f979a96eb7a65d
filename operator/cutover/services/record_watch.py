"""Watches Heroku's record beside a plan's loop, and has it kept shortly before the takeover."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from cutover.domain.baseline.record import HOUR, KeptRecord, RecordReading
from cutover.domain.engine.wanted import keeping_wanted
from cutover.domain.plan import Plan
from cutover.ports.all import Ports
from cutover.ports.records import RecordQuestion
from cutover.scale.turns import spread_part
from cutover.services.background import BackgroundFact

#: Seconds after a whole hour in which the plans that wait for their record ask how far it reaches by now.
SETTLE_SECONDS, SPREAD_SECONDS = 120.0, 600.0


class RecordWatch:
    """What is known of Heroku's record of one plan.

    Parameters
    ----------
    ports
        The outside world.
    now
        Returns Unix seconds.
    news
        Called when the record, or whether it is kept, changed.
    """

    def __init__(self, ports: Ports, *, now: Callable[[], float], news: Callable[[], None]) -> None:
        self._ports = ports
        self._fact: BackgroundFact[tuple[RecordQuestion, RecordReading]] = BackgroundFact(
            "Heroku's record", now=now, news=news
        )
        self._keeping: BackgroundFact[str] = BackgroundFact("keeping Heroku's record", now=now, news=news)
        self._asked: RecordQuestion | None = None

    def stop(self) -> None:
        """Stop the background requests."""
        self._fact.stop()
        self._keeping.stop()

    def reading(self, plan: Plan) -> RecordReading | None:
        """Return what is known of Heroku's record, where the plan asks for one. It is asked for once an hour."""
        records = self._ports.records
        question = records.question(plan) if records is not None else None
        if records is None or question is None or isinstance(question, str):
            self._fact.drop()
            return RecordReading(impossible=question) if isinstance(question, str) else None
        known = self._fact.fact.value
        if question != self._asked and not (known is not None and _answered(question, known)):
            self._fact.drop()
            self._keeping.drop()
            known = None
        self._asked = question

        async def read() -> tuple[RecordQuestion, RecordReading]:
            return question, await records.read(plan, question, known[1] if known is not None else None)

        # What is kept is not read again: it is the record from which users are moved.
        lifetime = math.inf if self._keeping.fact.value is not None or question.until is not None else 0.0
        if known is not None and math.isfinite(lifetime):
            asked_at = self._fact.fact.at
            following = (math.floor(asked_at / HOUR) + 1) * HOUR + SETTLE_SECONDS
            lifetime = following + SPREAD_SECONDS * spread_part(plan.uid) - asked_at
        fact = self._fact.keep(read, lifetime)
        return replace(fact.value[1] if fact.value is not None else RecordReading(), problem=fact.problem)

    def kept(self, plan: Plan, reading: RecordReading | None) -> KeptRecord | None:
        """Return whether the record is kept in full, and keep it shortly before the takeover."""
        records, record = self._ports.records, reading.record if reading is not None else None
        if records is None or record is None or not keeping_wanted(plan.status):
            if plan.status.weight is not None:
                self._keeping.drop()
            return None
        fact = self._keeping.keep(lambda: records.keep(plan, record), math.inf)
        return KeptRecord(fact.value or "", fact.problem) if fact.value is not None or fact.problem else None


def _answered(question: RecordQuestion, known: tuple[RecordQuestion, RecordReading]) -> bool:
    """Tell whether a record that was read before the takeover is the one that is asked for after it."""
    asked, reading = known
    same = replace(asked, least=question.least, until=question.until) == question
    return same and reading.record is not None and reading.record.reach.until == question.until
