"""What is asked for beside a plan's loop: when, how often, and what is said of it."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field

import pytest
import structlog

from cutover.ports.errors import Unavailable
from cutover.services import background
from cutover.services.background import BackgroundFact, Fact


@dataclass
class Desk:
    """Answers, when it is told to; and the clock."""

    now: float = 1000.0
    asked: int = 0
    news: int = 0
    answers: list[object] = field(default_factory=list)
    holding: asyncio.Event | None = None

    async def ask(self) -> object:
        self.asked += 1
        if self.holding is not None:
            await self.holding.wait()
        answer = self.answers.pop(0) if self.answers else self.asked
        if isinstance(answer, Exception):
            raise answer
        return answer

    def noted(self) -> None:
        self.news += 1

    def fact(self, **options: object) -> BackgroundFact[object]:
        return BackgroundFact("answer", now=lambda: self.now, news=self.noted, **options)  # type: ignore[arg-type]


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_more_are_asked_for_at_a_time_than_there_are_slots() -> None:
    desk, slots = Desk(holding=asyncio.Event()), asyncio.Semaphore(2)
    facts = [desk.fact(slots=slots) for _ in range(5)]
    for fact in facts:
        fact.keep(desk.ask, math.inf)
    await turns()
    assert desk.asked == 2
    facts[0].stop()  # who asks no more makes way
    await turns()
    assert desk.asked == 3
    assert desk.holding is not None
    desk.holding.set()
    await turns()
    assert desk.asked == 5
    assert [fact.fact.value is not None for fact in facts] == [False, True, True, True, True]


async def test_it_is_asked_for_once_and_kept_for_its_lifetime() -> None:
    desk = Desk()
    fact = desk.fact()
    assert fact.keep(desk.ask, 10.0) == Fact(), "nobody waits for it"
    await turns()
    for passed, asked in ((0.0, 1), (9.0, 1), (10.0, 2), (19.0, 2)):
        desk.now = 1000.0 + passed
        fact.keep(desk.ask, 10.0)
        await turns()
        assert desk.asked == asked
    assert fact.fact.value == 2
    assert fact.fact.at == 1010.0
    assert desk.news == 2
    fact.stop()


async def test_one_request_at_a_time() -> None:
    desk = Desk(holding=asyncio.Event())
    fact = desk.fact()
    for _ in range(3):
        desk.now += 60
        fact.keep(desk.ask, 1.0)
        await turns()
    assert desk.asked == 1
    assert desk.holding is not None
    desk.holding.set()
    await turns()
    assert fact.fact.value == 1
    fact.stop()


@pytest.mark.usefixtures("virtual_time")
async def test_the_next_request_waits_for_no_call() -> None:
    desk = Desk()
    fact = desk.fact()
    fact.keep(desk.ask, 0.02)
    await turns()
    fact.keep(desk.ask, 0.02)
    await asyncio.sleep(0.1)
    assert desk.asked == 2
    fact.stop()


async def test_what_never_gets_stale_is_asked_for_once() -> None:
    desk = Desk()
    fact = desk.fact()
    for _ in range(5):
        desk.now += 3600
        fact.keep(desk.ask, math.inf)
        await turns()
    assert (desk.asked, fact.fact.value) == (1, 1)


async def test_a_failure_says_why_keeps_the_last_answer_and_is_tried_again_ever_later() -> None:
    desk = Desk(answers=["well", *[OSError("refused")] * 20])
    fact = desk.fact()
    fact.keep(desk.ask, 0.0)
    await turns()
    with structlog.testing.capture_logs() as lines:
        pauses, last = [], desk.now
        while len(pauses) < 12:
            desk.now += 0.5
            before = desk.asked
            fact.keep(desk.ask, 0.0)
            await turns()
            if desk.asked > before:
                pauses.append(desk.now - last)
                last = desk.now
    assert pauses[:4] == [0.5, 1.0, 2.0, 4.0]
    assert max(pauses) == background.MOST_BACKOFF_SECONDS
    known = fact.fact
    assert (known.value, known.at, known.problem, known.failures) == ("well", 1000.0, "OSError('refused')", 12)
    assert known.stale(desk.now, 60.0)
    assert {line["fact"] for line in lines} == {"answer"}
    desk.answers.clear()
    desk.now += background.MOST_BACKOFF_SECONDS
    fact.keep(desk.ask, 0.0)
    await turns()
    assert (fact.fact.problem, fact.fact.failures) == ("", 0)
    fact.stop()


async def test_an_outage_is_told_in_its_own_words_and_is_no_fault() -> None:
    desk = Desk(answers=[Unavailable("the API does not answer")])
    fact = desk.fact()
    with structlog.testing.capture_logs() as lines:
        fact.keep(desk.ask, 10.0)
        await turns()
    assert (fact.fact.problem, fact.fact.failures) == ("the API does not answer", 1)
    assert lines == []
    fact.stop()


async def test_it_is_asked_for_once_more_where_somebody_waits_and_how_that_ends_is_news() -> None:
    desk = Desk(answers=["same", "same", Unavailable("away")])
    fact = desk.fact(is_news=lambda before, after: before != after)
    fact.keep(desk.ask, math.inf)
    await turns()
    assert (desk.asked, desk.news) == (1, 1)
    for asked in (2, 3):
        desk.now += 10
        fact.renew(desk.now)
        assert not fact.renewed(desk.now)
        assert fact.keep(desk.ask, math.inf).value == "same", "the answer of before stays until there is another"
        for _ in range(3):
            await turns()
            fact.keep(desk.ask, math.inf)
        assert (desk.asked, desk.news) == (asked, asked)
        assert fact.renewed(desk.now)
    assert fact.fact.problem == "away"
    fact.stop()


async def test_a_request_from_before_somebody_waited_is_not_the_answer() -> None:
    desk = Desk(holding=asyncio.Event())
    fact = desk.fact(is_news=lambda *_: False)
    fact.keep(desk.ask, math.inf)
    await turns()
    desk.now += 10
    fact.renew(desk.now)
    fact.keep(desk.ask, math.inf)
    assert desk.holding is not None
    desk.holding.set()
    await turns()
    assert (desk.asked, desk.news, fact.renewed(desk.now)) == (1, 1, False)
    fact.keep(desk.ask, math.inf)
    await turns()
    assert (desk.asked, desk.news, fact.renewed(desk.now)) == (2, 2, True)
    fact.drop()
    assert fact.renewed(desk.now + 10), "nobody asks, so that nothing is waited for"


async def test_a_failure_of_what_is_asked_for_once_is_tried_again() -> None:
    desk = Desk(answers=[OSError("refused")])
    fact = desk.fact()
    with structlog.testing.capture_logs():
        for _ in range(3):
            fact.keep(desk.ask, math.inf)
            await turns()
            desk.now += 1.0
    assert (desk.asked, fact.fact.value) == (2, 2)


async def test_an_answer_to_a_question_from_before_a_sleep_is_dropped() -> None:
    desk = Desk(holding=asyncio.Event())
    fact = desk.fact(patience=60.0)
    fact.keep(desk.ask, 10.0)
    await turns()
    desk.now += 61
    assert desk.holding is not None
    desk.holding.set()
    await turns()
    assert (fact.fact.value, desk.news) == (None, 0)
    fact.keep(desk.ask, 10.0)
    await turns()
    assert fact.fact.value == 2
    fact.stop()


@pytest.mark.parametrize("by", [-3600.0, 3600.0])
async def test_a_clock_that_is_set_stops_nothing(by: float) -> None:
    desk = Desk()
    fact = desk.fact()
    fact.keep(desk.ask, 10.0)
    await turns()
    desk.now += by
    fact.keep(desk.ask, 10.0)
    await turns()
    assert desk.asked == 2
    assert not fact.fact.stale(desk.now, 10.0)
    fact.stop()


async def test_only_news_is_told() -> None:
    desk = Desk(answers=["well", "well", "ill"])
    fact = desk.fact(is_news=lambda before, after: before != after)
    for news in (1, 1, 2):
        fact.keep(desk.ask, 1.0)
        await turns()
        assert desk.news == news
        desk.now += 1
    fact.stop()


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("under_way", [False, True])
async def test_what_is_not_wanted_any_more_is_neither_known_nor_asked_for(under_way: bool) -> None:
    desk = Desk(holding=asyncio.Event())
    assert desk.holding is not None
    fact = desk.fact()
    fact.keep(desk.ask, 0.01)
    await turns()
    if not under_way:
        desk.holding.set()
        await turns()
        fact.keep(desk.ask, 0.01)
    fact.drop()
    desk.holding.set()
    await asyncio.sleep(0.05)
    assert (fact.fact, desk.asked) == (Fact(), 1)
    desk.now += 1
    fact.keep(desk.ask, math.inf)
    await turns()
    assert fact.fact.value == 2
