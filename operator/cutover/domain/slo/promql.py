"""PromQL with placeholders: fill in values so that none can change what a query asks, and find its selectors.

Queries come from the authors of plans and templates, and are read in the event loop of all plans. So the time for a query is
linear in its length, and bounded: no pattern of a query is compiled, and nothing is nested. Prometheus parses the query.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from cutover.api.v1alpha1.templates import BUILT_IN_NAMES as BUILT_IN_NAMES

#: A token of PromQL; ``hole`` is a placeholder.
_TOKEN = re.compile(
    r"""
      (?P<comment> \# [^\n\r]* )
    | (?P<string>  " (?: [^"\\\n] | \\[^\n] )*+ " | ' (?: [^'\\\n] | \\[^\n] )*+ ' | ` [^`]*+ ` )
    | (?P<open>    ["'`] .* )
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
_HOLE = r"\{\{\s*(?P<name>[A-Za-z][A-Za-z0-9]*)\s*\}\}|(?P<broken>\{\{[^{}\n]{0,40})|(?P<text>%s[^\\{]+|.)"
_RAW_PIECE = re.compile(_HOLE % "", re.DOTALL)
_PIECE = re.compile(_HOLE % r"\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\U[0-9a-fA-F]{8}|\\[0-7]{3}|\\.|", re.DOTALL)

_PLACEHOLDER = re.compile(r"\{\{\s*(?P<name>[A-Za-z][A-Za-z0-9]*)\s*\}\}")

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

#: Characters of a rendered query, which is written to the status and to entries of the ledger.
LONGEST_QUERY = 2048
#: Placeholders in a query: what stands before each is examined anew.
MOST_PLACEHOLDERS = 32


class PlaceholderError(ValueError):
    """A placeholder cannot be filled in; the message says what to do."""


@lru_cache(maxsize=256)
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
        If a name is unknown, if a placeholder stands where its value could change the query, or if the query is too long.
    """
    if unknown := sorted(placeholders(query) - values.keys()):
        raise PlaceholderError(f"{{{{ {unknown[0]} }}}} is not known; write one of {', '.join(sorted(values))}")
    _check_length(query, values)
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
        elif token["open"]:
            raise PlaceholderError(f"a string is not closed; write its end, {text[0]}")
        brackets += (text == "[") - (text == "]")
        if not token["space"] and not token["comment"]:
            before = text
        out.append(text)
    rendered = "".join(out)
    if len(rendered) > LONGEST_QUERY:
        raise _too_long(len(rendered))
    return rendered


def _check_length(query: str, values: Mapping[str, str]) -> None:
    """Refuse a query that is too long even without escapes, before any work goes into it."""
    holes = list(_PLACEHOLDER.finditer(query))
    if len(holes) > MOST_PLACEHOLDERS:
        raise PlaceholderError(f"it has {len(holes)} placeholders; write at most {MOST_PLACEHOLDERS}")
    length = len(query) + sum(len(values.get(hole["name"], "")) - len(hole[0]) for hole in holes)
    if length > LONGEST_QUERY:
        raise _too_long(length)


def _too_long(length: int) -> PlaceholderError:
    return PlaceholderError(
        f"with its placeholders filled in it is {length} characters long; write at most {LONGEST_QUERY}"
    )


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
    out, meaning = [quote], ""  # what stands since the last placeholder
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
            meaning = ""  # plain places make a plain place, and the value is one
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


def quoted(value: str) -> str:
    """Return a text as a string of PromQL."""
    return f'"{_escape(value, chr(34))}"'


# ------------------------------------------------------------------------------------------------- what a query is


#: A token of a rendered query. The parts of a number such as ``1e+5`` have the same place in an expression as the number.
_RENDERED = re.compile(
    r"""
      (?P<skip>   \s+ | \# [^\n\r]* )
    | (?P<string> " (?: [^"\\\n] | \\[^\n] )*+ " | ' (?: [^'\\\n] | \\[^\n] )*+ ' | ` [^`]*+ ` )
    | (?P<number> \.?[0-9][0-9A-Za-z_.]* )
    | (?P<word>   [A-Za-z_:][A-Za-z0-9_:]* )
    | (?P<open>   ["'`] .* )
    | (?P<sign>   [-+*/%^<>=!~]+ )
    | (?P<other>  . )
    """,
    re.VERBOSE | re.DOTALL,
)
#: Words that stand before an operand, all but the first with a list of labels.
_BEFORE_OPERAND = frozenset({"bool", "on", "ignoring", "group_left", "group_right"})
_GROUPING = frozenset({"by", "without"})
_BINARY = frozenset({"and", "or", "unless", "atan2"})
_NUMBERS = frozenset({"inf", "nan"})
_NO_METRICS = _BEFORE_OPERAND | _NUMBERS
#: Words behind an operand that change how it is read.
_MODIFIERS = frozenset({"anchored", "smoothed"})
_CLOSING = {"(": ")", "{": "}", "[": "]"}


class Token(NamedTuple):
    """A token of a rendered query; ``end`` is the place behind it in the text."""

    kind: str
    text: str
    end: int = 0


class NotPromQLError(Exception):
    """A text is no PromQL, as far as its selectors show."""


@lru_cache(maxsize=1024)
def is_counter_selector(query: str) -> bool:
    """Return whether a query is a plain selector, so that the raw samples of its series can be read."""
    tokens = tokens_of(query)
    try:
        return [(0, len(tokens))] == selector_places(tokens)
    except NotPromQLError:
        return False


@lru_cache(maxsize=1024)
def selectors(query: str) -> tuple[str, ...]:
    """Return the distinct selectors in an expression, without ``offset`` and ``@``, comments and white space.

    The result is empty if the text is no PromQL. Prometheus says what is wrong with it.
    """
    tokens = tokens_of(query)
    try:
        found = [_text(tokens[start:end]) for start, end in selector_places(tokens)]
    except NotPromQLError:
        return ()
    return tuple(dict.fromkeys(found))


def tokens_of(query: str) -> list[Token]:
    """Return the tokens of a rendered query, without comments and white space."""
    return [
        Token(match.lastgroup or "", match[0], match.end())
        for match in _RENDERED.finditer(query)
        if match.lastgroup != "skip"
    ]


def _text(tokens: Sequence[Token]) -> str:
    out = ""
    for before, token in zip((Token("", ""), *tokens), tokens, strict=False):
        between = " " if before.kind in ("word", "string") and token.kind == "word" else ""
        out += between + token.text
    return out


def selector_places(tokens: Sequence[Token]) -> list[tuple[int, int]]:
    """Return the first token of each selector, and the token behind its last.

    PromQL is operands with operators between them. A word is a metric's name where an operand is expected, unless it is a
    function, an aggregation or one of the few words that stand before operands. So it needs no tree.

    Raises
    ------
    NotPromQLError
        If a bracket is not closed, or if something stands where it cannot.
    """
    found: list[tuple[int, int]] = []
    depth, place, operand = 0, 0, True  # whether an operand is expected
    while place < len(tokens):
        kind, text, _ = tokens[place]
        following = tokens[place + 1].text.lower() if place + 1 < len(tokens) else ""
        word = text.lower() if kind == "word" else ""
        start, place = place, place + 1
        if operand and (text == "{" or (word and following != "(" and word not in _NO_METRICS)):
            if word and following in _GROUPING:  # sum by (a) (b)
                place = _behind(tokens, place + 1)
                continue
            if text == "{" or following == "{":
                place = _behind(tokens, start if text == "{" else place)
            found.append((start, place))
            operand = False
        elif operand and word in _BEFORE_OPERAND:
            place = _behind(tokens, place) if following == "(" and word != "bool" else place
        elif operand and following == "(" and word:
            pass  # a function
        elif operand and (kind in ("number", "string") or word in _NUMBERS):
            operand = False
        elif text == "(" and operand:
            depth += 1
        elif text == ")" and depth:
            depth, operand = depth - 1, False
        elif kind == "sign" or (text == "," and depth and not operand):
            operand = True
        elif operand:
            raise NotPromQLError
        elif word in _BINARY:
            operand = True
        elif word in _GROUPING and following == "(":
            place = _behind(tokens, place)
        elif text == "[":
            place = _behind(tokens, start)
        elif text == "@" or word == "offset":
            place = _behind_time(tokens, place)
        elif word not in _MODIFIERS:
            raise NotPromQLError
    if depth or operand:
        raise NotPromQLError
    return found


def _behind(tokens: Sequence[Token], start: int) -> int:
    """Return the place behind a bracket that holds no other brackets."""
    closing = _CLOSING.get(tokens[start].text if start < len(tokens) else "")
    for place in range(start + 1, len(tokens)):
        if tokens[place].text == closing:
            return place + 1
        if tokens[place].text in _CLOSING or tokens[place].kind == "open":
            break
    raise NotPromQLError


def _behind_time(tokens: Sequence[Token], place: int) -> int:
    """Return the place behind the time of ``offset`` or ``@``: a number, or ``start()`` or ``end()``."""
    if place < len(tokens) and tokens[place].text in ("-", "+"):
        place += 1
    if place < len(tokens) and tokens[place].kind == "number":
        return place + 1
    if place < len(tokens) and tokens[place].text in ("start", "end"):
        place += 1
    return _behind(tokens, place)
