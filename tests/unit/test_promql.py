"""Placeholders: whatever a value is, the query asks for that and nothing else; and what is known of a query."""

from __future__ import annotations

import contextlib
import gc
import re
import time

import promql_parser
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cutover.api.v1alpha1.gates import RatioSlo
from cutover.domain.slo.promql import (
    LONGEST_QUERY,
    MOST_PLACEHOLDERS,
    PlaceholderError,
    is_counter_selector,
    placeholders,
    render,
    selectors,
)

VALUES = {"leg": "eks", "namespace": "documents", "app": "acme-pdf", "n": "5", "d": "5m", "x": "a.b"}


@pytest.mark.parametrize(
    ("query", "rendered"),
    [
        ('jobs{leg="{{ leg }}"}', 'jobs{leg="eks"}'),
        ("jobs{leg='{{leg}}', a!=\"{{  app\t}}\"}", "jobs{leg='eks', a!=\"acme-pdf\"}"),
        ("jobs{leg=`{{ leg }}`}", "jobs{leg=`eks`}"),
        ('jobs{a=~"{{ x }}-.+"}', r'jobs{a=~"a\\.b-.+"}'),
        ("jobs{a!~`({{ x }}|{{ app }})`}", r"jobs{a!~`(a\.b|acme-pdf)`}"),
        ('jobs{a=~"(?:{{ x }})*"}', r'jobs{a=~"(?:a\\.b)*"}'),
        ('jobs{a=~"[^]a]x{2}\\\\.{{ x }}"}', 'jobs{a=~"[^]a]x{2}\\\\.a\\\\.b"}'),
        ('jobs{a=~ # why\n "{{ x }}"}', 'jobs{a=~ # why\n "a\\\\.b"}'),
        ("rate(jobs[{{ d }}]) > {{ n }}", "rate(jobs[5m]) > 5"),
        ("max_over_time(jobs[{{ d }}:{{ d }}] offset {{ d }})", "max_over_time(jobs[5m:5m] offset 5m)"),
        ('{"a.b", "c d"="{{ leg }}"}', '{"a.b", "c d"="eks"}'),
        ('label_replace(jobs, "a", "$1", "b", "(.*)")', 'label_replace(jobs, "a", "$1", "b", "(.*)")'),
        ('jobs{a="}} {"} # "it\'s', 'jobs{a="}} {"} # "it\'s'),
    ],
)
def test_fills_in(query: str, rendered: str) -> None:
    assert render(query, VALUES) == rendered


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ('jobs{a="{{ nope }}"}', "{{ nope }} is not known; write one of app, d, leg"),
        ('jobs{a="{{ le-g }}"}', "begins a placeholder and is none"),
        ('jobs{a="{{ leg"}', "begins a placeholder and is none"),
        ("jobs{{}}", "begins a placeholder and is none"),
        (
            "sum({{ app }})",
            'outside of a string, where its value can only be a number or a duration; write it as .* app="',
        ),
        ("jobs{{ n }}", "{{ n }} touches what stands beside it"),
        ("a:{{ n }}", "touches"),
        ("{{ n }}m", "touches"),
        ("jobs[{{ n }}{{ d }}]", "touches"),
        ("jobs # {{ leg }}", "in a comment"),
        ('{"{{ leg }}"}', "must belong to the value of a label"),
        ('label_replace(jobs, "a", "{{ leg }}", "b", "")', "must belong to the value of a label"),
        ('sum by ("{{ leg }}") (jobs)', "must belong to the value of a label"),
        ('jobs{a="x', 'a string is not closed; write its end, "'),
        ('jobs{a=~"[{{ x }}]"}', "would not take it literally"),
        ('jobs{a=~"[[:alpha:]{{ x }}]"}', "would not take it literally"),
        ('jobs{a=~"[]{{ x }}]"}', "would not take it literally"),
        ('jobs{a=~"\\x5b{{ x }}]"}', "would not take it literally"),
        ('jobs{a=~"\\133{{ x }}]"}', "would not take it literally"),
        ('jobs{a=~"\\\\{{ x }}"}', "would not take it literally"),
        ("jobs{a=~`\\{{ x }}`}", "would not take it literally"),
        ("jobs{a=~`\\Q{{ x }}\\E`}", "would not take it literally"),
        ('jobs{a=~"(?i){{ x }}"}', "would not take it literally"),
        ('jobs{a=~"b{1,{{ n }}}"}', "would not take it literally"),
        ('jobs{a=~"{{ x }}*"}', "would not take it literally"),
        ('jobs{a=~"{{ x }}\\x2a"}', "would not take it literally"),
        ('jobs{a=~"{{ x }}{2}"}', "would not take it literally"),
    ],
)
def test_refuses_what_could_be_taken_for_something_else(query: str, says: str) -> None:
    with pytest.raises(PlaceholderError, match=re.escape(says) if ".*" not in says else says):
        render(query, VALUES)


def test_a_backtick_cannot_be_written_between_backticks() -> None:
    with pytest.raises(PlaceholderError, match="has a backtick"):
        render("jobs{a=`{{ x }}`}", {"x": "a`b"})
    assert render('jobs{a="{{ x }}"}', {"x": "a`b"}) == 'jobs{a="a`b"}'


@pytest.mark.parametrize(("value", "fine"), [("5", 1), ("-0.5", 1), (".5e-3", 1), ("1h30m", 1), ("100ms", 1)] + [
    (text, 0) for text in ("", "5)", "5 or vector(1)", "Inf", "0x1f", "5 m", "5m\n", "٣", "1e", "m", "5mm", "foo")
])  # fmt: skip
def test_outside_of_strings_stand_numbers_and_durations(value: str, fine: int) -> None:
    if fine:
        assert render("jobs > {{ x }}", {"x": value}) == f"jobs > {value}"
    else:
        with pytest.raises(PlaceholderError, match="only be a number or a duration"):
            render("jobs > {{ x }}", {"x": value})


#: What breaks out of strings and expressions, and everything else.
NASTY = st.lists(
    st.one_of(st.sampled_from(['"', "'", "`", "\\", "\\\\", "{", "}", "{{ leg }}", ".*", "|", "\n", ",", "=~", "#", "$"]), st.text()),
    max_size=8,
).map("".join)  # fmt: skip


@given(NASTY, st.sampled_from(['"', "'", "`"]), st.sampled_from(["=", "!="]))
def test_a_value_stands_for_itself(value: str, quote: str, sign: str) -> None:
    query = f"jobs{{a{sign}{quote}<{{{{ x }}}}>{quote},b={quote}c{quote}}}"
    if quote == "`" and "`" in value:
        with pytest.raises(PlaceholderError):
            render(query, {"x": value})
        return
    rendered = render(query, {"x": value})
    if quote == "`" and "\\" in value:
        # promql_parser wrongly looks for escapes there; between backticks nothing means anything but a backtick.
        assert rendered == query.replace("{{ x }}", value)
        return
    parsed = promql_parser.parse(rendered)
    assert isinstance(parsed, promql_parser.VectorSelector)
    assert [(matcher.name, matcher.value) for matcher in parsed.matchers.matchers] == [("a", f"<{value}>"), ("b", "c")]


@given(NASTY, NASTY, st.sampled_from(["=~", "!~"]))
def test_in_a_regular_expression_too(value: str, other: str, sign: str) -> None:
    parsed = promql_parser.parse(render(f'jobs{{a{sign}"(?:{{{{ x }}}}|b)"}}', {"x": value}))
    assert isinstance(parsed, promql_parser.VectorSelector)
    (matcher,) = parsed.matchers.matchers
    compiled = re.compile(matcher.value, re.DOTALL)
    assert compiled.fullmatch(value)
    assert bool(compiled.fullmatch(other)) == (other in (value, "b"))


#: What a regular expression is made of.
_BEFORE = st.sampled_from(
    ["", "[", "[^", "[]", "[^]", "[a", "[a]", "\\", "\\\\", "(", "(?:", "a{1,", "a{", "|", ".", "a", "^"]
)
_AFTER = st.sampled_from(["", "]", "-]", "*", "?", "+", "{2}", "}", ")", "|", ".", "a", "$", ")*"])


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    st.tuples(_BEFORE, _BEFORE).map("".join),
    st.tuples(_AFTER, _AFTER).map("".join),
    st.text(alphabet="ab-]^|*.1", min_size=1, max_size=2),
    st.lists(st.text(alphabet="ab-]^|*.1c", max_size=4), max_size=20),
)
def test_in_whatever_expression_only_the_whole_value_counts(
    before: str, after: str, value: str, others: list[str]
) -> None:
    """What has neither of two values in it is matched with both or with none."""
    query = f"jobs{{a=~`{before}{{{{ x }}}}{after}`}}"
    try:
        one, two = (
            re.compile(render(query, {"x": x}).removeprefix("jobs{a=~`").removesuffix("`}"), re.DOTALL)
            for x in (value, "=//=")
        )
    except (PlaceholderError, re.error):
        assume(False)
    for other in others:
        if value not in other:
            assert bool(one.fullmatch(other)) == bool(two.fullmatch(other)), (query, value, other)


@given(st.text(alphabet="ab{}[]()\"'`\\ =~!#,.:5m\nx", max_size=40), NASTY)
def test_any_query_gives_a_query_or_a_reason(query: str, value: str) -> None:
    query = query.replace("x", "{{ x }}")
    try:
        rendered = render(query, {"x": value})
    except PlaceholderError:
        return
    assert placeholders(query) == ({"x"} if "{{ x }}" in query else set())
    assert isinstance(is_counter_selector(rendered), bool)
    selectors(rendered)


@pytest.mark.parametrize("query", ["jobs", 'jobs{a="b"}', '{__name__="jobs"}', '{"a.b"}', " jobs # all\n", "a:b"])
def test_a_selector_can_be_read_exactly(query: str) -> None:
    assert is_counter_selector(query)


@pytest.mark.parametrize(
    "query", ["jobs offset 1m", "jobs @ 5", "jobs[5m]", "sum(jobs)", "(jobs)", "-jobs", "jobs > 1", "5", "jobs{", ""]
)
def test_anything_else_cannot(query: str) -> None:
    assert not is_counter_selector(query)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("jobs", ("jobs",)),
        ("sum(rate(jobs[5m] offset 1h)) / sum(rate(jobs[5m]))", ("jobs",)),
        ('a{x="1"} and on (p) max_over_time(b{y!="2",z=~"3|4",w!~"5"}[1h:1m] @ end())',
         ('a{x="1"}', 'b{y!="2",z=~"3|4",w!~"5"}')),
        ('{"a.b", "c d"="e"}', ('{"a.b","c d"="e"}',)),
        ("a{b=`\\d\"`}", ("a{b=`\\d\"`}",)),
        ("vector(1)", ()),
        ("sum(jobs", ()),
        ('a{b="x" # why\n, c="y"} or a{b="x",c="y"}', ('a{b="x",c="y"}',)),
        ('a{b="x" or c="y"}', ('a{b="x" or c="y"}',)),
        ('{by="a"} * on (x) group_left (y) sum by (z) (b) == bool inf', ('{by="a"}', "b")),
        ('a == bool (b) > bool (c{d="e"})', ('a', 'b', 'c{d="e"}')),
        ("count_values without (x) (\"a\", b) atan2 time()", ("b",)),
        ("sum(rate(a[5m] @ start() offset -5m)) by (x)", ("a",)),
        ("a[5m", ()), ("a b", ()), ("sum(a) by", ()), ("a offset", ()), ("a{b=\"c}", ()), ("a{b=(}", ()), ("a +", ()), ("a)", ()),
    ],
)  # fmt: skip
def test_finds_the_series_that_are_read(query: str, found: tuple[str, ...]) -> None:
    assert selectors(query) == found
    for one in found:
        assert is_counter_selector(one)
        assert selectors(one) == (one,)


#: Operands, with which a query is as long as one may be; what is nested, chained or repeated made the parser's time grow with
#: the third power of the length, and it compiled each pattern.
_HALF = LONGEST_QUERY // 2
POISON = {
    "patterns": "a{" + ",".join(f'b{n}=~"\\\\w{{900}}"' for n in range(110)) + "}",
    "one pattern": f"a{{b=~`{'(' * 500}{'x{99}' * 100}{')' * 500}`}}",
    "brackets": "(" * (_HALF - 1) + "a" + ")" * (_HALF - 1),
    "open brackets": "(" * LONGEST_QUERY,
    "functions": "sum(" * (LONGEST_QUERY // 5) + "a" + ")" * (LONGEST_QUERY // 5),
    "signs": "-" * (LONGEST_QUERY - 1) + "a",
    "a sum": "+".join("a" * _HALF),
    "powers": "^".join("a" * _HALF),
    "selectors": "+".join(f"a{n}" for n in range(_HALF // 3)),
    "matchers": "a{" + ",".join(['b="c"'] * (LONGEST_QUERY // 6 - 2)) + "}",
    "subqueries": "a" + "[1s:1s]" * (LONGEST_QUERY // 7 - 1),
    "offsets": "a" + " offset 1s" * (LONGEST_QUERY // 10 - 1),
    "open strings": '\\"' * _HALF,
    "strings": '"' * LONGEST_QUERY,
    "backticks": "`" * (LONGEST_QUERY - 1),
    "braces": "{" * LONGEST_QUERY,
    "numbers": "9" * LONGEST_QUERY,
    "no text": "\U0001f600" * LONGEST_QUERY,
    "spaces": " " * LONGEST_QUERY,
    "comments": "#" * LONGEST_QUERY,
    "placeholders": 'a{b=~"' + "x{{ x }}" * 250 + '"}',
    "few placeholders": 'a{b=~"' + "(?:[^]a-z])" * 100 + "x{{ x }}" * MOST_PLACEHOLDERS + '"}',
    "open placeholders": "{{ " * (LONGEST_QUERY // 3),
}


@pytest.mark.parametrize("kind", POISON)
def test_no_query_holds_the_loop(kind: str) -> None:
    """In seconds of CPU, which a busy machine does not lengthen. The parser took more than a minute for some of these."""
    query = POISON[kind]
    assert _HALF <= len(query) <= LONGEST_QUERY + 64
    selectors.cache_clear()
    is_counter_selector.cache_clear()
    # A collection of all that this process has left behind takes up to a second, whatever the query is.
    gc.disable()
    try:
        began = time.thread_time()
        with contextlib.suppress(PlaceholderError):
            query = render(query, {"x": "." * 256})
        is_counter_selector(query)
        selectors(query)
        taken = time.thread_time() - began
    finally:
        gc.enable()
    assert taken < 0.05


def test_a_query_is_refused_before_work_goes_into_it() -> None:
    with pytest.raises(PlaceholderError, match=f"33 placeholders; write at most {MOST_PLACEHOLDERS}"):
        render('a{b="' + "{{ x }}" * 33 + '"}', {"x": ""})
    with pytest.raises(PlaceholderError, match=f"is 2055 characters long; write at most {LONGEST_QUERY}"):
        render('a{b="' + "{{ x }}" * 32 + '"}', {"x": "y" * 64})


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("a{" + ",".join(['b=~"c"'] * 10 + ['b!~"c"'] * 11) + "}", "at most 20 matchers"),
        ('a{b=~"x{100}"}', "may count to 99"),
        ('a{b=~"x{1,900}"}', "may count to 99"),
        ('a{b=~"x{900,}"}', "may count to 99"),
    ],
)
def test_patterns_are_few_and_small(query: str, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        RatioSlo.from_wire({"bad": query, "total": "a"})


def test_patterns_may_be_what_people_write() -> None:
    query = "a{" + ",".join(['b=~"x{99}"'] * 10 + ["b!~`{1234}x{1,2}|[0-9]{3}`".replace("{1234}", "1234")] * 10) + "}"
    assert RatioSlo.from_wire({"bad": query, "total": "a"}).bad == query


# ------------------------------------------------------------------------------------- the parser of others as the judge

_SELECTOR = st.sampled_from(
    [
        "a",
        "a:b",
        "sum",
        "by",
        "offset",
        "start",
        'a{b="c"}',
        '{b="c"}',
        'a{by="x",b!="}"}',
        "avg{b=~`(`}",
        'a{b=~"x{9}" }',
    ]
)
_MODIFIED = st.tuples(
    _SELECTOR, st.sampled_from(["", " offset 5m", " offset -1h30m", " @ 1e3", " @ end()", " @ start() offset 1s"])
)


def _nest(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    around = [
        "({})",
        "-{}",
        "sum({})",
        "sum by (a, b) ({})",
        "max({}) without (b)",
        "({})[1h:1m]",
        "topk(5, {})",
        "{} + Inf",
        "2 * {}",
    ]
    binary = [
        "{} + {}",
        "{} and on (b) {}",
        "{} / ignoring (a) group_left (b) {}",
        "{} == bool {}",
        "{} unless {}",
        "{} atan2 {}",
    ]
    ranged = inner.map(lambda text: f"rate(({text})[5m:])")
    return st.one_of(
        st.tuples(st.sampled_from(around), inner).map(lambda pair: pair[0].format(pair[1])),
        st.tuples(st.sampled_from(binary), inner, inner).map(lambda three: three[0].format(*three[1:])),
        ranged,
    )


@settings(deadline=None)
@given(st.recursive(_MODIFIED.map("".join), _nest, max_leaves=6))
def test_the_selectors_are_those_of_a_parser(query: str) -> None:
    try:
        parsed = promql_parser.parse(query.replace("`(`", '"[(]"'))
    except ValueError:  # such as a range where an instant vector is expected
        assume(False)
    expected: list[tuple[str | None, list[tuple[str, str]]]] = []

    def told(node: promql_parser.VectorSelector) -> tuple[str | None, list[tuple[str, str]]]:
        return node.name, [(matcher.name, matcher.value) for matcher in node.matchers.matchers]

    def visit(node: promql_parser.Expr) -> bool:
        if isinstance(node, promql_parser.VectorSelector) and told(node) not in expected:
            expected.append(told(node))
        return True

    promql_parser.walk(parsed, visit)
    found = [promql_parser.parse(one.replace("`(`", '"[(]"')) for one in selectors(query)]
    assert sorted(map(str, map(told, found))) == sorted(map(str, expected))
    plain = isinstance(parsed, promql_parser.VectorSelector) and parsed.offset is None and parsed.at is None
    assert is_counter_selector(query) == plain
