"""PromQL with placeholders: fill in values so that none can change what a query asks, and parse queries."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

import promql_parser
from promql_parser import Expr, MatchOp, VectorSelector

from cutover.api.v1alpha1.templates import BUILT_IN_NAMES as BUILT_IN_NAMES

#: A token of PromQL; ``hole`` is a placeholder.
_TOKEN = re.compile(
    r"""
      (?P<comment> \# [^\n\r]* )
    | (?P<string>  " (?: [^"\\\n] | \\[^\n] )* " | ' (?: [^'\\\n] | \\[^\n] )* ' | ` [^`]* ` )
    | (?P<hole>    \{\{ \s* (?P<name> [A-Za-z][A-Za-z0-9]* ) \s* \}\} )
    | (?P<broken>  \{\{ [^{}\n]{0,40} )
    | (?P<sign>    =~ | !~ | != | == | >= | <= | = )
    | (?P<space>   \s+ )
    | (?P<word>    [\w.]+ )
    | (?P<other>   . )
    """,
    re.VERBOSE | re.DOTALL,
)
#: A piece of a string; between backticks there are no escapes.
_HOLE = r"\{\{\s*(?P<name>[A-Za-z][A-Za-z0-9]*)\s*\}\}|(?P<broken>\{\{[^{}\n]{0,40})|(?P<text>%s.)"
_RAW_PIECE = re.compile(_HOLE % "", re.DOTALL)
_PIECE = re.compile(_HOLE % r"\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\U[0-9a-fA-F]{8}|\\[0-7]{3}|\\.|", re.DOTALL)

#: A value that may stand outside of strings: a number or a duration.
_SCALAR = re.compile(r"-?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|-?(?:[0-9]+(?:ms|[smhdwy]))+")

#: Characters with a meaning in RE2, Prometheus' regular expressions.
_META = re.compile(r"[\\.+*?()|\[\]{}^$]")

#: A beginning of a regular expression after which a character is literal: no class, quotation, flag or repetition is open.
_PLAIN_PLACE = re.compile(
    r"""(?:
      \\ [^Q]
    | \[ \^?+ \]?+ (?: \\. | [^\]\\\[] )* \]
    | \( \?: | \( (?!\?)
    | \{ (?! [0-9,]* \Z )
    | [^\\\[({]
    )*""",
    re.VERBOSE | re.DOTALL,
)

_LABEL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_METRIC_NAME = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
#: MatchOp cannot be hashed.
_SIGNS = ((MatchOp.Equal, "="), (MatchOp.NotEqual, "!="), (MatchOp.Re, "=~"), (MatchOp.NotRe, "!~"))


class PlaceholderError(ValueError):
    """A placeholder cannot be filled in; the message says what to do."""


def placeholders(query: str) -> frozenset[str]:
    """Return the names of a query's placeholders.

    Raises
    ------
    PlaceholderError
        If a text begins like a placeholder but is none.
    """
    names: set[str] = set()
    for token in _TOKEN.finditer(query):
        pieces = _pieces(token[0]) if token["string"] else (token,)
        for piece in pieces:
            if broken := piece["broken"]:
                raise PlaceholderError(f"{broken!r} begins a placeholder and is none; write {{{{ name }}}}")
            if piece["name"]:
                names.add(piece["name"])
    return frozenset(names)


def render(query: str, values: Mapping[str, str]) -> str:
    """Fill in a query's placeholders.

    In a label's value, any value is literal: it is escaped for its string, and for a regular expression if it is part of
    one. Elsewhere only numbers and durations are allowed.

    Parameters
    ----------
    query
        PromQL with placeholders such as ``{{ namespace }}``.
    values
        The values, by the names of the placeholders.

    Raises
    ------
    PlaceholderError
        If a name is unknown, or if a placeholder stands where its value could change the query.
    """
    if unknown := sorted(placeholders(query) - values.keys()):
        raise PlaceholderError(f"{{{{ {unknown[0]} }}}} is not known; write one of {', '.join(sorted(values))}")
    tokens = list(_TOKEN.finditer(query))
    out = []
    before, brackets = "", 0
    for place, token in enumerate(tokens):
        text = token[0]
        if token["comment"] and "{{" in text:
            raise PlaceholderError("a placeholder stands in a comment; write it outside, or leave the comment out")
        if token["string"]:
            text = _fill_string(text, before, values)
        elif name := token["name"]:
            neighbours = (*tokens[max(place - 1, 0) : place], *tokens[place + 1 : place + 2])
            if any(_joins(neighbour, brackets) for neighbour in neighbours):
                raise PlaceholderError(f"{{{{ {name} }}}} touches what stands beside it; write a space between them")
            text = values[name]
            if _SCALAR.fullmatch(text) is None:
                raise PlaceholderError(
                    f"{{{{ {name} }}}} stands outside of a string, where its value can only be a number or a duration;"
                    f' write it as the value of a label, such as {name}="{{{{ {name} }}}}"'
                )
        elif text in ('"', "'", "`"):
            raise PlaceholderError(f"a string is not closed; write its end, {text}")
        brackets += (text == "[") - (text == "]")
        if not token["space"] and not token["comment"]:
            before = text
        out.append(text)
    return "".join(out)


def _joins(token: re.Match[str], brackets: int) -> bool:
    """Return whether a token would merge with a number beside it."""
    return bool(token["word"] or token["name"]) or (token[0] == ":" and not brackets)


def _pieces(string: str) -> Iterator[re.Match[str]]:
    return (_RAW_PIECE if string[0] == "`" else _PIECE).finditer(string, 1, len(string) - 1)


def _fill_string(string: str, before: str, values: Mapping[str, str]) -> str:
    if "{{" not in string:
        return string
    if before not in ("=", "!=", "=~", "!~"):
        raise PlaceholderError(
            'a placeholder in a string must belong to the value of a label, such as namespace="{{ namespace }}"'
        )
    quote, regex = string[0], before in ("=~", "!~")
    pieces = list(_pieces(string))
    out, meaning = [quote], ""
    for place, piece in enumerate(pieces):
        if not (name := piece["name"]):
            out.append(piece[0])
            meaning += _meaning(piece[0], quote)
            continue
        value = values[name]
        if regex:
            follows = _meaning(pieces[place + 1][0], quote) if place + 1 < len(pieces) else ""
            if _PLAIN_PLACE.fullmatch(meaning) is None or follows[:1] in ("*", "+", "?", "{"):
                raise PlaceholderError(
                    f"{{{{ {name} }}}} stands where a regular expression would not take it literally; write it outside of"
                    " [...], \\Q, (?i) and before no *, +, ? or {"
                )
            value = _META.sub(r"\\\g<0>", value)
        meaning += value
        if quote == "`" and "`" in value:
            raise PlaceholderError(f'the value of {{{{ {name} }}}} has a backtick; write the string in "..." instead')
        out.append(value if quote == "`" else _escape(value, quote))
    return "".join((*out, quote))


def _meaning(text: str, quote: str) -> str:
    """Return a piece of a string with its escape resolved."""
    if quote == "`" or text[0] != "\\":
        return text
    kind, digits = text[1], text[2:]
    if digits:
        return chr(int(digits, 16)) if kind in "xuU" else chr(int(text[1:], 8))
    return {"n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}.get(kind, kind)


def _escape(value: str, quote: str) -> str:
    value = value.replace("\\", "\\\\").replace(quote, f"\\{quote}")
    return "".join(char if char >= " " else f"\\x{ord(char):02x}" for char in value)


# ------------------------------------------------------------------------------------------------- what a query is


@lru_cache(maxsize=1024)
def _parse(query: str) -> Expr | str:
    """Return the expression, or what is wrong with it."""
    # The parser wrongly resolves escapes between backticks.
    plain = [
        _quoted(token[0][1:-1]) if token["string"] and token[0][0] == "`" else token[0]
        for token in _TOKEN.finditer(query)
    ]
    try:
        return promql_parser.parse("".join(plain))
    except ValueError as error:
        return " ".join(str(error).split())
    except BaseException as error:
        # A panic of the parser, such as on `offset 1e999`, is no Exception, and its type cannot be imported.
        if type(error).__module__ != "pyo3_runtime":
            raise
        return f"the parser gave up: {' '.join(str(error).split())}"


def problem(query: str) -> str:
    """Return what is wrong with a query; ``""`` if nothing is.

    It is a hint only: Prometheus may have more functions than the parser, or fewer.
    """
    parsed = _parse(query)
    return parsed if isinstance(parsed, str) else ""


def is_counter_selector(query: str) -> bool:
    """Return whether a query is a plain selector, so that the raw samples of its series can be read."""
    parsed = _parse(query)
    return isinstance(parsed, VectorSelector) and parsed.offset is None and parsed.at is None


@lru_cache(maxsize=1024)
def selectors(query: str) -> tuple[str, ...]:
    """Return the distinct selectors in an expression, without ``offset`` and ``@``.

    The result is empty if the query cannot be parsed.
    """
    parsed = _parse(query)
    found: dict[str, None] = {}

    def visit(node: Expr) -> bool:
        if isinstance(node, VectorSelector):
            found[_selector(node)] = None
        return True

    if not isinstance(parsed, str):
        promql_parser.walk(parsed, visit)
    return tuple(found)


def _selector(selector: VectorSelector) -> str:
    matchers = [
        f"{_name(matcher.name)}{sign}{_quoted(matcher.value)}"
        for matcher in selector.matchers.matchers
        for operator, sign in _SIGNS
        if matcher.op == operator
    ]
    name = selector.name or ""
    if name and _METRIC_NAME.fullmatch(name) is None:
        name, matchers = "", [f"__name__={_quoted(name)}", *matchers]
    return name + (f"{{{','.join(matchers)}}}" if matchers else "")


def _name(label: str) -> str:
    return label if _LABEL_NAME.fullmatch(label) else _quoted(label)


def _quoted(value: str) -> str:
    return f'"{_escape(value, chr(34))}"'
