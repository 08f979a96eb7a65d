"""What people are told of a ledger: once while nothing breaks, never not at all, in order, by whom it is wanted."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given, settings
from hypothesis import strategies as st

import cutover.domain
from cutover.adapters.notify.cloudevents import CloudEventsFormat, cloud_event
from cutover.adapters.notify.slack import LONGEST_TEXT, SHOWN, SlackFormat, slack_escape
from cutover.adapters.notify.transport import Answer, answer_of
from cutover.api.v1alpha1 import (
    LEDGER_LENGTH,
    GateCounts,
    GateNumbers,
    GateRatios,
    LedgerEntry,
    LegCounts,
    MigrationPlanStatus,
)
from cutover.domain.holds import ALARMING, HoldReason
from cutover.domain.journal.notifications import (
    CRITICAL_HOLDS,
    DECISIONS,
    DEFAULT_TEMPLATE,
    PLACEHOLDERS,
    MessageTemplateError,
    Notice,
    Severity,
    Wanted,
    check_template,
    fill,
    key_of,
    severity_of,
)
from cutover.domain.journal.outbox import (
    LONGEST_DIGEST,
    LONGEST_REST_SECONDS,
    LONGEST_RETRY_SECONDS,
    PATIENCE_SECONDS,
    Batch,
    Cause,
    Outbox,
    Throttle,
)
from cutover.domain.journal.reports import ReportLinks, report_name
from cutover.settings import ContentMode, Receiver, SettingsError, read_receivers, read_settings

START = datetime(2027, 1, 11, 10, tzinfo=UTC)
ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "cutover"
GATES = (
    GateNumbers(
        name="errors",
        verdict="Fail",
        counts=GateCounts(heroku=LegCounts(1, 1000), eks=LegCounts(29, 1000)),
        ratios=GateRatios(heroku=0.001, eks=0.029),
    ),
)


def entry(second: float = 0, decision: str = "Advance", reason: str = "EvidenceOfSafety", **more: Any) -> LedgerEntry:
    values = {"attempt": 1, "from_weight": 10, "to_weight": 25, "message": f"because of {second}", **more}
    return LedgerEntry(at=START + timedelta(seconds=second), decision=decision, reason=reason, **values)


def notice(*args: Any, plan: str = "pdf", **more: Any) -> Notice:
    return Notice(f"uid-{plan}", "docs", plan, entry(*args, **more))


def status(*entries: LedgerEntry) -> MigrationPlanStatus:
    return MigrationPlanStatus(ledger=entries)


def tell(
    outbox: Outbox, *entries: LedgerEntry, told: str | None = "", now: float = 0, plan: str = "pdf", ns: str = "docs"
) -> None:
    outbox.tell(f"uid-{plan}", ns, plan, status(*entries), told, now)


def sending(outbox: Outbox, now: float) -> Batch:
    batch = outbox.next(now)
    assert isinstance(batch, Batch)
    return batch


def deliver(outbox: Outbox, now: float = 0) -> list[str]:
    """Send all, waiting as long as it takes; return what was told, in order."""
    found: list[str] = []
    while (step := outbox.next(now)) is not None:
        if isinstance(step, Batch):
            found += [one.entry.message for one in step.notices]
            outbox.taken(step, now)
        else:
            now += step
    return found


# ------------------------------------------------------------------------------------------------------------- severity


def _decisions() -> set[str]:
    """Return all decisions that the core writes into a ledger."""
    found = set()
    for file in Path(cutover.domain.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "note":
                named = [word.value for word in node.keywords if word.arg == "decision"] + node.args[1:2]
                found |= {one.value for one in named if isinstance(one, ast.Constant)}
    return found


def test_every_decision_of_the_core_has_a_severity() -> None:
    assert _decisions() >= {"TakeOver", "Advance", "RollBack", "Hold", "Repair", "Gates", "Complete"}
    assert _decisions() <= {*DECISIONS, "Hold"}


@pytest.mark.parametrize("reason", HoldReason)
def test_every_hold_has_a_severity(reason: HoldReason) -> None:
    assert (severity_of("Hold", reason) is not Severity.INFO) == (reason in ALARMING)
    assert (severity_of("Hold", reason) is Severity.CRITICAL) == (reason in CRITICAL_HOLDS)
    # A rollback for the same reason is what mends it.
    assert severity_of("RollBack", reason) is Severity.WARNING


def test_what_is_critical_is_an_alarm() -> None:
    assert CRITICAL_HOLDS < ALARMING


def test_gates_are_told_with_their_numbers() -> None:
    assert fill("{{ gates }}", notice(gates=GATES)).startswith("errors: EKS 2.9 % vs Heroku 0.1 %")
    data = wire(cloud_event(notice(gates=GATES), {}))["data"]
    assert data["gates"][0]["counts"]["eks"] == {"bad": 29, "total": 1000}


@pytest.mark.parametrize(("decision", "reason"), [("Hold", "SomethingNew"), ("SomethingNew", "Why")])
def test_what_is_not_known_is_not_silenced(decision: str, reason: str) -> None:
    assert severity_of(decision, reason) is Severity.WARNING


# ----------------------------------------------------------------------------------------------------------- identifiers


def test_the_key_does_not_change_with_what_the_ledger_cuts() -> None:
    whole = entry(1.7, gates=GATES, queries=("a: b",))
    stored = LedgerEntry.model_validate(whole.to_wire())
    cut = stored.model_copy(update={"gates": (), "queries": (), "message": "be…"})
    assert key_of(whole) == key_of(stored) == key_of(cut) == "a1/2027-01-11T10:00:01Z/Advance/EvidenceOfSafety"


@pytest.mark.parametrize(
    "other",
    [entry(1), entry(0, "Hold"), entry(0, reason="Ceiling"), entry(0, attempt=2)],
    ids=["at", "what", "why", "a2"],
)
def test_different_decisions_have_different_identifiers(other: LedgerEntry) -> None:
    assert key_of(other) != key_of(entry())
    assert Notice("u1", "docs", "pdf", entry()).id != Notice("u2", "docs", "pdf", entry()).id


# -------------------------------------------------------------------------------------------------------- who is told what


@pytest.mark.parametrize(
    ("wanted", "namespace", "line", "told"),
    [
        (Wanted(), "docs", entry(), True),
        (Wanted(namespaces=("pay-*",)), "docs", entry(), False),
        (Wanted(namespaces=("pay-*", "do?s")), "docs", entry(), True),
        (Wanted(severities=(Severity.WARNING,)), "docs", entry(), False),
        (Wanted(severities=(Severity.WARNING,)), "docs", entry(0, "RollBack"), True),
        (Wanted(severities=(Severity.WARNING,)), "docs", entry(0, "Hold", "Breach"), False),
        (Wanted(severities=(Severity.WARNING, Severity.CRITICAL)), "docs", entry(0, "Hold", "Breach"), True),
        (Wanted(reasons=("RollBack",)), "docs", entry(0, "RollBack"), True),
        (Wanted(reasons=("Awaiting*",)), "docs", entry(0, "Hold", "AwaitingApproval"), True),
        (Wanted(reasons=("awaiting*",)), "docs", entry(0, "Hold", "AwaitingApproval"), False),
        (Wanted(reasons=("Ceiling",), severities=(Severity.CRITICAL,)), "docs", entry(0, "Hold", "Ceiling"), False),
    ],
)
def test_who_wants_what(wanted: Wanted, namespace: str, line: LedgerEntry, told: bool) -> None:
    outbox = Outbox(wanted)
    tell(outbox, line, ns=namespace)
    assert outbox.waiting == told


def test_a_plan_of_another_namespace_leaves_no_trace() -> None:
    outbox = Outbox(Wanted(namespaces=("payments",)))
    tell(outbox, entry())
    assert outbox.told("uid-pdf") is None
    assert outbox.owed_since("uid-pdf", None) is None


# --------------------------------------------------------------------------------------------------------- once, in order


def test_each_entry_is_told_once_however_often_the_ledger_is_seen() -> None:
    outbox, seen = Outbox(), [entry(0)]
    tell(outbox, *seen)
    tell(outbox, *seen)
    batch = sending(outbox, 0)
    seen.append(entry(1))
    tell(outbox, *seen)
    outbox.taken(batch, 0)
    tell(outbox, *seen)
    assert [one.entry.message for one in batch.notices] == ["because of 0"]
    assert deliver(outbox) == ["because of 1"]
    tell(outbox, *seen)
    assert outbox.next(0) is None
    assert outbox.sent == 2


def test_what_was_there_before_the_receiver_is_history() -> None:
    outbox = Outbox()
    tell(outbox, entry(0), entry(1), told=None)
    assert outbox.next(0) is None
    assert outbox.told("uid-pdf") == key_of(entry(1))
    tell(outbox, entry(0), entry(1), entry(2), told=None)
    assert deliver(outbox) == ["because of 2"]


def test_a_restart_goes_on_where_it_was() -> None:
    lines = [entry(second) for second in range(4)]
    outbox = Outbox()
    tell(outbox, *lines, told=key_of(lines[1]))
    assert deliver(outbox) == ["because of 2", "because of 3"]


def test_a_ledger_that_has_lost_what_was_told_is_all_new() -> None:
    outbox = Outbox()
    tell(outbox, entry(5), entry(6), told=key_of(entry(0)))
    assert deliver(outbox) == ["because of 5", "because of 6"]


def test_a_status_that_somebody_emptied_does_no_harm() -> None:
    outbox = Outbox()
    tell(outbox, entry(0), entry(1))
    tell(outbox)
    tell(outbox, entry(0))
    tell(outbox, entry(0), entry(7))
    assert deliver(outbox) == ["because of 0", "because of 1", "because of 7"]
    assert outbox.told("uid-pdf") == key_of(entry(7))


def test_a_clock_that_was_set_back_does_no_harm() -> None:
    outbox = Outbox()
    tell(outbox, entry(3600), entry(0), entry(1))
    assert deliver(outbox) == ["because of 3600", "because of 0", "because of 1"]
    assert outbox.told("uid-pdf") == key_of(entry(1))


def test_what_nobody_wants_is_passed_over_and_asks_for_no_write() -> None:
    outbox = Outbox(Wanted(severities=(Severity.WARNING,)))
    tell(outbox, entry(0), entry(1))
    assert outbox.told("uid-pdf") == key_of(entry(1))
    assert outbox.owed_since("uid-pdf", "") is None


def test_what_was_told_is_owed_until_the_status_remembers_it() -> None:
    outbox = Outbox()
    tell(outbox, entry(0), entry(1))
    assert outbox.owed_since("uid-pdf", "") is None
    for now in (5.0, 6.0):
        outbox.taken(sending(outbox, now), now)
    assert outbox.owed_since("uid-pdf", "") == 5.0
    assert outbox.owed_since("uid-pdf", outbox.told("uid-pdf")) is None
    # Something else is no reason to write again.
    assert outbox.owed_since("uid-pdf", "") is None


def test_a_plan_that_is_gone_is_forgotten_once_all_is_told() -> None:
    outbox = Outbox()
    tell(outbox, entry(0))
    outbox.forget("uid-pdf")
    assert deliver(outbox) == ["because of 0"]
    assert outbox.told("uid-pdf") is None
    outbox.forget("uid-pdf")


@dataclass
class OutboxRig:
    """Plans' ledgers in an API server, a process that can be killed anywhere, and a receiver."""

    wanted: Wanted
    digests: bool
    stored: dict[str, tuple[list[LedgerEntry], str | None]] = field(default_factory=dict)
    ledgers: dict[str, list[LedgerEntry]] = field(default_factory=dict)
    got: list[str] = field(default_factory=list)
    doubtful: set[str] = field(default_factory=set)
    now: float = 0.0
    second: int = 0

    def __post_init__(self) -> None:
        self.outbox = self.fresh()

    def fresh(self) -> Outbox:
        return Outbox(self.wanted, Throttle(2, 5.0), digests=self.digests)

    def plan(self, name: str) -> None:
        """Make the plan's first reconcile, which is a write without a decision."""
        if name not in self.stored:
            self.ledgers[name] = []
            self.stored[name] = ([], None)
            self.tell(name)
            self.write(name)

    def tell(self, name: str) -> None:
        lines, told = self.stored[name]
        self.outbox.tell(name, "docs", name, status(*lines), told, self.now)

    def write(self, name: str) -> None:
        self.stored[name] = (self.ledgers[name][-LEDGER_LENGTH:], self.outbox.told(name))
        self.outbox.owed_since(name, self.outbox.told(name))

    def decide(self, name: str, decision: str, reason: str, same_second: bool) -> None:
        self.plan(name)
        self.second += not same_second
        line = entry(self.second, decision, reason, message=f"{name} {len(self.ledgers[name])}")
        if key_of(line) in map(key_of, self.ledgers[name]):
            return
        self.ledgers[name].append(line)
        self.write(name)
        self.tell(name)

    def send(self, outcome: str) -> bool:
        """Send or wait; return whether there was something to do."""
        step = self.outbox.next(self.now)
        if isinstance(step, float):
            self.now += step
        elif step is not None:
            ids = [one.id for one in step.notices]
            if outcome in ("ok", "answer lost"):
                self.got += ids
            if outcome == "answer lost":
                self.doubtful |= set(ids)
            if outcome == "ok":
                self.outbox.taken(step, self.now)
            else:
                self.outbox.later(self.now, 0.5)
        return step is not None

    def crash(self) -> None:
        """Lose what is in memory; what the stored statuses do not remember is in doubt."""
        for name, (lines, told) in self.stored.items():
            keys = [key_of(line) for line in lines]
            after = keys[keys.index(told) + 1 :] if told in keys else keys
            self.doubtful |= {f"{name}/{key}" for key in after}
        self.outbox = self.fresh()
        for name in self.stored:
            self.tell(name)

    def drain(self) -> None:
        while self.send("ok"):
            pass


_NAMES = st.sampled_from(["pdf", "search"])
_STEPS = st.one_of(
    st.tuples(
        st.just("decide"),
        _NAMES,
        st.sampled_from(["Advance", "RollBack", "Hold", "Repair"]),
        st.sampled_from(["Suspended", "Breach", "QueryError"]),
        st.booleans(),
    ),
    st.tuples(st.just("send"), st.sampled_from(["ok", "fails", "answer lost"])),
    st.tuples(st.just("crash")),
    st.tuples(st.just("write"), _NAMES),
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(_STEPS, max_size=29),
    st.booleans(),
    st.sampled_from([Wanted(), Wanted(severities=(Severity.WARNING, Severity.CRITICAL)), Wanted(reasons=("Hold",))]),
)
def test_all_is_told_in_order_and_only_what_a_crash_left_in_doubt_is_repeated(
    steps: list[tuple[Any, ...]], digests: bool, wanted: Wanted
) -> None:
    world = OutboxRig(wanted, digests)
    for name, *arguments in steps:
        if name == "write":
            world.plan(arguments[0])
        getattr(world, name)(*arguments)
    world.drain()
    for name, ledger in world.ledgers.items():
        meant = [f"{name}/{key_of(line)}" for line in ledger if wanted.entry(line)]
        got = [one for one in world.got if one.startswith(f"{name}/")]
        assert list(dict.fromkeys(got)) == meant, "none is lost, and each is first told in its turn"
        repeated = {one for one, count in Counter(got).items() if count > 1}
        assert repeated <= world.doubtful
        told = world.outbox.told(name)
        assert told == (key_of(ledger[-1]) if ledger else "")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(_NAMES, st.sampled_from(sorted(Severity))), max_size=60),
    st.integers(1, 12),
    st.data(),
)
def test_memory_is_bounded_and_every_notice_is_accounted_for(
    lines: list[tuple[str, Severity]], longest: int, data: st.DataObject
) -> None:
    """Oldest info first, then warnings; nothing under way is dropped, nothing is in limbo."""
    outbox = Outbox(throttle=Throttle(3, 1.0), longest=longest)
    make = {
        Severity.INFO: ("Advance", "x"),
        Severity.WARNING: ("RollBack", "x"),
        Severity.CRITICAL: ("Hold", "Breach"),
    }
    ledgers: dict[str, list[LedgerEntry]] = {"pdf": [], "search": []}
    now, batch, told, lost = 0.0, None, 0, 0
    for second, (name, severity) in enumerate(lines):
        ledgers[name].append(entry(second, *make[severity]))
        tell(outbox, *ledgers[name], plan=name, now=now)
        assert outbox.waiting <= max(longest, len(batch.notices) if batch else 0)
        now += 0.3
        if batch is not None and data.draw(st.booleans()):
            told, lost = told + len(batch.notices), lost + sum(batch.lost.values())
            outbox.taken(batch, now)
            batch = None
        elif batch is None and isinstance(step := outbox.next(now), Batch):
            batch = step
    if batch is not None:
        outbox.taken(batch, now)
        told, lost = told + len(batch.notices), lost + sum(batch.lost.values())
    while (step := outbox.next(now)) is not None:
        if isinstance(step, Batch):
            told, lost = told + len(step.notices), lost + sum(step.lost.values())
            outbox.taken(step, now)
        else:
            now += step
    dropped = outbox.dropped[Cause.FULL]
    assert (outbox.sent, told) == (told, len(lines) - dropped)
    assert lost + outbox._lost.total() == dropped, "what is dropped is said with the next one, once"
    for name, ledger in ledgers.items():
        assert outbox.told(f"uid-{name}") == (key_of(ledger[-1]) if ledger else None)


def test_what_matters_least_goes_first() -> None:
    outbox = Outbox(longest=3)
    lines = [entry(0, "RollBack"), entry(1), entry(2, "Hold", "Breach"), entry(3), entry(4, "Hold", "Breach")]
    tell(outbox, *lines)
    assert outbox.dropped == {Cause.FULL: 2}
    batch = sending(outbox, 0)
    assert batch.lost == {Severity.INFO: 2}
    outbox.taken(batch, 0)
    assert sending(outbox, 0).lost == {}, "it is said once"


def test_what_is_under_way_is_not_dropped() -> None:
    outbox = Outbox(longest=2)
    lines = [entry(0), entry(1, "RollBack"), entry(2, "RollBack")]
    tell(outbox, *lines[:2])
    batch = sending(outbox, 0)
    tell(outbox, *lines)
    outbox.taken(batch, 0)
    assert sending(outbox, 0).lost == {Severity.WARNING: 1}


def test_a_failed_message_says_it_again() -> None:
    outbox = Outbox(longest=1)
    tell(outbox, entry(0), entry(1))
    assert sending(outbox, 0).lost == {Severity.INFO: 1}
    outbox.later(0, 0.0)
    assert sending(outbox, 1).lost == {Severity.INFO: 1}


# --------------------------------------------------------------------------------------------------------------- throttle


def test_a_burst_is_told_one_by_one_and_more_in_one_message() -> None:
    few, many = Outbox(throttle=Throttle(3, 10)), Outbox(throttle=Throttle(3, 10))
    tell(few, *map(entry, range(3)))
    for _ in range(3):
        batch = sending(few, 0)
        assert len(batch.notices) == 1
        few.taken(batch, 0)
    tell(few, *map(entry, range(5)))
    assert few.next(0) == pytest.approx(10)
    assert few.next(4) == pytest.approx(6)
    assert len(sending(few, 10).notices) == 2
    tell(many, *map(entry, range(17)))
    assert len(sending(many, 0).notices) == 17


def test_programs_get_each_event_at_the_same_pace() -> None:
    outbox = Outbox(throttle=Throttle(2, 10), digests=False)
    tell(outbox, *map(entry, range(4)))
    times = []
    now = 0.0
    while (step := outbox.next(now)) is not None:
        if isinstance(step, float):
            now += step
            continue
        assert len(step.notices) == 1
        times.append(round(now))
        outbox.taken(step, now)
    assert times == [0, 0, 10, 20]


def test_a_digest_is_bounded() -> None:
    outbox = Outbox()
    tell(outbox, *map(entry, range(LONGEST_DIGEST + 20)))
    assert len(sending(outbox, 0).notices) == LONGEST_DIGEST


# ---------------------------------------------------------------------------------------------------------------- retries


def test_pauses_double_up_to_five_minutes() -> None:
    outbox, now, pauses = Outbox(throttle=Throttle(1000, 0.1)), 0.0, []
    tell(outbox, entry())
    for _ in range(12):
        assert isinstance(outbox.next(now), Batch)
        outbox.later(now, 1.0)
        wait = outbox.next(now)
        assert isinstance(wait, float)
        pauses.append(round(wait))
        now += wait
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    assert outbox.failures == 12
    outbox.taken(sending(outbox, now), now)
    tell(outbox, entry(), entry(1))
    sending(outbox, now)
    outbox.later(now, 1.0)
    assert outbox.next(now) == pytest.approx(1), "it starts anew"


def test_a_failure_long_ago_does_not_overflow() -> None:
    outbox = Outbox(throttle=Throttle(1, 0.1))
    tell(outbox, entry())
    for attempt in range(1100):
        outbox.later(float(attempt), 1.0)
    assert outbox.next(1100.0) == pytest.approx(LONGEST_RETRY_SECONDS - 1)


@pytest.mark.parametrize(("rest", "wait"), [(None, 1), (0.0, 1), (30.0, 30), (1e9, LONGEST_REST_SECONDS)])
def test_a_receiver_that_wants_rest_gets_it(rest: float | None, wait: float) -> None:
    outbox = Outbox()
    tell(outbox, entry())
    sending(outbox, 0)
    outbox.later(0, 1.0, rest)
    assert outbox.next(0) == pytest.approx(wait)


def test_what_is_refused_is_not_sent_again_and_is_counted() -> None:
    outbox = Outbox()
    tell(outbox, entry(0), entry(1))
    sending(outbox, 0)
    outbox.refused(0)
    assert outbox.dropped == {Cause.REFUSED: 1}
    assert deliver(outbox) == ["because of 1"]
    assert outbox.told("uid-pdf") == key_of(entry(1))


def test_after_a_night_it_is_given_up_and_said() -> None:
    outbox = Outbox()
    tell(outbox, entry(0), now=0)
    tell(outbox, entry(0), entry(1), now=100)
    batch = sending(outbox, PATIENCE_SECONDS + 1)
    assert (len(batch.notices), batch.lost) == (1, {Severity.INFO: 1})
    assert outbox.dropped == {Cause.EXPIRED: 1}


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        *((code, Answer.TAKEN) for code in (200, 201, 202, 204)),
        *((code, Answer.LATER) for code in (408, 429, 500, 502, 503, 504, 599)),
        *((code, Answer.REFUSED) for code in (301, 302, 307, 308, 400, 401, 403, 404, 410, 413, 415)),
    ],
)
def test_what_answers_mean(code: int, answer: Answer) -> None:
    assert answer_of(code) is answer


# ------------------------------------------------------------------------------------------------------------- the message


def slack(batch: Batch, template: str) -> bytes:
    message = SlackFormat(template).write(batch)
    assert message.headers == {"Content-Type": "application/json; charset=utf-8"}
    return message.body


def text(body: bytes) -> str:
    found = json.loads(body)
    assert (found["unfurl_links"], found["unfurl_media"]) == (False, False), "nothing is fetched for a preview"
    return str(found["text"])


def test_a_message_as_people_see_it() -> None:
    told = text(slack(Batch((notice(0, message="errors: EKS 2.9 % vs Heroku 1.0 %"),)), DEFAULT_TEMPLATE))
    assert told == (
        "*info* docs/pdf: Advance, EvidenceOfSafety (10 % → 25 %, attempt 1)\nerrors: EKS 2.9 % vs Heroku 1.0 %"
    )


def test_many_are_told_by_those_that_matter() -> None:
    lines = [notice(second) for second in range(10)]
    lines[2], lines[7] = notice(2, "Hold", "Breach"), notice(7, "RollBack")
    told = text(slack(Batch(tuple(lines), {Severity.INFO: 3, Severity.WARNING: 1}), "{{ message }}"))
    assert told.splitlines() == [
        *(f"because of {second}" for second in (0, 1, 2, 3, 7)),
        "and 5 more (5 info); see the plans' ledgers",
        "4 older ones were not told (1 warning, 3 info)",
    ]
    assert len(told.splitlines()) == SHOWN + 2


def test_a_long_message_is_cut() -> None:
    huge = tuple(notice(second, message="x" * 10_000) for second in range(20))
    assert len(text(slack(Batch(huge), DEFAULT_TEMPLATE))) < LONGEST_TEXT + 100


@settings(deadline=None)
@given(st.text(max_size=50))
def test_no_value_is_anything_but_text(value: str) -> None:
    """Neither a mention, nor a link, nor a placeholder of its own."""
    hostile = f"<!channel> {{{{ id }}}} {value}"
    filled = fill("<@U1> {{ message }}", notice(message=hostile), slack_escape)
    assert filled == f"<@U1> {slack_escape(hostile)}".rstrip("\n")
    assert not set("<>") & set(filled.removeprefix("<@U1> "))
    assert text(slack(Batch((notice(message=hostile),)), "{{ message }}")) == slack_escape(hostile).rstrip("\n")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("see https://evil.example/login", "see https[:]//evil.example/login"),
        ("[sign in](http://evil.example)", "[sign in](http[:]//evil.example)"),
        ("@channel @here and @all", "(at)channel (at)here and (at)all"),
        ("x.@channel -@here +@all", "x.(at)channel -(at)here +(at)all"),
        ("(@everyone)", "((at)everyone)"),
        ("by jane@example.com", "by jane@example.com"),
        ("<https://evil.example|Approve>", "&lt;https[:]//evil.example|Approve&gt;"),
    ],
)
def test_links_and_mentions_in_texts_of_others_are_dead(value: str, shown: str) -> None:
    assert text(slack(Batch((notice(message=value),)), "{{ message }}")) == shown
    # The team's own template keeps its own.
    template = "<@U1> https://runbooks.example/ {{ message }}"
    assert text(slack(Batch((notice(message="x"),)), template)) == "<@U1> https://runbooks.example/ x"


def test_a_decision_that_ends_a_plan_names_its_report_where_reports_are_kept() -> None:
    ending = entry(decision="Complete", reason="SoakOver")
    name = report_name("uid-pdf", "pdf", ending)
    page = f"https://reports.example/x/docs/{name}.html"
    for links, wanted in (
        (ReportLinks(), ("", "")),
        (ReportLinks(config_maps=True), (name, "")),
        (ReportLinks(url="https://reports.example/x"), ("", page)),
        (ReportLinks(config_maps=True, url="https://reports.example/x"), (name, page)),
    ):
        outbox = Outbox(reports=links)
        tell(outbox, ending)
        (told,) = sending(outbox, 0).notices
        assert (told.report, told.report_url) == wanted
        outbox = Outbox(reports=links)
        tell(outbox, entry())
        (other,) = sending(outbox, 0).notices
        assert (other.report, other.report_url) == ("", "")
    named = replace(notice(decision="Complete"), report="cutover-pdf-report-a1-0123456789")
    assert text(slack(Batch((named,)), DEFAULT_TEMPLATE)).endswith(
        "\nReport: ConfigMap cutover-pdf-report-a1-0123456789"
    )
    assert text(slack(Batch((notice(),)), DEFAULT_TEMPLATE)).endswith("because of 0")
    data = wire(cloud_event(named, {}))["data"]
    assert data["report"] == {"kind": "ConfigMap", "namespace": "docs", "name": named.report}
    assert not {"report", "reportUrl"} & wire(cloud_event(notice(), {}))["data"].keys()


def test_the_link_to_a_report_works_though_links_of_others_are_dead() -> None:
    page = "https://reports.example/docs/cutover-pdf-report-a1-0123456789.html"
    named = replace(
        notice(decision="Complete", message="see https://evil.example"), report="cutover-pdf", report_url=page
    )
    assert text(slack(Batch((named,)), DEFAULT_TEMPLATE)).endswith(f"\nsee https[:]//evil.example\nReport: {page}")
    assert wire(cloud_event(named, {}))["data"]["reportUrl"] == page


@pytest.mark.parametrize("name", PLACEHOLDERS)
def test_every_placeholder_has_a_value(name: str) -> None:
    ended = replace(notice(gates=GATES), report="cutover-pdf-report-a1-0123456789")
    filled = fill(f"{{{{{name}}}}}|{{{{ {name} }}}}", ended)
    left, right = filled.split("|")
    assert left == right
    assert left
    assert "{" not in left


@pytest.mark.parametrize(
    "template",
    [
        "{{ password }}",
        "{{ entry.message }}",
        "{{ message",
        "message }}",
        "{{ message | upper }}",
        "{{}}",
        "{% for %}{{",
    ],
)
def test_a_template_has_no_code(template: str) -> None:
    with pytest.raises(MessageTemplateError) as refused:
        check_template(template)
    assert "password" not in str(refused.value)


# ------------------------------------------------------------------------------------------------------------- CloudEvents

#: Required ones, and what names and values may look like, by the specification (1.0.2).
REQUIRED = {"specversion", "id", "source", "type"}


def wire(event: CloudEvent) -> dict[str, Any]:
    """Return the event as the JSON format of the specification has it."""
    message = CloudEventsFormat(ContentMode.STRUCTURED)._message(event)
    assert message.headers == {"content-type": "application/cloudevents+json; charset=UTF-8"}
    found: dict[str, Any] = json.loads(message.body)
    return found


def test_an_event_has_what_the_specification_asks_for() -> None:
    line = notice(0, "Hold", "Breach", gates=GATES, message="held")
    event = wire(cloud_event(line, {}, "https://clusters.example/eu-1"))
    assert set(event) >= REQUIRED
    assert all(re.fullmatch("[a-z0-9]{1,20}", name) for name in event)
    assert all(isinstance(value, str) and value for name, value in event.items() if name != "data")
    assert event["specversion"] == "1.0"
    assert event["id"] == line.id
    assert event["source"] == (
        "https://clusters.example/eu-1/apis/cutover.dev/v1alpha1/namespaces/docs/migrationplans/pdf"
    )
    assert (event["type"], event["subject"], event["severity"]) == (
        "dev.cutover.migrationplan.hold",
        "docs/pdf",
        "critical",
    )
    assert event["time"] == "2027-01-11T10:00:00Z"
    assert event["data"] == {
        "namespace": "docs",
        "plan": "pdf",
        "uid": "uid-pdf",
        "severity": "critical",
        **line.entry.to_wire(),
    }
    assert "notTold" not in event["data"]
    assert wire(cloud_event(line, {Severity.INFO: 7}))["data"]["notTold"] == {"info": 7}


def test_an_event_is_in_whole_seconds() -> None:
    assert wire(cloud_event(notice(0.75), {}))["time"] == "2027-01-11T10:00:00Z"


@settings(deadline=None)
@given(st.text(min_size=1, max_size=30))
def test_binary_mode_says_the_same(reason: str) -> None:
    event = cloud_event(notice(0, "Hold", reason), {})
    try:
        message = CloudEventsFormat(ContentMode.BINARY)._message(event)
    except UnicodeEncodeError:  # half a surrogate pair is no text
        return
    headers, body = message.headers, message.body
    assert headers["content-type"] == "application/json"
    assert "ce-datacontenttype" not in headers
    for name, value in headers.items():
        assert name == "content-type" or re.fullmatch(r"[!#$&-~]*(%[0-9A-F]{2}[!#$&-~]*)*", value), value
    decoded = {name.removeprefix("ce-"): unquote(value) for name, value in headers.items() if name != "content-type"}
    assert {**decoded, "datacontenttype": headers["content-type"], "data": json.loads(body)} == wire(event)


def test_the_example_of_the_specification() -> None:
    event = cloud_event(notice(), {})
    event.get_attributes()["subject"] = "Euro € 😀"
    assert (
        CloudEventsFormat(ContentMode.BINARY)._message(event).headers["ce-subject"]
        == "Euro%20%E2%82%AC%20%F0%9F%98%80"
    )


# ---------------------------------------------------------------------------------------------------------------- the file

ONE = "receivers: [{name: chat, kind: Slack, urlFile: /url, %s}]"
EVENTS = "receivers: [{name: bus, kind: CloudEvents, urlFile: /url, %s}]"


def read(tmp_path: Path, content: str) -> tuple[Receiver, ...]:
    file = tmp_path / "notifications.yaml"
    file.write_text(content)
    return read_receivers(read_settings({"CUTOVER_PROMETHEUS_URL": "http://p", "CUTOVER_NOTIFICATIONS": str(file)}))


def test_without_a_file_nobody_is_told() -> None:
    assert read_receivers(read_settings({"CUTOVER_PROMETHEUS_URL": "http://p"})) == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("receivers: [{name: chat}]", r"notifications\.yaml: receivers\[0\]\.kind: Field required"),
        (ONE % "url: https://s3cr3t", r"receivers\[0\]\.url: Extra inputs"),
        (ONE % "severities: [s3cr3t]", r"severities\[0\]: .*'info', 'warning' or 'critical'"),
        (ONE % "template: '{{ s3cr3t }}'", r"template: .*not known; there are severity, namespace"),
        (ONE % "template: '{{ message'", r"template: .*half a placeholder"),
        (ONE % "mode: Binary", "mode and source are of CloudEvents"),
        (EVENTS % "template: hello", "template is of Slack"),
        (EVENTS % "source: 's3cr3t \"x'", r"source: .*should match"),
        (EVENTS % "headerFiles: {ce-id: /s3cr3t}", "headerFiles: the operator sets ce-id itself"),
        (EVENTS % "headerFiles: {Host: /x}", "headerFiles: the operator sets host itself"),
        (EVENTS % "headerFiles: {X-A: /x, x-a: /y}", "headerFiles: a header may come once"),
        (EVENTS % "headerFiles: {'X: s3cr3t': /x}", r"headerFiles\.\S*.*should match"),
        (ONE % "throttle: {burst: 0}", r"throttle\.burst: .*greater than or equal to 1"),
        (ONE % "throttle: {every: 1d}", r"throttle\.every: "),
        (ONE % "allow: [s3cr3t]", r"allow\[0\]"),
        (ONE % "timeout: 0", r"timeout: .*greater than or equal to 1"),
        (ONE % "namespaces: ['a b']", r"namespaces\[0\]: .*should match"),
        (
            "receivers: [{name: a, kind: Slack, urlFile: /u}, {name: a, kind: Slack, urlFile: /v}]",
            "receivers: .*each name may come once",
        ),
    ],
)
def test_a_mistake_in_the_file_is_named(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=message) as failure:
        read(tmp_path, content)
    assert "CUTOVER_NOTIFICATIONS" in str(failure.value)


PAGE = (ROOT / "docs" / "notifications.md").read_text(encoding="utf-8")


def _cells(heading: str) -> Iterable[list[str]]:
    part = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    for line in part.splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def test_the_documented_example_can_be_read(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```yaml\n(# values.yaml\n.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    values = yaml.safe_load(example)["notifications"]
    assert set(values) == set(yaml.safe_load((CHART / "values.yaml").read_text())["notifications"])
    mounted = {f"/etc/cutover/notification-secrets/{name}" for name in values.pop("secrets")}
    content = yaml.safe_dump(values)
    assert len(read(tmp_path, content)) == len(values["receivers"]) > 1
    assert {name.rpartition("/")[0] for name in re.findall(r"/etc/\S+", content)} == mounted


def test_every_field_is_documented_with_its_default() -> None:
    documented = {re.findall("`(.+?)`", row[0])[0]: row[1] for row in _cells("The file")}
    assert set(documented) == {field.alias for field in Receiver.model_fields.values()}
    assert all(field.description for field in Receiver.model_fields.values())
    assert documented["timeout"] == "`10s`"
    assert documented["throttle"] == "`{burst: 5, every: 10s}`"


def test_every_placeholder_is_documented() -> None:
    assert [re.findall(r"`\{\{ (\w+) \}\}`", row[0]) for row in _cells("Templates")] == [[one] for one in PLACEHOLDERS]


def test_every_severity_is_documented() -> None:
    said = {row[0].strip("`"): set(re.findall("`(.+?)`", row[1])) for row in _cells("What is sent")}
    assert set(said) == set(Severity)
    assert said["critical"] == CRITICAL_HOLDS
    assert said["warning"] == {one for one, severity in DECISIONS.items() if severity is Severity.WARNING}
    assert said["info"] == {one for one, severity in DECISIONS.items() if severity is Severity.INFO}


def test_the_chart_mounts_what_it_names() -> None:
    deployment = (CHART / "templates" / "deployment.yaml").read_text()
    (file,) = re.findall(r"name: CUTOVER_NOTIFICATIONS\n\s+value: (\S+)", deployment)
    (folder,) = re.findall(r"name: notifications, mountPath: ([^,]+),", deployment)
    (key,) = re.findall(r"^  (\S+): \|$", (CHART / "templates" / "notifications.yaml").read_text(), re.MULTILINE)
    assert file == f"{folder}/{key}"
    assert 'mountPath: "/etc/cutover/notification-secrets/{{ $secret }}"' in deployment
