"""Placeholders: whatever a value is, the query asks for that and nothing else; and what is known of a query."""

from __future__ import annotations

import re

import promql_parser
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cutover.domain.slo.promql import PlaceholderError, is_counter_selector, placeholders, problem, render, selectors

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
    assert isinstance(problem(rendered), str)
    selectors(rendered)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("sum(rate(jobs[5m]))", ""),
        ("sum(rate(jobs[5m])", "unclosed left parenthesis"),
        ("jobs{a=`\\d+`}", ""),
        ("jobs{a=~`\\d+`}", ""),
        ("", "no expression found in input"),
        ("(" * 500, "unclosed left parenthesis"),
        (
            "jobs offset 1e999",
            "the parser gave up: cannot convert float seconds to Duration: value is either too big or NaN",
        ),
        ("jobs[1e30]", "the parser gave up: cannot convert float seconds to Duration: value is either too big or NaN"),
    ],
)
def test_says_what_is_wrong_with_a_query(query: str, said: str) -> None:
    assert problem(query) == said


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
        ('{"a.b", "c d"="e"}', ('{__name__="a.b","c d"="e"}',)),
        ("a{b=`\\d\"`}", ('a{b="\\\\d\\""}',)),
        ("vector(1)", ()),
        ("sum(jobs", ()),
    ],
)  # fmt: skip
def test_finds_the_series_that_are_read(query: str, found: tuple[str, ...]) -> None:
    assert selectors(query) == found
    for one in found:
        assert is_counter_selector(one)
        assert selectors(one) == (one,)
