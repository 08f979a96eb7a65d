"""The report: what it says of a migration, and that it is a page that anybody can open, read and hand on."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from tests.kit.pages import seen
from tests.kit.record import record as a_record
from tests.kit.reports import AT, completed, entry, record_of, rolled_back, with_lines

from cutover.api.v1alpha1 import (
    LEDGER_LENGTH,
    CheckResult,
    CheckStatus,
    DecommissionItem,
    DecommissionState,
    EvidenceStatus,
    GateCounts,
    GateKind,
    GateLimits,
    GateNumbers,
    GateRatios,
    GateStatus,
    LegCounts,
    MigrationPlanStatus,
    Mode,
    Phase,
    ToleranceStatus,
)
from cutover.cli.report import record_of as read_record
from cutover.domain.baseline.used import Quantity
from cutover.domain.engine.phases.record import record_status
from cutover.domain.journal.notifications import DECISIONS
from cutover.domain.texts import plain
from cutover.domain.traffic import Leg
from cutover.report.compose import compose
from cutover.report.documents import HTML, LONGEST, MARKDOWN, documents, size
from cutover.report.history import Figures, History, Line, Measure
from cutover.report.html import html
from cutover.report.markdown import escape, markdown
from cutover.report.page import Bullets, Chart, Facts, Page, Prose, Section, Table, Tag
from cutover.report.record import Costs, Happening, Record, merged
from cutover.report.sections.skipped import SKIP_FIELD
from cutover.report.spans import spans
from cutover.report.stages import End, stages
from cutover.report.week import UsedBefore, Week, read_week
from cutover.report.words import way

PARTS = [
    "Summary",
    "What was asked",
    "Steps",
    "Decisions, holds and people",
    "Before and after",
    "Attribution",
    "Skipped and warned",
    "Decommission checklist",
]


def section(page: Page, title: str) -> Section:
    return next(one for one in page.sections if one.title == title)


def said(part: Section) -> str:
    """Return all texts of a section."""
    return f"{part.title}\n{[*part.blocks]}\n" + "\n".join(said(one) for one in part.sections)


def table(part: Section, caption: str) -> Table:
    return next(one for one in part.blocks if isinstance(one, Table) and one.caption.startswith(caption))


# ----------------------------------------------------------------------------------------------------- what it says


def test_a_completed_migration() -> None:
    page = compose(completed())
    assert [one.title for one in page.sections] == PARTS
    assert page.outcome.text == "Completed"
    assert "answered by EKS" in page.lead
    facts = dict(next(one for one in section(page, "Summary").blocks if isinstance(one, Facts)).rows)
    assert (facts["Highest weight"], facts["Recorded holds"]) == ("100 %", "0")
    assert [one.title for one in section(page, "Steps").sections] == ["10 %", "25 %", "50 %", "100 %"]
    listed = section(page, "Decommission checklist").blocks[0]
    assert isinstance(listed, Table)
    assert next(row[0] for row in listed.rows) == "dns"


def test_a_rollback_names_the_gate_and_keeps_heroku() -> None:
    page = compose(rolled_back())
    assert page.outcome.text == "Rolled back"
    facts = dict(next(one for one in section(page, "Summary").blocks if isinstance(one, Facts)).rows)
    assert facts["Rolled back for"] == "EvidenceOfHarm, by the gate errors"
    (_, last) = section(page, "Steps").sections
    compared = table(last, "Both legs")
    errors = next(row for row in compared.rows if row[0] == "errors")
    assert errors[1] == Tag("fail", "bad")
    assert "17.9 % of 1,000" in errors[3]
    kept = section(page, "Decommission checklist")
    assert "Switch nothing off" in said(kept)
    assert not any(isinstance(one, Bullets) for one in kept.blocks)
    assert "decided by the gate errors" in said(section(page, "Attribution"))


def test_stages_are_those_of_the_ledger() -> None:
    found = stages(rolled_back())
    assert [(one.weight, one.end) for one in found] == [
        (0, End.NEXT_STEP),
        (10, End.NEXT_STEP),
        (25, End.ROLLED_BACK),
        (0, End.NOT_YET),
    ]
    assert [bool(one.gates) for one in found] == [False, True, True, False]
    assert found[-1].at_rest
    assert not any(one.at_rest for one in stages(completed()))


def test_decisions_that_a_full_ledger_dropped_come_from_the_log() -> None:
    whole = rolled_back()
    ledger = whole.plan.status.ledger
    cut = replace(
        whole.plan, status=whole.plan.status.evolve(ledger=tuple(one.evolve(gates=()) for one in ledger[2:]))
    )
    bare = replace(whole, plan=cut)
    assert [one.weight for one in stages(bare)] == [25, 0]
    assert stages(replace(bare, older=ledger)) == stages(whole)
    # Each is there once, and that of the log stays.
    assert merged(ledger, cut.status.ledger) == ledger
    assert merged((), ledger) == ledger


def test_a_full_ledger_says_that_it_is_full() -> None:
    many = tuple(entry("Repair", at=AT + timedelta(seconds=one)) for one in range(LEDGER_LENGTH))
    text = said(section(compose(record_of(MigrationPlanStatus(ledger=many))), "Decisions, holds and people"))
    assert "give it with --log" in text
    text = said(section(compose(record_of(MigrationPlanStatus(ledger=many[1:]))), "Decisions, holds and people"))
    assert "--log" not in text


def test_what_was_skipped_and_by_whom() -> None:
    skip = {"skip": [{"check": "connections", "reason": "the pool is shared"}]}
    status = MigrationPlanStatus(
        preflight=(CheckStatus(check="connections", result=CheckResult.SKIPPED),),
        ledger=(
            entry("Skip", reason="OutsideWindow", message="the window was skipped", by="jane@example.com"),
            entry("Advance", reason="Requested", message="10 % → 25 %", by="sam@example.com"),
            entry("Advance", reason="EvidenceOfSafety"),
        ),
    )
    record = record_of(status, preflight=skip)
    rows = table(section(compose(record), "Skipped and warned"), "Skipped").rows
    assert [(row[0], row[1]) for row in rows] == [
        ("check connections", "the plan's spec"),
        ("a hold", "jane@example.com"),
        ("evidence of safety", "sam@example.com"),
    ]
    known = replace(record, skippers={SKIP_FIELD: "the field manager kustomize-controller"})
    assert table(section(compose(known), "Skipped and warned"), "Skipped").rows[0][1].endswith("kustomize-controller")


def test_holds_and_people() -> None:
    ledger = (
        entry("Advance", to_weight=10),
        entry("Hold", at=AT + timedelta(minutes=1), from_weight=10, to_weight=10, reason="Breach", message="errors"),
        entry("Lower", at=AT + timedelta(minutes=2), from_weight=10, to_weight=5, by="jane@example.com"),
    )
    part = section(compose(record_of(MigrationPlanStatus(ledger=ledger, weight=5))), "Decisions, holds and people")
    holds, people = part.sections
    ((reason, *_, until, _),) = table(holds, "Holds").rows
    assert reason == Tag("Breach", "warn")
    assert until == "2027-01-11 10:32:00"
    assert table(people, "What people").rows[0][0] == "jane@example.com"


def test_events_and_costs_are_shown_where_they_are_known() -> None:
    record = replace(
        completed(), events=(Happening(AT, "Warning", "Odd", "something odd"),), costs=Costs("$ 500 a month", "$ 90")
    )
    text = markdown(compose(record))
    assert "something odd" in text
    assert "\\$ 500 a month" in text
    assert "| EKS | \\$ 90 |" in text
    assert "Cost" not in markdown(compose(completed()))


def test_the_checklist_of_the_status_is_shown() -> None:
    item = DecommissionItem(item="dynos", state=DecommissionState.OPEN, message="3 web dynos run")
    record = completed()
    plan = replace(record.plan, status=record.plan.status.evolve(decommission=(item,)))
    assert "| dynos | Open | 3 web dynos run |" in markdown(compose(replace(record, plan=plan)))


def test_without_a_checklist_the_order_is_a_general_one() -> None:
    record = completed()
    plan = replace(record.plan, status=record.plan.status.evolve(decommission=()))
    assert "| dynos | Unknown |" in markdown(compose(replace(record, plan=plan)))


# ---------------------------------------------------------------------------------------------- before and after


def test_spans_are_before_side_by_side_after_and_the_same_hours() -> None:
    found = spans(completed())
    assert [(one.label, one.leg) for one in found] == [
        ("before the first step", Leg.HEROKU),
        ("side by side at 50 %", Leg.HEROKU),
        ("side by side at 50 %", Leg.EKS),
        ("at 100 %", Leg.EKS),
        ("the same hours a week before", Leg.HEROKU),
        ("the same hours a day before", Leg.HEROKU),
    ]
    *_, full, week, day = found
    assert (full.since - week.since, full.since - day.since) == (7 * 86_400, 86_400)
    assert full.until - full.since == pytest.approx(310, abs=5)
    assert [one.label for one in spans(rolled_back())][-1] == "side by side at 25 %"
    assert spans(record_of(MigrationPlanStatus())) == ()


def test_the_same_hours_are_before_eks_had_a_request() -> None:
    begin = AT
    ledger = (
        entry("Advance", to_weight=50, at=begin),
        entry("Advance", from_weight=50, to_weight=100, at=begin + timedelta(days=2)),
        entry("Complete", from_weight=100, to_weight=100, at=begin + timedelta(days=9)),
    )
    found = spans(record_of(MigrationPlanStatus(ledger=ledger, attempt=1), at=begin + timedelta(days=30)))
    same = [one for one in found if one.label.startswith("the same hours")]
    assert [one.label for one in same] == ["the same hours 2 weeks before", "the same hours 9 days before"]
    assert all(one.until <= begin.timestamp() for one in same)


def test_figures_of_prometheus_are_a_table_and_lines_are_charts() -> None:
    part = section(compose(with_lines(completed())), "Before and after")
    rows = table(part, "Both legs before").rows
    assert rows[0][0] == "Heroku"
    assert rows[0][2:] == ("1,000", "0.2 %", "40 ms", "180 ms", "420 ms")
    charts = [one for one in part.blocks if isinstance(one, Chart)]
    assert [one.title for one in charts] == [
        "Requests per second",
        "Failed requests, of each leg's",
        "Latency, 95th percentile",
    ]
    assert 'class="line-eks"' in charts[0].svg
    assert 'class="line-heroku"' in charts[0].svg
    assert "throttled" not in said(part)
    assert "2.0 % on average" in said(section(compose(with_lines(completed())), "Attribution"))


def test_what_prometheus_does_not_have_is_said() -> None:
    record = with_lines(completed())
    assert record.history is not None
    known = tuple(one for one in record.history.figures if not one[0].label.startswith("the same hours"))
    history = replace(record.history, figures=known, problems=("Prometheus did not answer within 10 s",))
    text = said(section(compose(replace(record, history=history)), "Before and after"))
    assert "no requests of Heroku at the same hours" in text
    assert "did not answer within 10 s" in text
    # Without Prometheus the ledger's last comparison is shown instead.
    assert "side by side at 50 %" in said(section(compose(completed()), "Before and after"))


def test_the_record_of_the_week_is_the_same_hours() -> None:
    hours = [
        {"hour": f"{day} {clock:02d}:00", "requests": 3600, "errors": 36, "medianMs": 50, "p95Ms": clock, "p99Ms": 900}
        for day in ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
        for clock in range(24)
    ]
    week = read_week(json.dumps({"format": "cutover.dev/baseline/v1", "week": hours}))
    assert week is not None
    # The world's Monday, from 10:04 to 10:09.
    rows = table(section(compose(replace(completed(), week=week)), "Before and after"), "Both legs before").rows
    (row,) = [row for row in rows if "by the record" in str(row[1])]
    assert row[2:] == ("3,600", "1.0 %", "50 ms", "10 ms", "900 ms")
    assert week.over(0.0, 2 * 3600.0).requests == 7200
    assert week.over(0.0, 30 * 86_400.0).requests == 168 * 3600


def test_what_was_used_before_and_after_is_a_table_and_releases_are_a_mark() -> None:
    assert not [one for one in tables(completed()) if one.caption == "What was used"]
    assert "spans" not in said(section(compose(completed()), "Before and after"))
    before = {
        "memoryMiB": UsedBefore(384, 501, 512),
        "connections": UsedBefore(11, 110, 400),
        "clusterDnsPerSecond": UsedBefore(100, 200),
        "of a later version": UsedBefore(1, 2),
    }
    after = {Quantity.MEMORY: 300 * 1024.0**2, Quantity.LOAD: 0.75, Quantity.DNS: 260.0, Quantity.THROTTLED: 0.0}
    record = with_lines(completed())
    assert record.history is not None
    record = replace(record, week=Week({}, before), history=replace(record.history, used=after))
    (used,) = [one for one in tables(record) if one.caption == "What was used"]
    assert used.rows == (
        ("Memory of the largest web dyno or Pod", "384 MiB", "501 MiB of 512 MiB", "300 MiB"),
        ("Load of the busiest dyno, CPUs of the busiest Pod", "–", "–", "0.75"),
        ("Connections of a database on Heroku", "11", "110 of 400", "–"),
        ("DNS questions per second, of the whole cluster", "100", "200", "260"),
        ("Periods in which EKS' worst container was stopped for its CPU limit", "–", "–", "0 %"),
    )
    status = record.plan.status
    assert status.baseline is not None
    known = record_status(a_record(), "").model_copy(update={"releases": 3, "last_release": AT})
    marked = replace(record.plan, status=status.model_copy(update={"baseline": status.baseline.evolve(record=known)}))
    text = said(section(compose(replace(record, plan=marked)), "Before and after"))
    assert "The record spans 3 releases, the last on 2027-01-11 10:30 UTC" in text


def tables(record: Record) -> list[Table]:
    return [one for one in section(compose(record), "Before and after").blocks if isinstance(one, Table)]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "null", '{"format": "other/v1", "week": []}', '{"format": "cutover.dev/baseline/v1"}',
     '{"format": "cutover.dev/baseline/v1", "week": [{"hour": "Someday 99:00", "requests": 1, "errors": 0}]}'],
)  # fmt: skip
def test_a_record_that_is_none_is_left_out(text: str) -> None:
    assert read_week(text) is None


# --------------------------------------------------------------------------------------------------- as a document

#: Texts that are more than text where they are not escaped.
ATTACKS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style><script>alert(1)</script>",
    "</title></svg><svg onload=alert(1)>",
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "]]><!--",
    "javascript:alert(1)",
    "&lt;b&gt;",
)


def attacked(text: str) -> Record:
    """Return a record in which others' texts are the text, wherever they can be."""
    gate = GateStatus(
        name=text,
        verdict=text,
        counts=GateCounts(LegCounts(1, 2), LegCounts(1, 2)),
        ratios=GateRatios(0.5, 0.5),
        sentence=text,
    )
    ledger = tuple(
        entry(
            decision, at=AT + timedelta(minutes=number), to_weight=weight, reason=text, message=text, subject=text, by=text, gates=(gate,)
        )
        for number, (decision, weight) in enumerate([("TakeOver", 0), ("Advance", 10), ("Hold", 10), (text, 10), ("Skip", 10), ("RollBack", 0)])
    )  # fmt: skip
    status = MigrationPlanStatus(
        phase=Phase.ROLLED_BACK,
        attempt=1,
        weight=0,
        message=text,
        reason=text,
        gates=(gate,),
        ledger=ledger,
        preflight=(CheckStatus(check=text, result=CheckResult.WARNED, message=text),),
        decommission=(DecommissionItem(item=text, state=DecommissionState.OPEN, message=text),),
    )
    record = record_of(status)
    return replace(
        record,
        plan=replace(record.plan, name=text, namespace=text),
        events=(Happening(AT, text, text, text),),
        history=History({}, problems=(text,)),
        costs=Costs(text, text),
        skippers={SKIP_FIELD: text},
    )


@pytest.mark.parametrize("text", ATTACKS)
def test_texts_of_others_stay_texts(text: str) -> None:
    found = seen(html(compose(attacked(text))))
    assert found.problems == []
    # Each is there as a text, many times.
    assert sum(text in one for one in found.texts) > 20
    rendered = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown(compose(attacked(text))))
    tags = set(re.findall(r"<(\w+)", rendered))
    assert tags <= {
        "h1",
        "h2",
        "h3",
        "p",
        "strong",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "ul",
        "ol",
        "li",
        "hr",
    }


def test_the_page_is_one_file_without_scripts() -> None:
    for record in (completed(), rolled_back(), with_lines(completed()), record_of(MigrationPlanStatus())):
        page = html(compose(record))
        assert seen(page).problems == []
        assert "http://" not in page
        assert "https://" not in page
        assert "default-src 'none'" in page


def test_a_plan_without_any_decision_has_a_report() -> None:
    page = compose(record_of(MigrationPlanStatus()))
    assert "No request was sent to EKS" in said(section(page, "Steps"))
    assert "Nothing was decided yet" in said(section(page, "Decisions, holds and people"))


TEXTS = st.one_of(st.sampled_from(ATTACKS), st.text(max_size=40))
NUMBERS = st.one_of(
    st.just(0.0), st.floats(0, 1e12, allow_nan=False), st.sampled_from([float("inf"), float("nan"), 1e-300, 1e308])
)
TIMES = st.floats(946_684_800, 32_472_144_000).map(lambda at: datetime.fromtimestamp(at, UTC))
LEGS = st.builds(LegCounts, bad=NUMBERS, total=NUMBERS)
TOLERANCES = st.builds(ToleranceStatus, ratio=NUMBERS, margin=NUMBERS)


def gates_of(kind: type[GateNumbers]) -> st.SearchStrategy[Any]:
    return st.builds(
        kind,
        name=TEXTS,
        verdict=st.one_of(st.sampled_from(["Pass", "Fail", "Undecided"]), TEXTS),
        kind=st.sampled_from(GateKind),
        mode=st.sampled_from(Mode),
        counts=st.one_of(st.none(), st.builds(GateCounts, st.none() | LEGS, st.none() | LEGS)),
        ratios=st.one_of(st.none(), st.builds(GateRatios, st.none() | NUMBERS, st.none() | NUMBERS)),
        evidence=st.one_of(st.none(), st.builds(EvidenceStatus, NUMBERS, NUMBERS, st.none() | NUMBERS, st.none() | NUMBERS)),
        limits=st.one_of(st.none(), st.builds(GateLimits, st.none() | TOLERANCES, st.none() | TOLERANCES)),
        value=st.none() | NUMBERS,
        outside_seconds=st.none() | st.floats(0, 1e6),
    )  # fmt: skip


ENTRIES = st.builds(
    entry,
    st.one_of(st.sampled_from([*DECISIONS, "Hold"]), TEXTS),
    at=TIMES,
    attempt=st.integers(0, 3),
    from_weight=st.integers(0, 100),
    to_weight=st.integers(0, 100),
    reason=TEXTS,
    message=TEXTS,
    subject=st.none() | TEXTS,
    by=st.none() | TEXTS,
    gates=st.lists(gates_of(GateNumbers), max_size=2).map(tuple),
)
STATUSES = st.builds(
    MigrationPlanStatus,
    phase=st.sampled_from(Phase),
    attempt=st.integers(0, 3),
    weight=st.none() | st.integers(0, 100),
    message=TEXTS,
    gates=st.lists(gates_of(GateStatus), max_size=2).map(tuple),
    ledger=st.lists(ENTRIES, max_size=6).map(tuple),
)
POINTS = st.lists(st.tuples(st.floats(0, 4e9), NUMBERS), max_size=4).map(tuple)
HISTORIES = st.builds(
    History,
    st.dictionaries(
        st.sampled_from(Measure), st.lists(st.builds(Line, st.sampled_from(Leg), POINTS), max_size=2).map(tuple)
    ),
)


@given(STATUSES, TIMES, st.none() | HISTORIES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_any_status_makes_a_page(status: MigrationPlanStatus, at: datetime, history: History | None) -> None:
    assume("Infinity" not in status.model_dump_json())  # a text that says so is shown; numbers are null in JSON
    page = compose(replace(record_of(status, at), history=history))
    found = seen(html(page))
    assert found.problems == []
    assert [text for level, text in found.headings if level == 2] == PARTS
    assert "nan" not in "".join(one.svg for part in page.sections for one in _charts(part)).lower().replace(
        "nance", ""
    )
    assert "Infinity" not in markdown(page)


def _charts(part: Section) -> list[Chart]:
    own = [one for one in part.blocks if isinstance(one, Chart)]
    return own + [one for inner in part.sections for one in _charts(inner)]


@given(TEXTS)
@settings(deadline=None)
def test_markdown_shows_any_text_as_it_is(text: str) -> None:
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    tokens = parser.parse(f"| a |\n| --- |\n| {escape(text)} |\n")
    cell = [one for one in tokens if one.type == "inline"][-1]
    shown = "".join(child.content for child in cell.children or ())
    assert {child.type for child in cell.children or ()} <= {"text", "text_special"}
    assert shown.replace("\u200b", "") == _plain(text)


def _plain(text: str) -> str:
    return re.sub(r"(?<!\w)@", "(at)", plain(text)).replace("\u200b", "").strip(" ")


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a_b *c* `d` [e](f)", r"a\_b \*c\* \`d\` \[e\](f)"),
        ("a|b", r"a\|b"),
        ("cc @octocat", "cc (at)octocat"),
        ("jane@example.com", "jane@example.com"),
        ("fixes #12", "fixes #&#8203;12"),
        ("https://evil.example www.evil.example", r"https\://evil.example www\.evil.example"),
        ("<b> & c", "&lt;b&gt; &amp; c"),
        ("# heading", r"\# heading"),
        ("1. one", r"1\. one"),
        ("0.1 %", "0.1 %"),
        ("- item", r"\- item"),
        ("two\nlines", "two lines"),
        ("\x1b[31mred\u202e", "?\\[31mred?"),
    ],
)
def test_markup_mentions_and_links_in_texts_are_dead(text: str, escaped: str) -> None:
    assert escape(text) == escaped


# ------------------------------------------------------------------------------------------------- colours, sizes


STYLE = (Path(__file__).parents[2] / "operator/cutover/report/templates/page.css").read_text(encoding="utf-8")


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_contrasts_are_those_of_wcag_aa(mode: int) -> None:
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", STYLE.split("@media screen")[mode].split("* {")[0]))
    texts = ["ink", "soft", "link", "eks", "heroku", "good", "bad", "warn", "calm"]
    pairs = [(one, "paper") for one in texts] + [("ink", "panel"), ("soft", "panel")]
    pairs += [(one, f"{one}-paper") for one in ("good", "bad", "warn", "calm")]
    assert {
        pair: round(ratio, 2) for pair in pairs if (ratio := contrast(colours[pair[0]], colours[pair[1]])) < 4.5
    } == {}
    # What has to be told apart and is no text.
    for mark in ("eks", "heroku", "good", "bad"):
        assert contrast(colours[mark], colours["paper"]) >= 3


def test_every_colour_of_the_style_has_a_dark_one() -> None:
    light, dark = (set(re.findall(r"--([\w-]+):", part)) for part in STYLE.split("* {")[0].split("@media screen"))
    assert light == dark
    assert set(re.findall(r"var\(--([\w-]+)\)", STYLE)) == light


def test_documents_are_bounded() -> None:
    whole = documents(with_lines(completed()))
    assert set(whole) == {HTML, MARKDOWN}
    assert size(whole) < LONGEST
    # The lines go first, and that is said; then the page in HTML.
    less = documents(with_lines(completed()), longest=size(whole) - 1000)
    assert set(less) == {HTML, MARKDOWN}
    assert "lines over time were left out" in less[MARKDOWN]
    for longest in (20_000, 5000, 300):
        least = documents(with_lines(completed()), longest=longest)
        assert set(least) == {MARKDOWN}
        assert size(least) <= longest
        assert "too long for this object" in least[MARKDOWN]


def test_the_longest_status_is_far_below_the_limit() -> None:
    """A ledger of 30 entries with the longest texts, in characters that take four bytes and more once escaped."""
    gates = tuple(
        GateNumbers(
            name=f"slo-{number}" + "x" * 50, verdict="Pass", counts=GateCounts(LegCounts(1, 2), LegCounts(1, 2)),
            ratios=GateRatios(0.5, 0.5), evidence=EvidenceStatus(1.0, 100.0, 1.0, 20.0),
        )
        for number in range(12)
    )  # fmt: skip
    ledger = tuple(
        entry("Advance", at=AT + timedelta(minutes=one), to_weight=one, message="&😀" * 150, by="<" * 150, gates=gates)
        for one in range(1, LEDGER_LENGTH + 1)
    )
    status = MigrationPlanStatus(phase=Phase.COMPLETED, attempt=1, ledger=ledger)
    assert size(documents(with_lines(record_of(status)))) < LONGEST


@pytest.mark.parametrize(
    ("evidence", "limit", "done"),
    [(0.5, 100, 0), (1, 100, 0), (10, 100, 0.5), (100, 100, 1), (1e9, 100, 1), (float("inf"), 100, 1), (5, 1, 0)],
)
def test_the_way_of_evidence_is_measured_by_its_factors(evidence: float, limit: float, done: float) -> None:
    assert way(evidence, limit) == pytest.approx(done)
    assert Figures() == Figures(None)


def test_a_page_of_everything_is_the_same_in_both_forms() -> None:
    page = Page("T", Tag("O"), "L", (Section("S", (Prose("p"), Facts((("a", "b"),)), Bullets(("x",)))),), "F")
    assert "- a: b" in markdown(page)
    assert "<dt>a</dt><dd>b</dd>" in html(page)


# --------------------------------------------------------------------------------------------------- a real migration

GOLDEN = Path(__file__).parent / "golden"


def finished() -> Record:
    """Return the record of a real plan, with its status as the operator left it."""
    body = yaml.safe_load((GOLDEN / "finished-plan.yaml").read_text(encoding="utf-8"))
    return read_record(json.loads(json.dumps(body, default=datetime.isoformat)), AT)


def test_a_real_migration_reads_as_it_did() -> None:
    """To renew the page after a change that is meant: write ``markdown(compose(finished()))`` into it."""
    assert markdown(compose(finished())) == (GOLDEN / "finished-plan.md").read_text(encoding="utf-8")


def test_a_real_migration_is_a_whole_page() -> None:
    found = seen(html(compose(finished())))
    assert found.problems == []
    steps = found.headings.index((2, "Steps"))
    assert [text for _, text in found.headings[steps + 1 : steps + 5]] == ["10 %", "25 %", "50 %", "100 %"]
    texts = " ".join(found.texts)
    assert "PrometheusUnavailable" in texts
    assert "kubectl-patch" in texts
